package tun

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// vnetHdrLen is the size of the legacy virtio-net header that precedes each frame of the Offload driver.
const vnetHdrLen = 10

// Flags and types of a virtio-net header: Virtual I/O Device (VIRTIO) 1.2, section 5.1.6.
const (
	vnetNeedsCsum = 1 // the transport checksum holds the pseudo-header's sum only
	vnetDataValid = 2 // the sender has verified the checksum

	vnetGSONone  = 0
	vnetGSOTCPv4 = 1
	vnetGSOTCPv6 = 4
)

// vnetHdr is a virtio-net header. hdr_len is missing on purpose: we set it for the kernel, which wants
// to know how much to copy into linear memory, and never believe the one we are given.
type vnetHdr struct {
	flags      uint8
	gsoType    uint8
	gsoSize    uint16 // MSS of the segments to be, in bytes
	csumStart  uint16 // where the checksum starts, in bytes from the start of the IP header
	csumOffset uint16 // where it is to be stored, in bytes from csumStart
}

// encode writes h, in the host's byte order as legacy virtio has it, into b[:vnetHdrLen].
func (h vnetHdr) encode(b []byte, hdrLen uint16) {
	_ = b[vnetHdrLen-1]
	b[0] = h.flags
	b[1] = h.gsoType
	binary.NativeEndian.PutUint16(b[2:], hdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.gsoSize)
	binary.NativeEndian.PutUint16(b[6:], h.csumStart)
	binary.NativeEndian.PutUint16(b[8:], h.csumOffset)
}

