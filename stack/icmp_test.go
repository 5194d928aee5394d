package stack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack/route"
)

// Types and codes of RFC 792 and RFC 4443.
const (
	echoReply4, echoReply6 = 0, 129
	unreachable4           = 3
	unreachable6           = 1
)

func TestEcho(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{
		{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"},
		{Type: Local, Dst: pfx("2001:db8::/32"), Dev: "cat0"},
		{Type: Unicast, Dst: pfx("0.0.0.0/0"), Dev: "cat0"},
	}})
	for _, c := range []struct {
		why, src, dst string
		answered      bool
	}{
		{"an assigned address", "10.9.0.1", "10.9.0.2", true},
		{"an AnyIP address", "10.9.0.1", "192.0.2.77", true},
		{"another AnyIP address, from afar", "8.8.8.8", "192.0.2.78", true},
		{"an assigned IPv6 address", "fd00:9::1", "fd00:9::2", true},
		{"an IPv6 AnyIP address", "fd00:9::1", "2001:db8::77", true},
		{"a neighbour's address is not ours", "10.9.0.1", "10.9.0.3", false},
		{"nor an IPv6 neighbour's", "fd00:9::1", "fd00:9::3", false},
		{"a broadcast is not answered (net.ipv4.icmp_echo_ignore_broadcasts)", "10.9.0.1", "10.9.0.255", false},
		{"loopback addresses do not come in from a wire", "10.9.0.1", "127.0.0.1", false},
		{"nor do ours as a source", "10.9.0.2", "10.9.0.2", false},
	} {
		for _, size := range []int{0, 1, 56, 1400} {
			data := strings.Repeat("meow", size/4+1)[:size]
			got := w.ask(t, echo(t, ip(c.src), ip(c.dst), data))
			if !c.answered {
				if got != nil {
					t.Errorf("%s: answered by %v", c.why, got)
				}
				continue
			}
			if got == nil {
				t.Errorf("%s: no answer to %d bytes", c.why, size)
				continue
			}
			want := uint8(echoReply4)
			if got.Version == 6 {
				want = echoReply6
			}
			if got.ICMP == nil || got.ICMP.Type != want || got.Src != ip(c.dst) || got.Dst != ip(c.src) ||
				got.ICMP.Rest != 7<<16|1 || string(got.ICMP.Body) != data {
				t.Errorf("%s: %d bytes: %v, want an echo reply with the same identifier, number and data", c.why, size, got)
			}
		}
	}
}

// fragments splits an IPv4 packet into pieces of size bytes of payload.
func fragments(b []byte, size int) (out [][]byte) {
	head, rest := b[:20], b[20:]
	for off := 0; off < len(rest); off += size {
		end := min(off+size, len(rest))
		f := append(bytes.Clone(head), rest[off:end]...)
		binary.BigEndian.PutUint16(f[2:], uint16(len(f)))
		flags := uint16(off / 8)
		if end < len(rest) {
			flags |= 0x2000 // more fragments
		}
		binary.BigEndian.PutUint16(f[6:], flags)
		f[10], f[11] = 0, 0
		binary.BigEndian.PutUint16(f[10:], packet.Checksum(f[:20], 0))
		out = append(out, f)
	}
	return out
}

func TestEchoFragments(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}}})
	data := strings.Repeat("purr", 700)
	for _, dst := range []string{"10.9.0.2", "192.0.2.77"} {
		pieces := fragments(echo(t, ip("10.9.0.1"), ip(dst), data), 1024)
		for _, i := range []int{2, 0, 1} { // out of order
			w.inject(pieces[i])
		}
		var got []byte
		for _, b := range w.raw() {
			p, err := packet.Parse(b)
			if err != nil || p.Src != ip(dst) || p.Proto != packet.ProtoICMP || len(b) > 1500 {
				t.Fatalf("%s: %v, %v", dst, p, err)
			}
			if p.Frag.Offset == 0 && (p.ICMP == nil || p.ICMP.Type != echoReply4) {
				t.Fatalf("%s: %v, want the start of an echo reply", dst, p)
			}
			got = append(got, b[20:]...)
		}
		if len(got) != 8+len(data) || string(got[8:]) != data || packet.Checksum(got, 0) != 0 {
			t.Errorf("%s: an echo reply of %d bytes in fragments, want %d with a right checksum", dst, len(got), 8+len(data))
		}
	}
}

