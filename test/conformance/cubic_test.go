package conformance

import (
	"math"
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/stack"
)

var cubicCases = []goCase{
	{header{9438, "4.4", "SHOULD", "After a loss the window first grows fast, then ever slower, up to where it was (concave).", ""}, "cubic-concave", "cubic_test.go", cubicConcave},
	{header{9438, "4.4", "SHOULD", "The same when each segment is acknowledged by itself.", "what an acknowledgment adds is cut to whole segments, so that the window does not grow"}, "cubic-concave-each-acknowledged", "cubic_test.go", cubicEachAcknowledged},
	{header{9438, "4.5", "SHOULD", "Beyond where it was the window grows slowly at first, then ever faster (convex).", ""}, "cubic-convex", "cubic_test.go", cubicConvex},
	{header{9438, "4.3", "SHOULD", "Where Reno would be faster, with a small window and a short round trip, the window grows as fast as Reno's.", ""}, "cubic-reno-friendly", "cubic_test.go", cubicRenoFriendly},
	{header{9406, "4.2", "SHOULD", "When round trips become longer in slow start, slow start ends before segments are lost.", "slow start goes on"}, "hystart-delay", "cubic_test.go", hystartDelay},
	{header{9406, "4.2", "MUST NOT", "While round trips stay as they are, slow start goes on.", ""}, "hystart-steady", "cubic_test.go", hystartSteady},
	{header{9438, "4.7", "SHOULD", "After a loss below the window of the loss before, it aims lower (fast convergence).", ""}, "cubic-fast-convergence", "cubic_test.go", cubicFastConvergence},
}

// Constants of RFC 9438: sections 4.6 and 5.
const (
	cubicBeta = 0.7
	cubicC    = 0.4 // segments per second cubed
)

// cubicRTT is long enough that the growth of Reno (section 4.3), which counts round trips, stays below that of CUBIC, which
// counts seconds; and so short that the timer, of at least 200 ms in netstack, does not fire in the two that it takes to
// recover a segment.
const cubicRTT = 90 * time.Millisecond

// cubicWindow is from where on a segment is lost. The window doubles until it is seen, so the loss is at twice as much.
const cubicWindow = 80

// cubicMSS is in bytes; there are no options in the segments.
const cubicMSS = 1000

// sender is a connection that always has data to send, and what its receiver has seen of it.
type sender struct {
	*host
	conn     net.Conn
	rtt      time.Duration
	isn      uint32 // of the stack
	each     bool   // segment is acknowledged, instead of each flight
	una, nxt uint32 // relative to isn: all below una is acknowledged, all below nxt was sent
}

// newSender opens the connection.
func newSender(t testing.TB, rtt time.Duration) *sender {
	t.Helper()
	const data = 4 << 20 // bytes, more than any window here
	h := newHost(t, stack.Config{TCP: stack.TCPConfig{SendBuffer: 8 << 20, SendBufferMax: 8 << 20}}, "10.1.0.1/24")
	l, err := h.s.Listen("tcp", "10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := &sender{host: h, rtt: rtt, una: 1, nxt: 1}
	got := h.ask(segment("10.1.0.2:5000", "10.1.0.1:80", layers.TCP{SYN: true, Seq: 100, Window: 65535, Options: []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{cubicMSS >> 8, cubicMSS & 0xff}},
		{OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}},
	}}))
	if len(got) != 1 || got[0].TCP == nil {
		t.Fatalf("the SYN was answered by %v", got)
	}
	s.isn = got[0].TCP.Seq
	h.wires[0].Advance(rtt)
	s.ack(1)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s.conn = c
	s.write(data)
	return s
}

// write gives the stack so many bytes to send.
func (s *sender) write(n int) {
	s.t.Helper()
	if _, err := s.conn.Write(make([]byte, n)); err != nil {
		s.t.Fatal(err)
	}
	s.wires[0].Settle()
}

