package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String writes the packet as tcpdump -n -S does, without a time: sequence numbers as on the wire.
func (p Packet) String() string { return p.text(0, 0) }

// String writes the control bits as tcpdump does: "S.", "P.", or "none".
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	var s []byte
	for i, c := range "FSRP.UEWe" {
		if f&(1<<i) != 0 {
			s = append(s, byte(c))
		}
	}
	return string(s)
}

// text writes the packet with the bases taken off its sequence and acknowledgment numbers.
func (p *Packet) text(seqBase, ackBase uint32) string {
	var s strings.Builder
	ip := "IP "
	if p.Version == 6 {
		ip = "IP6 "
	}
	s.WriteString(ip)
	switch {
	case p.TCP != nil:
		fmt.Fprintf(&s, "%s.%d > %s.%d: ", p.Src, p.TCP.SrcPort, p.Dst, p.TCP.DstPort)
	case p.UDP != nil:
		fmt.Fprintf(&s, "%s.%d > %s.%d: ", p.Src, p.UDP.SrcPort, p.Dst, p.UDP.DstPort)
	default:
		fmt.Fprintf(&s, "%s > %s: ", p.Src, p.Dst)
	}
	if p.Version == 6 && p.Frag != (Fragment{}) {
		fmt.Fprintf(&s, "frag (%d|%d) ", p.Frag.Offset, len(p.transport))
	}
	switch {
	case p.TCP != nil:
		p.TCP.text(&s, seqBase, ackBase, len(p.Payload))
	case p.UDP != nil:
		fmt.Fprintf(&s, "UDP, length %d", max(0, int(p.UDP.Length)-udpHeaderLen))
	case p.ICMP != nil && p.Version == 4:
		fmt.Fprintf(&s, "ICMP %s, length %d", p.icmp4(), len(p.transport))
	case p.ICMP != nil:
		fmt.Fprintf(&s, "ICMP6, %s, length %d", p.icmp6(), len(p.transport))
	case p.Version == 6 && p.Frag.Offset != 0:
		return strings.TrimRight(s.String(), " ")
	default:
		s.WriteString(protoName(p.Proto))
		if p.Frag.Offset == 0 {
			fmt.Fprintf(&s, ", length %d", len(p.transport))
		}
	}
	if p.Version == 4 && p.Frag.Fragmented() {
		more := ""
		if p.Frag.MF {
			more = "+"
		}
		fmt.Fprintf(&s, " (frag %d:%d@%d%s)", p.Frag.ID, len(p.transport), p.Frag.Offset, more)
	}
	return s.String()
}

func (t *TCP) text(s *strings.Builder, seqBase, ackBase uint32, length int) {
	fmt.Fprintf(s, "Flags [%s]", t.Flags)
	if length > 0 || t.Flags&(SYN|FIN|RST) != 0 {
		fmt.Fprintf(s, ", seq %d", t.Seq-seqBase)
		if length > 0 {
			fmt.Fprintf(s, ":%d", t.Seq-seqBase+uint32(length))
		}
	}
	if t.Flags&ACK != 0 {
		fmt.Fprintf(s, ", ack %d", t.Ack-ackBase)
	}
	fmt.Fprintf(s, ", win %d", t.Window)
	if t.Flags&URG != 0 {
		fmt.Fprintf(s, ", urg %d", t.Urgent)
	}
	if len(t.Options) > 0 || t.BadOptions != nil {
		s.WriteString(", options [")
		for i, o := range t.Options {
			if i > 0 {
				s.WriteByte(',')
			}
			// A SACK block counts in the numbers of the acknowledgment.
			s.WriteString(o.text(ackBase))
		}
		if t.BadOptions != nil {
			s.WriteString("[bad opt]")
		}
		s.WriteByte(']')
	}
	fmt.Fprintf(s, ", length %d", length)
}

func protoName(p uint8) string {
	switch p {
	case ProtoICMP:
		return "icmp"
	case ProtoTCP:
		return "tcp"
	case ProtoUDP:
		return "udp"
	case ProtoICMPv6:
		return "ipv6-icmp"
	case ProtoNone:
		return "no next header"
	default:
		return "ip-proto-" + strconv.Itoa(int(p))
	}
}

// icmp4 names an ICMP message as tcpdump does.
func (p *Packet) icmp4() string {
	m := p.ICMP
	id, seq := m.Rest>>16, m.Rest&0xffff
	switch m.Type {
	case 0:
		return fmt.Sprintf("echo reply, id %d, seq %d", id, seq)
	case 8:
		return fmt.Sprintf("echo request, id %d, seq %d", id, seq)
	case 3:
		return p.unreachable4()
	case 5:
		kind := [...]string{"net", "host", "tos-net", "tos-host"}
		q, _ := p.Quoted()
		if int(m.Code) < len(kind) {
			return fmt.Sprintf("redirect %s to %s %s", q.Dst, kind[m.Code], netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, m.Rest))))
		}
	case 11:
		switch m.Code {
		case 0:
			return "time exceeded in-transit"
		case 1:
			return "ip reassembly time exceeded"
		}
	case 12:
		if m.Code == 0 {
			return fmt.Sprintf("parameter problem - octet %d", m.Rest>>24)
		}
		return fmt.Sprintf("parameter problem - code %d", m.Code)
	}
	return fmt.Sprintf("type-#%d, code %d", m.Type, m.Code)
}

