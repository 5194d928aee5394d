package stack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// BenchmarkGuard is what the guard costs a packet that is no ICMP error.
func BenchmarkGuard(b *testing.B) {
	s := newStack(b, Config{})
	l := &link{s: s, name: "cat0"}
	h := make([]byte, 1500)
	header.IPv4(h).Encode(&header.IPv4Fields{TotalLength: 1500, Protocol: uint8(header.TCPProtocolNumber), TTL: 64})
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(h)})
	defer pkt.DecRef()
	b.ReportAllocs()
	for b.Loop() {
		if l.falseTooBig(ipv4.ProtocolNumber, pkt) {
			b.Fatal("a TCP segment was taken for an ICMP error")
		}
	}
}

// FuzzGuard holds the guard to this: no packet makes it panic, and none that is no
// ICMP error is stopped by it.
func FuzzGuard(f *testing.F) {
	v4 := make([]byte, 20+8+20+8)
	header.IPv4(v4).Encode(&header.IPv4Fields{TotalLength: uint16(len(v4)), Protocol: uint8(header.ICMPv4ProtocolNumber), TTL: 64})
	copy(v4[20:], []byte{3, 4, 0, 0, 0, 0, 5, 0})
	header.IPv4(v4[28:]).Encode(&header.IPv4Fields{TotalLength: 1500, Protocol: uint8(header.TCPProtocolNumber), TTL: 64})
	v6 := make([]byte, 40+8+40+8)
	header.IPv6(v6).Encode(&header.IPv6Fields{PayloadLength: 56, TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 64})
	copy(v6[40:], []byte{2, 0, 0, 0, 0, 0, 5, 0})
	header.IPv6(v6[48:]).Encode(&header.IPv6Fields{PayloadLength: 1400, TransportProtocol: header.TCPProtocolNumber, HopLimit: 64})
	f.Add(v4, false)
	f.Add(v6, true)
	s := newStack(f, Config{})
	l := &link{s: s, name: "cat0"}
	f.Fuzz(func(t *testing.T, data []byte, six bool) {
		proto, icmp := ipv4.ProtocolNumber, len(data) > 9 && data[9] == uint8(header.ICMPv4ProtocolNumber)
		if six {
			proto, icmp = ipv6.ProtocolNumber, len(data) > 6 && data[6] == uint8(header.ICMPv6ProtocolNumber)
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
		defer pkt.DecRef()
		if l.falseTooBig(proto, pkt) && !icmp {
			t.Errorf("stopped a packet that is no ICMP: %x", data)
		}
	})
}
