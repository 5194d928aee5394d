package stack

import (
	"encoding/binary"
	"hash/fnv"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/catflap/catflap/stack/route"
)

// chooses reports whether netstack's choice of a socket is to be completed, or told
// to somebody who wants events of these kinds.
func (s *Stack) chooses(kinds EventKinds) bool {
	return s.steer.Load() != nil || s.forwarders.Load() != nil || s.events.on(kinds)
}

func (s *Stack) chooseTCP(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) choice {
	q := query{FourTuple: tupleOf("tcp", id)}
	if seg := header.TCP(pkt.TransportHeader().Slice()); len(seg) >= header.TCPMinimumSize {
		q.opens = opensFlow(seg.Flags())
	}
	if s.reopens(ep, q, pkt) {
		ep, q.reopens = nil, true
	}
	if !s.events.on(segmentEvents) {
		return s.selectSocket(ep, q)
	}
	var c choice
	var l *SocketLookup // of a packet that has an event
	if _, ok := pkt.Owner.(*tag); ok {
		l = &SocketLookup{Tuple: q.FourTuple, FD: -1}
		c = s.explainSocket(ep, q, l)
	} else {
		c = s.selectSocket(ep, q)
	}
	conn := s.events.arrived(tcpOf(c.ep), q.FourTuple, pkt)
	if l != nil {
		s.events.socketChosen(pkt, l, conn)
	}
	return c
}

// udpProtocol is netstack's UDP with the same place for lookups and steering.
type udpProtocol struct {
	stack.TransportProtocol
	s *Stack
}

// QueuePacket is called by netstack's demultiplexer with its choice, ep.
func (p *udpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if p.s.steer.Load() != nil || p.s.events.on(PacketEvents) {
		ep = p.s.chooseUDP(ep, id, pkt).ep
	}
	ep.HandlePacket(id, pkt)
}

// HandleUnknownDestinationPacket is called when no endpoint matches: steering may still
// name a socket, or a forwarder open one, else netstack answers with ICMP port unreachable.
func (p *udpProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if p.s.chooses(PacketEvents) {
		c := p.s.chooseUDP(nil, id, pkt)
		if c.ep != nil {
			c.ep.HandlePacket(id, pkt)
			return stack.UnknownDestinationPacketHandled
		}
		if c.forwarder != nil && c.forwarder.datagram(id, pkt) {
			return stack.UnknownDestinationPacketHandled
		}
	}
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

func (s *Stack) chooseUDP(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) choice {
	q := query{FourTuple: tupleOf("udp", id), opens: true}
	if !s.events.on(PacketEvents) {
		return s.selectSocket(ep, q)
	}
	l := &SocketLookup{Tuple: q.FourTuple, FD: -1}
	c := s.explainSocket(ep, q, l)
	s.events.socketChosen(pkt, l, 0)
	return c
}

func tupleOf(network string, id stack.TransportEndpointID) FourTuple {
	return FourTuple{
		Network: network,
		Src:     netip.AddrPortFrom(fromTCPIP(id.RemoteAddress), id.RemotePort),
		Dst:     netip.AddrPortFrom(fromTCPIP(id.LocalAddress), id.LocalPort),
	}
}

func idOf(t FourTuple) stack.TransportEndpointID {
	return stack.TransportEndpointID{
		LocalAddress: toTCPIP(t.Dst.Addr()), LocalPort: t.Dst.Port(),
		RemoteAddress: toTCPIP(t.Src.Addr()), RemotePort: t.Src.Port(),
	}
}

// flowHash spreads flows.
func flowHash(t FourTuple, seed uint32) uint32 {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 64), seed)
	for _, ap := range [...]netip.AddrPort{t.Src, t.Dst} {
		b = binary.BigEndian.AppendUint16(append(b, ap.Addr().AsSlice()...), ap.Port())
	}
	h := fnv.New32a()
	h.Write(b)
	return h.Sum32()
}

