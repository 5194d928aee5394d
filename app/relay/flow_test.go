package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
)

// echoServer answers each datagram with itself, until the test ends.
func echoServer(t testing.TB) net.Addr {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, maxDatagram)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			l.WriteTo(b[:n], from)
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.LocalAddr()
}

// servePacket starts a relay of datagrams to target, and returns its address.
func servePacket(t testing.TB, r *Relay, target string) net.Addr {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.ServePacket(l, To(&net.Dialer{}, target)) }()
	t.Cleanup(func() {
		r.Close()
		if err := <-served; !errors.Is(err, net.ErrClosed) {
			t.Errorf("ServePacket: %v", err)
		}
	})
	return l.LocalAddr()
}

func dialUDP(t testing.TB, to net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func exchange(t testing.TB, c net.Conn, text string) {
	t.Helper()
	mustWrite(t, c, text)
	b := make([]byte, maxDatagram)
	c.SetReadDeadline(time.Now().Add(20 * time.Second)) // so that what is lost fails the test
	if n, err := c.Read(b); err != nil || string(b[:n]) != text {
		t.Fatalf("got %q, %v; want %q", b[:n], err, text)
	}
}

// Datagrams of each client go over a flow of their own, of any size up to the longest.
func TestServePacket(t *testing.T) {
	r := newRelay(t, Config{})
	at := servePacket(t, r, echoServer(t).String())
	one, two := dialUDP(t, at), dialUDP(t, at)
	exchange(t, one, "one")
	exchange(t, two, "two")
	exchange(t, one, string(make([]byte, 65507)))
	if st := r.Stats(); st.Flows != 2 || st.FlowsAll != 2 || st.Out != (Count{65513, 3}) || st.In != st.Out {
		t.Errorf("%+v", st)
	}
}

// A flow ends when it has been idle for too long, and the next datagram begins another.
func TestFlowIdle(t *testing.T) {
	r := newRelay(t, Config{FlowIdle: 50 * time.Millisecond})
	c := dialUDP(t, servePacket(t, r, echoServer(t).String()))
	exchange(t, c, "one")
	testenv.Await(t, "the flow to end", func() bool { return r.Stats().Flows == 0 })
	exchange(t, c, "two")
	if st := r.Stats(); st.FlowsAll != 2 {
		t.Errorf("%+v", st)
	}
}

// Flows to port 53 end sooner.
func TestDNSIdle(t *testing.T) {
	r := newRelay(t, Config{FlowIdle: time.Hour, DNSIdle: time.Nanosecond})
	if f := r.flowFor(53); f.idle != time.Nanosecond {
		t.Errorf("a flow to port 53 is idle after %v", f.idle)
	} else {
		f.forget()
	}
	if f := r.flowFor(54); f.idle != time.Hour {
		t.Errorf("a flow to port 54 is idle after %v", f.idle)
	} else {
		f.forget()
	}
	r2 := New(Config{})
	defer r2.Close()
	if f := r2.flowFor(53); f.idle != 30*time.Second {
		t.Errorf("%v", f.idle)
	} else {
		f.forget()
	}
}

// One flow more than there is room for ends the one that has been silent longest.
func TestMaxFlows(t *testing.T) {
	r := newRelay(t, Config{MaxFlows: 2})
	at := servePacket(t, r, echoServer(t).String())
	one, two, three := dialUDP(t, at), dialUDP(t, at), dialUDP(t, at)
	exchange(t, one, "1")
	exchange(t, two, "2")
	exchange(t, one, "1")
	exchange(t, three, "3")
	if st := r.Stats(); st.Flows != 2 || st.FlowsAll != 3 || st.FlowsMade != 1 {
		t.Errorf("%+v", st)
	}
	exchange(t, one, "1")
	if st := r.Stats(); st.FlowsAll != 3 {
		t.Errorf("the flow that was in use made way: %+v", st)
	}
}

// When nobody is on the port, the flow ends; through a forwarder the client is told, as it is by a kernel.
func TestFlowRefused(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.LocalAddr()
	l.Close()
	r := newRelay(t, Config{})
	c := dialUDP(t, servePacket(t, r, nobody.String()))
	mustWrite(t, c, "x")
	testenv.Await(t, "the flow to end", func() bool { st := r.Stats(); return st.FlowsAll == 1 && st.Flows == 0 })

	s := newStack(t)
	anywhere := netip.MustParsePrefix("192.0.2.0/24")
	if err := s.AddRoute(stack.Route{Type: stack.Local, Dst: anywhere, Dev: "lo"}); err != nil {
		t.Fatal(err)
	}
	f, err := s.Forward(stack.ForwardConfig{Rules: []stack.ForwardRule{{Prefix: anywhere}}, UDP: r.UDP(To(&net.Dialer{}, nobody.String()))})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u, err := s.Dial("udp", "192.0.2.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	mustWrite(t, u, "x")
	if _, err := u.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("read gives %v, want ECONNREFUSED", err)
	}
}

// A context or the relay ends a flow.
func TestFlowEnd(t *testing.T) {
	r := New(Config{})
	s := newStack(t)
	l, err := s.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, by := range []string{"context", "Close"} {
		ctx, cancel := context.WithCancel(t.Context())
		a, err := s.Dial("udp", l.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		b := dialUDP(t, echoServer(t))
		done := make(chan error, 1)
		go func() { done <- r.JoinFlow(ctx, a, b) }()
		testenv.Await(t, "the flow to begin", func() bool { return r.Stats().Flows == 1 })
		want := context.Canceled
		if by == "context" {
			cancel()
		} else {
			r.Close()
			want = ErrClosed
		}
		if err := <-done; !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", by, err, want)
		}
		cancel()
	}
}
