package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
)

// start serves a stack with nothing but lo, and returns a client of it.
func start(t *testing.T) (*stack.Stack, *Client) {
	t.Helper()
	s, err := stack.New(stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	srv, err := Serve(filepath.Join(t.TempDir(), "c.sock"), Parts{Stack: s}, Info{Version: "test", PID: 7, Dev: "cat0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := NewClient(srv.Path())
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s over the wire\n got %+v\nwant %+v", what, got, want)
	}
}

// TestRoundTrip holds every answer against what the stack itself says.
func TestRoundTrip(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	l, err := s.Listen("tcp4", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	info, err := c.Info(ctx)
	if err != nil || info.PID != 7 || info.Dev != "cat0" {
		t.Errorf("Info: %+v, %v", info, err)
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	p4, p6 := netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")
	must("AddRule", c.AddRule(ctx, stack.Rule{Family: stack.IPv6, From: p6, Table: 100}))
	must("AddRule", c.AddRule(ctx, stack.Rule{Family: stack.IPv4, Not: true, To: p4, IIF: "lo", Action: stack.ActionProhibit, Priority: 9}))
	must("AddRoute", c.AddRoute(ctx, stack.Route{Type: stack.Local, Dst: p4, Dev: "lo"}))
	must("AddRoute", c.AddRoute(ctx, stack.Route{Type: stack.Unreachable, Dst: p6, Table: 100, Metric: 5}))
	must("AddAddr", c.AddAddr(ctx, "lo", netip.MustParsePrefix("10.1.2.3/16")))
	must("AddSteering", c.AddSteering(ctx, stack.SteerRule{Network: "tcp", Prefix: p4, PortLo: 1, PortHi: 65535, To: netip.MustParseAddrPort("0.0.0.0:80")}))

	for _, f := range []stack.Family{stack.IPv4, stack.IPv6} {
		rules, err := c.Rules(ctx, f)
		must("Rules", err)
		same(t, "rules", rules, s.Rules(f))
		for _, table := range []stack.TableID{0, stack.TableLocal, stack.TableMain, 100, 7777} {
			routes, err := c.Routes(ctx, f, table)
			must("Routes", err)
			if want := s.Routes(f, table); len(routes)+len(want) > 0 {
				same(t, "routes", routes, want)
			}
		}
	}
	links, err := c.Links(ctx)
	must("Links", err)
	same(t, "links", links, s.Links())
	sockets, err := c.Sockets(ctx)
	must("Sockets", err)
	same(t, "sockets", sockets, s.Sockets())
	steering, err := c.Steering(ctx)
	must("Steering", err)
	same(t, "steering", steering, s.Steering())
	drops, err := c.Drops(ctx)
	must("Drops", err)
	same(t, "drops", drops, s.Drops())

	q := stack.RouteQuery{Dst: netip.MustParseAddr("192.0.2.77"), Src: netip.MustParseAddr("127.0.0.1"), IIF: "lo"}
	route, err := c.LookupRoute(ctx, q)
	must("LookupRoute", err)
	if got, want := route.Text(), s.LookupRoute(q).Text(); got != want {
		t.Errorf("route lookup over the wire\n got %s\nwant %s", got, want)
	}
	tuple := stack.FourTuple{Network: "tcp", Src: netip.MustParseAddrPort("127.0.0.1:5"), Dst: netip.MustParseAddrPort("192.0.2.77:7")}
	lookup, err := c.LookupSocket(ctx, tuple)
	must("LookupSocket", err)
	same(t, "socket lookup", lookup, s.LookupSocket(tuple))
	whole, err := c.LookupPacket(ctx, tuple, "")
	must("LookupPacket", err)
	if got, want := whole.Text(), s.LookupPacket(tuple, "").Text(); got != want {
		t.Errorf("packet lookup over the wire\n got %s\nwant %s", got, want)
	}
	if !strings.Contains(lookup.Answer, "steered") {
		t.Errorf("the steering rule did not decide: %s", lookup.Answer)
	}

	must("DelSteering", c.DelSteering(ctx, stack.SteerRule{Network: "tcp", Prefix: p4, PortLo: 1, PortHi: 65535}))
	must("DelAddr", c.DelAddr(ctx, "lo", netip.MustParsePrefix("10.1.2.3/16")))
	must("DelRoute", c.DelRoute(ctx, stack.RouteMatch{Type: new(stack.Local), Dst: p4}))
	must("DelRule", c.DelRule(ctx, stack.RuleMatch{Family: stack.IPv6, From: p6, Table: 100}))
	must("DelRule", c.DelRule(ctx, stack.RuleMatch{Family: stack.IPv4, Priority: new(uint32(9)), To: p4, IIF: "lo", Action: new(stack.ActionProhibit)}))
	must("DelRule", c.DelRule(ctx, stack.RuleMatch{Family: stack.IPv4, Priority: new(uint32(0))}))
	same(t, "the rules that are left", s.Rules(stack.IPv4), []stack.Rule{
		{Family: stack.IPv4, Priority: 32766, Table: stack.TableMain}, {Family: stack.IPv4, Priority: 32767, Table: stack.TableDefault},
	})

	// A route is described by each of its features.
	rt := stack.Route{Dst: p4, Dev: "lo", Table: 7, Protocol: stack.ProtoStatic, Scope: stack.ScopeHost, PrefSrc: netip.MustParseAddr("127.0.0.1"), Metric: 3}
	other := rt
	other.Scope = stack.ScopeLink
	must("AddRoute", c.AddRoute(ctx, rt))
	must("AppendRoute", c.AppendRoute(ctx, other))
	if err := c.AppendRoute(ctx, other); !errors.Is(err, syscall.EEXIST) {
		t.Errorf("AppendRoute of an equal route: %v; want EEXIST", err)
	}
	for _, change := range []func(*stack.RouteMatch){
		func(m *stack.RouteMatch) { m.Type = new(stack.Throw) },
		func(m *stack.RouteMatch) { m.Dev = "cat0" },
		func(m *stack.RouteMatch) { m.Gateway = netip.MustParseAddr("127.0.0.9") },
		func(m *stack.RouteMatch) { m.Protocol = stack.ProtoBoot },
		func(m *stack.RouteMatch) { m.Scope = new(stack.ScopeGlobal) },
		func(m *stack.RouteMatch) { m.PrefSrc = netip.MustParseAddr("127.0.0.9") },
		func(m *stack.RouteMatch) { m.Metric = 4 },
		func(m *stack.RouteMatch) { m.Table = 8 },
	} {
		m := other.Match()
		change(&m)
		if err := c.DelRoute(ctx, m); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("DelRoute %+v: %v; want ESRCH", m, err)
		}
	}
	must("DelRoute", c.DelRoute(ctx, other.Match()))
	same(t, "the route that is left", s.Routes(stack.IPv4, 7), []stack.Route{rt})
	if n := len(s.Rules(stack.IPv6)); n != 2 {
		t.Errorf("%d IPv6 rules are left; want 2", n)
	}
	if len(s.Steering()) != 0 {
		t.Errorf("steering rules are left: %v", s.Steering())
	}
}

func TestReplaceRoute(t *testing.T) {
	s, c := start(t)
	for _, rt := range []stack.Route{
		{Type: stack.Unreachable, Dst: netip.MustParsePrefix("192.0.2.0/24")},
		{Type: stack.Unreachable, Dst: netip.MustParsePrefix("2001:db8::/32")},
	} {
		f := stack.IPv4
		if rt.Dst.Addr().Is6() {
			f = stack.IPv6
		}
		for _, kind := range []stack.RouteType{stack.Unreachable, stack.Prohibit, stack.Blackhole} {
			rt.Type = kind
			if err := c.ReplaceRoute(t.Context(), rt); err != nil {
				t.Fatal(err)
			}
			var have []stack.RouteType
			for _, o := range s.Routes(f, stack.TableMain) {
				if o.Dst == rt.Dst {
					have = append(have, o.Type)
				}
			}
			if len(have) != 1 || have[0] != kind {
				t.Errorf("replace with %s: the table has %v", kind, have)
			}
		}
		// What cannot be added leaves the old route.
		bad := rt
		bad.Type, bad.Dev = stack.Unicast, "nope"
		if err := c.ReplaceRoute(t.Context(), bad); !errors.Is(err, syscall.ENODEV) {
			t.Errorf("replace on a device that is not there: %v; want ENODEV", err)
		}
		if l := s.LookupRoute(stack.RouteQuery{Dst: rt.Dst.Addr()}); l.Route == nil || l.Route.Type != stack.Blackhole {
			t.Errorf("after a replace that failed: %s", l.Short())
		}
	}
}

func TestRefusals(t *testing.T) {
	_, c := start(t)
	ctx := t.Context()
	p := netip.MustParsePrefix("192.0.2.0/24")
	for _, tc := range []struct {
		name  string
		err   error
		errno syscall.Errno
		text  string
	}{
		{"no such route", c.DelRoute(ctx, stack.RouteMatch{Dst: p}), syscall.ESRCH, "192.0.2.0/24"},
		{"no such rule", c.DelRule(ctx, stack.RuleMatch{Family: stack.IPv4, Priority: new(uint32(4))}), syscall.ENOENT, "rule"},
		{"no such device", c.AddRoute(ctx, stack.Route{Dst: p, Dev: "nope"}), syscall.ENODEV, "nope"},
		{"no such link", c.AddAddr(ctx, "nope", p), syscall.ENODEV, "nope"},
		{"there already", c.AddAddr(ctx, "lo", netip.MustParsePrefix("127.0.0.1/8")), syscall.EEXIST, "127.0.0.1/8"},
		{"no target", c.AddSteering(ctx, stack.SteerRule{Network: "tcp", Prefix: p, PortLo: 1, PortHi: 2}), 0, "target"},
	} {
		var e *Error
		if !errors.As(tc.err, &e) || !strings.Contains(e.Message, tc.text) {
			t.Errorf("%s: %v; want a refusal that names %q", tc.name, tc.err, tc.text)
		}
		if tc.errno != 0 && !errors.Is(tc.err, tc.errno) {
			t.Errorf("%s: %v is not %v", tc.name, tc.err, tc.errno)
		}
	}
}

// raw sends a request that the client would not make.
func raw(t *testing.T, c *Client, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://catflap"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestBadRequests(t *testing.T) {
	_, c := start(t)
	for _, tc := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/v1/info", "", 404, "version 2"},
		{"GET", "/v2/nothing", "", 404, "/v2/nothing"},
		{"GET", "/v2/rules?family=ipx", "", 400, "ipx"},
		{"GET", "/v2/routes?table=x", "", 400, "not local, main"},
		{"GET", "/v2/lookup/route", "", 400, "dst"},
		{"GET", "/v2/lookup/route?dst=10.9.0.2&src=::1", "", 400, "families"},
		{"GET", "/v2/lookup/socket?network=icmp", "", 400, "icmp"},
		{"GET", "/v2/lookup/socket?network=tcp&src=1.2.3.4:5&dst=here", "", 400, "here"},
		{"GET", "/v2/lookup/packet?network=tcp&src=1.2.3.4:5&dst=[::1]:6", "", 400, "families"},
		{"GET", "/v2/events?kinds=calls,noise", "", 400, "noise"},
		{"GET", "/v2/events?snap=65536", "", 400, "65536"},
		{"GET", "/v2/events?snap=none", "", 400, "none"},
		{"POST", "/v2/rules", "{", 400, "body"},
		{"POST", "/v2/routes", `{"dst":"1.2.3.4"}`, 400, "body"},
		{"POST", "/v2/addrs", `{"device":"lo"}`, 400, "device"},
		{"POST", "/v2/routes", `{"dev":"` + strings.Repeat("x", maxBody) + `"}`, 400, "too large"},
	} {
		if status, body := raw(t, c, tc.method, tc.path, tc.body); status != tc.status || !strings.Contains(body, tc.text) {
			t.Errorf("%s %s: %d %s; want %d and %q", tc.method, tc.path, status, body, tc.status, tc.text)
		}
	}
}

func TestEvents(t *testing.T) {
	s, c := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	st, err := c.Events(ctx, Kinds{Calls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	sys := s.Sys()
	fd, err := sys.Socket(stack.AF_INET, stack.SOCK_STREAM|stack.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := sys.Bind(fd, netip.MustParseAddrPort("127.0.0.1:80")); err != nil {
		t.Fatal(err)
	}
	if err := sys.Bind(99, netip.MustParseAddrPort("127.0.0.1:80")); err != syscall.EBADF {
		t.Fatal(err)
	}
	if err := sys.Close(fd); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 3",
		`bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = 0`,
		`bind(99, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("127.0.0.1")}, 16) = -1 EBADF (Bad file descriptor)`,
		"close(3)                                = 0",
	} {
		ev, err := st.Next()
		if err != nil {
			t.Fatalf("stream ended before %s: %v", want, err)
		}
		if got := strace.Format(ev.Call, strace.DefaultSize); got != want {
			t.Errorf("call over the wire\n got %s\nwant %s", got, want)
		}
	}
	s.Close()
	if ev, err := st.Next(); err != io.EOF {
		t.Errorf("after the stack closed: %+v, %v; want io.EOF", ev, err)
	}
	if n := st.Dropped(); n != 0 {
		t.Errorf("%d events lost of four", n)
	}
}

// A stream has the kinds that it is for, and of each packet as much as it asks for.
func TestEventsKinds(t *testing.T) {
	s, c := start(t)
	pc, err := s.ListenPacket("udp4", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	const size = 28 + 2000 // an IPv4 and a UDP header, and the payload
	for _, tc := range []struct {
		kinds Kinds
		want  string
	}{
		{Kinds{Packets: true}, "packet 512, packet 512"},
		{Kinds{Packets: true, Snap: 40}, "packet 40, packet 40"},
		{Kinds{Packets: true, Links: true, Snap: 65535}, "packet 2028, packet 2028, drop 2028"},
		{Kinds{Links: true}, "drop 512"},
		{Kinds{}, "packet 512, packet 512, call, drop 512"},
	} {
		st, err := c.Events(t.Context(), tc.kinds)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pc.WriteTo(make([]byte, size-28), pc.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		s.PublishLink(stack.LinkEvent{Dev: "lo", Action: "drop", Why: "loss", Data: make([]byte, size)})
		var got []string
		for seq := uint64(1); ; seq++ {
			ev, err := st.Next()
			if err != nil || ev.Seq != seq {
				t.Fatalf("%+v: after %v: event %+v, %v; want number %d", tc.kinds, got, ev, err, seq)
			}
			switch {
			case ev.Packet != nil:
				got = append(got, fmt.Sprint("packet ", len(ev.Packet.Data)))
				if ev.Packet.Len != size {
					t.Errorf("packet of %d bytes, want %d", ev.Packet.Len, size)
				}
			case ev.Link != nil:
				got = append(got, fmt.Sprint(ev.Link.Action, " ", len(ev.Link.Data)))
				if ev.Link.Len != size {
					t.Errorf("packet of %d bytes, want %d", ev.Link.Len, size)
				}
			case ev.Call != nil:
				got = append(got, "call")
			}
			if len(got) == 1+strings.Count(tc.want, ",") {
				break
			}
		}
		if got := strings.Join(got, ", "); got != tc.want {
			t.Errorf("%+v: got %s, want %s", tc.kinds, got, tc.want)
		}
		st.Close()
	}
}

// TestEventsLost has a reader that does not read: the stack goes on, and the
// reader is told how much it missed.
func TestEventsLost(t *testing.T) {
	s, c := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	st, err := c.Events(ctx, Kinds{Calls: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const calls = 5 * streamBuffer // some ten megabytes, more than the socket's buffers hold
	for range calls {
		s.Sys().Close(99)
	}
	s.Close()
	seen := uint64(0)
	for err == nil {
		if _, err = st.Next(); err == nil {
			seen++
		}
	}
	if err != io.EOF {
		t.Errorf("the stream ended with %v; want io.EOF", err)
	}
	if st.Dropped() == 0 || seen+st.Dropped() != calls {
		t.Errorf("%d events seen and %d lost of %d", seen, st.Dropped(), calls)
	}
}

func TestStreamLimit(t *testing.T) {
	_, c := start(t)
	for range maxStreams {
		st, err := c.Events(t.Context(), Kinds{Calls: true})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
	}
	if _, err := c.Events(t.Context(), Kinds{Calls: true}); err == nil || !strings.Contains(err.Error(), "streams") {
		t.Errorf("one stream too many: %v; want a refusal", err)
	}
	if _, err := c.Info(t.Context()); err != nil {
		t.Errorf("beside %d streams: %v", maxStreams, err)
	}
}

// TestCloseWithStreams closes a server that has streams open: they end, and no
// goroutine is left (TestMain).
func TestCloseWithStreams(t *testing.T) {
	s, err := stack.New(stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	srv, err := Serve(filepath.Join(t.TempDir(), "c.sock"), Parts{Stack: s}, Info{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(srv.Path())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 3)
	for range cap(ended) {
		st, err := c.Events(t.Context(), Kinds{Packets: true})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer st.Close()
			_, err := st.Next()
			ended <- err
		}()
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	for range cap(ended) {
		select {
		case err := <-ended:
			if err != io.EOF {
				t.Errorf("stream: %v; want io.EOF", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a stream outlives its server")
		}
	}
	if err := srv.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := c.Info(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after Close: %v; want ErrNotRunning", err)
	}
}

// TestOtherVersion meets a server of another version, and one that is no catflap.
func TestOtherVersion(t *testing.T) {
	for header, want := range map[string]string{"1": "version 1", "": "no catflap"} {
		path := filepath.Join(t.TempDir(), "c.sock")
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if header != "" {
				w.Header().Set(versionHeader, header)
			}
			fmt.Fprint(w, "{}")
		}))
		srv.Listener.Close()
		srv.Listener = l
		srv.Start()
		defer srv.Close()
		c, err := NewClient(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Info(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("header %q: %v; want %q", header, err, want)
		}
	}
}

// BenchmarkSockets lists ten thousand sockets.
func BenchmarkSockets(b *testing.B) {
	s, err := stack.New(stack.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	srv, err := Serve(filepath.Join(b.TempDir(), "c.sock"), Parts{Stack: s}, Info{}, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Close()
	for port := range 10_000 {
		fd, err := s.Sys().Socket(stack.AF_INET, stack.SOCK_STREAM, 0)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Sys().Bind(fd, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port+10_000))); err != nil {
			b.Fatal(err)
		}
		if err := s.Sys().Listen(fd, 1); err != nil {
			b.Fatal(err)
		}
	}
	c, err := NewClient(srv.Path())
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		ks, err := c.Sockets(b.Context())
		if err != nil || len(ks) != 10_000 {
			b.Fatal(len(ks), err)
		}
	}
}
