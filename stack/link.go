package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/batching"
	"github.com/catflap/catflap/stack/internal/mend"
)

// link stands between a link endpoint and netstack. It asks the routing policy
// database about every packet, both ways, and lets through what it allows.
// nested.Endpoint hands GSO on, so that TSO frames cross whole.
type link struct {
	rx, tx traffic // what came and what left

	nested.Endpoint
	s        *Stack
	id       tcpip.NICID
	name     string
	loopback bool
	thin     mend.ThinACKs     // inbound
	delayed  *mend.DelayedACKs // outbound; nil: none is delayed
}

// dropCounters count packets that the routing policy database did not let
// through, by the kernel's names for such drops.
type dropCounters struct {
	inNoRoutes, inNotLocal, martian, notUnicast, blackhole, unreachable, prohibit, outNoRoutes, falseTooBig, tooBig, tinyFragment, fragmentedICMP, paws, ackTooOld, ackUnsent atomic.Uint64
}

// Drops counts packets that did not get past the link: the routing policy database
// did not let them through, or a guard.
type Drops struct {
	InNoRoutes  uint64 `json:"in_no_routes"` // IP_INNOROUTES: no rule led to a route
	InNotLocal  uint64 `json:"in_not_local"` // matched a unicast route and forwarding is off
	Martian     uint64 `json:"martian"`      // IP_INVALID_SOURCE, IP_INVALID_DEST
	NotUnicast  uint64 `json:"not_unicast"`  // TCP or echo to a broadcast or multicast address
	Blackhole   uint64 `json:"blackhole"`
	Unreachable uint64 `json:"unreachable"`
	Prohibit    uint64 `json:"prohibit"`
	OutNoRoutes uint64 `json:"out_no_routes"` // IP_OUTNOROUTES: sent by this stack, no route
	FalseTooBig uint64 `json:"false_too_big"` // ICMP "too big" that is not to be believed: see Config.NoGuards

	TooBig uint64 `json:"too_big"` // PKT_TOO_BIG: to be forwarded to a link that it does not fit, and not to be cut

	TinyFragment   uint64 `json:"tiny_fragment"`   // a fragment that splits the transport header (RFC 1858, RFC 7112)
	FragmentedICMP uint64 `json:"fragmented_icmp"` // a fragment of an ICMP message other than an echo

	PAWS      uint64 `json:"paws"`        // TCP_RFC7323_PAWS: a time stamp older than the last
	AckTooOld uint64 `json:"ack_too_old"` // TCP_TOO_OLD_ACK: acknowledges less than any window reaches back to
	AckUnsent uint64 `json:"ack_unsent"`  // TCP_ACK_UNSENT_DATA: acknowledges what was never sent
}

// Drops returns the counts since New.
func (s *Stack) Drops() Drops {
	d := &s.drops
	return Drops{
		InNoRoutes: d.inNoRoutes.Load(), InNotLocal: d.inNotLocal.Load(), Martian: d.martian.Load(), NotUnicast: d.notUnicast.Load(), Blackhole: d.blackhole.Load(),
		Unreachable: d.unreachable.Load(), Prohibit: d.prohibit.Load(), OutNoRoutes: d.outNoRoutes.Load(), FalseTooBig: d.falseTooBig.Load(),
		TooBig: d.tooBig.Load(), TinyFragment: d.tinyFragment.Load(), FragmentedICMP: d.fragmentedICMP.Load(),
		PAWS: d.paws.Load(), AckTooOld: d.ackTooOld.Load(), AckUnsent: d.ackUnsent.Load(),
	}
}

// drop counts a packet stopped by a route of type t and returns the reason's name.
func (d *dropCounters) drop(t RouteType) string {
	switch t {
	case Blackhole:
		d.blackhole.Add(1)
		return "BLACKHOLE"
	case Prohibit:
		d.prohibit.Add(1)
		return "PROHIBIT"
	}
	d.unreachable.Add(1)
	return "UNREACHABLE"
}

// DeliverNetworkPacket implements stack.NetworkDispatcher: a packet has come in.
func (l *link) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	l.rx.count(pkt.Size())
	src, dst, ok := inboundAddrs(proto, pkt)
	if !ok {
		// netstack counts it as malformed.
		l.Endpoint.DeliverNetworkPacket(proto, pkt)
		return
	}
	q := RouteQuery{Src: src, Dst: dst, IIF: l.name}
	var rt *Route
	var ev *PacketEvent // nil: nobody follows, or it has been published
	if l.s.events.on(PacketEvents) {
		ev = l.s.packetIn(l, proto, pkt)
		ev.Route, rt = l.s.db.Load().Explain(q)
	} else {
		_, rt = l.s.db.Load().Decide(q, nil)
	}
	drop := l.admit(proto, pkt, rt)
	if ev != nil {
		ev.Drop = drop
		if drop == "" && rt.Type != Unicast && forSocket(proto, ev.Data) {
			// transport.go completes and publishes the event when a socket is chosen.
			l.s.events.expect(pkt, ev)
		} else {
			l.s.events.unclaimed(proto, ev)
			ev = nil
		}
	}
	switch {
	case drop == "" && rt.Type == Unicast:
		l.forward(proto, pkt)
	case drop == "":
		l.Endpoint.DeliverNetworkPacket(proto, pkt)
	case drop == dropTooBig:
		l.s.sendTooBig(l, proto, pkt, l.s.mtuOf(rt))
	case rt != nil:
		l.s.sendUnreachable(l, proto, pkt, rt.Type)
	}
	if ev != nil {
		l.s.events.finish(proto, pkt, ev)
	}
}

