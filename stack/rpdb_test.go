package stack

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"pgregory.net/rapid"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// catLinks are two links whose packets nobody reads.
func catLinks() []Link {
	return []Link{
		{Name: "cat0", Endpoint: channel.New(8, 1500, ""), Addrs: []netip.Prefix{pfx("10.9.0.2/24"), pfx("fd00:9::2/64")}},
		{Name: "cat1", Endpoint: channel.New(8, 1500, ""), Addrs: []netip.Prefix{pfx("10.8.0.2/24"), pfx("fd00:8::2/64")}},
	}
}

func TestLookupRoute(t *testing.T) {
	s := newStack(t, Config{
		Links: catLinks(),
		Routes: []Route{
			{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"},
			{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.9.0.1")},
			{Dst: pfx("198.51.100.0/24"), Dev: "cat0", Metric: 20},
			{Dst: pfx("198.51.100.0/24"), Dev: "cat1", Metric: 10},
			{Dst: pfx("198.51.100.128/25"), Dev: "cat0", Metric: 30},
			{Type: Throw, Dst: pfx("203.0.113.0/24"), Table: 100},
			{Type: Unreachable, Dst: pfx("203.0.113.0/25"), Table: 100},
			{Type: Blackhole, Dst: pfx("10.77.0.0/16"), Table: 200},
			{Dst: pfx("2001:db8::/32"), Gateway: ip("fd00:9::1")},
		},
		Rules: []Rule{
			{Priority: 100, To: pfx("203.0.113.0/24"), Table: 100},
			{Priority: 200, From: pfx("10.66.0.0/16"), Action: ActionProhibit},
			{Priority: 300, IIF: "cat1", To: pfx("10.77.0.0/16"), Table: 200},
			{Priority: 500, OIF: "cat1", To: pfx("192.88.99.0/24"), Action: ActionBlackhole},
			{Priority: 600, To: pfx("192.88.98.0/24"), Table: 12345}, // a table without routes
		},
	})
	for _, c := range []struct {
		why, short string
		q          RouteQuery
	}{
		{"an assigned address is local", "rule 0 → table local → local 10.9.0.2 dev cat0", RouteQuery{Dst: ip("10.9.0.2")}},
		{"so is its broadcast address", "rule 0 → table local → broadcast 10.9.0.255 dev cat0", RouteQuery{Dst: ip("10.9.0.255")}},
		{"and 127.0.0.0/8", "rule 0 → table local → local 127.0.0.0/8 dev lo", RouteQuery{Dst: ip("127.1.2.3")}},
		{"and ::1", "rule 0 → table local → local ::1 dev lo", RouteQuery{Dst: ip("::1")}},
		{"an IPv4-mapped address is the IPv4 address", "rule 0 → table local → local 10.9.0.2 dev cat0", RouteQuery{Dst: ip("::ffff:10.9.0.2")}},
		{"AnyIP: a whole prefix is local", "rule 0 → table local → local 192.0.2.0/24 dev cat0", RouteQuery{Dst: ip("192.0.2.77")}},
		{"a neighbour is on the link", "rule 32766 → table main → unicast 10.9.0.0/24 dev cat0", RouteQuery{Dst: ip("10.9.0.1")}},
		{"the rest goes to the gateway", "rule 32766 → table main → unicast default via 10.9.0.1 dev cat0", RouteQuery{Dst: ip("8.8.8.8")}},
		{"the limited broadcast needs no rule", "before any rule → broadcast 255.255.255.255", RouteQuery{Dst: ip("255.255.255.255")}},
		{"nor does multicast", "before any rule → multicast 224.0.0.0/4", RouteQuery{Dst: ip("224.0.0.1")}},
		{"IPv6 multicast is in the local table", "rule 0 → table local → multicast ff00::/8 dev cat0", RouteQuery{Dst: ip("ff02::1")}},
		{"the lower metric wins", "rule 32766 → table main → unicast 198.51.100.0/24 dev cat1", RouteQuery{Dst: ip("198.51.100.1")}},
		{"the longer prefix wins over the lower metric", "rule 32766 → table main → unicast 198.51.100.128/25 dev cat0", RouteQuery{Dst: ip("198.51.100.200")}},
		{"with oif only routes of the device count", "rule 32766 → table main → unicast 198.51.100.0/24 dev cat1", RouteQuery{Dst: ip("198.51.100.200"), OIF: "cat1"}},
		{"throw ends the search in its table alone", "rule 32766 → table main → unicast default via 10.9.0.1 dev cat0", RouteQuery{Dst: ip("203.0.113.200")}},
		{"beneath it a longer prefix decides", "rule 100 → table 100 → unreachable 203.0.113.0/25", RouteQuery{Dst: ip("203.0.113.1")}},
		{"a rule decides by source", "rule 200 → prohibit", RouteQuery{Dst: ip("8.8.8.8"), Src: ip("10.66.0.1")}},
		{"a rule by source needs a source", "rule 32766 → table main → unicast default via 10.9.0.1 dev cat0", RouteQuery{Dst: ip("8.8.8.8")}},
		{"local comes before such rules", "rule 0 → table local → local 10.9.0.2 dev cat0", RouteQuery{Dst: ip("10.9.0.2"), Src: ip("10.66.0.1")}},
		{"a rule by incoming device", "rule 300 → table 200 → blackhole 10.77.0.0/16", RouteQuery{Dst: ip("10.77.0.1"), IIF: "cat1"}},
		{"another incoming device", "rule 32766 → table main → unicast default via 10.9.0.1 dev cat0", RouteQuery{Dst: ip("10.77.0.1"), IIF: "cat0"}},
		{"a rule by outgoing device", "rule 500 → blackhole", RouteQuery{Dst: ip("192.88.99.1"), OIF: "cat1"}},
		{"IPv6 has its own database", "rule 32766 → table main → unicast 2001:db8::/32 via fd00:9::1 dev cat0", RouteQuery{Dst: ip("2001:db8::1")}},
		{"without a default route", "no rule leads to a route", RouteQuery{Dst: ip("2001:db9::1")}},
	} {
		if got := s.LookupRoute(c.q).Short(); got != c.short {
			t.Errorf("%s: %+v: %s, want %s", c.why, c.q, got, c.short)
		}
	}
}

// not inverts what all selectors of a rule together select.
func TestRuleNot(t *testing.T) {
	s := newStack(t, Config{Rules: []Rule{
		{Priority: 400, Not: true, From: pfx("10.0.0.0/8"), To: pfx("10.55.0.0/16"), Action: ActionUnreachable},
	}})
	for _, c := range []struct {
		src, dst string
		selected bool
	}{
		{"10.1.1.1", "10.55.0.1", false},
		{"10.1.1.1", "8.8.8.8", true},
		{"8.8.4.4", "10.55.0.1", true},
		{"8.8.4.4", "8.8.8.8", true},
	} {
		l := s.LookupRoute(RouteQuery{Src: ip(c.src), Dst: ip(c.dst)})
		if got := l.Rule != nil && l.Rule.Priority == 400; got != c.selected {
			t.Errorf("from %s to %s: selected %v, want %v", c.src, c.dst, got, c.selected)
		}
	}
}

// TestTablesChange changes tables while packets would be looked up.
func TestTablesChange(t *testing.T) {
	s := newStack(t, Config{Links: catLinks()})
	local := func(a string) bool { return s.LookupRoute(RouteQuery{Dst: ip(a)}).Local() }
	anyIP := Route{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}
	check := func(why string, err error, addr string, want bool) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", why, err)
		}
		if got := local(addr); got != want {
			t.Errorf("%s: %s is local: %v, want %v", why, addr, got, want)
		}
	}
	check("nothing yet", nil, "192.0.2.7", false)
	check("AnyIP", s.AddRoute(anyIP), "192.0.2.7", true)
	check("AnyIP removed", s.DelRoute(anyIP), "192.0.2.7", false)
	check("a new address", s.AddAddr("cat0", pfx("10.7.0.2/24")), "10.7.0.2", true)
	check("its broadcast", nil, "10.7.0.255", true)
	check("the address removed", s.DelAddr("cat0", pfx("10.7.0.2/24")), "10.7.0.2", false)
	check("its broadcast", nil, "10.7.0.255", false)
	check("the rule for table local removed", s.DelRule(Rule{Table: TableLocal}), "10.9.0.2", false)
	check("and added again", s.AddRule(Rule{Priority: 1, Table: TableLocal}), "10.9.0.2", true)
}

