package stack

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// watched is what the subscribers were last told of a connection. It is guarded by
// hub.mu; what it is compared with, by the connection's lock.
type watched struct {
	conn     tcpConn
	follower tcpFollower
	state    tcpState
	sample   SampleEvent
	timers   [tcpTimers]tcpTimerState
	stale    bool // something has changed since, or may have
}

// watchLocked returns what is known of c, nil if there is no room to know anything.
func (h *hub) watchLocked(c tcpConn) *watched {
	w := h.watched[c]
	if w == nil && len(h.subs) > 0 && len(h.watched) < maxWatched {
		w = &watched{conn: c, follower: c.Follow(), state: c.State()}
		switch w.state {
		case tcpClosed, tcpFailed, tcpConnecting:
			return nil
		case tcpSynSent:
			w.state = tcpNew
		case tcpSynReceived:
			w.state = tcpListen
		}
		// Another state: its life began before anyone looked.
		h.watched[c] = w
	}
	return w
}

// sending is called with each segment before it is published, with its connection's
// lock held. It returns why the segment is sent again.
func (h *hub) sending(g sent) Cause {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watchLocked(g.conn)
	if w == nil {
		w = &watched{conn: g.conn, follower: g.conn.Follow()}
	}
	c, fired := w.follower.Cause(g)
	if fired != noTimer {
		h.timerLocked(w, fired, "fired", 0)
		w.timers[fired] = tcpTimerState{}
	}
	return c
}

// sent is called with each segment after it is published, with its connection's lock held.
func (h *hub) sent(g sent) {
	if g.conn == nil {
		return
	}
	g.conn.Probe(h)
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(g.conn); w != nil {
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
	if c := tcpOf(k.ep); c != nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if w := h.watched[c]; w != nil {
			w.stale = true
		}
	}
}

// received implements tcpProbe.
func (h *hub) received(c tcpConn) {
	if !h.on(segmentEvents) {
		c.Probe(nil)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(c); w != nil {
		h.lookLocked(w, sent{})
		w.stale = h.on(SampleEvents | TimerEvents) // netstack sets timers when it has taken all that came
	}
}

// lookLocked publishes what has changed of a connection, whose lock is held, other
// than its state. g is the segment that it is sending, if any.
func (h *hub) lookLocked(w *watched, g sent) {
	w.stale = false
	w.follower.Look()
	if h.on(SampleEvents) {
		h.sampleLocked(w, g)
	}
	if h.on(TimerEvents) {
		now := h.s.clock.NowMonotonic()
		for i, t := range w.follower.Timers() {
			old := w.timers[i]
			w.timers[i] = t
			switch {
			case t.on() && t.At != old.At:
				h.timerLocked(w, tcpTimer(i), "set", max(0, t.At.Sub(now)))
			case old.on() && !t.on() && !t.Stopped && !now.Before(old.At):
				h.timerLocked(w, tcpTimer(i), "fired", 0)
			case old.on() && !t.on():
				h.timerLocked(w, tcpTimer(i), "stopped", 0)
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
		// A connection's lock comes before the hub's.
		w.conn.Lock()
		h.mu.Lock()
		h.lookLocked(w, sent{})
		h.mu.Unlock()
		w.conn.Unlock()
	}
}

// due reports whether a timer should have fired by now.
func (w *watched) due(now tcpip.MonotonicTime) bool {
	for _, t := range w.timers {
		if t.on() && !now.Before(t.At) {
			return true
		}
	}
	return false
}

// sampleLocked publishes how a connection stands, if that has changed.
func (h *hub) sampleLocked(w *watched, g sent) {
	ev, ok := w.follower.Sample(g)
	ev.FD, ev.Local, ev.Remote = h.ends(w.conn)
	if ok && ev != w.sample {
		w.sample = ev
		h.publishLocked(Event{Sample: &ev})
	}
}

func (h *hub) timerLocked(w *watched, id tcpTimer, action string, after time.Duration) {
	ev := &TimerEvent{Name: tcpTimerNames[id], Action: action, After: after}
	ev.FD, ev.Local, ev.Remote = h.ends(w.conn)
	h.publishLocked(Event{Timer: ev})
}

// closedLocked publishes the end of the timers of a connection that is gone.
func (h *hub) closedLocked(w *watched) {
	now := h.s.clock.NowMonotonic()
	for i, t := range w.timers {
		switch {
		case !t.on():
		case now.Before(t.At):
			h.timerLocked(w, tcpTimer(i), "stopped", 0)
		default:
			h.timerLocked(w, tcpTimer(i), "fired", 0)
		}
	}
	delete(h.watched, w.conn)
}

// ends names a connection: its fd, -1 if it has none, and its ends.
func (h *hub) ends(c tcpConn) (fd int, local, remote netip.AddrPort) {
	fd = -1
	if k := h.s.sys.byEndpoint(c.Endpoint()); k != nil {
		fd = k.fd
	}
	local, remote = c.Ends()
	return fd, local, remote
}
