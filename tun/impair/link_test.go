package impair

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/tun"
)

// TestOffPassesUntouched: a TSO super-packet with a partial checksum crosses as it is, and GSO stays on offer.
func TestOffPassesUntouched(t *testing.T) {
	for _, dir := range []Direction{In, Out} {
		b := newBench(t, Config{})
		gso := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: 16, L3HdrLen: 20, MSS: 100}
		frame := datagram(1, 1000)
		b.send(dir, frame, gso)
		got := b.arrivals(dir)
		if len(got) != 1 || string(got[0].bytes) != string(frame) || got[0].gso != gso {
			t.Errorf("%s: %d packets, %+v", dir, len(got), got)
		}
		if s := b.Stats(); s != (LinkStats{}) {
			t.Errorf("%s: counted %+v", dir, s)
		}
	}
	a, _ := tun.Pipe(1500)
	l := New(a, Config{})
	defer l.Close()
	if l.SupportedGSO() != stack.HostGSOSupported || l.GSOMaxSize() != a.GSOMaxSize() {
		t.Error("the Link hides the GSO of the endpoint below")
	}
}

// TestCutOnLink: while a Link is on a super-packet goes out as segments, which are lost one by one.
func TestCutOnLink(t *testing.T) {
	for _, dir := range []Direction{In, Out} {
		b := newBench(t, Config{})
		b.set(t, dir, "delay 1ms")
		b.rule(t, "drop tcp data 3")
		frame := make([]byte, 1040)
		header.IPv4(frame).Encode(&header.IPv4Fields{
			TotalLength: 1040, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: clientAddr(false), DstAddr: serverAddr(false),
		})
		header.TCP(frame[20:]).Encode(&header.TCPFields{SrcPort: 40000, DstPort: 80, SeqNum: 1000, DataOffset: 20, Flags: header.TCPFlagAck})
		b.send(dir, frame, stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, L3HdrLen: 20, MSS: 100})
		b.clock.Advance(ms)
		got := b.arrivals(dir)
		if len(got) != 9 {
			t.Errorf("%s: %d packets, want 9", dir, len(got))
		}
		for _, a := range got {
			if a.gso != (stack.GSO{}) {
				t.Errorf("%s: a complete packet asks for offloads: %+v", dir, a.gso)
			}
			if p, err := packet.Parse(a.bytes); err != nil || p.Verify() != nil || len(a.bytes) != 140 {
				t.Errorf("%s: a packet of %d bytes: %v %v", dir, len(a.bytes), err, p.Verify())
			}
		}
		s := b.Stats()
		if s := []Stats{s.In, s.Out}[dir]; s.Cut != 1 || s.Packets != 10 || s.Faulted != 1 {
			t.Errorf("%s: counted %+v", dir, s)
		}
	}
}

// TestDelay: packets arrive in order, exactly as late as asked, and the other direction is not touched.
func TestDelay(t *testing.T) {
	b := newBench(t, Config{})
	b.set(t, Out, "delay 20ms")
	for i := range 5 {
		b.send(Out, datagram(uint32(i), 100), stack.GSO{})
		b.send(In, datagram(uint32(i), 100), stack.GSO{})
		b.clock.Advance(time.Millisecond)
	}
	if in := b.arrivals(In); len(in) != 5 {
		t.Errorf("%d packets came in at once, want 5", len(in))
	}
	if got := b.arrivals(Out); len(got) != 0 {
		t.Errorf("%d packets came out too early", len(got))
	}
	b.clock.Advance(time.Second)
	got := b.arrivals(Out)
	if len(got) != 5 {
		t.Fatalf("%d packets came out, want 5", len(got))
	}
	for i, a := range got {
		if want := time.Duration(i)*ms + 20*ms; a.at != want || serial(t, a.bytes) != uint32(i) {
			t.Errorf("packet %d came as number %d at %s, want %s", serial(t, a.bytes), i, a.at, want)
		}
	}
	want := Stats{Packets: 5, Bytes: 500, Delayed: 5, Passed: 5, PassedBytes: 500}
	if s := b.Stats(); s.Out != want || s.In != (Stats{}) {
		t.Errorf("counted %+v, want %+v", s, want)
	}
}

