package sockets

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/stack"
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

var testProcess = Process{PID: 812, Command: "catflap", User: "root"}

func TestNetstatFormat(t *testing.T) {
	var b bytes.Buffer
	table := netstatTable{Netstat: Netstat{Options: Options{All: true, Processes: true}}, process: testProcess}
	if err := table.print(&b, testSockets); err != nil {
		t.Fatal(err)
	}
	clitest.Equal(t, "netstat -atunp", b.String(), `Active Internet connections (servers and established)
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
	table = netstatTable{Netstat: Netstat{Options: Options{Listening: true}, Wide: true}, names: testNames}
	if err := table.print(&b, testSockets[7:9]); err != nil {
		t.Fatal(err)
	}
	clitest.Equal(t, "netstat -tulW", b.String(), `Active Internet connections (only servers)
Proto Recv-Q Send-Q Local Address           Foreign Address         State      
tcp6       0      0 fd00:1234:5678:9abc:def0:1234:5678:9abc:http fd00::1:9               FIN_WAIT2  
udp        0      0 0.0.0.0:domain          0.0.0.0:*                          
`)
}

func TestLsofFormat(t *testing.T) {
	ks := (&Lsof{}).Select(testSockets, testProcess)
	var b bytes.Buffer
	if err := (&lsofTable{process: testProcess}).print(&b, ks); err != nil {
		t.Fatal(err)
	}
	clitest.Equal(t, "lsof -nP", b.String(), `COMMAND PID USER   FD   TYPE DEVICE SIZE/OFF NODE NAME
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
	process := Process{PID: 1234567, Command: "catflap-server", User: "somebody"}
	if err := (&lsofTable{process: process, names: testNames, width: lsofCommand}).print(&b, ks[:1]); err != nil {
		t.Fatal(err)
	}
	clitest.Equal(t, "lsof -n", b.String(), `COMMAND       PID     USER   FD   TYPE DEVICE SIZE/OFF NODE NAME
catflap-s 1234567 somebody    3u  IPv4             0t0  TCP *:http (LISTEN)
`)
}

func TestLsofSelection(t *testing.T) {
	for args, want := range map[string]string{
		"":                                "3 5 6 4 9 10 7 8",
		"-nP":                             "3 5 6 4 9 10 7 8",
		"-i":                              "3 5 6 4 9 10 7 8",
		"-i4 -n":                          "3 5 6 7 8",
		"-i 6TCP":                         "4 9 10",
		"-nPiUDP":                         "7 8",
		"-iTCP:80 -P":                     "3 5 6 4 10",
		"-i :53,8080":                     "9 7 8",
		"-i:http":                         "3 5 6 4 10",
		"-i :50-60":                       "7 8",
		"-i@10.9.0.1":                     "5 6 8",
		"-i 6@[fd00::1]:9":                "10",
		"-iUDP -iTCP:8080":                "9 7 8",
		"-iTCP -sTCP:LISTEN":              "3 4 9",
		"-iTCP -s TCP:close_wait":         "6",
		"-iTCP -sTCP:^LISTEN":             "5 6 10",
		"-iTCP -sTCP:^LISTEN,^CLOSE_WAIT": "5 10",
		"-u root -a -iUDP":                "7 8",
		"-u ^root -a -iUDP":               "",
		"-u 0 -a -i:8080":                 "9",
		"-c cat -a -i:8080":               "9",
		"-c dog":                          "",
		"-c /^CAT.*p$/i -a -i:8080":       "9",
		"-c ^cat -a -i":                   "",
		"-p ^812 -a -i":                   "",
		"+c 0 -F pn -iUDP":                "7 8",
		"-p 812":                          "3 5 6 4 9 10 7 8",
		"-p 1":                            "",
		"-p 1 -iUDP":                      "7 8",
		"-a -p 1 -iUDP":                   "",
		"-a -p 1,812 -iUDP":               "7 8",
		"--control /x -i4UDP --json":      "7 8",
		"-t -i :8080 --control=/x -n":     "9",
	} {
		o, err := ParseLsof(strings.Fields(args))
		if err != nil {
			t.Errorf("lsof %s: %v", args, err)
			continue
		}
		var got []string
		for _, k := range o.Select(testSockets, testProcess) {
			got = append(got, strconv.Itoa(k.FD))
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("lsof %s selects fds %q; want %q", args, s, want)
		}
		if strings.Contains(args, "/x") != (o.Control == "/x") || strings.Contains(args, "--json") != o.JSON {
			t.Errorf("lsof %s: control socket %q, JSON %v", args, o.Control, o.JSON)
		}
	}
}

// TestLsofFields: what programs read, a field a line.
func TestLsofFields(t *testing.T) {
	for args, want := range map[string]string{
		"-nP -iUDP -F":          "p812\nccatflap\nLroot\nf7\nau\nl \ntIPv4\nd\no0t0\nPUDP\nn*:53\nf8\nau\nl \ntIPv4\nd\no0t0\nPUDP\nn10.9.0.2:53->10.9.0.1:4242\n",
		"-nP -iTCP:8080 -FcnT":  "p812\nccatflap\nn*:8080\nTST=LISTEN\nTQR=0\nTQS=5\n",
		"-nP -iTCP:8080 -F 0pn": "p812\x00\nn*:8080\x00\n",
	} {
		o, err := ParseLsof(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := o.Print(&b, o.Select(testSockets, testProcess), testProcess); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("lsof %s: %q, want %q", args, b.String(), want)
		}
	}
	for args, want := range map[string]string{
		"-sTCP:NONSENSE": "unknown TCP state name: NONSENSE", "-sTCP:^NONSENSE": "unknown TCP state name: ^NONSENSE", "-Fz": "there is no field 'z'",
		"-u nosuchuser": `no user "nosuchuser"`, "-c /x": "no regular expression", "-c": "want the beginning", "+c x": `+c "x"`, "-p ^x": "want process IDs",
	} {
		if _, err := ParseLsof(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lsof %s: %v, want %q", args, err, want)
		}
	}
}

func TestSSFormat(t *testing.T) {
	print := func(table ssTable, ks []stack.SocketInfo) string {
		t.Helper()
		var b bytes.Buffer
		table.process = testProcess
		if err := table.print(&b, ks); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	clitest.Equal(t, "ss -tan", print(ssTable{SS: SS{Options: Options{TCP: true}}}, testSockets[:7]), `State      Recv-Q Send-Q Local Address:Port Peer Address:Port Process
LISTEN     1      4096         0.0.0.0:80        0.0.0.0:*           
ESTAB      0      129         10.9.0.2:80       10.9.0.1:55402       
CLOSE-WAIT 1      0           10.9.0.2:80       10.9.0.1:55403       
TIME-WAIT  0      0           10.9.0.2:80       10.9.0.1:55404       
SYN-RECV   0      0           10.9.0.2:80       10.9.0.1:55405       
LISTEN     0      4096            [::]:80           [::]:*           
LISTEN     0      5                  *:8080            *:*           
`)
	clitest.Equal(t, "ss -tlnH", print(ssTable{SS: SS{Options: Options{TCP: true}, NoHeader: true}}, testSockets[:1]), "LISTEN 1      4096   0.0.0.0:80 0.0.0.0:*\n")
	clitest.Equal(t, "ss -uap", print(ssTable{SS: SS{Options: Options{UDP: true, Processes: true}}, names: testNames}, testSockets[8:]), `State  Recv-Q Send-Q Local Address:Port   Peer Address:PortProcess                          
UNCONN 0      0       0.0.0.0%cat0:domain      0.0.0.0:*    users:(("catflap",pid=812,fd=7))
ESTAB  0      0           10.9.0.2:domain     10.9.0.1:4242 users:(("catflap",pid=812,fd=8))
`)
	clitest.Equal(t, "ss -ni", print(ssTable{SS: SS{Options: Options{Numeric: true}, TCPInfo: true}}, []stack.SocketInfo{testSockets[1], testSockets[2], testSockets[9]}), `Netid State      Recv-Q Send-Q Local Address:Port Peer Address:Port Process
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
		o    Options
		want string // fds
	}{
		{"none", Options{}, "5 6 10 8"},
		{"-t", Options{TCP: true}, "5 6 10"},
		{"-ta", Options{TCP: true, All: true}, "3 5 6 -1 -1 4 9 10"},
		{"-tl", Options{TCP: true, Listening: true}, "3 4 9"},
		{"-ul", Options{UDP: true, Listening: true}, "7"},
		{"-tul4", Options{TCP: true, UDP: true, Listening: true, IPv4: true}, "3 7"},
		{"-a6", Options{All: true, IPv6: true}, "4 9 10"},
		{"-a46", Options{All: true, IPv4: true, IPv6: true}, "3 5 6 -1 -1 4 9 10 7 8"},
	} {
		var got []string
		for _, k := range testSockets {
			if tc.o.want(k, waitingStates) {
				got = append(got, strconv.Itoa(k.FD))
			}
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("%s selects %s; want %s", tc.name, s, tc.want)
		}
	}
}

// TestOrder: both list TCP by family, listeners first, as the kernel does; ss puts UDP before it, netstat after it.
// Of equals none overtakes another.
func TestOrder(t *testing.T) {
	mixed := slices.Clone(testSockets)
	slices.Reverse(mixed)
	fds := func(ks []stack.SocketInfo) string {
		var fds []string
		for _, k := range ks {
			fds = append(fds, strconv.Itoa(k.FD))
		}
		return strings.Join(fds, " ")
	}
	all := Options{All: true}
	const tcp, udp = "3 -1 -1 6 5 9 4 10", "7 8"
	if got, want := fds((&SS{Options: all}).Select(mixed)), udp+" "+tcp; got != want {
		t.Errorf("ss -a lists fds %s; want %s", got, want)
	}
	if got, want := fds((&Netstat{Options: all}).Select(mixed)), tcp+" "+udp; got != want {
		t.Errorf("netstat -a lists fds %s; want %s", got, want)
	}
	if ks := (&SS{}).Select(nil); ks == nil {
		t.Error("as JSON, no sockets are null; want a list")
	}
	if ks := (&Lsof{}).Select(nil, testProcess); ks == nil {
		t.Error("as JSON, no sockets of lsof are null; want a list")
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
