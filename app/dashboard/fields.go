package dashboard

import (
	"encoding/binary"
	"fmt"

	"github.com/catflap/catflap/internal/packet"
)

// Lengths of headers, in bytes.
const (
	ipv4Header = 20 // without options (RFC 791)
	ipv6Header = 40 // without extension headers (RFC 8200)
	tcpHeader  = 20 // without options (RFC 9293)
	udpHeader  = 8  // (RFC 768)
	icmpHeader = 8  // (RFC 792, RFC 4443)
)

// Field is a field of a header: its value, and the bytes from Start up to and without End that it stands in.
type Field struct {
	Layer string `json:"layer"` // "IPv4", "IPv6", "TCP", "UDP", "ICMP", "options", "payload"
	Name  string `json:"name"`
	Value string `json:"value"`
	Start int    `json:"start"`
	End   int    `json:"end"`
}

// transportAt is where the transport header of a packet starts that could be decoded.
func transportAt(b []byte) int {
	if b[0]>>4 == 4 {
		return int(b[0]&0xf) * 4
	}
	at := ipv6Header
	for next := b[6]; ; {
		switch next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDestOpts:
			next, at = b[at], at+8+8*int(b[at+1])
		case packet.ProtoFragment:
			next, at = b[at], at+8
		default:
			return at
		}
	}
}

// fieldList collects the fields of one packet.
type fieldList struct {
	data  []byte
	at    int // where the layer starts
	layer string
	list  []Field
}

// add adds a field of bytes from..to of the layer, if they are there.
func (l *fieldList) add(name string, from, to int, value any) {
	if l.at+to <= len(l.data) {
		l.list = append(l.list, Field{l.layer, name, fmt.Sprint(value), l.at + from, l.at + to})
	}
}

func (l *fieldList) u16(at int) uint16 { return binary.BigEndian.Uint16(l.data[l.at+at:]) }
func (l *fieldList) u32(at int) uint32 { return binary.BigEndian.Uint32(l.data[l.at+at:]) }

func (l *fieldList) number16(name string, at int) {
	if l.at+at+2 <= len(l.data) {
		l.add(name, at, at+2, l.u16(at))
	}
}

func (l *fieldList) number32(name string, at int) {
	if l.at+at+4 <= len(l.data) {
		l.add(name, at, at+4, l.u32(at))
	}
}

func (l *fieldList) checksum(at int) {
	if l.at+at+2 <= len(l.data) {
		l.add("Checksum", at, at+2, fmt.Sprintf("%#04x", l.u16(at)))
	}
}

// fields takes a packet apart, of which p was decoded and data is there; captured counts the bytes of its payload
// too that are not.
func fields(data []byte, p *packet.Packet, captured int) []Field {
	l := &fieldList{data: data, list: []Field{}}
	if p.Version == 4 {
		l.ipv4(p)
	} else {
		l.ipv6(p)
	}
	if len(data) < ipv4Header || p.Version == 6 && len(data) < ipv6Header {
		return l.list
	}
	if p.Frag.Offset == 0 {
		l.at = transportAt(data)
		switch {
		case p.TCP != nil:
			l.tcp(p.TCP)
		case p.UDP != nil:
			l.layer = "UDP"
			l.number16("Source port", 0)
			l.number16("Destination port", 2)
			l.number16("Length", 4)
			l.checksum(6)
		case p.ICMP != nil:
			l.layer = "ICMP"
			l.add("Type", 0, 1, p.ICMP.Type)
			l.add("Code", 1, 2, p.ICMP.Code)
			l.checksum(2)
			l.add("Rest of the header", 4, icmpHeader, fmt.Sprintf("%#08x", p.ICMP.Rest))
		}
	}
	if start := p.Length - len(p.Payload); len(p.Payload) > 0 && start < captured {
		l.list = append(l.list, Field{"payload", "Payload", fmt.Sprintf("%d bytes", len(p.Payload)), start, captured})
	}
	return l.list
}

