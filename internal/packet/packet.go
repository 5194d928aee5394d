// Package packet decodes raw IP packets and writes them as tcpdump does, one line each.
//
// It reads; it never builds, changes or keeps the bytes longer than the Packet that points into them.
// Checksums are not looked at by [Parse], since a packet from an offloading device may carry a partial one;
// [Packet.Verify] checks them when asked.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// IP protocol numbers that this package decodes or names (IANA "Assigned Internet Protocol Numbers").
const (
	ProtoHopByHop = 0
	ProtoICMP     = 1
	ProtoTCP      = 6
	ProtoUDP      = 17
	ProtoRouting  = 43
	ProtoFragment = 44
	ProtoICMPv6   = 58
	ProtoNone     = 59
	ProtoDestOpts = 60
)

const (
	ipv4HeaderLen = 20 // RFC 791 section 3.1, without options
	ipv6HeaderLen = 40 // RFC 8200 section 3
	tcpHeaderLen  = 20 // RFC 9293 section 3.1, without options
	udpHeaderLen  = 8  // RFC 768
	icmpHeaderLen = 8  // RFC 792, RFC 4443: type, code, checksum and four bytes of body
)

// ErrTruncated is wrapped by the errors of [Parse] for a packet that ends inside a header.
var ErrTruncated = errors.New("packet is cut short")

// Packet is one decoded IP packet. Byte slices in it point into the bytes given to [Parse].
type Packet struct {
	Version  int // 4 or 6
	Src, Dst netip.Addr
	Proto    uint8 // transport protocol: after any IPv6 extension headers
	TTL      uint8 // IPv6: hop limit
	TOS      uint8 // IPv6: traffic class
	Flow     uint32
	Length   int // bytes of the whole packet, as its IP header says

	Frag Fragment // zero for an unfragmented IPv6 packet

	// At most one is set: none for an unknown protocol, or a fragment that is not the first.
	TCP  *TCP
	UDP  *UDP
	ICMP *ICMP

	// Payload is what follows the transport header; for packets without a decoded
	// transport header, what follows the IP header.
	Payload []byte

	header    []byte // IP header with IPv4 options or IPv6 extension headers
	transport []byte // everything after header
}

// Fragment is the fragmentation state of a packet (RFC 791 section 3.1, RFC 8200 section 4.5).
type Fragment struct {
	ID     uint32
	DF, MF bool
	Offset int // bytes
}

// Fragmented reports whether the packet is a part of a larger one.
func (f Fragment) Fragmented() bool { return f.MF || f.Offset != 0 }

// TCP is a TCP header (RFC 9293 section 3.1).
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            Flags
	Window           uint16 // as on the wire, not scaled
	Checksum         uint16
	Urgent           uint16
	Options          []Option
	// BadOptions is why the option bytes after Options could not be read; nil when all could.
	BadOptions error
}

// Flags are the TCP header's control bits.
type Flags uint16

// Control bits, RFC 9293 section 3.1; AE is RFC 9768's.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE
)

// UDP is a UDP header (RFC 768).
type UDP struct {
	SrcPort, DstPort uint16
	Length           uint16 // header and data, as the header says
	Checksum         uint16
}

// ICMP is an ICMP (RFC 792) or ICMPv6 (RFC 4443) header.
type ICMP struct {
	Type, Code uint8
	Checksum   uint16
	Rest       uint32 // the four bytes after the checksum
	Body       []byte // what follows those
}

// icmpError reports whether the message is an error report that quotes a packet.
func (p *Packet) icmpError() bool {
	if p.Version == 4 {
		switch p.ICMP.Type {
		case 3, 4, 5, 11, 12:
			return true
		}
		return false
	}
	return p.ICMP.Type < 128 // RFC 4443 section 2.1
}

// Quoted decodes the packet that an ICMP error quotes, as far as it goes; ok is false when the packet
// is no ICMP error, or quotes less than an IP header and eight bytes of what follows it.
func (p *Packet) Quoted() (q Packet, ok bool) {
	if p.ICMP == nil || !p.icmpError() {
		return Packet{}, false
	}
	q, err := parse(p.ICMP.Body, true)
	return q, err == nil
}

// Bytes is the packet from its IP header on, as far as it was given. It points into the bytes given to [Parse].
func (p *Packet) Bytes() []byte { return p.header[:len(p.header)+len(p.transport)] }

