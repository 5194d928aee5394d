package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// What may not reach reassembly. The first is the name of the attack in RFC 1858.
const (
	dropTinyFragment   = "TINY_FRAGMENT"   // a first fragment without the whole transport header, or a later one over it
	dropFragmentedICMP = "FRAGMENTED_ICMP" // a fragment of an ICMP message that no sender has to cut
)

// unfitFragment says why a packet for this stack may not be put together with others:
// "" for a whole packet and for a fragment that may.
//
// The first fragment has the whole transport header (RFC 1858 3, and RFC 7112 5 for
// IPv6). netstack's IPv4 depends on it: it reads the IP header of the packet that it
// has put together once more after it has pulled up the transport header, which frees
// the first fragment's memory if the header goes on in the second. Whoever is given
// that memory meanwhile decides what netstack reads, and it may end the process.
//
// ICMP is put together for echoes alone. An error is smaller than any MTU (RFC 1812
// 4.3.2.3, RFC 4443 2.4(c)), so that nobody has to cut one, and in pieces it would get
// past falseTooBig; neighbour discovery may not be cut (RFC 6980 5).
func unfitFragment(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) string {
	var f fragment
	var ok bool
	if proto == ipv4.ProtocolNumber {
		f, ok = fragmentV4(pkt)
	} else {
		f, ok = fragmentV6(pkt)
	}
	switch {
	case !ok:
		return ""
	case f.offset > 0:
		// What follows a first fragment with the whole header begins behind the header.
		if proto == ipv4.ProtocolNumber && f.transport == header.TCPProtocolNumber && f.offset < header.TCPMinimumSize {
			return dropTinyFragment
		}
		return ""
	}
	size := 0 // of the transport header
	switch f.transport {
	case header.TCPProtocolNumber:
		size = header.TCPMinimumSize
		if len(f.data) >= size {
			size = max(size, int(header.TCP(f.data).DataOffset()))
		}
	case header.UDPProtocolNumber:
		size = header.UDPMinimumSize
	case header.ICMPv4ProtocolNumber, header.ICMPv6ProtocolNumber:
		size = header.ICMPv4MinimumSize // an echo's, in both
		if len(f.data) > 0 && !isEcho(f.transport, f.data[0]) {
			return dropFragmentedICMP
		}
	case noTransport:
		return dropTinyFragment
	}
	if len(f.data) < size {
		return dropTinyFragment
	}
	return ""
}

// fragment is what a fragment says of itself.
type fragment struct {
	offset    int                           // bytes
	transport tcpip.TransportProtocolNumber // in IPv6 of the first fragment only
	data      []byte                        // of the first fragment: its start from the transport header on
}

// fragmentV4 reads an incoming packet, and reports whether it is a fragment.
func fragmentV4(pkt *stack.PacketBuffer) (f fragment, ok bool) {
	b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	if !ok {
		return f, false // netstack counts it as malformed
	}
	h := header.IPv4(b)
	if !h.More() && h.FragmentOffset() == 0 {
		return f, false
	}
	f.offset, f.transport = int(h.FragmentOffset()), h.TransportProtocol()
	b, _ = pkt.Data().PullUp(min(pkt.Data().Size(), header.IPv4MaximumHeaderSize+header.TCPHeaderMaximumSize))
	f.data = b[min(int(h.HeaderLength()), len(b)):]
	return f, true
}

// fragmentV6 is fragmentV4 for IPv6.
func fragmentV6(pkt *stack.PacketBuffer) (f fragment, ok bool) {
	b, ok := pkt.Data().PullUp(header.IPv6MinimumSize)
	if !ok {
		return f, false
	}
	next := header.IPv6(b).NextHeader()
	switch tcpip.TransportProtocolNumber(next) {
	case header.TCPProtocolNumber, header.UDPProtocolNumber, header.ICMPv6ProtocolNumber:
		return f, false
	}
	b, _ = pkt.Data().PullUp(pkt.Data().Size())
	return walkExtensions(next, b[header.IPv6MinimumSize:])
}

// isEcho reports whether a type of ICMP message is that of an echo request or reply.
func isEcho(tp tcpip.TransportProtocolNumber, typ byte) bool {
	if tp == header.ICMPv4ProtocolNumber {
		return header.ICMPv4Type(typ) == header.ICMPv4Echo || header.ICMPv4Type(typ) == header.ICMPv4EchoReply
	}
	return header.ICMPv6Type(typ) == header.ICMPv6EchoRequest || header.ICMPv6Type(typ) == header.ICMPv6EchoReply
}

// noTransport is the protocol of a packet that ends before its chain of headers does.
const noTransport = tcpip.TransportProtocolNumber(header.IPv6NoNextHeaderIdentifier)

// walkExtensions follows the chain of IPv6 extension headers in b, the first of which
// is next (RFC 8200 4), and reports whether the packet is a fragment. A first fragment
// has noTransport if the chain goes on in another one.
func walkExtensions(next uint8, b []byte) (f fragment, ok bool) {
	for {
		size := 8
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6RoutingExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier:
			if len(b) >= 2 {
				size += 8 * int(b[1])
			}
		case header.IPv6FragmentExtHdrIdentifier:
			if len(b) < size {
				break
			}
			h := header.IPv6Fragment(b)
			f.offset = int(h.FragmentOffset()) * header.IPv6FragmentExtHdrFragmentOffsetBytesPerUnit
			ok = ok || h.More() || f.offset > 0 // else an atomic fragment (RFC 6946)
			if f.offset > 0 {
				return f, ok
			}
		default:
			f.transport, f.data = tcpip.TransportProtocolNumber(next), b
			return f, ok
		}
		if len(b) < size {
			f.transport = noTransport
			return f, ok
		}
		next, b = b[0], b[size:]
	}
}
