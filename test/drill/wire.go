package drill

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/link"
)

// Wire is one end of a cable in memory: a link endpoint for a stack under test, and the test's hands on the other end.
// Its time is virtual and stands still except in [Wire.Advance]. A Wire serves one stack and one goroutine.
type Wire struct {
	clock    *Clock
	endpoint *endpoint
	quiesce  func()
}

// Frame is a packet on the wire, from its IP header on, and when it was sent.
type Frame struct {
	At   time.Duration // since the wire was made
	Data []byte

	// segment is the size of the segments that the packet stands for, 0 if it is one; noSum is that its transport checksum
	// is left to a device. Both are of systems that hand over super-packets.
	segment int
	noSum   bool
}

// maxTimers bounds the timers that may fire at one instant. A stack that sets a timer of no delay again and again would
// otherwise hold a test for ever; none is known to need more than a handful.
const maxTimers = 10000

// NewWire returns a wire for IP packets of at most mtu bytes.
func NewWire(mtu int) *Wire {
	w := &Wire{clock: &Clock{}, quiesce: func() {}}
	w.endpoint = &endpoint{clock: w.clock}
	w.endpoint.SetMTU(uint32(mtu))
	return w
}

// Endpoint is the stack's end of the wire.
func (w *Wire) Endpoint() stack.LinkEndpoint { return w.endpoint }

// Clock is the clock that the stack must run on.
func (w *Wire) Clock() *Clock { return w.clock }

// Attach tells the wire how to wait until the stack has worked off all that it was given, as
// (*stack.Stack).Quiesce does. Without it a test would race with the stack.
func (w *Wire) Attach(quiesce func()) { w.quiesce = quiesce }

// Inject hands a packet to the stack and waits until it has dealt with it.
func (w *Wire) Inject(data []byte) {
	w.endpoint.inject(data)
	w.Settle()
}

// Settle waits until the stack has dealt with everything and all timers due by now have run.
func (w *Wire) Settle() {
	// What one of netstack's processors does may hand work to another that was found idle before, hence twice.
	quiet := func() { w.quiesce(); w.quiesce() }
	quiet()
	for n := 0; w.clock.time.Fire(w.clock.Elapsed()); n++ {
		if n == maxTimers {
			panic(fmt.Sprintf("drill: the stack has run %d timers at one instant", n))
		}
		quiet()
	}
}

// Sent takes the oldest packet that the stack has sent and nobody has taken yet.
func (w *Wire) Sent() (Frame, bool) { return w.endpoint.take() }

// Advance moves time forward by d, or until the stack has sent a packet that nobody has taken yet. Timers run on the way,
// each at its time. It reports whether such a packet is there.
func (w *Wire) Advance(d time.Duration) bool {
	return w.advanceTo(w.clock.Elapsed()+d, w.endpoint.waiting)
}

// advanceTo moves time to an instant; it stops early, and returns true, once stop holds.
func (w *Wire) advanceTo(until time.Duration, stop func() bool) bool {
	w.Settle()
	for !stop() {
		next, ok := w.clock.time.Next()
		if !ok || next > until {
			w.clock.time.Set(until)
			return false
		}
		w.clock.time.Set(next)
		w.Settle()
	}
	return true
}

// endpoint is the link endpoint: it keeps what the stack writes, with the time.
type endpoint struct {
	link.End
	clock *Clock

	mu   sync.Mutex
	sent []Frame // guarded by mu
}

func (e *endpoint) waiting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.sent) > 0
}

func (e *endpoint) take() (Frame, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sent) == 0 {
		return Frame{}, false
	}
	f := e.sent[0]
	e.sent = e.sent[1:]
	return f, true
}

func (e *endpoint) inject(data []byte) {
	if len(data) == 0 {
		return
	}
	proto := header.IPv4ProtocolNumber
	if data[0]>>4 == 6 {
		proto = header.IPv6ProtocolNumber
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
	defer pkt.DecRef()
	e.Deliver(proto, pkt)
}

// WritePackets implements stack.LinkWriter.
func (e *endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, pkt := range pkts.AsSlice() {
		v := pkt.ToView()
		e.sent = append(e.sent, Frame{At: e.clock.Elapsed(), Data: v.ToSlice()})
		v.Release()
	}
	return pkts.Len(), nil
}
