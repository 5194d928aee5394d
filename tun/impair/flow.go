package impair

import (
	"container/list"
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/catflap/catflap/internal/packet"
)

// maxFlows bounds what is remembered: 16,384 flows at some 500 bytes are 8 MB. Of more, the one that was silent
// for longest is forgotten; if it speaks again it counts as a new one.
const maxFlows = 1 << 14

// flows tells packets of one flow from those of another, and the two sides of each.
type flows struct {
	byKey   map[flowKey]*list.Element // of *flow
	recent  *list.List                // the one that spoke last is in front
	ordinal map[string]int            // flows seen so far, by what their names start with
}

// flowKey is a 5-tuple without direction: a is the lower end.
type flowKey struct {
	proto uint8
	a, b  netip.AddrPort
}

// flow is one TCP connection, or the packets of another protocol between the same two ends.
type flow struct {
	key    flowKey
	name   string
	client netip.AddrPort
	ends   [2]end // client, server
	rules  map[*rule]*ruleFlow
}

// end is what is known of one side.
type end struct {
	packets uint64
	syn     bool   // its SYN has been seen
	isn     uint32 // sequence number of the SYN
	based   bool
	base    uint32        // sequence number of the first byte of its stream
	held    time.Duration // what it sends does not go before this
}

func (f *flow) end(s Side) *end { return &f.ends[s-1] }

func newFlows() *flows {
	return &flows{byKey: map[flowKey]*list.Element{}, recent: list.New(), ordinal: map[string]int{}}
}

// find returns the flow of a packet, and the side that sent it, and counts it there.
func (fs *flows) find(p *packet.Packet) (*flow, Side) {
	src, dst := netip.AddrPortFrom(p.Src, 0), netip.AddrPortFrom(p.Dst, 0)
	switch {
	case p.TCP != nil:
		src, dst = netip.AddrPortFrom(p.Src, p.TCP.SrcPort), netip.AddrPortFrom(p.Dst, p.TCP.DstPort)
	case p.UDP != nil:
		src, dst = netip.AddrPortFrom(p.Src, p.UDP.SrcPort), netip.AddrPortFrom(p.Dst, p.UDP.DstPort)
	}
	key := flowKey{p.Proto, src, dst}
	if dst.Compare(src) < 0 {
		key.a, key.b = dst, src
	}
	var f *flow
	if e := fs.byKey[key]; e != nil {
		f = e.Value.(*flow)
		if f.superseded(p, src) {
			fs.forget(e)
			f = nil
		} else {
			fs.recent.MoveToFront(e)
		}
	}
	if f == nil {
		f = fs.add(key, p, src, dst)
	}
	side := Server
	if src == f.client {
		side = Client
	}
	e := f.end(side)
	e.packets++
	e.learn(p)
	return f, side
}

// superseded reports whether p, from src, is the SYN of a new connection between the ends of f.
func (f *flow) superseded(p *packet.Packet, src netip.AddrPort) bool {
	if p.TCP == nil || p.TCP.Flags&(packet.SYN|packet.ACK) != packet.SYN {
		return false
	}
	e := f.end(Server)
	if src == f.client {
		e = f.end(Client)
	}
	if e.syn {
		return e.isn != p.TCP.Seq
	}
	return e.packets > 0
}

func (e *end) learn(p *packet.Packet) {
	switch {
	case p.TCP == nil:
	case p.TCP.Flags&packet.SYN != 0:
		e.syn, e.isn = true, p.TCP.Seq
		e.based, e.base = true, p.TCP.Seq+1
	case !e.based && len(p.Payload) > 0:
		e.based, e.base = true, p.TCP.Seq
	}
}

// carries reports whether a segment of this side carries the byte at an offset of its stream, and where in
// the segment's payload.
func (e *end) carries(p *packet.Packet, offset uint32) (at int, ok bool) {
	if p.TCP == nil || !e.based || len(p.Payload) == 0 {
		return 0, false
	}
	seq := p.TCP.Seq
	if p.TCP.Flags&packet.SYN != 0 {
		seq++
	}
	rel := e.base + offset - seq // modulo 2^32, so an offset before the segment is a large number
	return int(rel), rel < uint32(len(p.Payload))
}

func (fs *flows) add(key flowKey, p *packet.Packet, src, dst netip.AddrPort) *flow {
	client, server := src, dst
	if p.TCP != nil {
		switch p.TCP.Flags & (packet.SYN | packet.ACK) {
		case packet.SYN:
		case packet.SYN | packet.ACK:
			client, server = dst, src
		default:
			if src.Port() < dst.Port() {
				client, server = dst, src
			}
		}
	}
	prefix := flowPrefix(p, server)
	if len(fs.ordinal) >= maxFlows {
		clear(fs.ordinal) // a scan of that many servers; names start again
	}
	fs.ordinal[prefix]++
	f := &flow{key: key, name: fmt.Sprintf("%s#%d", prefix, fs.ordinal[prefix]), client: client}
	if len(fs.byKey) >= maxFlows {
		fs.forget(fs.recent.Back())
	}
	fs.byKey[key] = fs.recent.PushFront(f)
	return f
}

func (fs *flows) forget(e *list.Element) {
	delete(fs.byKey, fs.recent.Remove(e).(*flow).key)
}

// dropRule forgets what a rule remembers of all flows.
func (fs *flows) dropRule(r *rule) {
	for _, e := range fs.byKey {
		delete(e.Value.(*flow).rules, r)
	}
}

func flowPrefix(p *packet.Packet, server netip.AddrPort) string {
	switch {
	case p.TCP != nil:
		return "tcp/" + server.String()
	case p.UDP != nil:
		return "udp/" + server.String()
	case p.ICMP != nil:
		return "icmp/" + server.Addr().String()
	}
	return fmt.Sprintf("ip%d/%s", p.Proto, server.Addr())
}

// headerLen is the length of the IP header, with IPv4 options or IPv6 extension headers, of a packet that
// packet.Parse has understood: where the transport header starts.
func headerLen(b []byte) int {
	if b[0]>>4 == header.IPv4Version {
		return int(b[0]&0xf) * 4
	}
	at := header.IPv6MinimumSize
	for next := b[6]; at+8 <= len(b); {
		size := 8 // RFC 8200 section 4.5
		switch next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDestOpts:
			size += int(b[at+1]) * 8
		case packet.ProtoFragment:
		default:
			return at
		}
		next = b[at]
		at += size
	}
	return min(at, len(b))
}