// TestRate: packets follow each other at the distance that their size makes, and delay comes on top once.
func TestRate(t *testing.T) {
	for _, tt := range []struct {
		netem string
		first time.Duration // after which packets follow each other every…
		every time.Duration
	}{
		{"rate 1mbit", 8 * ms, 8 * ms}, // 1000 bytes
		{"rate 1mbit 250", 10 * ms, 10 * ms},
		{"rate 1mbit -500", 4 * ms, 4 * ms},
		{"rate 1mbit 0 48 5", 8904 * time.Microsecond, 8904 * time.Microsecond}, // 21 cells of 53 bytes
		{"rate 1mbit delay 100ms", 108 * ms, 8 * ms},
	} {
		b := newBench(t, Config{})
		b.set(t, Out, tt.netem)
		for i := range 10 {
			b.send(Out, datagram(uint32(i), 1000), stack.GSO{})
		}
		b.clock.Advance(time.Minute)
		got := b.arrivals(Out)
		if len(got) != 10 {
			t.Fatalf("%s: %d packets", tt.netem, len(got))
		}
		for i, a := range got {
			if want := tt.first + time.Duration(i)*tt.every; a.at != want {
				t.Errorf("%s: packet %d at %s, want %s", tt.netem, i, a.at, want)
			}
		}
	}
}

// TestReorder: with a gap of 5 and a probability of 100 % each fifth packet overtakes the four before it.
func TestReorder(t *testing.T) {
	b := newBench(t, Config{})
	b.set(t, Out, "delay 10ms reorder 100% gap 5")
	for i := range 10 {
		b.send(Out, datagram(uint32(i), 100), stack.GSO{})
	}
	b.clock.Advance(time.Second)
	var order []uint32
	for _, a := range b.arrivals(Out) {
		order = append(order, serial(t, a.bytes))
	}
	if want := []uint32{4, 9, 0, 1, 2, 3, 5, 6, 7, 8}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if s := b.Stats().Out; s.Reordered != 2 || s.Delayed != 8 {
		t.Errorf("counted %+v", s)
	}
}

// TestSlot: packets come out together, so many at a time, at the distance asked for.
func TestSlot(t *testing.T) {
	for _, netem := range []string{"slot 10ms packets 3", "slot 10ms bytes 300"} {
		b := newBench(t, Config{})
		b.set(t, Out, netem)
		for i := range 7 {
			b.send(Out, datagram(uint32(i), 100), stack.GSO{})
		}
		b.clock.Advance(time.Second)
		var at []time.Duration
		for _, a := range b.arrivals(Out) {
			at = append(at, a.at)
		}
		if want := []time.Duration{0, 0, 0, 10 * ms, 10 * ms, 10 * ms, 20 * ms}; !slices.Equal(at, want) {
			t.Errorf("%s: packets at %v, want %v", netem, at, want)
		}
	}
}

func TestLimit(t *testing.T) {
	b := newBench(t, Config{})
	b.set(t, Out, "delay 10ms limit 3")
	for i := range 5 {
		b.send(Out, datagram(uint32(i), 100), stack.GSO{})
	}
	if s := b.Stats().Out; s.OverLimit != 2 || s.Queued != 3 {
		t.Errorf("counted %+v", s)
	}
	b.clock.Advance(time.Second)
	if got := b.arrivals(Out); len(got) != 3 {
		t.Errorf("%d packets, want 3", len(got))
	}
}

// TestLiveChange: settings change and go while packets wait, and none is lost or late.
func TestLiveChange(t *testing.T) {
	b := newBench(t, Config{})
	b.set(t, Out, "delay 50ms")
	b.send(Out, datagram(0, 100), stack.GSO{})
	b.set(t, Out, "delay 20ms loss 0% rate 10gbit")
	b.send(Out, datagram(1, 100), stack.GSO{})
	b.set(t, Out, "slot 30ms 40ms")
	b.send(Out, datagram(2, 100), stack.GSO{})
	b.set(t, Out, "")
	b.send(Out, datagram(3, 100), stack.GSO{}) // does not wait
	if b.ways[Out].on.Load() != true {
		t.Error("turned off while packets wait")
	}
	b.clock.Advance(time.Second)
	got := b.arrivals(Out)
	var order []uint32
	for _, a := range got {
		order = append(order, serial(t, a.bytes))
	}
	if want := []uint32{2, 3, 1, 0}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	if b.ways[Out].on.Load() {
		t.Error("still on with nothing to do")
	}
	if got[3].at != 50*ms {
		t.Errorf("the first packet came at %s, want 50ms", got[3].at)
	}
}