// Transport is what follows the IP header with its options or extension headers. It points into the bytes given to
// [Parse].
func (p *Packet) Transport() []byte { return p.transport }

// Parse decodes one raw IP packet, starting at its IP header. Bytes beyond the length that the IP header gives are
// ignored. A transport header that cannot be decoded is an error; unreadable TCP options are not: see [TCP].BadOptions.
func Parse(b []byte) (Packet, error) { return parse(b, false) }

// maxLength bounds what ParseStart makes room for: the longest IPv6 packet, jumbograms aside.
const maxLength = ipv6HeaderLen + 65535

// ParseStart is Parse for a packet of length bytes of which only the start was kept. What is missing counts as zero
// bytes: the headers are right if they were kept, lengths are, and checksums are not.
func ParseStart(start []byte, length int) (Packet, error) {
	if len(start) < length && length <= maxLength {
		start = append(start[:len(start):len(start)], make([]byte, length-len(start))...)
	}
	return Parse(start)
}

// parse is Parse; quoted allows the packet to end before its stated length, as in an ICMP error.
func parse(b []byte, quoted bool) (Packet, error) {
	if len(b) == 0 {
		return Packet{}, fmt.Errorf("no bytes: %w", ErrTruncated)
	}
	switch v := b[0] >> 4; v {
	case 4:
		return parseIPv4(b, quoted)
	case 6:
		return parseIPv6(b, quoted)
	default:
		return Packet{}, fmt.Errorf("IP version %d: neither 4 nor 6", v)
	}
}

func parseIPv4(b []byte, quoted bool) (Packet, error) {
	if len(b) < ipv4HeaderLen {
		return Packet{}, fmt.Errorf("IPv4 header: %d bytes: %w", len(b), ErrTruncated)
	}
	hlen := int(b[0]&0xf) * 4
	if hlen < ipv4HeaderLen {
		return Packet{}, fmt.Errorf("IPv4 header length %d: at least %d are needed", hlen, ipv4HeaderLen)
	}
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total < hlen {
		return Packet{}, fmt.Errorf("IPv4 total length %d is less than the header's %d", total, hlen)
	}
	if len(b) < hlen || len(b) < total && !quoted {
		return Packet{}, fmt.Errorf("IPv4 packet: %d of %d bytes: %w", len(b), total, ErrTruncated)
	}
	b = b[:min(len(b), total)]
	off := binary.BigEndian.Uint16(b[6:])
	p := Packet{
		Version: 4,
		Src:     netip.AddrFrom4([4]byte(b[12:16])),
		Dst:     netip.AddrFrom4([4]byte(b[16:20])),
		Proto:   b[9],
		TTL:     b[8],
		TOS:     b[1],
		Length:  total,
		Frag: Fragment{
			ID:     uint32(binary.BigEndian.Uint16(b[4:])),
			DF:     off&0x4000 != 0,
			MF:     off&0x2000 != 0,
			Offset: int(off&0x1fff) * 8,
		},
		header:    b[:hlen],
		transport: b[hlen:],
	}
	return p, p.parseTransport(quoted)
}

func parseIPv6(b []byte, quoted bool) (Packet, error) {
	if len(b) < ipv6HeaderLen {
		return Packet{}, fmt.Errorf("IPv6 header: %d bytes: %w", len(b), ErrTruncated)
	}
	word := binary.BigEndian.Uint32(b)
	total := ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if len(b) < total && !quoted {
		return Packet{}, fmt.Errorf("IPv6 packet: %d of %d bytes: %w", len(b), total, ErrTruncated)
	}
	b = b[:min(len(b), total)]
	p := Packet{
		Version: 6,
		Src:     netip.AddrFrom16([16]byte(b[8:24])),
		Dst:     netip.AddrFrom16([16]byte(b[24:40])),
		TTL:     b[7],
		TOS:     uint8(word >> 20),
		Flow:    word & 0xfffff,
		Length:  total,
	}
	next, at := b[6], ipv6HeaderLen
	for {
		var n int // length of this extension header
		switch next {
		case ProtoHopByHop, ProtoRouting, ProtoDestOpts:
			if len(b) < at+2 {
				return Packet{}, fmt.Errorf("IPv6 extension header %d: %w", next, ErrTruncated)
			}
			n = 8 + 8*int(b[at+1])
		case ProtoFragment:
			n = 8
		}
		if n == 0 {
			break
		}
		if len(b) < at+n {
			return Packet{}, fmt.Errorf("IPv6 extension header %d: %w", next, ErrTruncated)
		}
		isFragment := next == ProtoFragment
		next = b[at]
		if isFragment {
			off := binary.BigEndian.Uint16(b[at+2:])
			p.Frag = Fragment{ID: binary.BigEndian.Uint32(b[at+4:]), MF: off&1 != 0, Offset: int(off &^ 7)}
		}
		at += n
		if isFragment && p.Frag.Offset != 0 {
			break // what follows is the middle of something
		}
	}
	p.Proto, p.header, p.transport = next, b[:at], b[at:]
	return p, p.parseTransport(quoted)
}

