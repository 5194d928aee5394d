package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wantError fails the test unless what a program printed is an error with these words, and a remedy.
func wantError(t testing.TB, stderr string, words ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	// What serve says before it fails is no error.
	said := regexp.MustCompile(`^catflap: (serving|dashboard|http://)`)
	for len(lines) > 2 && said.MatchString(lines[0]) {
		lines = lines[1:]
	}
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "catflap: ") || !strings.HasPrefix(lines[1], "catflap: ") {
		t.Errorf("want an error on one line and its remedy on a second, got:\n%s", stderr)
		return
	}
	for _, w := range words {
		if !strings.Contains(lines[0], w) && !strings.Contains(lines[1], w) {
			t.Errorf("want an error that speaks of %q, got:\n%s", w, stderr)
		}
	}
}

// TestErrors: an error names what was given, why it is wrong, and what to do; 2 is the status of a command line that
// makes no sense, 1 that of a failure.
func TestErrors(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	taken := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(taken, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
		words  []string
	}{
		{"run --mtu 20", 2, []string{"--mtu 20", "68..65535"}},
		{"run --mtu 0", 2, []string{"--mtu 0", "68..65535"}},
		{"run --mtu 65536", 2, []string{"--mtu 65536", "68..65535"}},
		{"run --mtu big", 2, []string{`"big"`, "--mtu"}},
		{"run --mtu 1000", 2, []string{"--mtu 1000", "1280", "IPv6", "--addr 10.9.0.2/24"}},
		{"serve --mtu 20", 2, []string{"--mtu 20", "68..65535"}},
		{"get --mtu 20 http://10.9.0.2/", 2, []string{"--mtu 20", "68..65535"}},
		{"run --queues 0", 2, []string{"--queues 0", "1..64"}},
		{"run --queues 1000", 2, []string{"--queues 1000", "1..64"}},
		{"run --port 0", 2, []string{"--port 0", "1..65535"}},
		{"run --port 65536", 2, []string{"--port 65536", "1..65535"}},
		{"run --driver fast", 2, []string{"--driver fast", "auto, offload or water"}},
		{"run --dev a/b", 2, []string{"--dev", "a/b", "interface name"}},
		{"run --dev 0123456789abcdef", 2, []string{"--dev", "0123456789abcdef", "15 bytes"}},
		{"run --addr 10.9.0.2", 2, []string{"--addr 10.9.0.2", "10.9.0.2/24"}},
		{"run --addr 224.0.0.1/24", 2, []string{"--addr 224.0.0.1/24", "unicast"}},
		{"run --addr 10.9.0.2/24 --addr 10.9.0.2/16", 2, []string{"--addr 10.9.0.2/16", "twice"}},
		{"run --host-addr cat", 2, []string{"--host-addr cat", "10.9.0."}},
		{"run --drain -1s", 2, []string{"--drain -1s", "0 or more"}},
		{"run --egress everything", 2, []string{"--egress everything", "want all, none"}},
		{"run --egress 192.0.2.1/24", 2, []string{"192.0.2.1/24", "192.0.2.0/24"}},
		{"run --egress 192.0.2.0/24:0", 2, []string{"192.0.2.0/24:0", "1 to 65535"}},
		{"run -t 80", 2, []string{"--publish 80", "one port", "HOSTPORT:PORT"}},
		{"run -t 80:80/sctp", 2, []string{"/sctp", "/udp"}},
		{"run -t 80:80 -t 80:81", 2, []string{"80:81", "80:80"}},
		{"run --host-loopback 127.0.0.1", 2, []string{"--host-loopback 127.0.0.1", "10.9.0.3"}},
		{"run --host-loopback 10.9.0.1", 2, []string{"10.9.0.1", "the command's own"}},
		{"run --forward 10.9.0.2=127.0.0.1:80", 2, []string{"--forward", "10.9.0.2=127.0.0.1:80", "ADDR:PORT=HOST:PORT"}},
		{"serve --forward 10.9.0.2:81=80", 2, []string{"--forward", "HOST:PORT"}},
		{"forward add 10.9.0.2:81", 2, []string{"10.9.0.2:81", "ADDR:PORT=HOST:PORT"}},
		{"forward", 2, []string{"forward", "show, add or del"}},
		{"run --purr", 2, []string{"--purr", "catflap run --help"}},
		{"purr", 2, []string{`"purr"`, "catflap --help"}},
		{"rnu", 2, []string{`"rnu"`, "did you mean: run"}},
		{"serve now", 2, []string{`"now"`, "catflap serve --help"}},
		{"doctor now", 2, []string{`"now"`, "catflap doctor --help"}},
		{"version now", 2, []string{`"now"`, "catflap version --help"}},
		{"get", 2, []string{"one URL", "catflap get"}},
		{"get http://10.9.0.2/ http://10.9.0.2/", 2, []string{"one URL", "2"}},
		{"get ftp://10.9.0.2/", 2, []string{"ftp://10.9.0.2/", "catflap get http://10.9.0.2/"}},
		{"get 10.9.0.2", 2, []string{"10.9.0.2", "catflap get http://10.9.0.2/"}},
		{"get http://10.9.0.2:99999/", 2, []string{"99999", "catflap get http://10.9.0.2/"}},
		{"get http://felix/", 1, []string{"felix", "no resolver", "10.9.0.2"}},
		{"get http://10.9.0.2:81/", 1, []string{"10.9.0.2:81", "connection refused", "port 80"}},
		{"get http://10.9.0.77/", 1, []string{"10.9.0.77", "10.9.0.2"}},
		{"get -o /nonexistent/cat http://10.9.0.2/", 1, []string{"/nonexistent"}},
		{"get -o " + taken + "/cat http://10.9.0.2/", 1, []string{taken}},
	} {
		t.Run(strings.ReplaceAll(tt.args, "/", "_"), func(t *testing.T) {
			r := run(t, append([]string{bin}, strings.Fields(tt.args)...)...).want(t, tt.status)
			wantError(t, r.stderr, tt.words...)
			if r.stdout != "" {
				t.Errorf("stdout is for data; it has %q", r.stdout)
			}
		})
	}
}

