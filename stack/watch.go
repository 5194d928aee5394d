package stack

import (
	"container/heap"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/stack/event"
)

// segmentEvents are made where a segment passes.
const segmentEvents = PacketEvents | StateEvents | SampleEvents | TimerEvents

// Limits of what is followed while somebody listens.
const (
	// maxWatched bounds the connections that are followed at once, TIME-WAIT included:
	// 1,000 new ones a second for half a minute, in some 15 MB. Of more than these there
	// are packets and calls alone.
	maxWatched = 1 << 15

	// maxAsked bounds the SYNs that are remembered until there is a connection: as many
	// as netstack has handshakes under way, before it sends cookies.
	maxAsked = 4096
)

// lookDelay is how long after a segment a connection is looked at again on the system's
// clock, for the timers that netstack sets when it has sent: so that one look serves for
// many segments. Virtual time does not pass before all is done.
const lookDelay = 2 * time.Millisecond

// hub makes a stack's events, other than calls, and gives connections their identities.
// With no subscription, on is one atomic load and nothing else runs.
//
// What has changed is told where it changes: by the segment on its way in or out, by the
// probe after a segment, by the connection itself when its state changes, and before the
// call that tells of it. Only timers are looked for, by the stack's clock.
type hub struct {
	event.Hub
	s *Stack

	looking sync.Mutex // held while lookAgain may hold a connection's lock

	// mu comes after a connection's lock.
	mu      sync.Mutex
	watched map[tcpConn]*watched // connections in use, and listeners
	pairs   map[pair]*watched    // by addresses: the newest connections, and SYNs that have none yet
	asked   []*watched           // SYNs in the order in which they came
	stale   []*watched           // to be looked at again
	due     dueTimers            // by when a timer fires
	look    tcpip.Timer          // of lookAgain; nil: never set
	lookAt  tcpip.MonotonicTime  // when look fires; zero: it is not set
}

// pair is the addresses of a connection.
type pair struct{ local, remote netip.AddrPort }

// watched is what the subscribers were last told of a connection, or a SYN that asks for
// one. It is guarded by hub.mu; what it is compared with, by the connection's lock.
type watched struct {
	id       uint64  // the connection's identity; 0: a listener
	conn     tcpConn // nil: there was a SYN, and no more
	pair     pair
	follower tcpFollower
	state    tcpState
	sample   SampleEvent
	timers   [tcpTimers]tcpTimerState

	syn bool   // isn holds
	isn uint32 // sequence number of the peer's SYN

	followed bool                // the follower tells of changes of state
	stale    bool                // something has changed since, or may have
	listed   bool                // in hub.stale
	overdue  bool                // a timer was due when it was last looked at
	next     tcpip.MonotonicTime // when the first timer fires; zero: none runs
	place    int                 // in hub.due; -1: not in it
}

func (h *hub) init(s *Stack) {
	h.s, h.watched, h.pairs = s, map[tcpConn]*watched{}, map[pair]*watched{}
	h.Init(event.Source{Now: s.clock.Now, Wanted: h.wanted, Flush: h.flush})
}

// on reports whether someone wants any of these kinds.
func (h *hub) on(k EventKinds) bool { return h.On(k) }

// wanted forgets all connections when nobody listens any more.
func (h *hub) wanted(kinds EventKinds) {
	if kinds != 0 {
		return
	}
	h.mu.Lock()
	list := make([]*watched, 0, len(h.watched))
	for _, w := range h.watched {
		list = append(list, w)
	}
	clear(h.watched)
	clear(h.pairs)
	h.asked, h.stale, h.due = nil, nil, nil
	if h.look != nil {
		h.look.Stop()
		h.lookAt = tcpip.MonotonicTime{}
	}
	h.mu.Unlock()
	h.looking.Lock() // a look that is under way ends first
	defer h.looking.Unlock()
	for _, w := range list {
		w.follower.Stop() // it takes locks that come before mu
	}
}

// flush publishes what has not been told yet.
func (h *hub) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, w := range h.watched {
		h.changedLocked(w, c.State())
	}
}

