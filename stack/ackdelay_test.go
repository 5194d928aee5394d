package stack

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack/internal/mend"
)

// sentLately tells what the stack has sent since the last call, by the numbers of the
// peer: what it acknowledges, and how much data goes with it.
func (p *far) sentLately() (out []string) {
	p.t.Helper()
	for _, s := range p.w.read(p.t) {
		what := fmt.Sprintf("%s %d", s.TCP.Flags, s.TCP.Ack-101)
		if n := len(s.Payload); n > 0 {
			what += fmt.Sprintf(" +%d", n)
		}
		out = append(out, what)
	}
	return out
}

func TestDelayedACKs(t *testing.T) {
	const delay = 10 * time.Millisecond
	push := packet.ACK | packet.PSH
	full := strings.Repeat("m", 1460)
	for _, v6 := range []bool{false, true} {
		for what, play := range map[string]func(p *far, want func(why string, segments ...string)){
			"an answer carries it": func(p *far, want func(string, ...string)) {
				for i := range 3 {
					n := 4 * (i + 1)
					p.inject(push, uint32(5*i), nil, "meow")
					want("a request")
					p.c.Write([]byte("purr!"))
					want("the answer", fmt.Sprintf("P. %d +5", n))
				}
				p.pass(delay)
				want("later")
			},
			"no answer": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, "meow")
				p.pass(delay/2 - time.Millisecond)
				want("less than half the delay")
				p.pass(delay/2 + time.Millisecond)
				want("the delay", ". 4")
				for i := range mend.QuickACKs {
					p.inject(push, 0, nil, "meow")
					want("the application is slow", fmt.Sprintf(". %d", 4*(i+2)))
				}
				p.inject(push, 0, nil, "meow")
				want("another try")
				p.pass(delay)
				want("the delay", fmt.Sprintf(". %d", 4*(mend.QuickACKs+2)))
			},
			"a full-sized segment and more": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, full)
				want("one")
				p.inject(push, 0, nil, "meow")
				want("and more", ". 1464")
				p.pass(delay)
				want("later")
			},
			"many small ones": func(p *far, want func(string, ...string)) {
				for range 10 {
					p.inject(push, 0, nil, "meow")
				}
				want("ten")
				p.pass(delay)
				want("the delay", ". 40")
			},
			"what is no news goes at once": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, "meow")
				want("a request")
				p.seq -= 4
				p.inject(push, 0, nil, "meow")
				want("again", ". 4")
				p.seq += 10
				p.inject(push, 0, nil, "meow")
				want("after a gap", ". 4")
				p.pass(delay)
				want("later")
			},
			"FIN": func(p *far, want func(string, ...string)) {
				p.inject(packet.ACK|packet.FIN, 0, nil, "")
				want("at once", ". 1")
				p.pass(delay)
				want("later")
			},
			"the connection ends": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, "meow")
				p.c.SetLinger(0)
				p.c.Close()
				want("a reset", "R. 4")
				p.pass(delay)
				want("later")
			},
			"the peer resets it": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, "meow")
				p.inject(packet.RST, 0, nil, "")
				p.pass(delay)
				want("nobody is to know")
			},
			"the stack ends": func(p *far, want func(string, ...string)) {
				p.inject(push, 0, nil, "meow")
				must(p.t, p.w.s.Close())
				p.clock.Advance(delay)
			},
		} {
			t.Run(fmt.Sprintf("%s, IPv6 %t", what, v6), func(t *testing.T) {
				p := newFar(t, v6, false, TCPConfig{ACKDelay: delay}, 0)
				play(p, func(why string, segments ...string) {
					t.Helper()
					p.want(why, p.sentLately(), segments...)
				})
			})
		}
	}
}

// TestDelayedACKsWatched has somebody follow: what waits is no event until it goes.
func TestDelayedACKsWatched(t *testing.T) {
	p := newFar(t, false, false, TCPConfig{ACKDelay: 10 * time.Millisecond}, PacketEvents)
	events := func() (out []string) {
		p.w.s.Quiesce()
		for len(p.sub.Events()) > 0 {
			if ev := <-p.sub.Events(); ev.Packet != nil {
				pkt, err := packet.Parse(ev.Packet.Data)
				must(t, err)
				out = append(out, fmt.Sprintf("%t %s", ev.Packet.Out, pkt.TCP.Flags))
			}
		}
		return out
	}
	events()
	p.inject(packet.ACK|packet.PSH, 0, nil, "meow")
	p.want("a request", events(), "false P.")
	p.pass(10 * time.Millisecond)
	p.want("the delay", events(), "true .")
}

// TestDelayedACKsNotOurs: a router does not delay others' ACKs.
func TestDelayedACKsNotOurs(t *testing.T) {
	p := newFarStack(t, false, Config{Forwarding: true, TCP: TCPConfig{ACKDelay: time.Millisecond}}, 0).connect(false)
	p.inject(packet.ACK|packet.PSH, 0, nil, "meow")
	p.want("a request", p.sentLately(), ". 4")
}

func TestACKDelayRange(t *testing.T) {
	for _, d := range []time.Duration{-1, mend.MaxACKDelay} {
		if s, err := New(Config{TCP: TCPConfig{ACKDelay: d}}); err == nil {
			s.Close()
			t.Errorf("%v was taken", d)
		}
	}
}

// TestDelayedACKsCrowd has more connections than can all be told apart.
func TestDelayedACKsCrowd(t *testing.T) {
	w := newWire(t, Config{TCP: TCPConfig{ACKDelay: 20 * time.Millisecond}})
	l, err := w.s.ListenTCP("tcp", "10.9.0.2:80", SOMAXCONN)
	must(t, err)
	defer l.Close()
	const conns = mend.DelayedFlows * 3 / 4 // some of them fall into the same place
	acks, acked := map[FourTuple]uint32{}, map[FourTuple]bool{}
	for i := range conns {
		f := tuple("tcp", fmt.Sprintf("10.9.0.%d:%d", 3+i%200, 5000+i), "10.9.0.2:80")
		acks[f] = w.handshake(t, f, 100)
	}
	read := func() {
		for _, s := range w.read(t) {
			if s.TCP.Ack == 105 {
				acked[tuple("tcp", fmt.Sprintf("%v:%d", s.Dst, s.TCP.DstPort), "10.9.0.2:80")] = true
			}
		}
	}
	for f, ack := range acks {
		w.inject(segment(t, f, packet.ACK|packet.PSH, 101, ack, "meow"))
		read()
	}
	testenv.Await(t, "an ACK for each connection", func() bool {
		read()
		return len(acked) == conns
	})
	if n := w.s.link("cat0").delayed.Waiting(); n != 0 {
		t.Errorf("%d ACKs still wait", n)
	}
}
