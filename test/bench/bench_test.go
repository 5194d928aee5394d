//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test binary be an agent, as bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == agentArg {
		runAgent()
		return
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0") // by default each agent under the race detector sleeps a second at its end
	goleak.VerifyTestMain(m)
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CATFLAP_REQUIRE") == "all" {
		t.Fatal("needs root, for network namespaces")
	}
	t.Skip("needs root, for network namespaces; try: sudo go test ./test/bench")
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-contestants", "windows"}, `there is no "windows"`},
		{[]string{"-measures", "speed"}, `measure "speed"`},
		{[]string{"-mtu", "99"}, "from 1280 to"},
		{[]string{"-family", "5"}, "4 or 6"},
		{[]string{"-queues", "1,x"}, "from 1 to 4"},
		{[]string{"-rounds", "0"}, "1 or more"},
		{[]string{"-duration", "1ms"}, "100ms to 1h"},
		{[]string{"-cpuprofile", "x"}, "one catflap contestant"},
		{[]string{"more"}, `unexpected argument "more"`},
	} {
		status, err := bench(context.Background(), c.args, io.Discard)
		if status != exitUsage || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("bench %v: %d, %v; want status %d and %q", c.args, status, err, exitUsage, c.want)
		}
	}
}

func TestList(t *testing.T) {
	var b bytes.Buffer
	if status, err := bench(context.Background(), []string{"-list"}, &b); status != exitOK || err != nil {
		t.Fatal(status, err)
	}
	for _, m := range measures() {
		if !strings.Contains(b.String(), m.name) {
			t.Errorf("-list lacks %s", m.name)
		}
	}
}

// TestFullPlanVariesOneThingAtATime holds what the flags' help says.
func TestFullPlanVariesOneThingAtATime(t *testing.T) {
	o, err := parseOptions(nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := makePlan(o)
	if err != nil {
		t.Fatal(err)
	}
	base := p.stages[0].set
	if want := (setting{MTU: 1500, Family: 4, Queues: 1}); base != want || len(p.stages[0].measures) != len(measures()) {
		t.Errorf("first: %v with %d measures, want %v with all", base, len(p.stages[0].measures), want)
	}
	for _, st := range p.stages[1:] {
		differs := 0
		for _, d := range []bool{st.set.MTU != base.MTU, st.set.Family != base.Family, st.set.Queues != base.Queues, st.set.Congestion != base.Congestion} {
			if d {
				differs++
			}
		}
		if differs != 1 {
			t.Errorf("%v differs from %v in %d things, want 1", st.set, base, differs)
		}
		if st.contestants[0].name != onKernel {
			t.Errorf("%v: no kernel to compare with", st.set)
		}
	}
}

// TestRun runs every kind of measurement briefly, and finds no failure and nothing
// left behind.
func TestRun(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	profile := filepath.Join(dir, "cpu")
	for _, args := range [][]string{
		{"-contestants", "kernel,offload", "-measures", "bulk-up-8,http-16,udp,open,connect"},
		{"-contestants", "kernel,egress,forward", "-measures", "bulk-down-1,bulk-up-1,http-16,udp"},
		{"-contestants", "kernel,water,pair", "-measures", "bulk-down-1", "-family", "6", "-mtu", "9000", "-queues", "2", "-cpuprofile", profile},
	} {
		args = append(args, "-quick", "-rounds", "1", "-warmup", "50ms", "-json", filepath.Join(dir, "json"), "-svg", filepath.Join(dir, "svg"))
		// On a busy machine nothing may go through in so short a time: then it is given more.
		for _, duration := range []string{"300ms", "3s", "30s"} {
			var b bytes.Buffer
			status, err := bench(context.Background(), append(args, "-duration", duration), &b)
			if status == exitOK && err == nil && !strings.Contains(b.String(), "not measured") {
				break
			}
			if duration == "30s" || !strings.Contains(b.String(), "no data went through") {
				t.Errorf("bench %v: %d, %v\n%s", args, status, err, &b)
				break
			}
		}
	}
	for _, f := range []string{"cpu", "json", "svg"} {
		if fi, err := os.Stat(filepath.Join(dir, f)); err != nil || fi.Size() == 0 {
			t.Errorf("%s: %v, or empty", f, err)
		}
	}
	noChildren(t)
}

// TestInterrupt holds that an interrupted run ends soon, says so, and leaves no
// process.
func TestInterrupt(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(500*time.Millisecond, cancel)
	start := time.Now()
	status, err := bench(ctx, []string{"-contestants", "kernel", "-measures", "ping-pong", "-duration", "1h", "-rounds", "1", "-mtu", "1500", "-family", "4", "-queues", "1"}, io.Discard)
	if status != exitFailure || err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("%d, %v; want a failure that says interrupted", status, err)
	}
	if d := time.Since(start); d > 10*time.Minute {
		t.Errorf("it took %v to end", d)
	}
	noChildren(t)
}