// ack acknowledges all below n.
func (s *sender) ack(n uint32) {
	s.send(segment("10.1.0.2:5000", "10.1.0.1:80", layers.TCP{ACK: true, Seq: 101, Ack: s.isn + n, Window: 65535}))
}

// collect notes what was sent, and returns how many segments are in flight.
func (s *sender) collect() int {
	s.t.Helper()
	for _, p := range s.sent() {
		if p.TCP != nil && len(p.Payload) > 0 {
			s.nxt = max(s.nxt, p.TCP.Seq-s.isn+uint32(len(p.Payload)))
		}
	}
	if s.nxt <= s.una {
		s.t.Fatal("nothing is in flight")
	}
	return int(s.nxt-s.una) / cubicMSS
}

// pass lets a round trip pass, in which the stack waits.
func (s *sender) pass() {
	s.t.Helper()
	if s.wires[0].Advance(s.rtt) {
		p := s.sent()[0]
		s.t.Fatalf("at %s, with %d to %d in flight, the stack did not wait for acknowledgments but sent %d (%s)",
			s.wires[0].Clock().Elapsed(), s.una, s.nxt, p.TCP.Seq-s.isn, p)
	}
}

// round lets a round trip pass, and then acknowledges the segments that were in flight: one by one, or all at once, as a
// receiver does that coalesces segments (GRO). It returns their number, which is the congestion window.
func (s *sender) round() int {
	s.t.Helper()
	n := s.collect()
	s.pass()
	for end := s.una + cubicMSS; s.each && end < s.nxt; end += cubicMSS {
		s.ack(end)
	}
	s.ack(s.nxt)
	s.write(int(s.nxt - s.una))
	s.una = s.nxt
	return n
}

// grow lets round trips pass until the window has at least so many segments.
func (s *sender) grow(until int) {
	s.t.Helper()
	for range 100 {
		if s.round() >= until {
			return
		}
	}
	s.t.Fatalf("after 100 round trips the window is less than %d segments", until)
}

// lose lets a round trip pass in which the first segment is lost, and another in which it comes. It returns how many
// segments were in flight.
func (s *sender) lose() int {
	s.t.Helper()
	n := s.collect()
	s.pass()
	for range n - 1 {
		s.ack(s.una)
	}
	s.collect()
	s.pass()
	s.una = s.nxt
	s.ack(s.nxt)
	return n
}

// rounds returns the windows of the next round trips.
func (s *sender) rounds(d time.Duration) (w []int) {
	s.t.Helper()
	for range int(d / s.rtt) {
		w = append(w, s.round())
	}
	return w
}

// curve is W_cubic(t), RFC 9438 section 4.2, of a connection that lost a segment at a window of lost, aims at wMax, and left
// recovery at t = 0.
func curve(lost, wMax float64, t time.Duration) float64 {
	return wMax + cubicC*math.Pow(t.Seconds()-cubicK(lost, wMax), 3)
}

// cubicK is when the curve reaches wMax, in seconds.
func cubicK(lost, wMax float64) float64 { return math.Cbrt((wMax - cubicBeta*lost) / cubicC) }

// follow holds the windows of the coming round trips against the curve, up to five of a hundred off.
func (s *sender) follow(lost, wMax float64, from, until time.Duration) (w []int) {
	s.t.Helper()
	w = s.rounds(until)
	for i, n := range w {
		at := time.Duration(i) * cubicRTT
		if want := curve(lost, wMax, at); at >= from && math.Abs(float64(n)-want) > want/20 {
			s.t.Fatalf("%s after recovery the window is %d segments, want about %.0f; it was %v", at, n, want, w[:i+1])
		}
	}
	return w[int(from/cubicRTT):]
}

// growth returns by how much the window grew in the first and in the last third of the time.
func growth(w []int) (first, last int) {
	third := len(w) / 3
	return w[third] - w[0], w[len(w)-1] - w[len(w)-1-third]
}

