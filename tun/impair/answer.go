package impair

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/catflap/catflap/internal/packet"
)

// answerHopLimit is that of packets made here: Linux's default.
const answerHopLimit = 64

// resetFor is the RST that the peer of p's sender would answer p with if it knew no such connection: RFC 9293
// section 3.5.2. It is nil if p is no TCP segment, or an RST.
func resetFor(p *packet.Packet) []byte {
	t := p.TCP
	if t == nil || t.Flags&packet.RST != 0 {
		return nil
	}
	f := header.TCPFields{SrcPort: t.DstPort, DstPort: t.SrcPort, DataOffset: header.TCPMinimumSize}
	if t.Flags&packet.ACK != 0 {
		f.Flags, f.SeqNum = header.TCPFlagRst, t.Ack
	} else {
		f.Flags, f.AckNum = header.TCPFlagRst|header.TCPFlagAck, t.Seq+uint32(len(p.Payload))
		if t.Flags&packet.SYN != 0 {
			f.AckNum++
		}
		if t.Flags&packet.FIN != 0 {
			f.AckNum++
		}
	}
	b, l4 := answer(p, packet.ProtoTCP, header.TCPMinimumSize)
	header.TCP(b[l4:]).Encode(&f)
	finish(b, l4, packet.ProtoTCP, header.TCPChecksumOffset)
	return b
}

// tooBigFor is the ICMP error of a router whose next link has that MTU: RFC 1191 section 4, RFC 4443 section 3.2.
// Its source is where p was to go, so that no other address needs to exist.
func tooBigFor(p *packet.Packet, quoted []byte, mtu int) []byte {
	// As much of the packet as fits the smallest MTU: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4.
	const v4Most, v6Most = 576, header.IPv6MinimumMTU
	if p.Version == 4 {
		quoted = quoted[:min(len(quoted), v4Most-header.IPv4MinimumSize-header.ICMPv4MinimumSize)]
		b, l4 := answer(p, packet.ProtoICMP, header.ICMPv4MinimumSize+len(quoted))
		icmp := header.ICMPv4(b[l4:])
		icmp.SetType(header.ICMPv4DstUnreachable)
		icmp.SetCode(header.ICMPv4FragmentationNeeded)
		icmp.SetMTU(uint16(mtu))
		copy(b[l4+header.ICMPv4MinimumSize:], quoted)
		binary.BigEndian.PutUint16(b[l4+2:], ^checksum.Checksum(b[l4:], 0))
		return b
	}
	quoted = quoted[:min(len(quoted), v6Most-header.IPv6MinimumSize-header.ICMPv6PacketTooBigMinimumSize)]
	b, l4 := answer(p, packet.ProtoICMPv6, header.ICMPv6PacketTooBigMinimumSize+len(quoted))
	icmp := header.ICMPv6(b[l4:])
	icmp.SetType(header.ICMPv6PacketTooBig)
	icmp.SetMTU(uint32(mtu))
	copy(b[l4+header.ICMPv6PacketTooBigMinimumSize:], quoted)
	finish(b, l4, packet.ProtoICMPv6, 2)
	return b
}

// answer returns a packet to p's sender with an IP header and room for so many bytes from l4 on.
func answer(p *packet.Packet, proto uint8, size int) (b []byte, l4 int) {
	src, dst := tcpip.AddrFromSlice(p.Dst.AsSlice()), tcpip.AddrFromSlice(p.Src.AsSlice())
	if p.Version == 4 {
		b = make([]byte, header.IPv4MinimumSize+size)
		ip := header.IPv4(b)
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: answerHopLimit, Protocol: proto, SrcAddr: src, DstAddr: dst})
		ip.SetChecksum(^ip.CalculateChecksum())
		return b, header.IPv4MinimumSize
	}
	b = make([]byte, header.IPv6MinimumSize+size)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: uint16(size), TransportProtocol: tcpip.TransportProtocolNumber(proto), HopLimit: answerHopLimit, SrcAddr: src, DstAddr: dst,
	})
	return b, header.IPv6MinimumSize
}

// finish stores the checksum, over the pseudo-header too, at an offset of the transport header.
func finish(b []byte, l4 int, proto uint8, at int) {
	addrs := b[12:20]
	if b[0]>>4 == header.IPv6Version {
		addrs = b[8:40]
	}
	sum := checksum.Checksum(addrs, uint16(proto))
	sum = checksum.Combine(sum, uint16(len(b)-l4))
	binary.BigEndian.PutUint16(b[l4+at:], ^checksum.Checksum(b[l4:], sum))
}

// setWindow changes the window field of the TCP segment at l4, and its checksum with it: RFC 1624 section 3.
func setWindow(b []byte, l4 int, window uint16) {
	const windowAt = 14
	old := binary.BigEndian.Uint16(b[l4+windowAt:])
	binary.BigEndian.PutUint16(b[l4+windowAt:], window)
	sum := ^binary.BigEndian.Uint16(b[l4+header.TCPChecksumOffset:])
	sum = checksum.Combine(sum, checksum.Combine(^old, window))
	binary.BigEndian.PutUint16(b[l4+header.TCPChecksumOffset:], ^sum)
}
