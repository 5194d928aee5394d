package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// TestRunStatus: run exits with its command's status, as a shell would.
func TestRunStatus(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun)
	bin := catflap(t)
	for _, tt := range []struct {
		script string
		status int
	}{
		{"true", 0},
		{"false", 1},
		{"exit 42", 42},
		{"exit 255", 255},
		{"kill -TERM $$", 128 + 15},
		{"kill -KILL $$", 128 + 9},
		{"kill -SEGV $$", 128 + 11},
	} {
		r := run(t, bin, "run", "--", "sh", "-c", tt.script).want(t, tt.status)
		if r.stdout+r.stderr != "" {
			t.Errorf("%s: stdout %q, stderr %q", tt.script, r.stdout, r.stderr)
		}
	}
	run(t, bin, "run", "--", "false").want(t, 1)
	run(t, bin, "run", "false").want(t, 1)

	r := run(t, bin, "run", "--", "/nonexistent/cat").want(t, 1)
	wantError(t, r.stderr, "/nonexistent/cat", "installed")
	r = run(t, bin, "run", "--", "no-such-program").want(t, 1)
	wantError(t, r.stderr, "no-such-program", "installed")
	r = run(t, bin, "run", "--", "/dev/null").want(t, 1)
	wantError(t, r.stderr, "/dev/null", "execute")
}

// TestRunCommand: the command has its own standard files, environment, directory, and the flags' addresses.
func TestRunCommand(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "ip", "curl")
	bin := catflap(t)
	p := start(t, command{args: []string{bin, "run", "--", "sh", "-c", "cat; echo $MEOW; pwd; echo oops >&2"}, env: []string{"MEOW=purr"}, stdin: strings.NewReader("hello\n")})
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if r := p.wait().want(t, 0); r.stdout != "hello\npurr\n"+here+"\n" || r.stderr != "oops\n" {
		t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
	}
	r := run(t, bin, "run", "--dev", "meow7", "--mtu", "9000", "--addr", "192.0.2.7/24", "--host-addr", "192.0.2.1/24", "--port", "8080", "--queues", "2", "--",
		"sh", "-c", "ip -o link show meow7; ip -o addr show meow7; ip -o link show lo; curl -s http://192.0.2.7:8080/").want(t, 0)
	for _, want := range []string{" mtu 9000 ", " 192.0.2.1/24 ", "LOOPBACK,UP", "Hello kitty!"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("inside there is no %q: %s", want, r.stdout)
		}
	}
	if r := run(t, bin, "run", "--", "sh", "-c", "ping -c 1 -W 5 10.9.0.2 && ping -c 1 -W 5 fd00:9::2").want(t, 0); r.stderr != "" {
		t.Error(r.stderr)
	}
}

// inUse reports whether a process is in a network namespace, given as its link in /proc, or holds it open.
func inUse(t testing.TB, ns string) bool {
	t.Helper()
	for _, pattern := range []string{"/proc/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		links, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if to, _ := os.Readlink(l); to == ns { // gone, or another user's: not ours
				return true
			}
		}
	}
	return false
}

