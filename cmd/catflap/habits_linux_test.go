package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/tcpdump"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

var updateHabits = flag.Bool("update", false, "write testdata/HABITS.md anew, with the real tools' results, which needs root and the tools")

const (
	habitsFile = "testdata/habits.txt" // what people type
	habitsName = "testdata/HABITS.md"  // and what became of it

	habitsWanted = 130     // invocations that work, at least
	habitStop    = "stop " // before an invocation that runs until it is stopped
	habitRuns    = 500 * time.Millisecond
)

// habit is an invocation and what became of it.
type habit struct {
	line       string
	real, ours int    // exit statuses; real is -1 if the real tool was not asked
	word       string // the remedy of a refusal
}

// works reports whether catflap does what the real tool does: both do it, or both refuse. Without the real tool's answer
// it is what catflap does.
func (h *habit) works() bool { return h.ours == 0 || h.real > 0 }

func (h *habit) row() string {
	result := "works"
	switch {
	case !h.works():
		result = "refused: " + h.word
	case h.ours != 0:
		result = "an error for both"
	}
	return fmt.Sprintf("| `%s` | %d | %d | %s |", strings.ReplaceAll(h.line, "|", "\\|"), h.real, h.ours, strings.ReplaceAll(result, "|", "\\|"))
}

// habitWords splits a line as a shell does, for single quotes.
func habitWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

func readHabits(t *testing.T) (hs []habit) {
	t.Helper()
	b, err := os.ReadFile(habitsFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			hs = append(hs, habit{line: line, real: -1})
		}
	}
	return hs
}

