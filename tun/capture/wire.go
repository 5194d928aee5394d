package capture

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/segment"
)

// Wire returns what p is on a wire: a TCP super-packet becomes its segments, each with p's comments, and a checksum
// that was left to a device is completed. A packet that is not whole, or is on a wire what it is, is returned as it is.
func (p Packet) Wire() []Packet {
	if p.Length > len(p.Data) {
		return []Packet{p}
	}
	return p.wire(p.gso())
}

func (p Packet) wire(gso stack.GSO) []Packet {
	if !gso.NeedsCsum {
		return []Packet{p}
	}
	var all []Packet
	for _, b := range segment.Packets(append([]byte(nil), p.Data...), gso) { // which it changes
		p.Data, p.Length, p.MSS, p.NoChecksum, p.Super = b, len(b), 0, false, false
		all = append(all, p)
		p.Lost = 0
	}
	return all
}

// mark says what is left to be done for p, as gso has it.
func (p *Packet) mark(gso stack.GSO) {
	p.NoChecksum = p.NoChecksum || gso.NeedsCsum
	l4 := int(gso.L3HdrLen)
	if gso.Type == stack.GSONone || len(p.Data) < l4+header.TCPMinimumSize {
		return
	}
	headers := l4 + int(header.TCP(p.Data[l4:]).DataOffset())
	p.Super = p.Super || max(p.Length, len(p.Data)) > headers+int(gso.MSS)
}

// gso finds out what is left to be done for a packet, as netstack would say it. A checksum that is left to a device
// is the sum over the pseudo-header alone, and as such wrong.
func (p Packet) gso() (gso stack.GSO) {
	if p.Length > len(p.Data) {
		return p.cutGSO()
	}
	decoded, err := packet.Parse(p.Data)
	if err != nil || decoded.Frag.Fragmented() || decoded.TCP == nil && decoded.UDP == nil {
		return gso
	}
	l4, addrs := int(p.Data[0]&0xf)*4, p.Data[12:20]
	gso.Type = stack.GSOTCPv4
	if decoded.Version == 6 {
		if p.Data[6] != decoded.Proto {
			return stack.GSO{} // extension headers, which no stack leaves to a device
		}
		l4, addrs, gso.Type = header.IPv6MinimumSize, p.Data[8:40], stack.GSOTCPv6
	}
	sumAt := header.TCPChecksumOffset
	if decoded.UDP != nil {
		sumAt = 6 // RFC 768
	}
	if super := decoded.TCP != nil && p.MSS > 0 && len(decoded.Payload) > p.MSS; !super {
		gso.Type = stack.GSONone
		pseudo := ^packet.Checksum(addrs, uint32(decoded.Proto)+uint32(decoded.Length-l4))
		if binary.BigEndian.Uint16(p.Data[l4+sumAt:]) != pseudo || decoded.Verify() == nil {
			return stack.GSO{}
		}
	}
	gso.NeedsCsum, gso.L3HdrLen, gso.CsumOffset, gso.MSS = true, uint16(l4), uint16(sumAt), uint16(p.MSS)
	return gso
}

// cutGSO is gso for a packet of which only the start is there: whether its checksum is right cannot be known, but
// who gave it an MSS knew it for a super-packet.
func (p Packet) cutGSO() stack.GSO {
	if p.MSS == 0 || len(p.Data) == 0 {
		return stack.GSO{}
	}
	gso := stack.GSO{NeedsCsum: true, Type: stack.GSOTCPv4, L3HdrLen: uint16(p.Data[0]&0xf) * 4, MSS: uint16(p.MSS)}
	if p.Data[0]>>4 == header.IPv6Version {
		gso.Type, gso.L3HdrLen = stack.GSOTCPv6, header.IPv6MinimumSize
	}
	return gso
}
