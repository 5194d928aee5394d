package conformance

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

var fragmentCases = []goCase{
	{header{8900, "3.7", "–", "A flood of first fragments does not fill the memory: the oldest are dropped, and newer datagrams are still put together.", ""}, "fragment-flood", "fragments_test.go", fragmentFlood("10.1.0.2", "10.1.0.1")},
	{header{8900, "3.7", "–", "The same over IPv6.", ""}, "fragment-flood-v6", "fragments_test.go", fragmentFlood("fd01::2", "fd01::1")},
}

// flood is how many bytes of fragments come in: twice what Linux keeps (net.ipv4.ipfrag_high_thresh, 4 MiB).
const flood = 8 << 20

// fragmentSize is that of a first fragment's data, a multiple of eight.
const fragmentSize = 1400

// echoRequest is an ICMP echo request of n bytes with its header, without the IP header, and the type of its answer.
func echoRequest(src, dst netip.Addr, n int) (l4 []byte, proto layers.IPProtocol, reply uint8) {
	data := gopacket.Payload(make([]byte, n-8))
	if src.Is4() {
		return serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7}, data), layers.IPProtocolICMPv4, 0
	}
	l3 := ip(src, dst, layers.IPProtocolICMPv6, 64).(gopacket.NetworkLayer)
	h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	h.SetNetworkLayerForChecksum(l3)
	return serialize(h, &layers.ICMPv6Echo{Identifier: 7}, data), layers.IPProtocolICMPv6, 129
}

// fragment is the part of l4 from one offset to another.
func fragment(src, dst netip.Addr, proto layers.IPProtocol, id uint32, l4 []byte, from, to int) []byte {
	more := to < len(l4)
	if src.Is4() {
		h := &layers.IPv4{Version: 4, TTL: 64, Id: uint16(id), Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice(), FragOffset: uint16(from / 8)}
		if more {
			h.Flags = layers.IPv4MoreFragments
		}
		return serialize(h, gopacket.Payload(l4[from:to]))
	}
	h := make([]byte, 8, 8+to-from) // RFC 8200 section 4.5
	h[0] = byte(proto)
	off := uint16(from)
	if more {
		off |= 1
	}
	h[2], h[3] = byte(off>>8), byte(off)
	h[4], h[5], h[6], h[7] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
	return serialize(ip(src, dst, layers.IPProtocolIPv6Fragment, 64), gopacket.Payload(append(h, l4[from:to]...)))
}

func fragmentFlood(from, to string) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, icmpHost)
		src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
		l4, proto, reply := echoRequest(src, dst, fragmentSize+400)
		part := func(id uint32, first bool) []packet.Packet {
			if first {
				return h.ask(fragment(src, dst, proto, id, l4, 0, fragmentSize))
			}
			return h.ask(fragment(src, dst, proto, id, l4, fragmentSize, len(l4)))
		}
		answered := func(got []packet.Packet) bool {
			return len(got) > 0 && (got[0].ICMP != nil && got[0].ICMP.Type == reply)
		}
		part(1, true)
		if !answered(part(1, false)) {
			t.Fatal("two fragments were not put together")
		}
		part(2, true)
		const n = flood / fragmentSize
		for i := range uint32(n) {
			part(3+i, true)
		}
		if answered(part(2, false)) {
			t.Errorf("the first of %d datagrams that were begun, %d MiB, is still kept", n, flood>>20)
		}
		if !answered(part(3+n-1, false)) {
			t.Error("the last datagram that was begun is not kept")
		}
		part(3+n, true)
		if !answered(part(3+n, false)) {
			t.Error("after the flood, two fragments are not put together any more")
		}
	}
}