// habitStack is a stack with a server on port 80, a connection to it, and a link that can be impaired.
func habitStack(t *testing.T) (s *stack.Stack, socket string) {
	t.Helper()
	a, b := tun.Pipe(1500)
	t.Cleanup(func() { b.Close() })
	link := impair.New(a, impair.Config{Seed: 1})
	s, err := stack.New(stack.Config{Links: []stack.Link{{Name: "cat0", Endpoint: link, Addrs: []netip.Prefix{
		netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd00:9::2/64"),
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	srv, err := control.Serve(filepath.Join(t.TempDir(), "c.sock"), control.Parts{Stack: s, Netem: link}, control.Info{Dev: "cat0", PID: os.Getpid(), Command: "catflap", User: "root"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	l, err := s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(io.Discard, c) // until the client ends it
			})
		}
	})
	c, err := s.Dial("tcp", "10.9.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); c.Close(); wg.Wait() })
	return s, srv.Path()
}

// habitTraffic sends packets of each kind until the test that it is for ends.
func habitTraffic(ctx context.Context, s *stack.Stack) error {
	u, err := s.Dial("udp", "10.9.0.2:53")
	if err != nil {
		return err
	}
	defer u.Close()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for ctx.Err() == nil {
		for _, dst := range []string{"10.9.0.2", "fd00:9::2", "10.9.0.1"} {
			if err := s.SendEcho(stack.Echo{Dst: netip.MustParseAddr(dst), Size: 8}); err != nil {
				return err
			}
		}
		u.Write([]byte("?")) // nobody listens: the answer is an error that is of no interest
		var c net.Conn
		if c, err = s.Dial("tcp", "10.9.0.2:80"); err != nil {
			return err
		}
		if err := c.Close(); err != nil {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// ourHabit runs an invocation in this process.
func ourHabit(t *testing.T, s *stack.Stack, socket, capture string, h *habit) {
	line, stops := strings.CutPrefix(h.line, habitStop)
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	if stops {
		ctx, cancel = context.WithTimeout(t.Context(), habitRuns)
	}
	defer cancel()
	if strings.HasPrefix(line, "tcpdump") && !strings.Contains(line, "-r ") {
		traffic, end := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- habitTraffic(traffic, s) }()
		defer func() {
			end()
			if err := <-done; err != nil {
				t.Errorf("%s: traffic: %v", line, err)
			}
		}()
	}
	var out, stderr bytes.Buffer
	e := &env{stdout: &out, stderr: &stderr, getenv: func(name string) string {
		if name == controlEnv {
			return socket
		}
		return ""
	}}
	h.ours = run(ctx, e, habitWords(strings.ReplaceAll(line, "FILE", capture)))
	if ctx.Err() != nil && !stops {
		t.Errorf("%s: does not end", line)
	}
	if lines := strings.Split(strings.TrimSpace(stderr.String()), "\n"); h.ours != 0 {
		h.word = strings.TrimPrefix(lines[len(lines)-1], "catflap: ")
		if h.ours == exitUsage && len(lines) < 2 {
			t.Errorf("%s: refused without a remedy: %s", line, lines)
		}
	}
}

// realHabits runs the invocations with the real tools, in a namespace like the stack.
func realHabits(t *testing.T, capture string, hs []habit) {
	testenv.Require(t, testenv.Root, "unshare", "ip", "sh", "nc", "timeout", "tcpdump", "ss", "netstat", "nstat", "lsof", "sysctl", "tc", "ping", "traceroute")
	script := kernelNamespace + "exec 3>&1; nc -lk 80 </dev/null >/dev/null 2>&1 & n=$!\nsleep 1; sleep 120 | nc 10.9.0.2 80 >/dev/null 2>&1 & m=$!\nset +e; sleep 1\n"
	for _, h := range hs {
		line, stops := strings.CutPrefix(h.line, habitStop)
		if strings.HasPrefix(line, "tcpdump -") && !strings.Contains(line, "-r ") && !strings.Contains(line, "nosuch0") {
			for _, dev := range []string{"-i any", "-i cat0"} {
				line = strings.ReplaceAll(line, dev, "")
			}
			line = strings.ReplaceAll(line, "-ni any", "-n")
			line = strings.Replace(line, "tcpdump", "tcpdump -r FILE", 1)
		}
		var quoted []string
		for _, w := range habitWords(strings.ReplaceAll(line, "FILE", capture)) {
			quoted = append(quoted, "'"+w+"'")
		}
		limit := "10"
		if stops {
			limit = "1"
		}
		script += "timeout -k 1 " + limit + " " + strings.Join(quoted, " ") + " </dev/null >/dev/null 2>&1; echo $? >&3\n"
	}
	script += "kill $n $m\n"
	cmd := exec.Command("unshare", "-n", "--mount-proc", "-p", "-f", "sh", "-c", script)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	statuses := strings.Fields(string(out))
	if len(statuses) != len(hs) {
		t.Fatalf("%d statuses of %d invocations: %v", len(statuses), len(hs), err)
	}
	for i := range hs {
		n, err := strconv.Atoi(statuses[i])
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(hs[i].line, habitStop) && n == 124 {
			n = 0 // timeout has stopped it
		}
		hs[i].real = n
	}
}

// classic writes the packets of a pcapng file to a pcap file, since tcpdump reads no pcapng file of several interfaces.
func classic(t *testing.T, capture string) string {
	t.Helper()
	in, err := os.Open(capture)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := strings.TrimSuffix(capture, "ng")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	err = tcpdump.Read(in, func(ev *stack.Event) error {
		p := ev.Packet
		return w.WritePacket(gopacket.CaptureInfo{Timestamp: ev.Time, CaptureLength: len(p.Data), Length: p.Len}, p.Data)
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestHabits runs what people type, and compares with the table, in which the real tools' results stand too.
func TestHabits(t *testing.T) {
	hs := readHabits(t)
	s, socket := habitStack(t)
	capture := filepath.Join(t.TempDir(), "c.pcapng")
	take := habit{line: "tcpdump -i lo -w FILE -c 100"}
	if ourHabit(t, s, socket, capture, &take); take.ours != exitOK {
		t.Fatalf("%s: status %d", take.line, take.ours)
	}
	for i := range hs {
		ourHabit(t, s, socket, capture, &hs[i])
	}
	recorded := map[string]string{}
	if *updateHabits {
		realHabits(t, classic(t, capture), hs)
	} else {
		b, err := os.ReadFile(habitsName)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for row := range strings.Lines(string(b)) {
			if !strings.HasPrefix(row, "| `") {
				continue
			}
			cells := strings.Split(strings.TrimSpace(strings.ReplaceAll(row, "\\|", "\x00")), "|")
			if len(cells) != 6 || n >= len(hs) {
				t.Fatalf("%s: row %q: want four cells, for an invocation of %s", habitsName, row, habitsFile)
			}
			real, err := strconv.Atoi(strings.TrimSpace(cells[2]))
			if err != nil {
				t.Fatal(err)
			}
			hs[n].real = real
			recorded[hs[n].line+fmt.Sprint(n)] = strings.TrimSpace(row)
			n++
		}
	}
	works, text := 0, ""
	for n := range hs {
		h := &hs[n]
		if h.works() {
			works++
		}
		text += h.row() + "\n"
		if want := recorded[h.line+fmt.Sprint(n)]; !*updateHabits && want != h.row() {
			t.Errorf("row %d of %s\n got %s\nwant %s", n+1, habitsName, h.row(), want)
		}
	}
	if works < habitsWanted {
		t.Errorf("%d of %d invocations work, want %d", works, len(hs), habitsWanted)
	}
	if *updateHabits {
		head := fmt.Sprintf("# What people type\n\nTestHabits runs each line with catflap before it, and with -update the real tool beside it, and writes this table.\n"+
			"%d of %d do what the real tool does: both succeed, or both refuse. Statuses are exit statuses; catflap's 2 is a refusal that says what to use instead.\n"+
			"For tcpdump the real tool read a capture; tc's netem needs a module that the kernel of this run may not have had.\n\n"+
			"| invocation | real tool | catflap | result |\n|---|---|---|---|\n", works, len(hs))
		if err := os.WriteFile(habitsName, []byte(head+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
