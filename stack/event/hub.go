package event

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MaxBytes is how much of a buffer an event carries, and of a packet unless a
// subscriber asks for more: the longest IPv6 and TCP headers with options and the
// start of an HTTP request.
const MaxBytes = 512

// maxSnap is the longest IP packet, jumbograms aside.
const maxSnap = 65535

// Kinds is a set of kinds of events.
type Kinds uint8

// The kinds of events.
const (
	Packets Kinds = 1 << iota
	Calls
	States
	Links
	Samples
	Timers

	// Default is the kinds that happen one by one. Samples and timers come with
	// nearly every segment.
	Default = Packets | Calls | States | Links
	All     = Default | Samples | Timers
)

// Kind returns what kind of event e is.
func (e *Event) Kind() Kinds {
	switch {
	case e.Packet != nil:
		return Packets
	case e.Call != nil:
		return Calls
	case e.State != nil:
		return States
	case e.Link != nil:
		return Links
	case e.Sample != nil:
		return Samples
	}
	return Timers
}

// Config says which events a subscription is for. The stack does no more work than
// its subscriptions ask for together.
type Config struct {
	Buffer int   // events that may wait for the reader; if 0, 1
	Kinds  Kinds // if 0, Default
	Snap   int   // bytes of each packet, up to 65535; if 0, MaxBytes
}

// Subscription is a bounded queue of events. A reader that falls behind loses
// events and is told how many.
type Subscription struct {
	hub     *Hub
	cfg     Config
	ch      chan Event
	seq     uint64 // guarded by hub.mu
	dropped atomic.Uint64
	stop    func() bool
}

// Events yields events until the subscription or the stack is closed.
func (sub *Subscription) Events() <-chan Event { return sub.ch }

// Dropped returns how many events did not fit.
func (sub *Subscription) Dropped() uint64 { return sub.dropped.Load() }

// Close ends the subscription.
func (sub *Subscription) Close() {
	sub.stop()
	sub.hub.remove(sub)
}

// Source is what a hub's events come from.
type Source struct {
	// Now is the time of an event that has none.
	Now func() time.Time

	// Wanted is called after what the subscriptions want together has changed, one
	// call at a time. It must not subscribe, nor close a subscription.
	Wanted func(Kinds)

	// Flush is called before a subscription ends, to publish what the source knows
	// and has not published yet.
	Flush func()
}

// Hub hands events to subscriptions. Without any, On is one atomic load and nothing
// else runs. It is safe for concurrent use once Init has returned.
type Hub struct {
	kinds atomic.Uint32 // Kinds that someone wants
	snap  atomic.Int32  // bytes of a packet that someone wants
	src   Source

	changing sync.Mutex // held while the set of subscriptions changes; comes before mu

	mu     sync.Mutex
	closed bool
	subs   map[*Subscription]struct{}
}

// Init makes the hub ready for use.
func (h *Hub) Init(src Source) {
	h.src, h.subs = src, map[*Subscription]struct{}{}
	h.snap.Store(MaxBytes)
}

// On reports whether someone wants any of these kinds.
func (h *Hub) On(k Kinds) bool { return Kinds(h.kinds.Load())&k != 0 }

// Snap is how many bytes of a packet its event is to carry.
func (h *Hub) Snap() int { return int(h.snap.Load()) }

// Subscribe starts a subscription that ends with ctx. Of a closed hub it has ended.
func (h *Hub) Subscribe(ctx context.Context, cfg Config) *Subscription {
	cfg.Buffer = max(cfg.Buffer, 1)
	if cfg.Kinds == 0 {
		cfg.Kinds = Default
	}
	if cfg.Snap <= 0 {
		cfg.Snap = MaxBytes
	}
	cfg.Snap = min(cfg.Snap, maxSnap)
	sub := &Subscription{hub: h, cfg: cfg, ch: make(chan Event, cfg.Buffer)}
	h.changing.Lock()
	defer h.changing.Unlock()
	h.mu.Lock()
	if h.closed {
		close(sub.ch)
		sub.stop = func() bool { return true }
		h.mu.Unlock()
		return sub
	}
	h.subs[sub] = struct{}{}
	kinds := h.wantLocked()
	sub.stop = context.AfterFunc(ctx, func() { h.remove(sub) })
	h.mu.Unlock()
	h.src.Wanted(kinds)
	return sub
}

// wantLocked brings what is wanted up to date with the subscriptions.
func (h *Hub) wantLocked() Kinds {
	var kinds Kinds
	snap := MaxBytes // the stack reads the headers there
	for sub := range h.subs {
		kinds |= sub.cfg.Kinds
		snap = max(snap, sub.cfg.Snap)
	}
	h.snap.Store(int32(snap))
	h.kinds.Store(uint32(kinds))
	return kinds
}

func (h *Hub) remove(sub *Subscription) {
	h.changing.Lock()
	defer h.changing.Unlock()
	h.mu.Lock()
	_, ok := h.subs[sub]
	h.mu.Unlock()
	if !ok {
		return
	}
	h.src.Flush()
	h.mu.Lock()
	delete(h.subs, sub)
	kinds := h.wantLocked()
	close(sub.ch)
	h.mu.Unlock()
	h.src.Wanted(kinds)
}

// Close ends all subscriptions and lets no more begin.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	var subs []*Subscription
	for sub := range h.subs {
		subs = append(subs, sub)
	}
	h.mu.Unlock()
	for _, sub := range subs {
		sub.Close()
	}
}

// Publish hands an event to the subscriptions that want its kind and have room. The
// event must not change any more.
func (h *Hub) Publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	kind := e.Kind()
	for sub := range h.subs {
		if sub.cfg.Kinds&kind == 0 {
			continue
		}
		if e.Time.IsZero() {
			e.Time = h.src.Now()
		}
		sub.seq++
		e.Seq = sub.seq
		select {
		case sub.ch <- e.cut(sub.cfg.Snap):
		default:
			sub.dropped.Add(1)
		}
	}
}

// cut returns the event with no more than snap bytes of its packet.
func (e Event) cut(snap int) Event {
	switch {
	case e.Packet != nil && len(e.Packet.Data) > snap:
		p := *e.Packet
		p.Data = slices.Clone(p.Data[:snap])
		e.Packet = &p
	case e.Link != nil && len(e.Link.Data) > snap:
		l := *e.Link
		l.Data = slices.Clone(l.Data[:snap])
		e.Link = &l
	}
	return e
}
