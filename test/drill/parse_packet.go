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
	if p.accept("/") {
		p.encap(pk)
	}
}

// encap reads "udp(SRC > DST)" after a segment that travels in UDP.
func (p *parser) encap(pk *Packet) {
	if !p.keyword("udp") {
		p.expected(`"udp"`)
	}
	p.expect("(")
	e := &EncapSpec{SrcPort: uint16(p.number("a port", math.MaxUint16))}
	p.expect(">")
	e.DstPort = uint16(p.number("a port", math.MaxUint16))
	p.expect(")")
	pk.IP.Encap = e
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
		case "class": // IPv6's name of the byte
			v := uint8(p.number("a traffic class", math.MaxUint8))
			ip.TOS = &v
		case "ttl", "hlim":
			v := uint8(p.number("a TTL", math.MaxUint8))
			ip.TTL = &v
		case "flowlabel":
			v := uint32(p.number("a flow label", 1<<20-1))
			ip.FlowLabel = &v
		case "badipsum":
			ip.BadIPSum = true
		case "badsum":
			ip.BadSum = true
		case "nosum":
			ip.NoSum = true
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
		case "routing":
			if !p.accept("0x") {
				p.expected("the header's bytes from its type on, as 0x0001")
			}
			if ip.Routing = p.hexBlob(); len(ip.Routing) > maxRouting {
				p.fail(pos, "a routing header of %d bytes: at most %d", len(ip.Routing), maxRouting)
			}
		default:
			p.fail(pos, "%q is no field of the IP header that a script can set: noecn, ect0, ect1, ect01, ce, tos, ttl, flowlabel, id, frag, proto, hopopt, routing, badipsum, badsum, nosum", w)
		}
		if p.accept(end) {
			return
		}
		if !p.accept(",") {
			p.expected(`"," or "` + end + `"`)
		}
	}
}

// maxRouting is what a routing header has room for behind its length field (RFC 8200 section 4.4).
const maxRouting = 256*8 - 2

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
	switch {
	case pk.Dir == Out && p.accept("*"):
		t.AnySeq = true
	case pk.Dir == Out && p.accept("..."):
		t.AnySeq = true
		p.expect("(0)")
	default:
		t.Seq, t.Len = p.seqRange()
		t.AbsSeq = p.accept("!")
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

// flags reads the letters of a segment's flags, or "-" for none. A digit is the ACE counter of AccECN.
func (p *parser) flags() packet.Flags {
	p.skip()
	pos := p.here()
	if p.accept("-") {
		return 0
	}
	var letters, ace packet.Flags
	digits := 0
	n := p.off
	for ; n < len(p.src); n++ {
		c := p.src[n]
		if c >= '0' && c <= '7' {
			digits++
			ace = aceFlags(c - '0')
			continue
		}
		if flagLetters[c] == 0 {
			break
		}
		letters |= flagLetters[c]
	}
	if n == p.off || digits > 1 || n < len(p.src) && isWord(p.src[n]) {
		p.fail(pos, "expected TCP flags (letters of FSRPUEWA, one digit for ACE, . for ACK, - for none), udp or icmp, found %s", p.found())
	}
	if digits > 0 && letters&aceMask != 0 {
		p.fail(pos, "E, W and A stand for bits of ACE, which the digit gives already")
	}
	p.off = n
	return letters | ace
}

// aceMask are the flags that hold the ACE counter of AccECN.
const aceMask = packet.AE | packet.CWR | packet.ECE

// aceFlags is the ACE counter as flags: AE is its highest bit, ECE its lowest (RFC 9768 section 3.1.1).
func aceFlags(v uint8) packet.Flags {
	var f packet.Flags
	if v&4 != 0 {
		f |= packet.AE
	}
	if v&2 != 0 {
		f |= packet.CWR
	}
	if v&1 != 0 {
		f |= packet.ECE
	}
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
		if o.Kind = packet.OptFastOpen; p.accept("*") {
			o.AnyCookie = true
			break
		}
		o.Data = p.hexBlob()
	case "foexp":
		// RFC 6994: kind 254 with Fast Open's experiment identifier.
		o.Kind, o.Data = packet.OptExp2, append([]byte{0xf9, 0x89}, p.hexBlob()...)
	case "ecn":
		o.Kind, o.Data = p.accECN()
	case "unknown":
		p.expect("-")
		o.Kind = uint8(p.number("an option's kind", math.MaxUint8))
		if w := p.peekWord(); strings.HasPrefix(strings.ToLower(w), "0x") {
			p.off += 2
			o.Data = p.hexBlob()
		}
	default:
		p.fail(o.Pos, "%q is no TCP option known here: nop, eol, mss, wscale, sackOK, sack, TS, md5, FO, FOEXP, ECN, unknown-KIND 0xDATA", w)
	}
	return o
}

// AccECN's options (RFC 9768 section 3.2.3): order 0 starts with the bytes that came in ECT(0), order 1 with those in ECT(1).
const (
	optAccECN0 = 172
	optAccECN1 = 174
)

// accECNOrders are the counters of each option, in their order on the wire, by the names that scripts use.
var accECNOrders = map[uint8][3]string{optAccECN0: {"e0b", "ceb", "e1b"}, optAccECN1: {"e1b", "ceb", "e0b"}}

// accECN reads "e0b N [ceb N [e1b N]]" or "e1b N [ceb N [e0b N]]": counters of 24 bits.
func (p *parser) accECN() (kind uint8, data []byte) {
	switch {
	case p.peekKeyword("e0b"):
		kind = optAccECN0
	case p.peekKeyword("e1b"):
		kind = optAccECN1
	default:
		p.expected(`"e0b" or "e1b"`)
	}
	for _, name := range accECNOrders[kind] {
		if !p.keyword(name) {
			break
		}
		v := p.number("a counter of 24 bits", 1<<24-1)
		data = append(data, byte(v>>16), byte(v>>8), byte(v))
	}
	return kind, data
}

// runnersDefines are what public scripts leave to their runners to define: the Fast Open cookies that Linux makes with
// the keys and addresses of their IPv4 runs, and the code of an ICMP error.
var runnersDefines = map[string]string{
	"TFO_COOKIE":      "3021b9d889017eeb",
	"TFO_COOKIE_ZERO": "b7c12350a90dc8f5",
	"CODE":            "host_unreachable",
}

// hexBlob reads bytes in hexadecimal, or a name that is defined as such; none is allowed.
func (p *parser) hexBlob() []byte {
	w := p.peekWord()
	pos := p.here()
	p.off += len(w)
	if def, ok := p.define(w); ok {
		w = def
	}
	data, err := hex.DecodeString(w)
	if err != nil {
		p.fail(pos, "%q is not a whole number of bytes in hexadecimal", w)
	}
	return data
}