func (l *fieldList) ipv4(p *packet.Packet) {
	l.layer = "IPv4"
	header := int(l.data[0]&0xf) * 4
	l.add("Version", 0, 1, 4)
	l.add("Header length", 0, 1, fmt.Sprintf("%d bytes", header))
	l.add("DSCP", 1, 2, p.TOS>>2)
	l.add("ECN", 1, 2, ecn[p.TOS&3])
	l.add("Total length", 2, 4, p.Length)
	l.add("Identification", 4, 6, p.Frag.ID)
	flags := "none"
	switch {
	case p.Frag.DF:
		flags = "don't fragment"
	case p.Frag.MF:
		flags = "more fragments"
	}
	l.add("Flags", 6, 7, flags)
	l.add("Fragment offset", 6, 8, p.Frag.Offset)
	l.add("Time to live", 8, 9, p.TTL)
	l.add("Protocol", 9, 10, protocol(p.Proto))
	l.checksum(10)
	l.add("Source", 12, 16, p.Src)
	l.add("Destination", 16, 20, p.Dst)
	if header > ipv4Header {
		l.add("Options", ipv4Header, header, fmt.Sprintf("%d bytes", header-ipv4Header))
	}
}

func (l *fieldList) ipv6(p *packet.Packet) {
	l.layer = "IPv6"
	l.add("Version", 0, 1, 6)
	l.add("DSCP", 0, 2, p.TOS>>2)
	l.add("ECN", 1, 2, ecn[p.TOS&3])
	l.add("Flow label", 1, 4, fmt.Sprintf("%#05x", p.Flow))
	l.add("Payload length", 4, 6, p.Length-ipv6Header)
	if len(l.data) > 6 {
		l.add("Next header", 6, 7, protocol(l.data[6]))
	}
	l.add("Hop limit", 7, 8, p.TTL)
	l.add("Source", 8, 24, p.Src)
	l.add("Destination", 24, 40, p.Dst)
	if len(l.data) < ipv6Header {
		return
	}
	if at := transportAt(l.data); at > ipv6Header {
		l.add("Extension headers", ipv6Header, at, fmt.Sprintf("%d bytes", at-ipv6Header))
	}
}

// ecn are the names of RFC 3168's codepoints.
var ecn = [4]string{"not ECT", "ECT(1)", "ECT(0)", "CE"}

func protocol(n uint8) string {
	names := map[uint8]string{
		packet.ProtoHopByHop: "hop-by-hop options", packet.ProtoICMP: "ICMP", packet.ProtoTCP: "TCP", packet.ProtoUDP: "UDP",
		packet.ProtoRouting: "routing", packet.ProtoFragment: "fragment", packet.ProtoICMPv6: "ICMPv6",
		packet.ProtoNone: "none", packet.ProtoDestOpts: "destination options",
	}
	if name, ok := names[n]; ok {
		return fmt.Sprintf("%s (%d)", name, n)
	}
	return fmt.Sprint(n)
}

func (l *fieldList) tcp(t *packet.TCP) {
	l.layer = "TCP"
	l.number16("Source port", 0)
	l.number16("Destination port", 2)
	l.number32("Sequence number", 4)
	l.number32("Acknowledgment number", 8)
	if l.at+tcpHeader > len(l.data) {
		return
	}
	length := int(l.data[l.at+12]>>4) * 4
	l.add("Data offset", 12, 13, fmt.Sprintf("%d bytes", length))
	l.add("Flags", 12, 14, t.Flags)
	l.number16("Window", 14)
	l.checksum(16)
	l.number16("Urgent pointer", 18)
	l.layer = "options"
	at := tcpHeader
	for _, o := range t.Options {
		n := 1
		if o.Kind > packet.OptNOP {
			n = 2 + len(o.Data)
		}
		l.add(optionName(o.Kind), at, at+n, o)
		at += n
	}
	if at < length {
		name := "Padding"
		if t.BadOptions != nil {
			name = "Unreadable"
		}
		l.add(name, at, length, fmt.Sprintf("%d bytes", length-at))
	}
}

func optionName(kind uint8) string {
	switch kind {
	case packet.OptEOL:
		return "End of options"
	case packet.OptNOP:
		return "No operation"
	case packet.OptMSS:
		return "Maximum segment size"
	case packet.OptWScale:
		return "Window scale"
	case packet.OptSACKOK:
		return "SACK permitted"
	case packet.OptSACK:
		return "SACK"
	case packet.OptTimestamp:
		return "Timestamps"
	}
	return fmt.Sprintf("Option %d", kind)
}
