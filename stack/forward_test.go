package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

// egressRule is all of IPv4 and IPv6.
var egressRule = []ForwardRule{{Prefix: pfx("0.0.0.0/0")}, {Prefix: pfx("::/0")}}

// forward starts a forwarder on w for everything that comes in on its link.
func (w *wire) forward(t testing.TB, cfg ForwardConfig) *Forwarder {
	t.Helper()
	if cfg.Rules == nil {
		cfg.Rules = egressRule
	}
	cfg.Links = []string{"cat0"}
	f, err := w.s.Forward(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// next takes a value that a handler sends.
func next[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-t.Context().Done():
		t.Fatal("the test ended before it came")
	}
	panic("not reached")
}

func outside(src, dst string) FourTuple {
	return FourTuple{Network: "tcp", Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst)}
}

// A SYN to an address that is nobody's here is answered when the handler says so, from that address.
func TestForwardAccept(t *testing.T) {
	for _, f := range []FourTuple{outside("10.9.0.1:40000", "192.0.2.7:443"), outside("[fd00:9::1]:40000", "[2001:db8::7]:443")} {
		w := newWire(t, Config{})
		asked := make(chan *TCPRequest)
		answer, conns := make(chan bool), make(chan *TCPConn)
		fw := w.forward(t, ForwardConfig{Name: "egress", TCP: func(r *TCPRequest) {
			asked <- r
			<-answer
			c, err := r.Accept()
			if err != nil {
				t.Error(err)
			}
			conns <- c
		}})
		if got := w.ask(t, segment(t, f, packet.SYN, 100, 0, "")); got != nil {
			t.Fatalf("the SYN was answered by %v before the handler said so", got)
		}
		r := next(t, asked)
		if r.Tuple() != f {
			t.Errorf("asked for %v, want %v", r.Tuple(), f)
		}
		if got := w.ask(t, segment(t, f, packet.SYN, 100, 0, "")); got != nil {
			t.Fatalf("the SYN that was sent again was answered by %v", got)
		}
		answer <- true
		synack := w.wait(t)
		if synack.TCP.Flags != packet.SYN|packet.ACK || synack.TCP.Ack != 101 || synack.Src != f.Dst.Addr() {
			t.Fatalf("the SYN was answered by %v", synack)
		}
		w.inject(segment(t, f, packet.ACK, 101, synack.TCP.Seq+1, ""))
		c := next(t, conns)
		w.inject(segment(t, f, packet.ACK|packet.PSH, 101, synack.TCP.Seq+1, "hello"))
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
			t.Errorf("read %q, %v", b, err)
		}
		info, ok := w.s.SocketByFD(c.FD())
		if !ok || info.State != "ESTABLISHED" || info.Local != f.Dst || info.Remote != f.Src {
			t.Errorf("the socket is %+v, want one of %v", info, f)
		}
		if st := fw.Stats(); st.Accepted != 1 || st.Pending != 0 {
			t.Errorf("stats %+v", st)
		}
		c.Close()
	}
}

// wait takes the next packet that the stack sends.
func (w *wire) wait(t testing.TB) packet.Packet {
	t.Helper()
	pkt := w.ep.ReadContext(t.Context())
	if pkt == nil {
		t.Fatal("the stack sent nothing")
	}
	v := pkt.ToView()
	b := append([]byte(nil), v.AsSlice()...)
	v.Release()
	pkt.DecRef()
	p, err := packet.Parse(b)
	if err == nil {
		err = p.Verify()
	}
	if err != nil {
		t.Fatalf("the stack sent a bad packet: %v: %x", err, b)
	}
	return p
}

