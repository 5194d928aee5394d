package lab_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/test/lab"
)

// The recipes are tests of programs on bad networks, each to be copied. All run in virtual time.

// fetch is a program under test: it asks up to three times, waiting half a second for each answer.
func fetch(c *http.Client, clock *lab.Clock, url string) (body []byte, attempts int, err error) {
	try := func() ([]byte, error) {
		ctx, cancel := clock.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := c.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body)
	}
	for attempts = 1; ; attempts++ {
		if body, err = try(); err == nil || attempts == 3 {
			return body, attempts, err
		}
	}
}

// An HTTP client asks again when the SYN-ACK of its connection is lost.
func TestRecipeLostSYNACK(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	l.Link(client, server, lab.Netem("delay 10ms"), lab.Netem("drop tcp synack 1 connection 1"))
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "meow") }))

	clock.Run(func() {
		body, attempts, err := fetch(client.Client(), clock, url)
		if string(body) != "meow" || attempts != 2 || err != nil {
			t.Errorf("body %q after %d attempts, error %v; want meow after 2", body, attempts, err)
		}
	})
	if took := clock.Elapsed(); took != 540*time.Millisecond {
		t.Errorf("took %s, want the timeout of 500ms and two round trips of 20ms", took)
	}
}

// An HTTP/2 stream arrives whole through 5 % loss.
func TestRecipeHTTP2Loss(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	link := l.Link(client, server, lab.Netem("delay 10ms loss 5%"))
	data := bytes.Repeat([]byte("purr "), 100_000)
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(data) }))

	h2 := client.Transport()
	h2.Protocols = new(http.Protocols)
	h2.Protocols.SetUnencryptedHTTP2(true)
	clock.Run(func() {
		resp, err := (&http.Client{Transport: h2}).Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || sha256.Sum256(body) != sha256.Sum256(data) || resp.ProtoMajor != 2 {
			t.Errorf("%d of %d bytes by %s, error %v", len(body), len(data), resp.Proto, err)
		}
	})
	if s := link.Stats(); s.In.Lost == 0 {
		t.Error("nothing was lost: this test shows nothing")
	}
}

// A server waits for a client that does not read, for as long as it takes, and then goes on.
func TestRecipeSlowConsumer(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock, TCP: stack.TCPConfig{ReceiveBuffer: 64 << 10, ReceiveBufferMax: 64 << 10, SendBuffer: 64 << 10, SendBufferMax: 64 << 10}})
	client, server := l.Host("client"), l.Host("server")
	l.Link(client, server, lab.Netem("delay 10ms"))
	var written atomic.Int64
	const size = 1 << 20
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range size / 1024 {
			n, err := w.Write(make([]byte, 1024))
			if written.Add(int64(n)); err != nil {
				t.Error(err)
				return
			}
		}
	}))

	clock.Run(func() {
		resp, err := client.Client().Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		clock.Sleep(5 * time.Second)
		early := written.Load()
		clock.Sleep(5 * time.Minute) // the window is 0; probes keep the connection
		if late := written.Load(); early == size || late != early {
			t.Errorf("the server had written %d of %d bytes after 5s, and %d after 5m: it should wait", early, size, late)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("read %d of %d bytes, error %v", n, size, err)
		}
	})
}

// A server vanishes without a word; the client's keepalive finds out.
func TestRecipeHalfOpen(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	link := l.Link(client, server, lab.Netem("delay 10ms"))
	ln, err := server.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}

	clock.Run(func() {
		c, err := client.Dial("tcp", "server:7")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if _, err := ln.Accept(); err != nil {
			t.Error(err)
			return
		}
		link.AddRule("vanish server")
		keepalive := net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}
		c.(*stack.TCPConn).SetKeepAliveConfig(keepalive)
		start := clock.Elapsed()
		_, err = c.Read(make([]byte, 1))
		if took := clock.Elapsed() - start; !errors.Is(err, syscall.ETIMEDOUT) || took.Round(time.Second) != 25*time.Second {
			t.Errorf("read ended after %s with %v, want ETIMEDOUT after 10s and three probes 5s apart", took, err)
		}
	})
}

// A path swallows what is larger than 1400 bytes: small messages pass and large ones never arrive. Were the path to say so, TCP
// would cope.
func TestRecipePMTUBlackHole(t *testing.T) {
	for _, tt := range []struct {
		name, rule string
		want       error
	}{
		{"silent", "blackhole ip size > 1400", context.DeadlineExceeded},
		{"told", "toobig 1400 ip size > 1400", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := lab.NewClock()
			l := lab.New(t, lab.Options{Clock: clock})
			client, server := l.Host("client"), l.Host("server")
			l.Link(client, server, lab.Netem("delay 10ms"), lab.Netem(tt.rule))
			url := server.Serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
			post := func(size int) error {
				ctx, cancel := clock.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(make([]byte, size)))
				if err != nil {
					return err
				}
				resp, err := client.Client().Do(req)
				if err == nil {
					resp.Body.Close()
				}
				return err
			}
			clock.Run(func() {
				if err := post(1000); err != nil {
					t.Errorf("a small message: %v", err)
				}
				if err := post(100_000); !errors.Is(err, tt.want) {
					t.Errorf("a large message: %v, want %v", err, tt.want)
				}
			})
		})
	}
}

// A connection is reset in the middle of a body: the client notices, and does not take the part for the whole.
func TestRecipeResetMidBody(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	l.Link(client, server, lab.Netem("delay 10ms"), lab.Netem("reset tcp byte 50000 from server"))
	const size = 1 << 20
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, size)) }))

	clock.Run(func() {
		resp, err := client.Client().Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if !errors.Is(err, syscall.ECONNRESET) || n == 0 || n > 50_000 {
			t.Errorf("read %d bytes, error %v; want a part of the first 50000 and ECONNRESET", n, err)
		}
	})
}

// A transfer outlives a cut of 3 seconds.
func TestRecipeNetworkCut(t *testing.T) {
	clock := lab.NewClock()
	l := lab.New(t, lab.Options{Clock: clock})
	client, server := l.Host("client"), l.Host("server")
	link := l.Link(client, server, lab.Netem("delay 10ms rate 8mbit"))
	text := strings.Repeat("meow ", 400_000) // 2 MB, 2 s
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }))

	clock.AfterFunc(time.Second, link.Down)
	clock.AfterFunc(4*time.Second, link.Up)
	clock.Run(func() {
		resp, err := client.Client().Get(url)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if string(body) != text || err != nil {
			t.Errorf("read %d of %d bytes, error %v", len(body), len(text), err)
		}
	})
	// When the link is back depends on the link, when the transfer goes on depends on TCP: its retransmission timer has doubled
	// a few times by then.
	if took := clock.Elapsed(); took < 5*time.Second || took > 30*time.Second {
		t.Errorf("took %s, want 2s and the cut of 3s, and half a minute at most", took)
	}
}
