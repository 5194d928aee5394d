package relay

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/catflap/catflap/stack"
)

// BenchmarkBytes is the cost of a byte between two kernel connections over loopback ("direct"), through a relay between
// two more, and through a relay to a stack.
func BenchmarkBytes(b *testing.B) {
	for _, way := range []string{"direct", "kernel", "stack"} {
		b.Run(way, func(b *testing.B) {
			r := newRelay(b, Config{})
			var client, server Conn
			if way == "direct" {
				client, server = connect(b, "kernel")
			} else {
				j := join2(b, r, b.Context(), "kernel", way)
				client, server = j.client, j.server
			}
			const chunk = 1 << 20
			b.SetBytes(chunk)
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 64<<10)
				for {
					if _, err := server.Read(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, chunk)
			for b.Loop() {
				if _, err := client.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			client.CloseWrite()
			<-done
		})
	}
}

// BenchmarkConns is the cost of a connection: opened, a byte there and back, closed.
func BenchmarkConns(b *testing.B) {
	s := newStack(b)
	for _, way := range []string{"direct", "kernel", "stack"} {
		b.Run(way, func(b *testing.B) {
			var far net.Listener
			var err error
			if way == "stack" {
				far, err = s.Listen("tcp", "127.0.0.1:0")
			} else {
				far, err = net.Listen("tcp", "127.0.0.1:0")
			}
			if err != nil {
				b.Fatal(err)
			}
			defer far.Close()
			go func() {
				for {
					c, err := far.Accept()
					if err != nil {
						return
					}
					go func() { io.Copy(c, c); c.Close() }()
				}
			}()
			at := far.Addr().String()
			if way != "direct" {
				r := newRelay(b, Config{})
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				dial := To(&net.Dialer{}, far.Addr().String())
				if way == "stack" {
					dial = func(ctx context.Context, _ stack.FourTuple) (net.Conn, error) {
						return s.DialContext(ctx, "tcp", far.Addr().String())
					}
				}
				go r.Serve(l, dial)
				at = l.Addr().String()
			}
			b.ReportAllocs()
			one := make([]byte, 1)
			for b.Loop() {
				c, err := net.Dial("tcp", at)
				if err != nil {
					b.Fatal(err)
				}
				c.Write(one)
				if _, err := io.ReadFull(c, one); err != nil {
					b.Fatal(err)
				}
				c.(Conn).CloseWrite()
				c.Read(one)
				c.Close()
			}
		})
	}
}