// What the client is told is what a network would tell it.
func TestForwardReject(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string // of IPv4, of IPv6
	}{
		{syscall.ECONNREFUSED, "RST"},
		{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "RST"},
		{syscall.ENETUNREACH, "3/0 1/0"},
		{syscall.EHOSTUNREACH, "3/1 1/3"},
		{errors.New("no such host"), "3/1 1/3"},
		{syscall.EACCES, "3/13 1/1"},
		{syscall.ETIMEDOUT, ""},
		{context.DeadlineExceeded, ""},
		{nil, ""}, // the handler returns without an answer
	} {
		for i, f := range []FourTuple{outside("10.9.0.1:40000", "192.0.2.7:443"), outside("[fd00:9::1]:40000", "[2001:db8::7]:443")} {
			w := newWire(t, Config{})
			rejected := make(chan struct{})
			fw := w.forward(t, ForwardConfig{TCP: func(r *TCPRequest) {
				if tt.err != nil {
					r.Reject(tt.err)
				}
				close(rejected)
			}})
			w.inject(segment(t, f, packet.SYN, 100, 0, ""))
			next(t, rejected)
			fw.Close()
			var got string
			for _, p := range w.read(t) {
				switch {
				case p.TCP != nil && p.TCP.Flags&packet.RST != 0 && p.TCP.Ack == 101:
					got = "RST"
				case p.ICMP != nil:
					got = strconv.Itoa(int(p.ICMP.Type)) + "/" + strconv.Itoa(int(p.ICMP.Code))
				}
			}
			want := tt.want
			if parts := strings.Fields(tt.want); len(parts) == 2 {
				want = parts[i]
			}
			if got != want {
				t.Errorf("%v, %v: told %q, want %q", tt.err, f.Dst, got, want)
			}
		}
	}
}