// naiveLookup is the decision written as the manual page has it: for each rule by
// priority, of the routes in its table that contain the destination the one with
// the longest prefix, then the lowest metric, then the one added first.
func naiveLookup(rules []Rule, routes []Route, q RouteQuery) (*Rule, *Route) {
	for i := range rules {
		r := &rules[i]
		selected := (!r.From.IsValid() || q.Src.IsValid() && r.From.Contains(q.Src)) &&
			(!r.To.IsValid() || r.To.Contains(q.Dst)) &&
			(r.IIF == "" || r.IIF == q.IIF) && (r.OIF == "" || r.OIF == q.OIF)
		if selected == r.Not {
			continue
		}
		if r.Action != ActionLookup {
			return r, &Route{Type: r.Action.routeType(), Dst: hostPrefix(q.Dst)}
		}
		var best *Route
		for j := range routes {
			rt := &routes[j]
			if rt.Table != r.Table || !rt.Dst.Contains(q.Dst) || q.OIF != "" && rt.Dev != "" && rt.Dev != q.OIF {
				continue
			}
			if best == nil || rt.Dst.Bits() > best.Dst.Bits() || rt.Dst.Bits() == best.Dst.Bits() && rt.Metric < best.Metric {
				best = rt
			}
		}
		if best != nil && best.Type != Throw {
			return r, best
		}
	}
	return nil, nil
}

// genAddr draws from a small space, so that prefixes overlap and are hit.
func genAddr(t *rapid.T, f Family, label string) netip.Addr {
	n := rapid.ByteRange(0, 15).Draw(t, label)
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{10, 0, 0, n})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 15: n})
}