// noChildren fails if this process has a child.
func noChildren(t *testing.T) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(tasks) == 0 {
		t.Fatalf("cannot list children: %v", err)
	}
	for _, f := range tasks {
		if b, _ := os.ReadFile(f); len(b) > 0 {
			t.Errorf("child processes are left: %s", b)
		}
	}
}

func TestParseMachineTime(t *testing.T) {
	got, err := parseMachineTime([]byte("cpu  100 20 30 4000 500 6 7 800 9 0\ncpu0 1 2 3 4 5 6 7 8\n"))
	if want := 1630 * time.Millisecond; err != nil || got != want {
		t.Errorf("parseMachineTime = %v, %v, want %v: user, nice, system, irq and softirq", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu a b c d e f g"} {
		if _, err := parseMachineTime([]byte(bad)); err == nil {
			t.Errorf("parseMachineTime(%q): no error", bad)
		}
	}
}

func TestProcessTimeIsThatOfTheProcess(t *testing.T) {
	before, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	after, start := before, time.Now()
	for after-before < 20*time.Millisecond { // spinning
		if after, err = processTime(os.Getpid()); err != nil || time.Since(start) > time.Minute {
			t.Fatalf("%v of spinning took %v of processor time, %v", time.Since(start), after-before, err)
		}
	}
	// The kernel counts in ticks, of 10 ms at the most.
	if most := time.Since(start)*time.Duration(runtime.NumCPU()) + 20*time.Millisecond; after-before > most {
		t.Errorf("%v of processor time in %v", after-before, time.Since(start))
	}
	if _, err := processTime(1 << 22); err == nil {
		t.Error("a process that cannot be has a processor time")
	}
}

func TestReadAnswer(t *testing.T) {
	const good = "HTTP/1.1 200 OK\r\nDate: x\r\n\r\nHello kitty!"
	for _, c := range []struct {
		sent   []string
		length int
		ok     bool
	}{
		{[]string{good}, 0, true},
		{[]string{good[:5], good[5:20], good[20:]}, 0, true},
		{[]string{good[:30], good[30:]}, len(good), true},
		{[]string{strings.Replace(good, "200 OK", "503 No", 1)}, 0, false},
		{[]string{strings.Replace(good, "kitty", "doggy", 1)}, len(good), false},
		{[]string{good + "x"}, len(good), false},
		{[]string{good[:10]}, 0, false},
		{[]string{strings.Repeat("x", answerBuffer)}, 0, false},
	} {
		client, server := net.Pipe()
		go func() {
			for _, s := range c.sent {
				server.Write([]byte(s))
			}
			server.Close()
		}()
		length := c.length
		err := readAnswer(client, make([]byte, answerBuffer), &length)
		client.Close()
		if (err == nil) != c.ok {
			t.Errorf("readAnswer of %q with length %d: %v, want ok %v", c.sent, c.length, err, c.ok)
		}
		if c.ok && length != len(good) {
			t.Errorf("readAnswer of %q: length %d, want %d", c.sent, length, len(good))
		}
	}
}

// TestWhoseFailure: a stack of ours that cannot be measured fails the run, and a relay does not; both are reported.
func TestWhoseFailure(t *testing.T) {
	var st stage
	for _, name := range []string{onKernel, onOffload, viaSlirp, viaPasta} {
		i := slices.IndexFunc(contestants, func(c *contestant) bool { return c.name == name })
		st.contestants = append(st.contestants, contestants[i])
	}
	c := contest{runner: &runner{progress: newProgress(0), report: &report{}}, stage: st, sites: make([]*site, len(st.contestants))}
	for i := range st.contestants {
		c.miss(t.Context(), i, 1, errors.New("it fell over"))
	}
	if len(c.report.Missing) != len(st.contestants) {
		t.Fatalf("%d of %d are reported", len(c.report.Missing), len(st.contestants))
	}
	for _, m := range c.report.Missing {
		if want := m.Contestant == onKernel || m.Contestant == onOffload; m.Failed != want || m.Why != "it fell over" {
			t.Errorf("%+v: failed should be %t", m, want)
		}
	}
}
