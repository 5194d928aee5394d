package peek

import (
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// timer is where a timer of netstack's keeps its state and target.
type timer struct{ state, target field }

func (t *timer) ok() bool { return t.state.ok && t.target.ok }

// States of netstack's timers.
const (
	timerEnabled  = 2 // timerStateEnabled: the timer fires at its target
	timerOrphaned = 3 // timerStateOrphaned: it was stopped
)

// Timer is a timer of a connection as it stands: it runs if At is not zero.
type Timer struct {
	At      tcpip.MonotonicTime
	Stopped bool // it was stopped, rather than that it fired
}

// read returns the timer in the struct at base, which may be nil.
func (t *timer) read(base unsafe.Pointer) (r Timer) {
	if base == nil || !t.ok() {
		return r
	}
	switch *(*int)(t.state.in(base)) {
	case timerEnabled:
		r.At = *(*tcpip.MonotonicTime)(t.target.in(base))
	case timerOrphaned:
		r.Stopped = true
	}
	return r
}

// Timers are those of a sender and the keepalive timer.
type Timers struct {
	Resend            Timer // retransmission, or zero-window probe
	ZeroWindowProbing bool  // the latter
	Probe             Timer // tail loss probe (RFC 8985 7)
	Reorder           Timer // (RFC 8985 6.3)
	Keepalive         Timer
	KeepaliveUnacked  int // probes without an answer; -1: not known
}

// ReadTimers reads the timers of e, whose lock the caller holds. What is not known, or
// of a sender that e has not, does not run.
func ReadTimers(e *tcp.Endpoint) Timers {
	snd := senderOf(e)
	t := Timers{
		Resend: resend.read(snd), Probe: probe.read(snd), Reorder: reorder.read(snd),
		Keepalive: keepalive.read(unsafe.Pointer(e)), KeepaliveUnacked: -1,
	}
	t.ZeroWindowProbing = snd != nil && zeroWindowProbing.ok && *(*bool)(zeroWindowProbing.in(snd))
	if keepaliveUnacked.ok {
		t.KeepaliveUnacked = *(*int)(keepaliveUnacked.of(e))
	}
	return t
}

// TimeWaitTimer returns the timer that ends e's TIME-WAIT, nil if it has none or that is
// not known. It is of the stack's clock. The caller holds e's lock.
func TimeWaitTimer(e *tcp.Endpoint) tcpip.Timer {
	if !timeWait.ok {
		return nil
	}
	return *(*tcpip.Timer)(timeWait.of(e))
}

// HandshakeTimer returns the timer that has e send its SYN or SYN-ACK again, nil if it
// has none or that is not known. It is of the stack's clock. The caller holds e's lock.
func HandshakeTimer(e *tcp.Endpoint) tcpip.Timer {
	if !handshake.ok || !handshakeTimer.ok || !handshakeClockTimer.ok {
		return nil
	}
	h := *(*unsafe.Pointer)(handshake.of(e))
	if h == nil {
		return nil
	}
	b := *(*unsafe.Pointer)(handshakeTimer.in(h))
	if b == nil {
		return nil
	}
	return *(*tcpip.Timer)(handshakeClockTimer.in(b))
}

// CanArm reports whether LookResends and ArmResendTimer have what they need.
func CanArm() bool { return canArm }

// LookResends reports whether a timer runs that has e send what is unacknowledged
// again. Netstack may be changing what is read. The caller has seen CanArm, and e in a
// state in which it has a sender.
//
//go:norace
func LookResends(e *tcp.Endpoint) bool {
	snd := *(*unsafe.Pointer)(sender.of(e))
	return *(*int)(resend.state.in(snd)) == timerEnabled || *(*int)(probe.state.in(snd)) == timerEnabled
}

// ArmResendTimer has e's retransmission timer fire d after now, as the timer's own
// method enable does. The caller has seen CanArm and that the timer does not run, and
// holds e's lock.
func ArmResendTimer(e *tcp.Endpoint, clock tcpip.Clock, now tcpip.MonotonicTime, d time.Duration) {
	snd := senderOf(e)
	state, target := (*int)(resend.state.in(snd)), now.Add(d)
	clockTarget := (*tcpip.MonotonicTime)(resendClockTarget.in(snd))
	*(*tcpip.MonotonicTime)(resend.target.in(snd)) = target
	if *state != timerOrphaned || target.Before(*clockTarget) {
		*clockTarget = target
		if t := (*tcpip.Timer)(resendClockTimer.in(snd)); *t != nil {
			(*t).Reset(d)
		} else {
			*t = clock.AfterFunc(d, *(*func())(resendCallback.in(snd)))
		}
	}
	*state = timerEnabled
}