// decodeVnetHdr reads b[:vnetHdrLen].
func decodeVnetHdr(b []byte) vnetHdr {
	_ = b[vnetHdrLen-1]
	return vnetHdr{
		flags:      b[0],
		gsoType:    b[1],
		gsoSize:    binary.NativeEndian.Uint16(b[4:]),
		csumStart:  binary.NativeEndian.Uint16(b[6:]),
		csumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// vnetHdrFor returns the header for an outbound packet, and the length of its IP and transport headers.
// netstack has put the pseudo-header's sum into the checksum field of a packet whose GSOOptions say
// NeedsCsum; every other packet is complete as it is.
func vnetHdrFor(pkt *stack.PacketBuffer) (h vnetHdr, hdrLen uint16) {
	gso := &pkt.GSOOptions
	if !gso.NeedsCsum {
		return vnetHdr{}, 0
	}
	h = vnetHdr{flags: vnetNeedsCsum, csumStart: gso.L3HdrLen, csumOffset: gso.CsumOffset}
	payload := pkt.Data().Size()
	hdrLen = uint16(pkt.Size() - payload)
	if payload <= int(gso.MSS) {
		return h, hdrLen
	}
	switch gso.Type {
	case stack.GSOTCPv4:
		h.gsoType, h.gsoSize = vnetGSOTCPv4, gso.MSS
	case stack.GSOTCPv6:
		h.gsoType, h.gsoSize = vnetGSOTCPv6, gso.MSS
	}
	return h, hdrLen
}

// A verdict says what becomes of an inbound frame.
type verdict uint8

const (
	accept verdict = iota
	dropNotIP
	dropTruncated
	dropBadVnetHdr
	dropBadChecksum
)

// inspect decides on an inbound frame that came with the virtio-net header h: it finds where the IP and
// transport headers are by reading them, checks h against that, and verifies every checksum that h does
// not vouch for. For a frame with a partial checksum it returns, as gso, what an outbound packet of that
// kind carries in its GSOOptions.
//
// With CapabilityRXChecksumOffload netstack verifies neither the IPv4 header nor TCP or UDP (ICMP it
// does), so all of them are verified here. A fragment's transport checksum covers a datagram that is not
// whole yet, and stays unverified.
func inspect(h vnetHdr, f frame) (proto protocol, gso stack.GSO, v verdict) {
	ip, v := parseIP(f)
	if v != accept {
		return 0, gso, v
	}
	// Checksums of the transport header at ip.l4, if it is TCP or UDP, and one we can see whole.
	csumOffset := -1
	if !ip.opaque {
		switch ip.transport {
		case header.TCPProtocolNumber:
			csumOffset = header.TCPChecksumOffset
		case header.UDPProtocolNumber:
			csumOffset = udpChecksumOffset
		}
		if csumOffset >= 0 && ip.l4+csumOffset+2 > min(ip.end, len(f.head())) {
			return 0, gso, dropTruncated
		}
	}

	if h.gsoType != vnetGSONone {
		// The kernel asks for segmentation of TCP only (that is all we offered), and always leaves the
		// checksum to whoever segments.
		want := uint8(vnetGSOTCPv4)
		gso.Type = stack.GSOTCPv4
		if ip.proto == header.IPv6ProtocolNumber {
			want, gso.Type = vnetGSOTCPv6, stack.GSOTCPv6
		}
		if h.gsoType != want || h.gsoSize == 0 || h.flags&vnetNeedsCsum == 0 ||
			csumOffset != header.TCPChecksumOffset || int(h.csumStart) != ip.l4 {
			return 0, stack.GSO{}, dropBadVnetHdr
		}
		gso.MSS = h.gsoSize
	}

	switch {
	case h.flags&vnetNeedsCsum != 0:
		start, offset := int(h.csumStart), int(h.csumOffset)
		if start == ip.l4 && offset == csumOffset {
			gso.NeedsCsum, gso.L3HdrLen, gso.CsumOffset = true, h.csumStart, h.csumOffset
			return ip.proto, gso, accept
		}
		// The partial sum lies deeper, in a packet that the outer one carries (a tunnel): complete it,
		// then treat the frame as any other.
		if start < ip.l4 || start+offset+2 > min(ip.end, len(f.head())) || gso.Type != stack.GSONone {
			return 0, stack.GSO{}, dropBadVnetHdr
		}
		sum := ^f.sum(start, ip.end, 0)
		if sum == 0 {
			sum = 0xffff // the same number in ones' complement; to UDP zero would mean no checksum (RFC 768)
		}
		binary.BigEndian.PutUint16(f.head()[start+offset:], sum)
	case h.flags&vnetDataValid != 0:
		return ip.proto, gso, accept
	}
	if csumOffset >= 0 && !ip.transportChecksumOK(f, csumOffset) {
		return 0, stack.GSO{}, dropBadChecksum
	}
	return ip.proto, gso, accept
}

// probeFrame is a TCP packet of two segments whose virtio-net header asks for one offload: gsoType, or
// with vnetGSONone the checksum only. Its addresses are for documentation (RFC 5737, RFC 3849).
func probeFrame(gsoType uint8) []byte {
	const mss, segments, tcpHdrLen = 100, 2, header.TCPMinimumSize
	ipHdrLen := header.IPv4MinimumSize
	if gsoType == vnetGSOTCPv6 {
		ipHdrLen = header.IPv6MinimumSize
	}
	b := make([]byte, vnetHdrLen+ipHdrLen+tcpHdrLen+segments*mss)
	h := vnetHdr{flags: vnetNeedsCsum, gsoType: gsoType, csumStart: uint16(ipHdrLen), csumOffset: header.TCPChecksumOffset}
	if gsoType != vnetGSONone {
		h.gsoSize = mss
	}
	h.encode(b, uint16(ipHdrLen+tcpHdrLen))

	ip := b[vnetHdrLen:]
	if gsoType == vnetGSOTCPv6 {
		header.IPv6(ip).Encode(&header.IPv6Fields{
			PayloadLength:     uint16(len(ip) - ipHdrLen),
			TransportProtocol: header.TCPProtocolNumber,
			HopLimit:          1,
			SrcAddr:           tcpip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}),
			DstAddr:           tcpip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 2}),
		})
	} else {
		header.IPv4(ip).Encode(&header.IPv4Fields{
			TotalLength: uint16(len(ip)),
			TTL:         1,
			Protocol:    uint8(header.TCPProtocolNumber),
			SrcAddr:     tcpip.AddrFrom4([4]byte{192, 0, 2, 1}),
			DstAddr:     tcpip.AddrFrom4([4]byte{192, 0, 2, 2}),
		})
		header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
	}
	header.TCP(ip[ipHdrLen:]).Encode(&header.TCPFields{SrcPort: 1, DstPort: 1, DataOffset: tcpHdrLen, Flags: header.TCPFlagAck})
	return b
}
