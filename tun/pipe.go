package tun

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var (
	_ stack.LinkEndpoint = (*PipeEndpoint)(nil)
	_ stack.GSOEndpoint  = (*PipeEndpoint)(nil)
)

// pipeQueueLen is how many packets may wait in each direction of a pipe; one that finds the queue full is
// lost, as with Linux's veth and TUN devices, whose queues are 1000 and 500 long. TCP super-packets of
// 64 KiB make it more than any TCP window.
const pipeQueueLen = 1024

// PipeEndpoint is one end of a Pipe.
type PipeEndpoint struct {
	noLinkLayer
	pipe  *pipe
	peer  *PipeEndpoint
	mtu   atomic.Uint32
	stats counters
	inbox chan pipePacket // never closed: senders may still be about

	dispatcher attachment

	mu      sync.Mutex
	started bool // the goroutine that empties inbox runs
	onClose func()
}

// pipe is what both ends share.
type pipe struct {
	closing sync.Once
	done    chan struct{}
	ends    [2]*PipeEndpoint
	readers sync.WaitGroup // at most one goroutine an end
	mu      sync.RWMutex   // held for reading while a packet is put into an inbox
	closed  bool           // guarded by mu
}

type pipePacket struct {
	proto   protocol
	payload buffer.Buffer
	gso     stack.GSO
}

// Pipe joins two link endpoints in memory, with an MTU in bytes from MinMTU to MaxMTU for both. Closing
// either closes both. It panics on another MTU.
//
// TCP super-packets cross whole, and payload is shared, not copied. Each packet is valid as it crosses:
// a packet whose GSOOptions say NeedsCsum holds the pseudo-header's sum, and still carries these GSOOptions
// when it is delivered, exactly as an Endpoint does it; every other packet has its full checksums. So a
// capture on either side can complete what needs to be. Inbound checksums are not verified (memory does
// not corrupt packets); a layer that corrupts packets must see to that itself.
//
// Each direction has a bounded queue and, from Attach to Close, one goroutine that delivers from it: a
// sender never finds itself in its peer's stack.
func Pipe(mtu int) (a, b *PipeEndpoint) {
	if mtu < MinMTU || mtu > MaxMTU {
		panic((&ConfigError{"mtu", mtu, "68..65535"}).Error())
	}
	p := &pipe{done: make(chan struct{})}
	for i := range p.ends {
		p.ends[i] = &PipeEndpoint{pipe: p, inbox: make(chan pipePacket, pipeQueueLen)}
		p.ends[i].mtu.Store(uint32(mtu))
	}
	a, b = p.ends[0], p.ends[1]
	a.peer, b.peer = b, a
	return a, b
}

// Stats returns this end's counters.
func (e *PipeEndpoint) Stats() Stats { return e.stats.snapshot() }

// WritePackets implements stack.LinkWriter. A packet that is lost does not keep those after it.
func (e *PipeEndpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	return sendAll(e, pkts)
}

func (e *PipeEndpoint) send(pkt *stack.PacketBuffer) tcpip.Error {
	size := pkt.Size()
	if tooBig(pkt, size, e.MTU()) {
		e.stats.txTooBig.Add(1)
		return &tcpip.ErrMessageTooLong{}
	}
	e.pipe.mu.RLock()
	defer e.pipe.mu.RUnlock()
	if e.pipe.closed {
		e.stats.txErrored.Add(1)
		return &tcpip.ErrClosedForSend{}
	}
	p := pipePacket{proto: pkt.NetworkProtocolNumber, payload: pkt.ToBuffer(), gso: pkt.GSOOptions}
	if !isGSO(pkt) {
		p.gso.Type, p.gso.MSS = stack.GSONone, 0 // one segment: only its checksum is still open
	}
	select {
	case e.peer.inbox <- p:
		e.stats.sent(size, isGSO(pkt))
		return nil
	default:
		p.payload.Release()
		e.stats.txNoBuffer.Add(1)
		return &tcpip.ErrNoBufferSpace{}
	}
}

// receive delivers what the peer sends, until the pipe is closed.
func (e *PipeEndpoint) receive() {
	for {
		select {
		case <-e.pipe.done:
			return
		case p := <-e.inbox:
			size := int(p.payload.Size())
			if e.dispatcher.deliver(p.proto, p.payload, p.gso, false) {
				e.stats.received(size, p.gso.Type != stack.GSONone)
			} else {
				e.stats.rxUnattached.Add(1)
			}
		}
	}
}

// Attach implements stack.LinkEndpoint. Packets that come before the first Attach wait in the queue; after
// Attach(nil) they are dropped and counted.
func (e *PipeEndpoint) Attach(dispatcher stack.NetworkDispatcher) {
	e.dispatcher.attach(dispatcher)
	if dispatcher == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pipe.mu.RLock()
	defer e.pipe.mu.RUnlock()
	if !e.started && !e.pipe.closed {
		e.started = true
		e.pipe.readers.Go(e.receive)
	}
}

// IsAttached implements stack.LinkEndpoint.
func (e *PipeEndpoint) IsAttached() bool { return e.dispatcher.attached() }

// Wait implements stack.LinkEndpoint, as Endpoint.Wait does.
func (e *PipeEndpoint) Wait() { e.dispatcher.wait() }

// Close implements stack.LinkEndpoint: it closes both ends, drops what is queued, and waits for both
// goroutines. It must not be called from within a packet's delivery.
func (e *PipeEndpoint) Close() {
	p := e.pipe
	p.closing.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		close(p.done)
		p.readers.Wait()
		for _, end := range p.ends {
			end.drain()
		}
	})
	for _, end := range p.ends {
		end.mu.Lock()
		onClose := end.onClose
		end.onClose = nil
		end.mu.Unlock()
		if onClose != nil {
			onClose() // netstack's removes the NIC, which closes its endpoint, which comes back here
		}
	}
}

// drain releases what is left in the queue once nobody writes or reads it.
func (e *PipeEndpoint) drain() {
	for {
		select {
		case p := <-e.inbox:
			p.payload.Release()
		default:
			return
		}
	}
}

// MTU implements stack.LinkEndpoint.
func (e *PipeEndpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint, for this end.
func (e *PipeEndpoint) SetMTU(mtu uint32) { e.mtu.Store(mtu) }

// Capabilities implements stack.LinkEndpoint. See Pipe for what this means.
func (e *PipeEndpoint) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// SupportedGSO implements stack.GSOEndpoint.
func (e *PipeEndpoint) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize implements stack.GSOEndpoint.
func (e *PipeEndpoint) GSOMaxSize() uint32 { return gsoMaxSize }

// SetOnCloseAction implements stack.LinkEndpoint. Action runs once, at the end of Close of either end.
func (e *PipeEndpoint) SetOnCloseAction(action func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onClose = action
}
