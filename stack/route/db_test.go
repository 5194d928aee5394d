package route

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// build makes changes one after the other.
func build(t *testing.T, changes ...func(*DB) (*DB, error)) *DB {
	t.Helper()
	db := New()
	for _, change := range changes {
		var err error
		if db, err = change(db); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

func device(name string, addrs ...string) func(*DB) (*DB, error) {
	return func(db *DB) (*DB, error) {
		db, err := db.AddDevice(name, name == Loopback)
		for _, a := range addrs {
			if err == nil {
				db, err = db.AddAddr(name, pfx(a))
			}
		}
		return db, err
	}
}

func route(rt Route) func(*DB) (*DB, error) {
	return func(db *DB) (*DB, error) { return db.AddRoute(rt) }
}

// TestChangeLeavesOld makes every kind of change, and finds the database from before as
// it was: packets may still be looking up in it.
func TestChangeLeavesOld(t *testing.T) {
	dst := pfx("198.51.100.0/24")
	db := build(t, device(Loopback, "127.0.0.1/8", "::1/128"), device("cat0", "10.9.0.2/24", "10.9.0.3/24", "fd00:9::2/64"), route(Route{Dst: dst, Dev: "cat0"}))
	type state struct {
		rules4, rules6   []Rule
		routes4, routes6 []Route
		addrs            []netip.Prefix
	}
	look := func() state {
		d, _ := db.Device("cat0")
		return state{db.Rules(IPv4), db.Rules(IPv6), db.Routes(IPv4, 0), db.Routes(IPv6, 0), slices.Clone(d.Addrs)}
	}
	before := look()
	for name, change := range map[string]func() (*DB, error){
		"add a route":       func() (*DB, error) { return db.AddRoute(Route{Dst: dst, Dev: "cat0", Metric: 1}) },
		"append a route":    func() (*DB, error) { return db.AppendRoute(Route{Type: Prohibit, Dst: dst}) },
		"replace a route":   func() (*DB, error) { return db.ReplaceRoute(Route{Type: Blackhole, Dst: dst}) },
		"delete a route":    func() (*DB, error) { return db.DelRoute(RouteMatch{Dst: dst}) },
		"add a rule":        func() (*DB, error) { return db.AddRule(Rule{From: dst, Table: 100}) },
		"add a rule at 0":   func() (*DB, error) { return db.AddRule(Rule{Family: IPv6, Action: ActionProhibit}) },
		"delete a rule":     func() (*DB, error) { return db.DelRule(RuleMatch{}) },
		"add an address":    func() (*DB, error) { return db.AddAddr("cat0", pfx("10.8.0.2/24")) },
		"delete an address": func() (*DB, error) { return db.DelAddr("cat0", pfx("10.9.0.2/24")) },
		"add a device":      func() (*DB, error) { return db.AddDevice("cat1", false) },
	} {
		c, err := change()
		if err != nil || c == db {
			t.Errorf("%s: %v, the same database: %v", name, err, c == db)
		}
		if after := look(); !slices.Equal(after.rules4, before.rules4) || !slices.Equal(after.rules6, before.rules6) ||
			!slices.Equal(after.routes4, before.routes4) || !slices.Equal(after.routes6, before.routes6) || !slices.Equal(after.addrs, before.addrs) {
			t.Errorf("%s changed the old database:\n%+v\nfrom\n%+v", name, after, before)
		}
	}
}

// TestRefusedChanges: the error names what is wrong, and there is no database.
func TestRefusedChanges(t *testing.T) {
	db := build(t, device(Loopback, "127.0.0.1/8"), device("cat0", "10.9.0.2/24", "fd00:9::2/64"),
		route(Route{Dst: pfx("::/0"), Gateway: ip("fd00:9::1")}))
	for _, c := range []struct {
		why    string
		change func() (*DB, error)
		want   error // nil: any
	}{
		{"no destination", func() (*DB, error) { return db.AddRoute(Route{Dev: "cat0"}) }, nil},
		{"bits of a host", func() (*DB, error) { return db.ReplaceRoute(Route{Dst: pfx("10.1.2.3/8"), Dev: "cat0"}) }, nil},
		{"an IPv4-mapped prefix", func() (*DB, error) { return db.AddRoute(Route{Dst: pfx("::ffff:10.0.0.0/104"), Dev: "cat0"}) }, syscall.EINVAL},
		{"a gateway of the other family", func() (*DB, error) { return db.AddRoute(Route{Dst: pfx("10.0.0.0/8"), Gateway: ip("fd00:9::1")}) }, nil},
		{"no device", func() (*DB, error) { return db.AddRoute(Route{Dst: pfx("10.0.0.0/8")}) }, syscall.ENODEV},
		{"an unknown device", func() (*DB, error) { return db.AppendRoute(Route{Dst: pfx("10.0.0.0/8"), Dev: "cat9"}) }, syscall.ENODEV},
		{"a gateway beyond a gateway", func() (*DB, error) { return db.AddRoute(Route{Dst: pfx("2001:db8::/32"), Gateway: ip("2001:db9::1")}) }, syscall.ENETUNREACH},
		{"two next hops", func() (*DB, error) { return db.AppendRoute(Route{Dst: pfx("::/0"), Gateway: ip("fd00:9::7")}) }, syscall.EOPNOTSUPP},
		{"a deletion of nothing in particular", func() (*DB, error) { return db.DelRoute(RouteMatch{}) }, syscall.EINVAL},
		{"a deletion in a table that is not there", func() (*DB, error) { return db.DelRoute(RouteMatch{Dst: pfx("::/0"), Table: 9}) }, syscall.ESRCH},
		{"a rule of two families to delete", func() (*DB, error) { return db.DelRule(RuleMatch{From: pfx("10.0.0.0/8"), To: pfx("fd00::/8")}) }, syscall.EINVAL},
		{"a rule twice", func() (*DB, error) { return db.AddRule(Rule{Family: IPv6, Priority: 32766, Table: TableMain}) }, syscall.EEXIST},
		{"a device twice", func() (*DB, error) { return db.AddDevice("cat0", false) }, syscall.EEXIST},
		{"an address twice", func() (*DB, error) { return db.AddAddr("cat0", pfx("10.9.0.2/25")) }, syscall.EEXIST},
		{"a multicast address", func() (*DB, error) { return db.AddAddr("cat0", pfx("239.0.0.1/8")) }, syscall.EINVAL},
		{"an address of no device", func() (*DB, error) { return db.AddAddr("cat9", pfx("10.0.0.1/8")) }, syscall.ENODEV},
		{"an address to delete with another length", func() (*DB, error) { return db.DelAddr("cat0", pfx("10.9.0.2/25")) }, syscall.EADDRNOTAVAIL},
	} {
		if got, err := c.change(); err == nil || got != nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.why, err, c.want)
		}
	}
}

