package stack

import (
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Timer is a timer of a connection, as ss -o and netstat -o show it.
type Timer struct {
	Name    string        `json:"name"`    // "on": retransmission; "keepalive"; "timewait"
	Expires time.Duration `json:"expires"` // from now
	Retrans int           `json:"retrans"` // keepalive: probes without an answer
}

// More of what netstack shows to nobody but its probe, which costs every segment:
// see inside.go. These are guarded by the endpoint's own lock.
var (
	senderOf, senderType = pointerOf("snd")
	senderState          = offsetIn[tcp.TCPSenderState](senderType, "TCPSenderState")
	resendTimer          = timerIn(senderType, "resendTimer")
	keepTimer            = timerIn(reflect.TypeFor[tcp.Endpoint](), "keepalive", "timer")
	timeWaitTimer        = offsetIn[tcpip.Timer](reflect.TypeFor[tcp.Endpoint](), "timeWaitTimer")
	keepUnacked          = offsetIn[int](reflect.TypeFor[tcp.Endpoint](), "keepalive", "unacked")
)

// place is an offset, and whether what is expected is there.
type place struct {
	offset uintptr
	ok     bool
}

func (p place) in(base unsafe.Pointer) unsafe.Pointer { return unsafe.Add(base, p.offset) }

// pointerOf finds a pointer in tcp.Endpoint, and what it points to.
func pointerOf(path ...string) (place, reflect.Type) {
	return pointerBelow(reflect.TypeFor[tcp.Endpoint](), path...)
}

// pointerBelow finds a pointer in the struct typ, and what it points to.
func pointerBelow(typ reflect.Type, path ...string) (place, reflect.Type) {
	typ, offset, ok := fieldBelow(typ, path...)
	if !ok || typ.Kind() != reflect.Pointer {
		return place{}, nil
	}
	return place{offset, true}, typ.Elem()
}

// offsetIn finds a field of type T below typ.
func offsetIn[T any](typ reflect.Type, path ...string) place {
	typ, offset, ok := fieldBelow(typ, path...)
	return place{offset, ok && typ == reflect.TypeFor[T]()}
}

// netstackTimer is where netstack's timer keeps its state and target.
type netstackTimer struct{ state, target place }

// States of netstack's timers.
const (
	timerEnabled  = 2 // timerStateEnabled: the timer fires at its target
	timerOrphaned = 3 // timerStateOrphaned: it was stopped
)

func timerIn(typ reflect.Type, path ...string) netstackTimer {
	st, offset, ok := fieldBelow(typ, append(path, "state")...)
	return netstackTimer{
		state:  place{offset, ok && st.Kind() == reflect.Int},
		target: offsetIn[tcpip.MonotonicTime](typ, append(path, "target")...),
	}
}

// expires returns when the timer fires, if it is running.
func (t netstackTimer) expires(base unsafe.Pointer, now tcpip.MonotonicTime) (time.Duration, bool) {
	if !t.state.ok || !t.target.ok || *(*int)(t.state.in(base)) != timerEnabled {
		return 0, false
	}
	return max(0, (*tcpip.MonotonicTime)(t.target.in(base)).Sub(now)), true
}

// read returns the timer as it stands.
func (t netstackTimer) read(base unsafe.Pointer) (r timer) {
	if !t.state.ok || !t.target.ok {
		return r
	}
	switch *(*int)(t.state.in(base)) {
	case timerEnabled:
		r.at = *(*tcpip.MonotonicTime)(t.target.in(base))
	case timerOrphaned:
		r.stopped = true
	}
	return r
}

// senderVars returns the variables of e's sender; ok is false if they are not
// known, or e has never been able to send.
func senderVars(e *tcp.Endpoint) (v tcp.TCPSenderState, ok bool) {
	e.LockUser()
	defer e.UnlockUser()
	snd := senderPointer(e)
	if snd == nil || !senderState.ok {
		return v, false
	}
	return *(*tcp.TCPSenderState)(senderState.in(snd)), true
}

// senderPointer returns e.snd. The caller holds e's lock.
func senderPointer(e *tcp.Endpoint) unsafe.Pointer {
	if !senderOf.ok {
		return nil
	}
	return *(*unsafe.Pointer)(senderOf.in(unsafe.Pointer(e)))
}

// runningTimer returns the timer of e that is running, if it is known.
func runningTimer(e *tcp.Endpoint, clock tcpip.Clock) *Timer {
	e.LockUser()
	defer e.UnlockUser()
	now := clock.NowMonotonic()
	if e.EndpointState() == tcp.StateTimeWait {
		if timeWaitTimer.ok {
			if t, ok := (*(*tcpip.Timer)(timeWaitTimer.in(unsafe.Pointer(e)))).(leftTimer); ok {
				return &Timer{Name: "timewait", Expires: t.left()}
			}
		}
		return nil
	}
	if snd := senderPointer(e); snd != nil {
		if d, on := resendTimer.expires(snd, now); on {
			return &Timer{Name: "on", Expires: d}
		}
	}
	if !e.SocketOptions().GetKeepAlive() || !keepUnacked.ok {
		return nil
	}
	if d, on := keepTimer.expires(unsafe.Pointer(e), now); on {
		return &Timer{Name: "keepalive", Expires: d, Retrans: *(*int)(keepUnacked.in(unsafe.Pointer(e)))}
	}
	return nil
}
