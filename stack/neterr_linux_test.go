//go:build linux

package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// network is what this stack and the net package have in common.
type network struct {
	listen       func(network, address string) (net.Listener, error)
	listenPacket func(network, address string) (net.PacketConn, error)
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
}

// pair connects two ends over TCP.
func (n network) pair() (c, s net.Conn) {
	l, err := n.listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	c, err = n.dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		panic(err)
	}
	s, err = l.Accept()
	if err != nil {
		panic(err)
	}
	return c, s
}

type closer interface {
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
}

// netErrors are calls that fail. Their errors are the same here and in the net
// package: the same words, the same fields, the same sentinels behind them.
var netErrors = []struct {
	name string
	call func(n network) error
}{
	{"dial to a closed port", func(n network) error {
		_, err := n.dial(context.Background(), "tcp", "127.0.0.1:1")
		return err
	}},
	{"dial to a closed port, IPv6", func(n network) error {
		_, err := n.dial(context.Background(), "tcp6", "[::1]:1")
		return err
	}},
	{"dial an unknown network", func(n network) error {
		_, err := n.dial(context.Background(), "tcp5", "127.0.0.1:1")
		return err
	}},
	{"dial without a port", func(n network) error {
		_, err := n.dial(context.Background(), "tcp", "127.0.0.1")
		return err
	}},
	{"dial a wrong port", func(n network) error {
		_, err := n.dial(context.Background(), "tcp", "127.0.0.1:99999")
		return err
	}},
	{"dial a wrong family", func(n network) error {
		_, err := n.dial(context.Background(), "tcp4", "[::1]:1")
		return err
	}},
	{"dial canceled before", func(n network) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := n.dial(ctx, "tcp", "127.0.0.1:1")
		return err
	}},
	{"dial too late", func(n network) error {
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		_, err := n.dial(ctx, "tcp", "127.0.0.1:1")
		return err
	}},
	{"listen twice", func(n network) error {
		l, err := n.listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil
		}
		defer l.Close()
		_, err = n.listen("tcp", l.Addr().String())
		return err
	}},
	{"listen on a foreign address", func(n network) error {
		_, err := n.listen("tcp", "192.0.2.1:0")
		return err
	}},
	{"listen on an unknown network", func(n network) error {
		_, err := n.listen("unixx", "127.0.0.1:0")
		return err
	}},
	{"listen on UDP as TCP", func(n network) error {
		_, err := n.listen("udp", "127.0.0.1:0")
		return err
	}},
	{"accept after close", func(n network) error {
		l, _ := n.listen("tcp", "127.0.0.1:0")
		l.Close()
		_, err := l.Accept()
		return err
	}},
	{"accept too late", func(n network) error {
		l, _ := n.listen("tcp", "127.0.0.1:0")
		defer l.Close()
		l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(-time.Second))
		_, err := l.Accept()
		return err
	}},
	{"accept while closing", func(n network) error {
		l, _ := n.listen("tcp", "127.0.0.1:0")
		time.AfterFunc(20*time.Millisecond, func() { l.Close() })
		_, err := l.Accept()
		return err
	}},
	{"close a listener twice", func(n network) error {
		l, _ := n.listen("tcp", "127.0.0.1:0")
		l.Close()
		return l.Close()
	}},
	{"read after close", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"write after close", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		_, err := c.Write(make([]byte, 1))
		return err
	}},
	{"close twice", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		return c.Close()
	}},
	{"set a deadline after close", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		return c.SetDeadline(time.Now())
	}},
	{"set an option after close", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		return c.(closer).SetNoDelay(true)
	}},
	{"shut down after close", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		c.Close()
		return c.(closer).CloseWrite()
	}},
	{"read too late", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		defer s.Close()
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"write too late", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		defer s.Close()
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			if _, err := c.Write(make([]byte, 1<<20)); err != nil {
				return err
			}
		}
	}},
	{"read while closing", func(n network) error {
		c, s := n.pair()
		defer s.Close()
		time.AfterFunc(20*time.Millisecond, func() { c.Close() })
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"read at the end", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		s.Close()
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"read after CloseRead", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		defer s.Close()
		c.(closer).CloseRead()
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"write after CloseWrite", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		defer s.Close()
		c.(closer).CloseWrite()
		_, err := c.Write(make([]byte, 1))
		return err
	}},
	{"read after a reset", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		s.(closer).SetLinger(0)
		s.Close()
		_, err := c.Read(make([]byte, 1))
		return err
	}},
	{"write after a reset", func(n network) error {
		c, s := n.pair()
		defer c.Close()
		s.(closer).SetLinger(0)
		s.Close()
		for { // until the reset has come
			if _, err := c.Write(make([]byte, 1)); err != nil {
				return err
			}
		}
	}},
	{"listen for datagrams twice", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		defer pc.Close()
		_, err := n.listenPacket("udp", pc.LocalAddr().String())
		return err
	}},
	{"listen for datagrams on TCP", func(n network) error {
		_, err := n.listenPacket("tcp", "127.0.0.1:0")
		return err
	}},
	{"receive after close", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		pc.Close()
		_, _, err := pc.ReadFrom(make([]byte, 1))
		return err
	}},
	{"receive too late", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		defer pc.Close()
		pc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, _, err := pc.ReadFrom(make([]byte, 1))
		return err
	}},
	{"send after close", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		pc.Close()
		_, err := pc.WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		return err
	}},
	{"send to another kind of address", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		defer pc.Close()
		_, err := pc.WriteTo([]byte("x"), &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		return err
	}},
	{"send too much", func(n network) error {
		pc, _ := n.listenPacket("udp", "127.0.0.1:0")
		defer pc.Close()
		_, err := pc.WriteTo(make([]byte, 70000), pc.LocalAddr())
		return err
	}},
	{"send to a connected socket's other", func(n network) error {
		c, _ := n.dial(context.Background(), "udp", "127.0.0.1:9")
		defer c.Close()
		_, err := c.(net.PacketConn).WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9})
		return err
	}},
	{"a closed UDP port", func(n network) error {
		c, _ := n.dial(context.Background(), "udp", "127.0.0.1:1")
		defer c.Close()
		c.Write([]byte("x"))
		_, err := c.Read(make([]byte, 1))
		return err
	}},
}

