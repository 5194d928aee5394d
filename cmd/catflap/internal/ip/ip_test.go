package ip

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

func TestRouteLines(t *testing.T) {
	src := netip.MustParseAddr("10.9.0.2")
	r := stack.Route{Type: stack.Local, Dst: netip.MustParsePrefix("10.9.0.2/32"), Dev: "cat0", Table: stack.TableLocal, Protocol: stack.ProtoKernel, Scope: stack.ScopeHost, PrefSrc: src}
	v6 := stack.Route{Type: stack.Multicast, Dst: netip.MustParsePrefix("ff00::/8"), Dev: "cat0", Table: stack.TableLocal, Protocol: stack.ProtoKernel, Metric: 256}
	gw := stack.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.1"), Dev: "cat0", Table: stack.TableMain, Protocol: stack.ProtoBoot, Metric: 7}
	kernel, host := stack.ProtoKernel, stack.ScopeHost
	for _, tc := range []struct {
		f    routeFilter
		r    stack.Route
		want string
	}{
		{routeFilter{table: stack.TableLocal}, r, "local 10.9.0.2 dev cat0 proto kernel scope host src 10.9.0.2 "},
		{routeFilter{}, r, "local 10.9.0.2 dev cat0 table local proto kernel scope host src 10.9.0.2 "},
		{routeFilter{table: stack.TableLocal, dev: "cat0"}, r, "local 10.9.0.2 proto kernel scope host src 10.9.0.2 "},
		{routeFilter{table: stack.TableLocal, protocol: &kernel, scope: &host, src: src}, r, "local 10.9.0.2 dev cat0 "},
		{routeFilter{table: stack.TableMain}, gw, "default via 10.9.0.1 dev cat0 metric 7 "},
		{routeFilter{via: gw.Gateway}, gw, "default dev cat0 metric 7 "},
		{routeFilter{}, v6, "multicast ff00::/8 dev cat0 table local proto kernel metric 256 pref medium"},
	} {
		l := tc.f.line(tc.r)
		f := stack.IPv4
		if tc.r.Dst.Addr().Is6() {
			f = stack.IPv6
		}
		if got := l.text(f); got != tc.want {
			t.Errorf("got  %q\nwant %q", got, tc.want)
		}
	}
	l := (&routeFilter{}).line(v6)
	want := `[{"type":"multicast","dst":"ff00::/8","dev":"cat0","table":"local","protocol":"kernel","metric":256,"flags":[],"pref":"medium"}]`
	if got := strings.TrimSpace(string(formatJSON([]object{l.object()}, false))); got != want {
		t.Errorf("JSON\n got %s\nwant %s", got, want)
	}
}

func TestRouteFilter(t *testing.T) {
	p := netip.MustParsePrefix
	r := stack.Route{Dst: p("192.0.2.0/24")}
	for _, tc := range []struct {
		match, prefix string
		want          bool
	}{
		{"", "192.0.2.0/24", true}, {"exact", "192.0.2.0/25", false}, {"to", "192.0.2.0/24", true},
		{"root", "192.0.0.0/16", true}, {"root", "192.0.2.0/25", false}, {"root", "198.51.0.0/16", false},
		{"match", "192.0.2.5/32", true}, {"match", "192.0.0.0/16", false}, {"match", "198.51.100.5/32", false},
	} {
		f := routeFilter{match: tc.match, prefix: p(tc.prefix)}
		if got := f.want(r); got != tc.want {
			t.Errorf("%s %s shows 192.0.2.0/24: %v; want %v", tc.match, tc.prefix, got, tc.want)
		}
	}
}

func TestIPAbbreviations(t *testing.T) {
	for _, tc := range []struct {
		from []words.Choice
		word string
		want string
	}{
		{objects, "r", "route"}, {objects, "ro", "route"}, {objects, "ru", "rule"}, {objects, "a", "address"}, {objects, "l", "link"}, {objects, "rx", ""}, {objects, "", ""},
		{ruleVerbs, "sh", "show"}, {ruleVerbs, "l", "show"}, {ruleVerbs, "d", "del"}, {ruleVerbs, "a", "add"},
		{routeVerbs, "s", "show"}, {routeVerbs, "g", "get"}, {routeVerbs, "a", "add"}, {routeVerbs, "ap", "append"}, {routeVerbs, "r", "replace"}, {routeVerbs, "del", "del"}, {routeVerbs, "flush", "flush"}, {routeVerbs, "save", ""}, {objects, "n", "neighbor"},
		{ruleWords, "pref", "priority"}, {ruleWords, "prio", "priority"}, {ruleWords, "fr", ""}, {ruleWords, "t", "table"},
	} {
		if got := words.Choose(tc.word, tc.from); got != tc.want {
			t.Errorf("%q means %q; want %q", tc.word, got, tc.want)
		}
	}
}
