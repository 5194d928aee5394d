package tcpdump

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// TestExpressionFragment: a fragment that is not the first has addresses and a protocol, and no ports.
func TestExpressionFragment(t *testing.T) {
	k := &packet.Packet{Version: 4, Src: ap("10.9.0.1:1").Addr(), Dst: ap("10.9.0.2:1").Addr(), Proto: packet.ProtoUDP, Length: 60, Frag: packet.Fragment{ID: 7, Offset: 800}}
	for expr, want := range map[string]bool{"udp": true, "host 10.9.0.1": true, "greater 60": true, "port 0": false, "portrange 0-65535": false, "tcp": false} {
		e, err := ParseExpression("tcpdump", []string{expr})
		if err != nil {
			t.Fatal(err)
		}
		if e(k, false) != want {
			t.Errorf("%s: want %v", expr, want)
		}
	}
}

// TestExpressionErrors: a message shows the place, and what could stand there.
func TestExpressionErrors(t *testing.T) {
	for _, tt := range []struct{ expr, msg, remedy string }{
		{"tpc port 80", `"tpc" at column 1 of "tpc port 80"`, "not, !, (, inbound, outbound, less, greater, ip, ip6, tcp"},
		{"tcp port", `at the end of "tcp port"`, "PORT"},
		{"tcp port nosuch", `"nosuch" at column 10`, "PORT"},
		{"tcp[13", `at the end of "tcp[13"`, "]"},
		{"tcp[13:3] = 1", `"3" at column 8`, "1, 2, 4"},
		{"tcp[] = 1", `"]" at column 5`, "NUMBER"},
		{"ip[8] + > 1", `">" at column 9`, "NUMBER"},
		{"len >", `at the end of "len >"`, "NUMBER"},
		{"net 10.9.0.1/24", `"10.9.0.1/24" at column 5`, "want net 10.9.0.0/24, or host 10.9.0.1"},
		{"net 10.9.0.0 mask 255.0.255.0", `"255.0.255.0" at column 19`, "MASK"},
		{"proto none", `"none" at column 7`, "PROTOCOL"},
		{"port 65536", `"65536" at column 6`, "PORT"},
		{"tcp 80", `"80" at column 5`, "src, dst, host, net, port, portrange, proto"},
		{"host none.invalid", `"none.invalid" at column 6`, "no host's name"},
		{"host 10.0.0.0/8", `"10.0.0.0/8" at column 6`, "ADDRESS"},
		{"net 10.0.0.0/33", `"10.0.0.0/33" at column 5`, "ADDRESS/LEN"},
		{"portrange 9-1", `"9-1" at column 11`, "PORT-PORT"},
		{"(tcp or udp", `at the end of "(tcp or udp"`, "and, &&, or, ||, )"},
		{"tcp)", `")" at column 4`, "and, &&, or, ||"},
		{"tcp and", `at the end of "tcp and"`, "not, !, ("},
		{"not", `at the end of "not"`, "not, !, ("},
		{"less many", `"many" at column 6`, "a number of bytes"},
		{"src", `at the end of "src"`, "ADDRESS"},
	} {
		_, err := ParseExpression("tcpdump", []string{tt.expr})
		var u *remedy.UsageError
		if !errors.As(err, &u) || !strings.Contains(u.Msg, tt.msg) || !strings.Contains(u.Remedy, tt.remedy) {
			t.Errorf("%q: %v (%+v), want %q and %q", tt.expr, err, u, tt.msg, tt.remedy)
		}
	}
}

// TestExpressionForeign: what selects nothing here is refused by its name.
func TestExpressionForeign(t *testing.T) {
	for expr, word := range clitest.ForeignExpressions {
		_, err := ParseExpression("tcpdump", []string{expr})
		var u *remedy.UsageError
		if !errors.As(err, &u) || !strings.Contains(u.Msg, `"`+word+`" at column`) || !strings.Contains(u.Remedy, word+" selects nothing here: ") {
			t.Errorf("%q: %v (%+v)", expr, err, u)
		}
	}
}

// TestExpressionIPv6: bytes of TCP, UDP and ICMPv6 are those of IPv6 packets too.
func TestExpressionIPv6(t *testing.T) {
	for expr, want := range map[string]bool{"tcp[tcpflags] & tcp-fin != 0": true, "ip6 and tcp[0:2] > 0": true, "udp[0] >= 0": true, "icmp6[icmp6type] = icmp6-echo": true} {
		e, err := ParseExpression("tcpdump", []string{expr})
		if err != nil {
			t.Fatal(err)
		}
		got := false
		for _, p := range clitest.Packets(t) {
			k, err := packet.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			got = got || k.Version == 6 && e(&k, false)
		}
		if got != want {
			t.Errorf("%s: selects an IPv6 packet: %v", expr, got)
		}
	}
}

// TestExpressionEvents: what belongs to a connection goes with its packets.
func TestExpressionEvents(t *testing.T) {
	e, err := ParseExpression("capture", []string{"tcp", "dst", "port", "80", "and", "src", "host", "10.9.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		remote string
		want   bool
	}{{"10.9.0.1:55402", true}, {"10.9.0.3:55402", false}, {"[fd00:9::1]:9", false}} {
		local := ap("10.9.0.2:80")
		for _, ev := range []stack.Event{
			{State: &stack.StateEvent{Local: local, Remote: ap(tt.remote)}},
			{Sample: &stack.SampleEvent{Local: local, Remote: ap(tt.remote)}},
			{Timer: &stack.TimerEvent{Local: local, Remote: ap(tt.remote)}},
		} {
			if e.Selects(&ev) != tt.want {
				t.Errorf("%s: %+v: want %v", tt.remote, ev, tt.want)
			}
		}
	}
	if !e.Selects(&stack.Event{Call: &stack.CallEvent{}}) || e.Selects(&stack.Event{Link: &stack.LinkEvent{Data: []byte("no packet")}}) {
		t.Error("a call goes with all, and what is no packet with none")
	}
}

// FuzzExpression: any words are read or refused, and what was read can be asked.
func FuzzExpression(f *testing.F) {
	for _, e := range clitest.Expressions {
		f.Add(e)
	}
	packets := clitest.Packets(f)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := ParseExpression("tcpdump", []string{text})
		if err != nil || e == nil {
			return
		}
		for _, p := range packets {
			k, err := packet.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			e(&k, p.Direction == capture.Out)
		}
	})
}
