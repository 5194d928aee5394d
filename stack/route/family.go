package route

import "net/netip"

// Family is an address family of the routing tables.
type Family uint8

const (
	// IPv4 is the family of 4-byte addresses.
	IPv4 Family = 4
	// IPv6 is the family of 16-byte addresses.
	IPv6 Family = 6
)

// FamilyOf returns the family of an address; an IPv4-mapped one is of IPv4.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() || a.Is4In6() {
		return IPv4
	}
	return IPv6
}

// String returns "inet" or "inet6", as iproute2 names families.
func (f Family) String() string {
	if f == IPv4 {
		return "inet"
	}
	return "inet6"
}

// Any returns the unspecified address of f: 0.0.0.0 or ::.
func (f Family) Any() netip.Addr {
	if f == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// hostPrefix is the prefix that holds one address.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

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