func protosOf(t FourTuple) (tcpip.NetworkProtocolNumber, tcpip.TransportProtocolNumber) {
	n := netProto(route.FamilyOf(t.Dst.Addr()))
	if t.Network == "udp" {
		return n, udp.ProtocolNumber
	}
	return n, header.TCPProtocolNumber
}

// LookupSocket says which socket a packet of this flow would reach, and what was
// tried on the way. The choice is made by the code that chooses for packets.
func (s *Stack) LookupSocket(t FourTuple) *SocketLookup {
	t.Src = netip.AddrPortFrom(t.Src.Addr().Unmap(), t.Src.Port())
	t.Dst = netip.AddrPortFrom(t.Dst.Addr().Unmap(), t.Dst.Port())
	l := &SocketLookup{Tuple: t, FD: -1}
	if _, rt := s.db.Load().Decide(RouteQuery{Dst: t.Dst.Addr()}, nil); t.Network == "tcp" && rt != nil && (rt.Type == Broadcast || rt.Type == Multicast) {
		l.Answer = "none: TCP is for one receiver, and a " + rt.Type.String() + " is dropped"
		return l
	}
	np, tp := protosOf(t)
	s.explainSocket(s.ns.FindTransportEndpoint(np, tp, idOf(t), s.nicFor(t)), query{FourTuple: t, opens: true}, l)
	return l
}

// nicFor is the link such a packet would arrive on: the one that leads to its source.
func (s *Stack) nicFor(t FourTuple) tcpip.NICID {
	if l, _, err := s.output(netip.Addr{}, t.Src.Addr()); err == nil {
		return l.id
	}
	return 0
}

// query is what selectSocket is asked.
type query struct {
	FourTuple
	opens   bool // the packet may begin a flow: it is a SYN, or a datagram
	reopens bool // and it ends a connection in TIME-WAIT
}

// choice is what selectSocket chose, and why.
type choice struct {
	ep   stack.TransportEndpoint // nil: no socket
	kind choiceKind
	rule *SteerRule // the steering rule that covers the flow, if one was looked for

	forwarder *Forwarder   // who takes a flow for which there is no socket
	forward   *ForwardRule // by which of its rules
}

type choiceKind uint8

const (
	choseListener choiceKind = iota // netstack's choice among those that wait, or nothing
	choseExact
	choseSteered
)

// selectSocket completes netstack's choice, ep, with steering and forwarders: an exact
// match stands, then a steering rule decides, then netstack's listener, then a forwarder.
func (s *Stack) selectSocket(ep stack.TransportEndpoint, q query) choice {
	c := s.selectSteered(ep, q.FourTuple)
	if c.ep == nil {
		c.forwarder, c.forward = s.covering(q.Network, q.Dst)
	}
	return c
}

// selectSteered is selectSocket without forwarders.
func (s *Stack) selectSteered(ep stack.TransportEndpoint, t FourTuple) choice {
	if ep != nil && s.isExact(ep) {
		return choice{ep: ep, kind: choseExact}
	}
	r := s.steer.Load().match(t)
	if r == nil {
		return choice{ep: ep}
	}
	to := r.To
	if to.Addr().IsUnspecified() {
		to = netip.AddrPortFrom(t.Dst.Addr(), to.Port())
	}
	group := s.sys.waiting(t.Network == "tcp", to)
	if len(group) == 0 {
		return choice{ep: ep, rule: r} // nobody listens where the rule points
	}
	// A SO_REUSEPORT group shares the flows out.
	k := group[flowHash(t, s.seed)%uint32(len(group))]
	return choice{ep: k.ep.(stack.TransportEndpoint), kind: choseSteered, rule: r}
}

// isExact reports whether ep was found by its full 4-tuple: it is no listener and
// no unconnected UDP socket. It takes no lock of an endpoint: the caller may hold
// locks of netstack's demultiplexer, which come after those.
func (s *Stack) isExact(ep any) bool {
	if c := tcpOf(ep); c != nil {
		return c.State() != tcpListen
	}
	k := s.socketOf(ep)
	return k != nil && !k.waits()
}

// waits reports whether k takes new flows: it is a listener, or a datagram socket
// without a peer.
func (k *socket) waits() bool {
	if c := tcpOf(k.ep); c != nil {
		return c.State() == tcpListen
	}
	return !k.connected.Load()
}

