package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// netProto is netstack's number of an address family.
func netProto(f Family) tcpip.NetworkProtocolNumber {
	if f == IPv4 {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// toTCPIP converts an address to netstack's form. The unspecified and the
// invalid address become the empty address, which netstack reads as "any".
func toTCPIP(a netip.Addr) tcpip.Address {
	a = a.Unmap()
	switch {
	case !a.IsValid() || a.IsUnspecified():
		return tcpip.Address{}
	case a.Is4():
		return tcpip.AddrFrom4(a.As4())
	default:
		return tcpip.AddrFrom16(a.As16())
	}
}

// fromTCPIP converts netstack's address; the empty address gives the zero Addr.
func fromTCPIP(a tcpip.Address) netip.Addr {
	switch a.Len() {
	case 4:
		return netip.AddrFrom4(a.As4())
	case 16:
		return netip.AddrFrom16(a.As16())
	}
	return netip.Addr{}
}

// fromTCPIPOr is fromTCPIP with the unspecified address of f for "any".
func fromTCPIPOr(a tcpip.Address, f Family) netip.Addr {
	if a.Len() == 0 {
		return f.Any()
	}
	return fromTCPIP(a)
}
