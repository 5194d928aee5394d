package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun/capture"
)

// writeCapture writes packets to a capture file.
func writeCapture(t testing.TB, packets []capture.Packet) (name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "c.pcapng")
	w, err := capture.Create(name, capture.Config{}, capture.Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddInterface(capture.Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range packets {
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

// realTcpdump has the real one read a capture.
func realTcpdump(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("tcpdump", args...)
	cmd.Env = append(os.Environ(), "TZ=UTC")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v: %s", args, err, stderr.String())
	}
	return string(out)
}

// TestBesideRealTcpdump: both print the same of one file, for every expression and every stamp.
func TestBesideRealTcpdump(t *testing.T) {
	testenv.Require(t, "tcpdump")
	was := time.Local
	time.Local = time.UTC
	defer func() { time.Local = was }()
	file := writeCapture(t, clitest.Packets(t))
	for _, expr := range clitest.Expressions {
		got, status := inProcess("", "tcpdump", "-n", "-r", file, expr)
		if status != exitOK {
			t.Errorf("%q: status %d: %s", expr, status, got)
			continue
		}
		clitest.Equal(t, expr, got, realTcpdump(t, "-n", "-r", file, expr))
	}
	for _, flags := range [][]string{{"-S"}, {"-t"}, {"-tt"}, {"-ttt"}, {"-tttt"}, {"-ttttt"}, {"-c", "3"}, {"-nl", "-t"}, {"-q"}, {"-x"}, {"-X"}, {"-A"}, {"-qX"}, {"-tqx"}} {
		got, _ := inProcess("", append([]string{"tcpdump", "-r", file}, flags...)...)
		clitest.Equal(t, strings.Join(flags, " "), got, realTcpdump(t, append([]string{"-n", "-r", file}, flags...)...))
	}
}

// TestExpressionDirections: the words for directions mean the stack's.
func TestExpressionDirections(t *testing.T) {
	file := writeCapture(t, clitest.Packets(t))
	for expr, want := range map[string]int{"inbound": 5, "outbound": 4, "outbound and tcp": 3, "not inbound": 4} {
		out, status := inProcess("", "tcpdump", "-r", file, expr)
		if got := strings.Count(out, "\n"); got != want || status != exitOK {
			t.Errorf("%s: %d packets, want %d", expr, got, want)
		}
	}
}
