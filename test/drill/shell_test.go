package drill

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/packet"
)

func TestShellTokens(t *testing.T) {
	for text, want := range map[string]string{
		"sysctl -q a.b=\"1 $((2*1024)) 3\" # why":           "sysctl|-q|a.b=1 2048 3",
		"a 'b  c' \\\n d; e && f || g | h":                  "a|b  c|d|<;>|e|<&&>|f|<||>|g|<|>|h",
		"tc qdisc add dev tun0 root pfifo > /dev/null 2>&1": "tc|qdisc|add|dev|tun0|root|pfifo",
		"ip x &> /dev/null":                                 "ip|x",
		"/tmp/r_${PPID}.sh":                                 "/tmp/r_${PPID}.sh",
		"echo 3 > /sys/x":                                   "echo|3|</sys/x>",
	} {
		tokens, err := shellTokens(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		var got []string
		for _, k := range tokens {
			if k.operator {
				got = append(got, "<"+k.text+">")
			} else {
				got = append(got, k.text)
			}
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q: %s, want %s", text, s, want)
		}
	}
	for _, bad := range []string{"a 'b", `a "b`, "a $(b)", "a `b`", "$((1 +", "$((x))", "a & b"} {
		if got, err := shellTokens(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestGrep(t *testing.T) {
	const input = "TcpExtBeyondWindow              3                  0.0\nTcpInSegs 12 0.0\n"
	for args, want := range map[string]struct {
		out    string
		status int
	}{
		"Beyond":      {strings.SplitAfter(input, "\n")[0], 0},
		"-c Tcp":      {"2\n", 0},
		"-q none":     {"", 1},
		"-c none":     {"0\n", 1},
		"-vc Beyond":  {"1\n", 0},
		"-iq beyond":  {"", 0},
		"-F 0.0":      {input, 0},
		"-Ec InSegs+": {"1\n", 0},
		"-c InSegs+":  {"0\n", 1}, // a letter as any other
	} {
		g, err := grepFlags(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		out, status, err := g.run(input)
		if err != nil || out != want.out || status != want.status {
			t.Errorf("grep %s: %q, status %d, %v; want %q, status %d", args, out, status, err, want.out, want.status)
		}
	}
	for _, bad := range []string{"", "-c", "-z x", "-E ("} {
		if _, err := grepFlags(strings.Fields(bad)); err == nil {
			t.Errorf("grep %s was understood", bad)
		}
	}
}

// TestUnderstood holds which commands are run, and that nothing leads out of the namespace.
func TestUnderstood(t *testing.T) {
	for line, where := range map[string]string{
		"ip route change 192.0.2.1 dev tun0 mtu 600": "kernel",
		"ip -6 route show":                           "kernel",
		"ip link set dev tun0 mtu 9000":              "kernel",
		"tc qdisc replace dev tun0 root pfifo":       "kernel",
		"ip netns exec x true":                       "",
		"ip link set tun0 netns 1":                   "",
		"ip -n other route show":                     "",
		"ip -batch file":                             "",
		"ip vrf exec x true":                         "",
		"ip monitor":                                 "",
		"tc exec bpf import x":                       "",
		"tc filter show":                             "",
		"ethtool -K tun0 tso off":                    "kernel",
		"ethtool -K eth0 tso off":                    "",
		"grep x /etc/passwd":                         "",
		"grep x /proc/net/../../etc/passwd":          "",
		"grep x /proc/net/tcp":                       "kernel",
		"rm -f /tmp/x":                               "both",
		"rm -rf /tmp/x":                              "",
		"dd bs=1 count=5 if=/dev/zero of=/tmp/x":     "both",
		"dd if=/etc/passwd of=/tmp/x":                "",
		"nstat -nz TcpExt*":                          "both",
		"nstat --json":                               "",
		"sockstat -4 -P tcp -s -p 80":                "both",
		"sockstat -P udp":                            "",
		"reboot":                                     "",
	} {
		words := strings.Fields(line)
		for on, want := range map[Target]bool{Kernel: where != "", Stack: where == "both"} {
			if got := understood(words, on) == nil; got != want {
				t.Errorf("%s on %s: understood %v (%v), want %v", line, on, got, understood(words, on), want)
			}
		}
	}
}

func TestSysctlCommand(t *testing.T) {
	for args, want := range map[string][]sysctl{
		"-q net.ipv4.tcp_sack=1":                   {{path: "net/ipv4/tcp_sack", value: "1"}},
		"-e -q net/ipv4/a=1 net.ipv4.b=2":          {{path: "net/ipv4/a", value: "1", soft: true}, {path: "net/ipv4/b", value: "2", soft: true}},
		"/proc/sys/net/ipv4/tcp_sack = 0":          {{path: "net/ipv4/tcp_sack", value: "0"}},
		"-w net.inet.tcp.sack.enable=0":            {{path: "net/ipv4/tcp_sack", value: "0"}},
		"-w net.inet.tcp.sendspace=32768":          {{path: "net/ipv4/tcp_wmem", value: "4096 32768 4194304"}},
		"-w net.inet.tcp.ecn.enable=1":             {{path: "net/ipv4/tcp_ecn", value: "1"}},
		"-w net.inet.tcp.ecn.enable=2":             nil, // its default
		"-w net.inet.tcp.insecure_rst=0":           nil, // its default
		"-w net.inet.tcp.fastopen.client_enable=1": {{path: "net/ipv4/tcp_fastopen", value: "1"}},
	} {
		got, err := sysctlCommand(strings.Fields(args))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", args, got, err, want)
		}
	}
	for _, bad := range []string{"", "-q", "-a", "x", "net.inet.tcp.delacktime=41", "net.inet.tcp.insecure_rst=1", "net.inet.tcp.udp_tunneling_port=9811", "kern.hz=1"} {
		if got, err := sysctlCommand(strings.Fields(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

// TestInclude holds that the file that a script calls is read, where it lies beside the script, and not too deep.
func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("defaults.sh", "sysctl -q net.ipv4.tcp_sack=0\n")
	write("loop.sh", "./loop.sh\n")
	write("bad.sh", "true\nreboot\n")
	check := func(text string) ([]command, error) {
		s := &Script{Name: filepath.Join(dir, "x.pkt"), source: []string{"`" + text + "`"}}
		return s.commands(&Shell{Pos: Pos{1, 1}, Text: text}, Stack, false)
	}
	got, err := check("./defaults.sh")
	if err != nil || len(got) != 1 || !got[0].soft || got[0].sysctls[0] != (sysctl{path: "net/ipv4/tcp_sack", value: "0"}) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, says := range map[string]string{"./loop.sh": "more than 3 deep", "./bad.sh": `in ./bad.sh: this command is not run`, "./none.sh": "no such file"} {
		if _, err := check(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", text, err, says)
		}
	}
}

// TestSockstat holds sockstat's lines, and the words of FreeBSD in them.
func TestSockstat(t *testing.T) {
	all := []connection{
		{netip.MustParseAddrPort("192.0.2.1:80"), netip.MustParseAddrPort("192.0.2.2:99"), "SYN-RECEIVED"},
		{netip.MustParseAddrPort("[2001:db8::1]:80"), netip.MustParseAddrPort("[2001:db8::2]:99"), "TIME-WAIT"},
	}
	o, err := sockstatFlags(strings.Fields("-4 -P tcp -s -p 80"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(o.list(all)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "root     packetdril ") || !strings.HasSuffix(lines[1], " SYN_RCVD") {
		t.Errorf("%q", lines)
	}
	o.four, o.port = false, 81
	if got := o.list(all); strings.Count(got, "\n") != 1 {
		t.Errorf("of port 81: %q", got)
	}
	o.port = 0
	if got := o.list(all); !strings.Contains(got, "tcp6") || !strings.Contains(got, "TIME_WAIT") {
		t.Errorf("all: %q", got)
	}
}

// TestEncapsulated holds a segment in UDP against what the drill itself builds of it.
func TestEncapsulated(t *testing.T) {
	f := &flow{local: netip.MustParseAddrPort("192.0.2.1:8080"), remote: netip.MustParseAddrPort("192.0.2.2:99"), haveLocal: true, haveRemote: true}
	s, err := Parse("x.pkt", []byte("0 < P. 1:11(10) ack 1 win 5/udp(1 > 9811)\n+0 > P. 1:11(10) ack 1 win 5/udp(1 > 9811)\n+0 > P. 1:11(10) ack 1 win 5/udp(2 > 9811)\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := parsed(t, f.segment(s.Events[0].Packet))
	if err := p.Verify(); err != nil || p.UDP == nil || p.UDP.DstPort != 9811 {
		t.Fatalf("%v, %v", p, err)
	}
	back := &flow{local: f.remote, remote: f.local, haveLocal: true, haveRemote: true}
	if c := back.compare(s.Events[1].Packet, p, rules{}); !c.ok() {
		t.Errorf("%s", c)
	}
	if c := back.compare(s.Events[2].Packet, p, rules{}); c.ok() {
		t.Error("another port was taken")
	}
}

// TestCut holds that a super-packet is cut where its segments end, and nowhere else.
func TestCut(t *testing.T) {
	f := &flow{local: netip.MustParseAddrPort("192.0.2.1:8080"), remote: netip.MustParseAddrPort("192.0.2.2:99"), haveLocal: true, haveRemote: true}
	s, err := Parse("x.pkt", []byte("0 < FWP. 1:3001(3000) ack 1 win 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	super := func() *seen { return &seen{p: *parsed(t, f.segment(s.Events[0].Packet)), segment: 1000} }
	for _, n := range []int{0, 500, 3000, 4000} {
		if super().cut(n) != nil {
			t.Errorf("cut after %d bytes", n)
		}
	}
	head := super()
	tail := head.cut(2000)
	if tail == nil {
		t.Fatal("not cut")
	}
	if got := flagText(head.p.TCP.Flags) + " " + flagText(tail.p.TCP.Flags); got != ".W FP." || tail.p.TCP.Seq != head.p.TCP.Seq+2000 ||
		len(head.p.Payload) != 2000 || len(tail.p.Payload) != 1000 {
		t.Errorf("%s, %d and %d bytes", got, len(head.p.Payload), len(tail.p.Payload))
	}
}

func parsed(t *testing.T, b []byte) *packet.Packet {
	t.Helper()
	p, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}
