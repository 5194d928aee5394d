package stack

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
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
	check("AnyIP removed", s.DelRoute(anyIP.Match()), "192.0.2.7", false)
	check("a new address", s.AddAddr("cat0", pfx("10.7.0.2/24")), "10.7.0.2", true)
	check("its broadcast", nil, "10.7.0.255", true)
	check("the address removed", s.DelAddr("cat0", pfx("10.7.0.2/24")), "10.7.0.2", false)
	check("its broadcast", nil, "10.7.0.255", false)
	check("the rule for table local removed", s.DelRule(RuleMatch{Table: TableLocal}), "10.9.0.2", false)
	check("and added again", s.AddRule(Rule{Priority: 1, Table: TableLocal}), "10.9.0.2", true)
}

// Packets look routes up without allocating.
func TestLookupRouteAllocs(t *testing.T) {
	s := newStack(t, Config{Links: catLinks()})
	for _, a := range []string{"10.9.0.2", "10.9.0.1", "192.0.2.1", "fd00:9::2", "224.0.0.1"} {
		q := RouteQuery{Dst: ip(a), Src: ip(a), IIF: "cat0"}
		if n := testing.AllocsPerRun(100, func() { s.db.Load().Decide(q, nil) }); n != 0 {
			t.Errorf("lookup of %s allocates %v times", a, n)
		}
	}
}

// TestSourceAsTold connects sockets, which must get the source address that LookupRoute
// tells, and that Linux would choose.
func TestSourceAsTold(t *testing.T) {
	s := newStack(t, Config{
		Links: []Link{
			{Name: "cat0", Endpoint: channel.New(8, 1500, ""), Addrs: []netip.Prefix{
				pfx("10.9.0.2/24"), pfx("10.9.0.3/24"), pfx("10.8.0.2/24"), pfx("192.168.7.1/24"), pfx("fd00:9::2/64"), pfx("2001:db8:9::2/64"), pfx("fd00:8::2/64"),
			}},
			{Name: "cat1", Endpoint: channel.New(8, 1500, ""), Addrs: []netip.Prefix{pfx("10.7.0.2/24")}},
		},
		Routes: []Route{
			{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.8.0.1")},
			{Dst: pfx("192.168.0.0/16"), Gateway: ip("10.9.0.1")},
			{Dst: pfx("198.18.0.0/15"), Dev: "cat1"},
			{Dst: pfx("198.20.0.0/16"), Dev: "cat0", PrefSrc: ip("10.8.0.2")},
			{Dst: pfx("::/0"), Gateway: ip("fd00:9::1")},
		},
	})
	for _, c := range []struct{ why, dst, src string }{
		{"the primary address of the link's prefix", "10.9.0.77", "10.9.0.2"},
		{"the address on the gateway's link", "8.8.8.8", "10.8.0.2"},
		{"the gateway counts, not what the destination looks like", "192.168.200.1", "10.9.0.2"},
		{"the first of the device", "198.18.0.1", "10.7.0.2"},
		{"the one that the route prefers", "198.20.0.1", "10.8.0.2"},
		{"a secondary address of ours has the primary one as source", "10.9.0.3", "10.9.0.2"},
		{"an address of ours", "10.8.0.2", "10.8.0.2"},
		{"lo's", "127.0.0.5", "127.0.0.1"},
		{"multicast", "239.1.2.3", "192.168.7.1"},
		{"an IPv6 neighbour", "fd00:8::77", "fd00:8::2"},
		{"the matching label", "2600::1", "2001:db8:9::2"},
		{"the matching label, of another", "fc00::1", "fd00:9::2"},
		{"an IPv6 address of ours", "fd00:8::2", "fd00:8::2"},
		{"lo's", "::1", "::1"},
	} {
		l := s.LookupRoute(RouteQuery{Dst: ip(c.dst)})
		if l.Src != ip(c.src) {
			t.Errorf("%s: LookupRoute tells %s for %s; want %s", c.why, l.Src, c.dst, c.src)
		}
		nc, err := s.DialContext(t.Context(), "udp", netip.AddrPortFrom(ip(c.dst), 9).String())
		if err != nil {
			t.Errorf("%s: %v", c.why, err)
			continue
		}
		if got := nc.LocalAddr().(*net.UDPAddr).AddrPort().Addr(); got != l.Src {
			t.Errorf("%s: a socket connected to %s has source %s; LookupRoute tells %s", c.why, c.dst, got, l.Src)
		}
		nc.Close()
	}
}

// TestReplaceAtOnce looks a route up while it is being replaced: it is never missing.
func TestReplaceAtOnce(t *testing.T) {
	s := newStack(t, Config{Links: catLinks()})
	dst := pfx("198.51.100.0/24")
	must(t, s.AddRoute(Route{Dst: dst, Dev: "cat0"}))
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !done.Load() {
			if _, rt := s.db.Load().Decide(RouteQuery{Dst: dst.Addr()}, nil); rt == nil {
				t.Error("a lookup found no route while one was replaced by another")
				return
			}
		}
	})
	for i := range 2000 {
		must(t, s.ReplaceRoute(Route{Dst: dst, Dev: []string{"cat1", "cat0"}[i%2]}))
	}
	done.Store(true)
	wg.Wait()
	if rs := s.Routes(IPv4, TableMain); len(rs) != 3 {
		t.Errorf("%d routes after the replacements; want 3: %v", len(rs), rs)
	}
}
