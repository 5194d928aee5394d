package main

import (
	"bufio"
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// testSockets are one of each kind and state.
var testSockets = []stack.SocketInfo{
	{FD: 3, Network: "tcp", Family: stack.IPv4, Local: ap("0.0.0.0:80"), State: "LISTEN", RecvQ: 1, SendQ: 4096, Backlog: 4096},
	{FD: 5, Network: "tcp", Family: stack.IPv4, Local: ap("10.9.0.2:80"), Remote: ap("10.9.0.1:55402"), State: "ESTABLISHED", SendQ: 129, TCP: &stack.TCPInfo{
		Congestion: "cubic", RTO: 204 * time.Millisecond, RTT: 1234567 * time.Nanosecond, RTTVar: 61 * time.Microsecond, SndMSS: 1448, SndCwnd: 10, SndSsthresh: 20, SegsOut: 7, SegsIn: 8,
	}},
	{FD: 6, Network: "tcp", Family: stack.IPv4, Local: ap("10.9.0.2:80"), Remote: ap("10.9.0.1:55403"), State: "CLOSE-WAIT", RecvQ: 1, SendQ: 0, TCP: &stack.TCPInfo{Congestion: "cubic"}},
	{FD: -1, Network: "tcp", Family: stack.IPv4, Local: ap("10.9.0.2:80"), Remote: ap("10.9.0.1:55404"), State: "TIME-WAIT"},
	{FD: -1, Network: "tcp", Family: stack.IPv4, Local: ap("10.9.0.2:80"), Remote: ap("10.9.0.1:55405"), State: "SYN-RECEIVED"},
	{FD: 4, Network: "tcp", Family: stack.IPv6, Local: ap("[::]:80"), State: "LISTEN", SendQ: 4096, Backlog: 4096, V6Only: true},
	{FD: 9, Network: "tcp", Family: stack.IPv6, Local: ap("[::]:8080"), State: "LISTEN", SendQ: 5, Backlog: 5},
	{FD: 10, Network: "tcp", Family: stack.IPv6, Local: ap("[fd00:1234:5678:9abc:def0:1234:5678:9abc]:80"), Remote: ap("[fd00::1]:9"), State: "FIN-WAIT-2"},
	{FD: 7, Network: "udp", Family: stack.IPv4, Local: ap("0.0.0.0:53"), State: "UNCONN", Device: "cat0"},
	{FD: 8, Network: "udp", Family: stack.IPv4, Local: ap("10.9.0.2:53"), Remote: ap("10.9.0.1:4242"), State: "ESTABLISHED"},
}

var testNames = services{{"tcp", 80}: "http", {"udp", 53}: "domain"}

var testInfo = control.Info{PID: 812, Command: "catflap", User: "root"}

// equal compares what was printed with what is wanted, line by line.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestNetstatFormat(t *testing.T) {
	var b bytes.Buffer
	table := netstatTable{flags: socketFlags{all: true, processes: true}, info: testInfo}
	if err := table.print(&b, testSockets); err != nil {
		t.Fatal(err)
	}
	equal(t, "netstat -atunp", b.String(), `Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name    
tcp        1      0 0.0.0.0:80              0.0.0.0:*               LISTEN      812/catflap         
tcp        0    129 10.9.0.2:80             10.9.0.1:55402          ESTABLISHED 812/catflap         
tcp        1      0 10.9.0.2:80             10.9.0.1:55403          CLOSE_WAIT  812/catflap         
tcp        0      0 10.9.0.2:80             10.9.0.1:55404          TIME_WAIT   -                   
tcp        0      0 10.9.0.2:80             10.9.0.1:55405          SYN_RECV    -                   
tcp6       0      0 :::80                   :::*                    LISTEN      812/catflap         
tcp6       0      0 :::8080                 :::*                    LISTEN      812/catflap         
tcp6       0      0 fd00:1234:5678:9abc::80 fd00::1:9               FIN_WAIT2   812/catflap         
udp        0      0 0.0.0.0:53              0.0.0.0:*                           812/catflap         
udp        0      0 10.9.0.2:53             10.9.0.1:4242           ESTABLISHED 812/catflap         
`)
	b.Reset()
	table = netstatTable{flags: socketFlags{listening: true}, names: testNames, wide: true}
	if err := table.print(&b, testSockets[7:9]); err != nil {
		t.Fatal(err)
	}
	equal(t, "netstat -tulW", b.String(), `Active Internet connections (only servers)
Proto Recv-Q Send-Q Local Address           Foreign Address         State      
tcp6       0      0 fd00:1234:5678:9abc:def0:1234:5678:9abc:http fd00::1:9               FIN_WAIT2  
udp        0      0 0.0.0.0:domain          0.0.0.0:*                          
`)
}

