// Package packet tests the stack packet by packet, through its Go API, in virtual time: what a connection does on the
// wire, in what order sockets are looked up, and what becomes of packets that nobody should answer. The conversation
// is written in packetdrill's notation (package drill). Every packet that the stack sends is decoded once more by gopacket,
// so that no single decoder is believed.
package packet

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/random"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/test/drill"
)

func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if status == 0 {
			refs.DoLeakCheck()
		}
		os.Exit(status)
	}))
}

// family is an IP version and what follows from it.
type family struct {
	name          string
	domain        int
	local, second netip.Addr // the stack's
	remote        netip.Addr
	mss           string // of an MTU of 1500
}

var families = []family{
	{"IPv4", stack.AF_INET, netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("10.9.0.1"), "1460"},
	{"IPv6", stack.AF_INET6, netip.MustParseAddr("fd00:9::2"), netip.MustParseAddr("fd00:9::3"), netip.MustParseAddr("fd00:9::1"), "1440"},
}

// bothFamilies runs a test over IPv4 and over IPv6, on a stack of its own.
func bothFamilies(t *testing.T, f func(t *testing.T, h *host)) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) { f(t, newHost(t, fam, stack.Config{})) })
	}
}

// host is a stack under test, and the peer that talks to it. Its sockets do not block.
type host struct {
	*drill.Host
	family
	t *testing.T
	w *drill.Wire
	s *stack.Stack
	y *stack.Sys
}

// newHost starts a stack with one link and two addresses on it.
func newHost(t *testing.T, fam family, cfg stack.Config) *host {
	t.Helper()
	w := drill.NewWire(1500)
	bits := fam.local.BitLen() * 3 / 4 // /24, /96
	cfg.Links = []stack.Link{{
		Name: "cat0", Endpoint: newDecoder(t, w.Endpoint()),
		Addrs: []netip.Prefix{netip.PrefixFrom(fam.local, bits), netip.PrefixFrom(fam.second, bits)},
	}}
	cfg.Clock, cfg.Rand = w.Clock(), random.NewBytes([32]byte{})
	s, err := stack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.Attach(s.Quiesce)
	w.Settle()
	h := drill.NewHost(t, w, drill.HostConfig{Local: netip.AddrPortFrom(fam.local, 80), Remote: fam.remote})
	return &host{Host: h, family: fam, t: t, w: w, s: s, y: s.Sys()}
}

// decoder is a link endpoint that has gopacket decode each packet on its way out.
type decoder struct {
	nested.Endpoint
	t testing.TB
}

func newDecoder(t testing.TB, lower netstack.LinkEndpoint) *decoder {
	d := &decoder{t: t}
	d.Endpoint.Init(lower, d)
	return d
}

func (d *decoder) WritePackets(pkts netstack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		v := pkt.ToView()
		if why := misdecoded(v.AsSlice()); why != "" {
			d.t.Errorf("gopacket: %s in the packet %x", why, v.AsSlice())
		}
		v.Release()
	}
	return d.Endpoint.WritePackets(pkts)
}

// misdecoded says what gopacket holds against a packet, "" if nothing.
func misdecoded(b []byte) string {
	first := layers.LayerTypeIPv4
	if len(b) > 0 && b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		return e.Error().Error()
	}
	if p.Metadata().Truncated {
		return "truncated"
	}
	if p.TransportLayer() == nil && p.Layer(layers.LayerTypeICMPv4) == nil && p.Layer(layers.LayerTypeICMPv6) == nil {
		return "neither TCP nor UDP nor ICMP"
	}
	for _, l := range p.Layers() {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			l.SetNetworkLayerForChecksum(p.NetworkLayer()) // fails for nothing that gopacket has decoded itself
		}
	}
	err, bad := p.VerifyChecksums()
	switch {
	case err != nil:
		return err.Error()
	case len(bad) > 0:
		return "bad checksum of " + bad[0].Layer.LayerType().String()
	}
	return ""
}

// TestMisdecoded shows that the second decoder finds fault where there is some.
func TestMisdecoded(t *testing.T) {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{10, 9, 0, 2}, DstIP: []byte{10, 9, 0, 1}}
	tcp := &layers.TCP{SrcPort: 80, DstPort: 1000, ACK: true}
	tcp.SetNetworkLayerForChecksum(ip)
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp, gopacket.Payload("meow")); err != nil {
		t.Fatal(err)
	}
	if why := misdecoded(b.Bytes()); why != "" {
		t.Errorf("a good packet: %s", why)
	}
	for at, want := range map[int]string{10: "IPv4", 36: "TCP", 43: "TCP"} {
		bad := append([]byte(nil), b.Bytes()...)
		bad[at] ^= 1
		if why := misdecoded(bad); !strings.Contains(why, want) {
			t.Errorf("byte %d spoiled: %q, want a complaint about %s", at, why, want)
		}
	}
	if why := misdecoded(b.Bytes()[:30]); why == "" {
		t.Error("a packet cut short is found good")
	}
}

