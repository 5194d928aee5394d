package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// TableID names a routing table, as RT_TABLE_* in rtnetlink(7).
type TableID uint32

// The tables that always exist.
const (
	TableDefault TableID = 253
	TableMain    TableID = 254
	TableLocal   TableID = 255
)

var tableNames = map[TableID]string{TableDefault: "default", TableMain: "main", TableLocal: "local"}

// String returns the table's name in iproute2's rt_tables, or its number.
func (t TableID) String() string {
	if n, ok := tableNames[t]; ok {
		return n
	}
	return strconv.FormatUint(uint64(t), 10)
}

// ParseTable reads a table's name or number (1 to 2^32-1).
func ParseTable(s string) (TableID, error) {
	for id, n := range tableNames {
		if n == s {
			return id, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("table %q: not local, main, default or a number from 1 to 4294967295", s)
	}
	return TableID(n), nil
}

// Type is what becomes of a packet that a route matches, as RTN_* in
// rtnetlink(7) and "route types" in ip-route(8).
type Type uint8

// The route types of ip-route(8) that this stack has.
const (
	Unicast     Type = iota // forwarded or sent through Dev
	Local                   // delivered to this stack
	Broadcast               // delivered to this stack, sent as a broadcast
	Multicast               // delivered to members of the group
	Unreachable             // ICMP host unreachable; EHOSTUNREACH to local senders
	Prohibit                // ICMP administratively prohibited; EACCES to local senders
	Blackhole               // silently dropped; EINVAL to local senders
	Throw                   // ends the search in this table
)

var typeNames = []string{"unicast", "local", "broadcast", "multicast", "unreachable", "prohibit", "blackhole", "throw"}

func (t Type) String() string { return nameOf(typeNames, t) }

// ParseType reads a route type's name.
func ParseType(s string) (Type, bool) { return parseName[Type](typeNames, s) }

// MarshalText gives the name, for JSON.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the name.
func (t *Type) UnmarshalText(b []byte) error {
	return unmarshalName(t, "route type", string(b), ParseType)
}

// Scope is the distance to a route's destination (rtnetlink(7), RT_SCOPE_*).
type Scope uint8

// The scopes of ip-route(8).
const (
	ScopeGlobal  Scope = 0
	ScopeSite    Scope = 200
	ScopeLink    Scope = 253
	ScopeHost    Scope = 254
	ScopeNowhere Scope = 255
)

var scopeNames = map[Scope]string{ScopeGlobal: "global", ScopeSite: "site", ScopeLink: "link", ScopeHost: "host", ScopeNowhere: "nowhere"}

func (s Scope) String() string {
	if n, ok := scopeNames[s]; ok {
		return n
	}
	return strconv.Itoa(int(s))
}

// ParseScope reads a scope's name or number (0 to 255).
func ParseScope(s string) (Scope, bool) {
	for v, n := range scopeNames {
		if n == s {
			return v, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return Scope(n), err == nil
}

// MarshalText gives the name, for JSON.
func (s Scope) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name.
func (s *Scope) UnmarshalText(b []byte) error {
	return unmarshalName(s, "scope", string(b), ParseScope)
}

// Protocol says who made a route (rtnetlink(7), RTPROT_*).
type Protocol uint8

// The protocols this stack uses. Boot is what iproute2 gives to routes added by hand.
const (
	ProtoUnspec Protocol = 0
	ProtoKernel Protocol = 2
	ProtoBoot   Protocol = 3
	ProtoStatic Protocol = 4
)

var protocolNames = map[Protocol]string{ProtoUnspec: "unspec", ProtoKernel: "kernel", ProtoBoot: "boot", ProtoStatic: "static"}

func (p Protocol) String() string {
	if n, ok := protocolNames[p]; ok {
		return n
	}
	return strconv.Itoa(int(p))
}

// ParseProtocol reads a protocol's name or number (0 to 255).
func ParseProtocol(s string) (Protocol, bool) {
	for v, n := range protocolNames {
		if n == s {
			return v, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return Protocol(n), err == nil
}

// MarshalText gives the name, for JSON.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name.
func (p *Protocol) UnmarshalText(b []byte) error {
	return unmarshalName(p, "protocol", string(b), ParseProtocol)
}

// Delivers reports whether packets with a route of this type are delivered to this stack.
func (t Type) Delivers() bool { return t == Local || t == Broadcast || t == Multicast }

// table is the table that a route of this type is in unless one is named, as
// iproute2's iproute_modify has it: a multicast route is in main.
func (t Type) table() TableID {
	if t == Local || t == Broadcast {
		return TableLocal
	}
	return TableMain
}

// scope is the scope that iproute2 gives an IPv4 route for its type alone.
func (t Type) scope() Scope {
	switch t {
	case Local:
		return ScopeHost
	case Broadcast, Multicast:
		return ScopeLink
	}
	return ScopeGlobal
}

// Route is one entry of a routing table. The zero values of Gateway, PrefSrc
// and Dev mean "none". A route that is added has what ip-route(8) implies filled in:
// Table zero means the table that Type implies (local for Local and Broadcast, else
// main), Protocol zero means boot, an IPv4 route's Scope zero the scope that its type
// and gateway imply, an IPv6 route's Metric zero 1024.
type Route struct {
	Type     Type         `json:"type"`
	Dst      netip.Prefix `json:"dst"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Dev      string       `json:"dev,omitempty"`
	Table    TableID      `json:"table"`
	Protocol Protocol     `json:"protocol"`
	Scope    Scope        `json:"scope"`
	PrefSrc  netip.Addr   `json:"prefsrc,omitzero"`
	Metric   uint32       `json:"metric,omitempty"`
}

// String writes the route as `ip route show` does, without the space that
// iproute2 puts at the end of a line.
func (r Route) String() string {
	v6 := r.Dst.Addr().Is6()
	var b strings.Builder
	if r.Type != Unicast {
		b.WriteString(r.Type.String() + " ")
	}
	b.WriteString(dstName(r.Dst))
	if r.Gateway.IsValid() {
		b.WriteString(" via " + r.Gateway.String())
	}
	if r.Dev != "" {
		b.WriteString(" dev " + r.Dev)
	}
	if r.Protocol != ProtoBoot {
		b.WriteString(" proto " + r.Protocol.String())
	}
	if r.Scope != ScopeGlobal {
		b.WriteString(" scope " + r.Scope.String())
	}
	if r.PrefSrc.IsValid() {
		b.WriteString(" src " + r.PrefSrc.String())
	}
	if v6 || r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	if v6 {
		b.WriteString(" pref medium")
	}
	return b.String()
}

// dstName writes a destination as iproute2 does: "default", an address, a prefix.
func dstName(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

func parseName[T ~uint8](names []string, s string) (T, bool) {
	i := slices.Index(names, s)
	return T(max(i, 0)), i >= 0
}

func unmarshalName[T any](dst *T, what, s string, parse func(string) (T, bool)) error {
	v, ok := parse(s)
	if !ok {
		return fmt.Errorf("%s %q: unknown", what, s)
	}
	*dst = v
	return nil
}

// RouteMatch describes routes by some of their features, as `ip route del` does. Dst
// must be given. What is zero is not compared; Table zero means the table that Type
// implies, main without a type.
type RouteMatch struct {
	Dst      netip.Prefix `json:"dst"`
	Table    TableID      `json:"table,omitempty"`
	Type     *Type        `json:"type,omitempty"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`
	Dev      string       `json:"dev,omitempty"`
	Protocol Protocol     `json:"protocol,omitzero"`
	Scope    *Scope       `json:"scope,omitempty"`
	PrefSrc  netip.Addr   `json:"prefsrc,omitzero"`
	Metric   uint32       `json:"metric,omitempty"`
}

// Match describes r by its features. Those that are zero in r match any, so that a
// route as it was given to AddRoute describes what AddRoute made of it.
func (r Route) Match() RouteMatch {
	m := RouteMatch{Dst: r.Dst, Table: r.Table, Type: &r.Type, Gateway: r.Gateway, Dev: r.Dev, Protocol: r.Protocol, PrefSrc: r.PrefSrc, Metric: r.Metric}
	if r.Scope != ScopeGlobal {
		m.Scope = &r.Scope
	}
	return m
}

// table is the table in which the routes are.
func (m *RouteMatch) table() TableID {
	switch {
	case m.Table != 0:
		return m.Table
	case m.Type != nil:
		return m.Type.table()
	}
	return TableMain
}

// selects reports whether m describes r, as fib_table_delete and ip6_route_del
// compare: IPv6 knows neither the type nor the scope nor the preferred source of the
// route that is to go.
func (m *RouteMatch) selects(r *Route) bool {
	if r.Dst != m.Dst ||
		m.Gateway.IsValid() && r.Gateway != m.Gateway ||
		m.Dev != "" && r.Dev != m.Dev ||
		m.Protocol != ProtoUnspec && r.Protocol != m.Protocol ||
		m.Metric != 0 && r.Metric != m.Metric {
		return false
	}
	if m.Dst.Addr().Is6() {
		return true
	}
	scope := m.Scope
	if scope == nil && m.Type != nil {
		// iproute2 asks for the scope that goes with the type.
		if s := m.Type.scope(); s != ScopeGlobal {
			scope = &s
		}
	}
	return (m.Type == nil || r.Type == *m.Type) && (scope == nil || r.Scope == *scope) && (!m.PrefSrc.IsValid() || r.PrefSrc == m.PrefSrc)
}
