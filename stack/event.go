package stack

import (
	"context"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
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
	h.Publish(Event{Link: &own})
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
// before the socket has seen it. id is the connection that it is about.
func (h *hub) socketChosen(pkt *stack.PacketBuffer, l *SocketLookup, id uint64) {
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
	h.Publish(Event{Conn: id, Packet: t.ev})
}

// finish publishes ev unless socketChosen has.
func (h *hub) finish(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, ev *PacketEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t, ok := pkt.Owner.(*tag); ok && !t.published {
		t.published = true
		ev.Drop = brokenPacket(pkt, ev.Data, ev.Len)
		h.Publish(Event{Conn: h.inboundLocked(proto, ev.Data), Packet: ev})
	}
}

// unclaimed publishes the event of an inbound packet that no socket is chosen for.
func (h *hub) unclaimed(proto tcpip.NetworkProtocolNumber, ev *PacketEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Publish(Event{Conn: h.inboundLocked(proto, ev.Data), Packet: ev})
}

// inboundLocked returns the connection that an inbound packet is about, of which b is
// the start, 0 if it is about none.
func (h *hub) inboundLocked(proto tcpip.NetworkProtocolNumber, b []byte) uint64 {
	tp, th := transportOf(proto, b)
	if tp != header.TCPProtocolNumber || len(th) < 4 {
		return 0
	}
	var src, dst netip.Addr
	if proto == ipv4.ProtocolNumber {
		src, dst = v4Addrs(b)
	} else {
		src, dst = v6Addrs(b)
	}
	if w := h.pairs[pair{portOf(dst, th[2:]), portOf(src, th)}]; w != nil {
		return w.id
	}
	return 0
}

// portOf is an address with the port that stands at the start of b.
func portOf(a netip.Addr, b []byte) netip.AddrPort {
	return netip.AddrPortFrom(a, uint16(b[0])<<8|uint16(b[1]))
}

func (s *Stack) packetIn(l *link, proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) *PacketEvent {
	ev := &PacketEvent{Dev: l.name, Len: pkt.Data().Size(), FD: -1}
	if b, ok := pkt.Data().PullUp(min(ev.Len, s.events.Snap())); ok {
		ev.Data = append([]byte(nil), b...)
	}
	ev.GSO = segmentSize(pkt, ev.Len, ev.Data)
	return ev
}

// outbound is a packet on its way out.
type outbound struct {
	ev   *PacketEvent // nil: nobody wants it
	conn uint64       // that it is about; 0: none
	seg  sent         // of the connection that sends it, if it is a connection's
}

// packetOut says what is to be told of a packet on its way out.
func (s *Stack) packetOut(l *link, pkt *stack.PacketBuffer) (o outbound) {
	var ev *PacketEvent
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
		o.ev = ev
		ev.GSO = segmentSize(pkt, ev.Len, ev.Data)
		if len(th) == 0 && firstFragment(pkt) {
			tp, th = transportOf(pkt.NetworkProtocolNumber, ev.Data)
		}
	}
	src, dst, ok := outboundAddrs(pkt)
	if !ok || len(th) < 4 || tp != header.TCPProtocolNumber && tp != header.UDPProtocolNumber {
		return o
	}
	t := FourTuple{Src: portOf(dst, th[2:]), Dst: portOf(src, th)}
	ep := s.ns.FindTransportEndpoint(pkt.NetworkProtocolNumber, tp, idOf(t), l.id)
	if ep, ok := ep.(tcpip.Endpoint); ok && ev != nil {
		if k := s.sys.byEndpoint(ep); k != nil {
			ev.FD = k.fd
		}
	}
	conn := tcpOf(ep)
	if conn == nil || conn.State() == tcpListen {
		if tp == header.TCPProtocolNumber {
			o.conn = s.events.answered(pair{t.Dst, t.Src}, header.TCP(th))
		}
		return o
	}
	o.conn = s.events.observe(conn)
	var c Cause
	if o.seg, ok = conn.Sending(pkt); ok {
		c = s.events.sending(o.seg)
	}
	if ev != nil {
		ev.State, ev.Retransmit = conn.State().String(), c
	}
	return o
}

// leaves publishes a packet that is on its way out, or is dropped.
func (h *hub) leaves(o *outbound, drop string) {
	if o.ev != nil {
		o.ev.Drop = drop
		h.Publish(Event{Conn: o.conn, Packet: o.ev})
	}
	h.sent(o.seg)
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
