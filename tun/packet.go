package tun

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

type protocol = tcpip.NetworkProtocolNumber

// udpChecksumOffset is where a UDP header has its checksum, in bytes: RFC 768.
const udpChecksumOffset = 6

// frame is an inbound frame in the pieces it was read into, without its virtio-net header. All headers
// must lie in the first piece; each piece but the last has an even length.
type frame [][]byte

func (f frame) head() []byte { return f[0] }

func (f frame) len() (n int) {
	for _, piece := range f {
		n += len(piece)
	}
	return n
}

// sum is the Internet checksum's ones' complement sum (RFC 1071) of the bytes from start to end, added to initial.
func (f frame) sum(start, end int, initial uint16) uint16 {
	var c checksum.Checksumer
	for _, piece := range f {
		c.Add(piece[min(start, len(piece)):min(end, len(piece))])
		start, end = max(start-len(piece), 0), max(end-len(piece), 0)
	}
	return checksum.Combine(initial, c.Checksum())
}

// ipPacket is what the headers of an IP packet say of its layout. Offsets are in bytes from its start.
type ipPacket struct {
	proto     protocol
	transport tcpip.TransportProtocolNumber
	l4        int // where the transport header starts
	end       int // where the packet ends; the frame may be longer (padding)

	// opaque is true when the transport checksum cannot be computed from this packet alone: it is a
	// fragment, or a routing header is still to change its destination.
	opaque bool
}

// parseIP finds the transport header. It verifies the IPv4 header's checksum and all lengths.
func parseIP(f frame) (ipPacket, verdict) {
	size := f.len()
	if size == 0 {
		return ipPacket{}, dropNotIP
	}
	switch b := f.head(); b[0] >> 4 {
	case header.IPv4Version:
		return parseIPv4(b, size)
	case header.IPv6Version:
		return parseIPv6(b, size)
	}
	return ipPacket{}, dropNotIP
}

// parseIPv4: RFC 791 section 3.1.
func parseIPv4(b []byte, size int) (ipPacket, verdict) {
	if len(b) < header.IPv4MinimumSize {
		return ipPacket{}, dropTruncated
	}
	p := ipPacket{
		proto:     header.IPv4ProtocolNumber,
		transport: tcpip.TransportProtocolNumber(b[9]),
		l4:        int(b[0]&0xf) * 4,
		end:       int(binary.BigEndian.Uint16(b[2:])),
	}
	if p.l4 < header.IPv4MinimumSize || p.l4 > p.end || p.end > size || p.l4 > len(b) {
		return ipPacket{}, dropTruncated
	}
	if checksum.Checksum(b[:p.l4], 0) != 0xffff {
		return ipPacket{}, dropBadChecksum
	}
	const moreFragmentsOrOffset = 0x3fff
	p.opaque = binary.BigEndian.Uint16(b[6:])&moreFragmentsOrOffset != 0
	return p, accept
}

// parseIPv6 walks the chain of extension headers: RFC 8200 section 4.
func parseIPv6(b []byte, size int) (ipPacket, verdict) {
	if len(b) < header.IPv6MinimumSize {
		return ipPacket{}, dropTruncated
	}
	p := ipPacket{
		proto: header.IPv6ProtocolNumber,
		l4:    header.IPv6MinimumSize,
		end:   header.IPv6MinimumSize + int(binary.BigEndian.Uint16(b[4:])),
	}
	if p.end > size {
		return ipPacket{}, dropTruncated
	}
	next := b[6]
	for {
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6HopByHopOptionsExtHdrIdentifier, header.IPv6DestinationOptionsExtHdrIdentifier,
			header.IPv6RoutingExtHdrIdentifier, header.IPv6FragmentExtHdrIdentifier:
		default:
			p.transport = tcpip.TransportProtocolNumber(next)
			return p, accept
		}
		ext := b[min(p.l4, len(b)):min(p.end, len(b))]
		if len(ext) < 8 {
			return ipPacket{}, dropTruncated
		}
		size := 8
		switch header.IPv6ExtensionHeaderIdentifier(next) {
		case header.IPv6FragmentExtHdrIdentifier:
			const offsetOrMore = 0xfff9
			if binary.BigEndian.Uint16(ext[2:])&offsetOrMore != 0 {
				p.opaque = true
				return p, accept // what follows may be the middle of anything
			}
		case header.IPv6RoutingExtHdrIdentifier:
			segmentsLeft := ext[3]
			p.opaque = p.opaque || segmentsLeft != 0
			size += int(ext[1]) * 8
		default:
			size += int(ext[1]) * 8
		}
		if size > len(ext) {
			return ipPacket{}, dropTruncated
		}
		next = ext[0]
		p.l4 += size
	}
}

// transportChecksumOK verifies the checksum of the TCP or UDP packet f, found offset bytes into its
// transport header: RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1.
func (p *ipPacket) transportChecksumOK(f frame, offset int) bool {
	b := f.head()
	end := p.end
	if p.transport == header.UDPProtocolNumber {
		if binary.BigEndian.Uint16(b[p.l4+offset:]) == 0 {
			return p.proto == header.IPv4ProtocolNumber // zero means none, which IPv6 forbids
		}
		length := int(binary.BigEndian.Uint16(b[p.l4+4:]))
		if length < header.UDPMinimumSize || p.l4+length > p.end {
			return true // malformed, which is netstack's to say and to count
		}
		end = p.l4 + length
	}
	addrs := b[12:20]
	if p.proto == header.IPv6ProtocolNumber {
		addrs = b[8:40]
	}
	pseudo := checksum.Checksum(addrs, uint16(p.transport))
	pseudo = checksum.Combine(pseudo, uint16(end-p.l4))
	return f.sum(p.l4, end, pseudo) == 0xffff
}
