package drill

import (
	"encoding/hex"
	"math"
	"strings"

	"github.com/catflap/catflap/internal/packet"
)

// maxPayload bounds the payload of one packet of a script: a script's expectation may stand for many segments on the
// wire, as a write of a megabyte does.
const maxPayload = 16 << 20

// packet reads "< …" or "> …".
func (p *parser) packet() *Packet {
	pk := &Packet{Pos: p.here()}
	if p.accept(">") {
		pk.Dir = Out
	} else {
		p.expect("<")
	}
	p.packetBody(pk)
	if pk.Dir == In && pk.TCP != nil {
		t := pk.TCP
		if t.AnyOptions {
			p.fail(pk.Pos, "<...> is for packets that the stack sends; a packet to it needs its options written out")
		}
		if t.Len > math.MaxUint16 {
			p.fail(pk.Pos, "%d bytes do not fit into one packet to the stack", t.Len)
		}
	}
	return pk
}

// packetBody reads a packet without its direction, as [Host.Send] takes it.
func (p *parser) packetBody(pk *Packet) {
	for {
		p.skip()
		pos := p.here()
		switch w := p.peekWord(); strings.ToLower(w) {
		case "ipv4", "ipv6", "gre", "mpls", "psp":
			p.fail(pos, "%s encapsulation is not supported: write the inner packet alone", w)
		}
		if !p.accept("[") && !p.accept("(") {
			break
		}
		p.ipInfo(&pk.IP, map[byte]string{'[': "]", '(': ")"}[p.src[p.off-1]])
	}
	switch strings.ToLower(p.peekWord()) {
	case "icmp", "icmpv4", "icmpv6":
		p.icmp(pk)
		return
	}
	if p.keyword("udp") {
		p.ports(pk)
		p.expect("(")
		pk.UDP = &UDPSpec{Len: int(p.number("a length", math.MaxUint16))}
		p.expect(")")
		return
	}
	p.ports(pk)
	p.tcp(pk)
}

// ports reads "SRC > DST" where it stands.
func (p *parser) ports(pk *Packet) {
	w := p.peekWord()
	if w == "" || !isDigit(w[0]) {
		return
	}
	pk.SrcPort = uint16(p.number("a port", math.MaxUint16))
	p.expect(">")
	pk.DstPort = uint16(p.number("a port", math.MaxUint16))
	if pk.SrcPort == 0 || pk.DstPort == 0 {
		p.fail(pk.Pos, "a port is between 1 and %d", math.MaxUint16)
	}
}

// ipInfo reads what stands between the brackets.
func (p *parser) ipInfo(ip *IPInfo, end string) {
	ecn := func(v uint8) { ip.ECN = &v }
	for {
		p.skip()
		pos := p.here()
		switch w := p.word("a field of the IP header"); strings.ToLower(w) {
		case "noecn", "nonect":
			ecn(0)
		case "ect1":
			ecn(1)
		case "ect0":
			ecn(2)
		case "ce":
			ecn(3)
		case "ect01":
			ip.AnyECT = true
		case "tos":
			v := uint8(p.number("a TOS byte", math.MaxUint8))
			ip.TOS = &v
		case "ttl":
			v := uint8(p.number("a TTL", math.MaxUint8))
			ip.TTL = &v
		case "flowlabel":
			v := uint32(p.number("a flow label", 1<<20-1))
			ip.FlowLabel = &v
		case "badipsum":
			ip.BadIPSum = true
		case "badsum":
			ip.BadSum = true
		case "frag":
			ip.Frag = p.fragment()
		case "id":
			ip.ID = uint16(p.number("an identification", math.MaxUint16))
		case "proto":
			v := uint8(p.number("a protocol number", math.MaxUint8))
			ip.Proto = &v
		case "hopopt":
			if !p.accept("0x") {
				p.expected("the option's bytes, as 0x1e00")
			}
			ip.HopOpt = p.hexBlob()
		default:
			p.fail(pos, "%q is no field of the IP header that a script can set: noecn, ect0, ect1, ect01, ce, tos, ttl, flowlabel, id, frag, proto, hopopt, badipsum, badsum", w)
		}
		if p.accept(end) {
			return
		}
		if !p.accept(",") {
			p.expected(`"," or "` + end + `"`)
		}
	}
}

// fragment reads FROM:TO.
func (p *parser) fragment() *FragSpec {
	p.skip()
	pos := p.here()
	f := &FragSpec{From: int(p.number("where the fragment starts", math.MaxUint16))}
	p.expect(":")
	f.To = int(p.number("where the fragment ends", math.MaxUint16))
	if f.From%8 != 0 || f.To <= f.From {
		p.fail(pos, "a fragment starts at a multiple of 8 bytes, and ends after that")
	}
	return f
}

func (p *parser) tcp(pk *Packet) {
	t := &TCPSpec{Flags: p.flags()}
	pk.TCP = t
	if pk.Dir == Out && p.accept("*") {
		t.AnySeq = true
	} else {
		t.Seq, t.Len = p.seqRange()
	}
	for {
		switch {
		case p.keyword("ack"):
			t.Ack = p.uint32("an acknowledgment number")
		case p.keyword("win"):
			v := uint16(p.number("a window", math.MaxUint16))
			t.Win = &v
		case p.keyword("urg"):
			v := uint16(p.number("an urgent pointer", math.MaxUint16))
			t.Urg = &v
		case p.accept("<"):
			p.tcpOptions(t)
			return
		default:
			return
		}
	}
}

