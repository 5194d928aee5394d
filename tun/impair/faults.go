package impair

import (
	"net/netip"
	"time"

	"github.com/catflap/catflap/internal/packet"
)

// rule is a Rule at work. It is guarded by Link.mu.
type rule struct {
	Rule
	id      int
	text    string
	hosts   []netip.Prefix // that Match.Host or Match.Name stand for
	added   time.Duration
	flows   int // that it has seen
	matched uint64
	applied uint64
	until   time.Duration // of cut: when the cable that a packet cut is whole again
	raw     ruleFlow      // of packets that belong to no flow
}

// ruleFlow is what a rule remembers of a flow.
type ruleFlow struct {
	ordinal int // among the flows that the rule has seen
	count   uint64
	gone    bool // of vanish
}

// judge returns what the rule does to a packet, if anything.
func (r *rule) judge(p *wirePacket, now time.Duration, bit uniform) (f Fault, ok bool) {
	if now-r.added < r.After || r.Match.Way != "" && r.Match.Way != p.id.Dir.String() {
		return f, false
	}
	f = Fault{Time: now, Packet: p.id, Action: ActionDrop, Rule: r.text}
	if now < r.until {
		return f, true // the cable is cut, whatever it was that cut it
	}
	if !r.concerns(p) {
		return f, false
	}
	rf := r.of(p)
	switch {
	case r.Verb == VerbCut && !r.triggered():
		return f, now-r.added < r.After+r.Time
	case r.Verb == VerbVanish && (rf.gone || !r.triggered()):
		return f, p.id.From == r.Who
	}
	at, ok := r.names(p, rf)
	if !ok {
		return f, false
	}
	rf.count++
	r.matched++
	if !r.Which.includes(rf.count) {
		return f, false
	}
	switch r.Verb {
	case VerbDelay:
		f.Action, f.Delay = ActionDelay, r.Time
	case VerbHold:
		f.Action, f.Delay = ActionHold, r.Time
	case VerbCorrupt:
		f.Action, f.N = ActionCorrupt, r.bit(p, at, bit)
	case VerbDuplicate:
		f.Action = ActionDuplicate
	case VerbReset:
		f.Action = ActionReset
	case VerbWindow:
		f.Action, f.N = ActionWindow, r.N
	case VerbTooBig:
		f.Action, f.N = ActionTooBig, r.N
	case VerbCut:
		r.until = now + r.Time
	case VerbVanish:
		rf.gone = true
		return f, p.id.From == r.Who
	}
	return f, true
}

// concerns reports whether a packet is between the ends, and of the protocol, that the rule is about.
func (r *rule) concerns(p *wirePacket) bool {
	m := &r.Match
	proto := m.Proto
	if r.Verb.needsTCP() {
		proto = "tcp"
	}
	if p.flow == nil {
		return (proto == "" || proto == "ip") && m.Port == 0 && !m.named()
	}
	d := &p.decoded
	switch proto {
	case "tcp":
		if d.TCP == nil {
			return false
		}
	case "udp":
		if d.UDP == nil {
			return false
		}
	case "icmp":
		if d.ICMP == nil {
			return false
		}
	}
	if m.Port != 0 && p.flow.key.a.Port() != m.Port && p.flow.key.b.Port() != m.Port {
		return false
	}
	if !m.named() {
		return true
	}
	for _, h := range r.hosts {
		if h.Contains(d.Dst) || !m.To && h.Contains(d.Src) {
			return true
		}
	}
	return false
}

// of returns what the rule remembers of a packet's flow.
func (r *rule) of(p *wirePacket) *ruleFlow {
	if p.flow == nil {
		return &r.raw
	}
	rf := p.flow.rules[r]
	if rf == nil {
		r.flows++
		rf = &ruleFlow{ordinal: r.flows}
		if p.flow.rules == nil {
			p.flow.rules = map[*rule]*ruleFlow{}
		}
		p.flow.rules[r] = rf
	}
	return rf
}

// names reports whether a packet is of the kind that the rule names, and for KindByte where in the payload
// the byte is.
func (r *rule) names(p *wirePacket, rf *ruleFlow) (at int, ok bool) {
	m := &r.Match
	size := len(p.bytes)
	switch {
	case m.From != AnySide && m.From != p.id.From,
		m.Over != 0 && size <= m.Over,
		m.Under != 0 && size >= m.Under,
		m.Connection != 0 && m.Connection != rf.ordinal:
		return 0, false
	case r.Verb == VerbTooBig:
		if size <= r.N && m.Over == 0 && m.Under == 0 {
			return 0, false
		}
		// A packet that may be fragmented would be, by the router that this stands for, and go on.
		if p.flow == nil || p.decoded.Version == 4 && !p.decoded.Frag.DF {
			return 0, false
		}
	}
	if m.Kind == AnyKind {
		return 0, true
	}
	t := p.decoded.TCP
	if t == nil {
		return 0, false // a later fragment of a segment
	}
	payload := len(p.decoded.Payload)
	switch m.Kind {
	case KindSYN:
		ok = t.Flags&(packet.SYN|packet.ACK) == packet.SYN
	case KindSYNACK:
		ok = t.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK
	case KindACK:
		ok = t.Flags&(packet.SYN|packet.FIN|packet.RST|packet.ACK) == packet.ACK && payload == 0
	case KindData:
		ok = payload > 0
	case KindFIN:
		ok = t.Flags&packet.FIN != 0
	case KindRST:
		ok = t.Flags&packet.RST != 0
	case KindByte:
		return p.flow.end(p.id.From).carries(&p.decoded, m.Byte)
	}
	return 0, ok
}

// bit chooses the bit to flip: the lowest of the byte that the rule names, else any of the payload; of a packet
// without payload, any of what follows the IP header.
func (r *rule) bit(p *wirePacket, at int, random uniform) int {
	from, to := 0, len(p.bytes)
	if p.flow != nil {
		d := &p.decoded
		to = d.Length
		if from = to - len(d.Payload); from == to {
			from = p.transport
		}
		if from == to {
			from = 0
		}
	}
	if r.Match.Kind == KindByte {
		return 8*(from+at) + 7
	}
	return 8*from + random.below(8*(to-from))
}