// A route that stops a packet tells its sender as ip-route(8) defines.
func TestRouteTypeAnswers(t *testing.T) {
	stops := func(typ RouteType) (out []Route) {
		for _, p := range []string{"198.51.100.0/24", "2001:db8::/32"} {
			out = append(out, Route{Type: typ, Dst: pfx(p)})
		}
		return out
	}
	for _, c := range []struct {
		typ          RouteType
		code4, code6 int // -1: silence
		count        func(Drops) uint64
	}{
		{typ: Unreachable, code4: 1, code6: 0, count: func(d Drops) uint64 { return d.Unreachable }}, // host; no route (ip6_pkt_discard)
		{typ: Prohibit, code4: 13, code6: 1, count: func(d Drops) uint64 { return d.Prohibit }},      // administratively prohibited
		{typ: Blackhole, code4: -1, code6: -1, count: func(d Drops) uint64 { return d.Blackhole }},
		{typ: Throw, code4: -1, code6: -1, count: func(d Drops) uint64 { return d.InNoRoutes }},
	} {
		w := newWire(t, Config{Routes: stops(c.typ)})
		for _, f := range []struct {
			src, dst string
			typ      uint8
			code     int
		}{
			{"10.9.0.1", "198.51.100.7", unreachable4, c.code4},
			{"fd00:9::1", "2001:db8::7", unreachable6, c.code6},
		} {
			src, dst := netip.AddrPortFrom(ip(f.src), 5555), netip.AddrPortFrom(ip(f.dst), 80)
			for i, b := range [][]byte{
				datagram(t, FourTuple{Network: "udp", Src: src, Dst: dst}, "meow"),
				segment(t, FourTuple{Network: "tcp", Src: src, Dst: dst}, packet.SYN, 1, 0, ""),
				echo(t, src.Addr(), dst.Addr(), strings.Repeat("x", 1300)),
			} {
				before := c.count(w.s.Drops())
				got := w.ask(t, b)
				if n := c.count(w.s.Drops()); n != before+1 {
					t.Errorf("%s, packet %d: counted %d times", c.typ, i, n-before)
				}
				if f.code < 0 {
					if got != nil {
						t.Errorf("%s, packet %d: %v, want silence", c.typ, i, got)
					}
					continue
				}
				if got == nil || got.ICMP == nil || got.ICMP.Type != f.typ || int(got.ICMP.Code) != f.code || got.Dst != src.Addr() {
					t.Errorf("%s, packet %d: %v, want an ICMP error of type %d, code %d", c.typ, i, got, f.typ, f.code)
					continue
				}
				if q, ok := got.Quoted(); !ok || q.Src != src.Addr() || q.Dst != dst.Addr() {
					t.Errorf("%s, packet %d: the error quotes %v", c.typ, i, q)
				}
				most := 576
				if got.Version == 6 {
					most = 1280
				}
				if got.Length > most {
					t.Errorf("%s, packet %d: an error of %d bytes, want at most %d", c.typ, i, got.Length, most)
				}
			}
			// No error about an error or a broken packet, nor to a sender that is many
			// or none.
			for _, b := range [][]byte{
				datagram(t, FourTuple{Network: "udp", Src: src, Dst: dst}, strings.Repeat("x", 40))[:60], // shorter than its header says
				icmpError(t, src.Addr(), dst.Addr()),
				datagram(t, FourTuple{Network: "udp", Src: netip.AddrPortFrom(route.FamilyOf(dst.Addr()).Any(), 5555), Dst: dst}, "meow"),
			} {
				if got := w.ask(t, b); got != nil {
					t.Errorf("%s: %v, want silence", c.typ, got)
				}
			}
		}
	}
}

