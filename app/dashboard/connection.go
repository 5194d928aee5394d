package dashboard

import (
	"container/list"
	"net/netip"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// tuple is a connection's addresses as this side of it sees them.
type tuple struct{ local, remote netip.AddrPort }

// connection is one incarnation of a 4-tuple. It is guarded by Recorder.mu.
type connection struct {
	id    int // from 1; 0: no connection, but what belongs to none
	key   tuple
	role  string // "server" or "client"
	state string // "" while it is not known
	fd    int    // -1: none yet; after close(2) the one that it had
	conn  uint64 // the stack's identity of it; 0: not known

	opened    time.Duration
	active    time.Duration // when something was last heard of it
	closed    time.Duration
	over      bool // closed holds
	partial   bool // its beginning was not seen
	hidden    bool // the dashboard's own: nothing is kept of it
	forgotten bool // nothing more will come

	us, peer half
	packets  uint64 // that the stack saw
	retrans  uint64 // of those, sent again
	dropped  uint64 // packets that the link lost

	// Shared by packets while they are equal.
	routes [2]*stack.RouteLookup // out, in
	lookup *stack.SocketLookup
	sample *stack.SampleEvent // the newest

	lostBefore uint64 // events lost when it was first heard of

	place *list.Element // in Recorder.open or Recorder.done
	kept  kept
	limit int // of kept
}

// half is one side of a connection, as its segments tell.
type half struct {
	known bool   // isn holds: from the SYN or, of a connection whose beginning was not seen, the first segment
	syn   bool   // the SYN was seen
	isn   uint32 // initial sequence number
	scale int8   // of its window; -1: it asked for none
	next  uint32 // the sequence number after the last byte sent
	sent  uint64 // bytes of payload, each counted once
	fin   bool
	finAt uint32

	acking bool // the following hold
	ack    uint32
	win    uint16
	acked  uint64 // bytes of the other side's, its FIN included
}

func (h *half) start(isn uint32) {
	if !h.known {
		h.known, h.isn, h.next, h.scale = true, isn, isn+1, -1
	}
}

// outstanding reports whether the side has sent what ack does not acknowledge.
func (h *half) outstanding(ack uint32) bool {
	return int32(h.next-ack) > 0 || h.fin && int32(h.finAt-ack) >= 0
}

// rx and tx are bytes of payload: received in order, and sent.
func (c *connection) rx() uint64 {
	if n := c.us.acked; !c.peer.fin || int32(c.us.ack-c.peer.finAt) <= 0 || n == 0 {
		return n
	} else {
		return n - 1 // the FIN
	}
}
func (c *connection) tx() uint64 { return c.us.sent }

// sides are the sender of a segment and its receiver.
func (c *connection) sides(out bool) (from, to *half) {
	if out {
		return &c.us, &c.peer
	}
	return &c.peer, &c.us
}

// follow takes a segment into account that the stack sent or received, and reports whether it is a duplicate ACK
// (RFC 5681 section 2).
func (c *connection) follow(out bool, t *packet.TCP, plen int) (dup bool) {
	from, to := c.sides(out)
	switch {
	case t.Flags&packet.SYN != 0 && !from.syn:
		*from = half{known: true, syn: true, isn: t.Seq, next: t.Seq + 1, scale: -1}
		if o, ok := t.Option(packet.OptWScale); ok && len(o.Data) == 1 {
			from.scale = int8(min(o.Data[0], 14)) // RFC 7323 section 2.3
		}
	case t.Flags&packet.RST == 0:
		from.start(t.Seq - 1)
	}
	start := t.Seq
	if t.Flags&packet.SYN != 0 {
		start++
	}
	if n := int32(start + uint32(plen) - from.next); plen > 0 && n > 0 {
		from.next += uint32(n)
		from.sent += uint64(n)
	}
	if t.Flags&packet.FIN != 0 {
		from.fin, from.finAt = true, start+uint32(plen)
	}
	if t.Flags&packet.ACK == 0 || t.Flags&packet.RST != 0 {
		return false
	}
	to.start(t.Ack - 1)
	if !from.acking {
		from.acking, from.acked = true, uint64(t.Ack-to.isn-1)
	} else if n := int32(t.Ack - from.ack); n < 0 {
		return false // older than what is known
	} else {
		from.acked += uint64(n)
		_, sack := t.Option(packet.OptSACK)
		dup = n == 0 && plen == 0 && t.Flags&(packet.SYN|packet.FIN) == 0 && (t.Window == from.win || sack) && to.outstanding(t.Ack)
	}
	from.ack, from.win = t.Ack, t.Window
	return dup
}

// segment describes a TCP segment of the connection; opts are the bytes of its options.
func (c *connection) segment(out bool, length, plen int, t *packet.TCP, opts []byte) segment {
	from, to := c.sides(out)
	s := segment{out: out, len: length, plen: plen, flags: t.Flags, seq: t.Seq, ack: t.Ack, win: t.Window, scale: -1, opts: opts}
	switch {
	case t.Flags&packet.SYN != 0:
		s.scale = 0 // RFC 7323 section 2.2
	case from.syn && to.syn:
		s.scale = 0
		if from.scale >= 0 && to.scale >= 0 {
			s.scale = from.scale
		}
	}
	if from.known {
		s.rel.Seq = t.Seq - from.isn
	}
	if to.known && t.Flags&packet.ACK != 0 {
		s.rel.Ack = t.Ack - to.isn
	}
	return s
}

// begins reports whether a SYN without an identity begins another connection than c, which may be nil.
func (c *connection) begins(out bool, t *packet.TCP, l *stack.SocketLookup) bool {
	switch {
	case c == nil:
		return true
	case t.Flags&packet.ACK != 0: // of a SYN-ACK the SYN has come before
		return false
	}
	from, _ := c.sides(out)
	switch {
	case from.syn && from.isn == t.Seq:
		return false // sent again
	case c.over, c.state == "TIME-WAIT", c.state == "CLOSED":
		return true
	}
	return from.syn && l != nil && l.Found && l.State == "LISTEN"
}

// row is a connection as /api/connections lists it.
type row struct {
	ID      int      `json:"id"`
	Local   string   `json:"local"`
	Remote  string   `json:"remote"`
	Role    string   `json:"role"`
	State   string   `json:"state"`
	Opened  float64  `json:"opened"`
	Closed  *float64 `json:"closed"`
	RX      uint64   `json:"rx"`
	TX      uint64   `json:"tx"`
	Packets uint64   `json:"packets"`
	Retrans uint64   `json:"retrans"`
	Lost    uint64   `json:"lost"`
	FD      int      `json:"fd"`
	Partial bool     `json:"partial,omitempty"`
	Kept    int      `json:"kept"`
}

func (c *connection) row() row {
	r := row{
		ID: c.id, Local: c.key.local.String(), Remote: c.key.remote.String(), Role: c.role, State: c.state, Opened: seconds(c.opened),
		RX: c.rx(), TX: c.tx(), Packets: c.packets, Retrans: c.retrans, Lost: c.dropped, FD: c.fd, Partial: c.partial, Kept: c.kept.Len(),
	}
	if c.over {
		t := seconds(c.closed)
		r.Closed = &t
	}
	return r
}
