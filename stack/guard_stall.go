package stack

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack may leave a connection without a timer while data or its FIN is
// unacknowledged. It counts the segments in flight anew during a recovery, and leaves
// the FIN and what it takes for lost out; and when it has sent a tail loss probe, or
// had none to send, it arms the retransmission timer only if it counts any. If then
// nothing more comes from the peer, nothing moves ever again, where RFC 6298 5.1 has
// the timer run whenever data is sent, and RFC 8985 7.3 after each probe.
//
// All of these begin with a retransmission. So from the first one until no connection
// has anything unacknowledged, stallGuard looks at the connections every
// sweepInterval, and arms the timer that is missing, to fire when it would have fired
// had netstack armed it. The rest is netstack's: its timeout, its backing off, and its
// giving up. Without loss nothing runs, and a list of packets on its way out costs two
// loads of what nobody changes.

// sweepInterval is the least retransmission timeout (netstack's default, and Linux's
// TCP_RTO_MIN): a timer that is armed so late still fires in time.
const sweepInterval = tcp.MinRTO

// sweepShare is the part of the time that the guard may look, as its reciprocal: with
// very many connections it looks less often.
const sweepShare = 100

// Where netstack keeps the rest of its retransmission timer: see inside.go.
var (
	resendClockTarget = offsetIn[tcpip.MonotonicTime](senderType, "resendTimer", "clockTarget")
	resendClockTimer  = offsetIn[tcpip.Timer](senderType, "resendTimer", "timer")
	resendCallback    = offsetIn[func()](senderType, "resendTimer", "callback")

	okStallGuard = okGuard && resendTimer.state.ok && resendTimer.target.ok && probeTimer.state.ok &&
		resendClockTarget.ok && resendClockTimer.ok && resendCallback.ok
)

// stallGuard finds connections that wait without a timer. Its zero value does nothing.
type stallGuard struct {
	s           *Stack
	retransmits *tcpip.StatCounter // netstack's, of all connections; nil: the guard is off
	seen        atomic.Uint64      // the last of its values that was acted upon
	waiting     atomic.Bool        // the timer is set

	mu     sync.Mutex // comes after an endpoint's lock
	timer  tcpip.Timer
	closed bool
	sweeps sync.WaitGroup
}

func (g *stallGuard) init(s *Stack) {
	if okStallGuard && !s.unguarded {
		g.s, g.retransmits = s, s.ns.Stats().TCP.Retransmits
	}
}

// sending is called with whatever netstack sends, by the goroutine that has its
// endpoint's lock.
func (g *stallGuard) sending() {
	if g.retransmits == nil {
		return
	}
	if n := g.retransmits.Value(); n != g.seen.Load() {
		g.seen.Store(n)
		g.wait(sweepInterval)
	}
}

// wait sets the timer unless it is set.
func (g *stallGuard) wait(d time.Duration) {
	if !g.waiting.CompareAndSwap(false, true) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
	case g.timer == nil:
		g.timer = g.s.clock.AfterFunc(d, g.sweep)
	default:
		g.timer.Reset(d)
	}
}

// close stops the timer and waits for a sweep that is under way.
func (g *stallGuard) close() {
	g.mu.Lock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.mu.Unlock()
	g.sweeps.Wait()
}

// sweep looks at all connections once.
func (g *stallGuard) sweep() {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return
	}
	g.sweeps.Add(1)
	g.mu.Unlock()
	defer g.sweeps.Done()

	before := g.retransmits.Value()
	start, again := g.s.clock.NowMonotonic(), false
	var found []*tcp.Endpoint
	for _, te := range g.s.ns.RegisteredEndpoints() {
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
		x, y := tupleOf("tcp", a.TransportEndpointInfo.ID), tupleOf("tcp", b.TransportEndpointInfo.ID)
		return cmp.Or(x.Src.Compare(y.Src), x.Dst.Compare(y.Dst))
	})
	for _, e := range found {
		g.arm(e)
	}
	g.waiting.Store(false)
	if again || g.retransmits.Value() != before {
		g.wait(max(sweepInterval, sweepShare*g.s.clock.NowMonotonic().Sub(start)))
	}
}

// lookStalled reports whether e has something unacknowledged, and whether no timer
// runs that would have it sent again. It takes no lock, so that e may be on its way
// from one to the other; the caller has seen e synchronized.
//
//go:norace
func lookStalled(e *tcp.Endpoint) (unacked, stalled bool) {
	snd := *(*unsafe.Pointer)(senderOf.in(unsafe.Pointer(e)))
	v := (*tcp.TCPSenderState)(senderState.in(snd))
	unacked = v.SndUna != v.SndNxt
	return unacked, unacked && *(*int)(resendTimer.state.in(snd)) != timerEnabled && *(*int)(probeTimer.state.in(snd)) != timerEnabled
}

// arm has netstack's retransmission timer of e run if it should and does not.
func (g *stallGuard) arm(e *tcp.Endpoint) {
	e.LockUser()
	defer e.UnlockUser()
	if !synchronized(e) {
		return // its timers are gone
	}
	if _, stalled := lookStalled(e); !stalled {
		return
	}
	snd := senderPointer(e)
	v := (*tcp.TCPSenderState)(senderState.in(snd))
	now := g.s.clock.NowMonotonic()
	d := max(0, v.LastSendTime.Add(v.RTO).Sub(now))

	// What the timer's own method enable does.
	state, target := (*int)(resendTimer.state.in(snd)), now.Add(d)
	clockTarget := (*tcpip.MonotonicTime)(resendClockTarget.in(snd))
	*(*tcpip.MonotonicTime)(resendTimer.target.in(snd)) = target
	if *state != timerOrphaned || target.Before(*clockTarget) {
		*clockTarget = target
		if t := (*tcpip.Timer)(resendClockTimer.in(snd)); *t != nil {
			(*t).Reset(d)
		} else {
			*t = g.s.clock.AfterFunc(d, *(*func())(resendCallback.in(snd)))
		}
	}
	*state = timerEnabled
}