// parseTransport decodes what follows the IP header. In a quoted packet, which may end early (RFC 792 guarantees eight
// bytes), a header is decoded as far as its ports and, for TCP, its sequence number.
func (p *Packet) parseTransport(quoted bool) error {
	b := p.transport
	p.Payload = b
	if p.Frag.Offset != 0 {
		return nil
	}
	switch {
	case p.Proto == ProtoTCP:
		return p.parseTCP(b, quoted)
	case p.Proto == ProtoUDP:
		if len(b) < udpHeaderLen {
			return fmt.Errorf("UDP header: %d bytes: %w", len(b), ErrTruncated)
		}
		p.UDP = &UDP{
			SrcPort:  binary.BigEndian.Uint16(b),
			DstPort:  binary.BigEndian.Uint16(b[2:]),
			Length:   binary.BigEndian.Uint16(b[4:]),
			Checksum: binary.BigEndian.Uint16(b[6:]),
		}
		p.Payload = b[udpHeaderLen:]
	case p.Proto == ProtoICMP && p.Version == 4, p.Proto == ProtoICMPv6 && p.Version == 6:
		if len(b) < icmpHeaderLen {
			return fmt.Errorf("ICMP header: %d bytes: %w", len(b), ErrTruncated)
		}
		p.ICMP = &ICMP{
			Type:     b[0],
			Code:     b[1],
			Checksum: binary.BigEndian.Uint16(b[2:]),
			Rest:     binary.BigEndian.Uint32(b[4:]),
			Body:     b[icmpHeaderLen:],
		}
		p.Payload = p.ICMP.Body
	}
	return nil
}

func (p *Packet) parseTCP(b []byte, quoted bool) error {
	if quoted && len(b) >= 8 && len(b) < tcpHeaderLen {
		p.TCP = &TCP{
			SrcPort: binary.BigEndian.Uint16(b),
			DstPort: binary.BigEndian.Uint16(b[2:]),
			Seq:     binary.BigEndian.Uint32(b[4:]),
		}
		p.Payload = nil
		return nil
	}
	if len(b) < tcpHeaderLen {
		return fmt.Errorf("TCP header: %d bytes: %w", len(b), ErrTruncated)
	}
	hlen := int(b[12]>>4) * 4
	if hlen < tcpHeaderLen {
		return fmt.Errorf("TCP header length %d: at least %d are needed", hlen, tcpHeaderLen)
	}
	if len(b) < hlen {
		if !quoted {
			return fmt.Errorf("TCP header: %d of %d bytes: %w", len(b), hlen, ErrTruncated)
		}
		hlen = len(b)
	}
	t := &TCP{
		SrcPort:  binary.BigEndian.Uint16(b),
		DstPort:  binary.BigEndian.Uint16(b[2:]),
		Seq:      binary.BigEndian.Uint32(b[4:]),
		Ack:      binary.BigEndian.Uint32(b[8:]),
		Flags:    Flags(binary.BigEndian.Uint16(b[12:])) & (1<<9 - 1),
		Window:   binary.BigEndian.Uint16(b[14:]),
		Checksum: binary.BigEndian.Uint16(b[16:]),
		Urgent:   binary.BigEndian.Uint16(b[18:]),
	}
	t.Options, t.BadOptions = ParseOptions(b[tcpHeaderLen:hlen])
	p.TCP, p.Payload = t, b[hlen:]
	return nil
}