func TestMartian(t *testing.T) {
	db := build(t, device(Loopback, "127.0.0.1/8", "::1/128"), device("cat0", "10.9.0.2/24", "fd00:9::2/64"))
	for _, c := range []struct{ src, dst, iif, want string }{
		{"10.9.0.1", "10.9.0.2", "cat0", ""},
		{"10.9.0.1", "127.0.0.1", "cat0", "IP_INVALID_DEST"},
		{"127.0.0.1", "10.9.0.2", "cat0", "IP_INVALID_SOURCE"},
		{"10.9.0.2", "10.9.0.2", "cat0", "IP_INVALID_SOURCE"},
		{"10.9.0.255", "10.9.0.2", "cat0", "IP_INVALID_SOURCE"},
		{"255.255.255.255", "10.9.0.2", "cat0", "IP_INVALID_SOURCE"},
		{"0.0.0.0", "255.255.255.255", "cat0", ""},
		{"ff02::1", "fd00:9::2", "cat0", "IP_INVALID_SOURCE"},
		{"fd00:9::1", "::1", "cat0", "IP_INVALID_DEST"},
		{"10.9.0.2", "127.0.0.1", Loopback, ""},
		{"10.9.0.2", "127.0.0.1", "", ""},
	} {
		q := Query{Src: ip(c.src), Dst: ip(c.dst), IIF: c.iif}
		l := db.Lookup(q)
		if l.Martian != c.want || (l.Martian != "") != errors.Is(l.Err(), syscall.EINVAL) {
			t.Errorf("from %s to %s iif %q: martian %q, error %v; want %q", c.src, c.dst, c.iif, l.Martian, l.Err(), c.want)
		}
	}
}
