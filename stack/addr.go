package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// Family is an address family of the routing tables.
type Family uint8

const (
	// IPv4 is the family of 4-byte addresses.
	IPv4 Family = 4
	// IPv6 is the family of 16-byte addresses.
	IPv6 Family = 6
)

// String returns "inet" or "inet6", as iproute2 names families.
func (f Family) String() string {
	if f == IPv4 {
		return "inet"
	}
	return "inet6"
}

func familyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

func (f Family) netProto() tcpip.NetworkProtocolNumber {
	if f == IPv4 {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// any returns the unspecified address of f: 0.0.0.0 or ::.
func (f Family) any() netip.Addr {
	if f == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
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
		return f.any()
	}
	return fromTCPIP(a)
}

// broadcastAddr returns the directed broadcast address of an IPv4 prefix, and
// whether it has one (RFC 3021: prefixes of 31 and 32 bits have none).
func broadcastAddr(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 {
		return netip.Addr{}, false
	}
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b), true
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
