package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// flowing is an instance with a connection on which bytes flow until the test ends.
func flowing(t *testing.T) (socket string) {
	t.Helper()
	a, b := tun.Pipe(1500)
	host := func(link *tun.PipeEndpoint, addr string) *stack.Stack {
		s, err := stack.New(stack.Config{Links: []stack.Link{{Name: "cat0", Endpoint: link, Addrs: []netip.Prefix{netip.MustParsePrefix(addr)}}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	server, client := host(a, "10.9.0.2/24"), host(b, "10.9.0.1/24")
	l, err := server.Listen("tcp", "10.9.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for { // until the client has gone
			if _, err := c.Write(make([]byte, 10_000)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	c, err := client.DialContext(context.Background(), "tcp", "10.9.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _, _ = io.Copy(io.Discard, c) })
	t.Cleanup(func() {
		c.(*stack.TCPConn).SetLinger(0)
		c.Close()
		l.Close()
		running.Wait()
	})
	srv, err := control.Serve(filepath.Join(t.TempDir(), "c.sock"), control.Parts{Stack: server}, control.Info{Dev: "cat0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	return srv.Path()
}

// terminal is a pseudo-terminal, and what was written to it.
type terminal struct {
	master, slave *os.File

	mu      sync.Mutex
	written bytes.Buffer
	reader  sync.WaitGroup
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		testenv.Skip(t, err.Error(), "mount devpts")
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, slave: slave}
	term.reader.Go(func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return // the slave is closed
			}
			term.mu.Lock()
			term.written.Write(b[:n])
			term.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		slave.Close()
		term.reader.Wait()
		master.Close()
	})
	return term
}

func (tt *terminal) resize(t *testing.T, width, height uint16) {
	t.Helper()
	tt.mu.Lock()
	tt.written.Reset()
	tt.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(tt.master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

func (tt *terminal) text() string {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return tt.written.String()
}

// modes are the terminal's modes.
func (tt *terminal) modes(t *testing.T) unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tt.slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *m
}

// await waits until a frame is as wanted.
func (tt *terminal) await(t *testing.T, what string, ok func(frame string) bool) {
	t.Helper()
	testenv.Await(t, what, func() bool {
		return slices.ContainsFunc(tt.frames(), ok)
	})
}

// frames are those that were drawn whole since the terminal's size changed, and the rest of one before them.
func (tt *terminal) frames() (whole []string) {
	for _, f := range strings.Split(tt.text(), clitest.Home)[1:] {
		whole = append(whole, clitest.Home+f)
	}
	return whole[:max(0, len(whole)-1)] // more of the last may come
}

// TestTopOnTerminal: top draws what fits on a terminal, follows its size, and leaves it as it was.
func TestTopOnTerminal(t *testing.T) {
	socket := flowing(t)
	for _, tt := range []struct {
		name, quit string
		cancel     bool
	}{{"q", "q", false}, {"Ctrl-C", "\x03", false}, {"SIGTERM", "", true}} {
		t.Run(tt.name, func(t *testing.T) {
			term := openTerminal(t)
			term.resize(t, 120, 20)
			before := term.modes(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var stderr bytes.Buffer
			e := &env{stdin: term.slave, stdout: term.slave, stderr: &stderr, getenv: func(name string) string {
				return map[string]string{controlEnv: socket, "NO_COLOR": tt.quit}[name]
			}}
			status := make(chan int, 1)
			go func() { status <- run(ctx, e, []string{"top", "-d", "0.1"}) }()

			term.await(t, "a row with rates and a limit", func(f string) bool {
				return strings.Contains(f, "10.9.0.1:") && strings.Contains(f, "ESTABLISHED") && strings.Contains(f, "Mbit/s") && strings.Contains(f, "application")
			})
			if term.modes(t) == before {
				t.Error("the terminal is not in raw mode")
			}
			if coloured := strings.Contains(term.text(), clitest.Reverse); coloured != tt.cancel {
				t.Errorf("coloured: %v, with NO_COLOR=%q", coloured, tt.quit)
			}
			for _, size := range []struct{ width, height int }{{20, 5}, {1, 1}, {200, 60}} {
				term.resize(t, uint16(size.width), uint16(size.height))
				fits := func(frame string) bool {
					_, err := clitest.Frame(frame, size.width, size.height)
					return err == nil
				}
				term.await(t, fmt.Sprintf("a frame of %dx%d", size.width, size.height), fits)
				// From the first frame of the new size on, all have it.
				frames := term.frames()
				for _, f := range frames[slices.IndexFunc(frames, fits):] {
					if _, err := clitest.Frame(f, size.width, size.height); err != nil {
						t.Error(err)
					}
				}
			}
			if tt.cancel {
				cancel()
			} else if _, err := term.master.WriteString("p" + tt.quit); err != nil {
				t.Fatal(err)
			}
			select {
			case got := <-status:
				if got != exitOK || stderr.Len() > 0 {
					t.Errorf("status %d: %s", got, stderr.String())
				}
			case <-time.After(time.Minute):
				t.Fatal("top does not end")
			}
			if d := cmp.Diff(before, term.modes(t)); d != "" {
				t.Errorf("the terminal's modes: %s", d)
			}
			testenv.Await(t, "the end of the alternate screen", func() bool { return strings.HasSuffix(term.text(), clitest.ScreenLeave) })
		})
	}
}

// TestTopOnce: where there is no terminal, one table is printed.
func TestTopOnce(t *testing.T) {
	socket := flowing(t)
	out, status := inProcess(socket, "top", "-d", "0.2")
	lines := strings.Split(out, "\n")
	if status != exitOK || len(lines) != 3 || !strings.HasPrefix(lines[0], "REMOTE ") || !strings.HasPrefix(lines[1], "10.9.0.1:") || strings.Contains(out, "\x1b") {
		t.Errorf("status %d: %q", status, out)
	}
	if out, status := inProcess(socket, "top", "--once", "-d", "0.2", "--json"); status != exitOK || !strings.HasPrefix(out, `[{"fd":`) || !strings.Contains(out, `"state":"ESTABLISHED"`) {
		t.Errorf("status %d: %q", status, out)
	}
}
