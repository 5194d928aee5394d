package tun

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/batching"
	"github.com/catflap/catflap/internal/link"
)

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// gsoMaxSize bounds a TCP super-packet in bytes. netstack keeps 160 of them for headers, so that the 16-bit
// length of either IP version holds the rest.
const gsoMaxSize = 65535

// Endpoint is a Device as netstack sees it.
//
// An inbound packet whose transport checksum is partial, as Linux leaves it on its own packets, carries
// GSOOptions like an outbound one. Whoever needs the packet as it would be on a wire (a capture, a
// forwarding stack) completes it from them.
type Endpoint struct {
	noLinkLayer
	dev        *Device
	dispatcher attachment
}

// attachment is the stack at the far end of a link endpoint, if there is one.
type attachment struct {
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	batched    atomic.Pointer[batching.Dispatcher] // the same, if it is one

	// delivering is held for reading while a packet is in the dispatcher's hands, so that wait can tell
	// when the last one has left it.
	delivering sync.RWMutex
}

func (a *attachment) attach(d stack.NetworkDispatcher) {
	a.batched.Store(nil)
	if d == nil {
		a.dispatcher.Store(nil)
		return
	}
	if b, ok := d.(batching.Dispatcher); ok {
		a.batched.Store(&b)
	}
	a.dispatcher.Store(&d)
}

func (a *attachment) attached() bool { return a.dispatcher.Load() != nil }

// deliver hands over a packet made of payload, which it owns. It reports false if there is no stack.
// inBatch is a promise to call endBatch.
func (a *attachment) deliver(proto protocol, payload buffer.Buffer, gso stack.GSO, inBatch bool) bool {
	a.delivering.RLock()
	defer a.delivering.RUnlock()
	d := a.dispatcher.Load()
	if d == nil {
		payload.Release()
		return false
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload})
	pkt.NetworkProtocolNumber = proto
	pkt.GSOOptions = gso
	if b := a.batched.Load(); inBatch && b != nil {
		(*b).DeliverBatched(proto, pkt)
	} else {
		(*d).DeliverNetworkPacket(proto, pkt)
	}
	pkt.DecRef()
	return true
}

// endBatch tells the stack that no packet is at hand.
func (a *attachment) endBatch() {
	a.delivering.RLock()
	defer a.delivering.RUnlock()
	if b := a.batched.Load(); b != nil {
		(*b).EndBatch()
	}
}

// wait returns when no packet is being delivered.
func (a *attachment) wait() {
	a.delivering.Lock()
	//lint:ignore SA2001 the lock is a barrier
	a.delivering.Unlock()
}

// deliver takes over payload, an inbound packet that has passed inspection. inBatch is a promise to call
// endBatch before the caller sleeps.
func (e *Endpoint) deliver(proto protocol, payload buffer.Buffer, gso stack.GSO, inBatch bool) {
	size := int(payload.Size())
	if !e.dispatcher.deliver(proto, payload, gso, inBatch) {
		e.dev.stats.rxUnattached.Add(1)
		return
	}
	e.dev.stats.received(size, gso.Type != stack.GSONone)
}

// WritePackets implements stack.LinkWriter. A packet that is lost does not keep those after it. Packets
// are written to the device soon; what becomes of them then is counted, see Stats.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	return sendAll(e, pkts)
}

// sendAll returns how many packets were sent, and the first error.
func sendAll(e interface {
	send(*stack.PacketBuffer) tcpip.Error
}, pkts stack.PacketBufferList) (sent int, first tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		if err := e.send(pkt); err == nil {
			sent++
		} else if first == nil {
			first = err
		}
	}
	return sent, first
}

func (e *Endpoint) send(pkt *stack.PacketBuffer) tcpip.Error {
	s := &e.dev.stats
	if tooBig(pkt, pkt.Size(), e.MTU()) {
		s.txTooBig.Add(1)
		return &tcpip.ErrMessageTooLong{}
	}
	// The kernel learns from our writes on which queue to answer, so a flow stays on one.
	if q := e.dev.tx[pkt.Hash%uint32(len(e.dev.tx))]; !q.put(pkt) {
		s.txErrored.Add(1)
		return &tcpip.ErrClosedForSend{}
	}
	return nil
}

// transmit writes a packet to a queue of the device.
func (e *Endpoint) transmit(q queue, pkt *stack.PacketBuffer) {
	s := &e.dev.stats
	switch err := q.transmit(pkt); {
	case err == nil:
		s.sent(pkt.Size(), isGSO(pkt))
	case errors.Is(err, syscall.EIO):
		s.txDown.Add(1) // the host's side is down: the packet is lost, as on a cable that is unplugged
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM):
		s.txNoBuffer.Add(1)
	default:
		s.txErrored.Add(1)
	}
}

// isGSO reports whether pkt stands for several segments.
func isGSO(pkt *stack.PacketBuffer) bool {
	gso := &pkt.GSOOptions
	return (gso.Type == stack.GSOTCPv4 || gso.Type == stack.GSOTCPv6) && pkt.Data().Size() > int(gso.MSS)
}

// tooBig reports whether a packet of that size does not fit a link of that MTU.
func tooBig(pkt *stack.PacketBuffer, size int, mtu uint32) bool {
	if isGSO(pkt) {
		return size > gsoMaxSize
	}
	return size > int(mtu)
}

// MTU implements stack.LinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.dev.mtu.Load() }

// SetMTU implements stack.LinkEndpoint. It changes the stack's view only; the interface is to have the
// same MTU: see ConfigureHost.
func (e *Endpoint) SetMTU(mtu uint32) { e.dev.mtu.Store(mtu) }

// Capabilities implements stack.LinkEndpoint. With virtio-net headers inbound checksums have been verified
// here, by frame, when the kernel had not vouched for them. Offloading outbound ones is never claimed:
// netstack would then leave them out of packets without GSOOptions too (SYN-ACK, RST), for which nothing
// tells the kernel to complete them.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	if e.dev.offloads.VnetHdr.Granted {
		return stack.CapabilityRXChecksumOffload
	}
	return stack.CapabilityNone
}

// SupportedGSO implements stack.GSOEndpoint.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.dev.offloads.gso() {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (e *Endpoint) GSOMaxSize() uint32 { return gsoMaxSize }

// Attach implements stack.LinkEndpoint. Packets are dispatched from the first Attach on. After
// Attach(nil) they are dropped and counted, since a stack that is closing must not be waited for here.
func (e *Endpoint) Attach(dispatcher stack.NetworkDispatcher) {
	e.dispatcher.attach(dispatcher)
	if dispatcher != nil {
		e.dev.start()
	}
}

// IsAttached implements stack.LinkEndpoint.
func (e *Endpoint) IsAttached() bool { return e.dispatcher.attached() }

// Wait implements stack.LinkEndpoint: it returns when no packet is being delivered, which after
// Attach(nil) or Close stays so.
func (e *Endpoint) Wait() { e.dispatcher.wait() }

// Close implements stack.LinkEndpoint: it closes the Device.
func (e *Endpoint) Close() { e.dev.Close() }

// SetOnCloseAction implements stack.LinkEndpoint. Action runs once, at the end of Device.Close.
func (e *Endpoint) SetOnCloseAction(action func()) {
	e.dev.mu.Lock()
	defer e.dev.mu.Unlock()
	e.dev.onClose = action
}

// noLinkLayer says that the endpoints here carry bare IP packets.
type noLinkLayer = link.NoHeader