func genPrefix(t *rapid.T, f Family, label string) netip.Prefix {
	a := genAddr(t, f, label)
	return netip.PrefixFrom(a, a.BitLen()-rapid.IntRange(0, 4).Draw(t, label+" host bits")).Masked()
}

func TestLookupRouteModel(t *testing.T) {
	devs := rapid.SampledFrom([]string{"", "lo", "cat0"})
	tables := rapid.SampledFrom([]TableID{1, 2, TableLocal, TableMain})
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]Family{IPv4, IPv6}).Draw(t, "family")
		db := newRPDB(f)
		rules := slices.Clone(db.rules)
		var routes []Route
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0, 1, 2: // add a route
				rt := Route{
					Type: RouteType(rapid.IntRange(0, int(Throw)).Draw(t, "type")), Dst: genPrefix(t, f, "dst"),
					Dev: devs.Draw(t, "dev"), Table: tables.Draw(t, "table"), Metric: rapid.Uint32Range(0, 2).Draw(t, "metric"),
				}
				c, err := db.withRoute(rt)
				dup := slices.ContainsFunc(routes, func(o Route) bool {
					return o.Table == rt.Table && o.Dst == rt.Dst && o.Metric == rt.Metric
				})
				if dup != errors.Is(err, syscall.EEXIST) {
					t.Fatalf("add %v: %v, duplicate %v", rt, err, dup)
				}
				if !dup {
					db, routes = c, append(routes, rt)
				}
			case 3: // delete one
				if len(routes) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(routes)-1).Draw(t, "delete")
				c, err := db.withoutRoute(routes[i])
				if err != nil {
					t.Fatalf("delete %v: %v", routes[i], err)
				}
				// The first that agrees goes: metric and device 0 mean any.
				i = slices.IndexFunc(routes, func(o Route) bool { return !slices.Contains(c.routes(0), o) })
				if i < 0 || len(c.routes(0)) != len(routes)-1 {
					t.Fatalf("delete removed %d of %d routes", len(routes)-len(c.routes(0)), len(routes))
				}
				db, routes = c, slices.Delete(routes, i, i+1)
			default: // add a rule
				r := Rule{
					Family: f, Priority: rapid.Uint32Range(0, 40000).Draw(t, "priority"), Not: rapid.Bool().Draw(t, "not"),
					IIF: devs.Draw(t, "iif"), OIF: devs.Draw(t, "oif"),
					Action: RuleAction(rapid.IntRange(0, int(ActionBlackhole)).Draw(t, "action")), Table: tables.Draw(t, "rule table"),
				}
				if rapid.Bool().Draw(t, "has from") {
					r.From = genPrefix(t, f, "from")
				}
				if rapid.Bool().Draw(t, "has to") {
					r.To = genPrefix(t, f, "to")
				}
				if c, err := db.withRule(r); err == nil {
					db = c
					rules = append(rules, r)
					slices.SortStableFunc(rules, func(a, b Rule) int { return int(int64(a.Priority) - int64(b.Priority)) })
				}
			}
		}
		for range 8 {
			q := RouteQuery{Dst: genAddr(t, f, "to"), IIF: devs.Draw(t, "arrives on"), OIF: devs.Draw(t, "leaves by")}
			if rapid.Bool().Draw(t, "has source") {
				q.Src = genAddr(t, f, "from")
			}
			wantRule, want := naiveLookup(rules, routes, q)
			var tries []RouteTry
			for _, tr := range []*[]RouteTry{nil, &tries} {
				rule, got := db.lookup(q, tr)
				if (rule == nil) != (wantRule == nil) || rule != nil && *rule != *wantRule {
					t.Fatalf("%+v: rule %v, want %v", q, rule, wantRule)
				}
				if (got == nil) != (want == nil) || got != nil && *got != *want {
					t.Fatalf("%+v: route %v, want %v", q, got, want)
				}
			}
			// The tries tell the same story: one for each rule up to the winner.
			for i, tr := range tries {
				if tr.Rule != rules[i] || tr.Match != (want != nil && i == len(tries)-1) || tr.Why == "" {
					t.Fatalf("%+v: try %d: %+v", q, i, tr)
				}
			}
			if want == nil && len(tries) != len(rules) {
				t.Fatalf("%+v: %d tries of %d rules", q, len(tries), len(rules))
			}
		}
	})
}

// Packets look routes up without allocating.
func TestLookupRouteAllocs(t *testing.T) {
	s := newStack(t, Config{Links: catLinks()})
	for _, a := range []string{"10.9.0.2", "10.9.0.1", "192.0.2.1", "fd00:9::2", "224.0.0.1"} {
		q := RouteQuery{Dst: ip(a), Src: ip(a), IIF: "cat0"}
		if n := testing.AllocsPerRun(100, func() { s.decide(q, nil) }); n != 0 {
			t.Errorf("lookup of %s allocates %v times", a, n)
		}
	}
}
