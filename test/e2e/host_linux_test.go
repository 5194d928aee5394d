package e2e

import (
	"fmt"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// Where the cat server is, unless flags say otherwise.
const (
	url4 = "http://10.9.0.2"
	url6 = "http://[fd00:9::2]"
)

// everyWay runs a test over both drivers and both IP versions.
func everyWay(t *testing.T, f func(t *testing.T, driver, url string)) {
	for _, driver := range []string{"offload", "water"} {
		for _, ip := range []struct{ version, url string }{{"IPv4", url4}, {"IPv6", url6}} {
			t.Run(driver+"/"+ip.version, func(t *testing.T) {
				t.Parallel()
				f(t, driver, ip.url)
			})
		}
	}
}

// inside runs a shell script by catflap run.
func inside(t testing.TB, driver, script string, flags ...string) result {
	t.Helper()
	return run(t, runArgs(catflap(t), driver, script, flags...)...)
}

func runArgs(bin, driver, script string, flags ...string) []string {
	return append(append([]string{bin, "run", "--driver", driver}, flags...), "--", "sh", "-c", script)
}

// server is catflap serve in a network namespace of its own, of which it is the only owner.
type server struct {
	*process
}

// serve starts catflap serve and waits until it serves.
func serve(t testing.TB, bin string, flags ...string) server {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "nsenter", "ip", "curl")
	s := server{start(t, command{
		args:  append([]string{"unshare", "--net", "--", "sh", "-c", `ip link set lo up && exec "$0" serve "$@"`, bin}, flags...),
		limit: 2 * patience,
	})}
	s.await(`catflap: http://\[?[0-9a-f.:]+\]?`)
	return s
}

// enter is a command line that runs another in the server's namespace.
func (s server) enter(args ...string) []string {
	return append([]string{"nsenter", "--net=" + s.netns(), "--"}, args...)
}

func (s server) netns() string { return fmt.Sprintf("/proc/%d/ns/net", s.cmd.Process.Pid) }

// sh runs a shell script in the server's namespace.
func (s server) sh(script string) result {
	s.t.Helper()
	return run(s.t, s.enter("sh", "-c", script)...)
}

// startSh is sh, without waiting for its end.
func (s server) startSh(script string) *process {
	s.t.Helper()
	return start(s.t, command{args: s.enter("sh", "-c", script)})
}
