package route

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// addrconfMetric is the metric of the IPv6 routes that follow from addresses
// (IP6_RT_PRIO_ADDRCONF in ipv6_route.h).
const addrconfMetric = 256

var multicast6 = netip.MustParsePrefix("ff00::/8")

// Device returns the device of a name, and whether there is one.
func (db *DB) Device(name string) (Device, bool) {
	if i := db.device(name); i >= 0 {
		return db.devices[i], true
	}
	return Device{}, false
}

func (db *DB) device(name string) int {
	return slices.IndexFunc(db.devices, func(d Device) bool { return d.Name == name })
}

// AddDevice returns a database with a device that has no addresses yet, and the routes
// that follow from it; the error is EEXIST if there is one of this name.
func (db *DB) AddDevice(name string, loopback bool) (*DB, error) {
	if db.device(name) >= 0 {
		return nil, fmt.Errorf("add device %q: %w", name, syscall.EEXIST)
	}
	c := *db
	c.devices = append(slices.Clone(db.devices), Device{Name: name, Loopback: loopback})
	c.v6 = c.v6.with(kernelRoutes(c.devices[len(db.devices)])...)
	return &c, nil
}

// AddAddr returns a database in which a device has an address more, with the routes
// that follow from it; the error is ENODEV, EEXIST, or EINVAL if p is no unicast address.
func (db *DB) AddAddr(dev string, p netip.Prefix) (*DB, error) {
	i := db.device(dev)
	if i < 0 {
		return nil, fmt.Errorf("add address %s: cannot find device %q: %w", p, dev, syscall.ENODEV)
	}
	if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().Is4In6() {
		return nil, fmt.Errorf("add address %s: not a unicast address with a prefix length: %w", p, syscall.EINVAL)
	}
	addrs := db.devices[i].Addrs
	if slices.ContainsFunc(addrs, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
		return nil, fmt.Errorf("add address %s: %w", p, syscall.EEXIST)
	}
	return db.withAddrs(i, append(slices.Clone(addrs), p)), nil
}

// DelAddr returns a database in which a device has an address less, without the routes
// that followed from it; the error is ENODEV or EADDRNOTAVAIL. The next address in its
// prefix becomes the primary one, as Linux does with
// net.ipv4.conf.all.promote_secondaries=1.
func (db *DB) DelAddr(dev string, p netip.Prefix) (*DB, error) {
	i := db.device(dev)
	if i < 0 {
		return nil, fmt.Errorf("del address %s: cannot find device %q: %w", p, dev, syscall.ENODEV)
	}
	j := slices.Index(db.devices[i].Addrs, p)
	if j < 0 {
		return nil, fmt.Errorf("del address %s: not on %s: %w", p, dev, syscall.EADDRNOTAVAIL)
	}
	return db.withAddrs(i, slices.Delete(slices.Clone(db.devices[i].Addrs), j, j+1)), nil
}

// withAddrs returns a database in which device i has these addresses, and the routes
// that follow from them.
func (db *DB) withAddrs(i int, addrs []netip.Prefix) *DB {
	c := *db
	c.devices = slices.Clone(db.devices)
	c.devices[i].Addrs = addrs
	old, now := kernelRoutes(db.devices[i]), kernelRoutes(c.devices[i])
	gone := func(a netip.Addr) bool {
		is := func(p netip.Prefix) bool { return p.Addr() == a }
		return slices.ContainsFunc(db.devices[i].Addrs, is) && !slices.ContainsFunc(addrs, is)
	}
	change := func(f Family) *rpdb {
		r := db.of(f)
		var drop, add []Route
		for _, rt := range r.routes(0) {
			// With an address go the routes that prefer it as a source (fib_sync_down_addr).
			if (slices.Contains(old, rt) || rt.Protocol != ProtoKernel && gone(rt.PrefSrc)) && !slices.Contains(now, rt) {
				drop = append(drop, rt)
			}
		}
		for _, rt := range now {
			if FamilyOf(rt.Dst.Addr()) == f && !slices.Contains(old, rt) {
				add = append(add, rt)
			}
		}
		return r.without(drop).with(add...)
	}
	c.v4, c.v6 = change(IPv4), change(IPv6)
	return &c
}

// kernelRoutes are the routes that Linux derives from a device and its addresses
// (addrconf_add_dev, addrconf_prefix_route, fib_add_ifaddr). Of several IPv4 addresses in one prefix
// the first is the primary one: packets leave with it, and the prefix's routes are its.
func kernelRoutes(d Device) []Route {
	dev, loopback := d.Name, d.Loopback
	var rs []Route
	if !loopback {
		rs = append(rs, Route{Type: Multicast, Dst: multicast6, Dev: dev, Table: TableLocal, Metric: addrconfMetric})
	}
	primary := map[netip.Prefix]netip.Addr{}
	for _, p := range d.Addrs {
		a := p.Addr()
		if a.Is6() {
			rs = append(rs, Route{Type: Local, Dst: hostPrefix(a), Dev: dev, Table: TableLocal})
			if !a.IsLoopback() {
				rs = append(rs, Route{Type: Unicast, Dst: p.Masked(), Dev: dev, Table: TableMain, Metric: addrconfMetric})
			}
			continue
		}
		src, secondary := primary[p.Masked()]
		if !secondary {
			src, primary[p.Masked()] = a, a
		}
		rs = append(rs, Route{Type: Local, Dst: hostPrefix(a), Dev: dev, Table: TableLocal, Scope: ScopeHost, PrefSrc: src})
		if secondary {
			continue
		}
		if b, ok := broadcastAddr(p); ok {
			rs = append(rs, Route{Type: Broadcast, Dst: hostPrefix(b), Dev: dev, Table: TableLocal, Scope: ScopeLink, PrefSrc: a})
		}
		switch {
		case p.Bits() == 32:
		case loopback:
			// The whole prefix of a loopback address is local.
			rs = append(rs, Route{Type: Local, Dst: p.Masked(), Dev: dev, Table: TableLocal, Scope: ScopeHost, PrefSrc: a})
		default:
			rs = append(rs, Route{Type: Unicast, Dst: p.Masked(), Dev: dev, Table: TableMain, Scope: ScopeLink, PrefSrc: a})
		}
	}
	var out []Route
	for _, rt := range rs {
		rt.Protocol = ProtoKernel
		if !slices.Contains(out, rt) {
			out = append(out, rt)
		}
	}
	return out
}
