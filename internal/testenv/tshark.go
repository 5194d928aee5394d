package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Tshark reads a capture with tshark, which validates all checksums, and returns fields of the packets that pass a
// display filter: of a field that a packet has several times the values with commas between them. A complaint of
// tshark's fails the test. One start takes a second and more: ask once for all that a test wants to know.
func Tshark(t testing.TB, file, filter string, fields ...string) (packets [][]string) {
	t.Helper()
	const separator = "\x1f" // no field's text has it
	args := []string{"-n", "-r", file, "-Y", filter, "-T", "fields", "-E", "separator=" + separator,
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if why := complaint(stderr.String()); err != nil || why != "" {
		t.Fatalf("tshark %s: %v: %s", file, err, why)
	}
	for line := range strings.Lines(string(out)) {
		packets = append(packets, strings.Split(strings.TrimSuffix(line, "\n"), separator))
	}
	return packets
}

// complaint is what tshark says but for its warning against running as root.
func complaint(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "Running as user") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
