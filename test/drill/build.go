package drill

import (
	"encoding/binary"
	"net/netip"

	"github.com/catflap/catflap/internal/packet"
)

// defaultTTL is IANA's recommended value, which most hosts send.
const defaultTTL = 64

// maxOptions is what a TCP header has room for (RFC 9293 section 3.1: a data offset of at most 15 words).
const maxOptions = 40

// ipHeader are the fields of an IP header that a script may choose.
type ipHeader struct {
	src, dst netip.Addr
	proto    uint8
	info     IPInfo
}

// ip puts an IP header before a transport packet. sumAt is where in that packet its checksum belongs; the field must be
// zero, and is filled in.
func (h ipHeader) ip(transport []byte, sumAt int) []byte {
	pseudo := append(h.src.AsSlice(), h.dst.AsSlice()...)
	pseudo = append(pseudo, 0, h.proto)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(transport)))
	if h.proto == packet.ProtoICMP {
		pseudo = nil // RFC 792: over the message alone
	}
	sum := packet.Checksum(transport, uint32(^packet.Checksum(pseudo, 0)))
	if sum == 0 && h.proto == packet.ProtoUDP {
		sum = 0xffff // RFC 768: zero means that there is none
	}
	if h.info.NoSum {
		sum = 0
	}
	if h.info.BadSum {
		sum ^= 0x5555
	}
	binary.BigEndian.PutUint16(transport[sumAt:], sum)
	return h.assemble(transport)
}

// assemble puts headers before what follows them, or before the piece of it that a fragment carries.
func (h ipHeader) assemble(body []byte) []byte {
	info := h.info
	if info.Proto != nil {
		h.proto = *info.Proto
	}
	more := false
	if f := info.Frag; f != nil {
		to := min(f.To, len(body))
		more = to < len(body)
		body = body[min(f.From, to):to]
		if h.src.Is6() {
			// RFC 8200 section 4.5: next header, reserved, offset with M flag, identification.
			ext := []byte{h.proto, 0, 0, 0, 0, 0, byte(info.ID >> 8), byte(info.ID)}
			field := uint16(f.From)
			if more {
				field |= 1
			}
			binary.BigEndian.PutUint16(ext[2:], field)
			body = append(ext, body...)
			h.proto = packet.ProtoFragment
		}
	}
	if h.src.Is6() && info.Routing != nil {
		// RFC 8200 section 4.4, padded with zeros to a multiple of eight bytes.
		ext := append([]byte{h.proto, 0}, info.Routing...)
		ext = append(ext, make([]byte, (8-len(ext)%8)%8)...)
		ext[1] = byte(len(ext)/8 - 1)
		body = append(ext, body...)
		h.proto = packet.ProtoRouting
	}
	if h.src.Is6() && info.HopOpt != nil {
		// RFC 8200 section 4.3, padded with PadN (or Pad1) to a multiple of eight bytes.
		ext := append([]byte{h.proto, 0}, info.HopOpt...)
		if n := (8 - len(ext)%8) % 8; n == 1 {
			ext = append(ext, 0)
		} else if n > 1 {
			ext = append(append(ext, 1, byte(n-2)), make([]byte, n-2)...)
		}
		ext[1] = byte(len(ext)/8 - 1)
		body = append(ext, body...)
		h.proto = packet.ProtoHopByHop
	}
	b := h.header(len(body))
	if h.src.Is4() {
		var field uint16
		if f := info.Frag; f != nil {
			field = uint16(f.From / 8)
			if more {
				field |= 0x2000
			}
		}
		binary.BigEndian.PutUint16(b[4:], info.ID)
		binary.BigEndian.PutUint16(b[6:], field)
		sum := packet.Checksum(b, 0)
		if info.BadIPSum {
			sum ^= 0x5555
		}
		binary.BigEndian.PutUint16(b[10:], sum)
	}
	return append(b, body...)
}

// header is the IP header; over IPv4 without its checksum.

