package stack

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Event is something that happened in the stack. Exactly one of the pointers is
// set. Events are values: a subscriber may keep them, and must not change them.
type Event struct {
	Seq    uint64       `json:"seq"`  // counts the events for a subscription, from 1; a gap was dropped
	Time   time.Time    `json:"time"` // by the stack's clock
	Packet *PacketEvent `json:"packet,omitempty"`
	Call   *CallEvent   `json:"call,omitempty"`
	State  *StateEvent  `json:"state,omitempty"`
	Sample *SampleEvent `json:"sample,omitempty"`
	Timer  *TimerEvent  `json:"timer,omitempty"`
	Link   *LinkEvent   `json:"link,omitempty"`
}

// PacketEvent is one packet (or TSO super-packet) on its way in or out.
type PacketEvent struct {
	Out    bool          `json:"out"`
	Dev    string        `json:"dev"`
	Len    int           `json:"len"`              // bytes of the IP packet
	GSO    int           `json:"gso,omitempty"`    // of a TCP super-packet: payload bytes of each segment that it becomes on the wire
	Data   []byte        `json:"data"`             // its start, as long as SubscribeConfig.Snap asks for
	Route  *RouteLookup  `json:"route,omitempty"`  // the routing decision
	Socket *SocketLookup `json:"socket,omitempty"` // in: the socket decision; out: nil
	FD     int           `json:"fd"`               // the socket's fd, or -1
	State  string        `json:"state,omitempty"`  // out: the TCP state of the sender
	Drop   string        `json:"drop,omitempty"`   // why the packet went no further

	// Retransmit is why a TCP segment is sent again: a Cause, or "" of what is sent for the first time.
	Retransmit Cause `json:"retransmit,omitempty"`
}

// SampleEvent is how a connection's sender and receiver stand after a segment.
type SampleEvent struct {
	FD     int            `json:"fd"` // -1: not accepted yet, or closed already
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`

	SRTT     time.Duration `json:"srtt"`   // 0: not measured yet
	RTTVar   time.Duration `json:"rttvar"` // RFC 6298
	RTO      time.Duration `json:"rto"`
	Cwnd     int           `json:"cwnd"`     // segments
	Ssthresh int           `json:"ssthresh"` // segments
	MSS      int           `json:"mss"`      // payload bytes of a segment
	InFlight int           `json:"inflight"` // bytes sent and not acknowledged
	Unsent   int           `json:"unsent"`   // bytes written and not sent
	SndWnd   int           `json:"snd_wnd"`  // bytes that the peer offers
	RcvWnd   int           `json:"rcv_wnd"`  // bytes that this side offers
	SndUna   uint32        `json:"snd_una"`
	SndNxt   uint32        `json:"snd_nxt"`
	RcvNxt   uint32        `json:"rcv_nxt"`

	Recovery string `json:"recovery,omitempty"` // "fast", "SACK", "RTO", or "" when nothing is being recovered
	Limit    string `json:"limit,omitempty"`    // what keeps the sender from sending: "application", "receive window", "congestion window"
}

// TimerEvent is a timer of a connection that was set, stopped, or that fired.
type TimerEvent struct {
	FD     int            `json:"fd"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Name   string         `json:"name"`            // "retransmission", "tail-loss probe", "reorder", "zero-window probe", "keepalive", "time-wait"
	Action string         `json:"action"`          // "set", "stopped", "fired"
	After  time.Duration  `json:"after,omitempty"` // set: when it will fire, from now
}

// LinkEvent is what a layer below the stack, such as an impairment, did to a packet.
type LinkEvent struct {
	Dev    string        `json:"dev"`
	Out    bool          `json:"out"`
	Action string        `json:"action"`          // "drop", "delay", "hold", "corrupt", "duplicate", "reorder", "reset", "toobig", "window"
	Why    string        `json:"why"`             // the rule, or the setting such as "loss"
	Rule   bool          `json:"rule,omitempty"`  // Why is a rule
	Delay  time.Duration `json:"delay,omitempty"` // of delay and hold
	N      int           `json:"n,omitempty"`     // of corrupt: the bit; of toobig: the MTU; of window: the window field
	Len    int           `json:"len"`             // bytes of the IP packet
	Data   []byte        `json:"data"`            // its start as it was before, as long as SubscribeConfig.Snap asks for
}

// StateEvent is a change of a connection's TCP state.
type StateEvent struct {
	FD     int            `json:"fd"` // -1: not accepted yet, or closed already
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	From   string         `json:"from"`
	To     string         `json:"to"`
}

