// Package batching is what a link's reader and the stack above it agree on, so that
// packets which arrive together can be looked at together.
package batching

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Dispatcher is a network dispatcher that is told which packets came together.
type Dispatcher interface {
	stack.NetworkDispatcher

	// DeliverBatched is DeliverNetworkPacket by a goroutine that calls EndBatch soon:
	// when it has no more packets at hand, before it sleeps.
	DeliverBatched(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer)

	// EndBatch says that no packet is at hand. It may be called without one before it.
	EndBatch()
}
