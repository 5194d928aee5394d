package stack

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Destinations that Linux decides before any table (ip_route_input_rcu).
var (
	limitedBroadcast = &Route{Type: Broadcast, Dst: netip.MustParsePrefix("255.255.255.255/32"), Scope: ScopeLink, Protocol: ProtoKernel}
	multicast6       = netip.MustParsePrefix("ff00::/8")
	multicast4       = &Route{Type: Multicast, Dst: netip.MustParsePrefix("224.0.0.0/4"), Scope: ScopeLink, Protocol: ProtoKernel}
)

// Metrics that the kernel gives IPv6 routes (ipv6_route.h): IP6_RT_PRIO_ADDRCONF
// to those that follow from addresses, IP6_RT_PRIO_USER to those made by hand.
const (
	addrconfMetric = 256
	userMetric6    = 1024
)

func (s *Stack) rpdb(f Family) *rpdb { return s.rpdbPointer(f).Load() }

func (s *Stack) rpdbPointer(f Family) *atomic.Pointer[rpdb] {
	if f == IPv4 {
		return &s.v4
	}
	return &s.v6
}

// Packets that arrive so cannot be genuine ("martian", RFC 1812 5.3.7), by the
// kernel's names for such drops. Neither is in a table.
var (
	martianSource = &Route{Type: Blackhole}
	martianDest   = &Route{Type: Blackhole}
)

func martianReason(rt *Route) string {
	switch rt {
	case martianSource:
		return "IP_INVALID_SOURCE"
	case martianDest:
		return "IP_INVALID_DEST"
	}
	return ""
}

// martian judges the addresses of a packet that arrived, as ip_route_input_slow,
// fib_validate_source and ip6_rcv_core do; nil if they may be genuine.
func (s *Stack) martian(q RouteQuery) *Route {
	if q.IIF == "" || q.IIF == s.lo.name {
		return nil
	}
	src, dst := q.Src, q.Dst
	switch {
	case dst.IsLoopback() || dst.IsUnspecified() || dst.Is4In6():
		return martianDest
	case src.IsLoopback() || src.IsMulticast() || src.Is4In6() || src == limitedBroadcast.Dst.Addr():
		return martianSource
	case src.Is4() && !src.IsUnspecified():
		// Nobody else sends from an address of this stack.
		if _, rt := s.v4.Load().lookup(RouteQuery{Dst: src}, nil); rt != nil && rt.Type.delivers() {
			return martianSource
		}
	}
	return nil
}

// decide is the routing decision, for packets and for LookupRoute.
func (s *Stack) decide(q RouteQuery, tries *[]RouteTry) (*Rule, *Route) {
	if rt := s.martian(q); rt != nil {
		return nil, rt
	}
	f := familyOf(q.Dst)
	if f == IPv4 {
		switch {
		case q.Dst == limitedBroadcast.Dst.Addr():
			return nil, limitedBroadcast
		case q.Dst.IsMulticast():
			return nil, multicast4
		}
	}
	return s.rpdb(f).lookup(q, tries)
}

// LookupRoute says where a packet would go, and which rules and routes were tried
// on the way. The decision is made by the code that decides for packets. With
// Query.IIF it is that for a packet that arrives on this device, else that for a
// packet that this stack sends.
func (s *Stack) LookupRoute(q RouteQuery) *RouteLookup {
	q.Dst, q.Src = q.Dst.Unmap(), q.Src.Unmap()
	l, _ := s.explainRoute(q)
	return l
}

// explainRoute is decide with the tries written down.
func (s *Stack) explainRoute(q RouteQuery) (*RouteLookup, *Route) {
	l := &RouteLookup{Query: q}
	rule, rt := s.decide(q, &l.Tries)
	if l.Martian = martianReason(rt); l.Martian == "" {
		l.Rule, l.Route = rule, rt
	}
	return l, rt
}

