package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// Loopback is the name of the loopback device.
const Loopback = "lo"

// userMetric6 is the metric of an IPv6 route that is made by hand and given none
// (IP6_RT_PRIO_USER in ipv6_route.h).
const userMetric6 = 1024

// Device is a network device with its addresses, in the order in which it got them.
type Device struct {
	Name     string
	Loopback bool
	Addrs    []netip.Prefix
}

// DB is a routing policy database with the devices that its routes are about. It
// never changes: each change makes a new one, which may share parts with the old one.
// The lists that it gives away are the caller's, a Device's addresses and the routes
// of a decision are not.
type DB struct {
	devices []Device // in the order in which they were added
	v4, v6  *rpdb
}

// New returns the database of a fresh Linux namespace, without a device.
func New() *DB { return &DB{v4: newRPDB(IPv4), v6: newRPDB(IPv6)} }

func (db *DB) of(f Family) *rpdb {
	if f == IPv4 {
		return db.v4
	}
	return db.v6
}

// with returns a database whose rules and tables of family f are r.
func (db *DB) with(f Family, r *rpdb) *DB {
	c := *db
	if f == IPv4 {
		c.v4 = r
	} else {
		c.v6 = r
	}
	return &c
}

// Rules returns the rules of a family by priority.
func (db *DB) Rules(f Family) []Rule { return slices.Clone(db.of(f).rules) }

// Routes returns the routes of a family in table t, or in all tables for t 0, in the
// order in which the kernel dumps them.
func (db *DB) Routes(f Family, t TableID) []Route { return db.of(f).routes(t) }

// AddRoute returns a database with a route added; the error is EEXIST if its table has
// one for the same prefix and metric, EINVAL, ENODEV or ENETUNREACH if it makes no sense.
func (db *DB) AddRoute(rt Route) (*DB, error) { return db.change("add", rt, (*rpdb).add) }

// AppendRoute is AddRoute for a route that may come after others of its prefix and
// metric; the error is EEXIST if one is equal to it, and EOPNOTSUPP if Linux would make
// a multipath route of two.
func (db *DB) AppendRoute(rt Route) (*DB, error) { return db.change("append", rt, (*rpdb).append) }

// ReplaceRoute returns a database with a route in the place of the first one of its
// table, prefix and metric; it is added if there is none. The error is EEXIST if an
// equal route comes after that first one.
func (db *DB) ReplaceRoute(rt Route) (*DB, error) { return db.change("replace", rt, (*rpdb).replace) }

func (db *DB) change(verb string, rt Route, how func(*rpdb, Route) (*rpdb, error)) (*DB, error) {
	if err := db.complete(&rt); err != nil {
		return nil, fmt.Errorf("%s route: %w", verb, err)
	}
	f := FamilyOf(rt.Dst.Addr())
	r, err := how(db.of(f), rt)
	if err != nil {
		return nil, fmt.Errorf("%s route %s: %w", verb, rt.Dst, err)
	}
	return db.with(f, r), nil
}

// DelRoute returns a database without the first route that m describes; the error is
// ESRCH if there is none.
func (db *DB) DelRoute(m RouteMatch) (*DB, error) {
	if !m.Dst.IsValid() {
		return nil, fmt.Errorf("del route: no destination prefix: %w", syscall.EINVAL)
	}
	f := FamilyOf(m.Dst.Addr())
	r, err := db.of(f).delete(m)
	if err != nil {
		return nil, fmt.Errorf("del route %s: no such route in table %s: %w", m.Dst, m.table(), err)
	}
	return db.with(f, r), nil
}

