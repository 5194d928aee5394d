// Package link is what netstack link endpoints that carry bare IP packets have in common.
package link

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// NoHeader is what an endpoint of bare IP packets has to say of its link layer: there is none.
type NoHeader struct{}

// MaxHeaderLength implements stack.LinkEndpoint.
func (NoHeader) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements stack.LinkEndpoint.
func (NoHeader) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements stack.LinkEndpoint. It does nothing.
func (NoHeader) SetLinkAddress(tcpip.LinkAddress) {}

// ARPHardwareType implements stack.LinkEndpoint.
func (NoHeader) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements stack.LinkEndpoint. It does nothing.
func (NoHeader) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements stack.LinkEndpoint. There is none, so it succeeds.
func (NoHeader) ParseHeader(*stack.PacketBuffer) bool { return true }

// End is one end of a link in memory, without offloads and without goroutines. It lacks only WritePackets, which says where
// packets go. A lock guards it: it is for tests, where nothing depends on its speed.
type End struct {
	NoHeader

	mu         sync.Mutex
	mtu        uint32 // bytes; guarded by mu, as are the fields below
	dispatcher stack.NetworkDispatcher
	onClose    func()
}

// Deliver hands a packet to the stack that is attached; without one the packet is lost. The packet stays the caller's to release.
func (e *End) Deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	e.mu.Lock()
	d := e.dispatcher
	e.mu.Unlock()
	if d != nil {
		d.DeliverNetworkPacket(proto, pkt)
	}
}

// Attach implements stack.LinkEndpoint.
func (e *End) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dispatcher = d
}

// IsAttached implements stack.LinkEndpoint.
func (e *End) IsAttached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dispatcher != nil
}

// Close implements stack.LinkEndpoint: it detaches the stack.
func (e *End) Close() {
	e.mu.Lock()
	f := e.onClose
	e.dispatcher, e.onClose = nil, nil
	e.mu.Unlock()
	if f != nil {
		f()
	}
}

// SetOnCloseAction implements stack.LinkEndpoint. f runs once, at the end of Close.
func (e *End) SetOnCloseAction(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onClose = f
}

// MTU implements stack.LinkEndpoint.
func (e *End) MTU() uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mtu
}

// SetMTU implements stack.LinkEndpoint.
func (e *End) SetMTU(mtu uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mtu = mtu
}

// Capabilities implements stack.LinkEndpoint.
func (*End) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityNone }

// Wait implements stack.LinkEndpoint. There is no goroutine to wait for.
func (*End) Wait() {}
