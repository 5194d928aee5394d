package drill_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/test/drill"
)

// writeScripts writes scripts to a directory, by name.
func writeScripts(t *testing.T, scripts map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestRepeat holds that runs are the same packet by packet, and that one that is not shows.
func TestRepeat(t *testing.T) {
	for _, c := range []struct {
		name, script string
		status       drill.Status
	}{
		{"passes", handshake + "+0 write(4, ..., 20000) = 20000\n* > . 1:1001(1000) ack 1\n", drill.Passed},
		{"fails", handshake + "+0 > R 1:1(0)\n", drill.Failed},
		{"broken", "0 socket(\n", drill.Broken},
	} {
		dir := writeScripts(t, map[string]string{"x.pkt": c.script})
		report, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}, Repeat: 20})
		if err != nil {
			t.Fatal(err)
		}
		if got := report.Results[0]; got.Status != c.status {
			t.Errorf("%s: %s: %s", c.name, got.Status, got.Message)
		}
	}
	_, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{"."}, Target: drill.Kernel, Repeat: 2})
	if err == nil || !strings.Contains(err.Error(), "real time") {
		t.Errorf("repeated in real time: %v", err)
	}
}

func TestCheck(t *testing.T) {
	dir := writeScripts(t, map[string]string{"good.pkt": handshake + "+0 > R 1:1(0)\n", "mistake.pkt": handshake + "+0 > S 0:0(1)\n"})
	report, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}, Check: true})
	if err != nil {
		t.Fatal(err)
	}
	good, mistake := report.Results[0], report.Results[1]
	if good.Status != drill.Read || good.Packets != 0 {
		t.Errorf("good.pkt: %+v", good)
	}
	if mistake.Status != drill.Broken || mistake.Line != 8 || report.OK() {
		t.Errorf("mistake.pkt: %+v", mistake)
	}
	if got := report.Summary(); !strings.HasPrefix(got, "1 broken, 1 read; 2 scripts in ") {
		t.Errorf("summary %q", got)
	}
}
