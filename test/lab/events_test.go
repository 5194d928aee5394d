package lab

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

// tellEvents runs a transfer over a bad link and closes both ends, and returns all events of both stacks, those of all
// kinds, as JSON.
func tellEvents(t *testing.T, seed uint64) (events string, kinds stack.EventKinds) {
	t.Helper()
	t.Run("", func(t *testing.T) {
		clock := NewClock()
		l := New(t, Options{Clock: clock, Seed: seed})
		client, server := l.Host("client"), l.Host("server")
		l.Link(client, server, Netem("delay 5ms 2ms distribution normal loss 5% duplicate 2% reorder 5%"))
		hosts := []*Host{client, server}
		var subs []*stack.Subscription
		for _, h := range hosts {
			subs = append(subs, h.Stack().SubscribeWith(t.Context(), stack.SubscribeConfig{Buffer: 1 << 16, Kinds: stack.AllEvents}))
		}
		b := newBulk(t, clock, server, client)
		const size = 64 << 10
		if got, _ := b.run(size, time.Hour); got != size {
			t.Errorf("%d of %d bytes arrived", got, size)
		}
		if err := b.from.Close(b.out); err != nil {
			t.Error(err)
		}
		if err := b.to.Close(b.in); err != nil {
			t.Error(err)
		}
		for clock.Elapsed() < time.Hour && clock.Step() {
		}
		var all strings.Builder
		enc := json.NewEncoder(&all)
		for i, sub := range subs {
			sub.Close()
			if n := sub.Dropped(); n > 0 {
				t.Errorf("%d events of %s were lost", n, hosts[i].Name())
			}
			for ev := range sub.Events() {
				kinds |= ev.Kind()
				if c := ev.Call; c != nil && c.Buffer != nil {
					c.Buffer.Addr = 0 // where in memory: that is not the stack's to say
				}
				if err := enc.Encode(ev); err != nil {
					t.Fatal(err)
				}
			}
		}
		events = all.String()
	})
	return events, kinds
}

// TestEventsAreDeterministic holds that the same seed gives the same events of all kinds in the same order at the same
// times, and another seed others.
func TestEventsAreDeterministic(t *testing.T) {
	runs := 100
	if raceEnabled || testing.Short() {
		runs = 20
	}
	first, kinds := tellEvents(t, 7)
	if want := stack.AllEvents &^ stack.LinkEvents; kinds != want {
		t.Errorf("there are events of kinds %b, want %b", kinds, want) // in a lab, links tell the lab
	}
	for _, want := range []string{`"to":"TIME-WAIT"`, `"from":"TIME-WAIT","to":"CLOSED"`, `"name":"time-wait","action":"fired"`, `"retransmit":`, `"name":"retransmission","action":"set"`} {
		if !strings.Contains(first, want) {
			t.Errorf("no event has %s: this test shows too little", want)
		}
	}
	for i := 1; i < runs; i++ {
		if next, _ := tellEvents(t, 7); next != first {
			t.Fatalf("run %d has other events than the first: %s", i+1, firstDifference(first, next))
		}
	}
	if other, _ := tellEvents(t, 8); other == first {
		t.Error("another seed gives the same events")
	}
}
