package stack

import (
	"bytes"
	"encoding/binary"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
)

// poisoner overwrites memory that netstack has freed. netstack gives each packet that
// it has put together to raw sockets, between freeing its first fragment and reading
// the header there.
type poisoner struct{ handled int }

// HandlePacket implements stack.RawTransportEndpoint.
func (p *poisoner) HandlePacket(*stack.PacketBuffer) {
	p.handled++
	var views []*buffer.View
	for range 4 { // more than one chunk may have been freed
		v := buffer.NewView(64)
		v.Write(bytes.Repeat([]byte{0x40}, 64)) // as an IPv4 header: 0 bytes long
		views = append(views, v)
	}
	for _, v := range views {
		v.Release()
	}
}

// Fragments that split the TCP header end the process if they reach netstack's
// reassembly, once what it frees is used again.
func TestTinyFragments(t *testing.T) {
	w := newWire(t, Config{NoGuards: true}) // this guard is always there
	l, err := w.s.Listen("tcp", ":80")
	must(t, err)
	defer l.Close()
	p := new(poisoner)
	if err := w.s.ns.RegisterRawTransportEndpoint(ipv4.ProtocolNumber, header.TCPProtocolNumber, p); err != nil {
		t.Fatal(err)
	}
	const floods = 1000
	f := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	syn := segment(t, f, packet.SYN, 100, 0, "")
	for id := range uint16(floods) {
		for _, b := range fragments(withID(syn, id), 8) {
			w.inject(b)
		}
	}
	if out := w.raw(); len(out) != 0 || p.handled != 0 {
		t.Errorf("%d of %d SYNs in pieces were put together, and answered by %d packets", p.handled, floods, len(out))
	}
	// The first two of each three are over the header.
	if d, want := w.s.Drops(), (Drops{TinyFragment: 3 * floods}); d != want {
		t.Errorf("drops %+v, want %+v", d, want)
	}

	// A segment that is cut behind its header is put together.
	w.handshake(t, f, 100)
	handled := p.handled
	long := fragments(segment(t, f, packet.PSH, 101, 0, "meow meow meow meow meow"), 24)
	for _, b := range long {
		w.inject(b)
	}
	w.raw()
	if p.handled != handled+1 {
		t.Errorf("a segment in %d pieces was put together %d times, want once", len(long), p.handled-handled)
	}
}

// withID returns a packet with another identification.
func withID(b []byte, id uint16) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[4:], id)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:20], 0))
	return b
}