// TestClose drops what waits, counts it, and leaves no timer (goleak sees to that).
func TestClose(t *testing.T) {
	b := newBench(t, Config{})
	b.set(t, Out, "delay 10ms")
	b.send(Out, datagram(0, 100), stack.GSO{})
	b.Close()
	b.Close()
	b.clock.Advance(time.Second)
	if got := b.arrivals(Out); len(got) != 0 {
		t.Errorf("%d packets after Close", len(got))
	}
	if s := b.Stats().Out; s.Dropped != 1 || s.Queued != 0 {
		t.Errorf("counted %+v", s)
	}
	if err := b.Set(Out, Spec{}); err == nil {
		t.Error("Set works on a closed Link")
	}
	b.send(Out, datagram(1, 100), stack.GSO{})
}

// everything is a Spec with all causes at work.
const everything = "delay 20ms 10ms 25% distribution normal loss gemodel 2% 20% 70% 0.5% duplicate 3% corrupt 2% " +
	"reorder 5% 25% gap 3 rate 50mbit slot 1ms 4ms packets 20 limit 500"

// run sends the same packets through a Link with the same seed and returns a digest of all that came out, and when.
func run(t testing.TB, seed uint64, spec string) string {
	clock := faketime.NewManualClock()
	below := &wire{clock: clock, start: clock.NowMonotonic()}
	above := &wire{clock: clock, start: clock.NowMonotonic()}
	l := New(below, Config{Clock: clock, Seed: seed})
	l.Attach(above)
	defer l.Close()
	b := &bench{Link: l, clock: clock, below: below, above: above}
	for _, dir := range []Direction{In, Out} {
		b.set(t, dir, spec)
	}
	for i := range 500 {
		b.send(Direction(i%2), datagram(uint32(i), 100+i%900), stack.GSO{})
		clock.Advance(100 * time.Microsecond)
	}
	clock.Advance(time.Minute)
	h := sha256.New()
	for _, a := range append(below.take(), above.take()...) {
		fmt.Fprintf(h, "%d %x\n", a.at, a.bytes)
	}
	fmt.Fprintf(h, "%+v", l.Stats())
	return string(h.Sum(nil))
}

func TestDeterminism(t *testing.T) {
	want := run(t, 7, everything)
	for range 100 {
		if got := run(t, 7, everything); got != want {
			t.Fatal("the same seed gave other packets")
		}
	}
	if run(t, 8, everything) == want {
		t.Error("another seed gave the same packets")
	}
	// A seed among the settings is the same as one in the Config.
	if run(t, 1, everything+" seed 7") != run(t, 2, everything+" seed 7") {
		t.Error("the settings' seed does not decide alone")
	}
}

// TestCausesAreIndependent: which packets are lost does not change when other causes are added.
func TestCausesAreIndependent(t *testing.T) {
	lost := func(spec string) (serials []uint32) {
		b := newBench(t, Config{Seed: 7})
		b.set(t, Out, spec)
		for i := range 300 {
			before := b.Stats().Out.Lost
			b.send(Out, datagram(uint32(i), 100), stack.GSO{})
			if b.Stats().Out.Lost > before {
				serials = append(serials, uint32(i))
			}
		}
		return serials
	}
	alone := lost("loss 10%")
	if len(alone) < 10 {
		t.Fatalf("only %d of 300 packets were lost", len(alone))
	}
	for _, with := range []string{"corrupt 50%", "delay 10ms 5ms", "delay 1ms reorder 50%", "slot 1ms", "rate 1mbit"} {
		if got := lost("loss 10% " + with); !slices.Equal(got, alone) {
			t.Errorf("with %s packets %v are lost, without %v", with, got, alone)
		}
	}
}

// TestOffCost: while a direction is off, the layer itself allocates nothing.
func TestOffCost(t *testing.T) {
	l := New(discard{}, Config{})
	l.Attach(discard{})
	defer l.Close()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	defer pkt.DecRef()
	var list stack.PacketBufferList
	list.PushBack(pkt.IncRef())
	defer list.DecRef()
	if n := testing.AllocsPerRun(1000, func() {
		l.WritePackets(list)
		l.DeliverNetworkPacket(header.IPv4ProtocolNumber, pkt)
	}); n != 0 {
		t.Errorf("%v allocations a packet, want none", n)
	}
}
