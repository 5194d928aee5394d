package stack

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"

	"github.com/catflap/catflap/internal/packet"
)

// sink is a dispatcher above a link, which keeps what the link lets through.
type sink struct {
	stack.NetworkDispatcher
	got [][]byte
}

func (s *sink) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	s.got = append(s.got, pkt.Data().AsRange().ToSlice())
}

// thinned returns what the stack's link hands on of packets that arrive in batches;
// nil ends a batch.
func thinned(t testing.TB, w *wire, packets [][]byte) [][]byte {
	t.Helper()
	l := w.s.link("cat0")
	above := &sink{}
	l.Endpoint.Attach(above)
	for _, b := range packets {
		if b == nil {
			l.EndBatch()
			continue
		}
		proto := ipv4.ProtocolNumber
		if b[0]>>4 == 6 {
			proto = ipv6.ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		l.DeliverBatched(proto, pkt)
		pkt.DecRef()
	}
	l.EndBatch()
	return above.got
}

var (
	thin4 = tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	thin6 = tuple("tcp", "[fd00:9::1]:5000", "[fd00:9::2]:80")
)

// ackWith is an ACK with TCP options.
func ackWith(t tb, f FourTuple, ack uint32, options ...layers.TCPOption) []byte {
	ip := ipLayer(f.Src.Addr(), f.Dst.Addr(), layers.IPProtocolTCP)
	h := &layers.TCP{SrcPort: layers.TCPPort(f.Src.Port()), DstPort: layers.TCPPort(f.Dst.Port()), Seq: 1, Ack: ack, Window: 65535, ACK: true, Options: options}
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialize(t, ip, h)
}

func TestThinACKs(t *testing.T) {
	nop := layers.TCPOption{OptionType: layers.TCPOptionKindNop, OptionLength: 1}
	stamp := []layers.TCPOption{nop, nop, {OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}
	sack := []layers.TCPOption{nop, nop, {OptionType: layers.TCPOptionKindSACK, OptionLength: 10, OptionData: make([]byte, 8)}}
	for _, f := range []FourTuple{thin4, thin6} {
		other := f
		other.Src = netip.MustParseAddrPort("10.9.0.3:6000")
		if f.Src.Addr().Is6() {
			other.Src = netip.MustParseAddrPort("[fd00:9::3]:6000")
		}
		a := func(n uint32) []byte { return segment(t, f, packet.ACK, 1, n, "") }
		data := func(n uint32) []byte { return segment(t, f, packet.ACK|packet.PSH, 1, n, "meow") }
		var end []byte
		for _, c := range []struct {
			what     string
			in, want [][]byte
		}{
			{"of several ACKs the last", [][]byte{a(10), a(20), a(30)}, [][]byte{a(30)}},
			{"a wrap of the sequence numbers", [][]byte{a(1<<32 - 5), a(5)}, [][]byte{a(5)}},
			{"one of each batch", [][]byte{a(10), a(20), end, a(30), end, end}, [][]byte{a(20), a(30)}},
			{"duplicates are all seen", [][]byte{a(10), a(10), a(10), a(20)}, [][]byte{a(10), a(10), a(20)}},
			{"an old one does not replace a newer", [][]byte{a(20), a(10)}, [][]byte{a(20), a(10)}},
			{"data goes after what came before it", [][]byte{a(10), a(20), data(20), a(30)}, [][]byte{a(20), data(20), a(30)}},
			{"FIN too", [][]byte{a(10), segment(t, f, packet.ACK|packet.FIN, 1, 20, "")}, [][]byte{a(10), segment(t, f, packet.ACK|packet.FIN, 1, 20, "")}},
			{"a time stamp is no more than an ACK", [][]byte{ackWith(t, f, 10, stamp...), ackWith(t, f, 20, stamp...)}, [][]byte{ackWith(t, f, 20, stamp...)}},
			{"SACK blocks are more", [][]byte{a(10), ackWith(t, f, 20, sack...), ackWith(t, f, 30, sack...)}, [][]byte{a(10), ackWith(t, f, 20, sack...), ackWith(t, f, 30, sack...)}},
			{"padding behind the packet", [][]byte{append(a(10), 0), append(a(20), 0)}, [][]byte{append(a(10), 0), append(a(20), 0)}},
			{"another flow", [][]byte{a(10), segment(t, other, packet.ACK, 1, 20, "")}, [][]byte{a(10), segment(t, other, packet.ACK, 1, 20, "")}},
		} {
			w := newWire(t, Config{})
			got := thinned(t, w, c.in)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s, %s: got %d packets, want %d:\n%x\n%x", f.Src.Addr(), c.what, len(got), len(c.want), got, c.want)
			}
		}
	}
}

// TestThinACKsListener has somebody listen to packets, who is to see every one, also
// if he comes while one is held.
func TestThinACKsListener(t *testing.T) {
	w := newWire(t, Config{})
	l := w.s.link("cat0")
	above := &sink{}
	l.Endpoint.Attach(above)
	deliver := func(ack uint32) {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(segment(t, thin4, packet.ACK, 1, ack, ""))})
		l.DeliverBatched(ipv4.ProtocolNumber, pkt)
		pkt.DecRef()
	}
	deliver(10)
	sub := w.s.Subscribe(t.Context(), 16)
	defer sub.Close()
	for n := uint32(20); n <= 50; n += 10 {
		deliver(n)
	}
	if len(above.got) != 5 {
		t.Errorf("%d of 5 packets handed on", len(above.got))
	}
}

