package stack

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/stack/route"
)

// LookupRoute says where a packet would go, and which rules and routes were tried
// on the way. The decision is made by the code that decides for packets. With
// Query.IIF it is that for a packet that arrives on this device, else that for a
// packet that this stack sends, with the device and the source address that it takes.
func (s *Stack) LookupRoute(q RouteQuery) *RouteLookup { return s.db.Load().Lookup(q) }

// Rules returns the rules of a family by priority.
func (s *Stack) Rules(f Family) []Rule { return s.db.Load().Rules(f) }

// Routes returns the routes of a family in table t, or in all tables for t 0.
func (s *Stack) Routes(f Family, t TableID) []Route { return s.db.Load().Routes(f, t) }

// change puts in the place of the database what how makes of it. Packets see all of
// the change or nothing of it.
func (s *Stack) change(how func(*route.DB) (*route.DB, error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changeLocked(how)
}

func (s *Stack) changeLocked(how func(*route.DB) (*route.DB, error)) error {
	db, err := how(s.db.Load())
	if err != nil {
		return err
	}
	s.db.Store(db)
	s.syncRoutesLocked()
	return nil
}

// AddRule adds a rule; see [route.DB.AddRule].
func (s *Stack) AddRule(r Rule) error {
	return s.change(func(db *route.DB) (*route.DB, error) { return db.AddRule(r) })
}

// DelRule removes the first rule that m describes; the error is ENOENT if there is none.
func (s *Stack) DelRule(m RuleMatch) error {
	return s.change(func(db *route.DB) (*route.DB, error) { return db.DelRule(m) })
}

// AddRoute adds a route; the error is EEXIST if its table has one for the same prefix
// and metric.
func (s *Stack) AddRoute(rt Route) error { return s.changeRoute("add", rt, (*route.DB).AddRoute) }

// AppendRoute adds a route after others of its prefix and metric; the error is EEXIST if
// one is equal to it.
func (s *Stack) AppendRoute(rt Route) error {
	return s.changeRoute("append", rt, (*route.DB).AppendRoute)
}

// ReplaceRoute puts a route in the place of the first one of its table, prefix and
// metric, and adds it if there is none. No packet finds neither.
func (s *Stack) ReplaceRoute(rt Route) error {
	return s.changeRoute("replace", rt, (*route.DB).ReplaceRoute)
}

func (s *Stack) changeRoute(verb string, rt Route, how func(*route.DB, Route) (*route.DB, error)) error {
	if s.fwd && rt.Type == Local && rt.Protocol != ProtoKernel {
		return fmt.Errorf("%s route: a forwarding stack takes packets for its own addresses only, not for prefixes: %w", verb, syscall.EOPNOTSUPP)
	}
	return s.change(func(db *route.DB) (*route.DB, error) { return how(db, rt) })
}

// DelRoute removes the first route that m describes; the error is ESRCH if there is none.
func (s *Stack) DelRoute(m RouteMatch) error {
	return s.change(func(db *route.DB) (*route.DB, error) { return db.DelRoute(m) })
}

// AddAddr gives a link an address, and the tables the routes that follow from it.
func (s *Stack) AddAddr(dev string, p netip.Prefix) error {
	return s.change(func(db *route.DB) (*route.DB, error) {
		c, err := db.AddAddr(dev, p)
		if err != nil {
			return nil, err
		}
		pa := tcpip.ProtocolAddress{
			Protocol:          netProto(route.FamilyOf(p.Addr())),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: toTCPIP(p.Addr()), PrefixLen: p.Bits()},
		}
		if err := s.ns.AddProtocolAddress(s.link(dev).id, pa, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("add address %s: %w", p, errnoOf(err))
		}
		return c, nil
	})
}

// DelAddr takes an address from a link, with the routes that followed from it; see
// [route.DB.DelAddr].
func (s *Stack) DelAddr(dev string, p netip.Prefix) error {
	return s.change(func(db *route.DB) (*route.DB, error) {
		c, err := db.DelAddr(dev, p)
		if err != nil {
			return nil, err
		}
		if err := s.ns.RemoveAddress(s.link(dev).id, toTCPIP(p.Addr())); err != nil {
			return nil, fmt.Errorf("del address %s: %w", p, errnoOf(err))
		}
		return c, nil
	})
}

// LinkInfo describes a link.
type LinkInfo struct {
	Index    int            `json:"ifindex"`
	Name     string         `json:"ifname"`
	MTU      int            `json:"mtu"`
	Loopback bool           `json:"loopback,omitempty"`
	Addrs    []netip.Prefix `json:"addrs"`
	Counters LinkCounters   `json:"counters"`
}

// Links returns the links in the order in which they were added; lo is first.
func (s *Stack) Links() []LinkInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []LinkInfo
	for _, l := range *s.links.Load() {
		d, _ := s.db.Load().Device(l.name)
		out = append(out, LinkInfo{
			Index: int(l.id), Name: l.name, MTU: int(l.MTU()), Loopback: l.loopback, Addrs: slices.Clone(d.Addrs),
			Counters: l.counters(),
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
	db := s.db.Load()
	for _, f := range []Family{IPv4, IPv6} {
		routes := db.Routes(f, 0)
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
				continue // AddRoute has refused host bits
			}
			hint := rt.PrefSrc
			if f == IPv4 { // for IPv6 netstack goes by RFC 6724, whatever the hint
				hint = db.Source(&rt, netip.Addr{})
			}
			table = append(table, tcpip.Route{Destination: dst, Gateway: toTCPIP(rt.Gateway), NIC: l.id, SourceHint: toTCPIP(hint)})
		}
		zero := netip.PrefixFrom(f.Any(), 0)
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

// output is the routing decision for a local sender, and the link to leave through;
// the error is the errno that Linux's connect(2) gives.
func (s *Stack) output(src, dst netip.Addr) (*link, *Route, error) {
	db := s.db.Load()
	_, rt := db.Decide(RouteQuery{Src: src, Dst: dst}, nil)
	if err := rt.Err(); err != nil {
		return nil, rt, err
	}
	l := s.link(db.Output(rt))
	if l == nil {
		return nil, rt, syscall.ENETUNREACH
	}
	return l, rt, nil
}