// DeviceFor names the device on which packets from src would arrive: the one that
// leads to it. It is lo for addresses of this stack, and "" if no route leads there.
func (s *Stack) DeviceFor(src netip.Addr) string {
	if l, _, _, err := s.output(netip.Addr{}, src.Unmap()); err == nil {
		return l.name
	}
	return ""
}

// Rules returns the rules of a family by priority.
func (s *Stack) Rules(f Family) []Rule { return slices.Clone(s.rpdb(f).rules) }

// Routes returns the routes of a family in table t, or in all tables for t 0.
func (s *Stack) Routes(f Family, t TableID) []Route { return s.rpdb(f).routes(t) }

// update replaces the database of a family by what change makes of it.
func (s *Stack) update(f Family, change func(*rpdb) (*rpdb, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updateLocked(f, change)
}

func (s *Stack) updateLocked(f Family, change func(*rpdb) (*rpdb, error)) error {
	p := s.rpdbPointer(f)
	db, err := change(p.Load())
	if err != nil {
		return err
	}
	p.Store(db)
	s.syncRoutesLocked()
	return nil
}

// AddRule adds a rule. Priority 0 with any selector means: choose one below the
// lowest priority that is not 0, as Linux does.
func (s *Stack) AddRule(r Rule) error {
	if r.Family == 0 {
		r.Family = IPv4
		if r.From.IsValid() && r.From.Addr().Is6() || r.To.IsValid() && r.To.Addr().Is6() {
			r.Family = IPv6
		}
	}
	if r.Action == ActionLookup && r.Table == 0 {
		return fmt.Errorf("add rule: no table to look in: %w", syscall.EINVAL)
	}
	for _, p := range []*netip.Prefix{&r.From, &r.To} {
		if p.IsValid() {
			if familyOf(p.Addr()) != r.Family {
				return fmt.Errorf("add rule: %s is not %s: %w", p, r.Family, syscall.EINVAL)
			}
			if *p = p.Masked(); p.Bits() == 0 {
				*p = netip.Prefix{} // "all"
			}
		}
	}
	return s.update(r.Family, func(db *rpdb) (*rpdb, error) {
		if r.Priority == 0 {
			r.Priority = freePriority(db.rules)
		}
		c, err := db.withRule(r)
		if err != nil {
			return nil, fmt.Errorf("add rule %d: %w", r.Priority, err)
		}
		return c, nil
	})
}

// freePriority is Linux's fib_default_rule_pref: one less than the second rule's.
func freePriority(rules []Rule) uint32 {
	if len(rules) > 1 && rules[1].Priority > 0 {
		return rules[1].Priority - 1
	}
	return 0
}

// DelRule removes the first rule of r's family that agrees with every field set in r.
func (s *Stack) DelRule(r Rule) error {
	if r.Family == 0 {
		r.Family = IPv4
	}
	return s.update(r.Family, func(db *rpdb) (*rpdb, error) {
		c, err := db.withoutRule(func(o Rule) bool {
			return (r.Priority == 0 || o.Priority == r.Priority) &&
				(!r.From.IsValid() || o.From == r.From.Masked()) &&
				(!r.To.IsValid() || o.To == r.To.Masked()) &&
				(r.IIF == "" || o.IIF == r.IIF) && (r.OIF == "" || o.OIF == r.OIF) &&
				o.Action == r.Action && (r.Table == 0 || o.Table == r.Table)
		})
		if err != nil {
			return nil, fmt.Errorf("del rule: no such rule: %w", err)
		}
		return c, nil
	})
}

// normalize fills in what ip-route(8) implies and refuses what makes no sense.
func (s *Stack) normalize(rt *Route) error {
	if !rt.Dst.IsValid() {
		return errors.New("no destination prefix")
	}
	if rt.Dst != rt.Dst.Masked() {
		return fmt.Errorf("destination %s has host bits; the prefix is %s", rt.Dst, rt.Dst.Masked())
	}
	if rt.Table == 0 {
		rt.Table = TableMain
		if rt.Type == Local || rt.Type == Broadcast {
			rt.Table = TableLocal
		}
	}
	f := familyOf(rt.Dst.Addr())
	if rt.Protocol == ProtoUnspec {
		rt.Protocol = ProtoBoot
	}
	if rt.Protocol != ProtoKernel {
		rt.impliedScope(f)
	}
	for _, a := range []netip.Addr{rt.Gateway, rt.PrefSrc} {
		if a.IsValid() && familyOf(a) != f {
			return fmt.Errorf("%s is not an %s address", a, f)
		}
	}
	switch rt.Type {
	case Unicast, Local, Broadcast, Multicast:
		if rt.Dev == "" && rt.Gateway.IsValid() {
			if gw, ok := s.devFor(rt.Gateway); ok {
				rt.Dev = gw
			} else {
				return fmt.Errorf("gateway %s: no link leads there: %w", rt.Gateway, syscall.ENETUNREACH)
			}
		}
		if rt.Dev == "" {
			return fmt.Errorf("a %s route needs a device: %w", rt.Type, syscall.ENODEV)
		}
		if s.link(rt.Dev) == nil {
			return fmt.Errorf("cannot find device %q: %w", rt.Dev, syscall.ENODEV)
		}
	default:
		rt.Dev = ""
		if f == IPv6 {
			rt.Dev = "lo" // ip6_route_info_create
		}
	}
	if s.fwd && rt.Type == Local && rt.Protocol != ProtoKernel {
		return fmt.Errorf("a forwarding stack takes packets for its own addresses only, not for prefixes: %w", syscall.EOPNOTSUPP)
	}
	return nil
}

// impliedScope fills in the scope and metric that a route has unless one is
// given: iproute2 infers the scope of IPv4 routes, IPv6 has none, and the kernel
// gives IPv6 routes the metric IP6_RT_PRIO_USER.
func (rt *Route) impliedScope(f Family) {
	if f == IPv6 {
		rt.Scope = ScopeGlobal
		if rt.Metric == 0 {
			rt.Metric = userMetric6
		}
		return
	}
	if rt.Scope != ScopeGlobal {
		return
	}
	switch {
	case rt.Type == Local:
		rt.Scope = ScopeHost
	case rt.Type == Broadcast, rt.Type == Multicast, rt.Type == Unicast && !rt.Gateway.IsValid():
		rt.Scope = ScopeLink
	}
}

// devFor is the device on whose link the gateway is.
func (s *Stack) devFor(gw netip.Addr) (string, bool) {
	_, rt := s.decide(RouteQuery{Dst: gw}, nil)
	if rt != nil && rt.Type == Unicast && !rt.Gateway.IsValid() {
		return rt.Dev, true
	}
	return "", false
}

// AddRoute adds a route; the error is EEXIST if the table has one for the same
// prefix and metric.
func (s *Stack) AddRoute(rt Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addRouteLocked(rt)
}

func (s *Stack) addRouteLocked(rt Route) error {
	if err := s.normalize(&rt); err != nil {
		return fmt.Errorf("add route: %w", err)
	}
	return s.updateLocked(familyOf(rt.Dst.Addr()), func(db *rpdb) (*rpdb, error) {
		c, err := db.withRoute(rt)
		if err != nil {
			return nil, fmt.Errorf("add route %s: %w", rt.Dst, err)
		}
		return c, nil
	})
}

// DelRoute removes the first route of rt's type, prefix and table whose other
// fields agree with those set in rt; the error is ESRCH if there is none.
func (s *Stack) DelRoute(rt Route) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.delRouteLocked(rt)
}

