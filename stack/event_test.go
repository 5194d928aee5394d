package stack

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/packet"
)

// story reads n events, each in a few words. Calls that set or ask for options are
// left out.
func story(t *testing.T, sub *Subscription, n int) (out []string) {
	t.Helper()
	deadline := time.After(patience)
	var last uint64
	for len(out) < n {
		select {
		case ev, ok := <-sub.Events():
			if !ok {
				t.Fatalf("the subscription ended after %v", out)
			}
			if ev.Seq != last+1 || ev.Time.IsZero() {
				t.Errorf("event %d comes after %d, at %v", ev.Seq, last, ev.Time)
			}
			last = ev.Seq
			if s := tell(ev); s != "" {
				out = append(out, s)
			}
		case <-deadline:
			t.Fatalf("%d events of %d after 5 s:\n%s", len(out), n, strings.Join(out, "\n"))
		}
	}
	return out
}

func tell(ev Event) string {
	switch {
	case ev.Call != nil:
		if strings.HasSuffix(ev.Call.Name, "sockopt") {
			return ""
		}
		return strings.TrimSpace(fmt.Sprintf("%s = %d %s", ev.Call.Name, ev.Call.Ret, ev.Call.Error))
	case ev.State != nil:
		return fmt.Sprintf("fd %d: %s → %s", ev.State.FD, ev.State.From, ev.State.To)
	}
	p, err := packet.Parse(ev.Packet.Data)
	if err != nil {
		return err.Error()
	}
	what := "ICMP"
	if p.TCP != nil {
		what = p.TCP.Flags.String()
	} else if p.UDP != nil {
		what = "UDP"
	}
	switch {
	case ev.Packet.Drop != "":
		return fmt.Sprintf("in %s: %s", what, ev.Packet.Drop)
	case ev.Packet.Out:
		return strings.TrimSpace(fmt.Sprintf("out %s fd %d %s", what, ev.Packet.FD, ev.Packet.State))
	}
	s := "in " + what + ": " + ev.Packet.Route.Short()
	if ev.Packet.Socket != nil {
		s += "; " + ev.Packet.Socket.Short()
	}
	return s
}

func wantStory(t *testing.T, got []string, want string) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(strings.TrimSpace(want)) {
		lines = append(lines, strings.TrimSpace(line))
	}
	if d := cmp.Diff(lines, got); d != "" {
		t.Errorf("want (-), got (+):\n%s", d)
	}
}

// The whole life of an accepted connection, closed by its client.
func TestEventsPassive(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.Listen("tcp4", ":80")
	must(t, err)
	defer l.Close()
	sub := w.s.Subscribe(t.Context(), 1000)
	defer sub.Close()
	f := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	ack := w.handshake(t, f, 100)
	c, err := l.Accept()
	must(t, err)
	w.inject(segment(t, f, packet.ACK|packet.PSH, 101, ack, "meow"))
	w.read(t)
	_, err = io.ReadFull(c, make([]byte, 4))
	must(t, err)
	_, err = io.WriteString(c, "purr")
	must(t, err)
	w.read(t)
	w.inject(segment(t, f, packet.ACK|packet.FIN, 105, ack+4, ""))
	w.read(t)
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d, %v", n, err)
	}
	c.Close()
	w.read(t)
	w.inject(segment(t, f, packet.ACK, 106, ack+5, ""))
	w.read(t)
	wantStory(t, story(t, sub, 20), `
		in S: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✗, listener 10.9.0.2:80 ✗, listener *:80 ✓ fd 3 LISTEN
		fd -1: LISTEN → SYN-RECEIVED
		out S. fd -1 SYN-RECEIVED
		in .: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ no fd SYN-RECEIVED
		fd -1: SYN-RECEIVED → ESTABLISHED
		accept4 = 4
		in P.: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ fd 4 ESTABLISHED
		out . fd 4 ESTABLISHED
		read = 4
		out P. fd 4 ESTABLISHED
		write = 4
		in F.: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ fd 4 ESTABLISHED
		out . fd 4 ESTABLISHED
		fd 4: ESTABLISHED → CLOSE-WAIT
		read = 0
		fd -1: CLOSE-WAIT → LAST-ACK
		out F. fd -1 LAST-ACK
		close = 0
		in .: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ no fd LAST-ACK
		fd -1: LAST-ACK → CLOSED
	`)
}

