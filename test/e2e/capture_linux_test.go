package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

// traffic is what is captured: small and large answers, an upload, many connections at once, refused connections,
// pings, and a UDP port where nobody is. URL and HOST stand for the server's.
const traffic = `
curl -sSg URL/ URL/cat.png URL/conn -o /dev/null -o /dev/null -o /dev/null
curl -sSg -o /dev/null URL/bytes/3000000
head -c 3000000 /dev/zero | curl -sSg -T - -o /dev/null URL/upload
for i in 1 2 3 4 5 6 7 8; do curl -sSg -o /dev/null URL/bytes/100000 & done; wait
curl -sg URL:81/
ping -q -c 2 -i 0.1 -s 1000 HOST
echo meow | nc -u -w 1 HOST 9999
`

// captured wraps a shell script so that tcpdump writes to FILE what crosses DEV meanwhile. PREFIX runs tcpdump elsewhere.
func captured(script, prefix, dev, file string) string {
	return strings.NewReplacer("PREFIX", prefix, "DEV", dev, "FILE", file, "SCRIPT", script, "MARKED", untilMarked(prefix, file)).Replace(`
PREFIX tcpdump --immediate-mode -B 65536 -s 0 -U -i DEV -w FILE 2>FILE.log & dump=$!
until grep -qs listening FILE.log; do sleep 0.02; done
( SCRIPT )
MARKED # tcpdump drops what it has not written when it is told to end
kill -INT $dump; wait $dump
`)
}

func trafficTo(url string) string {
	host := strings.Trim(strings.TrimPrefix(url, "http://"), "[]")
	return strings.NewReplacer("URL", "'"+url+"'", "HOST", host).Replace(traffic)
}

// frame is a packet as tshark reads it.
type frame struct {
	number, src, dst, sport, dport, info string
	len, tcpLen                          int
	bad                                  string // malformed, a bad checksum, expert information of severity error, which is for what must not happen
	summed                               bool   // tshark has looked at its TCP checksum
}

// read has tshark read a capture with all checksums validated.
func read(t testing.TB, file string) (frames []frame) {
	t.Helper()
	sums := []string{"ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	const bad, good, grave = "0", "1", 0x800000
	for _, f := range testenv.Tshark(t, file, "frame", append([]string{"frame.number", "_ws.col.Source", "_ws.col.Destination", "tcp.srcport", "tcp.dstport",
		"_ws.col.Info", "frame.len", "tcp.len", "_ws.malformed", "_ws.expert.severity", "_ws.expert.message"}, sums...)...) {
		number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
		r := frame{number: f[0], src: f[1], dst: f[2], sport: f[3], dport: f[4], info: f[5], len: number(6), tcpLen: number(7), summed: f[12] == bad || f[12] == good}
		wrong := f[8] != ""
		for _, severity := range strings.Split(f[9], ",") {
			n, _ := strconv.Atoi(severity)
			wrong = wrong || n >= grave
		}
		for i, field := range sums {
			if slices.Contains(strings.Split(f[11+i], ","), bad) {
				wrong, f[10] = true, f[10]+" ("+field+": bad)"
			}
		}
		if wrong {
			r.bad = strings.Join([]string{f[8], f[10]}, " ")
		}
		frames = append(frames, r)
	}
	return frames
}

// inspect returns what tshark holds against the packets of a capture.
func inspect(t testing.TB, frames []frame) (complaints []string) {
	t.Helper()
	// Linux writes a checksum of 0 as 0xffff, which is the same number in ones' complement (CSUM_MANGLED_0).
	const minusZero = "Checksum 0xffff instead of 0x0000"
	// On a busy machine a segment may be late and be sent again; that its bytes differ would be another error of tshark's.
	again := func(why string) bool {
		return strings.Contains(why, "New fragment overlaps old data (retransmission?)") && !strings.Contains(why, "Bad checksum") && !strings.Contains(why, "Malformed")
	}
	summed := 0
	for _, f := range frames {
		if f.summed {
			summed++
		}
		if f.bad != "" && !strings.Contains(f.bad, minusZero) && !again(f.bad) {
			complaints = append(complaints, fmt.Sprintf("frame %s: from %s: %s: %s", f.number, f.src, f.info, f.bad))
		}
	}
	if summed < 100 { // a packet whose checksums nobody looked at proves nothing
		t.Errorf("tshark has looked at the TCP checksums of %d packets only", summed)
	}
	return complaints
}

// TestCapture has tshark judge each packet that our stack sends, and that Linux sends to it.
//
// Where a checksum is not computed yet when tcpdump sees a packet, tshark would call it bad. With the water driver
// there is no such packet. With the offload driver all large ones are such, both ways: their checksums are left to
// whoever takes the packets further. So those are taken further: the client is on a second machine, behind a router
// and a cable without any offload, and there every packet, cut to segments by Linux as our virtio-net header asks, has to
// be complete. What crosses the TUN device itself is checked too, with a checksum that is whole or rightly begun.
func TestCapture(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl", "tcpdump", "tshark", "ping", "nc", "ip", "ethtool", "unshare", "nsenter")
	for _, url := range []string{url4, url6} {
		t.Run("water/"+url, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pcap")
			if r := inside(t, "water", captured(trafficTo(url), "", "cat0", file)); r.stderr != "" {
				t.Errorf("the script complains: %s", r.stderr)
			}
			for _, c := range inspect(t, read(t, file)) {
				t.Error(c)
			}
			wantTraffic(t, file)
		})
		t.Run("offload/"+url, func(t *testing.T) {
			dir := t.TempDir()
			near, far := filepath.Join(dir, "near"), filepath.Join(dir, "far")
			script := `
unshare --net -- sh -c 'echo up; exec sleep 1000' >` + dir + `/up & other=$!
until grep -qs up ` + dir + `/up; do sleep 0.02; done
ip link add r0 type veth peer name eth0
ip link set eth0 netns $other
there="nsenter --net=/proc/$other/ns/net --"
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
for end in "|r0|1" "$there|eth0|2"; do
	IFS='|' read -r at dev n <<EOF
$end
EOF
	$at ip addr add 10.9.1.$n/24 dev $dev
	$at ip addr add fd00:9:1::$n/64 dev $dev nodad
	$at ip link set $dev up
	$at ethtool -K $dev tx off rx off tso off gso off gro off >/dev/null
done
$there ip route add default via 10.9.1.1
$there ip -6 route add default via fd00:9:1::1
` + captured(captured("$there sh "+dir+"/traffic", "$there", "eth0", far), "", "cat0", near)
			if err := os.WriteFile(filepath.Join(dir, "traffic"), []byte(trafficTo(url)), 0o644); err != nil {
				t.Fatal(err)
			}
			r := inside(t, "offload", script)
			if r.stderr != "" {
				t.Errorf("the script complains: %s", r.stderr)
			}
			for _, c := range inspect(t, read(t, far)) {
				t.Errorf("behind the router: %s", c)
			}
			wantTraffic(t, far)
			offloaded := regexp.MustCompile(`Bad checksum`)
			for _, c := range inspect(t, read(t, near)) {
				if !offloaded.MatchString(c) {
					t.Errorf("on the device: %s", c)
				}
			}
			wantChecksumsBegun(t, near)
		})
	}
}

