package main

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

func TestStraceLines(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.Local)
	c := &stack.CallEvent{Name: "close", Args: []stack.CallArg{{Text: "5"}}, Start: start, Duration: 12345 * time.Nanosecond}
	long := &stack.CallEvent{Name: "read", Args: []stack.CallArg{{Text: "5"}, {Buf: true, Data: []byte("GET / HTTP/1.1\r\nHost: = \"10.9.0.2\""), Len: 34}, {Text: "4096"}}, Ret: 34, Start: start.Add(1500 * time.Microsecond)}
	failed := &stack.CallEvent{Name: "bind", Args: []stack.CallArg{{Text: "3"}}, Ret: -1, Error: "EADDRINUSE", Start: start}
	for _, tc := range []struct {
		o    straceOptions
		c    *stack.CallEvent
		want string
	}{
		{straceOptions{size: 32}, c, "close(5)                                = 0\n"},
		{straceOptions{size: 32, durations: true}, c, "close(5)                                = 0 <0.000012>\n"},
		{straceOptions{size: 32, stamp: 1}, c, "03:04:05 close(5)                       = 0\n"},
		{straceOptions{size: 32, stamp: 2}, c, "03:04:05.006789 close(5)                = 0\n"},
		{straceOptions{size: 32, relative: true}, c, "     0.000000 close(5)                  = 0\n"},
		{straceOptions{size: 8}, long, "read(5, \"GET / HT\"..., 4096)            = 34\n"},
		{straceOptions{size: 64}, long, "read(5, \"GET / HTTP/1.1\\r\\nHost: = \\\"10.9.0.2\\\"\", 4096) = 34\n"},
		{straceOptions{size: 32}, failed, "bind(3)                                 = -1 EADDRINUSE (Address already in use)\n"},
	} {
		if got := (&straceWriter{o: tc.o}).line(tc.c); got != tc.want {
			t.Errorf("%+v:\n got %q\nwant %q", tc.o, got, tc.want)
		}
	}
	r := &straceWriter{o: straceOptions{size: 8, relative: true}}
	r.line(c)
	if got, want := r.line(long), "     0.001500 read(5, \"GET / HT\"..., 4096) = 34\n"; got != want {
		t.Errorf("-r, second line:\n got %q\nwant %q", got, want)
	}
}

func TestStraceSummary(t *testing.T) {
	var b bytes.Buffer
	s := &straceWriter{o: straceOptions{count: true}, w: bufio.NewWriter(&b), calls: map[string]*callCount{}}
	for range 3 {
		s.call(&stack.CallEvent{Name: "read", Duration: 100 * time.Microsecond})
	}
	s.call(&stack.CallEvent{Name: "read", Error: "EAGAIN", Duration: 100 * time.Microsecond})
	s.call(&stack.CallEvent{Name: "close", Duration: 100 * time.Microsecond})
	s.summary()
	s.w.Flush()
	clitest.Equal(t, "strace -c", b.String(), `% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 80.00    0.000400         100         4         1 read
 20.00    0.000100         100         1           close
------ ----------- ----------- --------- --------- ----------------
100.00    0.000500         100         5         1 total
`)
}

func TestTraceFilter(t *testing.T) {
	for _, tc := range []struct {
		exprs    []string
		yes, no  string
		unlisted bool // whether a call that this command does not know is shown
	}{
		{nil, "read accept4 close", "", true},
		{[]string{"trace=read,write"}, "read write", "close accept4", false},
		{[]string{"%net"}, "accept4 setsockopt bind", "read close epoll_ctl", false},
		{[]string{"trace=network,close"}, "accept4 close", "read", false},
		{[]string{"t=!read"}, "close accept4", "read", true},
		{[]string{"!%desc"}, "accept4", "read write close", true},
		{[]string{"trace=all"}, "read accept4", "", false},
		{[]string{"trace=none"}, "", "read accept4", false},
		{[]string{"trace=read", "trace=write"}, "write", "read", false},
	} {
		f, err := parseTraceFilter(tc.exprs)
		if err != nil {
			t.Errorf("%v: %v", tc.exprs, err)
			continue
		}
		for _, n := range strings.Fields(tc.yes) {
			if !f.want(n) {
				t.Errorf("%v hides %s", tc.exprs, n)
			}
		}
		for _, n := range strings.Fields(tc.no) {
			if f.want(n) {
				t.Errorf("%v shows %s", tc.exprs, n)
			}
		}
		if f.want("brk") != tc.unlisted {
			t.Errorf("%v: brk: %v", tc.exprs, f.want("brk"))
		}
	}
}

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
	if got := strings.TrimSpace(string(ipJSON([]object{l.object()}, false))); got != want {
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
		{ipObjects, "r", "route"}, {ipObjects, "ro", "route"}, {ipObjects, "ru", "rule"}, {ipObjects, "a", "address"}, {ipObjects, "l", "link"}, {ipObjects, "rx", ""}, {ipObjects, "", ""},
		{ruleVerbs, "sh", "show"}, {ruleVerbs, "l", "show"}, {ruleVerbs, "d", "del"}, {ruleVerbs, "a", "add"},
		{routeVerbs, "s", "show"}, {routeVerbs, "g", "get"}, {routeVerbs, "a", "add"}, {routeVerbs, "ap", "append"}, {routeVerbs, "r", "replace"}, {routeVerbs, "del", "del"}, {routeVerbs, "flush", ""},
		{ruleWords, "pref", "priority"}, {ruleWords, "prio", "priority"}, {ruleWords, "fr", ""}, {ruleWords, "t", "table"},
	} {
		if got := words.Choose(tc.word, tc.from); got != tc.want {
			t.Errorf("%q means %q; want %q", tc.word, got, tc.want)
		}
	}
}
