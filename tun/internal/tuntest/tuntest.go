// Package tuntest has what the tests of tun and of the packages below it share.
package tuntest

import (
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// NIC is the number of NewStack's only NIC.
const NIC = 1

// NewStack returns a plain netstack with one NIC on ep that has the given addresses, which are prefixes: 10.9.0.2/24.
// Whoever asks for it closes it.
func NewStack(t testing.TB, ep stack.LinkEndpoint, addrs ...string) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	if err := s.CreateNIC(NIC, ep); err != nil {
		t.Fatalf("CreateNIC: %v", err)
	}
	for _, a := range addrs {
		prefix := netip.MustParsePrefix(a)
		pa := tcpip.ProtocolAddress{
			Protocol:          header.IPv4ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(prefix.Addr().AsSlice()), PrefixLen: prefix.Bits()},
		}
		if prefix.Addr().Is6() {
			pa.Protocol = header.IPv6ProtocolNumber
		}
		if err := s.AddProtocolAddress(NIC, pa, stack.AddressProperties{}); err != nil {
			t.Fatalf("AddProtocolAddress %s: %v", a, err)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: NIC},
		{Destination: header.IPv6EmptySubnet, NIC: NIC},
	})
	return s
}
