package stack

import (
	"io"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// listen subscribes to kinds with a reader that throws the events away; to none, nobody listens.
func listen(tb testing.TB, s *Stack, kinds EventKinds) {
	if kinds == 0 {
		return
	}
	sub := s.SubscribeWith(tb.Context(), SubscribeConfig{Buffer: 1 << 12, Kinds: kinds})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range sub.Events() {
		}
	}()
	tb.Cleanup(func() { sub.Close(); <-ended })
}

var listeners = []struct {
	name  string
	kinds EventKinds
}{{"nobody", 0}, {"calls", CallEvents}, {"packets", PacketEvents}, {"samples", SampleEvents}, {"all", AllEvents}}

// BenchmarkEvents is what a packet costs, from an application on lo to another and
// back, by what is listened to.
func BenchmarkEvents(b *testing.B) {
	for _, l := range listeners {
		b.Run(l.name, func(b *testing.B) {
			s := newStack(b, Config{})
			c, srv := connPair(b, s, "tcp", "127.0.0.1:0")
			defer c.Close()
			defer srv.Close()
			listen(b, s, l.kinds)
			buf := make([]byte, 1000)
			before := s.ns.Stats().TCP.SegmentsSent.Value()
			b.ReportAllocs()
			for b.Loop() {
				for _, p := range [][2]io.ReadWriter{{c, srv}, {srv, c}} {
					if _, err := p[0].Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(p[1], buf); err != nil {
						b.Fatal(err)
					}
				}
			}
			packets := s.ns.Stats().TCP.SegmentsSent.Value() - before
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}

// outLink is a link between nothing and nothing, and a TCP segment for it.
func outLink(tb testing.TB) (*link, *stack.PacketBuffer) {
	s := newWire(tb, Config{}).s
	l := &link{s: s, name: "cat0"}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 40, Payload: buffer.MakeWithData(make([]byte, 1000))})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{SrcPort: 80, DstPort: 5000, DataOffset: header.TCPMinimumSize})
	header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize)).Encode(&header.IPv4Fields{
		TotalLength: 1040, Protocol: uint8(header.TCPProtocolNumber), TTL: 64, SrcAddr: toTCPIP(ip("10.9.0.2")), DstAddr: toTCPIP(ip("10.9.0.1")),
	})
	tb.Cleanup(pkt.DecRef)
	return l, pkt
}

// BenchmarkDispose is what the way out of the stack costs a packet, netstack aside.
func BenchmarkDispose(b *testing.B) {
	for _, of := range listeners {
		b.Run(of.name, func(b *testing.B) {
			l, pkt := outLink(b)
			listen(b, l.s, of.kinds)
			b.ReportAllocs()
			for b.Loop() {
				if l.dispose(pkt) {
					b.Fatal("not sent")
				}
			}
		})
	}
}

// Who does not listen pays nothing: no event is made, nor anything allocated for one.
func TestEventsForNobody(t *testing.T) {
	l, pkt := outLink(t)
	data := make([]byte, 1500)
	for _, c := range []struct {
		what  string
		do    func()
		kinds EventKinds // of a listener who wants something else
	}{
		{"a packet out", func() { l.dispose(pkt) }, CallEvents | LinkEvents},
		{"a fault of the link", func() { l.s.PublishLink(LinkEvent{Dev: "cat0", Action: "drop", Why: "loss", Data: data}) }, AllEvents &^ LinkEvents},
		{"a call", func() { l.s.Sys().begin("read", 3) }, AllEvents &^ CallEvents},
	} {
		if n := testing.AllocsPerRun(100, c.do); n != 0 {
			t.Errorf("%s allocates %v times although nobody listens", c.what, n)
		}
		sub := l.s.SubscribeWith(t.Context(), SubscribeConfig{Kinds: c.kinds, Buffer: 1000})
		if n := testing.AllocsPerRun(100, c.do); n != 0 {
			t.Errorf("%s allocates %v times for who listens to something else", c.what, n)
		}
		if n := len(sub.Events()); n != 0 {
			t.Errorf("%s: %d events for who listens to something else", c.what, n)
		}
		sub.Close()
	}
}