// AddRule returns a database with a rule added; the error is EEXIST if there is an
// equal one, EINVAL if it makes no sense. Family 0 means that of From or To, else IPv4.
// Priority 0 means: one less than that of the second rule, as Linux chooses.
func (db *DB) AddRule(r Rule) (*DB, error) {
	if r.Action == ActionLookup && r.Table == 0 {
		return nil, fmt.Errorf("add rule: no table to look in: %w", syscall.EINVAL)
	}
	if err := selectors(&r.Family, &r.From, &r.To); err != nil {
		return nil, fmt.Errorf("add rule: %w", err)
	}
	have := db.of(r.Family)
	if r.Priority == 0 && len(have.rules) > 1 && have.rules[1].Priority > 0 {
		r.Priority = have.rules[1].Priority - 1 // fib_default_rule_pref
	}
	c, err := have.withRule(r)
	if err != nil {
		return nil, fmt.Errorf("add rule %d: %w", r.Priority, err)
	}
	return db.with(r.Family, c), nil
}

// DelRule returns a database without the first rule that m describes; the error is
// ENOENT if there is none.
func (db *DB) DelRule(m RuleMatch) (*DB, error) {
	if err := selectors(&m.Family, &m.From, &m.To); err != nil {
		return nil, fmt.Errorf("del rule: %w", err)
	}
	c, err := db.of(m.Family).withoutRule(m)
	if err != nil {
		return nil, fmt.Errorf("del rule: no such rule: %w", err)
	}
	return db.with(m.Family, c), nil
}

// complete fills in what ip-route(8) implies and refuses what makes no sense.
func (db *DB) complete(rt *Route) error {
	if !rt.Dst.IsValid() {
		return errors.New("no destination prefix")
	}
	if rt.Dst.Addr().Is4In6() {
		return fmt.Errorf("destination %s is an IPv4-mapped prefix; give the IPv4 one: %w", rt.Dst, syscall.EINVAL)
	}
	if rt.Dst != rt.Dst.Masked() {
		return fmt.Errorf("destination %s has host bits; the prefix is %s", rt.Dst, rt.Dst.Masked())
	}
	if rt.Table == 0 {
		rt.Table = rt.Type.table()
	}
	f := FamilyOf(rt.Dst.Addr())
	if rt.Protocol == ProtoUnspec {
		rt.Protocol = ProtoBoot
	}
	if rt.Protocol != ProtoKernel {
		rt.impliedScope(f)
	}
	for _, a := range []netip.Addr{rt.Gateway, rt.PrefSrc} {
		if a.IsValid() && FamilyOf(a) != f {
			return fmt.Errorf("%s is not an %s address", a, f)
		}
	}
	switch rt.Type {
	case Unicast, Local, Broadcast, Multicast:
		if rt.Dev == "" && rt.Gateway.IsValid() {
			if gw, ok := db.devFor(rt.Gateway); ok {
				rt.Dev = gw
			} else {
				return fmt.Errorf("gateway %s: no link leads there: %w", rt.Gateway, syscall.ENETUNREACH)
			}
		}
		if rt.Dev == "" {
			return fmt.Errorf("a %s route needs a device: %w", rt.Type, syscall.ENODEV)
		}
		if _, ok := db.Device(rt.Dev); !ok {
			return fmt.Errorf("cannot find device %q: %w", rt.Dev, syscall.ENODEV)
		}
	default:
		rt.Dev = ""
		if f == IPv6 {
			rt.Dev = Loopback // ip6_route_info_create
		}
	}
	return nil
}

// impliedScope fills in the scope and metric that a route has unless one is
// given: iproute2 infers the scope of IPv4 routes, IPv6 has none, and the kernel
// gives IPv6 routes a metric.
func (r *Route) impliedScope(f Family) {
	if f == IPv6 {
		r.Scope = ScopeGlobal
		if r.Metric == 0 {
			r.Metric = userMetric6
		}
		return
	}
	if r.Scope != ScopeGlobal {
		return
	}
	if r.Scope = r.Type.scope(); r.Type == Unicast && !r.Gateway.IsValid() {
		r.Scope = ScopeLink
	}
}

// devFor is the device on whose link the gateway is.
func (db *DB) devFor(gw netip.Addr) (string, bool) {
	_, rt := db.Decide(Query{Dst: gw}, nil)
	if rt != nil && rt.Type == Unicast && !rt.Gateway.IsValid() {
		return rt.Dev, true
	}
	return "", false
}
