package stack

import (
	"math"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// handleICMPv4 answers echo requests for local addresses that no link carries
// (AnyIP): netstack itself answers only for assigned addresses. It sees requests
// after reassembly and checksum verification.
func (s *Stack) handleICMPv4(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv4(pkt.TransportHeader().Slice())
	if len(h) < header.ICMPv4MinimumSize || h.Type() != header.ICMPv4Echo {
		return false
	}
	if s.forwardEcho(id, pkt, h.Ident(), h.Sequence()) {
		return true
	}
	if !pkt.NetworkPacketInfo.LocalAddressTemporary {
		return false
	}
	if !s.ns.AllowICMPMessage() {
		return true
	}
	r, err := s.ns.FindRoute(pkt.NICID, id.LocalAddress, id.RemoteAddress, ipv4.ProtocolNumber, false)
	if err != nil {
		return true
	}
	defer r.Release()
	data := stack.PayloadSince(pkt.TransportHeader())
	defer data.Release()
	s.sendICMP(r, header.ICMPv4ProtocolNumber, data.AsSlice(), func(b []byte) {
		reply := header.ICMPv4(b)
		reply.SetType(header.ICMPv4EchoReply)
		reply.SetChecksum(0)
		reply.SetChecksum(^checksum.Checksum(b, 0))
	})
	return true
}

// Sizes of the quoted part of an ICMP error: RFC 1812 4.3.2.3 asks for as much as
// fits in 576 bytes, RFC 4443 2.4(c) in the minimum IPv6 MTU.
const (
	maxQuoteV4 = 576 - header.IPv4MinimumSize - header.ICMPv4MinimumSize
	maxQuoteV6 = header.IPv6MinimumMTU - header.IPv6MinimumSize - header.ICMPv6MinimumSize
)

// sendUnreachable tells the sender of pkt that a route of type t stopped it, as
// ip-route(8) defines: host unreachable, administratively prohibited, or nothing.
func (s *Stack) sendUnreachable(l *link, proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, t RouteType) {
	src, quote, ok := quoted(proto, pkt)
	if t != Unreachable && t != Prohibit || !ok || !s.ns.AllowICMPMessage() {
		return
	}
	v4, v6 := header.ICMPv4HostUnreachable, header.ICMPv6NetworkUnreachable
	if t == Prohibit {
		v4, v6 = header.ICMPv4AdminProhibited, header.ICMPv6Prohibited
	}
	s.writeUnreachable(l.id, proto, tcpip.Address{}, src, v4, v6, quote)
}

// quoted is who is told of an error about an incoming packet, and the start of the packet as the error quotes it; ok is
// false if nobody is to be told.
func quoted(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) (src netip.Addr, quote []byte, ok bool) {
	src, dst, ok := inboundAddrs(proto, pkt)
	if !ok || !src.IsGlobalUnicast() && !src.IsLinkLocalUnicast() || dst.IsMulticast() {
		return src, nil, false
	}
	max := maxQuoteV4
	if proto != ipv4.ProtocolNumber {
		max = maxQuoteV6
	}
	size := pkt.Data().Size()
	quote, ok = pkt.Data().PullUp(min(size, max))
	return src, quote, ok && deservesError(proto, quote, size)
}

// sendTooBig tells the sender of pkt the MTU of the link that it does not fit (RFC 1191 4, RFC 4443 3.2). As in Linux
// there is no limit on how often: who does not hear of it sends the same again.
func (s *Stack) sendTooBig(l *link, proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, mtu uint32) {
	src, quote, ok := quoted(proto, pkt)
	if !ok {
		return
	}
	r, err := s.ns.FindRoute(l.id, tcpip.Address{}, toTCPIP(src), proto, false)
	if err != nil {
		return
	}
	defer r.Release()
	if proto == ipv4.ProtocolNumber {
		b := make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(quote))
		s.sendICMP(r, header.ICMPv4ProtocolNumber, append(b, quote...), func(b []byte) {
			h := header.ICMPv4(b)
			h.SetType(header.ICMPv4DstUnreachable)
			h.SetCode(header.ICMPv4FragmentationNeeded)
			h.SetMTU(uint16(min(mtu, math.MaxUint16)))
			h.SetChecksum(^checksum.Checksum(b, 0))
		})
		return
	}
	b := make([]byte, header.ICMPv6MinimumSize, header.ICMPv6MinimumSize+len(quote))
	s.sendICMP(r, header.ICMPv6ProtocolNumber, append(b, quote...), func(b []byte) {
		h := header.ICMPv6(b)
		h.SetType(header.ICMPv6PacketTooBig)
		h.SetMTU(mtu)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: r.LocalAddress(), Dst: r.RemoteAddress()}))
	})
}

// writeUnreachable sends ICMP "destination unreachable" with the code of its family to
// src, about the packet that begins with quote, unless there are too many. It comes from
// an address of ours, the zero one standing for that of the device.
func (s *Stack) writeUnreachable(nic tcpip.NICID, proto tcpip.NetworkProtocolNumber, from tcpip.Address, src netip.Addr, v4 header.ICMPv4Code, v6 header.ICMPv6Code, quote []byte) {
	r, err := s.ns.FindRoute(nic, from, toTCPIP(src), proto, false)
	if err != nil {
		return
	}
	defer r.Release()
	if proto == ipv4.ProtocolNumber {
		b := make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(quote))
		s.sendICMP(r, header.ICMPv4ProtocolNumber, append(b, quote...), func(b []byte) {
			h := header.ICMPv4(b)
			h.SetType(header.ICMPv4DstUnreachable)
			h.SetCode(v4)
			h.SetChecksum(^checksum.Checksum(b, 0))
		})
		return
	}
	b := make([]byte, header.ICMPv6MinimumSize, header.ICMPv6MinimumSize+len(quote))
	s.sendICMP(r, header.ICMPv6ProtocolNumber, append(b, quote...), func(b []byte) {
		h := header.ICMPv6(b)
		h.SetType(header.ICMPv6DstUnreachable)
		h.SetCode(v6)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: r.LocalAddress(), Dst: r.RemoteAddress()}))
	})
}

// deservesError reports whether an ICMP error may be sent about a packet of size
// bytes that begins with b: its header is sound, and it is neither an ICMP error
// nor a later fragment (RFC 1122 3.2.2, RFC 4443 2.4(e)).
func deservesError(proto tcpip.NetworkProtocolNumber, b []byte, size int) bool {
	if proto == ipv4.ProtocolNumber {
		if h := header.IPv4(b); !h.IsValid(size) || !h.IsChecksumValid() || h.FragmentOffset() != 0 {
			return false
		}
	} else if !header.IPv6(b).IsValid(size) {
		return false
	}
	switch tp, p := transportOf(proto, b); tp {
	case header.ICMPv4ProtocolNumber:
		return len(p) > 0 && header.ICMPv4Type(p[0]) == header.ICMPv4Echo
	case header.ICMPv6ProtocolNumber:
		return len(p) > 0 && p[0] >= 128 // information
	}
	return true
}

// sendICMP sends an ICMP message through r after finish has set type and checksum
// in a copy of msg.
func (s *Stack) sendICMP(r *stack.Route, proto tcpip.TransportProtocolNumber, msg []byte, finish func([]byte)) {
	v := buffer.NewViewWithData(msg)
	finish(v.AsSlice())
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithView(v),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = proto
	if err := r.WritePacket(stack.NetworkHeaderParams{Protocol: proto, TTL: r.DefaultTTL()}, pkt); err != nil {
		s.log.Debug("icmp not sent", "to", fromTCPIP(r.RemoteAddress()), "error", err)
	}
}