func TestLsofFormat(t *testing.T) {
	var ks []stack.SocketInfo
	f := lsofFlags{}
	for _, k := range testSockets {
		if f.want(k, 812) {
			ks = append(ks, k)
		}
	}
	var b bytes.Buffer
	if err := (&lsofTable{info: testInfo}).print(&b, ks); err != nil {
		t.Fatal(err)
	}
	equal(t, "lsof -nP", b.String(), `COMMAND PID USER   FD   TYPE DEVICE SIZE/OFF NODE NAME
catflap 812 root    3u  IPv4             0t0  TCP *:80 (LISTEN)
catflap 812 root    5u  IPv4             0t0  TCP 10.9.0.2:80->10.9.0.1:55402 (ESTABLISHED)
catflap 812 root    6u  IPv4             0t0  TCP 10.9.0.2:80->10.9.0.1:55403 (CLOSE_WAIT)
catflap 812 root    4u  IPv6             0t0  TCP *:80 (LISTEN)
catflap 812 root    9u  IPv6             0t0  TCP *:8080 (LISTEN)
catflap 812 root   10u  IPv6             0t0  TCP [fd00:1234:5678:9abc:def0:1234:5678:9abc]:80->[fd00::1]:9 (FIN_WAIT2)
catflap 812 root    7u  IPv4             0t0  UDP *:53 
catflap 812 root    8u  IPv4             0t0  UDP 10.9.0.2:53->10.9.0.1:4242 
`)
	b.Reset()
	info := control.Info{PID: 1234567, Command: "catflap-server", User: "somebody"}
	if err := (&lsofTable{info: info, names: testNames}).print(&b, ks[:1]); err != nil {
		t.Fatal(err)
	}
	equal(t, "lsof -n", b.String(), `COMMAND       PID     USER   FD   TYPE DEVICE SIZE/OFF NODE NAME
catflap-s 1234567 somebody    3u  IPv4             0t0  TCP *:http (LISTEN)
`)
}

func TestLsofSelection(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "3 5 6 4 9 10 7 8",
		"-nP":                         "3 5 6 4 9 10 7 8",
		"-i":                          "3 5 6 4 9 10 7 8",
		"-i4 -n":                      "3 5 6 7 8",
		"-i 6TCP":                     "4 9 10",
		"-nPiUDP":                     "7 8",
		"-iTCP:80 -P":                 "3 5 6 4 10",
		"-i :53,8080":                 "9 7 8",
		"-i:http":                     "3 5 6 4 10",
		"-i :50-60":                   "7 8",
		"-i@10.9.0.1":                 "5 6 8",
		"-i 6@[fd00::1]:9":            "10",
		"-iUDP -iTCP:8080":            "9 7 8",
		"-iTCP -sTCP:LISTEN":          "3 4 9",
		"-iTCP -s TCP:close_wait":     "6",
		"-p 812":                      "3 5 6 4 9 10 7 8",
		"-p 1":                        "",
		"-p 1 -iUDP":                  "7 8",
		"-a -p 1 -iUDP":               "",
		"-a -p 1,812 -iUDP":           "7 8",
		"--control /x -i4UDP --json":  "7 8",
		"-t -i :8080 --control=/x -n": "9",
	} {
		e := &env{}
		f, err := parseLsof(e, strings.Fields(args))
		if err != nil {
			t.Errorf("lsof %s: %v", args, err)
			continue
		}
		var got []string
		for _, k := range testSockets {
			if f.want(k, 812) {
				got = append(got, strconv.Itoa(k.FD))
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("lsof %s selects fds %q; want %q", args, s, want)
		}
		if strings.Contains(args, "/x") != (e.control == "/x") {
			t.Errorf("lsof %s: control socket %q", args, e.control)
		}
	}
}