// TestHelp: each command explains itself on stdout.
func TestHelp(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	commands := []string{"run", "serve", "get", "doctor", "version", "completion"}
	r := run(t, bin, "help").want(t, 0)
	for _, c := range commands {
		if !strings.Contains(r.stdout, "\n  "+c+" ") {
			t.Errorf("help does not list %s", c)
		}
		sub := run(t, bin, c, "--help").want(t, 0)
		if !strings.Contains(sub.stdout, "Usage:\n  catflap "+c) || sub.stderr != "" {
			t.Errorf("%s --help: stdout %q, stderr %q", c, sub.stdout, sub.stderr)
		}
	}
	if r := run(t, bin).want(t, 0); !strings.Contains(r.stdout, "Usage:") {
		t.Errorf("catflap alone prints %q, want its help", r.stdout)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := run(t, bin, "completion", shell).want(t, 0); !strings.Contains(r.stdout, "catflap") {
			t.Errorf("completion %s prints %.100q", shell, r.stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	r := run(t, bin, "version").want(t, 0)
	if !strings.HasPrefix(r.stdout, "catflap ") || !strings.Contains(r.stdout, " gvisor v0.0.0-") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("version prints %q", r.stdout)
	}
	var v struct{ Version, Go, OS, Arch, GVisor string }
	if err := json.Unmarshal([]byte(run(t, bin, "version", "--json").want(t, 0).stdout), &v); err != nil {
		t.Fatal(err)
	}
	if v.Version == "" || !strings.HasPrefix(v.Go, "go") || v.OS == "" || v.Arch == "" || v.GVisor == "" {
		t.Errorf("version --json: %+v", v)
	}
}
