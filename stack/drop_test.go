package stack

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/internal/packet"
)

// A broken packet is told of with the kernel's name for what is wrong, exactly if
// netstack drops it for that.
func TestBrokenPackets(t *testing.T) {
	w := newWire(t, Config{})
	for _, network := range []string{"udp4", "udp6"} {
		pc, err := w.s.ListenPacket(network, ":53")
		must(t, err)
		defer pc.Close()
	}
	l, err := w.s.Listen("tcp", ":80")
	must(t, err)
	defer l.Close()
	v4 := func(network, port string) FourTuple { return tuple(network, "10.9.0.1:5000", "10.9.0.2:"+port) }
	v6 := func(network, port string) FourTuple {
		return tuple(network, "[fd00:9::1]:5000", "[fd00:9::2]:"+port)
	}
	st := w.s.ns.Stats()
	set := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	flip := func(b []byte, at int) []byte { b[at] ^= 1; return b }
	tcp4 := func(port string) []byte { return segment(t, v4("tcp", port), packet.SYN, 1, 0, "meow") }
	tcp6 := func(port string) []byte { return segment(t, v6("tcp", port), packet.SYN, 1, 0, "meow") }
	udp4 := func(port string) []byte { return datagram(t, v4("udp", port), "meow") }
	udp6 := func(port string) []byte { return datagram(t, v6("udp", port), "meow") }
	for _, c := range []struct {
		what  string
		b     []byte
		want  string
		count *tcpip.StatCounter // what netstack counts it as
	}{
		{"TCP checksum", flip(tcp4("80"), 20+20+1), "TCP_CSUM", st.TCP.ChecksumErrors},
		{"TCP checksum, no socket", flip(tcp4("81"), 20+20+1), "TCP_CSUM", nil},
		{"TCP checksum, IPv6", flip(tcp6("80"), 40+20+1), "TCP_CSUM", st.TCP.ChecksumErrors},
		{"TCP data offset", set(tcp4("80"), 20+12, 4<<4), "PKT_TOO_SMALL", nil},
		{"UDP checksum", flip(udp4("53"), 20+8+1), "UDP_CSUM", st.UDP.ChecksumErrors},
		{"UDP checksum, IPv6", flip(udp6("53"), 40+8+1), "UDP_CSUM", st.UDP.ChecksumErrors},
		{"UDP length", set(udp4("53"), 20+5, 200), "PKT_TOO_SMALL", nil},
		{"IP checksum", flip(tcp4("80"), 8), "IP_CSUM", st.IP.MalformedPacketsReceived},
		{"IP total length", set(tcp4("80"), 3, 200), "IP_INHDR", st.IP.MalformedPacketsReceived},
		{"IPv6 payload length", set(tcp6("80"), 5, 200), "IP_INHDR", st.IP.MalformedPacketsReceived},
		{"no socket", tcp4("81"), "NO_SOCKET", nil},
		{"nothing, TCP", tcp4("80"), "", nil},
		{"nothing, TCP over IPv6", tcp6("80"), "", nil},
		{"nothing, UDP", udp4("53"), "", st.UDP.PacketsReceived},
		{"nothing, UDP over IPv6", udp6("53"), "", st.UDP.PacketsReceived},
	} {
		sub := w.s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 10, Kinds: PacketEvents})
		var before uint64
		if c.count != nil {
			before = c.count.Value()
		}
		w.inject(c.b)
		w.raw()
		if ev := <-sub.Events(); ev.Packet.Out || ev.Packet.Drop != c.want {
			t.Errorf("%s: dropped as %q, want %q", c.what, ev.Packet.Drop, c.want)
		}
		if c.count != nil && c.count.Value() != before+1 {
			t.Errorf("%s: netstack does not count it", c.what)
		}
		sub.Close()
	}
}