func (p *Packet) unreachable4() string {
	q, ok := p.Quoted()
	if !ok {
		return fmt.Sprintf("unreachable - #%d", p.ICMP.Code)
	}
	switch p.ICMP.Code {
	case 0:
		return fmt.Sprintf("net %s unreachable", q.Dst)
	case 1:
		return fmt.Sprintf("host %s unreachable", q.Dst)
	case 2:
		return fmt.Sprintf("%s protocol %d unreachable", q.Dst, q.Proto)
	case 3:
		switch {
		case q.TCP != nil:
			return fmt.Sprintf("%s tcp port %d unreachable", q.Dst, q.TCP.DstPort)
		case q.UDP != nil:
			return fmt.Sprintf("%s udp port %d unreachable", q.Dst, q.UDP.DstPort)
		}
		return fmt.Sprintf("%s protocol %d port unreachable", q.Dst, q.Proto)
	case 4:
		if mtu := p.ICMP.Rest & 0xffff; mtu != 0 {
			return fmt.Sprintf("%s unreachable - need to frag (mtu %d)", q.Dst, mtu)
		}
		return fmt.Sprintf("%s unreachable - need to frag", q.Dst)
	case 10:
		return fmt.Sprintf("host %s unreachable - admin prohibited", q.Dst)
	case 13:
		return fmt.Sprintf("host %s unreachable - admin prohibited filter", q.Dst)
	}
	return fmt.Sprintf("%s unreachable - #%d", q.Dst, p.ICMP.Code)
}

// icmp6 names an ICMPv6 message as tcpdump does.
func (p *Packet) icmp6() string {
	m := p.ICMP
	id, seq := m.Rest>>16, m.Rest&0xffff
	target := func() string {
		if len(m.Body) < 16 {
			return "nobody (cut short)"
		}
		return netip.AddrFrom16([16]byte(m.Body[:16])).String()
	}
	switch m.Type {
	case 1:
		return p.unreachable6()
	case 2:
		return fmt.Sprintf("packet too big, mtu %d", m.Rest)
	case 3:
		if q, ok := p.Quoted(); ok && m.Code == 0 {
			return fmt.Sprintf("time exceeded in-transit for %s", q.Dst)
		}
		if m.Code == 1 {
			return "ip reassembly time exceeded"
		}
	case 4:
		switch m.Code {
		case 0:
			return fmt.Sprintf("parameter problem, errorneous - octet %d", m.Rest) // tcpdump's own spelling
		case 1:
			return fmt.Sprintf("parameter problem, next header - octet %d", m.Rest)
		case 2:
			return fmt.Sprintf("parameter problem, option - octet %d", m.Rest)
		}
	case 128:
		return fmt.Sprintf("echo request, id %d, seq %d", id, seq)
	case 129:
		return fmt.Sprintf("echo reply, id %d, seq %d", id, seq)
	case 133:
		return "router solicitation"
	case 134:
		return "router advertisement"
	case 135:
		return "neighbor solicitation, who has " + target()
	case 136:
		return "neighbor advertisement, tgt is " + target()
	case 143:
		return "multicast listener report v2"
	}
	return fmt.Sprintf("type-#%d, code %d", m.Type, m.Code)
}

func (p *Packet) unreachable6() string {
	q, ok := p.Quoted()
	if !ok {
		return fmt.Sprintf("destination unreachable, code %d", p.ICMP.Code)
	}
	switch p.ICMP.Code {
	case 0:
		return fmt.Sprintf("destination unreachable, unreachable route %s", q.Dst)
	case 1:
		return fmt.Sprintf("destination unreachable, unreachable prohibited %s", q.Dst)
	case 2:
		return fmt.Sprintf("destination unreachable, beyond scope %s, source address %s", q.Dst, q.Src)
	case 3:
		return fmt.Sprintf("destination unreachable, unreachable address %s", q.Dst)
	case 4:
		switch {
		case q.TCP != nil:
			return fmt.Sprintf("destination unreachable, unreachable port, %s tcp port %d", q.Dst, q.TCP.DstPort)
		case q.UDP != nil:
			return fmt.Sprintf("destination unreachable, unreachable port, %s udp port %d", q.Dst, q.UDP.DstPort)
		}
		return fmt.Sprintf("destination unreachable, unreachable port, %s protocol %d", q.Dst, q.Proto)
	}
	return fmt.Sprintf("destination unreachable, code %d", p.ICMP.Code)
}