var ephemeralPort = regexp.MustCompile(`:[0-9]{5}\b`)

// describeErr is all that a caller can find out about an error.
func describeErr(err error) string {
	if err == nil {
		return "nil"
	}
	s := ephemeralPort.ReplaceAllString(err.Error(), ":PORT")
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch e := e.(type) {
		case *net.OpError:
			s += fmt.Sprintf("; OpError{%s %s source %T addr %T}", e.Op, e.Net, e.Source, e.Addr)
		case *os.SyscallError:
			s += "; SyscallError " + e.Syscall
		}
	}
	for _, sentinel := range []error{net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded, io.EOF,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EPIPE, syscall.EMSGSIZE} {
		if errors.Is(err, sentinel) {
			s += "; is " + sentinel.Error()
		}
	}
	if ne, ok := err.(net.Error); ok {
		//lint:ignore SA1019 package net's errors still have it
		s += fmt.Sprintf("; timeout %v, temporary %v", ne.Timeout(), ne.Temporary())
	}
	return s
}

func TestErrorsAsNet(t *testing.T) {
	s := newStack(t, Config{})
	ours := network{s.Listen, s.ListenPacket, s.DialContext}
	theirs := network{net.Listen, net.ListenPacket, new(net.Dialer).DialContext}
	for _, c := range netErrors {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, want := c.call(ours), c.call(theirs)
			if want == nil {
				t.Fatal("the net package gives no error")
			}
			if g, w := describeErr(got), describeErr(want); g != w {
				t.Errorf("\ngot  %s\nwant %s", g, w)
			}
		})
	}
}

// Addresses have the net package's types and values.
func TestAddrsAsNet(t *testing.T) {
	s := newStack(t, Config{})
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0", "[::]:0", "0.0.0.0:0", "localhost:0"} {
		describe := func(n network) string {
			l, err := n.listen("tcp", address)
			if err != nil {
				return err.Error()
			}
			defer l.Close()
			pc, err := n.listenPacket("udp", address)
			if err != nil {
				return err.Error()
			}
			defer pc.Close()
			c, err := n.dial(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				return err.Error()
			}
			defer c.Close()
			a, err := l.Accept()
			if err != nil {
				return err.Error()
			}
			defer a.Close()
			out := ""
			for _, addr := range []net.Addr{l.Addr(), pc.LocalAddr(), c.LocalAddr(), c.RemoteAddr(), a.LocalAddr(), a.RemoteAddr()} {
				out += fmt.Sprintf("%s %s %s\n", reflect.TypeOf(addr), addr.Network(), ephemeralPort.ReplaceAllString(addr.String(), ":PORT"))
			}
			return out
		}
		got := describe(network{s.Listen, s.ListenPacket, s.DialContext})
		want := describe(network{net.Listen, net.ListenPacket, new(net.Dialer).DialContext})
		if got != want {
			t.Errorf("%s:\n%swant\n%s", address, got, want)
		}
	}
}
