package stack

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

// far is a peer of a stack on virtual time, which answers only what a test has it answer.
type far struct {
	t     *testing.T
	w     *wire
	clock *faketime.ManualClock
	sub   *Subscription
	c     *TCPConn

	f        FourTuple // from the peer
	sack     bool
	wnd      uint16
	seq, ack uint32 // the peer's next number, and the stack's first

	again uint64 // segments with data or a FIN that were sent again
}

// mss is the payload of the stack's segments to far: less than the 1400 that it offers by
// the room that netstack keeps for SACK blocks.
const (
	offeredMSS = 1400
	sackRoom   = 36
)

// newFar connects a peer to a stack.
func newFar(t *testing.T, v6, sack bool, cfg TCPConfig, kinds EventKinds) *far {
	t.Helper()
	return newFarStack(t, v6, Config{TCP: cfg}, kinds).connect(sack)
}

// connect opens a connection to the stack.
func (p *far) connect(sack bool) *far {
	t := p.t
	t.Helper()
	p.sack = sack
	l, err := p.w.s.ListenTCP("tcp", p.f.Dst.String(), 5)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	p.inject(packet.SYN, 0, nil, "")
	syn := p.w.read(t)[0]
	p.seq, p.ack = p.seq+1, syn.TCP.Seq+1
	p.inject(packet.ACK, 0, nil, "")
	p.w.read(t)
	p.c, err = l.AcceptTCP()
	must(t, err)
	t.Cleanup(func() { p.c.SetLinger(0); p.c.Close() })
	p.drain()
	return p
}

func newFarStack(t *testing.T, v6 bool, cfg Config, kinds EventKinds) *far {
	clock := faketime.NewManualClock()
	cfg.Clock = clock
	p := &far{t: t, clock: clock, w: newWire(t, cfg), wnd: 65535, seq: 100}
	p.f = tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	if v6 {
		p.f = tuple("tcp", "[fd00:9::1]:5000", "[fd00:9::2]:80")
	}
	p.sub = p.w.s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 10000, Kinds: kinds})
	t.Cleanup(p.sub.Close)
	return p
}

// inject sends a segment that acknowledges n bytes of what the stack has written, and with
// SACK blocks of such bytes.
func (p *far) inject(flags packet.Flags, n uint32, sack [][2]uint32, data string) {
	p.t.Helper()
	h := &layers.TCP{
		SrcPort: layers.TCPPort(p.f.Src.Port()), DstPort: layers.TCPPort(p.f.Dst.Port()), Seq: p.seq, Ack: p.ack + n, Window: p.wnd,
		SYN: flags&packet.SYN != 0, ACK: flags&packet.ACK != 0, PSH: flags&packet.PSH != 0, FIN: flags&packet.FIN != 0, RST: flags&packet.RST != 0,
	}
	if flags&packet.SYN != 0 {
		h.Options = append(h.Options, layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{offeredMSS >> 8, offeredMSS & 0xff}})
		if p.sack {
			h.Options = append(h.Options, layers.TCPOption{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2})
		}
	}
	if len(sack) > 0 {
		var b []byte
		for _, s := range sack {
			for _, n := range s {
				n += p.ack
				b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
			}
		}
		h.Options = append(h.Options, layers.TCPOption{OptionType: layers.TCPOptionKindSACK, OptionLength: uint8(2 + len(b)), OptionData: b})
	}
	ip := ipLayer(p.f.Src.Addr(), p.f.Dst.Addr(), layers.IPProtocolTCP)
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	p.w.inject(serialize(p.t, ip, h, gopacket.Payload(data)))
	p.seq += uint32(len(data))
	p.w.s.Quiesce()
}

func (p *far) mss() int {
	if p.sack {
		return offeredMSS - sackRoom
	}
	return offeredMSS
}