// TestThinACKsForwarding: a router has no business with what hosts acknowledge.
func TestThinACKsForwarding(t *testing.T) {
	w := newWire(t, Config{Forwarding: true})
	got := thinned(t, w, [][]byte{segment(t, thin4, packet.ACK, 1, 10, ""), segment(t, thin4, packet.ACK, 1, 20, "")})
	if len(got) != 2 {
		t.Errorf("%d of 2 packets handed on", len(got))
	}
}

// TestThinACKsModel holds what is handed on against what must be: for each flow, in
// order, everything but ACKs that the next packet of the flow in the same batch
// supersedes.
func TestThinACKsModel(t *testing.T) {
	flows := make([]FourTuple, 300) // more than there are slots
	for i := range flows {
		flows[i] = thin4
		flows[i].Src = netip.MustParseAddrPort(fmt.Sprintf("10.9.%d.%d:%d", i%7, i%250+1, 1000+i))
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWire(t, Config{})
		var in [][]byte
		batch := map[int]int{} // index in `in` -> number of the batch
		n := rapid.IntRange(1, 300).Draw(rt, "packets")
		few := rapid.IntRange(1, len(flows)).Draw(rt, "flows")
		batches := 0
		for range n {
			f := flows[rapid.IntRange(0, few-1).Draw(rt, "flow")]
			ack := rapid.Uint32Range(1, 6).Draw(rt, "ack")
			switch rapid.IntRange(0, 9).Draw(rt, "kind") {
			case 0:
				in = append(in, segment(rt, f, packet.ACK|packet.PSH, 1, ack, "x"))
			case 1:
				in = append(in, nil)
				batches++
				continue
			default:
				in = append(in, segment(rt, f, packet.ACK, 1, ack, ""))
			}
			batch[len(in)-1] = batches
		}
		got := thinned(t, w, in)

		// By flow, what came in and what came out.
		key := func(b []byte) string { return string(b[12:24]) }
		var rest = map[string][][]byte{}
		for _, b := range got {
			rest[key(b)] = append(rest[key(b)], b)
		}
		byFlow := map[string][]int{}
		for i, b := range in {
			if b != nil {
				byFlow[key(b)] = append(byFlow[key(b)], i)
			}
		}
		ackOf := func(b []byte) uint32 { return uint32(b[28])<<24 | uint32(b[29])<<16 | uint32(b[30])<<8 | uint32(b[31]) }
		pure := func(b []byte) bool { return len(b) == 40 }
		for k, idx := range byFlow {
			out := rest[k]
			for j, i := range idx {
				if len(out) > 0 && bytes.Equal(out[0], in[i]) {
					out = out[1:]
					continue
				}
				if j+1 < len(idx) {
					next := idx[j+1]
					if batch[next] == batch[i] && pure(in[i]) && pure(in[next]) && ackOf(in[next]) > ackOf(in[i]) {
						continue // left out, rightly
					}
				}
				rt.Fatalf("packet %d of a flow is missing: %x", i, in[i])
			}
			if len(out) != 0 {
				rt.Fatalf("%d packets came out that did not come in, or not in this order", len(out))
			}
		}
	})
}

// TestThinACKsClose closes a stack whose link holds an ACK: TestMain looks for leaks.
func TestThinACKsClose(t *testing.T) {
	w := newWire(t, Config{})
	l := w.s.link("cat0")
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(segment(t, thin4, packet.ACK, 1, 10, ""))})
	l.DeliverBatched(ipv4.ProtocolNumber, pkt)
	pkt.DecRef()
	w.s.Close()
	if n := l.thin.Held(); n != 0 {
		t.Errorf("%d ACKs are held after Close", n)
	}
}

func BenchmarkDeliverBatched(b *testing.B) {
	w := newWire(b, Config{})
	l := w.s.link("cat0")
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(segment(b, thin4, packet.ACK|packet.PSH, 1, 10, "meow"))})
	defer pkt.DecRef()
	l.Endpoint.Attach(discardAll{})
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.DeliverNetworkPacket(ipv4.ProtocolNumber, pkt)
		}
	})
	b.Run("batched", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.DeliverBatched(ipv4.ProtocolNumber, pkt)
		}
	})
}

type discardAll struct{ stack.NetworkDispatcher }

func (discardAll) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
