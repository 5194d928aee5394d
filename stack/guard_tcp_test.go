package stack

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack/internal/mend"
	"github.com/catflap/catflap/stack/internal/peek"
)

// stamped is segment with a time stamp and a window scale (in a SYN) among its options.
func stamped(t tb, f FourTuple, flags packet.Flags, seq, ack, tsVal uint32, data string) []byte {
	t.Helper()
	ip := ipLayer(f.Src.Addr(), f.Dst.Addr(), layers.IPProtocolTCP)
	ts := make([]byte, 8)
	ts[0], ts[1], ts[2], ts[3] = byte(tsVal>>24), byte(tsVal>>16), byte(tsVal>>8), byte(tsVal)
	h := &layers.TCP{
		SrcPort: layers.TCPPort(f.Src.Port()), DstPort: layers.TCPPort(f.Dst.Port()), Seq: seq, Ack: ack, Window: 65535,
		SYN: flags&packet.SYN != 0, ACK: flags&packet.ACK != 0, FIN: flags&packet.FIN != 0, RST: flags&packet.RST != 0, PSH: flags&packet.PSH != 0,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: ts}},
	}
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialize(t, ip, h, gopacket.Payload(data))
}

// guardCase is a connection that a peer has opened, with sequence number 101 next.
type guardCase struct {
	*wire
	f    FourTuple
	conn *TCPConn
	ack  uint32 // SND.NXT of the stack
}

// guarded opens a connection, with time stamps if tsVal is not zero.
func guarded(t *testing.T, cfg Config, src, dst string, tsVal uint32) *guardCase {
	t.Helper()
	g := &guardCase{wire: newWire(t, cfg), f: tuple("tcp", src, dst)}
	l, err := g.s.ListenTCP("tcp", g.f.Dst.String(), 5)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	if tsVal == 0 {
		g.ack = g.handshake(t, g.f, 100)
	} else {
		got := g.ask(t, stamped(t, g.f, packet.SYN, 100, 0, tsVal, ""))
		if got == nil {
			t.Fatal("the SYN was not answered")
		}
		g.ack = got.TCP.Seq + 1
		g.inject(stamped(t, g.f, packet.ACK, 101, g.ack, tsVal, ""))
	}
	g.s.Quiesce()
	g.conn, err = l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { g.conn.Close() })
	return g
}

// wantDropped holds an answer against the ACK that a dropped segment must have.
func (g *guardCase) wantDropped(t *testing.T, what string, got *packet.Packet) {
	t.Helper()
	if got == nil || got.TCP.Flags != packet.ACK || got.TCP.Seq != g.ack || got.TCP.Ack != 101 {
		t.Errorf("%s was answered by %v, want an ACK with %d and acknowledging 101", what, got, g.ack)
	}
	if q := g.conn.Info().RecvQ; q != 0 {
		t.Errorf("%s: %d bytes can be read", what, q)
	}
}

func TestGuardAck(t *testing.T) {
	for _, c := range []struct {
		name     string
		src, dst string
		off      int64 // of the acknowledgment from SND.NXT
		flags    packet.Flags
		data     string
		drops    Drops
	}{
		{"data just above", "10.9.0.1:5000", "10.9.0.2:80", 1, packet.ACK, "forged", Drops{AckUnsent: 1}},
		{"data far above", "10.9.0.1:5000", "10.9.0.2:80", 1 << 30, packet.ACK, "forged", Drops{AckUnsent: 1}},
		{"FIN above", "10.9.0.1:5000", "10.9.0.2:80", 1000, packet.ACK | packet.FIN, "", Drops{AckUnsent: 1}},
		{"data above, IPv6", "[fd00:9::1]:5000", "[fd00:9::2]:80", 1000, packet.ACK, "forged", Drops{AckUnsent: 1}},
		{"too old", "10.9.0.1:5000", "10.9.0.2:80", -65536 - 1, packet.ACK, "forged", Drops{AckTooOld: 1}},
		{"too old, IPv6", "[fd00:9::1]:5000", "[fd00:9::2]:80", -1 << 30, packet.ACK, "forged", Drops{AckTooOld: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := guarded(t, Config{}, c.src, c.dst, 0)
			g.wantDropped(t, c.name, g.ask(t, segment(t, g.f, c.flags, 101, g.ack+uint32(c.off), c.data)))
			if got := g.s.Drops(); got != c.drops {
				t.Errorf("drops %+v, want %+v", got, c.drops)
			}
			// The connection goes on, also with the oldest acknowledgment that may be.
			if got := g.ask(t, segment(t, g.f, packet.ACK, 101, g.ack-65535, "true")); got == nil || got.TCP.Ack != 105 {
				t.Errorf("data after it was answered by %v", got)
			}
		})
	}
}

