package stack

import (
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// queuer is what netstack's demultiplexer calls with the endpoint it chose.
type queuer interface {
	QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer)
}

// tcpProtocol is netstack's TCP with our place between the demultiplexer and the
// endpoint: here the socket of a packet is known, and steering may change it.
type tcpProtocol struct {
	stack.TransportProtocol
	stack.SendBufSizeProto // netstack asks its TCP for it
	queue                  queuer
	s                      *Stack
	pause                  sync.Mutex // one quiesce at a time
}

func (s *Stack) newTCP(ns *stack.Stack) stack.TransportProtocol {
	p := tcp.NewProtocol(ns)
	s.tcp = &tcpProtocol{TransportProtocol: p, SendBufSizeProto: p.(stack.SendBufSizeProto), queue: p.(queuer), s: s}
	return s.tcp
}

// QueuePacket is called by netstack's demultiplexer with its choice, ep.
func (p *tcpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if p.s.steer.Load() != nil || p.s.events.on() {
		ep = p.s.chooseTCP(ep, id, pkt)
	}
	p.queue.QueuePacket(ep, id, pkt)
}

// HandleUnknownDestinationPacket is called when no endpoint matches: steering
// may still name a listener, else netstack answers with RST.
func (p *tcpProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if p.s.steer.Load() != nil || p.s.events.on() {
		if ep := p.s.chooseTCP(nil, id, pkt); ep != nil {
			p.queue.QueuePacket(ep, id, pkt)
			return stack.UnknownDestinationPacketHandled
		}
	}
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

// quiesce waits until each TCP processor has emptied its queue.
func (p *tcpProtocol) quiesce() {
	p.pause.Lock()
	defer p.pause.Unlock()
	p.Pause()
	p.Resume()
}

func (s *Stack) chooseTCP(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.TransportEndpoint {
	t := tupleOf("tcp", id)
	if !s.events.on() {
		return s.selectSocket(ep, t, id, pkt.NICID, nil)
	}
	l := &SocketLookup{Tuple: t, FD: -1}
	ep = s.explainSocket(ep, id, pkt.NICID, l)
	s.events.socketChosen(pkt, l)
	if e, ok := ep.(*tcp.Endpoint); ok {
		s.events.watch(e)
	}
	return ep
}

// udpProtocol is netstack's UDP with the same place for lookups and steering.
type udpProtocol struct {
	stack.TransportProtocol
	s *Stack
}

// QueuePacket is called by netstack's demultiplexer with its choice, ep.
func (p *udpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	if p.s.steer.Load() != nil || p.s.events.on() {
		ep = p.s.chooseUDP(ep, id, pkt)
	}
	ep.HandlePacket(id, pkt)
}

// HandleUnknownDestinationPacket is called when no endpoint matches: steering may
// still name a socket, else netstack answers with ICMP port unreachable.
func (p *udpProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if p.s.steer.Load() != nil || p.s.events.on() {
		if ep := p.s.chooseUDP(nil, id, pkt); ep != nil {
			ep.HandlePacket(id, pkt)
			return stack.UnknownDestinationPacketHandled
		}
	}
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

func (s *Stack) chooseUDP(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.TransportEndpoint {
	if !s.events.on() {
		return s.selectSocket(ep, tupleOf("udp", id), id, pkt.NICID, nil)
	}
	l := &SocketLookup{Tuple: tupleOf("udp", id), FD: -1}
	ep = s.explainSocket(ep, id, pkt.NICID, l)
	s.events.socketChosen(pkt, l)
	return ep
}

// FourTuple names a packet's flow as the packet does: from Src to Dst.
type FourTuple struct {
	Network string         `json:"network"` // "tcp" or "udp"
	Src     netip.AddrPort `json:"src"`
	Dst     netip.AddrPort `json:"dst"`
}

func tupleOf(network string, id stack.TransportEndpointID) FourTuple {
	return FourTuple{
		Network: network,
		Src:     netip.AddrPortFrom(fromTCPIP(id.RemoteAddress), id.RemotePort),
		Dst:     netip.AddrPortFrom(fromTCPIP(id.LocalAddress), id.LocalPort),
	}
}

func (t FourTuple) id() stack.TransportEndpointID {
	return stack.TransportEndpointID{
		LocalAddress: toTCPIP(t.Dst.Addr()), LocalPort: t.Dst.Port(),
		RemoteAddress: toTCPIP(t.Src.Addr()), RemotePort: t.Src.Port(),
	}
}

func (t FourTuple) protos() (tcpip.NetworkProtocolNumber, tcpip.TransportProtocolNumber) {
	n := familyOf(t.Dst.Addr()).netProto()
	if t.Network == "udp" {
		return n, udp.ProtocolNumber
	}
	return n, tcp.ProtocolNumber
}

// The steps of a socket lookup, in the order in which they are tried.
const (
	StepExact    = "exact 4-tuple"
	StepSteering = "steering rules"
	StepAddrPort = "listener on address:port"
	StepPort     = "listener on any address:port"
)

// SocketTry is one step of a socket lookup.
type SocketTry struct {
	Step      string         `json:"step"`
	Candidate string         `json:"candidate"` // what was looked for
	FD        int            `json:"fd"`        // the socket found, or -1
	Local     netip.AddrPort `json:"local,omitzero"`
	Remote    netip.AddrPort `json:"remote,omitzero"`
	State     string         `json:"state,omitempty"`
	Match     bool           `json:"match"`
	Why       string         `json:"why"`
}

// SocketLookup is the answer to "whose packet is this", with the way to it.
type SocketLookup struct {
	Tuple  FourTuple   `json:"tuple"`
	Tries  []SocketTry `json:"tries"`
	Found  bool        `json:"found"`
	FD     int         `json:"fd"`              // the winner's fd; -1 if none, or if the application has not accepted it yet
	State  string      `json:"state,omitempty"` // the winner's TCP state before the packet
	Answer string      `json:"answer"`          // in words
}

// LookupSocket says which socket a packet of this flow would reach, and what was
// tried on the way. The choice is made by the code that chooses for packets.
func (s *Stack) LookupSocket(t FourTuple) *SocketLookup {
	t.Src = netip.AddrPortFrom(t.Src.Addr().Unmap(), t.Src.Port())
	t.Dst = netip.AddrPortFrom(t.Dst.Addr().Unmap(), t.Dst.Port())
	l := &SocketLookup{Tuple: t, FD: -1}
	np, tp := t.protos()
	nic := s.nicFor(t)
	s.explainSocket(s.ns.FindTransportEndpoint(np, tp, t.id(), nic), t.id(), nic, l)
	return l
}

// nicFor is the link such a packet would arrive on: the one that leads to its source.
func (s *Stack) nicFor(t FourTuple) tcpip.NICID {
	if l, _, _, err := s.output(netip.Addr{}, t.Src.Addr()); err == nil {
		return l.id
	}
	return 0
}

// selectSocket completes netstack's choice, ep, with steering: an exact match
// stands, then a steering rule decides, then netstack's listener.
func (s *Stack) selectSocket(ep stack.TransportEndpoint, t FourTuple, id stack.TransportEndpointID, nic tcpip.NICID, steered **SteerRule) stack.TransportEndpoint {
	if ep != nil && isExact(ep) {
		return ep
	}
	r := s.steer.Load().match(t)
	if r == nil {
		return ep
	}
	if steered != nil {
		*steered = r
	}
	target := id
	target.LocalPort = r.To.Port()
	if a := r.To.Addr(); a.IsValid() && !a.IsUnspecified() {
		target.LocalAddress = toTCPIP(a)
	}
	np, tp := t.protos()
	if to := s.ns.FindTransportEndpoint(np, tp, target, nic); to != nil && !isExact(to) {
		return to
	}
	return ep // nobody listens where the rule points
}

// isExact reports whether ep was found by its full 4-tuple: it is no listener and
// no unconnected UDP socket.
func isExact(ep stack.TransportEndpoint) bool {
	switch e := ep.(type) {
	case *tcp.Endpoint:
		return e.EndpointState() != tcp.StateListen
	case tcpip.Endpoint:
		info, ok := e.Info().(*stack.TransportEndpointInfo)
		return ok && info.ID.RemotePort != 0
	}
	return false
}

// explainSocket is selectSocket with the tries written down.
func (s *Stack) explainSocket(ep stack.TransportEndpoint, id stack.TransportEndpointID, nic tcpip.NICID, l *SocketLookup) stack.TransportEndpoint {
	var rule *SteerRule
	won := s.selectSocket(ep, l.Tuple, id, nic, &rule)
	t := l.Tuple
	try := func(step, candidate, missing string, match bool) {
		st := SocketTry{Step: step, Candidate: candidate, FD: -1, Match: match, Why: missing}
		if match {
			s.describe(won, &st)
		}
		l.Tries = append(l.Tries, st)
	}
	l.Found = won != nil
	defer func() {
		if last := len(l.Tries) - 1; l.Found && l.Tries[last].Match {
			l.FD, l.State = l.Tries[last].FD, l.Tries[last].State
		}
	}()

	exact := won != nil && isExact(won)
	try(StepExact, t.Network+" "+t.Dst.String()+" <- "+t.Src.String(), "no socket with this 4-tuple", exact)
	if exact {
		l.Answer = "the connection itself"
		return won
	}
	bySteering := rule != nil && won != ep
	switch {
	case s.steer.Load() == nil:
		try(StepSteering, "", "there are no steering rules", false)
	case rule == nil:
		try(StepSteering, "", "no rule covers "+t.Dst.String(), false)
	default:
		try(StepSteering, rule.String(), "the rule points to "+rule.To.String()+", where no other socket listens", bySteering)
		if bySteering {
			l.Answer = "steered to " + rule.To.String()
			return won
		}
	}
	noAddr, noPort := "nobody listens on exactly this address and port", "nobody listens on this port"
	if t.Network == "udp" {
		noAddr, noPort = "no socket is bound to exactly this address and port", "no socket is bound to this port"
	}
	bound := won != nil && boundAddr(won).IsValid()
	try(StepAddrPort, t.Dst.String(), noAddr, bound)
	if bound {
		l.Answer = "the listener on this address"
		return won
	}
	any := "*:" + portString(t.Dst.Port())
	try(StepPort, any, noPort, won != nil)
	switch {
	case won != nil:
		l.Answer = "the listener on any address"
	case t.Network == "udp":
		l.Answer = "no socket: ICMP port unreachable"
	default:
		l.Answer = "no socket: RST"
	}
	return won
}

// boundAddr is the local address that ep is bound to; zero for "any".
func boundAddr(ep stack.TransportEndpoint) netip.Addr {
	switch e := ep.(type) {
	case *tcp.Endpoint:
		// BindAddr is written once, before the endpoint can be found.
		return fromTCPIP(e.BindAddr)
	case tcpip.Endpoint:
		if info, ok := e.Info().(*stack.TransportEndpointInfo); ok {
			return fromTCPIP(info.BindAddr)
		}
	}
	return netip.Addr{}
}

// describe fills in what is known of the socket behind ep.
func (s *Stack) describe(ep stack.TransportEndpoint, t *SocketTry) {
	t.Why = "match"
	e, ok := ep.(tcpip.Endpoint)
	if !ok {
		return
	}
	if k := s.sys.byEndpoint(e); k != nil {
		t.FD = k.fd
	}
	var id stack.TransportEndpointID
	if te, ok := ep.(*tcp.Endpoint); ok {
		t.State = stateName(te.EndpointState())
		// Not GetLocalAddress, which locks: a sender may hold the lock of the
		// peer that sends here at this moment through lo. The ID of an endpoint
		// that can be found does not change.
		id = te.TransportEndpointInfo.ID
	} else if info, ok := e.Info().(*stack.TransportEndpointInfo); ok {
		id = info.ID
		t.State = "UNCONN"
		if id.RemotePort != 0 {
			t.State = "ESTABLISHED"
		}
	}
	t.Local = netip.AddrPortFrom(fromTCPIP(id.LocalAddress), id.LocalPort)
	if id.RemotePort != 0 {
		t.Remote = netip.AddrPortFrom(fromTCPIP(id.RemoteAddress), id.RemotePort)
	}
}

// stateName gives a TCP state its name in RFC 9293.
func stateName(st tcp.EndpointState) string {
	switch st {
	case tcp.StateEstablished:
		return "ESTABLISHED"
	case tcp.StateSynSent:
		return "SYN-SENT"
	case tcp.StateSynRecv:
		return "SYN-RECEIVED"
	case tcp.StateFinWait1:
		return "FIN-WAIT-1"
	case tcp.StateFinWait2:
		return "FIN-WAIT-2"
	case tcp.StateTimeWait:
		return "TIME-WAIT"
	case tcp.StateCloseWait:
		return "CLOSE-WAIT"
	case tcp.StateLastAck:
		return "LAST-ACK"
	case tcp.StateClosing:
		return "CLOSING"
	case tcp.StateListen:
		return "LISTEN"
	case tcp.StateConnecting:
		return "CONNECTING" // between SYN and SYN-ACK, netstack's own
	}
	return "CLOSED"
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
			return header.IPv6(b).TransportProtocol(), b[header.IPv6MinimumSize:]
		}
	}
	return 0, nil
}
