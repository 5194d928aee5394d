package conformance

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/test/drill"
)

// goCase is a case that the scripts' language cannot express: it needs two links, many packets, or arithmetic on what was
// sent. It has its row in the table as scripts have; Linux is not measured.
type goCase struct {
	header
	name string // of the row
	file string // that holds it
	run  func(t testing.TB)
}

// goCases are all of them.
func goCases() []goCase {
	var all []goCase
	for _, list := range [][]goCase{isnCases, cubicCases, timeCases, forwardCases, fragmentCases, icmpCases} {
		all = append(all, list...)
	}
	return all
}

// TestCases runs them, as TestConformance runs the scripts: one that is known to fail must do so.
func TestCases(t *testing.T) {
	for _, c := range goCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if status, text := c.measure(t); !status.OK() {
				t.Errorf("%s: %s", status, text)
			}
		})
	}
}

// measure runs the case and says how it ended, and if it failed, why.
func (c goCase) measure(t testing.TB) (drill.Status, string) {
	o := &outcome{TB: t}
	done := make(chan struct{})
	go func() { // for FailNow ends its goroutine
		defer close(done)
		defer o.cleanup()
		c.run(o)
	}()
	<-done
	switch failed := len(o.failures) > 0; {
	case failed && c.reason != "":
		return drill.ExpectedFailure, c.reason
	case failed:
		return drill.Failed, strings.Join(o.failures, "\n")
	case c.reason != "":
		return drill.UnexpectedPass, "passed, but is expected to fail: " + c.reason
	}
	return drill.Passed, ""
}

// outcome is a test whose failures are noted instead of reported. It is used by one goroutine.
type outcome struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (o *outcome) Helper()                   {}
func (o *outcome) Failed() bool              { return len(o.failures) > 0 }
func (o *outcome) Errorf(f string, a ...any) { o.failures = append(o.failures, fmt.Sprintf(f, a...)) }
func (o *outcome) Error(a ...any)            { o.failures = append(o.failures, fmt.Sprint(a...)) }
func (o *outcome) FailNow()                  { runtime.Goexit() }
func (o *outcome) Fatalf(f string, a ...any) { o.Errorf(f, a...); o.FailNow() }
func (o *outcome) Fatal(a ...any)            { o.Error(a...); o.FailNow() }
func (o *outcome) Cleanup(f func())          { o.cleanups = append(o.cleanups, f) }

func (o *outcome) cleanup() {
	for len(o.cleanups) > 0 {
		last := len(o.cleanups) - 1
		f := o.cleanups[last]
		o.cleanups = o.cleanups[:last]
		f()
	}
}

// host is a stack with links, and the tests' hands on the other ends. Time is that of the first link.
type host struct {
	t     testing.TB
	s     *stack.Stack
	wires []*drill.Wire
}

// newHost starts a stack with a link for each string, which lists the link's addresses, and "mtu:N" if it is not 1500.
func newHost(t testing.TB, cfg stack.Config, links ...string) *host {
	t.Helper()
	h := &host{t: t}
	for i, addrs := range links {
		l := stack.Link{Name: fmt.Sprintf("cat%d", i)}
		mtu := 1500
		for _, a := range strings.Fields(addrs) {
			if n, ok := strings.CutPrefix(a, "mtu:"); ok {
				mtu, _ = strconv.Atoi(n)
				continue
			}
			l.Addrs = append(l.Addrs, netip.MustParsePrefix(a))
		}
		w := drill.NewWire(mtu)
		h.wires = append(h.wires, w)
		l.Endpoint = w.Endpoint()
		cfg.Links = append(cfg.Links, l)
	}
	cfg.Clock = h.wires[0].Clock()
	s, err := stack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	h.s = s
	for _, w := range h.wires {
		w.Attach(s.Quiesce)
	}
	h.wires[0].Settle()
	h.sent() // what a link says when it comes up
	return h
}

// send hands packets to the stack, on its first link.
func (h *host) send(packets ...[]byte) {
	for _, b := range packets {
		h.wires[0].Inject(b)
	}
}

// sent takes what the stack has sent on its first link, and sentOn on another.
func (h *host) sent() []packet.Packet { h.t.Helper(); return h.sentOn(0) }

func (h *host) sentOn(link int) (out []packet.Packet) {
	h.t.Helper()
	for {
		f, ok := h.wires[link].Sent()
		if !ok {
			return out
		}
		p, err := packet.Parse(f.Data)
		if err == nil {
			err = p.Verify()
		}
		if err != nil {
			h.t.Fatalf("the stack sent a bad packet: %v: %x", err, f.Data)
		}
		out = append(out, p)
	}
}

// ask sends a packet and returns the answers.
func (h *host) ask(b []byte) []packet.Packet {
	h.t.Helper()
	h.send(b)
	return h.sent()
}

// ip is a header for a packet from src to dst.
func ip(src, dst netip.Addr, proto layers.IPProtocol, ttl uint8) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, TTL: ttl, Id: 1, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func serialize(ls ...gopacket.SerializableLayer) []byte {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err) // a mistake in a test
	}
	return buf.Bytes()
}

// datagram is a UDP datagram of n bytes.
func datagram(src, dst string, n int, ttl uint8) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	l := ip(s.Addr(), d.Addr(), layers.IPProtocolUDP, ttl)
	u := &layers.UDP{SrcPort: layers.UDPPort(s.Port()), DstPort: layers.UDPPort(d.Port())}
	u.SetNetworkLayerForChecksum(l.(gopacket.NetworkLayer))
	return serialize(l, u, gopacket.Payload(make([]byte, n)))
}

// segment is a TCP segment without data.
func segment(src, dst string, h layers.TCP) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	l := ip(s.Addr(), d.Addr(), layers.IPProtocolTCP, 64)
	h.SrcPort, h.DstPort = layers.TCPPort(s.Port()), layers.TCPPort(d.Port())
	h.SetNetworkLayerForChecksum(l.(gopacket.NetworkLayer))
	return serialize(l, &h)
}