// watchLocked returns what is known of c, nil if there is no room to know anything.
func (h *hub) watchLocked(c tcpConn) *watched {
	w := h.watched[c]
	if w != nil || !h.on(AllEvents) || len(h.watched) >= maxWatched {
		return w
	}
	state := c.State()
	switch state {
	case tcpClosed, tcpFailed, tcpNew, tcpBound, tcpConnecting:
		return nil
	}
	local, remote := c.Ends()
	p := pair{local, remote}
	w = &watched{state: state} // unless what follows says otherwise, its life began before anyone looked
	id := h.socketConn(c)
	switch asked := h.pairs[p]; {
	case state == tcpListen:
	case id != 0:
		w.id = id
	case asked != nil && asked.conn == nil:
		w, asked.state = asked, tcpListen // the SYN that came is its beginning, though a cookie may have stood for it since
	default:
		w.id = h.s.sys.ids.Add(1)
	}
	switch state {
	case tcpSynSent:
		w.state = tcpNew
	case tcpSynReceived:
		w.state = tcpListen
	}
	w.conn, w.pair, w.follower, w.place = c, p, c.Follow(), -1
	h.watched[c] = w
	if w.id != 0 {
		h.pairs[p] = w
	}
	return w
}

// socketConn returns the identity of c that its socket has, 0 if there is none.
func (h *hub) socketConn(c tcpConn) uint64 {
	if k := h.s.sys.byEndpoint(c.Endpoint()); k != nil {
		return k.conn.Load()
	}
	return 0
}

// observe publishes what has become of c's state since it was last seen, and returns its
// identity. It is called for each segment before the segment's own event, so that the
// story is told in order.
func (h *hub) observe(c tcpConn) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.observeLocked(c)
}

func (h *hub) observeLocked(c tcpConn) uint64 {
	w := h.watchLocked(c)
	if w == nil {
		return h.socketConn(c)
	}
	h.changedLocked(w, c.State())
	return w.id
}

// arrived is observe for a segment of flow t that has arrived for c, nil if for nobody.
// It returns the connection that the segment is about, which may not be yet; 0 if it is
// about none.
func (h *hub) arrived(c tcpConn, t FourTuple, pkt *stack.PacketBuffer) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	th := header.TCP(pkt.TransportHeader().Slice())
	if len(th) < header.TCPMinimumSize {
		return 0
	}
	p := pair{t.Dst, t.Src}
	syn := th.Flags()&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) == header.TCPFlagSyn
	if c != nil {
		id, state := h.observeLocked(c), c.State()
		w := h.watched[c]
		switch {
		case state == tcpListen:
		case syn && state == tcpTimeWait && !(w != nil && w.syn && w.isn == th.SequenceNumber()):
			// It begins another connection (RFC 9293 3.6.1).
		default:
			return id
		}
	}
	if syn {
		return h.askedLocked(p, th.SequenceNumber())
	}
	if w := h.pairs[p]; w != nil {
		return w.id // the ACK of a SYN cookie
	}
	return 0
}

// askedLocked returns the identity of the connection that a SYN asks for.
func (h *hub) askedLocked(p pair, isn uint32) uint64 {
	if w := h.pairs[p]; w != nil && w.conn == nil && w.isn == isn {
		return w.id // sent again
	}
	if len(h.asked) >= maxAsked {
		h.forgetLocked(h.asked[0])
		h.asked = h.asked[1:]
	}
	w := &watched{id: h.s.sys.ids.Add(1), pair: p, syn: true, isn: isn, place: -1}
	h.pairs[p] = w
	h.asked = append(h.asked, w)
	return w.id
}

// forgetLocked forgets a SYN, unless it has its connection.
func (h *hub) forgetLocked(w *watched) {
	if w.conn == nil && h.pairs[w.pair] == w {
		delete(h.pairs, w.pair)
	}
}

// answered returns the connection that a segment on its way out is about that no
// connection sends: a SYN cookie, or the RST that refuses a connection.
func (h *hub) answered(p pair, th header.TCP) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.pairs[p]
	if w == nil {
		return 0
	}
	if len(th) >= header.TCPMinimumSize && th.Flags().Contains(header.TCPFlagRst) {
		h.forgetLocked(w)
	}
	return w.id
}

// accepted is observe for a connection that the application accepts. It returns the
// identity that the socket is to have.
func (h *hub) accepted(c tcpConn) uint64 {
	if h.on(segmentEvents) {
		if id := h.observe(c); id != 0 {
			return id
		}
	}
	return h.s.sys.ids.Add(1)
}

