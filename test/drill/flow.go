package drill

import (
	"net/netip"

	"github.com/catflap/catflap/internal/packet"
)

// flow is a conversation between the stack under test (local) and the peer that the script plays (remote). It translates
// between the script's numbers and those on the wire.
//
// Scripts count sequence numbers from the initial one: 1 is the first byte of data. Only in segments with SYN they are
// written as they are, which for most scripts is 0. The remote side's numbers are on the wire as the script writes them,
// the local side's start wherever the stack chose.
type flow struct {
	udp           bool
	local, remote netip.AddrPort

	// localISN and remoteISN are the initial sequence numbers on the wire; localBase is what the script calls localISN.
	localISN, remoteISN   uint32
	localBase             uint32
	haveLocal, haveRemote bool

	// remoteSYN is the SYN received last. It starts a new count only when the stack accepts it.
	remoteSYN     uint32
	haveRemoteSYN bool

	// stamps are the stack's time stamps by the script's name for them.
	stamps      map[uint32]uint32
	stampBase   stamp
	haveStamp   bool
	lastSent    []byte // newest packet from the stack, for ICMP errors to quote
	foreignData bool   // the script wrote its own bytes, so contents are not checked
	left        bool   // the script has opened a socket since
	acked       uint32 // highest acknowledgment that the script has sent, in its numbers
}

// stamp is a time stamp in the script and on the wire.
type stamp struct{ script, wire uint32 }

// toLocal turns a script number of the stack's side into one on the wire, fromLocal back. syn says that the number
// stands in a segment with SYN.
func (f *flow) toLocal(n uint32, syn bool) uint32 {
	if syn {
		n -= f.localBase
	}
	return n + f.localISN
}

func (f *flow) fromLocal(n uint32, syn bool) uint32 {
	n -= f.localISN
	if syn {
		n += f.localBase
	}
	return n
}

// toRemote turns a script number of the peer's side into one on the wire, fromRemote back.
func (f *flow) toRemote(n uint32, syn bool) uint32 {
	if syn {
		return n
	}
	return n + f.remoteISN
}

func (f *flow) fromRemote(n uint32, syn bool) uint32 {
	if syn {
		return n
	}
	return n - f.remoteISN
}

// toEcr turns the script's name of a time stamp of the stack into what was on the wire.
func (f *flow) toEcr(n uint32) uint32 {
	if v, ok := f.stamps[n]; ok {
		return v
	}
	if f.haveStamp && n != 0 {
		return n - f.stampBase.script + f.stampBase.wire
	}
	return n
}

// segment builds an inbound TCP segment.
func (f *flow) segment(pk *Packet) []byte {
	t := pk.TCP
	syn := t.Flags&packet.SYN != 0
	h := tcpHeader{
		src: f.remote.Port(), dst: f.local.Port(),
		flags:   t.Flags,
		seq:     f.toRemote(t.Seq, syn),
		win:     defaultWindow,
		options: encodeOptions(t.Options, func(n uint32) uint32 { return f.toLocal(n, false) }, f.toEcr),
	}
	if syn {
		f.remoteSYN, f.haveRemoteSYN = h.seq, true
		if !f.haveRemote {
			f.remoteISN, f.haveRemote = h.seq, true
		}
	}
	switch {
	case t.Ack != nil:
		h.ack = f.toLocal(*t.Ack, syn)
	case t.Flags&packet.ACK != 0: // "." without its number acknowledges 0, the initial number itself
		h.ack = f.toLocal(0, syn)
	}
	if t.Win != nil {
		h.win = *t.Win
	}
	if t.Urg != nil {
		h.urg = *t.Urg
	}
	place := h.seq - f.remoteISN
	if syn {
		place++ // the SYN itself counts one
	}
	if t.AbsSeq {
		h.seq = t.Seq
	}
	ip := ipHeader{src: f.remote.Addr(), dst: f.local.Addr(), proto: packet.ProtoTCP, info: pk.IP}
	segment := h.bytes(patternBytes(place, t.Len))
	if e := pk.IP.Encap; e != nil {
		// The UDP checksum covers the segment, whose own is zero as FreeBSD sends it.
		ip.proto = packet.ProtoUDP
		return ip.ip(udpBytes(e.SrcPort, e.DstPort, segment), udpSumAt)
	}
	return ip.ip(segment, tcpSumAt)
}

