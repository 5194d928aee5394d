package route

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// naiveLookup is the decision written as the manual page has it: for each rule by
// priority, of the routes in its table that contain the destination the one with
// the longest prefix, then the lowest metric, then the one added first.
func naiveLookup(rules []Rule, routes []Route, q Query) (*Rule, *Route) {
	for i := range rules {
		r := &rules[i]
		selected := (!r.From.IsValid() || q.Src.IsValid() && r.From.Contains(q.Src)) &&
			(!r.To.IsValid() || r.To.Contains(q.Dst)) &&
			(r.IIF == "" || r.IIF == q.IIF) && (r.OIF == "" || r.OIF == q.OIF)
		if selected == r.Not {
			continue
		}
		if r.Action != ActionLookup {
			return r, &Route{Type: r.Action.answer(), Dst: hostPrefix(q.Dst)}
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

func TestLookupModel(t *testing.T) {
	devs := rapid.SampledFrom([]string{"", "lo", "cat0"})
	tables := rapid.SampledFrom([]TableID{1, 2, TableLocal, TableMain})
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]Family{IPv4, IPv6}).Draw(t, "family")
		db := newRPDB(f)
		rules := slices.Clone(db.rules)
		var routes []Route
		for range rapid.IntRange(0, 40).Draw(t, "changes") {
			switch change := rapid.IntRange(0, 7).Draw(t, "change"); change {
			case 0, 1, 2, 6, 7: // add, replace or append a route
				rt := Route{
					Type: Type(rapid.IntRange(0, int(Throw)).Draw(t, "type")), Dst: genPrefix(t, f, "dst"),
					Dev: devs.Draw(t, "dev"), Table: tables.Draw(t, "table"), Metric: rapid.Uint32Range(0, 2).Draw(t, "metric"),
				}
				var same []int // where the routes of its table, prefix and metric are
				equal := -1    // which of them is equal
				for i, o := range routes {
					if o.Table == rt.Table && o.Dst == rt.Dst && o.Metric == rt.Metric {
						if same = append(same, i); equal < 0 && (o == rt || change == 7 && f == IPv6 && o.Dev == rt.Dev) {
							equal = i
						}
					}
				}
				var c *rpdb
				var err error
				exists := false
				switch change {
				case 6:
					c, err = db.replace(rt)
					if exists = equal >= 0 && equal != same[0]; !exists && len(same) > 0 {
						routes[same[0]] = rt
					} else if !exists {
						routes = append(routes, rt)
					}
				case 7:
					c, err = db.append(rt)
					if exists = equal >= 0; !exists {
						routes = append(routes, rt)
					}
				default:
					c, err = db.add(rt)
					if exists = len(same) > 0; !exists {
						routes = append(routes, rt)
					}
				}
				if exists != errors.Is(err, syscall.EEXIST) || !exists && err != nil {
					t.Fatalf("change %d with %v: %v, want EEXIST %v", change, rt, err, exists)
				}
				if !exists {
					db = c
				}
			case 3: // delete one
				if len(routes) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(routes)-1).Draw(t, "delete")
				m := routes[i].Match()
				m.Scope = &routes[i].Scope
				// The first that agrees goes, of the lowest metric: metric 0 and no device mean any.
				first := -1
				for j, o := range routes {
					if o.Table == m.Table && o.Dst == m.Dst && (f == IPv6 || o.Type == *m.Type) && (m.Metric == 0 || o.Metric == m.Metric) && (m.Dev == "" || o.Dev == m.Dev) &&
						(first < 0 || o.Metric < routes[first].Metric) {
						first = j
					}
				}
				c, err := db.delete(m)
				if err != nil {
					t.Fatalf("delete %v: %v", routes[i], err)
				}
				db, routes = c, slices.Delete(routes, first, first+1)
			default: // add a rule
				r := Rule{
					Family: f, Priority: rapid.Uint32Range(0, 40000).Draw(t, "priority"), Not: rapid.Bool().Draw(t, "not"),
					IIF: devs.Draw(t, "iif"), OIF: devs.Draw(t, "oif"),
					Action: Action(rapid.IntRange(0, int(ActionBlackhole)).Draw(t, "action")), Table: tables.Draw(t, "rule table"),
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
		if got := db.routes(0); !sameRoutes(got, routes) {
			t.Fatalf("the tables have %v, want %v", got, routes)
		}
		for range 8 {
			q := Query{Dst: genAddr(t, f, "to"), IIF: devs.Draw(t, "arrives on"), OIF: devs.Draw(t, "leaves by")}
			if rapid.Bool().Draw(t, "has source") {
				q.Src = genAddr(t, f, "from")
			}
			wantRule, want := naiveLookup(rules, routes, q)
			var tries []Try
			for _, tr := range []*[]Try{nil, &tries} {
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

// sameRoutes reports whether two lists have the same routes, in whatever order.
func sameRoutes(a, b []Route) bool {
	count := map[Route]int{}
	for _, r := range a {
		count[r]++
	}
	for _, r := range b {
		count[r]--
	}
	return !slices.ContainsFunc(slices.Collect(maps.Values(count)), func(n int) bool { return n != 0 })
}