// write has the application write n whole segments, 1 ms apart.
func (p *far) write(n int) {
	p.t.Helper()
	for range n {
		_, err := p.c.Write(make([]byte, p.mss()))
		must(p.t, err)
		p.w.s.Quiesce()
		p.clock.Advance(time.Millisecond)
	}
}

// rest waits until the stack has done what is due at this instant: segments that have
// arrived, and timers that were set to no time at all.
func (p *far) rest() {
	p.w.s.Quiesce()
	p.clock.RunImmediatelyScheduledJobs()
	p.w.s.Quiesce()
}

// drain takes what has happened so far: each segment that the stack sent, as segment
// numbers of the stream from 0, or its flags, and why it is sent again.
func (p *far) drain() (out []string) {
	p.rest()
	p.w.raw()
	for {
		select {
		case ev := <-p.sub.Events():
			if s := p.tell(ev); s != "" {
				out = append(out, s)
			}
		default:
			return out
		}
	}
}

func (p *far) tell(ev Event) string {
	switch {
	case ev.Timer != nil:
		s := ev.Timer.Name + " " + ev.Timer.Action
		if ev.Timer.Action == "set" {
			s += " " + ev.Timer.After.String()
		}
		return s
	case ev.Packet == nil || !ev.Packet.Out:
		return ""
	}
	pk, err := packet.Parse(ev.Packet.Data)
	if err != nil {
		pk, err = packet.Parse(append(ev.Packet.Data, make([]byte, ev.Packet.Len-len(ev.Packet.Data))...))
	}
	must(p.t, err)
	if pk.TCP == nil {
		return ""
	}
	s := pk.TCP.Flags.String()
	if n := len(pk.Payload); n > 0 {
		off := int(int32(pk.TCP.Seq - p.ack))
		s = fmt.Sprint(off / p.mss())
		if off%p.mss() != 0 || n != p.mss() {
			s = fmt.Sprintf("%d+%d", off, n)
		}
	}
	switch c := ev.Packet.Retransmit; c {
	case "":
		return s
	default:
		p.again++
		fallthrough
	case CauseSYN, CauseKeepalive, CauseZeroWnd:
		return s + " " + string(c)
	}
}

// pass lets time pass. A timer has done its work when it returns: this clock waits for it.
func (p *far) pass(d time.Duration) {
	const step = time.Millisecond
	for ; d > 0; d -= step {
		p.clock.Advance(min(d, step))
	}
}

// after lets time pass, and takes what happens meanwhile.
func (p *far) after(d time.Duration) []string {
	p.t.Helper()
	p.pass(d)
	return p.drain()
}

func (p *far) want(why string, got []string, want ...string) {
	p.t.Helper()
	if g, w := strings.Join(got, ", "), strings.Join(want, ", "); g != w {
		p.t.Errorf("%s:\n got %s\nwant %s", why, g, w)
	}
}

func sackOf(p *far, from, to int) [2]uint32 {
	return [2]uint32{uint32(from * p.mss()), uint32(to * p.mss())}
}

// tooBig takes what has happened, and then has a router on the way refuse the last packet.
func (p *far) tooBig(mtu uint16) (out []string) {
	p.t.Helper()
	p.w.s.Quiesce()
	raw := p.w.raw()
	out = p.drain()
	b := raw[len(raw)-1]
	if b[0]>>4 == 4 {
		h := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeDestinationUnreachable, layers.ICMPv4CodeFragmentationNeeded), Seq: mtu}
		p.w.inject(serialize(p.t, ipLayer(ip("10.9.0.1"), ip("10.9.0.2"), layers.IPProtocolICMPv4), h, gopacket.Payload(b[:28])))
		return out
	}
	from := ipLayer(ip("fd00:9::1"), ip("fd00:9::2"), layers.IPProtocolICMPv6)
	h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypePacketTooBig, 0)}
	h.SetNetworkLayerForChecksum(from.(gopacket.NetworkLayer))
	p.w.inject(serialize(p.t, from, h, gopacket.Payload(append([]byte{0, 0, byte(mtu >> 8), byte(mtu)}, b...))))
	return out
}