// must fails the test on an error.
func (h *host) must(what string, err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatalf("%s: %v", what, err)
	}
}

// socket makes a TCP socket.
func (h *host) socket() int {
	h.t.Helper()
	fd, err := h.y.Socket(h.domain, stack.SOCK_STREAM|stack.SOCK_NONBLOCK, stack.IPPROTO_TCP)
	h.must("socket", err)
	return fd
}

// listen makes a listener on port 80 of an address, which may be the unspecified one.
func (h *host) listen(addr netip.Addr) int {
	h.t.Helper()
	fd := h.socket()
	h.must("bind", h.y.Bind(fd, netip.AddrPortFrom(addr, 80)))
	h.must("listen", h.y.Listen(fd, 16))
	return fd
}

// any is the unspecified address.
func (f family) any() netip.Addr {
	if f.local.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// accept takes a connection from a listener, which must have one.
func (h *host) accept(listener int) int {
	h.t.Helper()
	h.w.Settle()
	fd, _, err := h.y.Accept4(listener, stack.SOCK_NONBLOCK)
	h.must("accept4", err)
	return fd
}

// connect opens a connection from the peer to a listener on port 80 without any TCP options but the MSS, and accepts it.
func (h *host) connect() (fd int) {
	h.t.Helper()
	l := h.listen(h.any())
	fd = h.handshake(l)
	return fd
}

func (h *host) handshake(listener int) (fd int) {
	h.t.Helper()
	h.Send("S 0:0(0) win 65535 <mss 1000>")
	h.Expect("a SYN to a listener is answered", "S. 0:0(0) ack 1 <mss "+h.mss+">")
	h.Send(". 1:1(0) ack 1 win 65535")
	return h.accept(listener)
}

// do runs a socket call and lets the stack work off what follows from it.
func (h *host) do(what string, err error) {
	h.t.Helper()
	h.must(what, err)
	h.w.Settle()
}

// write writes n bytes of the stream, from a place on: the contents follow from the place.
func (h *host) write(fd, from, n int) {
	h.t.Helper()
	m, err := h.y.Write(fd, stream(from, n))
	h.do("write", err)
	if m != n {
		h.t.Fatalf("write took %d bytes of %d", m, n)
	}
}

// stream is what a stream holds from a place on, as package drill has it: each place differs from those near it.
func stream(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + i) % 251)
	}
	return b
}

// read returns all that can be read now; io.EOF says that the stream has ended.
func (h *host) read(fd int) (got []byte, err error) {
	h.t.Helper()
	h.w.Settle()
	for {
		b := make([]byte, 1<<16)
		n, err := h.y.Read(fd, b)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return got, nil
		case err != nil:
			return got, err
		case n == 0:
			return got, io.EOF
		}
		got = append(got, b[:n]...)
	}
}

// wantRead fails unless exactly n bytes of the stream, from a place on, can be read, and then wantErr.
func (h *host) wantRead(why string, fd, from, n int, wantErr error) {
	h.t.Helper()
	got, err := h.read(fd)
	want := stream(from, n)
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			h.t.Fatalf("%s: byte %d of %d is wrong", why, i, len(got))
		}
	}
	if len(got) != n || !errors.Is(err, wantErr) {
		h.t.Fatalf("%s: read %d bytes and then %v, want %d and then %v", why, len(got), err, n, wantErr)
	}
	h.w.Settle()
}

// expectAfter lets exactly d pass: nothing may come before, and the packet must come then.
func (h *host) expectAfter(why string, d time.Duration, packet string) {
	h.t.Helper()
	h.ExpectNothing(why+", but not earlier", d-time.Nanosecond)
	h.Advance(time.Nanosecond)
	h.Expect(why, packet)
}

// state is the state of the connection with the peer, "" if there is none.
func (h *host) state() string {
	h.w.Settle()
	for _, k := range h.s.Sockets() {
		if k.Remote.IsValid() && k.Remote.Addr() == h.remote {
			return k.State
		}
	}
	return ""
}

func (h *host) wantState(want string) {
	h.t.Helper()
	if got := h.state(); got != want {
		h.t.Errorf("the connection's state is %q, want %q", got, want)
	}
}

const silence = time.Hour
