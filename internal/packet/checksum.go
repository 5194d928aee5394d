package packet

import (
	"encoding/binary"
	"fmt"
)

// Checksum is the Internet checksum of b (RFC 1071), continued from the sum given: zero to start.
func Checksum(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
		sum = sum>>16 + sum&0xffff
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Verify checks the IP header's and the transport's checksum. A fragment's transport checksum covers more than the
// fragment and is not checked, nor is that of a UDP packet over IPv4 without one.
func (p *Packet) Verify() error {
	if p.Version == 4 {
		if Checksum(p.header, 0) != 0 {
			return fmt.Errorf("IPv4 header checksum %#04x is wrong", binary.BigEndian.Uint16(p.header[10:]))
		}
	}
	if p.Frag.Fragmented() {
		return nil
	}
	switch {
	case p.TCP != nil:
		if Checksum(p.transport, p.pseudoHeader()) != 0 {
			return fmt.Errorf("TCP checksum %#04x is wrong", p.TCP.Checksum)
		}
	case p.UDP != nil:
		if p.UDP.Checksum == 0 && p.Version == 4 {
			return nil
		}
		if Checksum(p.transport, p.pseudoHeader()) != 0 {
			return fmt.Errorf("UDP checksum %#04x is wrong", p.UDP.Checksum)
		}
	case p.ICMP != nil:
		var sum uint32
		if p.Version == 6 {
			sum = p.pseudoHeader() // RFC 4443 section 2.3
		}
		if Checksum(p.transport, sum) != 0 {
			return fmt.Errorf("ICMP checksum %#04x is wrong", p.ICMP.Checksum)
		}
	}
	return nil
}

// pseudoHeader is the sum over addresses, protocol and length (RFC 9293 section 3.1, RFC 8200 section 8.1).
func (p *Packet) pseudoHeader() uint32 {
	b := append(p.Src.AsSlice(), p.Dst.AsSlice()...)
	return uint32(^Checksum(b, 0)) + uint32(p.Proto) + uint32(len(p.transport))
}
