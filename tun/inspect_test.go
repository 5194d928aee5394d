package tun

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// build serializes layers with all lengths and checksums, by a second implementation.
func build(t testing.TB, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

var (
	src4, dst4 = net.IPv4(192, 0, 2, 1), net.IPv4(192, 0, 2, 2)
	src6, dst6 = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2")
)

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src4, DstIP: dst4}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: src6, DstIP: dst6}
}

func tcpOver(ip gopacket.NetworkLayer) *layers.TCP {
	l := &layers.TCP{SrcPort: 1234, DstPort: 80, ACK: true, Window: 1000}
	l.SetNetworkLayerForChecksum(ip)
	return l
}

func udpOver(ip gopacket.NetworkLayer) *layers.UDP {
	l := &layers.UDP{SrcPort: 1234, DstPort: 53}
	l.SetNetworkLayerForChecksum(ip)
	return l
}

func randomPayload(n int) gopacket.Payload {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// split is b in the pieces that an rxBuffer would read it into.
func split(b []byte) frame {
	var f frame
	for _, size := range rxSizes {
		n := min(size, len(b))
		f = append(f, b[:n])
		if b = b[n:]; len(b) == 0 {
			break
		}
	}
	return f
}

// TestChecksumAgainstSecondImplementation verifies packets of each length that gopacket made, and refuses
// them with one bit wrong.
func TestChecksumAgainstSecondImplementation(t *testing.T) {
	v4t, v4u, v6t, v6u := ip4(layers.IPProtocolTCP), ip4(layers.IPProtocolUDP), ip6(layers.IPProtocolTCP), ip6(layers.IPProtocolUDP)
	lengths := []int{4000, 4035, 4036, 4037, 4055, 4056, 4057, 8191, 8192, 8193, 20000, 65000, 65001}
	for n := range 1600 {
		lengths = append(lengths, n)
	}
	for _, n := range lengths {
		payload := randomPayload(n)
		for name, b := range map[string][]byte{
			"TCP/IPv4": build(t, v4t, tcpOver(v4t), payload),
			"UDP/IPv4": build(t, v4u, udpOver(v4u), payload),
			"TCP/IPv6": build(t, v6t, tcpOver(v6t), payload),
			"UDP/IPv6": build(t, v6u, udpOver(v6u), payload),
		} {
			if _, gso, v := inspect(vnetHdr{}, split(b)); v != accept || gso != (stack.GSO{}) {
				t.Fatalf("%s with %d bytes: verdict %d, gso %+v; want it accepted", name, n, v, gso)
			}
			at := len(b) - 1
			if n == 0 {
				at -= 18 // in a TCP header
				if strings.HasPrefix(name, "UDP") {
					at = len(b) - 8 // the source port
				}
			}
			b[at] ^= 1 << (n % 8)
			if _, _, v := inspect(vnetHdr{}, split(b)); v != dropBadChecksum {
				t.Fatalf("%s with %d bytes: verdict %d with a wrong bit at %d, want %d", name, n, v, at, dropBadChecksum)
			}
		}
	}
}

// TestSumAgainstNaive compares frame.sum with RFC 1071's definition at each length and offset.
func TestSumAgainstNaive(t *testing.T) {
	naive := func(b []byte) uint16 {
		var sum uint32
		for i, c := range b {
			if i%2 == 0 {
				sum += uint32(c) << 8
			} else {
				sum += uint32(c)
			}
		}
		for sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
		return uint16(sum)
	}
	b := randomPayload(9000)
	for end := range 600 {
		for _, start := range []int{0, min(20, end), min(41, end)} {
			if got, want := split(b).sum(start, end, 0), naive(b[start:end]); got != want {
				t.Fatalf("sum of bytes %d to %d: %#x, want %#x", start, end, got, want)
			}
		}
	}
	for start := 4050; start < 4140; start++ { // across the first and the second seam
		for _, end := range []int{start, start + 1, 8190, 8191, 8192, 8193, 9000} {
			if got, want := split(b).sum(start, end, 0), naive(b[start:end]); got != want {
				t.Fatalf("sum of bytes %d to %d: %#x, want %#x", start, end, got, want)
			}
		}
	}
}

// TestInspect: what is believed of a header and what is not.
func TestInspect(t *testing.T) {
	v4, v6 := ip4(layers.IPProtocolTCP), ip6(layers.IPProtocolTCP)
	tcp4, tcp6 := build(t, v4, tcpOver(v4), randomPayload(3000)), build(t, v6, tcpOver(v6), randomPayload(3000))
	u4, u6 := ip4(layers.IPProtocolUDP), ip6(layers.IPProtocolUDP)
	udp4, udp6 := build(t, u4, udpOver(u4), randomPayload(100)), build(t, u6, udpOver(u6), randomPayload(100))
	partial := vnetHdr{flags: vnetNeedsCsum, csumStart: 20, csumOffset: 16}
	gso4 := vnetHdr{flags: vnetNeedsCsum, gsoType: vnetGSOTCPv4, gsoSize: 1448, csumStart: 20, csumOffset: 16}
	gso6 := vnetHdr{flags: vnetNeedsCsum, gsoType: vnetGSOTCPv6, gsoSize: 1428, csumStart: 40, csumOffset: 16}

	with := func(h vnetHdr, change func(*vnetHdr)) vnetHdr { change(&h); return h }
	edit := func(b []byte, change func([]byte)) []byte { b = bytes.Clone(b); change(b); return b }
	// An IPv4 header is changed together with its checksum.
	edit4 := func(b []byte, change func([]byte)) []byte {
		return edit(b, func(b []byte) {
			change(b)
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^frame{b}.sum(0, 20, 0))
		})
	}
	broken := func(b []byte) []byte { return edit(b, func(b []byte) { b[len(b)-1] ^= 1 }) }

	for _, tc := range []struct {
		why  string
		h    vnetHdr
		b    []byte
		want verdict
		gso  stack.GSO
	}{
		{"plain TCP/IPv4", vnetHdr{}, tcp4, accept, stack.GSO{}},
		{"plain TCP/IPv6", vnetHdr{}, tcp6, accept, stack.GSO{}},
		{"wrong TCP checksum", vnetHdr{}, broken(tcp4), dropBadChecksum, stack.GSO{}},
		{"wrong TCP checksum over IPv6", vnetHdr{}, broken(tcp6), dropBadChecksum, stack.GSO{}},
		{"the kernel has verified it", vnetHdr{flags: vnetDataValid}, broken(tcp4), accept, stack.GSO{}},
		{"the kernel left it to us", partial, broken(tcp4), accept, stack.GSO{NeedsCsum: true, L3HdrLen: 20, CsumOffset: 16}},
		{"super-packet", gso4, broken(tcp4), accept, stack.GSO{Type: stack.GSOTCPv4, MSS: 1448, NeedsCsum: true, L3HdrLen: 20, CsumOffset: 16}},
		{"super-packet over IPv6", gso6, broken(tcp6), accept, stack.GSO{Type: stack.GSOTCPv6, MSS: 1428, NeedsCsum: true, L3HdrLen: 40, CsumOffset: 16}},
		{"wrong IPv4 header checksum, even so", gso4, edit(tcp4, func(b []byte) { b[8]-- }), dropBadChecksum, stack.GSO{}},
		{"padding after the packet", vnetHdr{}, append(bytes.Clone(tcp4), 1, 2, 3), accept, stack.GSO{}},

		{"GSO of the other version", with(gso4, func(h *vnetHdr) { h.gsoType = vnetGSOTCPv6 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"GSO of an unknown type", with(gso4, func(h *vnetHdr) { h.gsoType = 7 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"UDP segmentation, which was not offered", with(gso4, func(h *vnetHdr) { h.gsoType = 5; h.csumOffset = 6 }), udp4, dropBadVnetHdr, stack.GSO{}},
		{"TCP segmentation of UDP", with(gso4, func(h *vnetHdr) { h.csumOffset = 6 }), udp4, dropBadVnetHdr, stack.GSO{}},
		{"GSO without a size", with(gso4, func(h *vnetHdr) { h.gsoSize = 0 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"GSO with a full checksum", with(gso4, func(h *vnetHdr) { h.flags = 0 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"GSO with the checksum elsewhere", with(gso4, func(h *vnetHdr) { h.csumStart = 24 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"GSO with the checksum at another offset", with(gso4, func(h *vnetHdr) { h.csumOffset = 6 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"checksum starts beyond the frame", with(partial, func(h *vnetHdr) { h.csumStart = 60000 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"checksum ends beyond the frame", with(partial, func(h *vnetHdr) { h.csumOffset = 65535 }), tcp4, dropBadVnetHdr, stack.GSO{}},
		{"checksum ends one byte beyond the frame", with(partial, func(h *vnetHdr) { h.csumStart = uint16(len(udp4) - 1); h.csumOffset = 0 }), udp4, dropBadVnetHdr, stack.GSO{}},
		{"checksum starts in the IP header", with(partial, func(h *vnetHdr) { h.csumStart = 12 }), tcp4, dropBadVnetHdr, stack.GSO{}},

		{"plain UDP", vnetHdr{}, udp4, accept, stack.GSO{}},
		{"wrong UDP checksum", vnetHdr{}, broken(udp4), dropBadChecksum, stack.GSO{}},
		{"UDP without a checksum", vnetHdr{}, edit(udp4, func(b []byte) { b[26], b[27] = 0, 0 }), accept, stack.GSO{}},
		{"UDP without a checksum over IPv6 (RFC 8200 section 8.1)", vnetHdr{}, edit(udp6, func(b []byte) { b[46], b[47] = 0, 0 }), dropBadChecksum, stack.GSO{}},
		{"partial UDP", vnetHdr{flags: vnetNeedsCsum, csumStart: 40, csumOffset: 6}, broken(udp6), accept, stack.GSO{NeedsCsum: true, L3HdrLen: 40, CsumOffset: 6}},

		{"empty", vnetHdr{}, nil, dropNotIP, stack.GSO{}},
		{"neither version", vnetHdr{}, []byte{0x50, 0, 0}, dropNotIP, stack.GSO{}},
		{"half an IPv4 header", vnetHdr{}, tcp4[:10], dropTruncated, stack.GSO{}},
		{"half an IPv6 header", vnetHdr{}, tcp6[:39], dropTruncated, stack.GSO{}},
		{"IPv4 shorter than it says", vnetHdr{}, tcp4[:100], dropTruncated, stack.GSO{}},
		{"IPv6 shorter than it says", vnetHdr{}, tcp6[:100], dropTruncated, stack.GSO{}},
		{"IPv4 header of 16 bytes", vnetHdr{}, edit(tcp4, func(b []byte) { b[0] = 0x44 }), dropTruncated, stack.GSO{}},
		{"IPv4 ends within its TCP header", vnetHdr{}, edit4(tcp4, func(b []byte) { b[2], b[3] = 0, 30 }), dropTruncated, stack.GSO{}},
		{"IPv4 ends within its own header", vnetHdr{}, edit4(tcp4, func(b []byte) { b[2], b[3] = 0, 19 }), dropTruncated, stack.GSO{}},
		{"a fragment cannot be verified", vnetHdr{}, edit4(broken(udp4), func(b []byte) { b[6] = 0x20 }), accept, stack.GSO{}},
		{"the last fragment neither", vnetHdr{}, edit4(broken(udp4), func(b []byte) { b[7] = 1 }), accept, stack.GSO{}},
		{"ICMP is verified by netstack", vnetHdr{}, edit4(broken(udp4), func(b []byte) { b[9] = 1 }), accept, stack.GSO{}},
	} {
		_, gso, v := inspect(tc.h, split(bytes.Clone(tc.b)))
		if v != tc.want || gso != tc.gso {
			t.Errorf("%s: verdict %d with %+v, want %d with %+v", tc.why, v, gso, tc.want, tc.gso)
		}
	}
}

// TestInspectExtensionHeaders: the checksum of what follows IPv6 extension headers is found and verified.
func TestInspectExtensionHeaders(t *testing.T) {
	ip := ip6(layers.IPProtocolTCP)
	segment := build(t, ip, tcpOver(ip), randomPayload(64))[40:]
	packet := func(first uint8, rest ...[]byte) []byte {
		payload := bytes.Join(append(rest, segment), nil)
		return build(t, ip6(layers.IPProtocol(first)), gopacket.Payload(payload))
	}
	hop := func(next uint8) []byte { return []byte{next, 0, 1, 4, 0, 0, 0, 0} }
	long := append([]byte{6, 1, 1, 12}, make([]byte, 12)...)
	for _, tc := range []struct {
		why  string
		b    []byte
		want verdict // with a wrong bit in the last byte
	}{
		{"none", packet(6), dropBadChecksum},
		{"hop-by-hop", packet(0, hop(6)), dropBadChecksum},
		{"hop-by-hop, destination options of 16 bytes", packet(0, hop(60), long), dropBadChecksum},
		{"fragment header of a whole packet (RFC 6946)", packet(44, []byte{6, 0, 0, 0, 0, 0, 0, 1}), dropBadChecksum},
		{"first fragment", packet(44, []byte{6, 0, 0, 1, 0, 0, 0, 1}), accept},
		{"later fragment", packet(44, []byte{6, 0, 0, 8, 0, 0, 0, 1}), accept},
		{"routing header, arrived", packet(43, []byte{6, 0, 0, 0, 0, 0, 0, 0}), dropBadChecksum},
		{"routing header, on its way", packet(43, []byte{6, 0, 0, 1, 0, 0, 0, 0}), accept},
	} {
		if _, _, v := inspect(vnetHdr{}, split(tc.b)); v != accept {
			t.Errorf("%s: verdict %d, want it accepted", tc.why, v)
		}
		tc.b[len(tc.b)-1] ^= 1
		if _, _, v := inspect(vnetHdr{}, split(tc.b)); v != tc.want {
			t.Errorf("%s, wrong bit: verdict %d, want %d", tc.why, v, tc.want)
		}
	}
	endless := build(t, ip6(0), gopacket.Payload(bytes.Repeat(hop(0), 2000)))
	if _, _, v := inspect(vnetHdr{}, split(endless)); v != dropTruncated {
		t.Errorf("16000 bytes of extension headers: verdict %d, want %d", v, dropTruncated)
	}
	if _, _, v := inspect(vnetHdr{}, split(build(t, ip6(0), gopacket.Payload([]byte{6, 9, 0, 0, 0, 0, 0, 0})))); v != dropTruncated {
		t.Errorf("extension header longer than the packet: verdict %d, want %d", v, dropTruncated)
	}
}

// TestInspectTunnel: a partial checksum deeper in the packet is completed in place.
func TestInspectTunnel(t *testing.T) {
	inner := ip4(layers.IPProtocolUDP)
	whole := build(t, inner, udpOver(inner), randomPayload(99))
	carried := bytes.Clone(whole)
	pseudo := frame{append(bytes.Clone(carried[12:20]), 0, 17, carried[24], carried[25])}.sum(0, 12, 0)
	binary.BigEndian.PutUint16(carried[26:], pseudo) // as the kernel would leave it
	b := build(t, ip4(layers.IPProtocolIPv4), gopacket.Payload(carried))
	_, gso, v := inspect(vnetHdr{flags: vnetNeedsCsum, csumStart: 40, csumOffset: 6}, split(b))
	if v != accept || gso.NeedsCsum {
		t.Fatalf("verdict %d with %+v, want it accepted as complete", v, gso)
	}
	if !bytes.Equal(b[20:], whole) {
		t.Errorf("inner checksum is %x, want %x", b[46:48], whole[26:28])
	}
}

func TestVnetHdrEncodeDecode(t *testing.T) {
	want := vnetHdr{flags: 1, gsoType: 4, gsoSize: 0x0102, csumStart: 0x0304, csumOffset: 0x0506}
	var b [vnetHdrLen]byte
	want.encode(b[:], 0x0708)
	if got := decodeVnetHdr(b[:]); got != want {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
	if got := binary.NativeEndian.Uint16(b[2:]); got != 0x0708 {
		t.Errorf("hdr_len is %#x, want 0x708", got)
	}
}

// FuzzInspect: no frame makes inspect panic, and one it calls verified a second implementation verifies too.
func FuzzInspect(f *testing.F) {
	for _, ip := range []interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}{ip4(layers.IPProtocolTCP), ip6(layers.IPProtocolTCP)} {
		for _, h := range []vnetHdr{{}, {flags: vnetNeedsCsum, csumStart: 20, csumOffset: 16}, {flags: vnetNeedsCsum, gsoType: vnetGSOTCPv4, gsoSize: 100, csumStart: 20, csumOffset: 16}} {
			var b [vnetHdrLen]byte
			h.encode(b[:], 0)
			f.Add(append(b[:], build(f, ip, tcpOver(ip), randomPayload(300))...))
		}
	}
	f.Add([]byte("0123456789"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < vnetHdrLen || len(b) > vnetHdrLen+maxFrame {
			return
		}
		h := decodeVnetHdr(b)
		original := bytes.Clone(b[vnetHdrLen:])
		_, gso, v := inspect(h, split(b[vnetHdrLen:]))
		if v != accept {
			if gso != (stack.GSO{}) {
				t.Errorf("dropped, yet gso is %+v", gso)
			}
			return
		}
		if h.flags&(vnetNeedsCsum|vnetDataValid) != 0 {
			return
		}
		if !bytes.Equal(original, b[vnetHdrLen:]) {
			t.Error("a complete packet was changed")
		}
		first := layers.LayerTypeIPv4
		if original[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		p := gopacket.NewPacket(original, first, gopacket.Default)
		if p.ErrorLayer() != nil || p.NetworkLayer() == nil {
			return
		}
		if l, ok := p.TransportLayer().(*layers.TCP); ok && len(p.Layers()) == 3 {
			l.SetNetworkLayerForChecksum(p.NetworkLayer())
			if err, r := l.VerifyChecksum(); err == nil && !r.Valid {
				t.Errorf("accepted with checksum %#x, gopacket wants %#x: %s", r.Actual, r.Correct, fmt.Sprint(p))
			}
		}
	})
}
