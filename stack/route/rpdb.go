package route

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/gaissmai/bart"
)

// table is one table of one family. The values of a prefix are sorted by
// metric, lowest first.
type table = bart.Table[[]*Route]

// rpdb is an immutable routing policy database of one family. Changes make a new
// one, so that packets look up without a lock.
type rpdb struct {
	rules  []Rule // sorted by priority; equal priorities in order of addition
	tables map[TableID]*table
}

// lookup is the decision of rules and tables, for packets and for Explain alike. With tries nil it
// allocates nothing.
func (db *rpdb) lookup(q Query, tries *[]Try) (*Rule, *Route) {
	note := func(r *Rule, rt *Route, match bool, why string) {
		if tries != nil {
			*tries = append(*tries, Try{Rule: *r, Route: rt, Match: match, Why: why})
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
			return r, &Route{Type: r.Action.answer(), Dst: hostPrefix(q.Dst), Protocol: ProtoUnspec}
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
func (r *Rule) mismatch(q Query) string {
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
func lookupTable(t *table, q Query) *Route {
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
	db := &rpdb{tables: map[TableID]*table{}}
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
	return &rpdb{rules: slices.Clone(db.rules), tables: maps.Clone(db.tables)}
}

// edit returns a database in which the routes of each route's table and prefix are
// what change makes of them; change must not write to what it is given.
func (db *rpdb) edit(routes []Route, change func(have []*Route, rt Route) []*Route) *rpdb {
	c := db.clone()
	own := map[TableID]*table{} // tables that c does not share with db
	for _, rt := range routes {
		t := own[rt.Table]
		if t == nil {
			t = new(table)
			if shared := c.tables[rt.Table]; shared != nil {
				t = shared.Clone()
			}
			own[rt.Table], c.tables[rt.Table] = t, t
		}
		have, _ := t.Get(rt.Dst)
		if now := change(have, rt); len(now) > 0 {
			t.Insert(rt.Dst, now)
		} else {
			t.Delete(rt.Dst)
		}
	}
	return c
}

// with returns a database with routes added, each after others of its prefix and metric.
func (db *rpdb) with(routes ...Route) *rpdb {
	return db.edit(routes, func(have []*Route, rt Route) []*Route {
		i, _ := slices.BinarySearchFunc(have, rt, func(o *Route, rt Route) int { return cmp.Or(cmp.Compare(o.Metric, rt.Metric), -1) })
		return slices.Insert(slices.Clone(have), i, &rt)
	})
}

// without returns a database that has none of these routes.
func (db *rpdb) without(routes []Route) *rpdb {
	return db.edit(routes, func(have []*Route, rt Route) []*Route {
		return slices.DeleteFunc(slices.Clone(have), func(o *Route) bool { return *o == rt })
	})
}

// same returns the routes with the table, prefix and metric of rt, in order.
func (db *rpdb) same(rt Route) []*Route {
	t := db.tables[rt.Table]
	if t == nil {
		return nil
	}
	have, _ := t.Get(rt.Dst)
	i := slices.IndexFunc(have, func(o *Route) bool { return o.Metric == rt.Metric })
	if i < 0 {
		return nil
	}
	n := slices.IndexFunc(have[i:], func(o *Route) bool { return o.Metric != rt.Metric })
	if n < 0 {
		return have[i:]
	}
	return have[i : i+n]
}

// add returns a database with rt, which must be the first of its prefix and metric
// (NLM_F_EXCL, which `ip route add` sets).
func (db *rpdb) add(rt Route) (*rpdb, error) {
	if len(db.same(rt)) > 0 {
		return nil, syscall.EEXIST
	}
	return db.with(rt), nil
}

// append returns a database with rt after others of its prefix and metric
// (NLM_F_APPEND). Two IPv6 routes with gateways would be one route with two next hops
// in Linux, which this database does not have.
func (db *rpdb) append(rt Route) (*rpdb, error) {
	for _, o := range db.same(rt) {
		switch {
		case *o == rt, rt.Dst.Addr().Is6() && o.Dev == rt.Dev && o.Gateway == rt.Gateway: // rt6_duplicate_nexthop
			return nil, syscall.EEXIST
		case rt.Dst.Addr().Is6() && o.Gateway.IsValid() && rt.Gateway.IsValid():
			return nil, fmt.Errorf("there are no multipath routes: %w", syscall.EOPNOTSUPP)
		}
	}
	return db.with(rt), nil
}

// replace returns a database with rt in the place of the first route of its prefix and
// metric (NLM_F_REPLACE), or added if there is none. An equal route elsewhere in the
// table is in the way, as in fib_table_insert.
func (db *rpdb) replace(rt Route) (*rpdb, error) {
	same := db.same(rt)
	switch {
	case len(same) == 0:
		return db.with(rt), nil
	case *same[0] == rt:
		return db, nil
	case slices.ContainsFunc(same, func(o *Route) bool { return *o == rt }):
		return nil, syscall.EEXIST
	}
	return db.edit([]Route{rt}, func(have []*Route, rt Route) []*Route {
		have = slices.Clone(have)
		have[slices.Index(have, same[0])] = &rt
		return have
	}), nil
}

// delete returns a database without the first route that m describes.
func (db *rpdb) delete(m RouteMatch) (*rpdb, error) {
	if t := db.tables[m.table()]; t != nil {
		have, _ := t.Get(m.Dst)
		if i := slices.IndexFunc(have, m.selects); i >= 0 {
			return db.edit([]Route{*have[i]}, func(have []*Route, _ Route) []*Route {
				return slices.Delete(slices.Clone(have), i, i+1)
			}), nil
		}
	}
	return nil, syscall.ESRCH
}

// withRule returns a database with r after the rules of its priority.
func (db *rpdb) withRule(r Rule) (*rpdb, error) {
	if slices.Contains(db.rules, r) {
		return nil, syscall.EEXIST
	}
	c := db.clone()
	i, _ := slices.BinarySearchFunc(c.rules, r.Priority+1, func(o Rule, p uint32) int { return int(int64(o.Priority) - int64(p)) })
	c.rules = slices.Insert(c.rules, i, r)
	return c, nil
}

// withoutRule returns a database without the first rule that m describes.
func (db *rpdb) withoutRule(m RuleMatch) (*rpdb, error) {
	for i := range db.rules {
		if m.selects(&db.rules[i]) {
			c := db.clone()
			c.rules = slices.Delete(c.rules, i, i+1)
			return c, nil
		}
	}
	return nil, syscall.ENOENT
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
