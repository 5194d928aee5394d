// Package mend stands beside netstack's TCP and mends what it does badly: it keeps from
// it what it should not believe, has a timer run where it has forgotten one, and leaves
// out acknowledgments that nobody needs. Each part says what it is for.
//
// All of this goes when TCP is our own.
package mend

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Netstack is what there is to know of netstack's connections.
type Netstack interface {
	FindTransportEndpoint(tcpip.NetworkProtocolNumber, tcpip.TransportProtocolNumber, stack.TransportEndpointID, tcpip.NICID) stack.TransportEndpoint
	RegisteredEndpoints() []stack.TransportEndpoint
}

// Guards keep from netstack what it should not believe.
type Guards struct {
	netstack Netstack
	clock    tcpip.Clock
}

// NewGuards returns guards for the connections of a netstack that runs by clock.
func NewGuards(ns Netstack, clock tcpip.Clock) *Guards { return &Guards{ns, clock} }
