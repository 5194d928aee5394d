package stack

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/catflap/catflap/internal/packet"
)

// settle has the stack look at all that may have changed. This clock fires the timers of
// one instant in any order: what was looked at too early is looked at once more.
func (p *far) settle() {
	p.t.Helper()
	p.w.raw()
	p.clock.RunImmediatelyScheduledJobs()
	p.w.s.events.lookAgain()
}

// samples takes the samples so far, once nothing changes any more.
func (p *far) samples() (out []SampleEvent) {
	p.t.Helper()
	p.settle()
	for {
		select {
		case ev := <-p.sub.Events():
			if ev.Sample == nil {
				p.t.Fatalf("%+v, want a sample", ev)
			}
			if n := len(out); n > 0 && out[n-1] == *ev.Sample {
				p.t.Errorf("the same sample twice: %+v", out[n-1])
			}
			out = append(out, *ev.Sample)
		default:
			return out
		}
	}
}

// Samples are what TCP_INFO says, and tell what limits the sender.
func TestSamples(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := newFar(t, v6, true, TCPConfig{CongestionControl: "reno"}, SampleEvents)
		check := func(why string, least int) SampleEvent {
			t.Helper()
			all := p.samples()
			if len(all) < least {
				t.Fatalf("%s: %d samples, want %d or more: %+v", why, len(all), least, all)
			}
			s, i := all[len(all)-1], p.c.Info()
			want := SampleEvent{
				FD: i.FD, Local: p.f.Dst, Remote: p.f.Src, SRTT: i.TCP.RTT, RTTVar: i.TCP.RTTVar, RTO: i.TCP.RTO,
				Cwnd: int(i.TCP.SndCwnd), Ssthresh: int(i.TCP.SndSsthresh), MSS: i.TCP.SndMSS, SndWnd: i.TCP.SndWnd,
				InFlight: s.InFlight, Unsent: i.SendQ - s.InFlight, RcvWnd: s.RcvWnd, SndUna: s.SndUna, SndNxt: s.SndUna + uint32(s.InFlight), RcvNxt: p.seq,
				Recovery: map[string]string{"Loss": "RTO", "SACKRecovery": "SACK"}[i.TCP.CAState], Limit: s.Limit,
			}
			if s != want {
				t.Errorf("%s:\n got %+v\nwant %+v", why, s, want)
			}
			return s
		}
		start := p.ack
		p.write(1)
		s := check("a segment is out", 1)
		if s.InFlight != p.mss() || s.SndUna != start || s.Limit != "application" || s.RcvWnd < minTCPBuffer || s.SRTT != 0 || s.Ssthresh != 0 {
			t.Errorf("a segment is out: %+v", s)
		}
		p.clock.Advance(100 * time.Millisecond)
		p.inject(packet.ACK, uint32(p.mss()), nil, "")
		s = check("an ACK that sends nothing", 1)
		if s.InFlight != 0 || s.SndUna != start+uint32(p.mss()) || s.SRTT < 10*time.Millisecond || s.Cwnd != 11 {
			t.Errorf("an ACK that sends nothing: %+v", s)
		}
		p.inject(packet.ACK|packet.PSH, uint32(p.mss()), nil, "meow")
		check("data", 1)

		_, err := p.c.Write(make([]byte, 20*p.mss()))
		must(t, err)
		s = check("more than cwnd", 11)
		if s.Limit != "congestion window" || s.InFlight != 11*p.mss() || s.Unsent != 9*p.mss() {
			t.Errorf("20 segments and a cwnd of 11: %+v", s)
		}
		p.wnd = uint16(2 * p.mss())
		p.inject(packet.ACK, uint32(10*p.mss()), nil, "")
		s = check("a smaller window", 1)
		if s.Limit != "receive window" || s.InFlight != 2*p.mss() {
			t.Errorf("a window of two segments: %+v", s)
		}
		p.pass(5 * time.Second)
		s = check("nothing comes for 5 s", 1)
		if s.Recovery != "RTO" || s.Cwnd != 1 || s.RTO < time.Second {
			t.Errorf("nothing comes for 5 s: %+v", s)
		}
		for _, s := range p.samples() {
			t.Errorf("nothing happens: %+v", s)
		}
	}
}

