package stack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack acknowledges what it has received in a segment of its own, at once, and
// then sends the application's answer, which acknowledges it again. delayedACKs keeps
// the first back for a while, and leaves it out if the connection sends anything in
// that time, as RFC 9293 section 3.8.6.3 recommends and all other stacks do. Only the
// ACK of one small segment is kept; what goes at once:
//   - an ACK of more than a full-sized segment, counted from the last that was sent;
//   - one that acknowledges nothing new: a duplicate, a new window, the answer to a
//     keepalive probe; and one with SACK blocks, which tells of a loss;
//   - one that acknowledges a single number, which may be a FIN;
//   - the next ones of a connection whose ACK has waited in vain, as its application
//     does not answer soon: quickACKs of them.
type delayedACKs struct {
	link  *link
	delay time.Duration // 0: none is delayed

	mu     sync.Mutex // comes after an endpoint's lock
	flows  []delayedACK
	queue  []uint16 // of flows, those that have an ACK waiting, or have had it lately
	ticks  uint32   // how often timer has fired
	timer  tcpip.Timer
	armed  bool
	closed bool
	fires  sync.WaitGroup
}

const (
	// delayedFlows is how many connections are told apart, if no two of them fall
	// into the same place; those then hardly have their ACKs delayed. Of 256
	// connections this is one in sixteen; it takes 300 KB.
	delayedFlows = 1 << 12

	// quickACKs is Linux's TCP_MAX_QUICKACKS.
	quickACKs = 16

	// maxACKDelay is RFC 9293's MUST: less than half a second.
	maxACKDelay = 500 * time.Millisecond
)

// delayedACK is a connection of which an ACK waits, or may.
type delayedACK struct {
	flow   flowKey
	sent   uint32              // the last acknowledgment number that the peer was sent
	last   uint32              // the last that netstack sent
	quick  int                 // ACKs that are not to wait
	queued bool                // it is in the queue
	since  uint32              // delayedACKs.ticks when pkt came
	pkt    *stack.PacketBuffer // nil: none waits
}

func (d *delayedACKs) init(l *link, delay time.Duration) {
	d.link = l
	if delay > 0 && !l.loopback && !l.s.fwd { // others' ACKs are not ours to delay
		d.delay, d.flows = delay, make([]delayedACK, delayedFlows)
	}
}

// hold is called with what netstack sends, by the goroutine that has the endpoint's
// lock. It reports whether it has kept pkt.
func (d *delayedACKs) hold(pkt *stack.PacketBuffer) bool {
	if d.delay == 0 {
		return false
	}
	flow, th, ok := outboundFlow(pkt)
	if !ok || th.Flags()&header.TCPFlagAck == 0 {
		return false
	}
	ack := th.AckNumber()
	i := flow.slot(delayedFlows)

	d.mu.Lock()
	defer d.mu.Unlock()
	f := &d.flows[i]
	if f.flow != flow {
		if f.pkt == nil {
			*f = delayedACK{flow: flow, sent: ack, last: ack, queued: f.queued}
		}
		return false
	}
	news, unsent := ack-f.last, ack-f.sent
	f.last = ack
	if f.pkt != nil {
		f.pkt.DecRef() // pkt says it too
		f.pkt = nil
	}
	if d.closed || !plainACK(th, pkt.Data().Size()) || news < 2 || unsent > d.link.mss() {
		f.sent = ack
		return false
	}
	if f.quick > 0 {
		f.quick--
		f.sent = ack
		return false
	}
	f.pkt, f.since = pkt.IncRef(), d.ticks
	if !f.queued {
		f.queued = true
		d.queue = append(d.queue, i)
	}
	if !d.armed {
		d.armed = true
		d.arm()
	}
	return true
}

// arm sets the timer. It fires twice in the time that an ACK waits at most, so that
// it need not know when each came.
func (d *delayedACKs) arm() {
	if d.timer == nil {
		d.timer = d.link.s.clock.AfterFunc(d.delay/2, d.fire)
	} else {
		d.timer.Reset(d.delay / 2)
	}
}

// fire sends the ACKs that have waited since before it was called the last time.
func (d *delayedACKs) fire() {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	d.fires.Add(1)
	defer d.fires.Done()
	d.ticks++
	var late []uint16
	queue := d.queue
	d.queue = d.queue[:0]
	for _, i := range queue {
		switch f := &d.flows[i]; {
		case f.pkt == nil:
			f.queued = false
		case d.ticks-f.since > 1:
			late = append(late, i)
			fallthrough
		default:
			d.queue = append(d.queue, i)
		}
	}
	if d.armed = len(d.queue) > 0; d.armed {
		d.arm()
	}
	d.mu.Unlock()
	for _, i := range late {
		d.send(i)
	}
}

// send sends the ACK that waits in place i, unless its connection has sent something
// meanwhile, or is gone.
func (d *delayedACKs) send(i uint16) {
	d.mu.Lock()
	f := &d.flows[i]
	if f.pkt == nil {
		d.mu.Unlock()
		return
	}
	flow, proto := f.flow, f.pkt.NetworkProtocolNumber
	id := flow.outbound(proto)
	d.mu.Unlock()

	e, ok := d.link.s.ns.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, d.link.id).(*tcp.Endpoint)
	if ok = ok && e.EndpointState() != tcp.StateListen; ok {
		e.LockUser() // netstack sends with the lock too
		defer e.UnlockUser()
	}
	d.mu.Lock()
	if f.flow != flow || f.pkt == nil {
		d.mu.Unlock()
		return
	}
	pkt := f.pkt
	f.pkt, f.sent, f.quick = nil, f.last, quickACKs
	d.mu.Unlock()
	defer pkt.DecRef()
	if ok {
		d.link.send(pkt)
	}
}

// close drops what waits. After it nothing does.
func (d *delayedACKs) close() {
	d.mu.Lock()
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	for _, i := range d.queue {
		if f := &d.flows[i]; f.pkt != nil {
			f.pkt.DecRef()
			f.pkt = nil
		}
	}
	d.queue = nil
	d.mu.Unlock()
	d.fires.Wait()
}

// mss is the payload of a full-sized segment, without options, by the link's MTU.
func (l *link) mss() uint32 { return l.MTU() - header.IPv4MinimumSize - header.TCPMinimumSize }

// outboundFlow returns the flow and the TCP header of a segment that netstack sends;
// ok is false of other packets.
func outboundFlow(pkt *stack.PacketBuffer) (flow flowKey, th header.TCP, ok bool) {
	if pkt.TransportProtocolNumber != tcp.ProtocolNumber {
		return flow, nil, false
	}
	if th = header.TCP(pkt.TransportHeader().Slice()); len(th) < header.TCPMinimumSize {
		return flow, nil, false
	}
	switch ip := pkt.NetworkHeader().Slice(); {
	case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(ip) == header.IPv4MinimumSize:
		copy(flow[4:], ip[12:20])
	case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(ip) == header.IPv6MinimumSize:
		copy(flow[4:], ip[8:40])
	default:
		return flow, nil, false
	}
	copy(flow[:4], th)
	return flow, th, true
}