// packets yields the packets of a capture.
func packets(t testing.TB, file string, yield func(gopacket.CaptureInfo, layers.LinkType, []byte)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, info, err := r.ReadPacketData()
		if err != nil {
			return
		}
		yield(info, r.LinkType(), b)
	}
}

// wantTraffic: the capture holds what it is meant to hold.
func wantTraffic(t testing.TB, file string) {
	t.Helper()
	var syn, rst, icmp, bulk int
	packets(t, file, func(_ gopacket.CaptureInfo, link layers.LinkType, b []byte) {
		p := gopacket.NewPacket(b, link, gopacket.NoCopy)
		if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
			if tcp.SYN && tcp.ACK {
				syn++
			}
			if tcp.RST {
				rst++
			}
			if len(tcp.Payload) > 1000 {
				bulk++
			}
		}
		if p.Layer(layers.LayerTypeICMPv4) != nil || p.Layer(layers.LayerTypeICMPv6) != nil {
			icmp++
		}
	})
	if syn < 11 || rst < 1 || icmp < 6 || bulk < 200 {
		t.Errorf("captured %d SYN-ACKs, %d RSTs, %d ICMP packets, %d large segments; is that all?", syn, rst, icmp, bulk)
	}
}

// wantChecksumsBegun: each TCP checksum is whole, or is the sum of the pseudo-header alone, from which Linux goes on.
func wantChecksumsBegun(t testing.TB, file string) {
	t.Helper()
	whole, begun := 0, 0
	packets(t, file, func(_ gopacket.CaptureInfo, _ layers.LinkType, b []byte) {
		p, err := packet.Parse(b)
		if err != nil {
			t.Errorf("%x…: %v", b[:min(len(b), 40)], err)
			return
		}
		switch {
		case p.Verify() == nil:
			whole++
		case p.TCP != nil && p.TCP.Checksum == pseudoHeaderSum(p):
			begun++
		default:
			t.Errorf("%s: %v, and it is not the pseudo-header's sum %04x either", p.String(), p.Verify(), pseudoHeaderSum(p))
		}
	})
	if whole < 20 || begun < 20 {
		t.Errorf("%d whole checksums and %d begun ones; is that all?", whole, begun)
	}
}

// pseudoHeaderSum is RFC 9293's, section 3.1, folded and not inverted.
func pseudoHeaderSum(p packet.Packet) uint16 {
	var sum uint32
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
	}
	add(p.Src.AsSlice())
	add(p.Dst.AsSlice())
	length := p.Length - 20
	if p.Version == 6 {
		length = p.Length - 40
	}
	sum += uint32(p.Proto) + uint32(length)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TestInspect shows that inspect finds fault where there is some.
func TestInspect(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "tshark")
	tcp := func(change func([]byte)) []byte {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 9, 0, 1}, DstIP: []byte{10, 9, 0, 2}}
		h := &layers.TCP{SrcPort: 1000, DstPort: 80, SYN: true, Window: 1000, Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}}
		h.SetNetworkLayerForChecksum(ip)
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, h); err != nil {
			t.Fatal(err)
		}
		change(b.Bytes())
		return b.Bytes()
	}
	tests := []struct {
		name   string
		change func([]byte)
		want   string // in the complaint
	}{
		{"TCP checksum", func(b []byte) { b[36]++ }, "Bad checksum"},
		{"IP checksum", func(b []byte) { b[10]++ }, "Bad checksum"},
		{"TCP header longer than the packet", func(b []byte) { b[32] = 0xf0 }, "Malformed"},
	}
	file := filepath.Join(t.TempDir(), "pcap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	w.WriteFileHeader(65535, layers.LinkTypeRaw)
	for i := range 103 { // all but the first few are well
		change := func([]byte) {}
		if i < len(tests) {
			change = tests[i].change
		}
		b := tcp(change)
		if err := w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	got := inspect(t, read(t, file))
	if len(got) != len(tests) {
		t.Fatalf("complaints %q, want %d", got, len(tests))
	}
	for i, tt := range tests {
		if !strings.Contains(got[i], tt.want) {
			t.Errorf("%s: complaint %q, want %q", tt.name, got[i], tt.want)
		}
	}
}
