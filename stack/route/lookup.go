package route

import (
	"net/netip"
	"syscall"
)

// Query asks where a packet would go.
type Query struct {
	Dst netip.Addr `json:"dst"`
	Src netip.Addr `json:"src,omitzero"` // zero: not chosen yet
	IIF string     `json:"iif,omitempty"`
	OIF string     `json:"oif,omitempty"`
}

// Try is one step of a lookup: a rule, and what came of it.
type Try struct {
	Rule  Rule   `json:"rule"`
	Route *Route `json:"route,omitempty"` // the longest match in the rule's table, if any
	Why   string `json:"why"`             // why it was passed over, or that it matched
	Match bool   `json:"match"`
}

// Lookup is the answer to a Query with the way to it. Route is nil when no rule led
// to a route: the destination is unreachable. Rule is nil then, and for destinations
// that are decided before any rule.
type Lookup struct {
	Query   Query  `json:"query"`
	Tries   []Try  `json:"tries"`
	Rule    *Rule  `json:"rule,omitempty"`
	Route   *Route `json:"route,omitempty"`
	Martian string `json:"martian,omitempty"` // why the packet cannot be genuine: IP_INVALID_SOURCE, IP_INVALID_DEST

	// Of DB.Lookup alone: the device that the packet takes, lo for one that is
	// delivered to this stack, and the source address that it gets if this stack
	// sends it and has chosen none.
	Dev string     `json:"dev,omitempty"`
	Src netip.Addr `json:"src,omitzero"`
}

// Local reports whether packets of this lookup are delivered to this stack.
func (l *Lookup) Local() bool { return l.Route != nil && l.Route.Type.Delivers() }

// Err is what a local sender of such a packet is told, as Route.Err; of a martian one it
// is EINVAL.
func (l *Lookup) Err() error {
	if l.Martian != "" {
		return syscall.EINVAL
	}
	return l.Route.Err()
}

// Destinations that Linux decides before any table (ip_route_input_rcu).
var (
	limitedBroadcast = &Route{Type: Broadcast, Dst: netip.MustParsePrefix("255.255.255.255/32"), Scope: ScopeLink, Protocol: ProtoKernel}
	multicast4       = &Route{Type: Multicast, Dst: netip.MustParsePrefix("224.0.0.0/4"), Scope: ScopeLink, Protocol: ProtoKernel}
)

// Packets that arrive so cannot be genuine ("martian", RFC 1812 5.3.7). Neither is
// in a table.
var (
	martianSource = &Route{Type: Blackhole}
	martianDest   = &Route{Type: Blackhole}
)

// Martian is the kernel's name for the drop of a packet for which DB.Decide gave r
// because its addresses cannot be genuine; "" for every other route.
func (r *Route) Martian() string {
	switch r {
	case martianSource:
		return "IP_INVALID_SOURCE"
	case martianDest:
		return "IP_INVALID_DEST"
	}
	return ""
}

// Err is what connect(2) tells a local sender whose packet has the route r
// (ip-route(8)): nil if it is sent. Of no route, a nil r, it is ENETUNREACH.
func (r *Route) Err() error {
	switch {
	case r == nil:
		return syscall.ENETUNREACH
	case r.Type == Unreachable:
		return syscall.EHOSTUNREACH
	case r.Type == Prohibit:
		return syscall.EACCES
	case r.Type == Blackhole:
		return syscall.EINVAL
	}
	return nil
}

// Decide is the routing decision, for packets and for Explain. The route is nil if no
// rule led to one, the rule if none was asked; both must not be changed. With tries
// nil it allocates nothing, unless a rule itself is the answer.
func (db *DB) Decide(q Query, tries *[]Try) (*Rule, *Route) {
	if rt := db.martian(q); rt != nil {
		return nil, rt
	}
	f := FamilyOf(q.Dst)
	if f == IPv4 {
		switch {
		case q.Dst == limitedBroadcast.Dst.Addr():
			return nil, limitedBroadcast
		case q.Dst.IsMulticast():
			return nil, multicast4
		}
	}
	return db.of(f).lookup(q, tries)
}

// martian judges the addresses of a packet that arrived, as ip_route_input_slow,
// fib_validate_source and ip6_rcv_core do; nil if they may be genuine.
func (db *DB) martian(q Query) *Route {
	if q.IIF == "" || q.IIF == Loopback {
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
		if _, rt := db.v4.lookup(Query{Dst: src}, nil); rt != nil && rt.Type.Delivers() {
			return martianSource
		}
	}
	return nil
}

// Explain is Decide with the tries written down. The route is Decide's: that of a
// martian packet is in no Lookup.
func (db *DB) Explain(q Query) (*Lookup, *Route) {
	l := &Lookup{Query: q}
	rule, rt := db.Decide(q, &l.Tries)
	if l.Martian = rt.Martian(); l.Martian == "" {
		l.Rule, l.Route = rule, rt
	}
	return l, rt
}

// Lookup says where a packet would go, and which rules and routes were tried on the
// way. With q.IIF it is the decision for a packet that arrives on this device, else
// that for a packet that this stack sends, with the device and the source address
// that it takes.
func (db *DB) Lookup(q Query) *Lookup {
	q.Dst, q.Src = q.Dst.Unmap(), q.Src.Unmap()
	l, _ := db.Explain(q)
	if l.Err() == nil {
		l.Dev = db.Output(l.Route)
		if q.IIF == "" {
			l.Src = db.Source(l.Route, q.Dst)
		}
	}
	return l
}