// fragmentOfV6 is the part of an IPv6 packet's payload from one offset to another,
// behind extension headers that follow the fragment's own.
func fragmentOfV6(b []byte, from, to int, extensions ...byte) []byte {
	payload := append(bytes.Clone(extensions), b[40:]...)
	next := b[6]
	if len(extensions) > 0 {
		payload[0], next = next, 60 // destination options
	}
	off := uint16(from)
	if to < len(payload) {
		off |= 1
	}
	out := append(bytes.Clone(b[:40]), next, 0, byte(off>>8), byte(off), 0, 0, 0, 7)
	out[6] = 44 // fragment
	out = append(out, payload[from:min(to, len(payload))]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

func TestUnfitFragment(t *testing.T) {
	f4, f6 := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80"), tuple("tcp", "[fd00:9::1]:5000", "[fd00:9::2]:80")
	u4, u6 := tuple("udp", "10.9.0.1:5000", "10.9.0.2:53"), tuple("udp", "[fd00:9::1]:5000", "[fd00:9::2]:53")
	tcp4, tcp6 := segment(t, f4, packet.ACK, 1, 1, "twelve bytes"), segment(t, f6, packet.ACK, 1, 1, "twelve bytes")
	options4 := stamped(t, f4, packet.ACK, 1, 1, 7, "twelve bytes") // a header of 32 bytes
	udp4, udp6 := datagram(t, u4, "twelve bytes"), datagram(t, u6, "twelve bytes")
	echo4, echo6 := echo(t, ip("10.9.0.1"), ip("10.9.0.2"), "twelve bytes"), echo(t, ip("fd00:9::1"), ip("fd00:9::2"), "twelve bytes")
	error4, error6 := bytes.Clone(echo4), bytes.Clone(echo6)
	error4[20], error6[40] = 3, 2 // destination unreachable, packet too big
	solicit6 := bytes.Clone(echo6)
	solicit6[40] = 135 // neighbour solicitation
	padding := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	atomic := fragmentOfV6(tcp6, 0, len(tcp6))

	for _, c := range []struct {
		name string
		b    []byte
		want string
	}{
		{"a whole segment", tcp4, ""},
		{"a whole segment, IPv6", tcp6, ""},
		{"a first fragment of 8 bytes", fragments(tcp4, 8)[0], dropTinyFragment},
		{"of 16", fragments(tcp4, 16)[0], dropTinyFragment},
		{"of 24: the whole header", fragments(tcp4, 24)[0], ""},
		{"of 24 of a header of 32", fragments(options4, 24)[0], dropTinyFragment},
		{"of 32 of a header of 32", fragments(options4, 32)[0], ""},
		{"a second fragment over the header", fragments(tcp4, 8)[1], dropTinyFragment},
		{"a third one over its end", fragments(tcp4, 8)[2], dropTinyFragment},
		{"a fourth one behind it", fragments(tcp4, 8)[3], ""},
		{"a datagram's 8 bytes", fragments(udp4, 8)[0], ""},
		{"and its second 8", fragments(udp4, 8)[1], ""},
		{"an echo's 8 bytes", fragments(echo4, 8)[0], ""},
		{"an ICMP error's", fragments(error4, 8)[0], dropFragmentedICMP},
		{"more of it", fragments(error4, 16)[0], dropFragmentedICMP},
		{"IPv6: 8 bytes", fragmentOfV6(tcp6, 0, 8), dropTinyFragment},
		{"IPv6: 24 bytes: the whole header", fragmentOfV6(tcp6, 0, 24), ""},
		{"IPv6: 24 bytes behind options of 8", fragmentOfV6(tcp6, 0, 24, padding...), dropTinyFragment},
		{"IPv6: 32 bytes behind options of 8", fragmentOfV6(tcp6, 0, 32, padding...), ""},
		{"IPv6: options alone", fragmentOfV6(tcp6, 0, 8, padding...), dropTinyFragment},
		{"IPv6: options that claim to be longer", fragmentOfV6(tcp6, 0, 16, 0, 9, 1, 4, 0, 0, 0, 0), dropTinyFragment},
		{"IPv6: a later fragment", fragmentOfV6(tcp6, 24, 99), ""},
		{"IPv6: all in one fragment", atomic, ""},
		{"IPv6: a datagram's 8 bytes", fragmentOfV6(udp6, 0, 8), ""},
		{"IPv6: an echo's 8 bytes", fragmentOfV6(echo6, 0, 8), ""},
		{"IPv6: an ICMP error's", fragmentOfV6(error6, 0, 8), dropFragmentedICMP},
		{"IPv6: neighbour discovery", fragmentOfV6(solicit6, 0, 8), dropFragmentedICMP},
		{"a broken header", []byte{0x45}, ""},
		{"a broken header, IPv6", []byte{0x60}, ""},
	} {
		proto := ipv4.ProtocolNumber
		if c.b[0]>>4 == 6 {
			proto = header.IPv6ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(c.b)})
		if got := unfitFragment(proto, pkt); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		pkt.DecRef()
	}
}

// The drop is told like others.
func TestTinyFragmentEvent(t *testing.T) {
	w := newWire(t, Config{})
	sub := w.s.Subscribe(t.Context(), 16)
	defer sub.Close()
	w.inject(fragments(segment(t, tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80"), packet.SYN, 100, 0, ""), 8)[0])
	if ev := <-sub.Events(); ev.Packet == nil || ev.Packet.Drop != dropTinyFragment {
		t.Errorf("event %+v", ev)
	}
}