func (s *Stack) delRouteLocked(rt Route) error {
	if !rt.Dst.IsValid() {
		return fmt.Errorf("del route: no destination prefix: %w", syscall.EINVAL)
	}
	if rt.Table == 0 {
		rt.Table = TableMain
		if rt.Type == Local || rt.Type == Broadcast {
			rt.Table = TableLocal
		}
	}
	return s.updateLocked(familyOf(rt.Dst.Addr()), func(db *rpdb) (*rpdb, error) {
		c, err := db.withoutRoute(rt)
		if err != nil {
			return nil, fmt.Errorf("del route %s: no such route in table %s: %w", rt.Dst, rt.Table, err)
		}
		return c, nil
	})
}

// kernelRoutes are the routes that Linux derives from a link and its addresses
// (addrconf_add_dev, addrconf_prefix_route, fib_add_ifaddr). Of several IPv4 addresses in one prefix
// the first is the primary one: packets leave with it, and the prefix's routes are its.
func kernelRoutes(dev string, loopback bool, addrs []netip.Prefix) []Route {
	var rs []Route
	if !loopback {
		rs = append(rs, Route{Type: Multicast, Dst: multicast6, Dev: dev, Table: TableLocal, Metric: addrconfMetric})
	}
	primary := map[netip.Prefix]netip.Addr{}
	for _, p := range addrs {
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

// AddAddr gives a link an address, and the tables the routes that follow from it.
func (s *Stack) AddAddr(dev string, p netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link(dev)
	if l == nil {
		return fmt.Errorf("add address %s: cannot find device %q: %w", p, dev, syscall.ENODEV)
	}
	if !p.IsValid() || p.Addr().IsUnspecified() || p.Addr().IsMulticast() || p.Addr().Is4In6() {
		return fmt.Errorf("add address %s: not a unicast address with a prefix length: %w", p, syscall.EINVAL)
	}
	if slices.ContainsFunc(l.addrs, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }) {
		return fmt.Errorf("add address %s: %w", p, syscall.EEXIST)
	}
	pa := tcpip.ProtocolAddress{
		Protocol:          familyOf(p.Addr()).netProto(),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: toTCPIP(p.Addr()), PrefixLen: p.Bits()},
	}
	if err := s.ns.AddProtocolAddress(l.id, pa, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address %s: %w", p, errnoOf(err))
	}
	s.setAddrsLocked(l, append(slices.Clone(l.addrs), p))
	return nil
}

