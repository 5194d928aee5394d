package drill

import (
	"fmt"
	"strings"

	"github.com/catflap/catflap/internal/packet"
)

// flagText writes flags as scripts do.
func flagText(f packet.Flags) string {
	if f == 0 {
		return "-"
	}
	return strings.ReplaceAll(f.String(), "e", "A")
}

func seqText(seq uint32, n int) string { return fmt.Sprintf("%d:%d(%d)", seq, seq+uint32(n), n) }

// text writes an option as scripts do.
func (o TCPOption) text() string {
	switch o.Kind {
	case packet.OptEOL:
		return "eol"
	case packet.OptNOP:
		return "nop"
	case packet.OptMSS:
		return fmt.Sprintf("mss %d", o.Value)
	case packet.OptWScale:
		return fmt.Sprintf("wscale %d", o.Value)
	case packet.OptSACKOK:
		return "sackOK"
	case packet.OptSACK:
		s := "sack"
		for _, b := range o.Blocks {
			s += fmt.Sprintf(" %d:%d", b.Left, b.Right)
		}
		return s
	case packet.OptTimestamp:
		return fmt.Sprintf("TS val %d ecr %d", o.Val, o.Ecr)
	}
	if o.AnyCookie {
		return "FO *"
	}
	return unknownOption(o.Kind, o.Data)
}

func unknownOption(kind uint8, data []byte) string {
	if names, ok := accECNOrders[kind]; ok && len(data)%3 == 0 && len(data) <= 9 {
		s := "ECN"
		for i := range len(data) / 3 {
			s += fmt.Sprintf(" %s %d", names[i], uint32(data[3*i])<<16|uint32(data[3*i+1])<<8|uint32(data[3*i+2]))
		}
		return s
	}
	switch {
	case kind == packet.OptMD5:
		return fmt.Sprintf("md5 %x", data)
	case kind == packet.OptFastOpen:
		return strings.TrimSpace(fmt.Sprintf("FO %x", data))
	case kind == packet.OptExp2 && len(data) >= 2 && data[0] == 0xf9 && data[1] == 0x89:
		return strings.TrimSpace(fmt.Sprintf("FOEXP %x", data[2:]))
	case len(data) == 0:
		return fmt.Sprintf("unknown-%d", kind)
	}
	return fmt.Sprintf("unknown-%d 0x%x", kind, data)
}

// optionTexts writes the options of a segment as the script would, in the script's count. The first time stamp of the
// stack defines that count; until then it shows as the expected segment t has it.
func (f *flow) optionTexts(got *packet.TCP, t *TCPSpec, dir Direction) []string {
	// The stack's SACK blocks count the peer's numbers, and its echo is the peer's time stamp; and the other way round.
	edge := func(n uint32) uint32 { return f.fromRemote(n, false) }
	if dir == In {
		edge = func(n uint32) uint32 { return f.fromLocal(n, false) }
	}
	var out []string
	for i, o := range got.Options {
		switch {
		case o.Kind == packet.OptSACK && len(o.Data)%8 == 0 && len(o.Data) > 0:
			s := "sack"
			for _, b := range o.SACK() {
				s += fmt.Sprintf(" %d:%d", edge(b.Left), edge(b.Right))
			}
			out = append(out, s)
		case o.Kind == packet.OptTimestamp && len(o.Data) == 8:
			val, ecr, _ := o.Timestamp()
			switch {
			case dir == In && f.haveStamp && ecr != 0:
				ecr = ecr - f.stampBase.wire + f.stampBase.script
			case dir == Out && f.haveStamp:
				val = val - f.stampBase.wire + f.stampBase.script
			case dir == Out && t != nil && i < len(t.Options) && t.Options[i].Kind == packet.OptTimestamp:
				val = t.Options[i].Val
			}
			out = append(out, fmt.Sprintf("TS val %d ecr %d", val, ecr))
		case o.Kind == packet.OptMSS, o.Kind == packet.OptWScale, o.Kind == packet.OptSACKOK, o.Kind == packet.OptNOP, o.Kind == packet.OptEOL:
			out = append(out, o.String())
		default:
			out = append(out, unknownOption(o.Kind, o.Data))
		}
	}
	if got.BadOptions != nil {
		out = append(out, got.BadOptions.Error())
	}
	return out
}

// text writes a packet of the flow as a script would, without its direction.
func (f *flow) text(p *packet.Packet) string {
	switch {
	case p.TCP != nil:
		t := p.TCP
		syn := t.Flags&packet.SYN != 0
		dir := Out
		seq, ack := f.fromLocal(t.Seq, syn), f.fromRemote(t.Ack, syn)
		if p.Src == f.remote.Addr() {
			dir = In
			seq, ack = f.fromRemote(t.Seq, syn), f.fromLocal(t.Ack, syn)
		}
		s := flagText(t.Flags) + " " + seqText(seq, len(p.Payload))
		if t.Flags&packet.ACK != 0 {
			s += fmt.Sprintf(" ack %d", ack)
		}
		s += fmt.Sprintf(" win %d", t.Window)
		if t.Flags&packet.URG != 0 {
			s += fmt.Sprintf(" urg %d", t.Urgent)
		}
		if o := angle(f.optionTexts(t, nil, dir)); o != "" {
			s += " " + o
		}
		return s
	case p.UDP != nil:
		return fmt.Sprintf("udp (%d)", len(p.Payload))
	case p.ICMP != nil:
		return fmt.Sprintf("icmp %s code %d", icmpTypeText(p.ICMP.Type, p.Version), p.ICMP.Code)
	}
	return p.String()
}

// text writes the packet as the script has it, without its direction.
func (pk *Packet) text() string {
	switch {
	case pk.TCP != nil:
		t := pk.TCP
		s := flagText(t.Flags) + " " + seqText(t.Seq, t.Len)
		if t.AnySeq {
			s = flagText(t.Flags) + " *"
		}
		if t.Ack != nil {
			s += fmt.Sprintf(" ack %d", *t.Ack)
		}
		if t.Win != nil {
			s += fmt.Sprintf(" win %d", *t.Win)
		}
		if t.Urg != nil {
			s += fmt.Sprintf(" urg %d", *t.Urg)
		}
		var opts []string
		for _, o := range t.Options {
			opts = append(opts, o.text())
		}
		if o := angle(opts); t.AnyOptions {
			s += " <...>"
		} else if o != "" {
			s += " " + o
		}
		if e := pk.IP.Encap; e != nil {
			s += fmt.Sprintf("/udp(%d > %d)", e.SrcPort, e.DstPort)
		}
		return s
	case pk.UDP != nil:
		return fmt.Sprintf("udp (%d)", pk.UDP.Len)
	default:
		s := "icmp " + pk.ICMP.TypeName
		if pk.ICMP.CodeName != "" {
			s += " " + pk.ICMP.CodeName
		}
		return s
	}
}
