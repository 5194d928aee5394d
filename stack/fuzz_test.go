package stack

import (
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/packet"
)

// FuzzInbound hands the stack what may come from a wire, followed and not. Nothing
// may panic or be left behind, and what it answers is well-formed.
func FuzzInbound(f *testing.F) {
	syn := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	udp := tuple("udp", "10.9.0.1:5000", "10.9.0.2:53")
	for _, b := range [][]byte{
		segment(f, syn, packet.SYN, 1, 0, ""),
		segment(f, syn, packet.ACK, 2, 7, "meow"),
		segment(f, tuple("tcp", "[fd00:9::1]:5000", "[fd00:9::2]:80"), packet.SYN, 1, 0, ""),
		datagram(f, udp, "meow"),
		datagram(f, tuple("udp", "10.9.0.1:5000", "198.51.100.1:53"), "meow"),
		echo(f, ip("10.9.0.1"), ip("192.0.2.7"), "meow"),
		echo(f, ip("fd00:9::1"), ip("fd00:9::2"), "meow"),
		fragments(echo(f, ip("10.9.0.1"), ip("10.9.0.2"), strings.Repeat("x", 99)), 64)[1],
		unreachable(f, segment(f, tuple("tcp", "10.9.0.2:80", "10.9.0.1:5000"), packet.ACK, 1, 1, ""), 1),
		{0x45}, {0x60},
	} {
		f.Add(b)
	}
	w := newWire(f, Config{Routes: []Route{
		{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"},
		{Type: Unreachable, Dst: pfx("198.51.100.0/24")},
		{Dst: pfx("0.0.0.0/0"), Dev: "cat0"},
	}})
	must(f, w.s.AddSteering(SteerRule{Network: "tcp", Prefix: pfx("192.0.2.0/24"), PortLo: 1, PortHi: 65535, To: syn.Dst}))
	l, err := w.s.Listen("tcp", "10.9.0.2:80")
	must(f, err)
	f.Cleanup(func() { l.Close() })
	pc, err := w.s.ListenPacket("udp", "10.9.0.2:53")
	must(f, err)
	f.Cleanup(func() { pc.Close() })
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return // a link has no empty packets
		}
		w.inject(b)
		w.read(t)
		w.injectBatched(b)
		w.read(t)
		sub := w.s.Subscribe(t.Context(), 16)
		w.inject(b)
		w.read(t)
		sub.Close()
	})
}