// DelAddr takes an address from a link, with the routes that followed from it.
// The next address in its prefix becomes the primary one, as Linux does with
// net.ipv4.conf.all.promote_secondaries=1.
func (s *Stack) DelAddr(dev string, p netip.Prefix) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link(dev)
	if l == nil {
		return fmt.Errorf("del address %s: cannot find device %q: %w", p, dev, syscall.ENODEV)
	}
	i := slices.Index(l.addrs, p)
	if i < 0 {
		return fmt.Errorf("del address %s: not on %s: %w", p, dev, syscall.EADDRNOTAVAIL)
	}
	if err := s.ns.RemoveAddress(l.id, toTCPIP(p.Addr())); err != nil {
		return fmt.Errorf("del address %s: %w", p, errnoOf(err))
	}
	s.setAddrsLocked(l, slices.Delete(slices.Clone(l.addrs), i, i+1))
	return nil
}

// setAddrsLocked changes the addresses of l, and the routes that follow from it
// and them.
func (s *Stack) setAddrsLocked(l *link, addrs []netip.Prefix) {
	var old []Route
	if l.up {
		old = kernelRoutes(l.name, l.loopback, l.addrs)
	}
	now := kernelRoutes(l.name, l.loopback, addrs)
	gone := func(a netip.Addr) bool {
		is := func(p netip.Prefix) bool { return p.Addr() == a }
		return slices.ContainsFunc(l.addrs, is) && !slices.ContainsFunc(addrs, is)
	}
	for _, f := range []Family{IPv4, IPv6} {
		var drop, add []Route
		for _, rt := range s.rpdb(f).routes(0) {
			// With an address go the routes that prefer it as a source (fib_sync_down_addr).
			if (slices.Contains(old, rt) || rt.Protocol != ProtoKernel && gone(rt.PrefSrc)) && !slices.Contains(now, rt) {
				drop = append(drop, rt)
			}
		}
		for _, rt := range now {
			if familyOf(rt.Dst.Addr()) == f && !slices.Contains(old, rt) {
				add = append(add, rt)
			}
		}
		s.rpdbPointer(f).Store(s.rpdb(f).replace(drop, add))
	}
	l.addrs, l.up = addrs, true
	s.syncRoutesLocked()
}

