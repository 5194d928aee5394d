package relay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

// kinds are what is on either side of a relay.
var kinds = []string{"kernel", "stack"}

func newStack(t testing.TB) *stack.Stack {
	t.Helper()
	s, err := stack.New(stack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newRelay(t testing.TB, cfg Config) *Relay {
	t.Helper()
	r := New(cfg)
	t.Cleanup(func() { r.Close() })
	return r
}

// connect returns the two ends of a connection.
func connect(t testing.TB, kind string) (dialled, accepted Conn) {
	t.Helper()
	var l net.Listener
	var err error
	var d interface {
		DialContext(context.Context, string, string) (net.Conn, error)
	} = &net.Dialer{}
	if kind == "stack" {
		s := newStack(t)
		l, err = s.Listen("tcp", "127.0.0.1:0")
		d = s
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); a.Close() })
	return c.(Conn), a.(Conn)
}

// joined is a client and a server with a relay between them.
type joined struct {
	client, server Conn
	result         chan Result
}

func join2(t testing.TB, r *Relay, ctx context.Context, near, far string) *joined {
	t.Helper()
	client, a := connect(t, near)
	b, server := connect(t, far)
	j := &joined{client, server, make(chan Result, 1)}
	go func() { j.result <- r.Join(ctx, a, b) }()
	return j
}

// each runs f with every combination of sides.
func each(t *testing.T, f func(t *testing.T, near, far string)) {
	for _, near := range kinds {
		for _, far := range kinds {
			t.Run(near+"-"+far, func(t *testing.T) { f(t, near, far) })
		}
	}
}

func mustRead(t testing.TB, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func mustWrite(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// An end of data is an end of data on the other side, and the other way goes on.
func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		for _, first := range []string{"client", "server"} {
			j := join2(t, newRelay(t, Config{}), t.Context(), near, far)
			x, y := j.client, j.server
			if first == "server" {
				x, y = y, x
			}
			mustWrite(t, x, "question")
			x.CloseWrite()
			if b, err := io.ReadAll(y); err != nil || string(b) != "question" {
				t.Fatalf("%s first: read %q, %v", first, b, err)
			}
			mustWrite(t, y, "answer")
			mustRead(t, x, "answer")
			mustWrite(t, y, "more")
			y.CloseWrite()
			if b, err := io.ReadAll(x); err != nil || string(b) != "more" {
				t.Fatalf("%s first: read %q, %v", first, b, err)
			}
			want := Result{Out: 8, In: 10}
			if first == "server" {
				want = Result{Out: 10, In: 8}
			}
			if got := <-j.result; got != want {
				t.Errorf("%s first: %+v, want %+v", first, got, want)
			}
		}
	})
}

// A reset is a reset on the other side, after the data that came before it.
func TestReset(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		for _, by := range []string{"client", "server"} {
			for _, halfClosed := range []bool{false, true} {
				r := newRelay(t, Config{})
				j := join2(t, r, t.Context(), near, far)
				x, y := j.client, j.server
				if by == "server" {
					x, y = y, x
				}
				mustWrite(t, x, "last words")
				mustRead(t, y, "last words") // what is not read is lost where the kernel gets the reset
				if halfClosed {
					y.CloseWrite()
					if _, err := x.Read(make([]byte, 1)); err != io.EOF {
						t.Fatal(err)
					}
				}
				reset(x)
				if _, err := y.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("reset by the %s, half closed %v: read gives %v, want ECONNRESET", by, halfClosed, err)
				}
				if got := <-j.result; !errors.Is(got.Err, syscall.ECONNRESET) {
					t.Errorf("reset by the %s: %+v, want ECONNRESET", by, got)
				}
				if st := r.Stats(); st.Resets != 1 || st.Conns != 0 {
					t.Errorf("%+v", st)
				}
			}
		}
	})
}

