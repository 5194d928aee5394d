package lab

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
)

// TestTUN has curl, in a namespace, fetch from a host behind a router, over links that lose and delay.
func TestTUN(t *testing.T) {
	testenv.Require(t, "curl")
	l, kernel := TUN(t, Options{})
	server, r := l.Host("server"), l.Router("r")
	link := l.Link(kernel, r, Netem("delay 5ms"), Netem("drop tcp data 2 from server"))
	l.Link(r, server, Netem("out loss 1%"))
	data := strings.Repeat("meow ", 20_000)
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "POST" {
			io.Copy(w, req.Body)
			return
		}
		io.WriteString(w, data)
	}))
	if url != "http://10.9.1.2" {
		t.Errorf("URL %s", url)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"curl", "-sS", url},
		{"curl", "-sS", "-g", "http://[fd00:9:0:1::2]"},
	} {
		out, err := kernel.Run(ctx, args...)
		if string(out) != data || err != nil {
			t.Errorf("%s: %d of %d bytes, %v", args, len(out), len(data), err)
		}
	}
	if r := link.Rules(); r[0].Applied < 2 {
		t.Errorf("the rule was applied to %d packets, want one of each connection", r[0].Applied)
	}
	if s := link.Stats(); s.In.Delayed == 0 || s.Out.Delayed == 0 {
		t.Errorf("stats: %+v", s)
	}
	if _, err := kernel.Run(ctx, "curl", "-sS", "--max-time", "60", "http://10.9.1.2:81"); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("curl to a port that is closed: %v, want exit status 7", err)
	}

	// The other way round: the kernel answers a host.
	if _, err := server.Dial("tcp", "kernel:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial to the namespace: %v, want ECONNREFUSED", err)
	}
}

// TestTUNMistakes holds what a namespace cannot do.
func TestTUNMistakes(t *testing.T) {
	testenv.Require(t, testenv.Tun)
	for _, tt := range []struct {
		name string
		do   func(t testing.TB)
		want string
	}{
		{"clock", func(t testing.TB) { TUN(t, Options{Clock: NewClock()}) }, "time is real"},
		{"links", func(t testing.TB) {
			l, kernel := TUN(t, Options{})
			l.Link(l.Host("a"), kernel)
			l.Link(l.Host("b"), kernel)
		}, "only one"},
	} {
		ft := newFakeT(t, tt.name)
		if log := ft.run(tt.do); !ft.Failed() || !strings.Contains(log, tt.want) {
			t.Errorf("%s: %q", tt.name, log)
		}
	}
	l, kernel := TUN(t, Options{})
	if _, err := kernel.Run(t.Context(), "true"); err == nil {
		t.Error("a program was run in a namespace without a link")
	}
	l.Link(kernel, l.Host("h"))
	if _, err := kernel.Run(t.Context(), "false"); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("false: %v", err)
	}
}
