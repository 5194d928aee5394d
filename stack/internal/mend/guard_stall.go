package mend

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/catflap/catflap/stack/internal/peek"
)

// netstack may leave a connection without a timer while data or its FIN is
// unacknowledged. It counts the segments in flight anew during a recovery, and leaves
// the FIN and what it takes for lost out; and when it has sent a tail loss probe, or
// had none to send, it arms the retransmission timer only if it counts any. If then
// nothing more comes from the peer, nothing moves ever again, where RFC 6298 5.1 has
// the timer run whenever data is sent, and RFC 8985 7.3 after each probe.
//
// All of these begin with a retransmission. So from the first one until no connection
// has anything unacknowledged, StallGuard looks at the connections every
// SweepInterval, and arms the timer that is missing, to fire when it would have fired
// had netstack armed it. The rest is netstack's: its timeout, its backing off, and its
// giving up. Without loss nothing runs, and a list of packets on its way out costs two
// loads of what nobody changes.

// SweepInterval is the least retransmission timeout (netstack's default, and Linux's
// TCP_RTO_MIN): a timer that is armed so late still fires in time.
const SweepInterval = tcp.MinRTO

// sweepShare is the part of the time that the guard may look, as its reciprocal: with
// very many connections it looks less often.
const sweepShare = 100

// StallGuard finds connections that wait without a timer. Its zero value does nothing.
type StallGuard struct {
	netstack    Netstack
	clock       tcpip.Clock
	retransmits *tcpip.StatCounter // netstack's, of all connections; nil: the guard is off
	seen        atomic.Uint64      // the last of its values that was acted upon
	waiting     atomic.Bool        // the timer is set

	mu     sync.Mutex // comes after an endpoint's lock
	timer  tcpip.Timer
	closed bool
	sweeps sync.WaitGroup
}

// Init has the guard look at a netstack's connections. retransmits is netstack's counter.
func (g *StallGuard) Init(ns Netstack, clock tcpip.Clock, retransmits *tcpip.StatCounter) {
	if peek.CanArm() {
		g.netstack, g.clock, g.retransmits = ns, clock, retransmits
	}
}

// Sending is called with whatever netstack sends, by the goroutine that has its
// endpoint's lock.
func (g *StallGuard) Sending() {
	if g.retransmits == nil {
		return
	}
	if n := g.retransmits.Value(); n != g.seen.Load() {
		g.seen.Store(n)
		g.wait(SweepInterval)
	}
}

// wait sets the timer unless it is set.
func (g *StallGuard) wait(d time.Duration) {
	if !g.waiting.CompareAndSwap(false, true) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
	case g.timer == nil:
		g.timer = g.clock.AfterFunc(d, g.Sweep)
	default:
		g.timer.Reset(d)
	}
}

// Close stops the timer and waits for a sweep that is under way.
func (g *StallGuard) Close() {
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.sweeps.Wait()
}

// Sweep looks at all connections once.
func (g *StallGuard) Sweep() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.sweeps.Add(1)
	g.mu.Unlock()
	defer g.sweeps.Done()

	before := g.retransmits.Value()
	start, again := g.clock.NowMonotonic(), false
	var found []*tcp.Endpoint
	for _, te := range g.netstack.RegisteredEndpoints() {
		e, ok := te.(*tcp.Endpoint)
		if !ok || !synchronized(e) {
			continue
		}
		unacked, stalled := lookStalled(e)
		again = again || unacked
		if stalled {
			found = append(found, e)
		}
	}
	// netstack lists them in no order; timers of one instant are to have one.
	slices.SortFunc(found, func(a, b *tcp.Endpoint) int {
		x, y := a.TransportEndpointInfo.ID, b.TransportEndpointInfo.ID
		return cmp.Or(compareAddrs(x.RemoteAddress, y.RemoteAddress), cmp.Compare(x.RemotePort, y.RemotePort),
			compareAddrs(x.LocalAddress, y.LocalAddress), cmp.Compare(x.LocalPort, y.LocalPort))
	})
	for _, e := range found {
		g.arm(e)
	}
	g.waiting.Store(false)
	if again || g.retransmits.Value() != before {
		g.wait(max(SweepInterval, sweepShare*g.clock.NowMonotonic().Sub(start)))
	}
}

// lookStalled reports whether e has something unacknowledged, and whether no timer
// runs that would have it sent again. It takes no lock, so that e may be on its way
// from one to the other; the caller has seen e synchronized.
//
//go:norace
func lookStalled(e *tcp.Endpoint) (unacked, stalled bool) {
	v := peek.LookSender(e)
	unacked = v.SndUna != v.SndNxt
	return unacked, unacked && !peek.LookResends(e)
}

// compareAddrs orders addresses, IPv4's first.
func compareAddrs(a, b tcpip.Address) int {
	return cmp.Or(cmp.Compare(a.Len(), b.Len()), bytes.Compare(a.AsSlice(), b.AsSlice()))
}

// arm has netstack's retransmission timer of e run if it should and does not.
func (g *StallGuard) arm(e *tcp.Endpoint) {
	e.LockUser()
	defer e.UnlockUser()
	if !synchronized(e) {
		return // its timers are gone
	}
	if _, stalled := lookStalled(e); !stalled {
		return
	}
	v, now := peek.Sender(e), g.clock.NowMonotonic()
	peek.ArmResendTimer(e, g.clock, now, max(0, v.LastSendTime.Add(v.RTO).Sub(now)))
}

// Waiting reports whether the guard will look at the connections again.
func (g *StallGuard) Waiting() bool { return g.waiting.Load() }

// Started reports whether the guard has ever had a reason to look at the connections.
func (g *StallGuard) Started() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.timer != nil
}
