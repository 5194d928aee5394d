package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// minTooBigMTU is the least MTU that every IPv4 link has (RFC 791 3.2). A smaller
// one in an ICMP error is a lie; netstack would send segments of one byte.
const minTooBigMTU = 68

// quotedTransport is how much of the transport header an ICMP error must quote
// (RFC 792): for TCP the ports and the sequence number.
const quotedTransport = 8

// falseTooBig reports whether an incoming packet is an ICMP error that asks TCP for
// smaller packets, and is not to be believed: its MTU is smaller than any link's, or
// the sequence number it quotes is not in flight (RFC 5927 4.1, RFC 8201 section 4),
// so that whoever sent it has not seen the connection. netstack believes all of them.
//
// Only ICMP errors are looked at closely, so it costs other packets a comparison.
func (l *link) falseTooBig(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) bool {
	if l.loopback || l.s.unguarded {
		return false
	}
	if b, ok := pkt.Data().PullUp(header.IPv4MinimumSize); !ok || !mayBeICMP(proto, b) {
		return false
	}
	b, ok := pkt.Data().PullUp(min(pkt.Data().Size(), maxQuoteV6))
	if !ok {
		return false
	}
	tp, icmp := transportOf(proto, b)
	var local, remote tcpip.Address
	var quoted []byte // the start of the TCP segment that is said to be too big
	switch {
	case proto == ipv4.ProtocolNumber && tp == header.ICMPv4ProtocolNumber && header.IPv4(b).FragmentOffset() == 0:
		h := header.ICMPv4(icmp)
		if len(h) < header.ICMPv4MinimumSize+header.IPv4MinimumSize || h.Type() != header.ICMPv4DstUnreachable || h.Code() != header.ICMPv4FragmentationNeeded {
			return false
		}
		if mtu := h.MTU(); mtu != 0 && mtu < minTooBigMTU {
			return true
		}
		q := header.IPv4(icmp[header.ICMPv4MinimumSize:])
		if n := int(q.HeaderLength()); q.TransportProtocol() == header.TCPProtocolNumber && n >= header.IPv4MinimumSize && n <= len(q) {
			local, remote, quoted = q.SourceAddress(), q.DestinationAddress(), q[n:]
		}
	case proto != ipv4.ProtocolNumber && tp == header.ICMPv6ProtocolNumber:
		h := header.ICMPv6(icmp)
		if len(h) < header.ICMPv6PacketTooBigMinimumSize+header.IPv6MinimumSize || h.Type() != header.ICMPv6PacketTooBig {
			return false
		}
		if h.MTU() < header.IPv6MinimumMTU {
			return true // RFC 8201 section 4: such a message is discarded
		}
		q := header.IPv6(icmp[header.ICMPv6PacketTooBigMinimumSize:])
		if q.NextHeader() == uint8(header.TCPProtocolNumber) {
			local, remote, quoted = q.SourceAddress(), q.DestinationAddress(), q[header.IPv6MinimumSize:]
		}
	}
	if len(quoted) < quotedTransport {
		return false // not about TCP, or netstack will find no connection either
	}
	seg := header.TCP(quoted)
	id := stack.TransportEndpointID{LocalAddress: local, LocalPort: seg.SourcePort(), RemoteAddress: remote, RemotePort: seg.DestinationPort()}
	e, ok := l.s.ns.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, l.id).(*tcp.Endpoint)
	return ok && synchronized(e) && !inFlight(e, seqnum.Value(seg.SequenceNumber()))
}

// mayBeICMP looks at the protocol field of an IP header's first 20 bytes.
func mayBeICMP(proto tcpip.NetworkProtocolNumber, b []byte) bool {
	if proto == ipv4.ProtocolNumber {
		return header.IPv4(b).Protocol() == uint8(header.ICMPv4ProtocolNumber)
	}
	return header.IPv6(b).NextHeader() == uint8(header.ICMPv6ProtocolNumber)
}
