package e2e

import (
	"encoding/json"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/internal/testenv"
)

// finding is an element of doctor --json.
type finding struct {
	Check, Detail, Remedy string
	OK, Needed            bool
}

func findings(t testing.TB, r result) map[string]finding {
	t.Helper()
	var list []finding
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		t.Fatalf("%v in %s", err, r.stdout)
	}
	by := map[string]finding{}
	for _, f := range list {
		if f.Check == "" || f.Detail == "" {
			t.Errorf("a finding that says nothing: %+v", f)
		}
		if !f.OK && f.Remedy == "" {
			t.Errorf("a fault without a remedy: %+v", f)
		}
		by[f.Check] = f
	}
	return by
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	bin := catflap(t)
	fs := findings(t, run(t, bin, "doctor", "--json").want(t, 0))
	for _, check := range []string{"system", "device file", "namespace, offload", "namespace, water", "curl",
		"offload: virtio-net header", "offload: send TSO IPv4", "offload: receive TSO IPv6"} {
		if _, ok := fs[check]; !ok {
			t.Errorf("doctor --json says nothing of %q", check)
		}
	}
	for _, check := range []string{"device file", "namespace, offload", "curl"} {
		if !fs[check].OK {
			t.Errorf("want %s in order, as other tests found it: %+v", check, fs[check])
		}
	}
	r := run(t, bin, "doctor").want(t, 0)
	if !regexp.MustCompile(`(?m)^ok    device file +/dev/net/tun`).MatchString(r.stdout) || r.stderr != "" {
		t.Errorf("stdout:\n%sstderr: %s", r.stdout, r.stderr)
	}

	t.Run("of a machine in bad health", func(t *testing.T) {
		r := as(t, "600", bin, "doctor").want(t, 1)
		if !regexp.MustCompile(`(?m)^FAIL  device file +.*permission denied\n +-> .*chmod 0666`).MatchString(r.stdout) {
			t.Errorf("no remedy for the device file:\n%s", r.stdout)
		}
		fs := findings(t, as(t, "600", bin, "doctor", "--json").want(t, 1))
		if f := fs["device file"]; f.OK || !f.Needed || !strings.Contains(f.Remedy, "chmod") {
			t.Errorf("%+v", f)
		}
	})
}

// terminal runs a command with its standard error on a terminal and returns what arrives there.
func terminal(t *testing.T, env []string, args ...string) string {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testenv.Skip(t, err.Error(), "mount devpts")
	}
	defer ptmx.Close()
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	script := `exec "$@" >/dev/null 2>/dev/pts/` + strconv.Itoa(n)
	start(t, command{args: append([]string{"sh", "-c", script, "sh"}, args...), env: env}).wait().want(t, 0)
	if err := unix.SetNonblock(int(ptmx.Fd()), true); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	b := make([]byte, 1<<16)
	for {
		n, err := unix.Read(int(ptmx.Fd()), b)
		if n <= 0 || err != nil {
			return out.String()
		}
		out.Write(b[:n])
	}
}

// TestColour: colours are for terminals that want them.
func TestColour(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	args := []string{bin, "get", "--trace", "http://10.9.0.2/"}
	for _, tt := range []struct {
		env  []string
		want bool
	}{
		{[]string{"TERM=xterm"}, true},
		{[]string{"TERM=xterm", "NO_COLOR="}, true}, // no-color.org: when present and not empty
		{[]string{"TERM=xterm", "NO_COLOR=1"}, false},
		{[]string{"TERM=dumb"}, false},
	} {
		out := terminal(t, tt.env, args...)
		if !strings.Contains(out, "Flags [S]") {
			t.Errorf("%v: no trace on the terminal: %q", tt.env, out)
		}
		if got := strings.Contains(out, "\x1b["); got != tt.want {
			t.Errorf("%v: colours: %v, want %v", tt.env, got, tt.want)
		}
	}
}