// icmpError is an error that claims to be about a packet of ours.
func icmpError(t testing.TB, src, dst netip.Addr) []byte {
	b := echo(t, src, dst, strings.Repeat("\x00", 28))
	if src.Is4() {
		b[20], b[22], b[23] = unreachable4, 0, 0
		binary.BigEndian.PutUint16(b[22:], packet.Checksum(b[20:], 0))
		return b
	}
	b[40] = unreachable6 // the checksum is wrong now; the route decides before anyone looks at it
	return b
}

// What is not for this stack is dropped silently, and counted.
func TestNotLocal(t *testing.T) {
	w := newWire(t, Config{})
	tcp := func(src, dst string) []byte {
		return segment(t, tuple("tcp", src, dst), packet.SYN, 1, 0, "")
	}
	for _, c := range []struct {
		why   string
		b     []byte
		count func(Drops) uint64
	}{
		{"no route at all", tcp("10.9.0.1:5555", "192.0.2.1:80"), func(d Drops) uint64 { return d.InNoRoutes }},
		{"a neighbour's", tcp("10.9.0.1:5555", "10.9.0.77:80"), func(d Drops) uint64 { return d.InNotLocal }},
		{"an IPv6 neighbour's", tcp("[fd00:9::1]:5555", "[fd00:9::77]:80"), func(d Drops) uint64 { return d.InNotLocal }},
		{"loopback from the wire", tcp("10.9.0.1:5555", "127.0.0.1:80"), func(d Drops) uint64 { return d.Martian }},
		{"IPv6 loopback from the wire", tcp("[fd00:9::1]:5555", "[::1]:80"), func(d Drops) uint64 { return d.Martian }},
		{"from loopback", tcp("127.0.0.1:5555", "10.9.0.2:80"), func(d Drops) uint64 { return d.Martian }},
		{"from ourselves", tcp("10.9.0.2:5555", "10.9.0.2:80"), func(d Drops) uint64 { return d.Martian }},
		{"from a broadcast address", tcp("10.9.0.255:5555", "10.9.0.2:80"), func(d Drops) uint64 { return d.Martian }},
		{"TCP to a broadcast address", tcp("10.9.0.1:5555", "10.9.0.255:80"), func(d Drops) uint64 { return d.NotUnicast }},
		{"echo to a broadcast address", echo(t, ip("10.9.0.1"), ip("10.9.0.255"), "meow"), func(d Drops) uint64 { return d.NotUnicast }},
		{"the first fragment of one", fragments(echo(t, ip("10.9.0.1"), ip("224.0.0.1"), strings.Repeat("x", 99)), 64)[0], func(d Drops) uint64 { return d.NotUnicast }},
		{"from a multicast address", tcp("224.0.0.1:5555", "10.9.0.2:80"), func(d Drops) uint64 { return d.Martian }},
	} {
		before := c.count(w.s.Drops())
		if got := w.ask(t, c.b); got != nil {
			t.Errorf("%s: %v, want silence", c.why, got)
		}
		if n := c.count(w.s.Drops()); n != before+1 {
			t.Errorf("%s: counted %d times, want once", c.why, n-before)
		}
	}
}

// A closed UDP port is reported as such, unless the datagram was for many.
func TestPortUnreachable(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}}})
	for _, c := range []struct {
		src, dst  string
		typ, code uint8
		silent    bool
	}{
		{"10.9.0.1:5555", "10.9.0.2:53", 3, 3, false},
		{"10.9.0.1:5555", "192.0.2.9:53", 3, 3, false},
		{"[fd00:9::1]:5555", "[fd00:9::2]:53", 1, 4, false},
		{"10.9.0.1:5555", "10.9.0.255:53", 0, 0, true},
		{"10.9.0.1:5555", "224.0.0.1:53", 0, 0, true},
	} {
		got := w.ask(t, datagram(t, tuple("udp", c.src, c.dst), "meow"))
		switch {
		case c.silent && got != nil:
			t.Errorf("%s: %v, want silence", c.dst, got)
		case !c.silent && (got == nil || got.ICMP == nil || got.ICMP.Type != c.typ || got.ICMP.Code != c.code || got.Src != netip.MustParseAddrPort(c.dst).Addr()):
			t.Errorf("%s: %v, want port unreachable from there", c.dst, got)
		}
	}
}
