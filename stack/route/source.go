package route

import (
	"math/bits"
	"net/netip"
)

// Output is the device through which a packet leaves whose route is rt: lo for one
// that is delivered to this stack, and the first real device for broadcasts and
// multicasts whose route names none. It is "" if there is no such device.
func (db *DB) Output(rt *Route) string {
	if rt.Type == Local {
		return Loopback
	}
	if rt.Dev != "" {
		return rt.Dev
	}
	for _, d := range db.devices {
		if !d.Loopback {
			return d.Name
		}
	}
	return ""
}

// AddrScope is the scope that the kernel gives an address of a device.
func AddrScope(a netip.Addr) Scope {
	switch {
	case a.IsLoopback():
		return ScopeHost
	case a.IsLinkLocalUnicast() && a.Is6():
		return ScopeLink
	}
	return ScopeGlobal
}

// Source is the source address of a packet to dst that leaves by rt and that the
// sender has chosen none for; the zero Addr if there is none to choose. It is the
// address that the route prefers, else for a packet that is delivered to this stack
// the destination itself, else one of the device's.
func (db *DB) Source(rt *Route, dst netip.Addr) netip.Addr {
	switch {
	case rt.PrefSrc.IsValid():
		return rt.PrefSrc
	case rt.Type == Local:
		return dst
	}
	d, _ := db.Device(db.Output(rt))
	switch {
	case rt == multicast4 || rt == limitedBroadcast:
		return d.closest(dst)
	case FamilyOf(rt.Dst.Addr()) == IPv6:
		return d.source6(dst)
	}
	// inet_select_addr: the device's primary address on the link of the gateway, else its
	// first, else one of another device.
	if a := d.source4(rt.Gateway, rt.Scope); a.IsValid() {
		return a
	}
	for _, d := range db.devices {
		if a := d.source4(netip.Addr{}, rt.Scope); a.IsValid() {
			return a
		}
	}
	return netip.Addr{}
}

// source4 is the first IPv4 address of the device whose scope is wide enough, if there is one
// of the prefix that gw is in.
func (d Device) source4(gw netip.Addr, scope Scope) netip.Addr {
	var first netip.Addr
	for _, p := range d.Addrs {
		if !p.Addr().Is4() || AddrScope(p.Addr()) > scope {
			continue
		}
		// The first address that a prefix has is its primary one.
		if !gw.IsValid() || p.Contains(gw) {
			return p.Addr()
		}
		if !first.IsValid() {
			first = p.Addr()
		}
	}
	return first
}

// closest is the IPv4 address of the device with the most leading bits of dst.
func (d Device) closest(dst netip.Addr) netip.Addr {
	var best netip.Addr
	for _, p := range d.Addrs {
		if a := p.Addr(); a.Is4() && (!best.IsValid() || commonBits(a, dst) > commonBits(best, dst)) {
			best = a
		}
	}
	return best
}

// source6 chooses the IPv6 address of the device for packets to dst by RFC 6724
// section 5, as far as it concerns addresses that neither expire nor are temporary:
// rules 1, 2, 6 and 8.
func (d Device) source6(dst netip.Addr) netip.Addr {
	var best netip.Addr
	for _, p := range d.Addrs {
		if a := p.Addr(); a.Is6() && (!best.IsValid() || better6(a, best, dst)) {
			best = a
		}
	}
	return best
}

// better6 reports whether a is a better source than b for packets to dst.
func better6(a, b, dst netip.Addr) bool {
	if a == dst || b == dst { // rule 1: prefer the same address
		return a == dst
	}
	if sa, sb, sd := scope6(a), scope6(b), scope6(dst); sa != sb { // rule 2: prefer appropriate scope
		if sa < sb {
			return sa >= sd
		}
		return sb < sd
	}
	if la, lb, ld := label6(a), label6(b), label6(dst); (la == ld) != (lb == ld) { // rule 6: prefer matching label
		return la == ld
	}
	return commonBits(a, dst) > commonBits(b, dst) // rule 8: use the longest matching prefix
}

// scope6 is the scope of an IPv6 address (RFC 4291 2.7, RFC 6724 3.1): 2 is the link,
// 14 the world. Loopback addresses have that of the link.
func scope6(a netip.Addr) uint8 {
	switch b := a.As16(); {
	case a.IsMulticast():
		return b[1] & 0x0f
	case a.IsLinkLocalUnicast(), a.IsLoopback():
		return 2
	}
	return 14
}

// policies6 is the policy table of RFC 6724 2.1 without its precedences, longest prefix first.
var policies6 = []struct {
	prefix netip.Prefix
	label  uint8
}{
	{netip.MustParsePrefix("::1/128"), 0},
	{netip.MustParsePrefix("::ffff:0:0/96"), 4},
	{netip.MustParsePrefix("::/96"), 3},
	{netip.MustParsePrefix("2001::/32"), 5},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("3ffe::/16"), 12},
	{netip.MustParsePrefix("fec0::/10"), 11},
	{netip.MustParsePrefix("fc00::/7"), 13},
	{netip.MustParsePrefix("::/0"), 1},
}

func label6(a netip.Addr) (label uint8) {
	for _, p := range policies6 {
		if p.prefix.Contains(a) {
			return p.label
		}
	}
	return label
}

// commonBits is how many leading bits two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	n := 0
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return n + bits.LeadingZeros8(d)
		}
		n += 8
	}
	return n
}
