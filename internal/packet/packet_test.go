package packet_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"go.uber.org/goleak"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build serializes with gopacket: the bytes under test come from another implementation than the decoder.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: net.IP{10, 9, 0, 1}, DstIP: net.IP{10, 9, 0, 2}}
}

func ip6(proto layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00:9::1"), DstIP: net.ParseIP("fd00:9::2")}
}

// networkLayer is what gopacket needs for a pseudo-header.
type networkLayer interface {
	gopacket.SerializableLayer
	gopacket.NetworkLayer
}

func tcp(t testing.TB, ip networkLayer, h layers.TCP, payload string) []byte {
	if h.SrcPort == 0 {
		h.SrcPort, h.DstPort = 55402, 80
	}
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ip, &h, gopacket.Payload(payload))
}

func udp(t testing.TB, ip networkLayer, payload string) []byte {
	h := layers.UDP{SrcPort: 5001, DstPort: 5002}
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ip, &h, gopacket.Payload(payload))
}

func icmp6(t testing.TB, typ, code uint8, rest ...byte) []byte {
	ip := ip6(layers.IPProtocolICMPv6)
	h := layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, code)}
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	return build(t, ip, &h, gopacket.Payload(rest))
}

func opt(kind layers.TCPOptionKind, data ...byte) layers.TCPOption {
	n := uint8(2 + len(data))
	if kind < 2 {
		n = 1
	}
	return layers.TCPOption{OptionType: kind, OptionLength: n, OptionData: data}
}

// reply turns addresses and ports around.
func reply(ip *layers.IPv4, h layers.TCP) (*layers.IPv4, layers.TCP) {
	ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
	h.SrcPort, h.DstPort = 80, 55402
	return ip, h
}