func TestSSFormat(t *testing.T) {
	print := func(table ssTable, ks []stack.SocketInfo) string {
		t.Helper()
		var b bytes.Buffer
		table.info = testInfo
		if err := table.print(&b, ks); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	equal(t, "ss -tan", print(ssTable{header: true, flags: socketFlags{tcp: true}}, testSockets[:7]), `State      Recv-Q Send-Q Local Address:Port Peer Address:Port Process
LISTEN     1      4096         0.0.0.0:80        0.0.0.0:*           
ESTAB      0      129         10.9.0.2:80       10.9.0.1:55402       
CLOSE-WAIT 1      0           10.9.0.2:80       10.9.0.1:55403       
TIME-WAIT  0      0           10.9.0.2:80       10.9.0.1:55404       
SYN-RECV   0      0           10.9.0.2:80       10.9.0.1:55405       
LISTEN     0      4096            [::]:80           [::]:*           
LISTEN     0      5                  *:8080            *:*           
`)
	equal(t, "ss -tlnH", print(ssTable{flags: socketFlags{tcp: true}}, testSockets[:1]), "LISTEN 1      4096   0.0.0.0:80 0.0.0.0:*\n")
	equal(t, "ss -uap", print(ssTable{header: true, names: testNames, flags: socketFlags{udp: true, processes: true}}, testSockets[8:]), `State  Recv-Q Send-Q Local Address:Port   Peer Address:PortProcess                          
UNCONN 0      0       0.0.0.0%cat0:domain      0.0.0.0:*    users:(("catflap",pid=812,fd=7))
ESTAB  0      0           10.9.0.2:domain     10.9.0.1:4242 users:(("catflap",pid=812,fd=8))
`)
	equal(t, "ss -ni", print(ssTable{header: true, tcpInfo: true, flags: socketFlags{numeric: true}}, []stack.SocketInfo{testSockets[1], testSockets[2], testSockets[9]}), `Netid State      Recv-Q Send-Q Local Address:Port Peer Address:Port Process
tcp   ESTAB      0      129         10.9.0.2:80       10.9.0.1:55402
	 cubic rto:204 rtt:1.234/0.061 mss:1448 cwnd:10 ssthresh:20 segs_out:7 segs_in:8 send 93873582bps
tcp   CLOSE-WAIT 1      0           10.9.0.2:80       10.9.0.1:55403
	 cubic
udp   ESTAB      0      0           10.9.0.2:53       10.9.0.1:4242 
`)
	if got, want := (&ssTable{}).rate(93830274), "93.8M"; got != want {
		t.Errorf("rate without -n: %s; want %s", got, want)
	}
}

func TestTimerFormat(t *testing.T) {
	for d, want := range map[time.Duration]string{
		200 * time.Millisecond: "200ms", 5*time.Second + 7*time.Millisecond: "5.007ms", 5 * time.Second: "5sec", 14900 * time.Millisecond: "14sec",
		90*time.Second + time.Millisecond: "1min30sec", 2*time.Hour - time.Second: "119min", -time.Second: "", 0: "",
	} {
		if got := ssDuration(d); got != want {
			t.Errorf("ss writes %v as %q; want %q", d, got, want)
		}
	}
	keep := stack.SocketInfo{Network: "tcp", State: "ESTABLISHED", Timer: &stack.Timer{Name: "keepalive", Expires: 14345 * time.Millisecond, Retrans: 2}}
	resend := stack.SocketInfo{Network: "tcp", State: "ESTABLISHED", Timer: &stack.Timer{Name: "on", Expires: 200 * time.Millisecond, Retrans: 1}}
	for _, tc := range []struct {
		k           stack.SocketInfo
		ss, netstat string
	}{
		{keep, "timer:(keepalive,14sec,2)", "keepalive (14.35/0/2)"},
		{resend, "timer:(on,200ms,1)", "on (0.20/1/0)"},
	} {
		if got := ssTimer(tc.k.Timer); got != tc.ss {
			t.Errorf("ss -o: %s; want %s", got, tc.ss)
		}
		if got := netstatTimer(tc.k); got != tc.netstat {
			t.Errorf("netstat -o: %s; want %s", got, tc.netstat)
		}
	}
	if got := netstatTimer(stack.SocketInfo{State: "LISTEN"}); got != "off (0.00/0/0)" {
		t.Errorf("netstat -o, no timer: %s", got)
	}
}

func TestSocketSelection(t *testing.T) {
	waitingStates := func(st string) bool { return st == "TIME-WAIT" || st == "SYN-RECEIVED" }
	for _, tc := range []struct {
		name string
		f    socketFlags
		want string // fds
	}{
		{"none", socketFlags{}, "5 6 10 8"},
		{"-t", socketFlags{tcp: true}, "5 6 10"},
		{"-ta", socketFlags{tcp: true, all: true}, "3 5 6 -1 -1 4 9 10"},
		{"-tl", socketFlags{tcp: true, listening: true}, "3 4 9"},
		{"-ul", socketFlags{udp: true, listening: true}, "7"},
		{"-tul4", socketFlags{tcp: true, udp: true, listening: true, v4: true}, "3 7"},
		{"-a6", socketFlags{all: true, v6: true}, "4 9 10"},
		{"-a46", socketFlags{all: true, v4: true, v6: true}, "3 5 6 -1 -1 4 9 10 7 8"},
	} {
		var got []string
		for _, k := range testSockets {
			if tc.f.want(k, waitingStates) {
				got = append(got, strconv.Itoa(k.FD))
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s selects %s; want %s", tc.name, s, tc.want)
		}
	}
}

func TestServices(t *testing.T) {
	s := services{}
	for line := range strings.Lines("# comment\nhttp\t80/tcp\twww # WorldWideWeb\nwww 80/tcp\ndomain 53/tcp\ndomain 53/udp\nbad\nworse x/tcp\nhuge 70000/tcp\n") {
		s.parse(line)
	}
	for _, tc := range []struct {
		network string
		port    uint16
		want    string
	}{{"tcp", 80, "http"}, {"udp", 80, "80"}, {"udp", 53, "domain"}, {"tcp", 0, "*"}} {
		if got := s.port(tc.network, tc.port); got != tc.want {
			t.Errorf("%s port %d: %q; want %q", tc.network, tc.port, got, tc.want)
		}
	}
	if n, ok := s.number("domain"); !ok || n != 53 {
		t.Errorf("domain: %d, %v", n, ok)
	}
	if _, ok := s.number("nosuch"); ok {
		t.Error("a service that is not there")
	}
	if len(s) != 3 {
		t.Errorf("%d services: %v; want 3", len(s), s)
	}
}

func TestStraceLines(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 6789000, time.Local)
	c := &stack.CallEvent{Name: "close", FD: 5, Start: start, Duration: 12345 * time.Nanosecond}
	long := &stack.CallEvent{Name: "read", FD: 5, Buffer: &event.Buffer{Size: 4096, Len: 34, Data: []byte("GET / HTTP/1.1\r\nHost: = \"10.9.0.2\"")}, Ret: 34, Start: start.Add(1500 * time.Microsecond)}
	failed := &stack.CallEvent{Name: "shutdown", FD: 3, Op: stack.SHUT_WR, Ret: -1, Error: "ENOTCONN", Start: start}
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
		{straceOptions{size: 32}, failed, "shutdown(3, SHUT_WR)                    = -1 ENOTCONN (Transport endpoint is not connected)\n"},
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
	equal(t, "strace -c", b.String(), `% time     seconds  usecs/call     calls    errors syscall
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