var _ batching.Dispatcher = (*link)(nil)

// DeliverBatched implements batching.Dispatcher. No ACK is left out while somebody
// listens to packets, who is to see them all, nor by a stack that forwards: others' ACKs
// are not ours to leave out.
func (l *link) DeliverBatched(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	switch {
	case l.s.fwd:
		l.DeliverNetworkPacket(proto, pkt)
	case l.s.events.on(PacketEvents):
		l.EndBatch() // what was held before somebody listened
		l.DeliverNetworkPacket(proto, pkt)
	default:
		l.thin.Deliver(proto, pkt)
	}
}

// EndBatch implements batching.Dispatcher.
func (l *link) EndBatch() { l.thin.Flush() }

// falseTooBig reports whether an incoming packet is an ICMP error that asks for smaller
// packets and is not to be believed.
func (l *link) falseTooBig(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) bool {
	if l.loopback || l.s.guards == nil {
		return false
	}
	b, ok := pkt.Data().PullUp(min(pkt.Data().Size(), maxQuoteV6))
	if !ok || proto == ipv4.ProtocolNumber && header.IPv4(b).FragmentOffset() != 0 {
		return false
	}
	tp, icmp := transportOf(proto, b)
	return l.s.guards.FalseTooBig(l.id, proto, tp, icmp)
}

// forSocket reports whether a whole packet is for a socket, so that its event
// waits for the choice of one.
func forSocket(proto tcpip.NetworkProtocolNumber, b []byte) bool {
	if proto == ipv4.ProtocolNumber && len(b) >= header.IPv4MinimumSize && (header.IPv4(b).More() || header.IPv4(b).FragmentOffset() != 0) {
		return false
	}
	tp, _ := transportOf(proto, b)
	return tp == header.TCPProtocolNumber || tp == header.UDPProtocolNumber
}

// admit says what becomes of an incoming packet whose route is rt: "" to hand it
// to netstack, else why it was dropped.
func (l *link) admit(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, rt *Route) string {
	switch {
	case rt == nil:
		l.s.drops.inNoRoutes.Add(1)
		return "IP_INNOROUTES"
	case rt.Martian() != "":
		l.s.drops.martian.Add(1)
		return rt.Martian()
	case rt.Type == Broadcast || rt.Type == Multicast:
		if unicastOnly(proto, pkt) {
			l.s.drops.notUnicast.Add(1)
			return "NOT_UNICAST"
		}
		return l.admitFragment(proto, pkt)
	case rt.Type == Local:
		if b, ok := pkt.Data().PullUp(header.IPv4MinimumSize); ok && plain(proto, b) {
			return ""
		}
		if l.falseTooBig(proto, pkt) {
			l.s.drops.falseTooBig.Add(1)
			return "FALSE_TOO_BIG"
		}
		return l.admitFragment(proto, pkt)
	case rt.Type == Unicast:
		switch {
		case !l.s.fwd:
			l.s.drops.inNotLocal.Add(1)
			return "IP_INADDRERRORS"
		case tooBig(proto, pkt, l.s.mtuOf(rt)):
			l.s.drops.tooBig.Add(1)
			return dropTooBig
		}
		return ""
	}
	return l.s.drops.drop(rt.Type)
}

// plain reports whether the first 20 bytes of an IP header are those of a whole TCP
// segment or UDP datagram, which only its socket judges.
func plain(proto tcpip.NetworkProtocolNumber, b []byte) bool {
	var tp tcpip.TransportProtocolNumber
	if h := header.IPv4(b); proto == ipv4.ProtocolNumber && !h.More() && h.FragmentOffset() == 0 {
		tp = h.TransportProtocol()
	} else if proto != ipv4.ProtocolNumber {
		tp = tcpip.TransportProtocolNumber(header.IPv6(b).NextHeader())
	}
	return tp == header.TCPProtocolNumber || tp == header.UDPProtocolNumber
}

// admitFragment is admit for what netstack would put together here.
func (l *link) admitFragment(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) string {
	why := unfitFragment(proto, pkt)
	switch why {
	case dropTinyFragment:
		l.s.drops.tinyFragment.Add(1)
	case dropFragmentedICMP:
		l.s.drops.fragmentedICMP.Add(1)
	}
	return why
}