// CallEvent is one socket call that an application made, after it returned.
type CallEvent struct {
	Name     string        `json:"name"`
	Args     []CallArg     `json:"args"`
	Ret      int64         `json:"ret"`
	Result   string        `json:"result,omitempty"` // Ret as strace(1) writes it, where that is more than a number
	Errno    syscall.Errno `json:"-"`
	Error    string        `json:"error,omitempty"` // errno's name, such as EADDRINUSE
	Start    time.Time     `json:"start"`           // by the stack's clock
	Duration time.Duration `json:"duration"`
}

// CallArg is an argument of a call: Text as strace(1) writes it, or, for a
// buffer, the first maxEventBytes of the Len bytes that were transferred.
type CallArg struct {
	Text string `json:"text,omitempty"`
	Data []byte `json:"data,omitempty"`
	Len  int    `json:"len,omitempty"`
	Buf  bool   `json:"buf,omitempty"`
}

// maxEventBytes is how much of a buffer an event carries, and of a packet unless a
// subscriber asks for more: the longest IPv6 and TCP headers with options and the
// start of an HTTP request.
const maxEventBytes = 512

// maxSnap is the longest IP packet, jumbograms aside.
const maxSnap = 65535

// EventKinds is a set of kinds of events.
type EventKinds uint8

// The kinds of events.
const (
	PacketEvents EventKinds = 1 << iota
	CallEvents
	StateEvents
	LinkEvents
	SampleEvents
	TimerEvents

	// DefaultEvents are those that happen one by one. Samples and timers come with
	// nearly every segment.
	DefaultEvents = PacketEvents | CallEvents | StateEvents | LinkEvents
	AllEvents     = DefaultEvents | SampleEvents | TimerEvents

	// segmentEvents are made where a segment passes.
	segmentEvents = PacketEvents | StateEvents | SampleEvents | TimerEvents
)

func (e *Event) kind() EventKinds {
	switch {
	case e.Packet != nil:
		return PacketEvents
	case e.Call != nil:
		return CallEvents
	case e.State != nil:
		return StateEvents
	case e.Link != nil:
		return LinkEvents
	case e.Sample != nil:
		return SampleEvents
	}
	return TimerEvents
}

// SubscribeConfig says which events a subscription is for. The stack does no more
// work than its subscriptions ask for together.
type SubscribeConfig struct {
	Buffer int        // events that may wait for the reader; if 0, 1
	Kinds  EventKinds // if 0, DefaultEvents
	Snap   int        // bytes of each packet, up to 65535; if 0, 512
}

