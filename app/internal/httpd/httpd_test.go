package httpd

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newServer(goodbye time.Duration, h http.HandlerFunc) *Server {
	return New(Config{
		Name: "test", Handler: h, HeaderTimeout: time.Hour, IdleTimeout: time.Hour, MaxHeader: 1 << 10, MaxConns: 4,
		Goodbye: goodbye, Logger: slog.New(slog.DiscardHandler),
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// get asks, and returns all that came.
func get(t *testing.T, l net.Listener) (answer <-chan string) {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	ch := make(chan string, 1)
	go func() {
		defer c.Close()
		b, _ := io.ReadAll(c) // a cut connection is an end too
		ch <- string(b)
	}()
	return ch
}

// TestCloseEndsRequests holds that Close ends what runs, on each listener: with time for a last word only where there is some.
func TestCloseEndsRequests(t *testing.T) {
	for _, tt := range []struct {
		goodbye time.Duration
		word    bool
	}{{0, false}, {time.Hour, true}} {
		running, closed := make(chan struct{}), make(chan struct{})
		s := newServer(tt.goodbye, func(w http.ResponseWriter, r *http.Request) {
			running <- struct{}{}
			<-r.Context().Done()
			if tt.goodbye == 0 {
				<-closed // after the connection was cut, which the word does not survive
			}
			io.WriteString(w, "goodbye")
		})
		var ended bool
		s.Go(func() {
			<-s.Context().Done()
			for range 10_000 { // long enough that a Close that does not wait is back first
				runtime.Gosched()
			}
			ended = true
		})
		var answers []<-chan string
		for range 2 {
			l := listen(t)
			s.Serve(l)
			answers = append(answers, get(t, l))
			<-running
		}
		if tt.goodbye == 0 {
			go func() {
				defer close(closed)
				for _, a := range answers {
					if got := <-a; got != "" {
						t.Errorf("a connection that was to be cut got %q", got)
					}
				}
			}()
		}
		if err := s.Close(); err != nil {
			t.Errorf("goodbye %s: Close: %v", tt.goodbye, err)
		}
		if !ended {
			t.Errorf("goodbye %s: Close did not wait for a goroutine", tt.goodbye)
		}
		for _, a := range answers {
			if tt.word {
				if got := <-a; !strings.HasSuffix(got, "goodbye") {
					t.Errorf("the last word is %q", got)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		late := listen(t)
		s.Serve(late)
		if _, err := late.Accept(); err == nil {
			t.Error("a listener that came after Close is open")
		}
	}
}

// TestGoodbyeEnds holds that who does not go is cut off.
func TestGoodbyeEnds(t *testing.T) {
	running := make(chan struct{})
	s := newServer(time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
		close(running)
		for b := make([]byte, 64<<10); ; { // to a client that does not read: until the connection is closed
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	l := listen(t)
	s.Serve(l)
	var d net.Dialer
	c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	<-running
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