func (h ipHeader) header(length int) []byte {
	ttl, tos := uint8(defaultTTL), uint8(0)
	if h.info.TTL != nil {
		ttl = *h.info.TTL
	}
	if h.info.TOS != nil {
		tos = *h.info.TOS
	}
	if h.info.ECN != nil {
		tos = tos&^3 | *h.info.ECN
	}
	if h.info.AnyECT {
		tos = tos&^3 | 2
	}
	if h.src.Is4() {
		b := make([]byte, 20, 20+length)
		b[0], b[1] = 0x45, tos
		binary.BigEndian.PutUint16(b[2:], uint16(20+length))
		b[8], b[9] = ttl, h.proto
		copy(b[12:], h.src.AsSlice())
		copy(b[16:], h.dst.AsSlice())
		return b
	}
	var label uint32
	if h.info.FlowLabel != nil {
		label = *h.info.FlowLabel
	}
	b := make([]byte, 40, 40+length)
	binary.BigEndian.PutUint32(b, 6<<28|uint32(tos)<<20|label)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = h.proto, ttl
	copy(b[8:], h.src.AsSlice())
	copy(b[24:], h.dst.AsSlice())
	return b
}

// tcpHeader is a TCP header with numbers as on the wire.
type tcpHeader struct {
	src, dst uint16
	seq, ack uint32
	flags    packet.Flags
	win, urg uint16
	options  []byte // a whole number of words
}

func (h tcpHeader) bytes(payload []byte) []byte {
	b := make([]byte, 20, 20+len(h.options)+len(payload))
	binary.BigEndian.PutUint16(b, h.src)
	binary.BigEndian.PutUint16(b[2:], h.dst)
	binary.BigEndian.PutUint32(b[4:], h.seq)
	binary.BigEndian.PutUint32(b[8:], h.ack)
	words := uint16(5 + len(h.options)/4)
	binary.BigEndian.PutUint16(b[12:], words<<12|uint16(h.flags))
	binary.BigEndian.PutUint16(b[14:], h.win)
	binary.BigEndian.PutUint16(b[18:], h.urg)
	return append(append(b, h.options...), payload...)
}

// tcpSumAt, udpSumAt and icmpSumAt are where the checksum stands in each header.
const tcpSumAt, udpSumAt, icmpSumAt = 16, 6, 2

func udpBytes(src, dst uint16, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(payload)))
	return append(b, payload...)
}

func icmpBytes(typ, code uint8, rest uint32, body []byte) []byte {
	b := []byte{typ, code, 0, 0}
	return append(binary.BigEndian.AppendUint32(b, rest), body...)
}

// encodeOptions builds the option bytes of a header, padded with zeros (end of options) to a whole number of words. seq
// and ecr turn the script's SACK edges and echoed time stamps into those on the wire.
func encodeOptions(opts []TCPOption, seq, ecr func(uint32) uint32) []byte {
	var b []byte
	for _, o := range opts {
		b = append(b, o.Kind)
		if o.Kind == packet.OptEOL || o.Kind == packet.OptNOP {
			continue
		}
		data := o.data(seq, ecr)
		b = append(append(b, uint8(2+len(data))), data...)
	}
	for len(b)%4 != 0 {
		b = append(b, packet.OptEOL)
	}
	return b
}

// data is what follows the option's kind and length.
func (o TCPOption) data(seq, ecr func(uint32) uint32) []byte {
	var b []byte
	switch o.Kind {
	case packet.OptMSS:
		return binary.BigEndian.AppendUint16(nil, uint16(o.Value))
	case packet.OptWScale:
		return []byte{uint8(o.Value)}
	case packet.OptSACK:
		for _, blk := range o.Blocks {
			b = binary.BigEndian.AppendUint32(b, seq(blk.Left))
			b = binary.BigEndian.AppendUint32(b, seq(blk.Right))
		}
		return b
	case packet.OptTimestamp:
		b = binary.BigEndian.AppendUint32(nil, o.Val)
		return binary.BigEndian.AppendUint32(b, ecr(o.Ecr))
	}
	if o.AnyCookie && o.Data == nil {
		return make([]byte, maxCookie) // as much as it may take
	}
	return o.Data
}

// pattern is the byte at a place of a stream. Scripts give lengths, not contents; with contents that follow from the
// place, a byte that is lost, doubled or moved on its way shows. 251 is prime, so that no segment size hides a shift.
func pattern(place uint32) byte { return byte(place % 251) }

// patternBytes are n bytes of a stream from a place on.
func patternBytes(place uint32, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = pattern(place + uint32(i))
	}
	return b
}
