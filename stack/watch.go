package stack

import (
	"net/netip"
	"reflect"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// watched is what the subscribers were last told of a connection. It is guarded by
// hub.mu; what it is compared with, by the endpoint's lock.
type watched struct {
	e      *tcp.Endpoint
	state  tcp.EndpointState
	sample SampleEvent
	timers [timers]timer
	stale  bool // something has changed since, or may have
	past
}

// timerID is an index of watched.timers.
type timerID int

const (
	timerRetransmission timerID = iota
	timerProbe
	timerReorder
	timerZeroWindow
	timerKeepalive
	timerTimeWait
	timers
	noTimer timerID = -1
)

var timerNames = [timers]string{"retransmission", "tail-loss probe", "reorder", "zero-window probe", "keepalive", "time-wait"}

// timer is a timer of a connection: running if at is not zero.
type timer struct {
	at      tcpip.MonotonicTime
	stopped bool // netstack has stopped it, rather than that it fired
}

func (t timer) on() bool { return t.at != tcpip.MonotonicTime{} }

// More of what netstack shows to nobody: see sender.go.
var (
	zeroWindowProbing = offsetIn[bool](senderType, "zeroWindowProbing")
	probeTimer        = timerIn(senderType, "probeTimer")
	reorderTimer      = timerIn(senderType, "reorderTimer")

	handshakeOf, handshakeType = pointerOf("h")
	backoffOf, backoffType     = pointerBelow(handshakeType, "retransmitTimer")
	backoffTimer               = offsetIn[tcpip.Timer](backoffType, "t")

	receiverIn, receiverInType = pointerOf("rcv")
	receiverVars               = offsetIn[tcp.TCPReceiverState](receiverInType, "TCPReceiverState")

	segmentProbe = offsetIn[tcp.TCPProbeFunc](reflect.TypeFor[tcp.Endpoint](), "probe")
)

// at is the field of e at p.
func at[T any](p place, e *tcp.Endpoint) *T { return (*T)(p.in(unsafe.Pointer(e))) }

// watchLocked returns what is known of e, nil if there is no room to know anything.
func (h *hub) watchLocked(e *tcp.Endpoint) *watched {
	w := h.watched[e]
	if w == nil && h.on(AllEvents) && len(h.watched) < maxWatched {
		w = &watched{e: e, state: e.EndpointState()}
		switch w.state {
		case tcp.StateClose, tcp.StateError, tcp.StateConnecting:
			return nil
		case tcp.StateSynSent:
			w.state = tcp.StateInitial
		case tcp.StateSynRecv:
			w.state = tcp.StateListen
		}
		// Another state: its life began before anyone looked.
		h.watched[e] = w
	}
	return w
}

// sending is called with each segment before it is published, with its connection's
// lock held. It returns why the segment is sent again.
func (h *hub) sending(g sent) Cause {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watchLocked(g.e)
	if w == nil {
		w = &watched{e: g.e}
	}
	c, fired := w.cause(g)
	if fired != noTimer {
		h.timerLocked(w, fired, "fired", 0)
		w.timers[fired] = timer{}
	}
	return c
}

// sent is called with each segment after it is published, with its connection's lock held.
func (h *hub) sent(g sent) {
	if g.e == nil {
		return
	}
	if segmentProbe.ok && *at[tcp.TCPProbeFunc](segmentProbe, g.e) == nil {
		*at[tcp.TCPProbeFunc](segmentProbe, g.e) = func(*tcp.TCPEndpointState) { h.received(g.e) }
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(g.e); w != nil {
		h.lookLocked(w, g)
		w.stale = h.on(SampleEvents | TimerEvents) // netstack sets timers when it has sent
	}
}

// touched is called when an application has done to a socket what netstack may not
// send a segment for.
func (h *hub) touched(k *socket) {
	if !h.on(SampleEvents | TimerEvents) {
		return
	}
	if e, ok := k.ep.(*tcp.Endpoint); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		if w := h.watched[e]; w != nil {
			w.stale = true
		}
	}
}

// received is called by netstack after it has processed a segment for e, with e's lock held.
func (h *hub) received(e *tcp.Endpoint) {
	if !h.on(segmentEvents) {
		*at[tcp.TCPProbeFunc](segmentProbe, e) = nil
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(e); w != nil {
		h.lookLocked(w, sent{})
		w.stale = h.on(SampleEvents | TimerEvents) // netstack sets timers when it has taken all that came
	}
}

// lookLocked publishes what has changed of a connection, whose lock is held, other
// than its state. g is the segment that it is sending, if any.
func (h *hub) lookLocked(w *watched, g sent) {
	w.stale = false
	snd := senderPointer(w.e)
	if snd != nil && senderState.ok {
		v := (*tcp.TCPSenderState)(senderState.in(snd))
		w.remember(v)
		if h.on(SampleEvents) {
			h.sampleLocked(w, v, g)
		}
	}
	if h.on(TimerEvents) {
		now := h.s.clock.NowMonotonic()
		for i, t := range readTimers(w.e, snd) {
			old := w.timers[i]
			w.timers[i] = t
			switch {
			case t.on() && t.at != old.at:
				h.timerLocked(w, timerID(i), "set", max(0, t.at.Sub(now)))
			case old.on() && !t.on() && !t.stopped && !now.Before(old.at):
				h.timerLocked(w, timerID(i), "fired", 0)
			case old.on() && !t.on():
				h.timerLocked(w, timerID(i), "stopped", 0)
			}
		}
	}
}

// lookAgain looks at the connections that may have changed without a segment, or since.
func (h *hub) lookAgain() {
	h.looking.Lock()
	defer h.looking.Unlock()
	var list []*watched
	h.mu.Lock()
	now := h.s.clock.NowMonotonic()
	for _, w := range h.watched {
		if w.stale || w.due(now) {
			list = append(list, w)
		}
	}
	h.mu.Unlock()
	for _, w := range list {
		// An endpoint's lock comes before the hub's.
		w.e.LockUser()
		h.mu.Lock()
		h.lookLocked(w, sent{})
		h.mu.Unlock()
		w.e.UnlockUser()
	}
}

// due reports whether a timer should have fired by now.
func (w *watched) due(now tcpip.MonotonicTime) bool {
	for _, t := range w.timers {
		if t.on() && !now.Before(t.at) {
			return true
		}
	}
	return false
}

// sampleLocked publishes how a connection stands, if that has changed.
func (h *hub) sampleLocked(w *watched, v *tcp.TCPSenderState, g sent) {
	ev := SampleEvent{
		SRTT: v.RTTState.SRTT, RTTVar: v.RTTState.RTTVar, RTO: v.RTO,
		Cwnd: v.SndCwnd, MSS: v.MaxPayloadSize, SndWnd: int(v.SndWnd), SndUna: uint32(v.SndUna),
	}
	ev.FD, ev.Local, ev.Remote = h.ends(w.e)
	if v.Ssthresh < infiniteSsthresh {
		ev.Ssthresh = v.Ssthresh
	}
	// netstack counts a segment in SND.NXT and what is in flight when it has sent it.
	nxt, segments := v.SndNxt, v.Outstanding
	if g.e != nil && nxt.LessThan(g.end) {
		segments += (int(nxt.Size(g.end)) + v.MaxPayloadSize - 1) / v.MaxPayloadSize
		nxt = g.end
	}
	ev.SndNxt = uint32(nxt)
	ev.InFlight = int(v.SndUna.Size(nxt))
	if queued, ok := unsent(w.e); ok {
		ev.Unsent = max(0, queued-ev.InFlight) // a FIN in flight was never queued
	}
	if receiverIn.ok && receiverVars.ok {
		if rcv := *at[unsafe.Pointer](receiverIn, w.e); rcv != nil {
			r := (*tcp.TCPReceiverState)(receiverVars.in(rcv))
			ev.RcvNxt = uint32(r.RcvNxt)
			if r.RcvNxt.LessThan(r.RcvAcc) {
				ev.RcvWnd = int(r.RcvNxt.Size(r.RcvAcc))
			}
		}
	}
	if congestionState.ok {
		ev.Recovery = recovery(*(*tcpip.CongestionControlState)(congestionState.in(senderPointer(w.e))), v.FastRecovery.Active)
	}
	ev.Limit = limit(ev.Unsent, v, nxt, segments)
	if ev != w.sample {
		w.sample = ev
		h.publishLocked(Event{Sample: &ev})
	}
}

func recovery(st tcpip.CongestionControlState, active bool) string {
	switch {
	case st == tcpip.RTORecovery:
		return "RTO"
	case !active:
		return ""
	case st == tcpip.FastRecovery:
		return "fast"
	}
	return "SACK"
}

// limit says what keeps a sender from sending more.
func limit(unsent int, v *tcp.TCPSenderState, nxt seqnum.Value, segments int) string {
	end := v.SndUna.Add(v.SndWnd)
	room := 0
	if nxt.LessThan(end) {
		room = int(nxt.Size(end))
	}
	switch {
	case unsent == 0:
		return "application"
	case room < min(unsent, v.MaxPayloadSize):
		return "receive window"
	case segments >= v.SndCwnd:
		return "congestion window"
	}
	return "" // it is about to send, or waits to fill a segment
}

// readTimers reads the timers of e, whose lock is held and whose sender is snd.
func readTimers(e *tcp.Endpoint, snd unsafe.Pointer) (t [timers]timer) {
	switch st := e.EndpointState(); st {
	case tcp.StateClose, tcp.StateError:
		return t // what they were is no matter any more
	case tcp.StateTimeWait:
		if timeWaitTimer.ok {
			t[timerTimeWait] = ourTimer(*at[tcpip.Timer](timeWaitTimer, e))
		}
	case tcp.StateSynSent, tcp.StateSynRecv:
		if handshakeOf.ok && backoffOf.ok && backoffTimer.ok {
			if h := *at[unsafe.Pointer](handshakeOf, e); h != nil {
				if b := *(*unsafe.Pointer)(backoffOf.in(h)); b != nil {
					t[timerRetransmission] = ourTimer(*(*tcpip.Timer)(backoffTimer.in(b)))
				}
			}
		}
		return t
	}
	if snd == nil {
		return t
	}
	resend := timerRetransmission
	if zeroWindowProbing.ok && *(*bool)(zeroWindowProbing.in(snd)) {
		resend = timerZeroWindow
	}
	t[resend] = resendTimer.read(snd)
	t[timerProbe] = probeTimer.read(snd)
	t[timerReorder] = reorderTimer.read(snd)
	if e.SocketOptions().GetKeepAlive() {
		t[timerKeepalive] = keepTimer.read(unsafe.Pointer(e))
	}
	return t
}

// ourTimer reads a timer that netstack has from the stack's clock.
func ourTimer(t tcpip.Timer) timer {
	if t, ok := t.(*timedTimer); ok {
		return timer{at: tcpip.MonotonicTime{}.Add(time.Duration(t.at.Load()))}
	}
	return timer{}
}

func (h *hub) timerLocked(w *watched, id timerID, action string, after time.Duration) {
	ev := &TimerEvent{Name: timerNames[id], Action: action, After: after}
	ev.FD, ev.Local, ev.Remote = h.ends(w.e)
	h.publishLocked(Event{Timer: ev})
}

// closedLocked publishes the end of the timers of a connection that is gone.
func (h *hub) closedLocked(w *watched) {
	now := h.s.clock.NowMonotonic()
	for i, t := range w.timers {
		switch {
		case !t.on():
		case now.Before(t.at):
			h.timerLocked(w, timerID(i), "stopped", 0)
		default:
			h.timerLocked(w, timerID(i), "fired", 0)
		}
	}
	delete(h.watched, w.e)
}

// ends names a connection: its fd, -1 if it has none, and its ends.
func (h *hub) ends(e *tcp.Endpoint) (fd int, local, remote netip.AddrPort) {
	id := e.TransportEndpointInfo.ID
	fd = -1
	if k := h.s.sys.byEndpoint(e); k != nil {
		fd = k.fd
	}
	return fd, netip.AddrPortFrom(fromTCPIP(id.LocalAddress), id.LocalPort), netip.AddrPortFrom(fromTCPIP(id.RemoteAddress), id.RemotePort)
}
