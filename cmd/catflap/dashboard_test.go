package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
)

// pcap is a capture of one SYN, as another program writes it.
func pcap() []byte {
	syn := []byte{
		0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
		0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
	}
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	for _, n := range []uint32{2 | 4<<16, 0, 0, 65535, 101, 1700000000, 0, uint32(len(syn)), uint32(len(syn))} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return append(b, syn...)
}

// lines waits for what a pattern finds in what is written to it.
type lines struct {
	text chan string
	all  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.text <- string(b)
	return len(b), nil
}

func (l *lines) find(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for timeout := time.After(time.Minute); ; {
		if m := re.FindStringSubmatch(l.all.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case s := <-l.text:
			l.all.WriteString(s)
		case <-timeout:
			t.Fatalf("%s is not in %q", pattern, l.all.String())
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	tp := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tp}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// view serves a file's page until it is told to end; if the default port is taken, on another.
func TestView(t *testing.T) {
	if l, err := net.Listen("tcp", defaultDashboard); err == nil {
		defer l.Close() // else somebody else has it, which is as good
	}
	file := filepath.Join(t.TempDir(), "syn.pcap")
	if err := os.WriteFile(file, pcap(), 0o600); err != nil {
		t.Fatal(err)
	}
	out := &lines{text: make(chan string, 16)}
	e := &env{stdin: os.Stdin, stdout: io.Discard, stderr: out, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	status := make(chan int)
	go func() { status <- run(ctx, e, []string{"view", file}) }()
	url := out.find(t, `syn\.pcap at (http://127\.0\.0\.1:\d+/)`)
	if body := fetch(t, url+"api/info"); !strings.Contains(body, `"mode":"view","name":"syn.pcap"`) || !strings.Contains(body, "No packet of this file carries decisions") {
		t.Errorf("info %s", body)
	}
	if body := fetch(t, url+"api/connections"); !strings.Contains(body, `"local":"10.9.0.2:80","remote":"10.9.0.1:40000","role":"server"`) {
		t.Errorf("connections %s", body)
	}
	cancel()
	if got := <-status; got != exitOK {
		t.Errorf("status %d", got)
	}
}

// An address that is taken is no reason not to serve, unless the user has named it.
func TestDashboardTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, named := range []bool{false, true} {
		p, err := instance.StartPair(instance.Config{}, instance.DefaultHostAddrs, tun.DefaultMTU)
		if err != nil {
			t.Fatal(err)
		}
		var stderr strings.Builder
		f := dashboardFlags{addr: l.Addr().String(), named: func() bool { return named }}
		err = f.open(&env{stderr: &stderr}, p.Server, 80, instance.Dashboard{})
		if named {
			var known *remedy.Error
			if !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &known) || !strings.Contains(known.Remedy, "port 0") {
				t.Errorf("error %v, want the port to be in use and a remedy", err)
			}
		} else if err != nil || !strings.Contains(stderr.String(), "address already in use\ncatflap: no dashboard on this host; --dashboard HOST:PORT") {
			t.Errorf("error %v, stderr %q; want it to go on", err, &stderr)
		}
		if strings.Contains(stderr.String(), "token") {
			t.Errorf("a token for no page: %s", &stderr)
		}
		p.Close()
	}
}
