package mend

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack acknowledges what it has received in a segment of its own, at once, and
// then sends the application's answer, which acknowledges it again. DelayedACKs keeps
// the first back for a while, and leaves it out if the connection sends anything in
// that time, as RFC 9293 section 3.8.6.3 recommends and all other stacks do. Only the
// ACK of one small segment is kept; what goes at once:
//   - an ACK of more than a full-sized segment, counted from the last that was sent;
//   - one that acknowledges nothing new: a duplicate, a new window, the answer to a
//     keepalive probe; and one with SACK blocks, which tells of a loss;
//   - one that acknowledges a single number, which may be a FIN;
//   - the next ones of a connection whose ACK has waited in vain, as its application
//     does not answer soon: QuickACKs of them.
type DelayedACKs struct {
	link     Link
	netstack Netstack
	clock    tcpip.Clock
	delay    time.Duration

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
	// DelayedFlows is how many connections are told apart, if no two of them fall
	// into the same place; those then hardly have their ACKs delayed. Of 256
	// connections this is one in sixteen; it takes 300 KB.
	DelayedFlows = 1 << 12

	// QuickACKs is Linux's TCP_MAX_QUICKACKS.
	QuickACKs = 16

	// MaxACKDelay is RFC 9293's MUST: less than half a second.
	MaxACKDelay = 500 * time.Millisecond
)

// delayedACK is a connection of which an ACK waits, or may.
type delayedACK struct {
	flow   flowKey
	sent   uint32              // the last acknowledgment number that the peer was sent
	last   uint32              // the last that netstack sent
	quick  int                 // ACKs that are not to wait
	queued bool                // it is in the queue
	since  uint32              // DelayedACKs.ticks when pkt came
	pkt    *stack.PacketBuffer // nil: none waits
}

// Link is the link that a connection's segments go out by.
type Link interface {
	ID() tcpip.NICID
	MTU() uint32
	Send(*stack.PacketBuffer) tcpip.Error // the caller holds the lock of the connection, if it is TCP's
}

// NewDelayedACKs has the ACKs that go out by a link wait for delay.
func NewDelayedACKs(l Link, ns Netstack, clock tcpip.Clock, delay time.Duration) *DelayedACKs {
	return &DelayedACKs{link: l, netstack: ns, clock: clock, delay: delay, flows: make([]delayedACK, DelayedFlows)}
}

// Hold is called with what netstack sends, by the goroutine that has the endpoint's
// lock. It reports whether it has kept pkt.
func (d *DelayedACKs) Hold(pkt *stack.PacketBuffer) bool {
	flow, th, ok := outboundFlow(pkt)
	if !ok || th.Flags()&header.TCPFlagAck == 0 {
		return false
	}
	ack := th.AckNumber()
	i := flow.slot(DelayedFlows)

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
	if d.closed || !plainACK(th, pkt.Data().Size()) || news < 2 || unsent > d.mss() {
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
func (d *DelayedACKs) arm() {
	if d.timer == nil {
		d.timer = d.clock.AfterFunc(d.delay/2, d.fire)
	} else {
		d.timer.Reset(d.delay / 2)
	}
}

// fire sends the ACKs that have waited since before it was called the last time.
func (d *DelayedACKs) fire() {
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
func (d *DelayedACKs) send(i uint16) {
	d.mu.Lock()
	f := &d.flows[i]
	if f.pkt == nil {
		d.mu.Unlock()
		return
	}
	flow, proto := f.flow, f.pkt.NetworkProtocolNumber
	id := flow.outbound(proto)
	d.mu.Unlock()

	e, ok := d.netstack.FindTransportEndpoint(proto, tcp.ProtocolNumber, id, d.link.ID()).(*tcp.Endpoint)
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
	f.pkt, f.sent, f.quick = nil, f.last, QuickACKs
	d.mu.Unlock()
	defer pkt.DecRef()
	if ok {
		d.link.Send(pkt)
	}
}

// Close drops what waits. After it nothing does.
func (d *DelayedACKs) Close() {
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
func (d *DelayedACKs) mss() uint32 {
	return d.link.MTU() - header.IPv4MinimumSize - header.TCPMinimumSize
}

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

// Waiting returns how many ACKs wait.
func (d *DelayedACKs) Waiting() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.flows {
		if d.flows[i].pkt != nil {
			n++
		}
	}
	return n
}