func TestGuardOff(t *testing.T) {
	g := guarded(t, Config{NoGuards: true}, "10.9.0.1:5000", "10.9.0.2:80", 0)
	g.inject(segment(t, g.f, packet.ACK, 101, g.ack+1000, "forged"))
	g.s.Quiesce()
	if q := g.conn.Info().RecvQ; q != 6 {
		t.Errorf("netstack now drops data above SND.NXT itself (%d bytes to read): the guard can go", q)
	}
}

// A challenge ACK is limited in rate, also when what is challenged has data.
func TestGuardChallengeRate(t *testing.T) {
	clock := faketime.NewManualClock()
	g := guarded(t, Config{Clock: clock}, "10.9.0.1:5000", "10.9.0.2:80", 0)
	clock.Advance(time.Second) // netstack takes time 0 for "never"
	answers := 0
	for i := range uint32(50) {
		for _, b := range [][]byte{
			segment(t, g.f, packet.ACK, 101, g.ack+1000+i, "forged"),
			segment(t, g.f, packet.SYN, 110+i, 0, "forged"),
			segment(t, g.f, packet.RST, 110+i, 0, "forged"),
		} {
			g.inject(b)
			answers += len(g.read(t))
		}
	}
	if answers != 1 {
		t.Errorf("%d challenge ACKs at one instant, want 1", answers)
	}
}

func TestGuardPAWS(t *testing.T) {
	clock := faketime.NewManualClock()
	g := guarded(t, Config{Clock: clock}, "10.9.0.1:5000", "10.9.0.2:80", 1000)
	g.wantDropped(t, "an older time stamp", g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, 999, "old")))
	// An old duplicate with data is answered each time: its sender may need it.
	g.wantDropped(t, "an older time stamp again", g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, 998, "old")))
	if got, want := g.s.Drops(), (Drops{PAWS: 2}); got != want {
		t.Errorf("drops %+v, want %+v", got, want)
	}
	if got := g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, 1000, "new")); got == nil || got.TCP.Ack != 104 {
		t.Errorf("data with the same time stamp was answered by %v", got)
	}
	must(t, g.conn.SetKeepAlive(false))
	// After 24 days the peer's clock may have gone half round (RFC 7323 5.5).
	clock.Advance(24*24*time.Hour + time.Second)
	g.read(t)
	if got := g.ask(t, stamped(t, g.f, packet.ACK, 104, g.ack, 500, "late")); got == nil || got.TCP.Ack != 108 {
		t.Errorf("data after 24 days was answered by %v", got)
	}
}

// echoed returns the time stamp that an answer echoes.
func echoed(t *testing.T, got *packet.Packet) uint32 {
	t.Helper()
	if got != nil && got.TCP != nil {
		for _, o := range got.TCP.Options {
			if _, ecr, ok := o.Timestamp(); ok {
				return ecr
			}
		}
	}
	t.Fatalf("no time stamp in %v", got)
	return 0
}