// Listeners come first, and the stack's own addresses are no outside.
func TestForwardLookup(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := w.forward(t, ForwardConfig{Name: "egress", TCP: func(r *TCPRequest) {}})
	one, err := w.s.Forward(ForwardConfig{Name: "pg", Rules: []ForwardRule{{Network: "tcp", Prefix: pfx("10.9.0.2/32"), PortLo: 5432, PortHi: 5432}}, TCP: func(r *TCPRequest) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for _, tt := range []struct {
		dst  string
		fd   int
		last string // the step that found it, or the last that did not
	}{
		{"10.9.0.2:80", l.(*Listener).FD(), StepPort},
		{"10.9.0.2:81", -1, StepForwarder},
		{"10.9.0.2:5432", one.listener(netip.MustParseAddr("10.9.0.2")).FD(), StepForwarder},
		{"192.0.2.7:81", f.v4.FD(), StepForwarder},
		{"192.0.2.7:80", l.(*Listener).FD(), StepPort},
	} {
		got := w.s.LookupSocket(outside("10.9.0.1:40000", tt.dst))
		last := got.Tries[len(got.Tries)-1]
		if got.FD != tt.fd || last.Step != tt.last || got.Found != (tt.fd >= 0) {
			t.Errorf("%s: fd %d by %q, want %d by %q\n%s", tt.dst, got.FD, last.Step, tt.fd, tt.last, got.Text())
		}
	}
	got := w.s.LookupSocket(outside("10.9.0.1:40000", "192.0.2.7:81"))
	if want := "forwarder egress (0.0.0.0/0) ✓ fd " + strconv.Itoa(f.v4.FD()) + " LISTEN"; !strings.HasSuffix(got.Short(), want) {
		t.Errorf("%s, want it to end in %s", got.Short(), want)
	}
	if rt := w.s.LookupRoute(RouteQuery{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("192.0.2.7"), IIF: "cat0"}); !rt.Local() || rt.Rule.Priority != forwardPriority {
		t.Errorf("route %s", rt.Text())
	}
	f.Close()
	if rt := w.s.LookupRoute(RouteQuery{Src: netip.MustParseAddr("10.9.0.1"), Dst: netip.MustParseAddr("192.0.2.7"), IIF: "cat0"}); rt.Local() {
		t.Errorf("the route is still there: %s", rt.Text())
	}
	if n := len(w.s.Rules(IPv4)); n != 3 {
		t.Errorf("%d rules, want 3", n)
	}
}

// A client that has gone ends its request: by an RST, or since its SYN does not come again.
func TestForwardClientGone(t *testing.T) {
	for _, by := range []string{"RST", "silence", "another SYN", "Close", "forged RST"} {
		t.Run(by, func(t *testing.T) {
			clock := faketime.NewManualClock()
			w := newWire(t, Config{Clock: clock})
			asked, done := make(chan *TCPRequest, 1), make(chan error, 1)
			fw := w.forward(t, ForwardConfig{TCP: func(r *TCPRequest) {
				asked <- r
				<-r.Context().Done()
				done <- context.Cause(r.Context())
				r.Reject(syscall.ECONNREFUSED) // nobody is told any more
			}})
			f := outside("10.9.0.1:40000", "192.0.2.7:443")
			w.inject(segment(t, f, packet.SYN, 100, 0, ""))
			r := next(t, asked)
			want := ErrClientGone
			switch by {
			case "RST":
				w.inject(segment(t, f, packet.RST, 101, 0, ""))
			case "silence":
				clock.Advance(synPatience(0) - 1)
				if r.Context().Err() != nil {
					t.Error("given up too soon")
				}
				w.inject(segment(t, f, packet.SYN, 100, 0, "")) // after 6 s: the next is due within 7 s more
				clock.Advance(synPatience(0))
				if r.Context().Err() != nil {
					t.Error("a client that has sent its SYN again was given up")
				}
				clock.Advance(synPatience(synPatience(0)) - 2*synPatience(0) + 1)
			case "another SYN":
				w.inject(segment(t, f, packet.SYN, 7000, 0, ""))
			case "Close":
				go fw.Close()
				want = syscall.ECONNABORTED
			case "forged RST":
				w.inject(segment(t, f, packet.RST, 102, 0, ""))
				if r.Context().Err() != nil {
					t.Fatal("an RST with a number that the client cannot have sent ended it")
				}
				w.inject(segment(t, f, packet.RST, 101, 0, ""))
			}
			if err := next(t, done); !errors.Is(err, want) {
				t.Errorf("cause %v, want %v", err, want)
			}
			fw.Close()
			if out := w.read(t); len(out) != 0 {
				t.Errorf("the client was told %v", out)
			}
			if st := fw.Stats(); st.Pending != 0 || (st.Gone == 1) != (want == ErrClientGone) {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

// Those who dial what does not answer keep nobody out: the one that has waited longest makes way.
func TestForwardPendingLimit(t *testing.T) {
	w := newWire(t, Config{})
	const limit = 8
	type ended struct {
		port uint16
		why  error
	}
	done := make(chan ended, 100)
	fw := w.forward(t, ForwardConfig{MaxPending: limit, TCP: func(r *TCPRequest) {
		if r.Tuple().Dst.Port() == 80 {
			r.Reject(syscall.ECONNREFUSED)
			return
		}
		<-r.Context().Done()
		done <- ended{r.Tuple().Src.Port(), context.Cause(r.Context())}
	}})
	filtered := func(port uint16) {
		w.inject(segment(t, FourTuple{Network: "tcp", Src: netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), port), Dst: netip.MustParseAddrPort("192.0.2.7:443")}, packet.SYN, 100, 0, ""))
	}
	for port := uint16(1000); port < 1000+limit; port++ {
		filtered(port)
	}
	w.inject(segment(t, outside("10.9.0.1:40000", "192.0.2.8:80"), packet.SYN, 100, 0, ""))
	if p := w.wait(t); p.TCP == nil || p.TCP.Flags&packet.RST == 0 {
		t.Fatalf("%v, want an RST", p)
	}
	if e := next(t, done); e.port != 1000 || e.why != ErrMadeWay {
		t.Errorf("%+v made way, want the oldest", e)
	}
	testenv.Await(t, "the place of the one that was refused", func() bool { return fw.Stats().Pending == limit-1 })
	filtered(1999) // in the place of the one that was refused
	for port := uint16(2000); port < 2000+3*limit; port++ {
		filtered(port)
		if e := next(t, done); e.why != ErrMadeWay {
			t.Errorf("%+v, want one that made way", e)
		}
	}
	if st := fw.Stats(); st.Evicted != 3*limit+1 || st.Dropped != 0 {
		t.Errorf("stats %+v, want %d evicted", st, 3*limit+1)
	}
}

// An accepted connection in TIME-WAIT makes way for a newer SYN from the same port.
func TestForwardTimeWait(t *testing.T) {
	w := newWire(t, Config{})
	conns := make(chan *TCPConn)
	w.forward(t, ForwardConfig{TCP: func(r *TCPRequest) {
		if c, err := r.Accept(); err != nil {
			t.Error(err)
		} else {
			conns <- c
		}
	}})
	f := outside("10.9.0.1:40000", "192.0.2.7:443")
	seq := uint32(1000)
	for i := range 3 {
		w.inject(segment(t, f, packet.SYN, seq, 0, ""))
		p := w.wait(t)
		if p.TCP.Flags != packet.SYN|packet.ACK {
			t.Fatalf("connection %d: the SYN was answered by %v", i, p)
		}
		ack := p.TCP.Seq + 1
		w.inject(segment(t, f, packet.ACK, seq+1, ack, ""))
		next(t, conns).Close() // this side first
		if p = w.wait(t); p.TCP.Flags&packet.FIN == 0 {
			t.Fatalf("%v, want a FIN", p)
		}
		w.inject(segment(t, f, packet.FIN|packet.ACK, seq+1, ack+1, ""))
		if p = w.wait(t); p.TCP.Flags != packet.ACK || p.TCP.Ack != seq+2 {
			t.Fatalf("%v, want the ACK of the FIN", p)
		}
		if !slices.ContainsFunc(w.s.Sockets(), func(k SocketInfo) bool { return k.State == "TIME-WAIT" }) {
			t.Fatal("no connection in TIME-WAIT")
		}
		seq += 5000
	}
	w.inject(segment(t, f, packet.SYN, 3, 0, "")) // an old one
	if got := w.read(t); len(got) != 0 {
		t.Errorf("an old SYN was answered by %v", got)
	}
}

// A handshake that the client does not finish ends when the forwarder closes.
func TestForwardCloseInHandshake(t *testing.T) {
	w := newWire(t, Config{})
	errs := make(chan error, 1)
	fw := w.forward(t, ForwardConfig{TCP: func(r *TCPRequest) {
		_, err := r.Accept()
		errs <- err
	}})
	w.inject(segment(t, outside("10.9.0.1:40000", "192.0.2.7:443"), packet.SYN, 100, 0, ""))
	w.wait(t)
	fw.Close()
	if err := <-errs; !errors.Is(err, syscall.ECONNABORTED) {
		t.Errorf("error %v", err)
	}
}

// Datagrams of a flow arrive on one socket, whose replies come from the address that was asked; a flow can be
// rejected, and there is room for a number of them.
func TestForwardUDP(t *testing.T) {
	w := newWire(t, Config{})
	fw := w.forward(t, ForwardConfig{MaxFlows: 2, UDP: func(r *UDPRequest) {
		b := make([]byte, 100)
		for {
			n, err := r.Conn().Read(b)
			if err != nil {
				return
			}
			if string(b[:n]) == "reject" {
				r.Reject(syscall.ECONNREFUSED)
				return
			}
			r.Conn().Write(b[:n])
		}
	}})
	f := outside("10.9.0.1:4000", "192.0.2.7:53")
	f.Network = "udp"
	for _, text := range []string{"one", "two"} {
		w.inject(datagram(t, f, text))
		if p := w.wait(t); p.UDP == nil || string(p.Payload) != text || p.Src != f.Dst.Addr() {
			t.Errorf("%v, want %s from %v", p, text, f.Dst)
		}
	}
	if st := fw.Stats(); st.Flows != 1 || st.FlowsAll != 1 {
		t.Errorf("stats %+v, want one flow", st)
	}
	g := f
	g.Src = netip.MustParseAddrPort("10.9.0.1:4001")
	w.inject(datagram(t, g, "reject"))
	if p := w.wait(t); p.ICMP == nil || p.ICMP.Type != 3 || p.ICMP.Code != 3 {
		t.Errorf("%v, want ICMP port unreachable", p)
	}
	fw.Close()
	if st := fw.Stats(); st.Flows != 0 {
		t.Errorf("stats %+v, want no flow", st)
	}
	for _, k := range w.s.Sockets() {
		t.Errorf("left: %+v", k)
	}
}

// Echo requests go to the handler, and are not answered by the stack in its stead.
func TestForwardEcho(t *testing.T) {
	w := newWire(t, Config{})
	w.forward(t, ForwardConfig{Echo: func(r *EchoRequest) {
		switch string(r.Data) {
		case "answer":
			r.Reply()
		case "reject":
			r.Reject(syscall.EHOSTUNREACH)
		}
	}})
	for _, a := range [][2]string{{"10.9.0.1", "192.0.2.7"}, {"fd00:9::1", "2001:db8::7"}} {
		src, dst := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
		w.inject(echo(t, src, dst, "answer"))
		if p := w.wait(t); p.ICMP == nil || p.Src != dst || p.ICMP.Type != 0 && p.ICMP.Type != 129 || string(p.Payload) != "answer" {
			t.Errorf("%v, want an echo reply from %v", p, dst)
		}
		w.inject(echo(t, src, dst, "reject"))
		if p := w.wait(t); p.ICMP == nil || p.ICMP.Type != 3 && p.ICMP.Type != 1 {
			t.Errorf("%v, want an ICMP error", p)
		}
		own := netip.MustParseAddr("10.9.0.2")
		if src.Is6() {
			own = netip.MustParseAddr("fd00:9::2")
		}
		w.inject(echo(t, src, own, "nothing"))
		if p := w.wait(t); p.ICMP == nil || p.Src != own {
			t.Errorf("%v, want the stack's own reply", p)
		}
	}
}

func TestForwardConfig(t *testing.T) {
	w := newWire(t, Config{})
	handler := func(*TCPRequest) {}
	for _, tt := range []struct {
		cfg  ForwardConfig
		want string
	}{
		{ForwardConfig{Name: "x", Rules: egressRule}, "forward x: no handler"},
		{ForwardConfig{TCP: handler}, "no rules"},
		{ForwardConfig{TCP: handler, Rules: []ForwardRule{{Prefix: netip.MustParsePrefix("10.0.0.1/8")}}}, "host bits; the prefix is 10.0.0.0/8"},
		{ForwardConfig{TCP: handler, Rules: []ForwardRule{{Prefix: pfx("10.0.0.0/8"), PortLo: 9, PortHi: 3}}}, "ports 9-3"},
		{ForwardConfig{TCP: handler, Rules: []ForwardRule{{Network: "sctp", Prefix: pfx("10.0.0.0/8")}}}, `network "sctp"`},
		{ForwardConfig{TCP: handler, Rules: egressRule, MaxPending: -1}, "MaxPending is -1"},
		{ForwardConfig{TCP: handler, Rules: egressRule, Links: []string{"eth7"}}, `link "eth7"`},
	} {
		f, err := w.s.Forward(tt.cfg)
		if err == nil {
			f.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one with %q", tt.cfg, err, tt.want)
		}
	}
	if n := len(w.s.Rules(IPv4)) + len(w.s.Rules(IPv6)); n != 5 {
		t.Errorf("%d rules are left, want 5", n)
	}
}
