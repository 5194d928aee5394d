package e2e

import (
	"context"
	"net"
	"testing"

	"golang.org/x/net/nettest"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/stack"
)

// dialer makes one end of a connection, to an address of the listener that has the other.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// testConns runs nettest's conformance tests on connections between dial and l, with either end as the first.
func testConns(t *testing.T, l net.Listener, dial dialer) {
	pipe := func() (dialed, accepted net.Conn, err error) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		type result struct {
			net.Conn
			error
		}
		ch := make(chan result, 1)
		go func() {
			c, err := l.Accept()
			ch <- result{c, err}
		}()
		if dialed, err = dial(ctx, "tcp", l.Addr().String()); err != nil {
			l.Close()
			<-ch
			return nil, nil, err
		}
		r := <-ch
		return dialed, r.Conn, r.error
	}
	for name, swap := range map[string]bool{"client first": false, "server first": true} {
		t.Run(name, func(t *testing.T) {
			nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
				if a, b, err = pipe(); err != nil {
					return nil, nil, nil, err
				}
				stop = func() { a.Close(); b.Close() }
				if swap {
					return b, a, stop, nil
				}
				return a, b, stop, nil
			})
		})
	}
}

// TestConnOverPipe: connections of two userspace stacks joined in memory are net.Conns in every respect.
func TestConnOverPipe(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"10.9.0.2:0", "[fd00:9::2]:0"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			p, err := instance.StartPair(instance.Config{}, instance.DefaultHostAddrs, 1500)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			testConns(t, listen(t, p.Server.Stack(), address), p.Client.DialContext)
		})
	}
}

func listen(t testing.TB, s *stack.Stack, address string) net.Listener {
	t.Helper()
	l, err := s.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