// LinkInfo describes a link.
type LinkInfo struct {
	Index    int            `json:"ifindex"`
	Name     string         `json:"ifname"`
	MTU      int            `json:"mtu"`
	Loopback bool           `json:"loopback,omitempty"`
	Addrs    []netip.Prefix `json:"addrs"`
}

// Links returns the links in the order in which they were added; lo is first.
func (s *Stack) Links() []LinkInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []LinkInfo
	for _, l := range *s.links.Load() {
		out = append(out, LinkInfo{
			Index: int(l.id), Name: l.name, MTU: int(l.MTU()), Loopback: l.loopback, Addrs: slices.Clone(l.addrs),
		})
	}
	return out
}

// syncRoutesLocked tells netstack which link and source address to send with. It
// sees the unicast routes of every table, longest prefix first, and at the end a
// route through each link, since the decision is not netstack's: link.dispose
// makes it again for each packet by rule and table.
func (s *Stack) syncRoutesLocked() {
	var table []tcpip.Route
	for _, f := range []Family{IPv4, IPv6} {
		routes := s.rpdb(f).routes(0)
		slices.SortStableFunc(routes, func(a, b Route) int {
			return cmp.Or(cmp.Compare(b.Dst.Bits(), a.Dst.Bits()), cmp.Compare(a.Metric, b.Metric))
		})
		for _, rt := range routes {
			l := s.link(rt.Dev)
			if l == nil || rt.Type != Unicast && !l.loopback {
				continue
			}
			dst, err := tcpip.NewSubnet(maskAddr(rt.Dst), tcpip.MaskFromBytes(prefixMask(rt.Dst)))
			if err != nil {
				continue // normalize has refused host bits
			}
			table = append(table, tcpip.Route{Destination: dst, Gateway: toTCPIP(rt.Gateway), NIC: l.id, SourceHint: toTCPIP(rt.PrefSrc)})
		}
		zero := netip.PrefixFrom(f.any(), 0)
		all, _ := tcpip.NewSubnet(maskAddr(zero), tcpip.MaskFromBytes(prefixMask(zero)))
		for _, l := range slices.Backward(*s.links.Load()) { // lo last
			table = append(table, tcpip.Route{Destination: all, NIC: l.id})
		}
	}
	s.ns.SetRouteTable(table)
}

func maskAddr(p netip.Prefix) tcpip.Address {
	return tcpip.AddrFromSlice(p.Masked().Addr().AsSlice())
}

func prefixMask(p netip.Prefix) []byte {
	m := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

// output is the routing decision for a local sender: the link to leave through
// and the source address, or the errno that Linux's connect(2) gives.
func (s *Stack) output(src, dst netip.Addr) (*link, netip.Addr, *Route, error) {
	_, rt := s.decide(RouteQuery{Src: src, Dst: dst}, nil)
	if rt == nil {
		return nil, src, nil, syscall.ENETUNREACH
	}
	if err := rt.Type.errno(); err != nil {
		return nil, src, rt, err
	}
	l, links := s.link(rt.Dev), *s.links.Load()
	switch {
	case rt.Type == Local:
		l = s.lo
		if !src.IsValid() {
			src = dst
		}
	case l == nil && len(links) > 1:
		l = links[1] // broadcast and multicast leave through the first real link
	case l == nil:
		return nil, src, rt, syscall.ENETUNREACH
	}
	return l, src, rt, nil
}