// A server that is reset while it is written to has its reset reach the client, and never an end of data that it has
// not sent.
func TestResetWhileWriting(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		for range 20 {
			j := join2(t, newRelay(t, Config{}), t.Context(), near, far)
			var wg sync.WaitGroup
			wg.Go(func() {
				b := make([]byte, 32<<10)
				for {
					if _, err := j.client.Write(b); err != nil {
						return
					}
				}
			})
			mustRead(t, j.server, string(make([]byte, 100_000)))
			mustWrite(t, j.server, "no")
			mustRead(t, j.client, "no")
			reset(j.server)
			// The client's writer may have taken the error; what it has not is an end of data.
			if _, err := j.client.Read(make([]byte, 1)); err == nil || err == io.EOF && !isReset(j.client) {
				t.Fatalf("read gives %v, want a reset", err)
			}
			wg.Wait()
			if got := <-j.result; got.Err == nil {
				t.Errorf("%+v, want an error", got)
			}
		}
	})
}

// Who does not read keeps the other side from sending.
func TestBackPressure(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		j := join2(t, newRelay(t, Config{}), t.Context(), near, far)
		const most = 64 << 20 // of windows, on a kernel with large ones
		written := 0
		b := make([]byte, 1<<20)
		j.client.SetWriteDeadline(time.Now().Add(time.Second)) // nothing moves then; it is no bound of anything
		for written < most {
			n, err := j.client.Write(b)
			written += n
			if err != nil {
				break
			}
		}
		if written >= most {
			t.Fatalf("%d bytes were taken that nobody reads", written)
		}
		j.client.SetWriteDeadline(time.Time{})
		j.client.CloseWrite()
		if n, err := io.Copy(io.Discard, j.server); err != nil || n != int64(written) {
			t.Errorf("%d bytes came, %v; want %d", n, err, written)
		}
		j.server.Close()
		<-j.result
	})
}

// Both ways at once, in pieces of all sizes.
func TestBytes(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		j := join2(t, newRelay(t, Config{}), t.Context(), near, far)
		const size = 8 << 20
		sums := make([][2][]byte, 2)
		var wg sync.WaitGroup
		for i, ends := range [][2]Conn{{j.client, j.server}, {j.server, j.client}} {
			wg.Go(func() {
				h := sha256.New()
				rng := rand.New(rand.NewPCG(1, uint64(i)))
				src := rand.NewChaCha8([32]byte{byte(i)})
				b := make([]byte, 200_000)
				for left := size; left > 0; {
					n := min(left, 1+rng.IntN(len(b)))
					src.Read(b[:n])
					h.Write(b[:n])
					if _, err := ends[0].Write(b[:n]); err != nil {
						t.Error(err)
						break
					}
					left -= n
				}
				ends[0].CloseWrite()
				sums[i][0] = h.Sum(nil)
			})
			wg.Go(func() {
				h := sha256.New()
				if n, err := io.Copy(h, ends[1]); err != nil || n != size {
					t.Errorf("%d bytes, %v", n, err)
				}
				sums[i][1] = h.Sum(nil)
			})
		}
		wg.Wait()
		for i := range sums {
			if !bytes.Equal(sums[i][0], sums[i][1]) {
				t.Errorf("way %d: other bytes came than were sent", i)
			}
		}
		if got := <-j.result; got.Out != size || got.In != size || got.Err != nil {
			t.Errorf("%+v", got)
		}
	})
}

// A connection that is idle for too long is reset; one on which something passes is not.
func TestIdle(t *testing.T) {
	r := newRelay(t, Config{Idle: 50 * time.Millisecond})
	j := join2(t, r, t.Context(), "kernel", "stack")
	if _, err := j.client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read gives %v, want ECONNRESET", err)
	}
	if got := <-j.result; got.Err != errIdle || r.Stats().Idled != 1 {
		t.Errorf("%+v, %+v", got, r.Stats())
	}
}

// Both are reset when the context or the relay ends.
func TestEnd(t *testing.T) {
	each(t, func(t *testing.T, near, far string) {
		for _, by := range []string{"context", "Close"} {
			r := New(Config{})
			ctx, cancel := context.WithCancel(t.Context())
			j := join2(t, r, ctx, near, far)
			mustWrite(t, j.client, "x")
			mustRead(t, j.server, "x")
			want := context.Canceled
			if by == "Close" {
				want = ErrClosed
				r.Close()
			} else {
				cancel()
			}
			for _, c := range []Conn{j.client, j.server} {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: read gives %v, want ECONNRESET", by, err)
				}
			}
			if got := <-j.result; !errors.Is(got.Err, want) {
				t.Errorf("%+v, want %v", got, want)
			}
			cancel()
			r.Close()
			client, a := connect(t, near)
			b, _ := connect(t, far)
			if got := r.Join(t.Context(), a, b); by == "Close" && got.Err != ErrClosed {
				t.Errorf("joined after Close: %+v", got)
			}
			client.Close()
		}
	})
}