// Timers are told of when they are set, stopped, and when they fire.
func TestTimers(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := newFar(t, v6, true, TCPConfig{TimeWait: time.Minute}, TimerEvents|PacketEvents)
		// what has happened, with the looks that follow a segment.
		what := func() []string {
			p.settle()
			return p.drain()
		}
		what()
		_, err := p.c.Write(make([]byte, p.mss()))
		must(t, err)
		p.want("data", what(), "0", "tail-loss probe set 1s", "keepalive stopped")
		p.clock.Advance(100 * time.Millisecond)
		p.inject(packet.ACK, uint32(p.mss()), nil, "")
		p.want("its ACK", what(), "tail-loss probe stopped", "keepalive set 15s")
		_, err = p.c.Write(make([]byte, p.mss()))
		must(t, err)
		p.want("data", what(), "1", "tail-loss probe set 400ms", "keepalive stopped")
		p.want("PTO", append(p.after(400*time.Millisecond), what()...), "tail-loss probe fired", "1 tail-loss probe", "retransmission set 300ms")
		p.want("RTO", append(p.after(300*time.Millisecond), what()...), "retransmission fired", "1 RTO", "retransmission set 600ms")
		p.wnd = 0
		p.inject(packet.ACK, uint32(2*p.mss()), nil, "")
		p.want("ACK, no window", what(), "retransmission stopped", "keepalive set 15s")
		_, err = p.c.Write(make([]byte, p.mss()))
		must(t, err)
		p.want("nowhere to send", what(), "zero-window probe set 337.5ms")
		p.want("probe", append(p.after(337500*time.Microsecond), what()...), "zero-window probe fired", fmt.Sprintf("%d+1 zero-window probe", 2*p.mss()-1), "zero-window probe set 675ms")
		p.wnd = 65535
		p.inject(packet.ACK, uint32(2*p.mss()), nil, "")
		p.want("a window", what(), "2", "zero-window probe stopped", "retransmission set 675ms", "keepalive stopped")
		p.inject(packet.ACK, uint32(3*p.mss()), nil, "")
		p.want("ACK", what(), "retransmission stopped", "keepalive set 15s")
		p.want("silence", append(p.after(15*time.Second), what()...), "keepalive fired", ". keepalive", "keepalive set 15s")
		must(t, p.c.SetKeepAlive(false))
		p.want("no keepalive", what(), "keepalive stopped")
		must(t, p.c.CloseWrite())
		p.want("FIN", what(), "F.", "tail-loss probe set 353.125ms")
		p.inject(packet.ACK|packet.FIN, uint32(3*p.mss()+1), nil, "")
		p.want("the other FIN", what(), ".", "tail-loss probe stopped", "time-wait set 1m0s")
		p.want("the end", append(p.after(time.Minute), what()...), "time-wait fired")
	}
}

// Timers are told of whichever clock the stack runs by: the system's, whose timers are a
// wheel's, and one that it is given.
func TestTimersClocks(t *testing.T) {
	for _, given := range []bool{false, true} {
		t.Run(map[bool]string{false: "system", true: "given"}[given], func(t *testing.T) {
			cfg, manual := Config{TCP: TCPConfig{TimeWait: 150 * time.Millisecond}}, faketime.NewManualClock()
			if given {
				cfg.Clock = manual
			}
			p := &far{t: t, w: newWire(t, cfg), clock: manual}
			p.sub = p.w.s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 100, Kinds: TimerEvents})
			defer p.sub.Close()
			want := func(why string, events ...string) {
				t.Helper()
				for _, want := range events {
					for given && len(p.sub.Events()) == 0 {
						p.settle()
						manual.Advance(10 * time.Millisecond)
					}
					select {
					case ev := <-p.sub.Events():
						if got := p.tell(ev); !strings.HasPrefix(got, want) {
							t.Fatalf("%s: %s, want %s", why, got, want)
						}
					case <-time.After(time.Minute):
						t.Fatalf("%s: nothing for a minute, want %s", why, want)
					}
				}
			}
			type dialed struct {
				c   net.Conn
				err error
			}
			done := make(chan dialed, 1)
			go func() {
				c, err := p.w.s.DialContext(t.Context(), "tcp", "10.9.0.1:80")
				done <- dialed{c, err}
			}()
			want("a SYN", "retransmission set")
			want("no answer", "retransmission fired", "retransmission set")
			syn := p.w.read(t)[0].TCP
			f := tuple("tcp", "10.9.0.1:80", "10.9.0.2:"+portString(syn.SrcPort))
			p.w.inject(segment(t, f, packet.SYN|packet.ACK, 100, syn.Seq+1, ""))
			d := <-done
			must(t, d.err)
			defer d.c.Close()
			want("SYN-ACK", "retransmission stopped", "keepalive set")
			must(t, d.c.(*TCPConn).SetKeepAlive(false))
			want("no keepalive", "keepalive stopped")
			must(t, d.c.(*TCPConn).CloseWrite())
			want("FIN", "retransmission set")
			p.w.inject(segment(t, f, packet.ACK|packet.FIN, 101, syn.Seq+2, ""))
			want("the other FIN", "retransmission stopped", "time-wait set", "time-wait fired")
		})
	}
}