// Subscription is a bounded queue of events. A reader that falls behind loses
// events and is told how many.
type Subscription struct {
	hub     *hub
	cfg     SubscribeConfig
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

// Subscribe starts a subscription to DefaultEvents that holds up to buffer events
// and ends with ctx.
func (s *Stack) Subscribe(ctx context.Context, buffer int) *Subscription {
	return s.SubscribeWith(ctx, SubscribeConfig{Buffer: buffer})
}

// SubscribeWith starts a subscription that ends with ctx.
func (s *Stack) SubscribeWith(ctx context.Context, cfg SubscribeConfig) *Subscription {
	cfg.Buffer = max(cfg.Buffer, 1)
	if cfg.Kinds == 0 {
		cfg.Kinds = DefaultEvents
	}
	if cfg.Snap <= 0 {
		cfg.Snap = maxEventBytes
	}
	cfg.Snap = min(cfg.Snap, maxSnap)
	h := &s.events
	sub := &Subscription{hub: h, cfg: cfg, ch: make(chan Event, cfg.Buffer)}
	h.mu.Lock()
	if h.closed {
		close(sub.ch)
		sub.stop = func() bool { return true }
		h.mu.Unlock()
		return sub
	}
	if h.subs == nil {
		h.subs = map[*Subscription]struct{}{}
		h.watched = map[tcpConn]*watched{}
	}
	h.s = s
	h.subs[sub] = struct{}{}
	h.wantLocked()
	if len(h.subs) == 1 {
		h.startWatcher()
	}
	sub.stop = context.AfterFunc(ctx, func() { h.remove(sub) })
	h.mu.Unlock()
	return sub
}

// hub hands events to subscriptions. With none, on is one atomic load and
// nothing else runs.
type hub struct {
	kinds atomic.Uint32 // EventKinds that someone wants
	snap  atomic.Int32  // bytes of a packet that someone wants
	s     *Stack

	looking sync.Mutex // held while the watcher may hold an endpoint's lock

	// mu comes after an endpoint's lock.
	mu      sync.Mutex
	closed  bool
	subs    map[*Subscription]struct{}
	watched map[tcpConn]*watched // connections in use
	quit    chan struct{}        // ends the watcher
	ended   chan struct{}        // closed by the watcher
}

// on reports whether someone wants any of these kinds.
func (h *hub) on(k EventKinds) bool { return EventKinds(h.kinds.Load())&k != 0 }

// wantLocked brings what is wanted up to date with the subscriptions.
func (h *hub) wantLocked() {
	var kinds EventKinds
	snap := maxEventBytes // the stack reads the headers there
	for sub := range h.subs {
		kinds |= sub.cfg.Kinds
		snap = max(snap, sub.cfg.Snap)
	}
	h.snap.Store(int32(snap))
	h.kinds.Store(uint32(kinds))
}

func (h *hub) remove(sub *Subscription) {
	h.mu.Lock()
	if _, ok := h.subs[sub]; !ok {
		h.mu.Unlock()
		return
	}
	h.statesLocked() // what the watcher has not seen yet is the subscription's to know
	delete(h.subs, sub)
	h.wantLocked()
	close(sub.ch)
	var ended chan struct{}
	if len(h.subs) == 0 {
		close(h.quit)
		clear(h.watched)
		ended = h.ended
	}
	h.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

func (h *hub) close() {
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

func (h *hub) publish(e Event) {
	h.mu.Lock()
	h.publishLocked(e)
	h.mu.Unlock()
}

func (h *hub) publishLocked(e Event) {
	kind := e.kind()
	for sub := range h.subs {
		if sub.cfg.Kinds&kind == 0 {
			continue
		}
		if e.Time.IsZero() {
			e.Time = h.s.clock.Now()
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

// PublishLink tells the subscribers what a layer below the stack did to a packet.
// Data may be the whole packet: as much as is wanted is copied, and Len is set.
// If nobody listens it costs one atomic load.
func (s *Stack) PublishLink(ev LinkEvent) {
	h := &s.events
	if !h.on(LinkEvents) {
		return
	}
	own := ev // ev stays on the stack
	own.Len = len(ev.Data)
	own.Data = slices.Clone(ev.Data[:min(own.Len, int(h.snap.Load()))])
	h.publish(Event{Link: &own})
}

// tag goes with a packet through netstack, which keeps the owner of a packet
// where it clones one, as its IPv6 does with each.
type tag struct {
	tcpip.PacketOwner // nil: netstack asks only packets that it sends
	ev                *PacketEvent
	published         bool // guarded by hub.mu
}

// expect makes ev known to socketChosen while netstack has its packet.
func (h *hub) expect(pkt *stack.PacketBuffer, ev *PacketEvent) { pkt.Owner = &tag{ev: ev} }

// socketChosen publishes the event of pkt, now that its socket is known and
// before the socket has seen it.
func (h *hub) socketChosen(pkt *stack.PacketBuffer, l *SocketLookup) {
	t, ok := pkt.Owner.(*tag)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.published {
		return // a packet for many: one event names the first
	}
	t.published = true
	t.ev.Socket, t.ev.FD = l, l.FD
	switch broken := brokenSegment(pkt); {
	case broken != "":
		t.ev.Drop = broken
	case !l.Found:
		t.ev.Drop = dropNoSocket
	}
	h.publishLocked(Event{Packet: t.ev})
}

// finish publishes ev unless socketChosen has.
func (h *hub) finish(pkt *stack.PacketBuffer, ev *PacketEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := pkt.Owner.(*tag); ok && !t.published {
		t.published = true
		ev.Drop = brokenPacket(pkt, ev.Data, ev.Len)
		h.publishLocked(Event{Packet: ev})
	}
}

func (h *hub) publishPacket(ev *PacketEvent, drop string) {
	if ev != nil {
		ev.Drop = drop
		h.publish(Event{Packet: ev})
	}
}

func (s *Stack) packetIn(l *link, proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) *PacketEvent {
	ev := &PacketEvent{Dev: l.name, Len: pkt.Data().Size(), FD: -1}
	if b, ok := pkt.Data().PullUp(min(ev.Len, int(s.events.snap.Load()))); ok {
		ev.Data = append([]byte(nil), b...)
	}
	ev.GSO = segmentSize(pkt, ev.Len, ev.Data)
	return ev
}

// packetOut returns the event of a packet, nil if nobody wants it, and the segment that
// it is if it is a connection's.
func (s *Stack) packetOut(l *link, pkt *stack.PacketBuffer) (ev *PacketEvent, g sent) {
	tp, th := pkt.TransportProtocolNumber, pkt.TransportHeader().Slice()
	if s.events.on(PacketEvents) {
		ev = &PacketEvent{Out: true, Dev: l.name, FD: -1}
		snap := int(s.events.snap.Load())
		for _, b := range pkt.AsSlices() {
			ev.Len += len(b)
			if room := snap - len(ev.Data); room > 0 {
				ev.Data = append(ev.Data, b[:min(len(b), room)]...)
			}
		}
		ev.GSO = segmentSize(pkt, ev.Len, ev.Data)
		if len(th) == 0 && firstFragment(pkt) {
			tp, th = transportOf(pkt.NetworkProtocolNumber, ev.Data)
		}
	}
	src, dst, ok := outboundAddrs(pkt)
	if !ok || len(th) < 4 || tp != header.TCPProtocolNumber && tp != header.UDPProtocolNumber {
		return ev, g
	}
	t := FourTuple{
		Src: netip.AddrPortFrom(dst, uint16(th[2])<<8|uint16(th[3])),
		Dst: netip.AddrPortFrom(src, uint16(th[0])<<8|uint16(th[1])),
	}
	ep := s.ns.FindTransportEndpoint(pkt.NetworkProtocolNumber, tp, t.id(), l.id)
	if ep, ok := ep.(tcpip.Endpoint); ok && ev != nil {
		if k := s.sys.byEndpoint(ep); k != nil {
			ev.FD = k.fd
		}
	}
	conn := tcpOf(ep)
	if conn == nil || conn.State() == tcpListen {
		return ev, g
	}
	s.events.observe(conn)
	g, ok = conn.Sending(pkt)
	var c Cause
	if ok {
		c = s.events.sending(g)
	}
	if ev != nil {
		ev.State, ev.Retransmit = conn.State().String(), c
	}
	return ev, g
}

// firstFragment reports whether a packet is no later fragment of another.
func firstFragment(pkt *stack.PacketBuffer) bool {
	h := header.IPv4(pkt.NetworkHeader().Slice())
	return pkt.NetworkProtocolNumber == ipv4.ProtocolNumber && len(h) >= header.IPv4MinimumSize && h.FragmentOffset() == 0
}

// segmentSize is the payload of each segment that a TCP super-packet of n bytes, of
// which b is the start, becomes; 0 for what is one packet on the wire too.
func segmentSize(pkt *stack.PacketBuffer, n int, b []byte) int {
	mss := int(pkt.GSOOptions.MSS)
	tp, th := transportOf(pkt.NetworkProtocolNumber, b)
	if pkt.GSOOptions.Type == stack.GSONone || mss == 0 || tp != header.TCPProtocolNumber || len(th) < header.TCPMinimumSize {
		return 0
	}
	if n-(len(b)-len(th))-int(header.TCP(th).DataOffset()) <= mss {
		return 0
	}
	return mss
}

// watchInterval bounds how late a change of state that no packet follows (the end
// of TIME-WAIT, a reset) is seen.
const watchInterval = 2 * time.Millisecond

// maxWatched bounds the endpoints whose states are followed at once.
const maxWatched = 4096

// observe publishes what has become of c's state since it was last seen. It is
// called for each segment before the segment's own event, so that the story is
// told in order.
func (h *hub) observe(c tcpConn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(c); w != nil {
		h.changedLocked(w, c.State())
	}
}

func (h *hub) changedLocked(w *watched, now tcpState) {
	if now == tcpConnecting {
		return // netstack's own, on the way to SYN-SENT or SYN-RECEIVED
	}
	for _, next := range path(w.state, now) {
		fd, local, remote := h.ends(w.conn)
		h.publishLocked(Event{State: &StateEvent{FD: fd, Local: local, Remote: remote, From: w.state.String(), To: next.String()}})
		w.state = next
	}
	if now.ended() {
		h.closedLocked(w)
	}
}

// before has the state that a connection must have been in before another (RFC
// 9293 3.3.2, figure 5). TIME-WAIT can also follow FIN-WAIT-2 and CLOSING, but
// FIN-WAIT-1 has come before those.
var before = map[tcpState]tcpState{
	tcpFinWait1:  tcpEstablished,
	tcpFinWait2:  tcpFinWait1,
	tcpClosing:   tcpFinWait1,
	tcpTimeWait:  tcpFinWait1,
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
		if !ok || st == tcpTimeWait && (was == tcpFinWait2 || was == tcpClosing) {
			break
		}
		st = prev
	}
	slices.Reverse(states)
	return states
}

// startWatcher starts the goroutine that publishes what no segment follows: changes
// of TCP states, and timers that were set after the last segment or that fired. It runs while there are subscriptions; remove waits for it.
func (h *hub) startWatcher() {
	h.quit, h.ended = make(chan struct{}), make(chan struct{})
	quit, ended := h.quit, h.ended
	go func() {
		defer close(ended)
		tick := time.NewTicker(watchInterval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			h.lookAgain()
			h.mu.Lock()
			h.statesLocked()
			h.mu.Unlock()
		}
	}()
}

// statesLocked publishes the changes of state that nobody has seen yet.
func (h *hub) statesLocked() {
	for c, w := range h.watched {
		h.changedLocked(w, c.State())
	}
}
