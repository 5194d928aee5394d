package mend

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

// FalseTooBig reports whether a packet that has come in on a link, and carries the ICMP
// message icmp as transport tp, asks TCP for smaller packets and is not to be believed:
// its MTU is smaller than any link's, or the sequence number it quotes is not in flight
// (RFC 5927 4.1, RFC 8201 section 4), so that whoever sent it has not seen the
// connection. netstack believes all of them.
func (g *Guards) FalseTooBig(nic tcpip.NICID, proto tcpip.NetworkProtocolNumber, tp tcpip.TransportProtocolNumber, icmp []byte) bool {
	var local, remote tcpip.Address
	var quoted []byte // the start of the TCP segment that is said to be too big
	switch {
	case proto == ipv4.ProtocolNumber && tp == header.ICMPv4ProtocolNumber:
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
	e, ok := g.netstack.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, nic).(*tcp.Endpoint)
	return ok && synchronized(e) && !inFlight(e, seqnum.Value(seg.SequenceNumber()))
}