// called is observe for a connection whose application has called something, before the
// call is told of. It returns its identity, 0 if k is no connection's. If the call gave
// what a change of state has caused, the change is complete first.
func (h *hub) called(k *socket, caused bool) uint64 {
	c, id := tcpOf(k.ep), k.conn.Load()
	if c == nil || !h.on(segmentEvents) {
		return id
	}
	if caused && id != 0 {
		c.Lock() // who has told the application is about to change the state
		defer c.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watched[c]; w != nil || id != 0 {
		h.observeLocked(c)
	}
	return id
}

// identity returns the identity of a connection that has no socket, 0 if it has none.
func (h *hub) identity(c tcpConn) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watched[c]; w != nil {
		return w.id
	}
	return 0
}

func (h *hub) changedLocked(w *watched, now tcpState) {
	if now == tcpConnecting {
		return // netstack's own, on the way to SYN-SENT or SYN-RECEIVED
	}
	for _, next := range path(w.state, now) {
		fd, local, remote := h.ends(w.conn)
		h.Publish(Event{Conn: w.id, State: &StateEvent{FD: fd, Local: local, Remote: remote, From: w.state.String(), To: next.String()}})
		w.state = next
	}
	if now.ended() {
		h.closedLocked(w)
	}
}

// before has the state that a connection must have been in before another (RFC
// 9293 3.3.2, figure 5). TIME-WAIT can also follow CLOSING, which a segment of its own
// begins, so that it is seen. One segment with the ACK and the FIN passes through
// FIN-WAIT-2: the ACK is processed before the FIN (3.10.7.4).
var before = map[tcpState]tcpState{
	tcpFinWait1:  tcpEstablished,
	tcpFinWait2:  tcpFinWait1,
	tcpClosing:   tcpFinWait1,
	tcpTimeWait:  tcpFinWait2,
	tcpCloseWait: tcpEstablished,
	tcpLastAck:   tcpCloseWait,
}

// path is the way from one state to another: when several segments are processed
// together, states are left before anyone can look.
func path(was, now tcpState) (states []tcpState) {
	if was == now {
		return nil
	}
	for st := now; st != was; {
		states = append(states, st)
		prev, ok := before[st]
		if !ok || st == tcpTimeWait && was == tcpClosing {
			break
		}
		st = prev
	}
	slices.Reverse(states)
	return states
}

