package event

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a Source that notes what the hub asks of it.
type source struct {
	t     *testing.T
	h     Hub
	notes []string
}

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func newSource(t *testing.T) *source {
	s := &source{t: t}
	s.h.Init(Source{
		Now:    func() time.Time { return now },
		Wanted: func(k Kinds) { s.notes = append(s.notes, fmt.Sprintf("wanted %06b", k)) },
		Flush: func() {
			s.notes = append(s.notes, "flush")
			s.h.Publish(Event{State: &State{To: "CLOSED"}})
		},
	})
	return s
}

func (s *source) want(why string, notes ...string) {
	s.t.Helper()
	if !slices.Equal(s.notes, notes) {
		s.t.Errorf("%s: the source was asked %q, want %q", why, s.notes, notes)
	}
	s.notes = nil
}

func read(sub *Subscription) (all []Event) {
	for len(sub.Events()) > 0 {
		ev, ok := <-sub.Events()
		if !ok {
			break
		}
		all = append(all, ev)
	}
	return all
}

// The source knows what is wanted, and is asked for what it has not told before a subscription ends.
func TestWanted(t *testing.T) {
	s := newSource(t)
	if s.h.On(All) {
		t.Error("somebody listens before anyone does")
	}
	a := s.h.Subscribe(t.Context(), Config{Buffer: 10, Kinds: States})
	s.want("first", "wanted 000100")
	b := s.h.Subscribe(t.Context(), Config{Buffer: 10})
	s.want("second", "wanted 001111")
	if !s.h.On(Calls) || s.h.On(Samples|Timers) {
		t.Errorf("the default kinds are wanted: calls %v, samples or timers %v", s.h.On(Calls), s.h.On(Samples|Timers))
	}
	b.Close()
	b.Close()
	s.want("one ends", "flush", "wanted 000100")
	if got := read(b); len(got) != 1 || got[0].State == nil || got[0].Seq != 1 || !got[0].Time.Equal(now) {
		t.Errorf("%+v, want the state that was flushed", got)
	}
	s.h.Close()
	s.want("the hub closes", "flush", "wanted 000000")
	if got := read(a); len(got) != 2 {
		t.Errorf("%d events, want two states", len(got))
	}
	if _, ok := <-a.Events(); ok {
		t.Error("an event after the end")
	}
	if _, ok := <-s.h.Subscribe(t.Context(), Config{}).Events(); ok {
		t.Error("an event of a closed hub")
	}
	s.want("a closed hub is subscribed to")
}

// A subscription gets the kinds that it asked for, as many as it has room for, and counts the rest.
func TestBounded(t *testing.T) {
	s := newSource(t)
	const room, calls = 3, 10
	sub, states := s.h.Subscribe(t.Context(), Config{Buffer: room, Kinds: Calls}), s.h.Subscribe(t.Context(), Config{Kinds: States})
	for i := range calls {
		s.h.Publish(Event{Conn: uint64(i), Call: &Call{}})
	}
	if got := sub.Dropped(); got != calls-room {
		t.Errorf("%d dropped, want %d", got, calls-room)
	}
	for i, ev := range read(sub) {
		if ev.Seq != uint64(i+1) || ev.Conn != uint64(i) {
			t.Errorf("event %d has number %d and is about %d", i, ev.Seq, ev.Conn)
		}
	}
	s.h.Publish(Event{Call: &Call{}})
	if got := read(sub); len(got) != 1 || got[0].Seq != calls+1 {
		t.Errorf("%+v, want number %d: the gap is what was dropped", got, calls+1)
	}
	if got := read(states); len(got) != 0 || states.Dropped() != 0 {
		t.Errorf("%d events and %d dropped for who wants something else", len(got), states.Dropped())
	}
	s.h.Close()
}

// Each gets as much of a packet as it asked for; the hub says how much is worth copying.
func TestSnap(t *testing.T) {
	s := newSource(t)
	if got := s.h.Snap(); got != MaxBytes {
		t.Errorf("nobody listens: %d bytes, want %d", got, MaxBytes)
	}
	short, long := s.h.Subscribe(t.Context(), Config{Buffer: 2, Snap: 10}), s.h.Subscribe(t.Context(), Config{Buffer: 2, Snap: 1 << 20})
	if got := s.h.Snap(); got != maxSnap {
		t.Errorf("%d bytes, want %d", got, maxSnap)
	}
	data := make([]byte, 1000)
	s.h.Publish(Event{Packet: &Packet{Data: data}})
	s.h.Publish(Event{Link: &Link{Data: data}})
	for _, c := range []struct {
		sub  *Subscription
		want int
	}{{short, 10}, {long, 1000}} {
		for _, ev := range read(c.sub) {
			if ev.Packet != nil && len(ev.Packet.Data) != c.want || ev.Link != nil && len(ev.Link.Data) != c.want {
				t.Errorf("%+v, want %d bytes", ev, c.want)
			}
		}
	}
	long.Close()
	if got := s.h.Snap(); got != MaxBytes {
		t.Errorf("%d bytes, want %d", got, MaxBytes)
	}
	s.h.Close()
}

// A subscription ends with its context.
func TestContext(t *testing.T) {
	s := newSource(t)
	ctx, cancel := context.WithCancel(t.Context())
	sub := s.h.Subscribe(ctx, Config{Buffer: 5, Kinds: Calls})
	cancel()
	if ev, ok := <-sub.Events(); ok {
		t.Errorf("%+v, want the end", ev)
	}
	s.h.Close()
	if s.h.On(All) {
		t.Error("somebody listens still")
	}
}