// unicastOnly reports whether a packet must not go to many: TCP (RFC 9293 3.9.2.3),
// and IPv4 echo requests, which Linux ignores (icmp_echo_ignore_broadcasts) since
// the answers of all would drown the one who seems to have asked.
func unicastOnly(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) bool {
	b, _ := pkt.Data().PullUp(min(pkt.Data().Size(), header.IPv4MaximumHeaderSize+header.ICMPv4MinimumSize))
	switch tp, payload := transportOf(proto, b); tp {
	case header.TCPProtocolNumber:
		return true
	case header.ICMPv4ProtocolNumber:
		return proto == ipv4.ProtocolNumber && header.IPv4(b).FragmentOffset() == 0 && len(payload) > 0 && header.ICMPv4Type(payload[0]) == header.ICMPv4Echo
	}
	return false
}

// egress is what netstack hands a link's packets to, one by one, with the lock of
// the connection if it is TCP's. Its WritePacket returns once the link has it.
type egress struct{ l *link }

var _ stack.QueueingDiscipline = egress{}

// WritePacket implements stack.QueueingDiscipline.
func (e egress) WritePacket(pkt *stack.PacketBuffer) tcpip.Error {
	e.l.s.stalls.Sending()
	if d := e.l.delayed; d != nil && d.Hold(pkt) || e.l.s.tcp.mutes(pkt) {
		return nil
	}
	return e.l.send(pkt)
}

var _ mend.Link = egress{}

// ID implements mend.Link.
func (e egress) ID() tcpip.NICID { return e.l.id }

// MTU implements mend.Link.
func (e egress) MTU() uint32 { return e.l.MTU() }

// Send implements mend.Link.
func (e egress) Send(pkt *stack.PacketBuffer) tcpip.Error { return e.l.send(pkt) }

// Close implements stack.QueueingDiscipline. There is no queue.
func (egress) Close() {}

// packetLists are lists of one packet, as link endpoints take them.
var packetLists = sync.Pool{New: func() any { return new(stack.PacketBufferList) }}

// send puts a packet on the link, as its route has it. Packets for a local address
// turn round through lo, whatever link netstack chose.
func (l *link) send(pkt *stack.PacketBuffer) tcpip.Error {
	if (!l.loopback || l.s.events.on(segmentEvents)) && l.dispose(pkt) {
		return nil
	}
	l.tx.count(pkt.Size())
	list := packetLists.Get().(*stack.PacketBufferList)
	list.PushBack(pkt.IncRef())
	_, err := l.Endpoint.WritePackets(*list)
	list.Reset()
	packetLists.Put(list)
	return err
}

// dispose looks the route of an outgoing packet up and reports whether the packet
// needs no sending: it was delivered here or dropped.
func (l *link) dispose(pkt *stack.PacketBuffer) bool {
	src, dst, ok := outboundAddrs(pkt)
	if !ok {
		return false
	}
	q := RouteQuery{Src: src, Dst: dst}
	var rt *Route
	var o outbound
	if l.s.events.on(segmentEvents) {
		o = l.s.packetOut(l, pkt)
	}
	if o.ev != nil {
		o.ev.Route, rt = l.s.db.Load().Explain(q)
	} else {
		_, rt = l.s.db.Load().Decide(q, nil)
	}
	drop := ""
	switch {
	case l.loopback:
	case rt == nil:
		// Link-local and solicited traffic has no route of its own.
		if !dst.IsLinkLocalUnicast() {
			l.s.drops.outNoRoutes.Add(1)
			drop = "IP_OUTNOROUTES"
		}
	case rt.Err() != nil:
		drop = l.s.drops.drop(rt.Type)
	case rt.Type == Local:
		l.s.events.leaves(&o, "")
		in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
		l.s.lo.tx.count(in.Size())
		l.s.lo.DeliverNetworkPacket(pkt.NetworkProtocolNumber, in)
		in.DecRef()
		return true
	}
	l.s.events.leaves(&o, drop)
	return drop != ""
}

// inboundAddrs reads the addresses of a packet that netstack has not parsed yet.
func inboundAddrs(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) (src, dst netip.Addr, ok bool) {
	switch proto {
	case ipv4.ProtocolNumber:
		b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
		if !ok {
			return src, dst, false
		}
		src, dst = v4Addrs(b)
		return src, dst, true
	case ipv6.ProtocolNumber:
		b, ok := pkt.Data().PullUp(header.IPv6MinimumSize)
		if !ok {
			return src, dst, false
		}
		src, dst = v6Addrs(b)
		return src, dst, true
	}
	return src, dst, false
}

func outboundAddrs(pkt *stack.PacketBuffer) (src, dst netip.Addr, ok bool) {
	b := pkt.NetworkHeader().Slice()
	switch {
	case pkt.NetworkProtocolNumber == ipv4.ProtocolNumber && len(b) >= header.IPv4MinimumSize:
		src, dst = v4Addrs(b)
	case pkt.NetworkProtocolNumber == ipv6.ProtocolNumber && len(b) >= header.IPv6MinimumSize:
		src, dst = v6Addrs(b)
	default:
		return src, dst, false
	}
	return src, dst, true
}

func v4Addrs(h []byte) (src, dst netip.Addr) {
	return netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
}

func v6Addrs(h []byte) (src, dst netip.Addr) {
	return netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
}
