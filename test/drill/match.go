package drill

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/catflap/catflap/internal/packet"
)

// field is one part of a packet as the script expects it and as it was. want is "" for what the script leaves open.
type field struct {
	name      string
	want, got string
	bad       bool
}

// comparison is an expected packet beside an actual one.
type comparison []field

// ok reports whether nothing differs.
func (c comparison) ok() bool {
	for _, f := range c {
		if f.bad {
			return false
		}
	}
	return true
}

// differs names the fields that differ: "window, ack".
func (c comparison) differs() string {
	var names []string
	for _, f := range c {
		if f.bad {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ", ")
}

// String writes both packets one above the other, field below field, and marks those that differ.
func (c comparison) String() string {
	want, got, mark := "expected: >", "actual:   >", "           "
	for _, f := range c {
		w, g := f.want, f.got
		if w == "" && g == "" {
			continue
		}
		width := max(len(w), len(g))
		want += " " + pad(w, width)
		got += " " + pad(g, width)
		m := ""
		if f.bad {
			m = strings.Repeat("^", max(1, width))
		}
		mark += " " + pad(m, width)
	}
	trim := func(s string) string { return strings.TrimRight(s, " ") }
	return trim(want) + "\n" + trim(got) + "\n" + trim(mark)
}

func pad(s string, width int) string { return s + strings.Repeat(" ", width-len(s)) }

// rules say how strictly packets are compared.
type rules struct {
	// stampTick is the unit of the stack's time stamps in microseconds; zero to not compare their values.
	stampTick int
	// stampSlack is by how many ticks a time stamp may be off.
	stampSlack int
	// partial: the actual segment is the beginning of the expected one, so its flags PSH and FIN are not compared.
	partial bool
	// ignorePush: PSH is not compared, since RFC 9293 leaves it to the stack where a write is cut.
	ignorePush bool
}

// compare holds a packet of the stack against what the script expects.
func (f *flow) compare(pk *Packet, p *packet.Packet, r rules) comparison {
	if e := pk.IP.Encap; e != nil {
		if p.UDP == nil || p.UDP.SrcPort != e.SrcPort || p.UDP.DstPort != e.DstPort {
			return comparison{{"encapsulation", pk.text(), f.text(p), true}}
		}
		inner, err := decapsulate(p)
		if err != nil {
			return comparison{{"encapsulated segment", pk.text(), err.Error(), true}}
		}
		p = inner
	}
	c := f.compareIP(pk, p)
	switch {
	case pk.TCP != nil && p.TCP != nil:
		return append(c, f.compareTCP(pk.TCP, p, r)...)
	case pk.UDP != nil && p.UDP != nil:
		want, got := fmt.Sprintf("udp (%d)", pk.UDP.Len), fmt.Sprintf("udp (%d)", len(p.Payload))
		return append(c, field{"length", want, got, want != got})
	case pk.ICMP != nil && p.ICMP != nil:
		return append(c, f.compareICMP(pk.ICMP, p)...)
	}
	return append(c, field{"protocol", pk.text(), f.text(p), true})
}

// compareIP holds addresses and IP header fields against the script.
func (f *flow) compareIP(pk *Packet, p *packet.Packet) comparison {
	var c comparison
	if pk.SrcPort != 0 || pk.ICMP == nil && !f.carries(p) {
		want := fmt.Sprintf("%d > %d", f.local.Port(), f.remote.Port())
		got := want
		switch {
		case p.TCP != nil:
			got = fmt.Sprintf("%d > %d", p.TCP.SrcPort, p.TCP.DstPort)
		case p.UDP != nil:
			got = fmt.Sprintf("%d > %d", p.UDP.SrcPort, p.UDP.DstPort)
		}
		if p.Src != f.local.Addr() || p.Dst != f.remote.Addr() {
			want = fmt.Sprintf("%s > %s", f.local, f.remote)
			got = fmt.Sprintf("%s > %s", p.Src, p.Dst)
		}
		c = append(c, field{"addresses", want, got, want != got})
	}
	add := func(name, want, got string) {
		c = append(c, field{name, want, got, want != got})
	}
	ecn := p.TOS & 3
	switch info := pk.IP; {
	case info.TOS != nil:
		add("tos", fmt.Sprintf("[tos 0x%02x]", *info.TOS), fmt.Sprintf("[tos 0x%02x]", p.TOS))
	case info.AnyECT:
		c = append(c, field{"ecn", "[ect01]", ecnText(ecn), ecn != 1 && ecn != 2})
	case info.ECN != nil:
		add("ecn", ecnText(*info.ECN), ecnText(ecn))
	}
	if ttl := pk.IP.TTL; ttl != nil {
		add("ttl", fmt.Sprintf("[ttl %d]", *ttl), fmt.Sprintf("[ttl %d]", p.TTL))
	}
	if label := pk.IP.FlowLabel; label != nil {
		add("flowlabel", fmt.Sprintf("[flowlabel 0x%x]", *label), fmt.Sprintf("[flowlabel 0x%x]", p.Flow))
	}
	return c
}

func ecnText(ecn uint8) string { return [...]string{"[noecn]", "[ect1]", "[ect0]", "[ce]"}[ecn&3] }

func (f *flow) compareTCP(t *TCPSpec, p *packet.Packet, r rules) comparison {
	syn := p.TCP.Flags&packet.SYN != 0
	got := p.TCP
	var c comparison
	add := func(name, want, got string) {
		c = append(c, field{name, want, got, want != "" && want != got})
	}
	wantFlags, gotFlags := t.Flags, got.Flags
	mask := packet.Flags(0)
	if r.partial {
		mask |= packet.PSH | packet.FIN
	}
	if r.ignorePush {
		mask |= packet.PSH
	}
	if mask != 0 {
		gotFlags = gotFlags&^mask | wantFlags&mask
	}
	c = append(c, field{"flags", flagText(t.Flags), flagText(got.Flags), wantFlags != gotFlags})

	if t.AnySeq {
		add("sequence", "*", seqText(f.fromLocal(got.Seq, syn), len(p.Payload)))
		c[len(c)-1].bad = false
	} else if t.AbsSeq {
		add("sequence", seqText(t.Seq, t.Len)+"!", seqText(got.Seq, len(p.Payload))+"!")
	} else if !f.haveLocal && syn {
		// The first segment with SYN defines the count, so its own number is right.
		add("sequence", seqText(t.Seq, t.Len), seqText(t.Seq, len(p.Payload)))
	} else {
		seq := f.fromLocal(got.Seq, syn)
		if syn && t.Flags&packet.SYN != 0 && f.startsNew(got) {
			seq = t.Seq
		}
		want := seqText(t.Seq, t.Len)
		have := seqText(seq, len(p.Payload))
		c = append(c, field{"sequence", want, have, want != have && !(r.partial && seq == t.Seq)})
	}

	ack := ""
	if got.Flags&packet.ACK != 0 || got.Ack != 0 {
		ack = fmt.Sprintf("ack %d", f.ackFrom(got))
	}
	switch {
	case t.Ack != nil:
		add("ack", fmt.Sprintf("ack %d", *t.Ack), ack)
	case ack != "":
		// Without ACK the field means nothing; with it, the script left it open.
		add("ack", "", ack)
	}
	win := fmt.Sprintf("win %d", got.Window)
	if t.Win != nil {
		add("window", fmt.Sprintf("win %d", *t.Win), win)
	} else {
		add("window", "", win)
	}
	urg := ""
	if got.Flags&packet.URG != 0 {
		urg = fmt.Sprintf("urg %d", got.Urgent)
	}
	if t.Urg != nil {
		add("urgent pointer", fmt.Sprintf("urg %d", *t.Urg), urg)
	} else {
		add("urgent pointer", "", urg)
	}
	c = append(c, f.compareOptions(t, got, r)...)
	// A probe of old bytes may carry garbage (RFC 1122 section 4.2.3.6).
	old := f.fromLocal(got.Seq, false)+uint32(len(p.Payload)) <= f.acked
	if !f.foreignData && !syn && !old && len(p.Payload) > 0 && f.haveLocal {
		if at := badByte(p.Payload, got.Seq-f.localISN); at >= 0 {
			add("data", "bytes as written", fmt.Sprintf("byte %d is not what was written", f.fromLocal(got.Seq, false)+uint32(at)))
		}
	}
	return c
}

// startsNew reports whether a SYN-ACK answers a SYN other than the one that the count starts from.
func (f *flow) startsNew(t *packet.TCP) bool {
	return t.Flags&packet.ACK != 0 && f.haveRemoteSYN && f.remoteSYN != f.remoteISN && t.Ack-f.remoteSYN-1 < 1<<16
}

// ackFrom is the acknowledgment number in the script's count.
func (f *flow) ackFrom(t *packet.TCP) uint32 {
	return f.fromRemote(t.Ack, t.Flags&packet.SYN != 0)
}

// badByte returns the index of the first byte that does not follow the pattern, or -1.
func badByte(data []byte, place uint32) int {
	want := patternBytes(place, len(data))
	if bytes.Equal(data, want) {
		return -1
	}
	for i := range data {
		if data[i] != want[i] {
			return i
		}
	}
	return -1
}

// compareOptions holds the options against the script's, one by one in order.
func (f *flow) compareOptions(t *TCPSpec, got *packet.TCP, r rules) comparison {
	actual := f.optionTexts(got, t, Out)
	if t.AnyOptions {
		return comparison{{"options", "<...>", angle(actual), false}}
	}
	var c comparison
	for i := range max(len(t.Options), len(actual)) {
		fd := field{name: "option"}
		if i < len(t.Options) {
			o := t.Options[i]
			fd.want = o.text()
			fd.name = "option " + firstWord(fd.want)
		}
		if i < len(actual) {
			fd.got = actual[i]
		}
		fd.bad = fd.want != fd.got
		if i < len(t.Options) && i < len(got.Options) && t.Options[i].Kind == packet.OptTimestamp {
			fd.bad = !f.stampMatches(t.Options[i], got.Options[i], r)
		}
		if i < len(t.Options) && i < len(got.Options) && t.Options[i].AnyCookie {
			fd.bad = !isCookie(got.Options[i])
		}
		c = append(c, fd)
	}
	for i := range c {
		// An option that is not there shows as "-", so that the mark has a place.
		if c[i].want == "" {
			c[i].want = "-"
		}
		if c[i].got == "" {
			c[i].got = "-"
		}
	}
	for i := range c {
		end := ","
		if i == len(c)-1 {
			end = ">"
		}
		c[i].want, c[i].got = c[i].want+end, c[i].got+end
	}
	if len(c) > 0 {
		c[0].want, c[0].got = "<"+c[0].want, "<"+c[0].got
	}
	return c
}

func firstWord(s string) string {
	w, _, _ := strings.Cut(s, " ")
	return w
}

func angle(options []string) string {
	if len(options) == 0 {
		return ""
	}
	return "<" + strings.Join(options, ",") + ">"
}

// stampMatches compares a time stamp option: the echo exactly, the value only when the script says what a tick is.
func (f *flow) stampMatches(want TCPOption, got packet.Option, r rules) bool {
	val, ecr, ok := got.Timestamp()
	if !ok {
		return false
	}
	if ecr != want.Ecr {
		return false
	}
	if r.stampTick == 0 || !f.haveStamp {
		return true
	}
	off := int64(int32(val - f.stampBase.wire - (want.Val - f.stampBase.script)))
	return off >= -int64(r.stampSlack) && off <= int64(r.stampSlack)
}

// maxCookie is the length of the longest Fast Open cookie (RFC 7413 section 4.1.1).
const maxCookie = 16

// isCookie reports whether an option holds a Fast Open cookie.
func isCookie(o packet.Option) bool {
	return o.Kind == packet.OptFastOpen && len(o.Data) >= 4 && len(o.Data) <= maxCookie && len(o.Data)%2 == 0
}

// learnStamp remembers the time stamp of a packet that matched, under the script's name for it.
func (f *flow) learnStamp(t *TCPSpec, got *packet.TCP) {
	o, ok := got.Option(packet.OptTimestamp)
	if !ok {
		return
	}
	val, _, ok := o.Timestamp()
	if !ok {
		return
	}
	for _, want := range t.Options {
		if want.Kind != packet.OptTimestamp {
			continue
		}
		if f.stamps == nil {
			f.stamps = map[uint32]uint32{}
		}
		f.stamps[want.Val] = val
		if !f.haveStamp {
			f.stampBase, f.haveStamp = stamp{want.Val, val}, true
		}
	}
}

func (f *flow) compareICMP(m *ICMPSpec, p *packet.Packet) comparison {
	var c comparison
	add := func(name, want, got string) { c = append(c, field{name, want, got, want != got}) }
	got := p.ICMP
	add("type", fmt.Sprintf("icmp %s", m.TypeName), "icmp "+icmpTypeText(got.Type, p.Version))
	if m.CodeName != "" || got.Code != m.Code {
		add("code", fmt.Sprintf("code %d", m.Code), fmt.Sprintf("code %d", got.Code))
	}
	if m.MTU != nil {
		add("mtu", fmt.Sprintf("mtu %d", *m.MTU), fmt.Sprintf("mtu %d", got.Rest))
	}
	if m.isEcho() {
		add("id", fmt.Sprintf("id %d seq %d", m.ID, m.Seq), fmt.Sprintf("id %d seq %d", got.Rest>>16, got.Rest&0xffff))
		add("length", fmt.Sprintf("(%d)", m.Len), fmt.Sprintf("(%d)", len(got.Body)))
		if at := badByte(got.Body, 0); at >= 0 && len(got.Body) == m.Len {
			add("data", "bytes as sent", fmt.Sprintf("byte %d differs", at))
		}
	}
	return c
}

func icmpTypeText(typ uint8, version int) string {
	for name, n := range icmpTypes {
		if version == 4 && n.v4 == int(typ) || version == 6 && n.v6 == int(typ) {
			return name
		}
	}
	return fmt.Sprintf("type %d", typ)
}
