package stack

import (
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack/internal/mend"
)

// next lets up to d pass until the stack sends something.
func (p *far) next(d time.Duration) (out []string) {
	const step = 10 * time.Millisecond
	for ; d > 0 && out == nil; d -= step {
		p.pass(step)
		out = p.drain()
	}
	return out
}

// stalled brings a connection to where netstack has sent a tail loss probe of its FIN,
// and counts nothing as outstanding.
func stalled(t *testing.T, cfg Config) *far {
	t.Helper()
	p := newFarStack(t, false, cfg, PacketEvents).connect(true)
	ack := func(n int, sack ...[2]uint32) { p.inject(packet.ACK, uint32(n*p.mss()), sack, "") }
	p.write(1)
	p.clock.Advance(100 * time.Millisecond)
	ack(1)
	p.write(4)
	p.want("data", p.drain(), "0", "1", "2", "3", "4")
	ack(1, sackOf(p, 2, 3))
	ack(1, sackOf(p, 2, 4))
	ack(1, sackOf(p, 2, 5))
	p.want("third duplicate", p.drain(), "1 RACK")
	p.clock.Advance(time.Millisecond)
	must(t, p.c.CloseWrite())
	p.want("FIN", p.drain(), "F.")
	p.clock.Advance(100 * time.Millisecond)
	ack(5)
	p.want("the end of the recovery", p.drain())
	p.want("FIN lost", p.next(time.Second), "F. tail-loss probe")
	return p
}

// A connection whose tail loss probe was lost too is rescued by its timeout.
func TestStallGuard(t *testing.T) {
	p := stalled(t, Config{})
	sent := p.clock.NowMonotonic()
	for range 3 {
		p.want("probe lost", p.next(time.Minute), "F. RTO")
	}
	// The timeouts are of RTO, twice RTO and four times RTO, the first since the probe.
	rto := p.c.Info().TCP.RTO / 8
	if d := p.clock.NowMonotonic().Sub(sent); (d - 7*rto).Abs() > 20*time.Millisecond { // next looks each 10 ms
		t.Errorf("three timeouts took %s, want 7 RTO of %s", d, rto)
	}
	p.inject(packet.ACK, uint32(5*p.mss())+1, nil, "")
	if st := p.c.Info().State; st != "FIN-WAIT-2" {
		t.Errorf("after the acknowledgment of its FIN: %s", st)
	}
	// With nothing unacknowledged the guard rests.
	p.pass(2 * mend.SweepInterval)
	if p.w.s.stalls.Waiting() {
		t.Error("the guard goes on looking")
	}
}

func TestStallGuardOff(t *testing.T) {
	p := stalled(t, Config{NoGuards: true})
	if got := p.after(10 * time.Second); got != nil {
		t.Errorf("netstack now arms its timer itself (it sent %v): the guard can go", got)
	}
}

// Where nothing is lost, the guard does nothing.
func TestStallGuardRests(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	go io.CopyN(c, zeros{}, 1<<20)
	if _, err := io.CopyN(io.Discard, srv, 1<<20); err != nil {
		t.Fatal(err)
	}
	if s.stalls.Started() && s.ns.Stats().TCP.Retransmits.Value() == 0 {
		t.Error("it has set its timer")
	}
}

// A stack can be closed while the guard looks and while its timer is set.
func TestStallGuardClose(t *testing.T) {
	for range 20 {
		s := newStack(t, Config{})
		c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
		s.ns.Stats().TCP.Retransmits.Increment()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		go s.stalls.Sweep()
		runtime.Gosched()
		s.Close()
		c.Close()
		srv.Close()
	}
}

// BenchmarkStallGuard is what the guard costs a list of packets on its way out.
func BenchmarkStallGuard(b *testing.B) {
	s := newStack(b, Config{})
	b.ReportAllocs()
	for b.Loop() {
		s.stalls.Sending()
	}
}

// BenchmarkStallGuardSweep is what a look at 2000 ends of connections costs.
func BenchmarkStallGuardSweep(b *testing.B) {
	s := newStack(b, Config{})
	for range 1000 {
		c, srv := connPair(b, s, "tcp", "127.0.0.1:0")
		defer c.Close()
		defer srv.Close()
	}
	s.Quiesce()
	b.ReportAllocs()
	for b.Loop() {
		s.stalls.Sweep()
	}
}