// seconds is a duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func cubicConcave(t testing.TB)          { concave(t, false) }
func cubicEachAcknowledged(t testing.TB) { concave(t, true) }

func concave(t testing.TB, each bool) {
	s := newSender(t, cubicRTT)
	s.grow(cubicWindow)
	lost := float64(s.lose())
	s.each = each
	w := s.follow(lost, lost, 0, seconds(cubicK(lost, lost)))
	if first, last := growth(w); first < 3*max(1, last) {
		t.Errorf("the window grew by %d segments at first, and at last by %d: %v", first, last, w)
	}
}

func cubicConvex(t testing.TB) {
	s := newSender(t, cubicRTT)
	s.grow(cubicWindow)
	lost := float64(s.lose())
	k := cubicK(lost, lost)
	w := s.follow(lost, lost, seconds(k), seconds(2*k))
	if first, last := growth(w); last < 3*max(1, first) {
		t.Errorf("the window grew by %d segments at first, and at last by %d: %v", first, last, w)
	}
}

func cubicFastConvergence(t testing.TB) {
	s := newSender(t, cubicRTT)
	s.grow(cubicWindow)
	first := s.lose()
	s.rounds(1500 * time.Millisecond)
	second := s.lose()
	if second >= first {
		t.Fatalf("the window at the second loss, %d segments, is not below that at the first, %d", second, first)
	}
	lost := float64(second)
	wMax := lost * (1 + cubicBeta) / 2
	w := s.rounds(seconds(cubicK(lost, lost)))
	// Slower than the curve is allowed, and usual: RFC 8312 section 4.1 has K from W_max alone. What counts is that the
	// window stays about W_max, and below where it would be without fast convergence.
	if last := float64(w[len(w)-1]); math.Abs(last-wMax) > wMax/10 || last > 0.95*lost {
		t.Errorf("after losses at %d and %d segments the window comes to %v, want about %.0f: %v", first, second, last, wMax, w)
	}
}

// cubicRenoFriendly loses a segment at about 20, on a path of 10 ms. CUBIC's own curve takes seconds back to there; Reno's
// growth, of which section 4.3 has an estimate of about half a segment a round trip, a tenth of a second.
func cubicRenoFriendly(t testing.TB) {
	s := newSender(t, 10*time.Millisecond)
	s.grow(10)
	lost := float64(s.lose())
	w := s.rounds(300 * time.Millisecond)
	if last := float64(w[len(w)-1]); last < lost || last < 1.3*curve(lost, lost, 300*time.Millisecond) {
		t.Errorf("the window was %.0f segments at the loss; 300 ms after it is %.0f: %v", lost, last, w)
	}
}

// hystartWindow is from where on round trips grow longer: more than RFC 9406 section 4.3 needs as samples in a round.
const hystartWindow = 32

func hystartDelay(t testing.TB) {
	s := newSender(t, 50*time.Millisecond)
	s.each = true
	s.grow(hystartWindow)
	s.rtt = 80 * time.Millisecond
	var w []int
	for range 8 { // conservative slow start takes five rounds, and one has gone when the first sample comes
		if w = append(w, s.round()); w[len(w)-1] > 8*hystartWindow {
			t.Fatalf("round trips are longer, and slow start goes on: %v", w)
		}
	}
	if last, before := w[len(w)-1], w[len(w)-2]; float64(last) > 1.1*float64(before) {
		t.Errorf("eight round trips after they became longer the window still grows fast: %v", w)
	}
}

func hystartSteady(t testing.TB) {
	s := newSender(t, 50*time.Millisecond)
	s.each = true
	s.grow(hystartWindow)
	first := s.collect()
	w := s.rounds(150 * time.Millisecond)
	if last := w[len(w)-1]; last < 3*first {
		t.Errorf("in three steady round trips the window grew from %d segments only to %d: %v", first, last, w)
	}
}