// The whole life of a connection that this stack opens and closes first.
func TestEventsActive(t *testing.T) {
	w := newWire(t, Config{TCP: TCPConfig{TimeWait: 50 * time.Millisecond}})
	sub := w.s.Subscribe(t.Context(), 1000)
	defer sub.Close()
	y := w.s.Sys()
	fd, err := y.Socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0)
	must(t, err)
	must(t, y.Bind(fd, netip.MustParseAddrPort("10.9.0.2:6000")))
	y.Connect(fd, netip.MustParseAddrPort("10.9.0.1:80"))
	f := tuple("tcp", "10.9.0.1:80", "10.9.0.2:6000")
	syn := w.read(t)[0].TCP
	w.inject(segment(t, f, packet.SYN|packet.ACK, 500, syn.Seq+1, ""))
	w.read(t)
	must(t, y.Close(fd))
	w.read(t)
	w.inject(segment(t, f, packet.ACK, 501, syn.Seq+2, ""))
	w.read(t)
	w.inject(segment(t, f, packet.ACK|packet.FIN, 501, syn.Seq+2, ""))
	w.read(t)
	wantStory(t, story(t, sub, 17), `
		socket = 3
		bind = 0
		fd 3: CLOSED → SYN-SENT
		out S fd 3 SYN-SENT
		connect = -1 EINPROGRESS
		in S.: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ fd 3 SYN-SENT
		fd 3: SYN-SENT → ESTABLISHED
		out . fd 3 ESTABLISHED
		fd -1: ESTABLISHED → FIN-WAIT-1
		out F. fd -1 FIN-WAIT-1
		close = 0
		in .: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ no fd FIN-WAIT-1
		fd -1: FIN-WAIT-1 → FIN-WAIT-2
		in F.: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✓ no fd FIN-WAIT-2
		out . fd -1 FIN-WAIT-2
		fd -1: FIN-WAIT-2 → TIME-WAIT
		fd -1: TIME-WAIT → CLOSED
	`)
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		was, now tcpState
		want     string
	}{
		{tcpSynReceived, tcpEstablished, "ESTABLISHED"},
		{tcpSynReceived, tcpCloseWait, "ESTABLISHED CLOSE-WAIT"},
		{tcpSynSent, tcpFinWait2, "ESTABLISHED FIN-WAIT-1 FIN-WAIT-2"},
		{tcpEstablished, tcpLastAck, "CLOSE-WAIT LAST-ACK"},
		{tcpEstablished, tcpTimeWait, "FIN-WAIT-1 FIN-WAIT-2 TIME-WAIT"},
		{tcpFinWait2, tcpTimeWait, "TIME-WAIT"},
		{tcpClosing, tcpTimeWait, "TIME-WAIT"},
		{tcpEstablished, tcpFailed, "CLOSED"},
		{tcpSynSent, tcpSynReceived, "SYN-RECEIVED"},
		{tcpEstablished, tcpEstablished, ""},
	} {
		var got []string
		for _, st := range path(c.was, c.now) {
			got = append(got, st.String())
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s to %s: %q, want %q", c.was, c.now, s, c.want)
		}
	}
}

// What is dropped says why, and datagrams name their socket.
func TestEventsDecisions(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{{Type: Blackhole, Dst: pfx("198.51.100.0/24")}, {Type: Unreachable, Dst: pfx("203.0.113.0/24")}}})
	pc, err := w.s.ListenPacket("udp4", "10.9.0.2:53")
	must(t, err)
	defer pc.Close()
	sub := w.s.Subscribe(t.Context(), 1000)
	defer sub.Close()
	for _, dst := range []string{"10.9.0.2:53", "10.9.0.2:54", "198.51.100.1:53", "203.0.113.1:53", "192.0.2.1:53", "10.9.0.77:53", "127.0.0.1:53"} {
		w.inject(datagram(t, tuple("udp", "10.9.0.1:5000", dst), "meow"))
		w.read(t)
	}
	w.ask(t, echo(t, ip("10.9.0.1"), ip("10.9.0.2"), "meow"))
	wantStory(t, story(t, sub, 11), `
		in UDP: rule 0 → table local → local 10.9.0.2 dev cat0; exact 4-tuple ✗, socket 10.9.0.2:53 ✓ fd 3 UNCONN
		in UDP: NO_SOCKET
		out ICMP fd -1
		in UDP: BLACKHOLE
		in UDP: UNREACHABLE
		out ICMP fd -1
		in UDP: IP_INNOROUTES
		in UDP: IP_INADDRERRORS
		in UDP: IP_INVALID_DEST
		in ICMP: rule 0 → table local → local 10.9.0.2 dev cat0
		out ICMP fd -1
	`)
}

