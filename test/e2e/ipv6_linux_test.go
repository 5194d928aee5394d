//go:build linux

package e2e

import (
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// TestWithoutIPv6: where IPv6 is switched off, serve and attach go on with IPv4, and say so.
func TestWithoutIPv6(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "ip", "curl")
	t.Parallel()
	const off = `for c in all default; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done; ip link set lo up; `
	const said = "IPv6 is switched off here: going on with IPv4 alone"
	// within runs a script in a network namespace without IPv6, with catflap as $0.
	within := func(t *testing.T, script string) result {
		t.Helper()
		return run(t, "unshare", "--net", "--", "sh", "-c", off+script, catflap(t))
	}
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		r := within(t, `"$0" serve --dashboard off & s=$!; until curl -sf http://10.9.0.2/; do sleep .05; done; kill $s; wait $s`).want(t, 0)
		if r.stdout != "Hello kitty!" || !strings.Contains(r.stderr, said) || strings.Contains(r.stderr, "fd00:9::2") {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
	})
	t.Run("serve with IPv6 alone", func(t *testing.T) {
		t.Parallel()
		r := within(t, `"$0" serve --dashboard off --addr fd00:9::2/64 --host-addr fd00:9::1/64`).want(t, 1)
		if strings.Contains(r.stderr, said) || strings.Contains(r.stderr, "root") || !strings.Contains(r.stderr, "disable_ipv6=0") {
			t.Error(r.stderr)
		}
	})
	t.Run("attach", func(t *testing.T) {
		t.Parallel()
		r := within(t, `sleep 1000 & p=$!; unshare --net -- "$0" attach $p & a=$!; until curl -sf http://10.9.0.2/; do sleep .05; done; kill $a $p; wait $a`)
		if r.stdout != "Hello kitty!" || !strings.Contains(r.stderr, said) {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
	})
	t.Run("run makes a namespace of its own", func(t *testing.T) {
		t.Parallel()
		r := within(t, `"$0" run -- curl -s 'http://[fd00:9::2]/'`).want(t, 0)
		if r.stdout != "Hello kitty!" || strings.Contains(r.stderr, said) {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
	})
}
