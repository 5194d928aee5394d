package stack

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/gaissmai/bart"
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

// RouteType is what becomes of a packet that a route matches, as RTN_* in
// rtnetlink(7) and "route types" in ip-route(8).
type RouteType uint8

// The route types of ip-route(8) that this stack has.
const (
	Unicast     RouteType = iota // forwarded or sent through Dev
	Local                        // delivered to this stack
	Broadcast                    // delivered to this stack, sent as a broadcast
	Multicast                    // delivered to members of the group
	Unreachable                  // ICMP host unreachable; EHOSTUNREACH to local senders
	Prohibit                     // ICMP administratively prohibited; EACCES to local senders
	Blackhole                    // silently dropped; EINVAL to local senders
	Throw                        // ends the search in this table
)

var routeTypeNames = []string{"unicast", "local", "broadcast", "multicast", "unreachable", "prohibit", "blackhole", "throw"}

func (t RouteType) String() string { return nameOf(routeTypeNames, t) }

// ParseRouteType reads a route type's name.
func ParseRouteType(s string) (RouteType, bool) { return parseName[RouteType](routeTypeNames, s) }

// MarshalText gives the name, for JSON.
func (t RouteType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the name.
func (t *RouteType) UnmarshalText(b []byte) error {
	return unmarshalName(t, "route type", string(b), ParseRouteType)
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

// RouteProtocol says who made a route (rtnetlink(7), RTPROT_*).
type RouteProtocol uint8

// The protocols this stack uses. Boot is what iproute2 gives to routes added by hand.
const (
	ProtoUnspec RouteProtocol = 0
	ProtoKernel RouteProtocol = 2
	ProtoBoot   RouteProtocol = 3
	ProtoStatic RouteProtocol = 4
)

var routeProtoNames = map[RouteProtocol]string{ProtoUnspec: "unspec", ProtoKernel: "kernel", ProtoBoot: "boot", ProtoStatic: "static"}

func (p RouteProtocol) String() string {
	if n, ok := routeProtoNames[p]; ok {
		return n
	}
	return strconv.Itoa(int(p))
}

// ParseRouteProtocol reads a protocol's name or number (0 to 255).
func ParseRouteProtocol(s string) (RouteProtocol, bool) {
	for v, n := range routeProtoNames {
		if n == s {
			return v, true
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return RouteProtocol(n), err == nil
}

// MarshalText gives the name, for JSON.
func (p RouteProtocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the name.
func (p *RouteProtocol) UnmarshalText(b []byte) error {
	return unmarshalName(p, "protocol", string(b), ParseRouteProtocol)
}

// Route is one entry of a routing table. The zero values of Gateway, PrefSrc
// and Dev mean "none". AddRoute fills in what ip-route(8) implies: Table zero
// means the table that Type implies (local for Local and Broadcast, else main), Protocol zero means boot, an IPv4 route's Scope zero the scope that
// its type and gateway imply, an IPv6 route's Metric zero 1024.
type Route struct {
	Type     RouteType     `json:"type"`
	Dst      netip.Prefix  `json:"dst"`
	Gateway  netip.Addr    `json:"gateway,omitzero"`
	Dev      string        `json:"dev,omitempty"`
	Table    TableID       `json:"table"`
	Protocol RouteProtocol `json:"protocol"`
	Scope    Scope         `json:"scope"`
	PrefSrc  netip.Addr    `json:"prefsrc,omitzero"`
	Metric   uint32        `json:"metric,omitempty"`
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

// RuleAction is what a rule does with a packet it selects.
type RuleAction uint8

// The actions of ip-rule(8) that this stack has.
const (
	ActionLookup RuleAction = iota // look in Rule.Table
	ActionUnreachable
	ActionProhibit
	ActionBlackhole
)

var ruleActionNames = []string{"lookup", "unreachable", "prohibit", "blackhole"}

func (a RuleAction) String() string { return nameOf(ruleActionNames, a) }

// ParseRuleAction reads an action's name.
func ParseRuleAction(s string) (RuleAction, bool) { return parseName[RuleAction](ruleActionNames, s) }

// MarshalText gives the name, for JSON.
func (a RuleAction) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the name.
func (a *RuleAction) UnmarshalText(b []byte) error {
	return unmarshalName(a, "rule action", string(b), ParseRuleAction)
}

// routeType is the type of the answer that a rule other than a lookup gives.
func (a RuleAction) routeType() RouteType {
	switch a {
	case ActionProhibit:
		return Prohibit
	case ActionBlackhole:
		return Blackhole
	}
	return Unreachable
}

// Rule is one entry of the routing policy database (ip-rule(8)). A selector's
// zero value matches everything.
type Rule struct {
	Family   Family       `json:"-"`
	Priority uint32       `json:"priority"`
	Not      bool         `json:"not,omitempty"`
	From     netip.Prefix `json:"src,omitzero"`
	To       netip.Prefix `json:"dst,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Action   RuleAction   `json:"action"`
	Table    TableID      `json:"table,omitempty"` // for ActionLookup
}

// String writes the rule as `ip rule show` does.
func (r Rule) String() string { return fmt.Sprintf("%d:\t%s", r.Priority, r.selector()) }

// selector is the rule without its priority.
func (r Rule) selector() string {
	var b strings.Builder
	if r.Not {
		b.WriteString("not ")
	}
	b.WriteString("from ")
	if r.From.IsValid() && r.From.Bits() > 0 {
		b.WriteString(dstName(r.From))
	} else {
		b.WriteString("all")
	}
	if r.To.IsValid() {
		b.WriteString(" to " + dstName(r.To))
	}
	if r.IIF != "" {
		b.WriteString(" iif " + r.IIF)
	}
	if r.OIF != "" {
		b.WriteString(" oif " + r.OIF)
	}
	b.WriteString(" " + r.Action.String())
	if r.Action == ActionLookup {
		b.WriteString(" " + r.Table.String())
	}
	return b.String()
}

// RouteQuery asks where a packet would go.
type RouteQuery struct {
	Dst netip.Addr `json:"dst"`
	Src netip.Addr `json:"src,omitzero"` // zero: not chosen yet
	IIF string     `json:"iif,omitempty"`
	OIF string     `json:"oif,omitempty"`
}

// RouteTry is one step of a lookup: a rule, and what came of it.
type RouteTry struct {
	Rule  Rule   `json:"rule"`
	Route *Route `json:"route,omitempty"` // the longest match in the rule's table, if any
	Why   string `json:"why"`             // why it was passed over, or that it matched
	Match bool   `json:"match"`
}

// RouteLookup is the answer to a RouteQuery with the way to it. Route is nil when
// no rule led to a route: the destination is unreachable. Rule is nil then, and for
// destinations that are decided before any rule.
type RouteLookup struct {
	Query   RouteQuery `json:"query"`
	Tries   []RouteTry `json:"tries"`
	Rule    *Rule      `json:"rule,omitempty"`
	Route   *Route     `json:"route,omitempty"`
	Martian string     `json:"martian,omitempty"` // why the packet cannot be genuine: IP_INVALID_SOURCE, IP_INVALID_DEST
}

// Local reports whether packets of this lookup are delivered to this stack.
func (l *RouteLookup) Local() bool { return l.Route != nil && l.Route.Type.delivers() }

func (t RouteType) delivers() bool { return t == Local || t == Broadcast || t == Multicast }

// errno is what a local sender gets for a route of this type (ip-route(8)).
func (t RouteType) errno() error {
	switch t {
	case Unreachable:
		return syscall.EHOSTUNREACH
	case Prohibit:
		return syscall.EACCES
	case Blackhole:
		return syscall.EINVAL
	}
	return nil
}

// routeTable is one table of one family. The values of a prefix are sorted by
// metric, lowest first.
type routeTable = bart.Table[[]*Route]

// rpdb is an immutable routing policy database of one family. Changes make a new
// one, so that packets look up without a lock.
type rpdb struct {
	rules  []Rule // sorted by priority; equal priorities in order of addition
	tables map[TableID]*routeTable
}

// lookup is the decision for packets and for LookupRoute alike. With tries nil it
// allocates nothing.
func (db *rpdb) lookup(q RouteQuery, tries *[]RouteTry) (*Rule, *Route) {
	note := func(r *Rule, rt *Route, match bool, why string) {
		if tries != nil {
			*tries = append(*tries, RouteTry{Rule: *r, Route: rt, Match: match, Why: why})
		}
	}
	for i := range db.rules {
		r := &db.rules[i]
		if why := r.mismatch(q); why != "" {
			note(r, nil, false, why)
			continue
		}
		if r.Action != ActionLookup {
			note(r, nil, true, "the rule itself decides")
			return r, &Route{Type: r.Action.routeType(), Dst: hostPrefix(q.Dst), Protocol: ProtoUnspec}
		}
		rt := lookupTable(db.tables[r.Table], q)
		switch {
		case rt == nil:
			note(r, nil, false, "no route in this table")
		case rt.Type == Throw:
			note(r, rt, false, "throw: the search goes on with the next rule")
		default:
			note(r, rt, true, "longest prefix in this table")
			return r, rt
		}
	}
	return nil, nil
}

// mismatch says why the rule does not select q; "" if it does.
func (r *Rule) mismatch(q RouteQuery) string {
	why := ""
	switch {
	case r.From.IsValid() && !(q.Src.IsValid() && r.From.Contains(q.Src)):
		why = "source is not in the rule's prefix"
	case r.To.IsValid() && !r.To.Contains(q.Dst):
		why = "destination is not in the rule's prefix"
	case r.IIF != "" && r.IIF != q.IIF:
		why = "arrived on another device"
	case r.OIF != "" && r.OIF != q.OIF:
		why = "leaves through another device"
	}
	if !r.Not {
		return why
	}
	if why == "" {
		return "the rule selects all but such packets"
	}
	return ""
}

// lookupTable returns the route with the longest prefix that contains q.Dst and,
// if q.OIF is given, uses that device.
func lookupTable(t *routeTable, q RouteQuery) *Route {
	if t == nil {
		return nil
	}
	routes, ok := t.Lookup(q.Dst)
	if !ok {
		return nil
	}
	if rt := pick(routes, q.OIF); rt != nil {
		return rt
	}
	for _, routes := range t.Supernets(hostPrefix(q.Dst)) {
		if rt := pick(routes, q.OIF); rt != nil {
			return rt
		}
	}
	return nil
}

func pick(routes []*Route, oif string) *Route {
	for _, rt := range routes {
		if oif == "" || rt.Dev == "" || rt.Dev == oif {
			return rt
		}
	}
	return nil
}

// newRPDB returns the database of a fresh Linux namespace: IPv6 has no rule for
// the default table.
func newRPDB(f Family) *rpdb {
	db := &rpdb{tables: map[TableID]*routeTable{}}
	db.rules = []Rule{
		{Family: f, Priority: 0, Table: TableLocal},
		{Family: f, Priority: 32766, Table: TableMain},
	}
	if f == IPv4 {
		db.rules = append(db.rules, Rule{Family: f, Priority: 32767, Table: TableDefault})
	}
	return db
}

func (db *rpdb) clone() *rpdb {
	c := &rpdb{rules: slices.Clone(db.rules), tables: make(map[TableID]*routeTable, len(db.tables))}
	for id, t := range db.tables {
		c.tables[id] = t
	}
	return c
}

// withRoute returns a database with rt added. A table takes one route for a prefix
// and metric, as Linux does with NLM_F_EXCL, which `ip route add` sets.
func (db *rpdb) withRoute(rt Route) (*rpdb, error) {
	if t := db.tables[rt.Table]; t != nil {
		have, _ := t.Get(rt.Dst)
		if slices.ContainsFunc(have, func(o *Route) bool { return o.Metric == rt.Metric }) {
			return nil, syscall.EEXIST
		}
	}
	return db.replace(nil, []Route{rt}), nil
}

// replace returns a database without the routes of drop and with those of add,
// which come after others of their prefix and metric (NLM_F_APPEND).
func (db *rpdb) replace(drop, add []Route) *rpdb {
	c := db.clone()
	own := map[TableID]bool{} // tables that c does not share with db
	table := func(id TableID) *routeTable {
		t := c.tables[id]
		if !own[id] {
			own[id] = true
			if t == nil {
				t = new(routeTable)
			} else {
				t = t.Clone()
			}
			c.tables[id] = t
		}
		return t
	}
	for _, rt := range drop {
		t := table(rt.Table)
		have, _ := t.Get(rt.Dst)
		if left := slices.DeleteFunc(slices.Clone(have), func(o *Route) bool { return *o == rt }); len(left) > 0 {
			t.Insert(rt.Dst, left)
		} else {
			t.Delete(rt.Dst)
		}
	}
	for _, rt := range add {
		t := table(rt.Table)
		have, _ := t.Get(rt.Dst)
		routes := append(slices.Clone(have), &rt)
		slices.SortStableFunc(routes, func(a, b *Route) int { return cmp.Compare(a.Metric, b.Metric) })
		t.Insert(rt.Dst, routes)
	}
	return c
}

// withoutRoute returns a database without the first route that matches: its type,
// prefix and table, and those of its other fields that are set.
func (db *rpdb) withoutRoute(rt Route) (*rpdb, error) {
	t := db.tables[rt.Table]
	if t == nil {
		return nil, syscall.ESRCH
	}
	have, _ := t.Get(rt.Dst)
	i := slices.IndexFunc(have, func(o *Route) bool {
		return o.Type == rt.Type &&
			(rt.Dev == "" || rt.Dev == o.Dev) &&
			(!rt.Gateway.IsValid() || rt.Gateway == o.Gateway) &&
			(!rt.PrefSrc.IsValid() || rt.PrefSrc == o.PrefSrc) &&
			(rt.Metric == 0 || rt.Metric == o.Metric)
	})
	if i < 0 {
		return nil, syscall.ESRCH
	}
	return db.replace([]Route{*have[i]}, nil), nil
}

func (db *rpdb) withRule(r Rule) (*rpdb, error) {
	if slices.Contains(db.rules, r) {
		return nil, syscall.EEXIST
	}
	c := db.clone()
	i, _ := slices.BinarySearchFunc(c.rules, r.Priority+1, func(o Rule, p uint32) int { return int(int64(o.Priority) - int64(p)) })
	c.rules = slices.Insert(c.rules, i, r)
	return c, nil
}

func (db *rpdb) withoutRule(match func(Rule) bool) (*rpdb, error) {
	i := slices.IndexFunc(db.rules, match)
	if i < 0 {
		return nil, syscall.ENOENT
	}
	c := db.clone()
	c.rules = slices.Delete(c.rules, i, i+1)
	return c, nil
}

// routes returns the routes of table t, or of all tables for t 0, in the order in
// which the kernel dumps them.
func (db *rpdb) routes(t TableID) []Route {
	ids := make([]TableID, 0, len(db.tables))
	for id := range db.tables {
		if t == 0 || id == t {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var out []Route
	for _, id := range ids {
		start := len(out)
		for _, routes := range db.tables[id].All() {
			for _, rt := range routes {
				out = append(out, *rt)
			}
		}
		slices.SortStableFunc(out[start:], func(a, b Route) int { return dumpOrder(a.Dst, b.Dst) })
	}
	return out
}

// dumpOrder is the order of prefixes in the kernel's dumps. fib_trie goes by
// address, and has the longer of two prefixes of one address first; fib6_walk
// visits what a prefix contains before the prefix itself.
func dumpOrder(a, b netip.Prefix) int {
	if a.Addr().Is6() && a != b && a.Overlaps(b) {
		return cmp.Compare(b.Bits(), a.Bits())
	}
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(b.Bits(), a.Bits()))
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