// A subscription holds what it can, and counts the rest.
func TestSubscriptionIsBounded(t *testing.T) {
	s := newStack(t, Config{})
	const calls, room = 100, 7
	sub, all := s.Subscribe(t.Context(), room), s.Subscribe(t.Context(), calls)
	for range calls {
		s.Sys().Close(-1)
	}
	if got := sub.Dropped(); got != calls-room {
		t.Errorf("%d dropped of %d with room for %d", got, calls, room)
	}
	if got := all.Dropped(); got != 0 {
		t.Errorf("a subscription with room for all dropped %d", got)
	}
	sub.Close()
	sub.Close()
	n := 0
	for ev := range sub.Events() {
		if n++; ev.Seq != uint64(n) {
			t.Errorf("event %d has number %d", n, ev.Seq)
		}
	}
	if n != room {
		t.Errorf("%d events, want %d", n, room)
	}
	ctx, cancel := context.WithCancel(t.Context())
	sub = s.Subscribe(ctx, 0)
	cancel()
	select {
	case _, ok := <-sub.Events():
		if ok {
			t.Error("an event although nothing happened")
		}
	case <-time.After(patience):
		t.Error("the context ended, the subscription did not")
	}
	all.Close()
	if s.events.on(AllEvents) {
		t.Error("the stack still makes events for nobody")
	}
	s.Close()
	if _, ok := <-s.Subscribe(t.Context(), 1).Events(); ok {
		t.Error("an event of a closed stack")
	}
}

// Subscriptions come and go while there is traffic.
func TestSubscribeUnderLoad(t *testing.T) {
	s := newStack(t, Config{})
	l, err := s.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { io.Copy(c, c); c.Close() })
		}
	})
	stop := make(chan struct{})
	var dialers sync.WaitGroup
	for range 2 {
		dialers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := s.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Errorf("dial: %v", err)
					return
				}
				io.WriteString(c, "meow")
				io.ReadFull(c, make([]byte, 4))
				c.(*TCPConn).SetLinger(0)
				c.Close()
			}
		})
	}
	var subs sync.WaitGroup
	for i := range 4 {
		subs.Go(func() {
			for range 30 {
				sub := s.Subscribe(t.Context(), 1+i)
				for range i {
					select {
					case <-sub.Events():
					case <-time.After(time.Second):
					}
				}
				sub.Close()
			}
		})
	}
	subs.Wait()
	close(stop)
	dialers.Wait()
	l.Close()
	wg.Wait()
	if s.events.on(AllEvents) {
		t.Error("all subscriptions are closed, and the stack still makes events")
	}
}

// A listener that ends is named by what it listened on, and has no other end.
func TestListenerEnds(t *testing.T) {
	for _, c := range []struct{ network, listen, want string }{
		{"tcp", ":80", "[::]:80"}, {"tcp4", ":80", "0.0.0.0:80"}, {"tcp", "10.9.0.2:80", "10.9.0.2:80"},
	} {
		w := newWire(t, Config{})
		sub := w.s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 10, Kinds: StateEvents})
		l, err := w.s.ListenTCP(c.network, c.listen, 5)
		must(t, err)
		w.inject(segment(t, tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80"), packet.ACK, 1, 1, "")) // has the listener looked at
		must(t, l.Close())
		sub.Close() // what has not been told is told now
		ev, ok := <-sub.Events()
		if !ok || ev.State == nil || ev.State.From != "LISTEN" || ev.State.To != "CLOSED" {
			t.Fatalf("%s: %+v, want a listener that ends", c.listen, ev)
		}
		if ev.State.Local.String() != c.want || ev.State.Remote.IsValid() {
			t.Errorf("%s %s: ends are %v and %v, want %s and none", c.network, c.listen, ev.State.Local, ev.State.Remote, c.want)
		}
	}
}
