package stack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
)

// newRouter returns a stack that forwards between cat0, of an MTU of 1500, and cat1, of 1300.
func newRouter(t *testing.T) (from, to *wire) {
	t.Helper()
	to = &wire{ep: channel.New(1<<12, 1300, "")}
	from = newWire(t, Config{Forwarding: true, Links: []Link{{Name: "cat1", Endpoint: to.ep, Addrs: []netip.Prefix{pfx("10.8.0.2/24"), pfx("fd00:8::2/64")}}}})
	to.s = from.s
	return from, to
}

// routed are two hosts, one on each side of the router.
func routed(v6 bool) FourTuple {
	if v6 {
		return FourTuple{Network: "tcp", Src: netip.MustParseAddrPort("[fd00:9::1]:4000"), Dst: netip.MustParseAddrPort("[fd00:8::1]:80")}
	}
	return FourTuple{Network: "tcp", Src: netip.MustParseAddrPort("10.9.0.1:4000"), Dst: netip.MustParseAddrPort("10.8.0.1:80")}
}

// injectSuper hands the stack a packet as an offloading device does: of segments of mss bytes, with the pseudo-header's
// sum for a checksum.
func (w *wire) injectSuper(b []byte, mss int) {
	gso := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, L3HdrLen: header.IPv4MinimumSize, MSS: uint16(mss)}
	proto, addrs := ipv4.ProtocolNumber, b[12:20]
	if b[0]>>4 == 6 {
		gso.Type, gso.L3HdrLen, proto, addrs = stack.GSOTCPv6, header.IPv6MinimumSize, ipv6.ProtocolNumber, b[8:40]
	}
	l4 := int(gso.L3HdrLen)
	binary.BigEndian.PutUint16(b[l4+header.TCPChecksumOffset:], ^packet.Checksum(addrs, uint32(packet.ProtoTCP)+uint32(len(b)-l4)))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	pkt.GSOOptions = gso
	w.ep.InjectInbound(proto, pkt)
	pkt.DecRef()
}

// TestForwardSuperPacket: a router sends a super-packet on as the segments that it is on a wire.
func TestForwardSuperPacket(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		from, to := newRouter(t)
		data := strings.Repeat("0123456789", 1234)
		from.injectSuper(segment(t, routed(v6), packet.ACK|packet.PSH, 1000, 1, data), 1200)
		got := to.read(t) // which verifies checksums
		var all bytes.Buffer
		for _, p := range got {
			if p.TCP == nil || p.TTL != 63 || p.Src != routed(v6).Src.Addr() || p.TCP.Seq != 1000+uint32(all.Len()) || len(p.Payload) > 1200 {
				t.Fatalf("v6 %v: segment %v", v6, p)
			}
			all.Write(p.Payload)
		}
		if all.String() != data || len(got) != 11 {
			t.Errorf("v6 %v: %d bytes in %d segments", v6, all.Len(), len(got))
		}
		if back := from.read(t); len(back) != 0 {
			t.Errorf("v6 %v: the sender was told %v", v6, back)
		}
		// A single segment whose checksum was left to the device.
		from.injectSuper(segment(t, routed(v6), packet.ACK, 5000, 1, "meow"), 1200)
		if got := to.read(t); len(got) != 1 || string(got[0].Payload) != "meow" {
			t.Errorf("v6 %v: %v", v6, got)
		}
	}
}

// TestForwardTooBig: the sender of what does not fit the next link is told that link's MTU.
func TestForwardTooBig(t *testing.T) {
	// sized is a segment of that many bytes in all.
	sized := func(t *testing.T, v6 bool, size int, hops uint8, df bool) []byte {
		f := routed(v6)
		ip := ipLayer(f.Src.Addr(), f.Dst.Addr(), layers.IPProtocolTCP)
		headers := 40
		switch ip := ip.(type) {
		case *layers.IPv4:
			ip.TTL = hops
			if df {
				ip.Flags = layers.IPv4DontFragment
			}
		case *layers.IPv6:
			ip.HopLimit = hops
			headers = 60
		}
		h := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 1, ACK: true, Window: 65535}
		h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
		return serialize(t, ip, h, gopacket.Payload(bytes.Repeat([]byte("m"), size-headers)))
	}
	for _, c := range []struct {
		name           string
		v6, df         bool
		size, mss      int // mss > 0: a super-packet
		hops           uint8
		packets        int  // that go on
		told, timeOver bool // the sender
	}{
		{name: "IPv6 that fits", v6: true, size: 1300, hops: 64, packets: 1},
		{name: "IPv6", v6: true, size: 1301, hops: 64, told: true},
		{name: "IPv6 on its last hop", v6: true, size: 1301, hops: 1, timeOver: true},
		{name: "IPv6 in a super-packet", v6: true, size: 9000, mss: 1241, hops: 64, told: true},
		{name: "IPv6 in a super-packet that fits", v6: true, size: 9000, mss: 1240, hops: 64, packets: 8},
		{name: "IPv4 that fits", df: true, size: 1300, hops: 64, packets: 1},
		{name: "IPv4", df: true, size: 1301, hops: 64, told: true},
		{name: "IPv4 that may be cut", size: 1301, hops: 64, packets: 2},
		{name: "IPv4 in a super-packet", df: true, size: 9000, mss: 1261, hops: 64, told: true},
		{name: "IPv4 in a super-packet that may be cut", size: 2602, mss: 1281, hops: 64, packets: 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := newRouter(t)
			sub := from.s.Subscribe(t.Context(), 64)
			b := sized(t, c.v6, c.size, c.hops, c.df)
			if c.mss > 0 {
				from.injectSuper(b, c.mss)
			} else {
				from.inject(b)
			}
			if got := to.raw(); len(got) != c.packets {
				t.Errorf("%d packets went on, want %d", len(got), c.packets)
			}
			back, drop := from.read(t), ""
			if ev := <-sub.Events(); ev.Packet != nil {
				drop = ev.Packet.Drop
			}
			var want uint64
			if c.told {
				want = 1
			}
			if n := from.s.Drops().TooBig; n != want || (drop == dropTooBig) != c.told {
				t.Errorf("%d packets were counted as too big, and the event says %q", n, drop)
			}
			switch {
			case c.told || c.timeOver:
				if len(back) != 1 || back[0].ICMP == nil || back[0].Dst != routed(c.v6).Src.Addr() {
					t.Fatalf("the sender was told %v", back)
				}
				kind := fmt.Sprint(back[0].ICMP.Type, "/", back[0].ICMP.Code)
				wanted := map[[2]bool]string{{false, true}: "3/4", {true, true}: "2/0", {false, false}: "11/0", {true, false}: "3/0"}[[2]bool{c.v6, c.told}]
				if kind != wanted || c.told && back[0].ICMP.Rest != 1300 {
					t.Errorf("the sender was told %s with %d, want %s", kind, back[0].ICMP.Rest, wanted)
				}
			case len(back) != 0:
				t.Errorf("the sender was told %v", back)
			}
		})
	}
}