// The cause of each retransmission, where it is known by construction.
func TestCauses(t *testing.T) {
	type run struct {
		sack bool
		cfg  TCPConfig
		do   func(p *far)
	}
	ackOf := func(p *far, n int) uint32 { return uint32(n * p.mss()) }
	// rtt has the stack measure a round trip of 100 ms, with segment 0.
	rtt := func(p *far) {
		p.write(1)
		p.want("first data", p.drain(), "0")
		p.clock.Advance(100 * time.Millisecond)
		p.inject(packet.ACK, ackOf(p, 1), nil, "")
		p.want("ACK of it", p.drain())
	}
	for name, r := range map[string]run{
		"RTO, all lost": {false, TCPConfig{NoRACK: true}, func(p *far) {
			p.write(3)
			p.want("data", p.drain(), "0", "1", "2")
			p.want("1 s", p.after(time.Second), "0 RTO")
			p.want("2 s more", p.after(2*time.Second), "0 RTO")
			p.inject(packet.ACK, ackOf(p, 1), nil, "")
			p.want("ACK: the rest goes out again", p.drain(), "1 RTO", "2 RTO")
			p.inject(packet.ACK, ackOf(p, 3), nil, "")
			p.write(1)
			p.want("new data", p.drain(), "3")
		}},
		"RTO, then RACK": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			p.write(3)
			p.want("data", p.drain(), "1", "2", "3")
			p.want("PTO of 2 SRTT", p.after(210*time.Millisecond), "3 tail-loss probe")
			p.want("RTO", p.after(300*time.Millisecond), "1 RTO")
			p.clock.Advance(100 * time.Millisecond)
			p.inject(packet.ACK, ackOf(p, 2), nil, "")
			// Segment 1 was sent after what RACK now takes for lost. netstack goes
			// through that, and then goes on from where the timeout went back to.
			p.want("ACK of what was sent again", p.drain(), "2 RACK", "2 RTO", "3 RTO")
		}},
		"fast, SACK without RACK": {true, TCPConfig{NoRACK: true}, func(p *far) {
			rtt(p)
			p.write(6)
			p.want("data", p.drain(), "1", "2", "3", "4", "5", "6")
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 3)}, "")
			p.want("one duplicate", p.drain())
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 4)}, "")
			p.want("two full segments above: lost by RFC 6675 4", p.drain(), "1 fast")
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 5), sackOf(p, 6, 7)}, "")
			p.want("a second gap: the rescue of RFC 6675 4 (4)", p.drain(), "5 fast")
		}},
		"fast, without SACK": {false, TCPConfig{NoRACK: true}, func(p *far) {
			rtt(p)
			p.write(6)
			p.want("data", p.drain(), "1", "2", "3", "4", "5", "6")
			for range 3 {
				p.inject(packet.ACK, ackOf(p, 1), nil, "")
			}
			p.want("three duplicates", p.drain(), "1 fast")
			p.inject(packet.ACK, ackOf(p, 3), nil, "")
			p.want("a partial ACK (RFC 6582)", p.drain(), "3 fast")
		}},
		"three duplicates, with RACK": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			p.write(6)
			p.want("data", p.drain(), "1", "2", "3", "4", "5", "6")
			p.clock.Advance(100 * time.Millisecond)
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 3)}, "")
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 4)}, "")
			p.want("two duplicates", p.drain())
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 5)}, "")
			p.want("the third", p.drain(), "1 fast")
		}},
		"RACK, by its timer": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			p.write(3)
			p.want("data", p.drain(), "1", "2", "3")
			p.clock.Advance(100 * time.Millisecond)
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 3)}, "")
			p.want("one that was sent later has arrived", p.drain())
			p.want("a quarter of a round trip after", p.after(25*time.Millisecond), "1 RACK")
		}},
		"RACK, at once": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			p.write(1)
			p.clock.Advance(50 * time.Millisecond)
			p.write(1)
			p.want("data, 50 ms apart", p.drain(), "1", "2")
			p.clock.Advance(100 * time.Millisecond)
			p.inject(packet.ACK, ackOf(p, 1), [][2]uint32{sackOf(p, 2, 3)}, "")
			p.want("the second has arrived", p.drain(), "1 RACK")
		}},
		"TLP": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			p.write(4)
			p.want("data", p.drain(), "1", "2", "3", "4")
			p.clock.Advance(100 * time.Millisecond)
			p.inject(packet.ACK, ackOf(p, 4), nil, "")
			p.want("ACK of all but the last", p.drain())
			p.want("2 SRTT and the worst delayed ACK", p.after(410*time.Millisecond), "4 tail-loss probe")
			p.want("RTO", p.after(300*time.Millisecond), "4 RTO")
		}},
		"keepalive": {true, TCPConfig{}, func(p *far) {
			must(p.t, p.c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 9}))
			p.want("idle", p.after(10*time.Second), ". keepalive")
			p.want("no answer", p.after(5*time.Second), ". keepalive")
			p.inject(packet.ACK, 0, nil, "meow")
			p.want("an answer, with data", p.drain(), ".")
			p.want("idle again", p.after(10*time.Second), ". keepalive")
		}},
		"zero-window probe": {false, TCPConfig{}, func(p *far) {
			p.write(1)
			p.wnd = 0
			p.inject(packet.ACK, ackOf(p, 1), nil, "")
			p.want("data", p.drain(), "0")
			p.write(1)
			p.want("no window", p.drain())
			p.want("RTO", p.after(250*time.Millisecond), fmt.Sprintf("%d+1 zero-window probe", p.mss()-1))
			p.inject(packet.ACK, ackOf(p, 1), nil, "")
			p.wnd = 65535
			p.inject(packet.ACK, ackOf(p, 1), nil, "")
			p.want("a window", p.drain(), "1")
		}},
		"path MTU": {true, TCPConfig{}, func(p *far) {
			rtt(p)
			_, err := p.c.Write(make([]byte, p.mss()))
			must(p.t, err)
			p.w.s.Quiesce()
			p.want("data", p.tooBig(1280), "1")
			got := p.drain()
			if len(got) != 2 || !strings.HasSuffix(got[0], " path MTU") || !strings.HasSuffix(got[1], " path MTU") {
				p.t.Errorf("after an ICMP error: %v, want the segment in two, for the path MTU", got)
			}
		}},
		"FIN": {false, TCPConfig{NoRACK: true}, func(p *far) {
			must(p.t, p.c.CloseWrite())
			p.want("close", p.drain(), "F.")
			p.want("1 s", p.after(time.Second), "F. RTO")
		}},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/IPv%d", name, map[bool]int{false: 4, true: 6}[v6]), func(t *testing.T) {
				p := newFar(t, v6, r.sack, r.cfg, PacketEvents)
				r.do(p)
				if n := p.c.Info().TCP.Retransmits; n != p.again {
					t.Errorf("netstack counts %d segments sent again, and %d had a cause", n, p.again)
				}
			})
		}
	}
}

