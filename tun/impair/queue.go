package impair

import (
	"container/heap"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
)

// wirePacket is a packet as it would be on a wire: bytes, with all checksums.
type wirePacket struct {
	bytes     []byte
	proto     tcpip.NetworkProtocolNumber
	corrupted bool // a bit of it was flipped

	// What the endpoint below is to know of an outbound packet, beside its bytes.
	l3, l4 int // lengths of the IP and the transport header
	hash   uint32
	route  stack.RouteInfo

	id        PacketID
	flow      *flow         // nil if it cannot be told, and of answers
	decoded   packet.Packet // what the bytes were before anything was done to them; valid if flow is not nil
	transport int           // where the transport header starts; likewise

	due   time.Duration // when it goes, since the Link was made
	order uint64        // among those that are due at the same time
}

// queue holds the packets of a direction in the order in which they are to go.
type queue struct {
	ahead   []*wirePacket // go first, in this order, and at once
	waiting dueHeap
	order   uint64
}

func (q *queue) len() int { return len(q.ahead) + len(q.waiting) }

func (q *queue) push(p *wirePacket) {
	q.order++
	p.order = q.order
	heap.Push(&q.waiting, p)
}

// next returns the packet that goes first, without taking it; nil if there is none.
func (q *queue) next() (p *wirePacket, ahead bool) {
	switch {
	case len(q.ahead) > 0:
		return q.ahead[0], true
	case len(q.waiting) > 0:
		return q.waiting[0], false
	}
	return nil, false
}

// pop takes what next returned.
func (q *queue) pop() {
	if len(q.ahead) > 0 {
		q.ahead[0] = nil
		if q.ahead = q.ahead[1:]; len(q.ahead) == 0 {
			q.ahead = nil
		}
		return
	}
	heap.Pop(&q.waiting)
}

// dueHeap is a heap.Interface: the earliest packet is on top.
type dueHeap []*wirePacket

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	return h[i].order < h[j].order
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(*wirePacket)) }
func (h *dueHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