// decapsulate reads the TCP segment that a UDP datagram of the stack carries.
func decapsulate(p *packet.Packet) (*packet.Packet, error) {
	ip := ipHeader{src: p.Src, dst: p.Dst, proto: packet.ProtoTCP, info: IPInfo{TTL: &p.TTL, TOS: &p.TOS}}
	if p.Version == 6 {
		ip.info.FlowLabel = &p.Flow
	}
	inner, err := packet.Parse(ip.assemble(append([]byte(nil), p.Payload...)))
	return &inner, err
}

// defaultWindow is the window of a segment whose script gives none: the largest, so that it stops nobody.
const defaultWindow = 0xffff

func (f *flow) datagram(pk *Packet) []byte {
	ip := ipHeader{src: f.remote.Addr(), dst: f.local.Addr(), proto: packet.ProtoUDP, info: pk.IP}
	return ip.ip(udpBytes(f.remote.Port(), f.local.Port(), patternBytes(0, pk.UDP.Len)), udpSumAt)
}

// message builds an inbound ICMP message.
func (f *flow) message(pk *Packet) []byte {
	m := pk.ICMP
	rest := uint32(m.ID)<<16 | uint32(m.Seq)
	if m.MTU != nil {
		rest = *m.MTU
	}
	var body []byte
	switch {
	case m.isEcho():
		body = patternBytes(0, m.Len)
	case m.Quote != nil || f.lastSent == nil:
		body = f.quote(m.Quote)
	default:
		body = f.lastSent[:min(len(f.lastSent), f.quoted())]
	}
	ip := ipHeader{src: f.remote.Addr(), dst: f.local.Addr(), proto: packet.ProtoICMP, info: pk.IP}
	if !ip.src.Is4() {
		ip.proto = packet.ProtoICMPv6
	}
	return ip.ip(icmpBytes(m.Type, m.Code, rest, body), icmpSumAt)
}

// quoted is how much of a packet an ICMP error quotes. RFC 1812 section 4.3.2.3 lets an ICMP error grow to 576 bytes,
// RFC 4443 to 1280; the headers are enough here, and the least that RFC 792 asks for is eight bytes of the transport's.
func (f *flow) quoted() int {
	if f.local.Addr().Is4() {
		return 20 + 8
	}
	return 40 + 20
}

// quote builds the packet from the stack that an ICMP error quotes.
func (f *flow) quote(q *Quote) []byte {
	if q == nil {
		q = &Quote{UDP: f.udp}
	}
	ip := ipHeader{src: f.local.Addr(), dst: f.remote.Addr(), proto: packet.ProtoTCP}
	var b []byte
	switch {
	case q.UDP:
		ip.proto = packet.ProtoUDP
		b = ip.ip(udpBytes(f.local.Port(), f.remote.Port(), make([]byte, q.Len)), udpSumAt)
	case q.Raw:
		ip.proto = 255 // reserved
		b = ip.assemble(make([]byte, q.Len))
	default:
		h := tcpHeader{src: f.local.Port(), dst: f.remote.Port(), seq: f.toLocal(q.Seq, false), flags: packet.ACK}
		segment := h.bytes(make([]byte, q.Len))
		if e := q.Encap; e != nil {
			ip.proto = packet.ProtoUDP
			b = ip.ip(udpBytes(e.SrcPort, e.DstPort, segment), udpSumAt)
		} else {
			b = ip.ip(segment, tcpSumAt)
		}
	}
	return b[:min(len(b), f.quoted())]
}

func (m *ICMPSpec) isEcho() bool { return m.TypeName == "echo_request" || m.TypeName == "echo_reply" }

// carries reports whether a packet from the stack belongs to the flow.
func (f *flow) carries(p *packet.Packet) bool {
	if p.Src != f.local.Addr() || p.Dst != f.remote.Addr() {
		return false
	}
	switch {
	case p.TCP != nil && !f.udp:
		return p.TCP.SrcPort == f.local.Port() && p.TCP.DstPort == f.remote.Port()
	case p.UDP != nil && f.udp:
		return p.UDP.SrcPort == f.local.Port() && p.UDP.DstPort == f.remote.Port()
	}
	return false
}

// learn takes from a packet of the stack what later ones are counted by. base is what the script calls its sequence
// number, if it has SYN.
func (f *flow) learn(p *packet.Packet, base uint32) {
	t := p.TCP
	if t == nil || t.Flags&packet.SYN == 0 {
		return
	}
	f.localISN, f.localBase, f.haveLocal = t.Seq, base, true
	if t.Flags&packet.ACK != 0 && f.haveRemoteSYN {
		f.remoteISN, f.haveRemote = f.remoteSYN, true
	}
}