// socketOf is the socket behind ep, nil if it has none.
func (s *Stack) socketOf(ep any) *socket {
	if e, ok := ep.(tcpip.Endpoint); ok {
		return s.sys.byEndpoint(e)
	}
	return nil
}

// explainSocket is selectSocket with the tries written down.
func (s *Stack) explainSocket(ep stack.TransportEndpoint, q query, l *SocketLookup) choice {
	t := q.FourTuple
	c := s.selectSocket(ep, q)
	try := func(step, candidate, missing string, match bool, answer string) bool {
		st := SocketTry{Step: step, Candidate: candidate, FD: -1, Match: match, Why: missing}
		if match {
			s.describe(c, t, &st)
			l.Found, l.FD, l.State, l.Answer = true, st.FD, st.State, answer
		}
		l.Tries = append(l.Tries, st)
		return match
	}
	noTuple := "no socket with this 4-tuple"
	if q.reopens {
		noTuple = "in TIME-WAIT, which this newer SYN ends (RFC 1122 4.2.2.13)"
	}
	if try(StepExact, t.Network+" "+t.Dst.String()+" <- "+t.Src.String(), noTuple, c.kind == choseExact,
		"the connection itself") {
		return c
	}
	switch steered := c.kind == choseSteered; {
	case s.steer.Load() == nil:
		try(StepSteering, "", "there are no steering rules", false, "")
	case c.rule == nil:
		try(StepSteering, "", "no rule covers "+t.Dst.String(), false, "")
	case try(StepSteering, c.rule.String(), "nobody listens on "+c.rule.target(), steered, "steered to "+c.rule.target()):
		return c
	}
	what, noAddr, noPort := "listener", "nobody listens on exactly this address and port", "nobody listens on this port"
	if t.Network == "udp" {
		what, noAddr, noPort = "socket", "no socket is bound to exactly this address and port", "no socket is bound to this port"
	}
	k := s.socketOf(c.ep)
	bound := k != nil && k.boundTo.Load() != nil
	if try(StepAddrPort, t.Dst.String(), noAddr, bound, "the "+what+" on this address") ||
		try(StepPort, "*:"+portString(t.Dst.Port()), noPort, c.ep != nil, "the "+what+" on any address") {
		return c
	}
	if s.forwarders.Load() != nil && s.explainForwarder(c, q, l) {
		return c
	}
	l.Answer = "no socket: RST"
	if t.Network == "udp" {
		l.Answer = "no socket: ICMP port unreachable"
	}
	return c
}

// describe fills in what is known of the socket that c chose for a packet of flow
// f. Like isExact it takes no lock of an endpoint.
func (s *Stack) describe(c choice, f FourTuple, t *SocketTry) {
	t.Why = "match"
	k := s.socketOf(c.ep)
	if k != nil {
		t.FD = k.fd
	}
	exact := c.kind == choseExact
	switch conn := tcpOf(c.ep); {
	case conn != nil:
		t.State = conn.State().String()
	case exact:
		t.State = "ESTABLISHED"
	default:
		t.State = "UNCONN"
	}
	switch {
	case exact:
		t.Local, t.Remote = f.Dst, f.Src
	case k != nil:
		t.Local = s.sys.announcement(k)
	}
}

// transportOf finds the transport header of an IP packet, for events.
func transportOf(proto tcpip.NetworkProtocolNumber, b []byte) (tcpip.TransportProtocolNumber, []byte) {
	switch proto {
	case ipv4.ProtocolNumber:
		h := header.IPv4(b)
		if len(b) >= header.IPv4MinimumSize && int(h.HeaderLength()) <= len(b) {
			return h.TransportProtocol(), b[h.HeaderLength():]
		}
	case ipv6.ProtocolNumber:
		if len(b) >= header.IPv6MinimumSize {
			return tcpip.TransportProtocolNumber(header.IPv6(b).NextHeader()), b[header.IPv6MinimumSize:]
		}
	}
	return 0, nil
}