// examples are packets with the line that tcpdump -n prints for each, in order, in one capture.
func examples(t testing.TB) (packets [][]byte, want []string) {
	add := func(b []byte, line string) { packets, want = append(packets, b), append(want, line) }

	add(tcp(t, ip4(6), layers.TCP{Seq: 1000, SYN: true, Window: 64240, Options: []layers.TCPOption{
		opt(2, 0x05, 0xb4), opt(4), opt(8, 0, 0, 0, 1, 0, 0, 0, 0), opt(1), opt(3, 7)}}, ""),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [S], seq 1000, win 64240, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0")
	ip, h := reply(ip4(6), layers.TCP{Seq: 5000, Ack: 1001, SYN: true, ACK: true, Window: 65535, Options: []layers.TCPOption{opt(2, 0x05, 0xb4)}})
	add(tcp(t, ip, h, ""),
		"IP 10.9.0.2.80 > 10.9.0.1.55402: Flags [S.], seq 5000, ack 1001, win 65535, options [mss 1460], length 0")
	add(tcp(t, ip4(6), layers.TCP{Seq: 1001, Ack: 5001, ACK: true, Window: 502}, ""),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [.], ack 1, win 502, length 0")
	add(tcp(t, ip4(6), layers.TCP{Seq: 1001, Ack: 5001, ACK: true, PSH: true, Window: 502}, "\x01 meow \x02"),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [P.], seq 1:9, ack 1, win 502, length 8")
	ip, h = reply(ip4(6), layers.TCP{Seq: 5001, Ack: 1009, ACK: true, Window: 502, Options: []layers.TCPOption{
		opt(1), opt(1), opt(5, 0, 0, 3, 0xf7, 0, 0, 3, 0xfb)}})
	add(tcp(t, ip, h, ""),
		"IP 10.9.0.2.80 > 10.9.0.1.55402: Flags [.], ack 9, win 502, options [nop,nop,sack 1 {15:19}], length 0")
	add(tcp(t, ip4(6), layers.TCP{Seq: 1009, Ack: 5001, ACK: true, FIN: true, URG: true, ECE: true, CWR: true, Urgent: 3, Window: 1,
		Options: []layers.TCPOption{opt(34), opt(99, 1, 2), opt(0)}}, ""),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [F.UEW], seq 9, ack 1, win 1, urg 3, options [tfo  cookiereq,unknown-99 0x0102,eol], length 0")
	add(tcp(t, ip4(6), layers.TCP{Seq: 1010, RST: true}, ""),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [R], seq 1010, win 0, length 0")
	add(tcp(t, ip4(6), layers.TCP{}, ""),
		"IP 10.9.0.1.55402 > 10.9.0.2.80: Flags [none], win 0, length 0")
	add(tcp(t, ip6(6), layers.TCP{Seq: 1, SYN: true, Window: 9}, ""),
		"IP6 fd00:9::1.55402 > fd00:9::2.80: Flags [S], seq 1, win 9, length 0")
	add(udp(t, ip6(17), "four"), "IP6 fd00:9::1.5001 > fd00:9::2.5002: UDP, length 4")

	quoted := udp(t, ip4(17), "four")
	for _, m := range []struct {
		typ, code uint8
		id, seq   uint16
		quote     []byte
		want      string
	}{
		{8, 0, 3, 4, []byte("12345678"), "echo request, id 3, seq 4, length 16"},
		{0, 0, 3, 4, nil, "echo reply, id 3, seq 4, length 8"},
		{3, 0, 0, 0, quoted, "net 10.9.0.2 unreachable, length 40"},
		{3, 1, 0, 0, quoted, "host 10.9.0.2 unreachable, length 40"},
		{3, 2, 0, 0, quoted, "10.9.0.2 protocol 17 unreachable, length 40"},
		{3, 4, 0, 1000, quoted, "10.9.0.2 unreachable - need to frag (mtu 1000), length 40"},
		{3, 4, 0, 0, quoted, "10.9.0.2 unreachable - need to frag, length 40"},
		{3, 13, 0, 0, quoted, "host 10.9.0.2 unreachable - admin prohibited filter, length 40"},
		{11, 0, 0, 0, quoted, "time exceeded in-transit, length 40"},
		{11, 1, 0, 0, quoted, "ip reassembly time exceeded, length 40"},
		{12, 0, 20 << 8, 0, quoted, "parameter problem - octet 20, length 40"},
	} {
		add(build(t, ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(m.typ, m.code), Id: m.id, Seq: m.seq}, gopacket.Payload(m.quote)),
			"IP 10.9.0.1 > 10.9.0.2: ICMP "+m.want)
	}
	segment := tcp(t, ip4(6), layers.TCP{}, "")
	add(build(t, ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, gopacket.Payload(segment[:28])),
		"IP 10.9.0.1 > 10.9.0.2: ICMP 10.9.0.2 tcp port 80 unreachable, length 36")

	add(icmp6(t, 2, 0, append([]byte{0, 0, 5, 0}, udp(t, ip6(17), "x")...)...),
		"IP6 fd00:9::1 > fd00:9::2: ICMP6, packet too big, mtu 1280, length 57")
	add(icmp6(t, 1, 4, append([]byte{0, 0, 0, 0}, udp(t, ip6(17), "x")...)...),
		"IP6 fd00:9::1 > fd00:9::2: ICMP6, destination unreachable, unreachable port, fd00:9::2 udp port 5002, length 57")
	add(icmp6(t, 128, 0, 0, 1, 0, 2), "IP6 fd00:9::1 > fd00:9::2: ICMP6, echo request, id 1, seq 2, length 8")
	add(icmp6(t, 4, 1, append([]byte{0, 0, 0, 40}, udp(t, ip6(17), "x")...)...),
		"IP6 fd00:9::1 > fd00:9::2: ICMP6, parameter problem, next header - octet 40, length 57")
	return packets, want
}

func TestTrackerFormat(t *testing.T) {
	packets, want := examples(t)
	tracker := packet.NewTracker()
	for i, b := range packets {
		p, err := packet.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", want[i], err)
		}
		if err := p.Verify(); err != nil {
			t.Errorf("%s: %v", want[i], err)
		}
		if got := tracker.Format(p); got != want[i] {
			t.Errorf("packet %d:\n got %s\nwant %s", i, got, want[i])
		}
	}
}

// TestTcpdump holds the expected lines against those of the tool whose format they follow.
func TestTcpdump(t *testing.T) {
	testenv.Require(t, "tcpdump")
	packets, want := examples(t)
	file := filepath.Join(t.TempDir(), "examples.pcap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, b := range packets {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "-n", "-t", "-r", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("tcpdump printed %d lines for %d packets:\n%s", len(lines), len(want), out)
	}
	for i, line := range lines {
		line, _, _ = strings.Cut(line, ": HTTP") // tcpdump goes on into the application's data
		if line != want[i] {
			t.Errorf("packet %d:\ntcpdump: %s\n   want: %s", i, line, want[i])
		}
	}
}

func TestTrackerRelativeSYN(t *testing.T) {
	packets, _ := examples(t)
	tracker := packet.NewTracker()
	tracker.RelativeSYN = true
	for i, want := range []string{
		"Flags [S], seq 0, win 64240, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0",
		"Flags [S.], seq 0, ack 1, win 65535, options [mss 1460], length 0",
		"Flags [.], ack 1, win 502, length 0",
	} {
		p, err := packet.Parse(packets[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(tracker.Format(p), ": "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestFragments(t *testing.T) {
	whole := ip4(17)
	whole.Flags = layers.IPv4MoreFragments
	first, err := packet.Parse(udp(t, whole, "sixteen bytes..."))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := first.String(), "IP 10.9.0.1.5001 > 10.9.0.2.5002: UDP, length 16 (frag 7:24@0+)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	rest := ip4(17)
	rest.FragOffset = 3
	second, err := packet.Parse(build(t, rest, gopacket.Payload("tail")))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := second.String(), "IP 10.9.0.1 > 10.9.0.2: udp (frag 7:4@24)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if second.UDP != nil || second.Frag.Offset != 24 {
		t.Errorf("second fragment: UDP %v, offset %d", second.UDP, second.Frag.Offset)
	}

	// The first fragment of an IPv6 packet, behind a hop-by-hop header of padding.
	v6 := ip6(packet.ProtoHopByHop)
	ext := []byte{packet.ProtoFragment, 0, 1, 4, 0, 0, 0, 0, packet.ProtoUDP, 0, 0, 1, 0, 0, 0, 9, 0x13, 0x89, 0x13, 0x8a, 0, 108, 0, 0}
	p, err := packet.Parse(build(t, v6, gopacket.Payload(ext)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.String(), "IP6 fd00:9::1.5001 > fd00:9::2.5002: frag (0|8) UDP, length 100"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if p.Frag != (packet.Fragment{ID: 9, MF: true}) {
		t.Errorf("fragment %+v", p.Frag)
	}
}

func TestVerifyFindsCorruption(t *testing.T) {
	packets, want := examples(t)
	for i, b := range packets {
		for _, at := range []int{8, len(b) - 1} { // a byte of the IP header (IPv4 only is summed), the last byte
			if at == 8 && b[0]>>4 == 6 {
				continue
			}
			bad := bytes.Clone(b)
			bad[at] ^= 0x10
			p, err := packet.Parse(bad)
			if err != nil {
				continue
			}
			if p.Verify() == nil {
				t.Errorf("%s: a wrong byte at %d went unnoticed", want[i], at)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	good := tcp(t, ip4(6), layers.TCP{SYN: true}, "")
	for n := range len(good) {
		if _, err := packet.Parse(good[:n]); !errors.Is(err, packet.ErrTruncated) {
			t.Errorf("%d of %d bytes: error %v, want %v", n, len(good), err, packet.ErrTruncated)
		}
	}
	version := bytes.Clone(good)
	version[0] = 0x55
	if _, err := packet.Parse(version); err == nil || !strings.Contains(err.Error(), "IP version 5") {
		t.Errorf("version 5: error %v", err)
	}
	options := tcp(t, ip4(6), layers.TCP{SYN: true, Options: []layers.TCPOption{opt(2, 5, 0xb4)}}, "")
	options[41] = 40 // the MSS option claims 40 bytes
	p, err := packet.Parse(options)
	if err != nil || p.TCP.BadOptions == nil {
		t.Errorf("option length 40: error %v, BadOptions %v", err, p.TCP.BadOptions)
	}
}

// TestParseStart: the headers of a packet say what is not there any more.
func TestParseStart(t *testing.T) {
	b := tcp(t, ip4(6), layers.TCP{Seq: 7, ACK: true, Options: []layers.TCPOption{opt(5, 1, 2, 3, 4, 5, 6, 7, 8)}}, strings.Repeat("purr", 300))
	whole, err := packet.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{len(b), 100, 52} {
		if p, err := packet.ParseStart(b[:n:n], len(b)); err != nil || p.String() != whole.String() || len(p.Payload) != 1200 {
			t.Errorf("%d of %d bytes: %v, %s; want %s", n, len(b), err, p, whole)
		}
	}
	for _, length := range []int{-1, 0, 30, math.MaxInt} {
		if _, err := packet.ParseStart(b[:20], length); !errors.Is(err, packet.ErrTruncated) {
			t.Errorf("20 bytes of a packet of %d: %v", length, err)
		}
	}
}

// TestParseAgrees builds random segments with gopacket and compares every field.
func TestParseAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		h := layers.TCP{
			SrcPort: layers.TCPPort(1 + rng.Uint32N(65535)), DstPort: layers.TCPPort(rng.Uint32N(65536)),
			Seq: rng.Uint32(), Ack: rng.Uint32(), Window: uint16(rng.Uint32()), Urgent: uint16(rng.Uint32()),
			SYN: rng.IntN(2) == 0, ACK: rng.IntN(2) == 0, FIN: rng.IntN(2) == 0, RST: rng.IntN(2) == 0,
			PSH: rng.IntN(2) == 0, URG: rng.IntN(2) == 0, ECE: rng.IntN(2) == 0, CWR: rng.IntN(2) == 0, NS: rng.IntN(2) == 0,
		}
		for range rng.IntN(4) {
			h.Options = append(h.Options, opt(layers.TCPOptionKind(2+rng.IntN(200)), bytes.Repeat([]byte{7}, rng.IntN(8))...))
		}
		payload := strings.Repeat("x", rng.IntN(100))
		ip := networkLayer(ip4(6))
		if rng.IntN(2) == 0 {
			ip = ip6(6)
		}
		p, err := packet.Parse(tcp(t, ip, h, payload))
		if err != nil {
			t.Fatal(err)
		}
		var flags packet.Flags
		for i, set := range []bool{h.FIN, h.SYN, h.RST, h.PSH, h.ACK, h.URG, h.ECE, h.CWR, h.NS} {
			if set {
				flags |= 1 << i
			}
		}
		got := p.TCP
		if got.SrcPort != uint16(h.SrcPort) || got.DstPort != uint16(h.DstPort) || got.Seq != h.Seq || got.Ack != h.Ack ||
			got.Window != h.Window || got.Urgent != h.Urgent || got.Flags != flags || string(p.Payload) != payload {
			t.Fatalf("%s\nis not %+v", p, h)
		}
		for i, o := range h.Options {
			if got.Options[i].Kind != uint8(o.OptionType) || !bytes.Equal(got.Options[i].Data, o.OptionData) {
				t.Fatalf("option %d: got %v, want %v", i, got.Options[i], o)
			}
		}
		if err := p.Verify(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	packets, _ := examples(f)
	for _, b := range packets {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := packet.Parse(b)
		if err != nil {
			return
		}
		if s := p.String(); !strings.HasPrefix(s, "IP") {
			t.Errorf("text %q", s)
		}
		_ = packet.NewTracker().Format(p)
		_ = p.Verify()
		if q, ok := p.Quoted(); ok {
			_ = q.String()
		}
	})
}