// A client of a host listener is joined when its dial has succeeded, with what it has sent meanwhile, and reset when it was refused;
// its own reset ends the dial.
func TestServe(t *testing.T) {
	s := newStack(t)
	far, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []string{"joined", "refused", "gone", "half closed"} {
		t.Run(tt, func(t *testing.T) {
			r := newRelay(t, Config{})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			dialling, dial := make(chan context.Context), make(chan error)
			served := make(chan error, 1)
			go func() {
				served <- r.Serve(l, func(ctx context.Context, f stack.FourTuple) (net.Conn, error) {
					dialling <- ctx
					select {
					case err := <-dial:
						if err != nil {
							return nil, err
						}
						return s.DialContext(ctx, "tcp", far.Addr().String())
					case <-ctx.Done():
						dialling <- nil
						return nil, ctx.Err()
					}
				})
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			client := c.(Conn)
			defer client.Close()
			<-dialling
			early := string(bytes.Repeat([]byte("early "), 5000))
			mustWrite(t, client, early)
			switch tt {
			case "joined", "half closed":
				if tt == "half closed" {
					client.CloseWrite()
				}
				dial <- nil
				server, err := far.Accept()
				if err != nil {
					t.Fatal(err)
				}
				mustRead(t, server, early)
				if tt == "half closed" {
					if _, err := server.Read(make([]byte, 1)); err != io.EOF {
						t.Errorf("read gives %v, want the end", err)
					}
				}
				mustWrite(t, server, "late")
				mustRead(t, client, "late")
				server.Close()
				if _, err := client.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("read gives %v, want the end", err)
				}
			case "refused":
				dial <- syscall.ECONNREFUSED
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("read gives %v, want ECONNRESET", err)
				}
				if st := r.Stats(); st.Failed != 1 {
					t.Errorf("%+v", st)
				}
			case "gone":
				reset(client)
				<-dialling
			}
			l.Close()
			if err := <-served; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

// There is room for so many connections; others are not answered, or reset where a listener has answered already.
func TestMaxConns(t *testing.T) {
	r := newRelay(t, Config{MaxConns: 1})
	j := join2(t, r, t.Context(), "kernel", "kernel")
	mustWrite(t, j.client, "x")
	mustRead(t, j.server, "x")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- r.Serve(l, func(context.Context, stack.FourTuple) (net.Conn, error) { panic("dialled") })
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v, want ECONNRESET", err)
	}
	if st := r.Stats(); st.ConnsFull != 1 {
		t.Errorf("%+v", st)
	}
	l.Close()
	<-served
	if infos := r.Conns(); len(infos) != 1 || infos[0].Out != 1 || infos[0].In != 0 {
		t.Errorf("%+v", infos)
	}
	j.client.Close()
	j.server.Close()
	<-j.result
}

// A thousand connections at once carry their own bytes each.
func TestThousand(t *testing.T) {
	s := newStack(t)
	far, err := s.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := far.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	r := newRelay(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		served <- r.Serve(l, func(ctx context.Context, f stack.FourTuple) (net.Conn, error) {
			return s.DialContext(ctx, "tcp", far.Addr().String())
		})
	}()
	const n = 1000
	var conns []Conn
	for i := range n {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c.(Conn))
		mustWrite(t, c, string(slices.Repeat([]byte{byte(i), byte(i >> 8)}, 1000)))
	}
	for i, c := range conns {
		mustRead(t, c, string(slices.Repeat([]byte{byte(i), byte(i >> 8)}, 1000)))
	}
	if st := r.Stats(); st.Conns != n || st.ConnsAll != n {
		t.Errorf("%+v", st)
	}
	for _, c := range conns {
		c.CloseWrite()
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
		c.Close()
	}
	l.Close()
	<-served
	r.Close()
	if st := r.Stats(); st.Conns != 0 || st.Out.Bytes != n*2000 || st.In.Bytes != n*2000 {
		t.Errorf("%+v", st)
	}
}
