package main

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

// exprPackets are packets of many kinds, with their directions.
func exprPackets(t testing.TB) (all []capture.Packet) {
	add := func(d capture.Direction, size int, ls ...gopacket.SerializableLayer) {
		buf := gopacket.NewSerializeBuffer()
		ls = append(ls, gopacket.Payload(make([]byte, size)))
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 7, 1, 23, 59, 58, 123456789, time.UTC).Add(time.Duration(len(all)) * 1700 * time.Millisecond)
		all = append(all, capture.Packet{Time: at, Direction: d, Data: append([]byte(nil), buf.Bytes()...)})
	}
	v4 := func(proto layers.IPProtocol, src, dst byte) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: net.IP{10, 9, 0, src}, DstIP: net.IP{10, 9, 0, dst}}
	}
	v6 := func(proto layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00:9::1"), DstIP: net.ParseIP("fd00:9::2")}
	}
	type network interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	tcp := func(d capture.Direction, ip network, h layers.TCP, size int) {
		h.SetNetworkLayerForChecksum(ip)
		add(d, size, ip, &h)
	}
	udp := func(ip network, src, dst layers.UDPPort) {
		h := layers.UDP{SrcPort: src, DstPort: dst}
		h.SetNetworkLayerForChecksum(ip)
		add(capture.In, 9, ip, &h)
	}
	tcp(capture.In, v4(6, 1, 2), layers.TCP{SrcPort: 40000, DstPort: 5100, Seq: 100, SYN: true, Window: 500}, 0)
	tcp(capture.Out, v4(6, 2, 1), layers.TCP{SrcPort: 5100, DstPort: 40000, Seq: 900, Ack: 101, SYN: true, ACK: true, Window: 500}, 0)
	tcp(capture.In, v4(6, 1, 2), layers.TCP{SrcPort: 40000, DstPort: 5100, Seq: 101, Ack: 901, ACK: true, PSH: true, Window: 500}, 300)
	tcp(capture.Out, v4(6, 3, 3), layers.TCP{SrcPort: 22, DstPort: 443, Seq: 5, RST: true}, 0)
	tcp(capture.Out, v6(6), layers.TCP{SrcPort: 22, DstPort: 5101, Seq: 5, Ack: 6, ACK: true, FIN: true}, 30)
	udp(v4(17, 1, 2), 40000, 9999)
	udp(v6(17), 5100, 1)
	add(capture.In, 50, v4(1, 1, 2), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 3, Seq: 1})
	i6 := v6(58)
	echo := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	echo.SetNetworkLayerForChecksum(i6)
	add(capture.Out, 8, i6, echo)
	return all
}

// exprExamples are expressions that tcpdump understands too.
var exprExamples = []string{
	"", "tcp", "udp", "icmp", "icmp6", "ip", "ip6", "host 10.9.0.1", "src host 10.9.0.1", "dst 10.9.0.2", "host fd00:9::2", "ip6 host fd00:9::1",
	"net 10.9.0.2/31", "dst net 10.9.0.2/31", "net fd00:9::/32", "src net 10.9.0.0/30", "port 5100", "src port 5100", "dst port 5100", "tcp port 5100", "udp port 5100", "portrange 5100-5101",
	"tcp src portrange 20-30", "not tcp", "! tcp", "!tcp", "tcp and not port 22", "tcp or udp and port 5100", "tcp or (udp and port 5100)", "(tcp or udp) and port 5100",
	"not (tcp or udp)", "port 22 or 9999", "host 10.9.0.1 or 10.9.0.2", "not host 10.9.0.1 and 10.9.0.2", "tcp port 22 or 443 || udp", "tcp && ip6", "less 40", "greater 300", "src host 10.9.0.1 and dst port 5100 and not icmp",
}

// TestExpressionFragment: a fragment that is not the first has addresses and a protocol, and no ports.
func TestExpressionFragment(t *testing.T) {
	k := &packet.Packet{Version: 4, Src: ap("10.9.0.1:1").Addr(), Dst: ap("10.9.0.2:1").Addr(), Proto: packet.ProtoUDP, Length: 60, Frag: packet.Fragment{ID: 7, Offset: 800}}
	for expr, want := range map[string]bool{"udp": true, "host 10.9.0.1": true, "greater 60": true, "port 0": false, "portrange 0-65535": false, "tcp": false} {
		e, err := parseExpression("tcpdump", []string{expr})
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
		{"tcp port http", `"http" at column 10`, "PORT"},
		{"port 65536", `"65536" at column 6`, "PORT"},
		{"tcp 80", `"80" at column 5`, "src, dst, host, net, port, portrange"},
		{"host example.com", `"example.com" at column 6`, "ADDRESS"},
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
		_, err := parseExpression("tcpdump", []string{tt.expr})
		var u *remedy.UsageError
		if !errors.As(err, &u) || !strings.Contains(u.Msg, tt.msg) || !strings.Contains(u.Remedy, tt.remedy) {
			t.Errorf("%q: %v (%+v), want %q and %q", tt.expr, err, u, tt.msg, tt.remedy)
		}
	}
}

// TestExpressionEvents: what belongs to a connection goes with its packets.
func TestExpressionEvents(t *testing.T) {
	e, err := parseExpression("capture", []string{"tcp", "dst", "port", "80", "and", "src", "host", "10.9.0.1"})
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
			if e.want(&ev) != tt.want {
				t.Errorf("%s: %+v: want %v", tt.remote, ev, tt.want)
			}
		}
	}
	if !e.want(&stack.Event{Call: &stack.CallEvent{}}) || e.want(&stack.Event{Link: &stack.LinkEvent{Data: []byte("no packet")}}) {
		t.Error("a call goes with all, and what is no packet with none")
	}
}

// FuzzExpression: any words are read or refused, and what was read can be asked.
func FuzzExpression(f *testing.F) {
	for _, e := range exprExamples {
		f.Add(e)
	}
	packets := exprPackets(f)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression("tcpdump", []string{text})
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