// sending is called with each segment before it is published, with its connection's
// lock held. It returns why the segment is sent again.
func (h *hub) sending(g sent) Cause {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watchLocked(g.conn)
	if w == nil {
		why, _ := g.conn.Follow().Cause(g)
		return why
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
	var start tcpFollower
	if w := h.watchLocked(g.conn); w != nil {
		h.lookLocked(w, g)
		h.staleLocked(w) // netstack sets timers when it has sent
		if !w.followed {
			w.followed, start = true, w.follower
		}
	}
	h.mu.Unlock()
	if start != nil {
		start.Start(h) // it takes locks that come before mu
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
			h.staleLocked(w)
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
	w := h.watchLocked(c)
	if w == nil {
		return
	}
	h.changedLocked(w, c.State())
	if !w.state.ended() {
		h.lookLocked(w, sent{})
		h.staleLocked(w) // netstack sets timers when it has taken all that came
	}
}

// changed implements tcpProbe.
func (h *hub) changed(c tcpConn) {
	if !h.on(segmentEvents) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watched[c]; w != nil {
		was := w.state
		h.changedLocked(w, c.State())
		if w.state != was && !w.state.ended() {
			h.staleLocked(w)
		}
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
	if !h.on(TimerEvents) {
		return
	}
	now := h.s.clock.NowMonotonic()
	w.next = tcpip.MonotonicTime{}
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
		if none := (w.next == tcpip.MonotonicTime{}); t.on() && (none || t.At.Before(w.next)) {
			w.next = t.At
		}
	}
	h.dueLocked(w, now)
}

// staleLocked has w looked at again.
func (h *hub) staleLocked(w *watched) {
	if w.stale || !h.on(SampleEvents|TimerEvents) || h.watched[w.conn] != w {
		return
	}
	w.stale = true
	if !w.listed {
		w.listed = true
		h.stale = append(h.stale, w)
	}
	now := h.s.clock.NowMonotonic()
	h.armLocked(now.Add(h.delay()), now)
}

// delay is how long after something has happened a connection is looked at again.
func (h *hub) delay() time.Duration {
	if h.s.clock.Given() {
		return 0
	}
	return lookDelay
}

// dueLocked has w looked at when its next timer has fired.
func (h *hub) dueLocked(w *watched, now tcpip.MonotonicTime) {
	running := w.next != tcpip.MonotonicTime{}
	switch {
	case !running && w.place >= 0:
		heap.Remove(&h.due, w.place)
	case running && w.place >= 0:
		heap.Fix(&h.due, w.place)
	case running:
		heap.Push(&h.due, w)
	}
	if !running {
		w.overdue = false
		return
	}
	at := w.next.Add(h.delay())
	if now.Before(w.next) {
		w.overdue = false
	} else if w.overdue {
		at = now.Add(lookDelay) // it is late: netstack has not come to it
	} else {
		w.overdue = true
		at = now.Add(h.delay())
	}
	h.armLocked(at, now)
}

// armLocked has lookAgain run at a time, if it does not before.
func (h *hub) armLocked(at, now tcpip.MonotonicTime) {
	if set := (h.lookAt != tcpip.MonotonicTime{}); set && !at.Before(h.lookAt) {
		return
	}
	h.lookAt = at
	if d := max(0, at.Sub(now)); h.look == nil {
		h.look = h.s.clock.AfterFunc(d, h.lookAgain)
	} else {
		h.look.Reset(d)
	}
}

// lookAgain looks at the connections that may have changed without a segment, or since.
func (h *hub) lookAgain() {
	h.looking.Lock()
	defer h.looking.Unlock()
	h.mu.Lock()
	h.lookAt = tcpip.MonotonicTime{}
	now := h.s.clock.NowMonotonic()
	list := h.stale
	h.stale = nil
	for len(h.due) > 0 && !now.Before(h.due[0].next) {
		w := heap.Pop(&h.due).(*watched)
		if !w.listed {
			w.listed = true
			list = append(list, w)
		}
	}
	for _, w := range list {
		w.listed = false
	}
	h.mu.Unlock()
	for _, w := range list {
		// A connection's lock comes before the hub's.
		w.conn.Lock()
		h.mu.Lock()
		if h.watched[w.conn] == w {
			h.changedLocked(w, w.conn.State())
		}
		if h.watched[w.conn] == w {
			h.lookLocked(w, sent{})
		}
		h.mu.Unlock()
		w.conn.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.due) > 0 {
		now := h.s.clock.NowMonotonic()
		at := h.due[0].next.Add(h.delay())
		if at.Before(now) {
			at = now.Add(lookDelay)
		}
		h.armLocked(at, now)
	}
}

// dueTimers is a heap of connections by when their next timer fires.
type dueTimers []*watched

func (d dueTimers) Len() int           { return len(d) }
func (d dueTimers) Less(i, j int) bool { return d[i].next.Before(d[j].next) }
func (d dueTimers) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}
func (d *dueTimers) Push(x any) {
	w := x.(*watched)
	w.place = len(*d)
	*d = append(*d, w)
}
func (d *dueTimers) Pop() any {
	last := len(*d) - 1
	w := (*d)[last]
	w.place = -1
	(*d)[last] = nil
	*d = (*d)[:last]
	return w
}

// sampleLocked publishes how a connection stands, if that has changed.
func (h *hub) sampleLocked(w *watched, g sent) {
	ev, ok := w.follower.Sample(g)
	ev.FD, ev.Local, ev.Remote = h.ends(w.conn)
	if ok && ev != w.sample {
		w.sample = ev
		h.Publish(Event{Conn: w.id, Sample: &ev})
	}
}

func (h *hub) timerLocked(w *watched, id tcpTimer, action string, after time.Duration) {
	ev := &TimerEvent{Name: tcpTimerNames[id], Action: action, After: after}
	ev.FD, ev.Local, ev.Remote = h.ends(w.conn)
	h.Publish(Event{Conn: w.id, Timer: ev})
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
	w.timers = [tcpTimers]tcpTimerState{}
	if w.place >= 0 {
		heap.Remove(&h.due, w.place)
	}
	delete(h.watched, w.conn)
	if h.pairs[w.pair] == w {
		delete(h.pairs, w.pair)
	}
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
