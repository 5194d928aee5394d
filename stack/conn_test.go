package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// newStack returns a stack with lo alone, closed when the test ends.
func newStack(t testing.TB, cfg Config) *Stack {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// connPair returns the two ends of a connection over lo.
func connPair(t testing.TB, s *Stack, network, addr string) (client, server *TCPConn) {
	t.Helper()
	l, err := s.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type result struct {
		c   net.Conn
		err error
	}
	ch := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		ch <- result{c, err}
	}()
	c, err := s.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r := <-ch
	if r.err != nil {
		t.Fatal(r.err)
	}
	return c.(*TCPConn), r.c.(*TCPConn)
}

func TestConnNettest(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				s, err := New(Config{})
				if err != nil {
					return nil, nil, nil, err
				}
				a, b := connPair(t, s, "tcp", addr)
				return a, b, func() {
					a.Close()
					b.Close()
					s.Close()
				}, nil
			})
		})
	}
}

func TestConnErrors(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	buf := make([]byte, 16)

	c.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read after deadline: %v, want os.ErrDeadlineExceeded", err)
	}
	c.SetReadDeadline(time.Time{})
	if _, err := s.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial to a closed port: %v, want ECONNREFUSED", err)
	}
	var op *net.OpError
	if _, err := s.Dial("tcp", "203.0.113.1:80"); !errors.Is(err, syscall.ENETUNREACH) || !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("dial without a route: %v, want *net.OpError with ENETUNREACH", err)
	}
	l, err := s.Listen("tcp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listen("tcp", "127.0.0.1:7000"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listen: %v, want EADDRINUSE", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = s.Listen("tcp", "127.0.0.1:7000"); err != nil {
		t.Errorf("listen after close: %v", err)
	}
	l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept on a closed listener: %v, want net.ErrClosed", err)
	}
	if _, err := s.Listen("tcp", "192.0.2.1:80"); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("listen on a foreign address: %v, want EADDRNOTAVAIL", err)
	}

	srv.SetLinger(0)
	srv.Close()
	if _, err := c.Read(buf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read after reset: %v, want ECONNRESET", err)
	}
	c.Close()
	if _, err := c.Read(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v, want net.ErrClosed", err)
	}
	if _, err := c.Write(buf); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v, want net.ErrClosed", err)
	}
	if err := c.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second close: %v, want net.ErrClosed", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := s.AddRoute(Route{Type: Unicast, Dst: pfx("198.51.100.0/24"), Dev: "lo"}); err != nil {
		t.Fatal(err)
	}
	_, err = s.DialContext(ctx, "tcp", "198.51.100.1:80")
	if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
		t.Errorf("dial with a deadline: %v, want a timeout", err)
	}
}

func TestConnHalfClose(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	if _, err := c.ReadFrom(strings.NewReader("request")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(srv)
	if string(got) != "request" || err != nil {
		t.Fatalf("server read %q, %v", got, err)
	}
	if _, err := io.WriteString(srv, "response"); err != nil {
		t.Fatal(err)
	}
	srv.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, c); err != nil || b.String() != "response" {
		t.Fatalf("client read %q, %v", b.String(), err)
	}
}

func TestUDP(t *testing.T) {
	s := newStack(t, Config{})
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		pc, err := s.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("meow")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 2)
		n, from, err := pc.ReadFrom(b)
		if err != nil || n != 2 || from.String() != c.LocalAddr().String() {
			t.Fatalf("got %d bytes from %v, %v; want 2 of 4 from %v", n, from, err, c.LocalAddr())
		}
		if _, err := pc.WriteTo([]byte("purr"), from); err != nil {
			t.Fatal(err)
		}
		b = make([]byte, 9)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "purr" {
			t.Fatalf("got %q, %v", b[:n], err)
		}
		c.Close()
		pc.Close()
	}
}

func TestCloseUnderLoad(t *testing.T) {
	s := newStack(t, Config{})
	l, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	const clients = 20
	done := make(chan error, clients)
	var loaded sync.WaitGroup // each client has had a MiB back
	loaded.Add(clients)
	for range clients {
		go func() {
			c, err := s.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Errorf("dial: %v", err)
				loaded.Done()
				done <- nil
				return
			}
			go func() {
				_, _ = io.CopyN(io.Discard, c, 1<<20)
				loaded.Done()
				_, _ = io.Copy(io.Discard, c)
			}()
			buf := make([]byte, 32<<10)
			for err == nil {
				_, err = c.Write(buf)
			}
			done <- err
		}()
	}
	within(t, patience, "the load", loaded.Wait)
	s.Close()
	for range clients {
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatalf("a writer still hangs %s after Close", patience)
		}
	}
	<-ended
	if _, err := s.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("listen on a closed stack succeeded")
	}
}