// TestNothingRemains: however run or serve ends, no process, no namespace, no device and no file of it remain.
func TestNothingRemains(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "nsenter", "ip")
	const shout = "readlink /proc/self/ns/net; "
	for _, tt := range []struct {
		name, script string
		signal       syscall.Signal // to catflap; 0: it ends by itself
	}{
		{"run that ends", "sleep 1000 & true", 0},
		{"run that fails", "sleep 1000 & exit 3", 0},
		{"run killed by SIGTERM", "exec sleep 1000", syscall.SIGTERM},
		{"run killed by SIGKILL", "sleep 1000 & sleep 1000", syscall.SIGKILL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, command{args: []string{catflap(t), "run", "--", "sh", "-c", shout + tt.script}})
			testenv.Await(t, "the namespace's name", func() bool { return strings.HasSuffix(p.stdout.String(), "\n") })
			ns := strings.TrimSpace(p.stdout.String())
			if own, err := os.Readlink("/proc/self/ns/net"); err != nil || own == ns {
				t.Fatalf("the command ran in this test's own namespace %s (%v)", own, err)
			}
			if tt.signal != 0 {
				if !inUse(t, ns) {
					t.Fatalf("nobody is seen in %s while the command runs there", ns)
				}
				p.cmd.Process.Signal(tt.signal)
			}
			p.wait()
			testenv.Await(t, "the namespace's end", func() bool { return !inUse(t, ns) })
		})
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run("serve ended by "+sig.String(), func(t *testing.T) {
			// A process that stays in the namespace to look at what serve leaves there.
			holder := start(t, command{args: []string{"unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep 1000"}, limit: patience})
			testenv.Await(t, "the namespace", func() bool { return holder.stdout.String() == "ready\n" })
			enter := []string{"nsenter", "--net=/proc/" + strconv.Itoa(holder.cmd.Process.Pid) + "/ns/net", "--"}
			look := func() string {
				return run(t, append(enter, "sh", "-c", "ip -o link; ip -o addr; ip route show table all; ip -6 route show table all; ip rule")...).want(t, 0).stdout
			}
			before := look()
			p := start(t, command{args: append(enter, catflap(t), "serve")})
			p.await("catflap: http://")
			if !strings.Contains(look(), "cat0") {
				t.Fatal("there is no cat0 while serve runs")
			}
			p.cmd.Process.Signal(sig)
			p.wait()
			testenv.Await(t, "the device's end", func() bool { return look() == before })
		})
	}
}

// TestSecondInstance: a device serves one stack.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"offload", "water"} {
		t.Run(driver, func(t *testing.T) {
			s := serve(t, catflap(t), "--driver", driver)
			for _, other := range []string{driver, "auto"} {
				r := run(t, s.enter(catflap(t), "serve", "--driver", other)...).want(t, 1)
				wantError(t, r.stderr, "cat0", "--dev")
			}
			if r := s.sh("curl -s http://10.9.0.2/").want(t, 0); r.stdout != "Hello kitty!" {
				t.Errorf("the first instance answers %q afterwards", r.stdout)
			}
		})
	}
}

// as runs a program as an unprivileged user, in a mount namespace in which the TUN device file has the given mode.
func as(t testing.TB, mode string, args ...string) result {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "setpriv")
	return run(t, asArgs(sharedDir(t), mode, args...)...)
}

// asArgs is as's command line; dir is for its device file.
func asArgs(dir, mode string, args ...string) []string {
	const script = `set -e
mount -t tmpfs -o dev,mode=755 catflap-e2e "$0"
mknod -m "$1" "$0/tun" c 10 200
mount --bind "$0/tun" /dev/net/tun
shift
cd /
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all -- "$@"`
	return append([]string{"unshare", "--mount", "--", "sh", "-c", script, dir, mode}, args...)
}

// TestUnprivileged: a user without any privilege needs access to the device file and user namespaces, and nothing else.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "curl")
	bin := catflap(t)
	everyWay(t, func(t *testing.T, driver, url string) {
		r := as(t, "666", bin, "run", "--driver", driver, "--", "sh", "-c", fmt.Sprintf("id -u >&2; curl -sg '%s/'", url)).want(t, 0)
		if r.stdout != "Hello kitty!" {
			t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
		}
	})
	t.Run("without access", func(t *testing.T) {
		for _, driver := range []string{"auto", "offload", "water"} {
			r := as(t, "600", bin, "run", "--driver", driver, "--", "true").want(t, 1)
			wantError(t, r.stderr, "/dev/net/tun", "permission denied", "chmod 0666 /dev/net/tun")
		}
	})
	t.Run("serve", func(t *testing.T) {
		r := as(t, "666", bin, "serve", "--dev", "nobodys0").want(t, 1)
		wantError(t, r.stderr, "nobodys0", "catflap run", "CAP_NET_ADMIN")
	})
	t.Run("get", func(t *testing.T) {
		if r := as(t, "600", bin, "get", "http://10.9.0.2/").want(t, 0); r.stdout != "Hello kitty!" || r.stderr != "" {
			t.Errorf("stdout %q, stderr %q", r.stdout, r.stderr)
		}
	})
}