func (p *parser) uint32(what string) *uint32 {
	v := uint32(p.number(what, math.MaxUint32))
	return &v
}

// flags reads the letters of a segment's flags, or "-" for none.
func (p *parser) flags() packet.Flags {
	p.skip()
	pos := p.here()
	if p.accept("-") {
		return 0
	}
	var f packet.Flags
	n := p.off
	for n < len(p.src) && flagLetters[p.src[n]] != 0 {
		f |= flagLetters[p.src[n]]
		n++
	}
	if n == p.off || n < len(p.src) && isWord(p.src[n]) {
		p.fail(pos, "expected TCP flags (letters of FSRPUEWA, . for ACK, - for none), udp or icmp, found %s", p.found())
	}
	p.off = n
	return f
}

// seqRange reads "START:END(LENGTH)"; the three must agree.
func (p *parser) seqRange() (seq uint32, n int) {
	p.skip()
	pos := p.here()
	start := *p.uint32("a sequence number")
	p.expect(":")
	end := *p.uint32("a sequence number")
	p.expect("(")
	n = int(p.number("a length", maxPayload))
	p.expect(")")
	if end-start != uint32(n) {
		p.fail(pos, "%d:%d(%d) does not add up: from %d to %d are %d bytes", start, end, n, start, end, end-start)
	}
	return start, n
}

// tcpOptions reads what follows "<".
func (p *parser) tcpOptions(t *TCPSpec) {
	start := p.here()
	if p.accept("...") {
		p.expect(">")
		t.AnyOptions = true
		return
	}
	if p.accept(">") {
		return
	}
	for {
		t.Options = append(t.Options, p.tcpOption())
		if p.accept(">") {
			break
		}
		if !p.accept(",") {
			p.expected(`"," or ">"`)
		}
	}
	if n := len(encodeOptions(t.Options, func(u uint32) uint32 { return u }, func(u uint32) uint32 { return u })); n > maxOptions {
		p.fail(start, "these options take %d bytes; a TCP header holds at most %d", n, maxOptions)
	}
}

func (p *parser) tcpOption() TCPOption {
	p.skip()
	o := TCPOption{Pos: p.here()}
	if w := p.peekWord(); w != "" && isDigit(w[0]) {
		p.fail(o.Pos, "expected the name of a TCP option, found %q; one without a name is written unknown-%s 0xDATA", w, w)
	}
	switch w := p.word("a TCP option"); strings.ToLower(w) {
	case "nop":
		o.Kind = packet.OptNOP
	case "eol":
		o.Kind = packet.OptEOL
	case "mss":
		o.Kind, o.Value = packet.OptMSS, uint32(p.number("an MSS", math.MaxUint16))
	case "wscale":
		o.Kind, o.Value = packet.OptWScale, uint32(p.number("a window scale", math.MaxUint8))
	case "sackok":
		o.Kind = packet.OptSACKOK
	case "sack":
		o.Kind = packet.OptSACK
		for w := p.peekWord(); w != "" && isDigit(w[0]); w = p.peekWord() {
			left := p.uint32("a sequence number")
			p.expect(":")
			o.Blocks = append(o.Blocks, packet.Block{Left: *left, Right: *p.uint32("a sequence number")})
		}
		if len(o.Blocks) == 0 {
			p.expected("a SACK block, LEFT:RIGHT")
		}
	case "ts":
		o.Kind = packet.OptTimestamp
		if !p.keyword("val") {
			p.expected(`"val"`)
		}
		o.Val = *p.uint32("a timestamp")
		if !p.keyword("ecr") {
			p.expected(`"ecr"`)
		}
		o.Ecr = *p.uint32("a timestamp")
	case "md5":
		o.Kind, o.Data = packet.OptMD5, p.hexBlob()
	case "fo":
		o.Kind, o.Data = packet.OptFastOpen, p.hexBlob()
	case "foexp":
		// RFC 6994: kind 254 with Fast Open's experiment identifier.
		o.Kind, o.Data = packet.OptExp2, append([]byte{0xf9, 0x89}, p.hexBlob()...)
	case "unknown":
		p.expect("-")
		o.Kind = uint8(p.number("an option's kind", math.MaxUint8))
		if w := p.peekWord(); strings.HasPrefix(strings.ToLower(w), "0x") {
			p.off += 2
			o.Data = p.hexBlob()
		}
	default:
		p.fail(o.Pos, "%q is no TCP option known here: nop, eol, mss, wscale, sackOK, sack, TS, md5, FO, FOEXP, unknown-KIND 0xDATA", w)
	}
	return o
}

// fastOpenCookie is what TFO_COOKIE stands for in public scripts: the cookie that Linux makes with the key and addresses
// of their defaults. A script that uses it only expects it back, so any eight bytes serve on a stack without Fast Open.
const fastOpenCookie = "3021b9d889017eeb"

// hexBlob reads bytes in hexadecimal; none is allowed.
func (p *parser) hexBlob() []byte {
	w := p.peekWord()
	pos := p.here()
	p.off += len(w)
	if w == "TFO_COOKIE" {
		w = fastOpenCookie
	}
	data, err := hex.DecodeString(w)
	if err != nil {
		p.fail(pos, "%q is not a whole number of bytes in hexadecimal", w)
	}
	return data
}
