package stack

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/catflap/catflap/stack/event"
)

// Subscribe starts a subscription to DefaultEvents that holds up to buffer events
// and ends with ctx.
func (s *Stack) Subscribe(ctx context.Context, buffer int) *Subscription {
	return s.SubscribeWith(ctx, SubscribeConfig{Buffer: buffer})
}

// SubscribeWith starts a subscription that ends with ctx.
func (s *Stack) SubscribeWith(ctx context.Context, cfg SubscribeConfig) *Subscription {
	return s.events.Subscribe(ctx, cfg)
}

// segmentEvents are made where a segment passes.
const segmentEvents = PacketEvents | StateEvents | SampleEvents | TimerEvents

// hub makes a stack's events, other than calls. With no subscription, on is one
// atomic load and nothing else runs.
type hub struct {
	event.Hub
	s *Stack

	looking sync.Mutex // held while the watcher may hold an endpoint's lock

	// mu comes after an endpoint's lock.
	mu      sync.Mutex
	watched map[*tcp.Endpoint]*watched // connections in use
	quit    chan struct{}              // ends the watcher; nil: it does not run
	ended   chan struct{}              // closed by the watcher
}

func (h *hub) init(s *Stack) {
	h.s, h.watched = s, map[*tcp.Endpoint]*watched{}
	h.Init(event.Source{Now: s.clock.Now, Wanted: h.wanted, Flush: h.flush})
}

// on reports whether someone wants any of these kinds.
func (h *hub) on(k EventKinds) bool { return h.On(k) }

// wanted starts the watcher with the first subscription, and ends it with the last.
func (h *hub) wanted(kinds EventKinds) {
	h.mu.Lock()
	running := h.quit != nil
	switch {
	case kinds != 0 && !running:
		h.startWatcher()
	case kinds == 0 && running:
		close(h.quit)
		h.quit = nil
		clear(h.watched)
	}
	h.mu.Unlock()
	if kinds == 0 && running {
		<-h.ended
	}
}

// flush publishes what the watcher has not seen yet.
func (h *hub) flush() {
	h.mu.Lock()
	h.statesLocked()
	h.mu.Unlock()
}

func (h *hub) publish(e Event) { h.Publish(e) }

func (h *hub) publishLocked(e Event) { h.Publish(e) }

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
	own.Data = slices.Clone(ev.Data[:min(own.Len, h.Snap())])
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
	if b, ok := pkt.Data().PullUp(min(ev.Len, s.events.Snap())); ok {
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
		snap := s.events.Snap()
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
	ep := s.ns.FindTransportEndpoint(pkt.NetworkProtocolNumber, tp, idOf(t), l.id)
	if ep, ok := ep.(tcpip.Endpoint); ok && ev != nil {
		if k := s.sys.byEndpoint(ep); k != nil {
			ev.FD = k.fd
		}
	}
	e, ok := ep.(*tcp.Endpoint)
	if !ok || e.EndpointState() == tcp.StateListen {
		return ev, g
	}
	s.events.observe(e)
	g = sentBy(e, pkt)
	var c Cause
	if g.e != nil {
		c = s.events.sending(g)
	}
	if ev != nil {
		ev.State, ev.Retransmit = stateName(e.EndpointState()), c
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

// observe publishes what has become of e's state since it was last seen. It is
// called for each segment before the segment's own event, so that the story is
// told in order.
func (h *hub) observe(e *tcp.Endpoint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w := h.watchLocked(e); w != nil {
		h.changedLocked(w, e.EndpointState())
	}
}

func (h *hub) changedLocked(w *watched, now tcp.EndpointState) {
	if now == tcp.StateConnecting {
		return // netstack's own, on the way to SYN-SENT or SYN-RECEIVED
	}
	for _, next := range path(w.state, now) {
		fd, local, remote := h.ends(w.e)
		h.publishLocked(Event{State: &StateEvent{FD: fd, Local: local, Remote: remote, From: stateName(w.state), To: stateName(next)}})
		w.state = next
	}
	if now == tcp.StateClose || now == tcp.StateError {
		h.closedLocked(w)
	}
}

// before has the state that a connection must have been in before another (RFC
// 9293 3.3.2, figure 5). TIME-WAIT can also follow FIN-WAIT-2 and CLOSING, but
// FIN-WAIT-1 has come before those.
var before = map[tcp.EndpointState]tcp.EndpointState{
	tcp.StateFinWait1:  tcp.StateEstablished,
	tcp.StateFinWait2:  tcp.StateFinWait1,
	tcp.StateClosing:   tcp.StateFinWait1,
	tcp.StateTimeWait:  tcp.StateFinWait1,
	tcp.StateCloseWait: tcp.StateEstablished,
	tcp.StateLastAck:   tcp.StateCloseWait,
}

// path is the way from one state to another: when several segments are processed
// together, states are left before anyone can look.
func path(was, now tcp.EndpointState) (states []tcp.EndpointState) {
	if was == now {
		return nil
	}
	for st := now; st != was; {
		states = append(states, st)
		prev, ok := before[st]
		if !ok || st == tcp.StateTimeWait && (was == tcp.StateFinWait2 || was == tcp.StateClosing) {
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
	for e, w := range h.watched {
		h.changedLocked(w, e.EndpointState())
	}
}