// The answer to what comes again because an ACK was lost echoes its time stamp.
func TestGuardRenewsTimestamp(t *testing.T) {
	for _, c := range []struct {
		name     string
		src, dst string
		noGuards bool
		flags    packet.Flags
		seq      uint32
		data     string
		broken   bool
		busy     bool
		soon     bool // before a timeout could have sent it
		want     uint32
	}{
		{name: "all", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 101, data: "12345678", want: 3000},
		{name: "all, IPv6", src: "[fd00:9::1]:5000", dst: "[fd00:9::2]:80", seq: 101, data: "12345678", want: 3000},
		{name: "the start", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 101, data: "1234", want: 3000},
		{name: "the end, FIN", src: "10.9.0.1:5000", dst: "10.9.0.2:80", flags: packet.FIN, seq: 105, data: "5678", want: 3000},
		{name: "longer ago than any window", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 1<<32 - 69899, data: "1234", want: 2000},
		{name: "no data", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 105, want: 2000},
		{name: "bad checksum", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 101, data: "1234", broken: true, want: 2000},
		{name: "too soon", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 101, data: "12345678", soon: true, want: 2000},
		{name: "busy", src: "10.9.0.1:5000", dst: "10.9.0.2:80", seq: 101, data: "1234", busy: true, want: 2000},
		// If this fails, netstack renews it itself: the guard can go.
		{name: "without the guard", src: "10.9.0.1:5000", dst: "10.9.0.2:80", noGuards: true, seq: 101, data: "12345678", want: 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := faketime.NewManualClock()
			g := guarded(t, Config{Clock: clock, NoGuards: c.noGuards}, c.src, c.dst, 1000)
			clock.Advance(time.Second) // netstack takes time 0 for "never"
			last := g.ask(t, stamped(t, g.f, packet.ACK|c.flags, 101, g.ack, 2000, "12345678"))
			// netstack acknowledges a FIN before it looks at the time stamp.
			if ecr := echoed(t, last); ecr != 2000 && c.flags&packet.FIN == 0 {
				t.Fatalf("new data with time stamp 2000: the ACK echoes %d", ecr)
			}
			clock.Advance(200*time.Millisecond - 1) // the least timeout that peers have
			if !c.soon {
				clock.Advance(1)
			}
			b := stamped(t, g.f, packet.ACK|c.flags, c.seq, g.ack, 3000, c.data)
			if c.broken {
				b[len(b)-1] ^= 1
			}
			e := tcpOf(g.conn.fd.k.ep)
			if c.busy {
				e.Lock()
			}
			g.inject(b)
			if c.busy {
				e.Unlock()
			}
			out := g.read(t)
			if answered := len(out) == 1; answered == c.broken {
				t.Fatalf("it was answered by %v", out)
			}
			// Asked once more, with a time stamp as old as the last that counts.
			if ecr := echoed(t, g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, c.want, "12345678"))); ecr != c.want {
				t.Errorf("what comes again has time stamp 3000, and after it ACKs echo %d, want %d", ecr, c.want)
			}
			if len(out) == 1 {
				if ecr := echoed(t, &out[0]); ecr != c.want {
					t.Errorf("what comes again has time stamp 3000, and its ACK echoes %d, want %d", ecr, c.want)
				}
				if ack := out[0].TCP.Ack; ack != last.TCP.Ack {
					t.Errorf("its ACK acknowledges %d, want %d", ack, last.TCP.Ack)
				}
			}
			if q := g.conn.Info().RecvQ; q != 8 {
				t.Errorf("%d bytes can be read, want 8", q)
			}
		})
	}
}

// A segment that is sent again though it was only overtaken takes nothing away from
// those that are on their way with it, with older time stamps.
func TestGuardSpuriousRetransmission(t *testing.T) {
	clock := faketime.NewManualClock()
	g := guarded(t, Config{Clock: clock}, "10.9.0.1:5000", "10.9.0.2:80", 1000)
	clock.Advance(time.Second) // netstack takes time 0 for "never"
	data := "12345678"
	g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, 2000, data))
	clock.Advance(20 * time.Millisecond)
	g.ask(t, stamped(t, g.f, packet.ACK, 101, g.ack, 2020, data))                          // again
	got := g.ask(t, stamped(t, g.f, packet.ACK, 101+uint32(len(data)), g.ack, 2010, data)) // sent before
	if want := 101 + uint32(2*len(data)); got == nil || got.TCP.Ack != want {
		t.Errorf("data sent before what was sent again is answered by %v, want an ACK of %d", got, want)
	}
	if d := g.s.Drops(); d != (Drops{}) {
		t.Errorf("drops %+v", d)
	}
}

// A segment with a bad checksum is netstack's to drop, without an answer.
func TestGuardBadChecksum(t *testing.T) {
	g := guarded(t, Config{}, "10.9.0.1:5000", "10.9.0.2:80", 0)
	b := segment(t, g.f, packet.ACK, 101, g.ack+1000, "forged")
	b[len(b)-1] ^= 1
	if got := g.ask(t, b); got != nil {
		t.Errorf("answered by %v", got)
	}
	if got := g.s.Drops(); got != (Drops{}) {
		t.Errorf("drops %+v", got)
	}
}

