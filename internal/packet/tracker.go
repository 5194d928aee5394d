package packet

import "net/netip"

// maxFlows bounds a Tracker's memory: 65,536 conversations at about 150 bytes are 10 MB. When it is
// full the Tracker forgets all it knows, and numbers restart at each conversation's next packet.
const maxFlows = 1 << 16

// Tracker remembers the first sequence numbers of TCP conversations, so that later ones print relative to them.
// It is not safe for concurrent use.
type Tracker struct {
	// RelativeSYN also counts SYN, SYN-ACK and segments without ACK from zero. tcpdump prints those as on the wire,
	// which shows the initial sequence numbers; with RelativeSYN a conversation reads the same however these were chosen.
	RelativeSYN bool

	flows map[flow]bases
}

// flow is one direction of a conversation.
type flow struct{ src, dst netip.AddrPort }

// bases are the sequence and acknowledgment numbers that count as zero in one direction.
type bases struct{ seq, ack uint32 }

// NewTracker returns a Tracker that numbers as tcpdump does.
func NewTracker() *Tracker { return &Tracker{flows: make(map[flow]bases)} }

// Format writes the packet as tcpdump -n does, without a time: TCP sequence and acknowledgment numbers are relative
// to the first ones seen of that conversation; a SYN starts a new one.
func (t *Tracker) Format(p Packet) string {
	if p.TCP == nil {
		return p.text(0, 0)
	}
	out := flow{netip.AddrPortFrom(p.Src, p.TCP.SrcPort), netip.AddrPortFrom(p.Dst, p.TCP.DstPort)}
	syn, ack := p.TCP.Flags&SYN != 0, p.TCP.Flags&ACK != 0
	b, known := t.flows[out]
	switch {
	case syn, ack && !known:
		b = bases{seq: p.TCP.Seq}
		if ack {
			b.ack = p.TCP.Ack - 1 // the peer's SYN is one before the first acknowledgment
		}
		if ack || t.RelativeSYN { // from a SYN alone tcpdump learns nothing
			t.learn(out, b)
		}
		if syn && t.RelativeSYN {
			return p.text(b.seq, b.ack)
		}
		return p.text(0, 0)
	case ack, t.RelativeSYN:
		return p.text(b.seq, b.ack)
	default:
		return p.text(0, 0)
	}
}

// learn stores a conversation's bases for both of its directions.
func (t *Tracker) learn(out flow, b bases) {
	if t.flows == nil || len(t.flows) >= maxFlows {
		t.flows = make(map[flow]bases)
	}
	t.flows[out] = b
	t.flows[flow{out.dst, out.src}] = bases{seq: b.ack, ack: b.seq}
}
