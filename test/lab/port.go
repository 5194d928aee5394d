package lab

import (
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/link"
)

// maxPortBytes bounds what may wait at a port for its node to take it; more is lost, and the timeline says so. It is four
// times the largest TCP window of a stack with default settings.
const maxPortBytes = 32 << 20

// port is a node's end of a link: what the node's stack, or switch, attaches to. It hands inbound packets on one by one, by
// a timer of the lab's clock, so that no sender finds itself in its peer's stack, and, in virtual time, so that each packet
// has been dealt with before the next one comes.
//
// The layers of a link, from the left node to the right one:
//
//	port -> impairment -> cable | cable <- port
type port struct {
	nested.Endpoint
	link *Link
	end  int // of link: 0 or 1
	node node

	capture *capture // nil: nothing is kept

	// delivering is held for reading while packets are handed on, so that Close can tell when the last one is done.
	delivering sync.RWMutex

	mu     sync.Mutex
	queue  []inbound // guarded by mu, as are the fields below
	bytes  int       // in queue
	busy   bool      // a timer is set, or is handing packets on
	closed bool
}

// inbound is a packet that waits at a port.
type inbound struct {
	proto tcpip.NetworkProtocolNumber
	data  []byte
}

func newPort(l *Link, end int, n node, below netstack.LinkEndpoint) *port {
	p := &port{link: l, end: end, node: n}
	p.Endpoint.Init(below, p)
	return p
}

// WritePackets implements stack.LinkWriter: the node sends.
func (p *port) WritePackets(pkts netstack.PacketBufferList) (int, tcpip.Error) {
	rec := p.link.lab.record
	if rec == nil && !p.link.down.Load() {
		return p.Endpoint.WritePackets(pkts)
	}
	for _, pkt := range pkts.AsSlice() {
		v := pkt.ToView()
		rec.packet(p, true, v.AsSlice())
		if p.link.down.Load() {
			rec.lost(p, true, v.AsSlice(), "the link is down")
		}
		v.Release()
	}
	if p.link.down.Load() {
		return pkts.Len(), nil // lost on the way, which a sender does not notice
	}
	return p.Endpoint.WritePackets(pkts)
}

// DeliverNetworkPacket implements stack.NetworkDispatcher: a packet comes out of the cable.
func (p *port) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *netstack.PacketBuffer) {
	v := pkt.ToView()
	data := v.ToSlice()
	v.Release()
	if p.link.down.Load() {
		p.link.lab.record.lost(p, false, data, "the link is down")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return
	case p.bytes+len(data) > maxPortBytes:
		p.link.lab.record.lost(p, false, data, "the receiver's queue is full")
		return
	}
	p.queue = append(p.queue, inbound{proto, data})
	p.bytes += len(data)
	if !p.busy {
		p.busy = true
		p.link.lab.clock.AfterFunc(p.latency(), p.deliver)
	}
}

// minLatency is what a link without delay takes in virtual time. No wire is without; and netstack's RACK, which tells by time
// which segments are lost, sends again and again without end when a round trip takes none at all.
const minLatency = time.Microsecond

// latency is how long a packet takes to the node once it is out of the cable.
func (p *port) latency() time.Duration {
	if p.link.lab.virtual == nil || p.link.impair.Spec(p.link.outOf(1-p.end)).Delay.Time > 0 {
		return 0
	}
	return minLatency
}

// deliver hands on what waits: in virtual time one packet, else all.
func (p *port) deliver() {
	p.delivering.RLock()
	defer p.delivering.RUnlock()
	for {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.queue, p.busy = nil, false
			p.mu.Unlock()
			return
		}
		in := p.queue[0]
		p.queue[0] = inbound{}
		p.queue = p.queue[1:]
		p.bytes -= len(in.data)
		p.mu.Unlock()

		p.link.lab.record.packet(p, false, in.data)
		payload := buffer.MakeWithData
		if p.node.forwards() && p.node.hasAddrs() { // a router
			payload = unpooled
		}
		pkt := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: payload(in.data)})
		pkt.NetworkProtocolNumber = in.proto
		p.Endpoint.DeliverNetworkPacket(in.proto, pkt)
		pkt.DecRef()
		if p.link.lab.virtual != nil {
			p.link.lab.clock.AfterFunc(0, p.deliver)
			return
		}
	}
}

// unpooled is buffer.MakeWithData in memory that is not used again. Netstack's forwarding reads a packet's TTL from memory that it
// has given back (ipv4.endpoint.forwardPacketWithRoute: the header is copied on write while DeepCopyForForwarding holds it), where
// another goroutine's packet may be by then.
func unpooled(data []byte) buffer.Buffer {
	v := buffer.NewViewSize(buffer.MaxChunkSize + 1) // larger than what is pooled
	copy(v.AsSlice(), data)
	v.CapLength(len(data))
	return buffer.MakeWithView(v)
}

// Close implements stack.LinkEndpoint: it drops what waits, waits for what is being delivered, and closes the layers below.
// It must not be called from within a packet's delivery.
func (p *port) Close() {
	p.mu.Lock()
	p.closed = true
	p.queue, p.bytes = nil, 0
	p.mu.Unlock()
	p.delivering.Lock()
	//lint:ignore SA2001 the lock is a barrier
	p.delivering.Unlock()
	p.Endpoint.Close()
}

// cable is one end of a cable: what is written to it comes out at the other. It carries bare IP packets, each with its
// checksums, which the receiving stack verifies.
type cable struct {
	link.End
	peer *cable
}

func newCable(mtu int) (a, b *cable) {
	a, b = &cable{}, &cable{}
	a.peer, b.peer = b, a
	a.SetMTU(uint32(mtu))
	b.SetMTU(uint32(mtu))
	return a, b
}

// WritePackets implements stack.LinkWriter.
func (c *cable) WritePackets(pkts netstack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range slices.Clone(pkts.AsSlice()) {
		out := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: pkt.ToBuffer()})
		out.NetworkProtocolNumber = pkt.NetworkProtocolNumber
		c.peer.Deliver(pkt.NetworkProtocolNumber, out)
		out.DecRef()
	}
	return pkts.Len(), nil
}