// While the lock is held, what is far above SND.NXT is still dropped, nothing waits,
// and what a segment on its way out may explain passes.
func TestGuardBusy(t *testing.T) {
	g := guarded(t, Config{}, "10.9.0.1:5000", "10.9.0.2:80", 0)
	e := g.conn.fd.k.ep.(*tcp.Endpoint)
	const super = 1<<16 + 1 // a super-packet's payload, and a FIN
	judge := func(n uint32) string {
		pkt := delivered(segment(t, g.f, packet.ACK, 101, g.ack+n, ""))
		defer pkt.DecRef()
		sub, reason := g.s.guards.Segment(e, pkt)
		if sub != nil {
			sub.DecRef()
		}
		return reason
	}
	e.LockUser()
	for n, want := range map[uint32]bool{0: false, 1: false, super: false, super + 1: true, 1 << 30: true} {
		if got := judge(n) == mend.DropAckUnsent; got != want {
			t.Errorf("while a segment may be on its way out, %d above SND.NXT never sent: %v, want %v", n, got, want)
		}
	}
	e.UnlockUser()
	for n, want := range map[uint32]bool{0: false, 1: true, super: true, 1 << 30: true} {
		if got := judge(n) == mend.DropAckUnsent; got != want {
			t.Errorf("at rest, %d above SND.NXT never sent: %v, want %v", n, got, want)
		}
	}
}

// delivered is an IPv4 packet without options as netstack hands it to its TCP.
func delivered(b []byte) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	pkt.NetworkHeader().Consume(header.IPv4MinimumSize)
	pkt.TransportHeader().Consume(int(header.TCP(b[header.IPv4MinimumSize:]).DataOffset()))
	return pkt
}

// The drop shows in the packet's event.
func TestGuardEvent(t *testing.T) {
	g := guarded(t, Config{}, "10.9.0.1:5000", "10.9.0.2:80", 0)
	sub := g.s.Subscribe(context.Background(), 16)
	defer sub.Close()
	g.inject(segment(t, g.f, packet.ACK, 101, g.ack+1000, "forged"))
	for ev := range sub.Events() {
		if p := ev.Packet; p != nil && !p.Out {
			if p.Drop != mend.DropAckUnsent || p.Socket == nil || !p.Socket.Found {
				t.Errorf("event %+v", p)
			}
			return
		}
	}
}

// Nothing that true peers send is dropped, whatever is on its way meanwhile: over lo,
// the answer to a segment comes before its sender has noted that it is sent.
func TestGuardDropsNothingTrue(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	const each = 64 << 20
	var wg sync.WaitGroup
	for _, k := range []*TCPConn{c, srv} {
		wg.Go(func() {
			if _, err := io.CopyN(k, zeros{}, each); err != nil {
				t.Errorf("write: %v", err)
			}
			k.CloseWrite()
		})
		wg.Go(func() {
			if n, err := io.Copy(io.Discard, k); n != each || err != nil {
				t.Errorf("read %d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
	c.Close()
	srv.Close()
	if d := s.Drops(); d != (Drops{}) {
		t.Errorf("drops %+v", d)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// BenchmarkGuardTCP is what the guard costs a segment that it lets through.
func BenchmarkGuardTCP(b *testing.B) {
	s := newStack(b, Config{})
	c, srv := connPair(b, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	s.Quiesce()
	e := c.fd.k.ep.(*tcp.Endpoint)
	e.LockUser()
	nxt, recent := peek.Sender(e).SndNxt, e.RecentTS
	e.UnlockUser()
	h := make([]byte, 20+32+1000)
	header.IPv4(h).Encode(&header.IPv4Fields{TotalLength: uint16(len(h)), Protocol: uint8(header.TCPProtocolNumber), TTL: 64})
	seg := header.TCP(h[20:])
	seg.Encode(&header.TCPFields{DataOffset: 32, Flags: header.TCPFlagAck, AckNum: uint32(nxt)})
	copy(h[40:], []byte{1, 1, 8, 10})
	h[44], h[45], h[46], h[47] = byte(recent>>24), byte(recent>>16), byte(recent>>8), byte(recent)
	pkt := delivered(h)
	defer pkt.DecRef()
	b.ReportAllocs()
	for b.Loop() {
		if s.guard(e, pkt) != nil {
			b.Fatal("dropped a segment that is right")
		}
	}
}