// Two stacks on a bad link: no segment is sent again without a cause.
func TestCausesUnderLoss(t *testing.T) {
	const size = 1 << 18
	for _, cfg := range []TCPConfig{{}, {NoRACK: true}, {NoRACK: true, NoSACK: true}} {
		a, b := channel.New(1<<12, 1500, ""), channel.New(1<<12, 1500, "")
		s := newStack(t, Config{TCP: cfg, Links: []Link{{Name: "a", Endpoint: a, Addrs: []netip.Prefix{pfx("10.9.0.1/24")}}}})
		peer := newStack(t, Config{TCP: cfg, Links: []Link{{Name: "b", Endpoint: b, Addrs: []netip.Prefix{pfx("10.9.0.2/24")}}}})
		var links sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		carry := func(from, to *channel.Endpoint, seed uint64) {
			random := rand.New(rand.NewPCG(seed, 0))
			for {
				pkt := from.ReadContext(ctx)
				if pkt == nil {
					return
				}
				if random.IntN(100) >= 3 {
					in := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
					to.InjectInbound(pkt.NetworkProtocolNumber, in)
					in.DecRef()
				}
				pkt.DecRef()
			}
		}
		links.Go(func() { carry(a, b, 1) })
		links.Go(func() { carry(b, a, 2) })
		l, err := peer.Listen("tcp4", ":80")
		must(t, err)
		sub := s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 1 << 16, Kinds: AllEvents})
		got := make(chan int64, 1)
		links.Go(func() {
			if c, err := l.Accept(); err == nil {
				n, _ := io.Copy(io.Discard, c)
				got <- n
				c.Close()
			}
		})
		c, err := s.Dial("tcp4", "10.9.0.2:80")
		must(t, err)
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		testenv.Await(t, "the last acknowledgment", func() bool { return c.(*TCPConn).Info().SendQ == 0 })
		s.Quiesce()
		s.events.lookAgain()
		info := c.(*TCPConn).Info()
		c.Close()
		causes := map[Cause]uint64{}
		var sample SampleEvent
		for len(sub.Events()) > 0 {
			switch ev := <-sub.Events(); {
			case ev.Packet != nil && ev.Packet.Out && ev.Packet.FD == info.FD:
				causes[ev.Packet.Retransmit]++
			case ev.Sample != nil && ev.Sample.FD == info.FD:
				sample = *ev.Sample
			}
		}
		delete(causes, "")
		delete(causes, CauseSYN)
		var again uint64
		for _, n := range causes {
			again += n
		}
		if again == 0 || again != info.TCP.Retransmits || sub.Dropped() > 0 {
			t.Errorf("%+v: %d segments with a cause (%v), netstack counts %d; %d events lost", cfg, again, causes, info.TCP.Retransmits, sub.Dropped())
		}
		if sample.RTO != info.TCP.RTO || sample.SRTT != info.TCP.RTT || sample.Cwnd != int(info.TCP.SndCwnd) || sample.InFlight != 0 || sample.Unsent != 0 {
			t.Errorf("%+v: last sample %+v, TCP_INFO %+v", cfg, sample, info.TCP)
		}
		if n := <-got; n != size {
			t.Errorf("%+v: %d bytes arrived of %d", cfg, n, size)
		}
		sub.Close()
		l.Close()
		cancel()
		links.Wait()
	}
}

// A SYN and a SYN-ACK are sent again by a timer of their own.
func TestCausesOfHandshake(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		p := newFarStack(t, v6, Config{}, PacketEvents)
		l, err := p.w.s.ListenTCP("tcp", p.f.Dst.String(), 5)
		must(t, err)
		defer l.Close()
		p.inject(packet.SYN, 0, nil, "")
		p.want("SYN-ACK", p.drain(), "S.")
		p.want("1 s", p.after(time.Second), "S. SYN")
		p.want("2 s more", p.after(2*time.Second), "S. SYN")

		p = newFarStack(t, v6, Config{}, PacketEvents)
		y := p.w.s.Sys()
		domain := AF_INET
		if v6 {
			domain = AF_INET6
		}
		fd, err := y.Socket(domain, SOCK_STREAM|SOCK_NONBLOCK, 0)
		must(t, err)
		if err := y.Connect(fd, p.f.Src); err != syscall.EINPROGRESS {
			t.Fatal(err)
		}
		p.want("SYN", p.drain(), "S")
		p.want("1 s", p.after(time.Second), "S SYN")
		p.want("2 s more", p.after(2*time.Second), "S SYN")
	}
}
