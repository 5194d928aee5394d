package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// Addresses of the two hosts of a neighbourhood: documentation prefixes (RFC 5737, RFC 3849).
const (
	callerAddr  = "198.51.100.1"
	outsideAddr = "198.51.100.2"
	outside6    = "2001:db8::2"
)

// neighbourhood is two network namespaces with a link between them that leads nowhere else: the caller's, in which
// catflap is started, and an outside with a web server, which answers with its client's address.
type neighbourhood struct {
	t               testing.TB
	caller, outside *process
	dir             string // of the web servers' files
}

func newNeighbourhood(t testing.TB) *neighbourhood {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Tun, "unshare", "nsenter", "ip", "curl", "nginx", "nc")
	n := &neighbourhood{t: t, dir: sharedDir(t)}
	hold := func(script string) *process {
		p := start(t, command{args: []string{"unshare", "--net", "--", "sh", "-ec", script + "; echo ready; exec sleep 1000"}, limit: patience})
		testenv.Await(t, "a namespace", func() bool { return p.stdout.String() == "ready\n" })
		return p
	}
	n.caller = hold("ip link set lo up; echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range")
	n.outside = hold("ip link set lo up")
	n.at(n.caller, fmt.Sprintf(`ip link add eth0 type veth peer name eth0 netns %d
ip addr add %s/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad; ip link set eth0 up; ip route add default dev eth0`, n.outside.cmd.Process.Pid, callerAddr)).want(t, 0)
	n.at(n.outside, fmt.Sprintf(`ip addr add %s/24 dev eth0; ip addr add %s/64 dev eth0 nodad; ip link set eth0 up
while ip -6 addr show tentative dev eth0 | grep -q .; do :; done`, outsideAddr, outside6)).want(t, 0)
	n.web(n.outside)
	return n
}

func enter(p *process, args ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", p.cmd.Process.Pid), "--"}, args...)
}

// at runs a shell script on one of the two.
func (n *neighbourhood) at(p *process, script string) result {
	n.t.Helper()
	return run(n.t, enter(p, "sh", "-c", script)...)
}

// run runs catflap run on the caller's side.
func (n *neighbourhood) run(flags, script string) result {
	n.t.Helper()
	return run(n.t, enter(n.caller, append(append([]string{catflap(n.t), "run"}, words(flags)...), "--", "sh", "-c", script)...)...)
}

// asUser is the command line of catflap run on the caller's side as an ordinary user, who may open the device.
func (n *neighbourhood) asUser(flags string, args ...string) []string {
	n.t.Helper()
	const script = `set -e
mount -t tmpfs -o dev,mode=755 catflap-e2e "$0"
mknod -m 666 "$0/tun" c 10 200
mount --bind "$0/tun" /dev/net/tun
exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all -- "$@"`
	// nsenter needs privilege, so that it comes before the user is changed.
	as := append([]string{"unshare", "--mount", "--", "sh", "-c", script, sharedDir(n.t), catflap(n.t), "run"}, words(flags)...)
	return enter(n.caller, append(append(as, "--"), args...)...)
}

// words are the flags of a command line. An underscore stands for a space within one.
func words(flags string) []string {
	f := strings.Fields(flags)
	for i := range f {
		f[i] = strings.ReplaceAll(f[i], "_", " ")
	}
	return f
}

// config writes a configuration of a web server at an address, and returns its command line and its log.
func (n *neighbourhood) config(name, listen string) (args string, log string) {
	n.t.Helper()
	dir := filepath.Join(n.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	log = filepath.Join(dir, "log")
	conf := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log %[1]s/errors;
events {}
http {
	access_log %[1]s/log; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { %[2]s location / { return 200 "$remote_addr\n"; } location /files/ { root %[1]s; } }
}`, dir, listen)
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return "nginx -e " + dir + "/errors -c " + dir + "/conf", log
}

// web starts a web server, until the test ends.
func (n *neighbourhood) web(p *process) {
	n.t.Helper()
	args, _ := n.config("outside", "listen 80; listen [::]:80;")
	start(n.t, command{args: enter(p, strings.Fields(args)...)})
	testenv.Await(n.t, "the web server", func() bool { return n.at(p, "curl -s http://127.0.0.1/").status == 0 })
}

// TestEgress: a command reaches the hosts that it may reach, and is told of the others as a kernel tells.
func TestEgress(t *testing.T) {
	t.Parallel()
	n := newNeighbourhood(t)
	own, _ := n.config("own", "listen "+callerAddr+":82;")
	start(t, command{args: enter(n.caller, strings.Fields(own)...)})
	testenv.Await(t, "the web server", func() bool { return n.at(n.caller, "curl -s http://"+callerAddr+":82/").status == 0 })
	// curl's exit statuses: 7, no connection; 28, it took too long.
	for _, tt := range []struct {
		name, flags, script, stdout string
		status                      int
	}{
		{"IPv4", "--egress all", "curl -sS http://" + outsideAddr + "/", callerAddr + "\n", 0},
		{"IPv6", "--egress all", "curl -sS 'http://[" + outside6 + "]/'", "2001:db8::1\n", 0},
		{"named", "--egress 198.51.100.0/24:80,203.0.113.0/24", "curl -sS http://" + outsideAddr + "/", callerAddr + "\n", 0},
		{"impaired", "--egress all --netem loss_5%", "curl -sS http://" + outsideAddr + "/", callerAddr + "\n", 0},
		{"another port", "--egress 198.51.100.0/24:81", "curl -sS http://" + outsideAddr + "/", "", 7},
		{"nowhere", "", "curl -sS http://" + outsideAddr + "/", "", 7},
		{"refused", "--egress all", "curl -sS http://" + outsideAddr + ":81/", "", 7},
		{"the host's own", "--egress all", "curl -sS http://" + callerAddr + ":82/", "", 7},
		{"the host's own, named", "--egress " + callerAddr, "curl -sS http://" + callerAddr + ":82/", callerAddr + "\n", 0},
		{"the cat server", "--egress all", "curl -sS http://10.9.0.2/", "Hello kitty!", 0},
		{"several addresses", "--egress all", "curl -sS --resolve two:80:203.0.113.9,[" + outside6 + "] --connect-timeout 60 http://two/", "2001:db8::1\n", 0},
		{"ping", "--egress all", "ping -c 1 -W 60 " + outsideAddr + " >/dev/null && ping -c 1 -W 60 " + outside6 + " >/dev/null", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := n.run(tt.flags, tt.script).want(t, tt.status); r.stdout != tt.stdout {
				t.Errorf("%q, want %q; %s", r.stdout, tt.stdout, r.stderr)
			}
		})
	}
	t.Run("an ordinary user", func(t *testing.T) {
		r := run(t, n.asUser("--egress all", "curl", "-sS", "http://"+outsideAddr+"/")...).want(t, 0)
		if r.stdout != callerAddr+"\n" {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
	})
	t.Run("visible", func(t *testing.T) {
		r := n.run("--egress all", "catflap lookup tcp 10.9.0.1:5555 "+outsideAddr+":80; exec 3<>/dev/null; nc "+outsideAddr+" 80 </dev/zero >/dev/null & until catflap ss -tn | grep "+outsideAddr+":80; do :; done").want(t, 0)
		for _, want := range []string{"forwarder", "egress (0.0.0.0/0)", outsideAddr + ":80"} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("no %q in %s", want, r.stdout)
			}
		}
	})
	t.Run("half-close", func(t *testing.T) {
		// Each side says all it has, ends, and still hears the other.
		l := start(t, command{args: enter(n.outside, "sh", "-c", "echo from outside | nc -N -l -p 9000")})
		testenv.Await(t, "nc", func() bool { return n.at(n.outside, "ss -tlnH sport = :9000").stdout != "" })
		r := n.run("--egress all", "echo from inside | nc -N "+outsideAddr+" 9000").want(t, 0)
		if r.stdout != "from outside\n" || l.wait().stdout != "from inside\n" {
			t.Errorf("inside %q, outside %q", r.stdout, l.stdout.String())
		}
	})
}

// TestEgressGibibyte: what goes out and what comes in is the same on both sides, all of it.
func TestEgressGibibyte(t *testing.T) {
	t.Parallel()
	bytes := 1 << 30
	if raceEnabled {
		bytes = 64 << 20 // the rest is for the run without
	}
	n := newNeighbourhood(t)
	file := n.dir + "/outside/files/f"
	want := start(t, command{args: enter(n.outside, "sh", "-c", fmt.Sprintf("head -c %d /dev/urandom | tee %s | sha256sum", bytes, file)), limit: bulkPatience}).wait().want(t, 0).stdout
	l := start(t, command{args: enter(n.outside, "sh", "-c", "nc -N -l -p 9001 </dev/null | sha256sum"), limit: bulkPatience})
	testenv.Await(t, "nc", func() bool { return n.at(n.outside, "ss -tlnH sport = :9001").stdout != "" })
	r := start(t, command{args: enter(n.caller, fast(t), "run", "--egress", "all", "--", "sh", "-c",
		"curl -sS http://"+outsideAddr+"/files/f | sha256sum; nc -N "+outsideAddr+" 9001 <"+file), limit: bulkPatience}).wait().want(t, 0)
	if r.stdout != want || l.wait().stdout != want {
		t.Errorf("down %s, up %s, want %s", r.stdout, l.stdout.String(), want)
	}
}

// TestPublish: a port of the host leads to a server inside, which sees who its client is.
func TestPublish(t *testing.T) {
	t.Parallel()
	n := newNeighbourhood(t)
	publish := func(t *testing.T, listen string, flags ...string) (*process, string) {
		args, log := n.config("inside", listen)
		os.Remove(log)
		return start(t, command{args: enter(n.caller, append(append([]string{catflap(t), "run"}, flags...), append([]string{"--"}, strings.Fields(args)...)...)...)}), log
	}
	answers := func(p *process, url string) string {
		out := ""
		testenv.Await(t, url, func() bool { r := n.at(p, "curl -s "+url); out = r.stdout; return r.status == 0 })
		return out
	}
	for _, flag := range []string{"18080:8080", callerAddr + ":18080:8080", "auto"} {
		t.Run(flag, func(t *testing.T) {
			url, listen := "http://"+callerAddr+":18080/", "listen 8080;"
			if flag == "auto" {
				listen = "listen 18080;"
			}
			p, log := publish(t, listen, "-t", flag)
			if got := answers(n.outside, url); got != outsideAddr+"\n" {
				t.Errorf("the server says that its client is %q, want %s", got, outsideAddr)
			}
			if got := answers(n.caller, url); got != callerAddr+"\n" {
				t.Errorf("the server says that its client is %q, want %s", got, callerAddr)
			}
			if !strings.HasPrefix(flag, callerAddr) {
				if got := answers(n.caller, "http://127.0.0.1:18080/"); got != "10.9.0.2\n" {
					t.Errorf("the server says that a client at 127.0.0.1 is %q, want the stack's address", got)
				}
			}
			if b, _ := os.ReadFile(log); !strings.HasPrefix(string(b), outsideAddr+" ") {
				t.Errorf("log: %s", b)
			}
			p.cmd.Process.Signal(os.Interrupt)
			p.wait()
			if r := n.at(n.caller, "ss -tlnH sport = :18080"); r.stdout != "" {
				t.Errorf("left behind: %s", r.stdout)
			}
		})
	}
	t.Run("loopback alone", func(t *testing.T) {
		p, _ := publish(t, "listen 127.0.0.1:8080;", "-t", "18080:8080")
		testenv.Await(t, "the remedy", func() bool {
			n.at(n.caller, "curl -s http://127.0.0.1:18080/")
			return strings.Contains(p.stderr.String(), "127.0.0.1:8080 alone") && strings.Contains(p.stderr.String(), "have it listen at 0.0.0.0")
		})
	})
	t.Run("udp", func(t *testing.T) {
		p := start(t, command{args: enter(n.caller, catflap(t), "run", "-t", "15353:5353/udp", "--", "sh", "-c", "nc -u -l -p 5353 -v -n")})
		testenv.Await(t, "the datagram", func() bool {
			n.at(n.outside, "echo a datagram | nc -u -w 0 "+callerAddr+" 15353")
			return strings.Contains(p.stdout.String(), "a datagram\n")
		})
		if !strings.Contains(p.stderr.String(), outsideAddr) {
			t.Errorf("who sent it: %s", p.stderr.String())
		}
	})
	t.Run("an ordinary user", func(t *testing.T) {
		start(t, command{args: n.asUser("-t 18090:8080", "sh", "-c", "echo meow | nc -N -l -p 8080")})
		testenv.Await(t, "the answer", func() bool {
			return n.at(n.outside, "nc -N "+callerAddr+" 18090 </dev/null").stdout == "meow\n"
		})
	})
	t.Run("taken", func(t *testing.T) {
		start(t, command{args: enter(n.caller, "nc", "-l", "-p", "18081")})
		testenv.Await(t, "nc", func() bool { return n.at(n.caller, "ss -tlnH sport = :18081").stdout != "" })
		r := run(t, enter(n.caller, catflap(t), "run", "-t", "18081:80", "--", "true")...).want(t, 1)
		wantError(t, r.stderr, "18081:80", "in use", "HOSTPORT")
	})
}

// TestForward: a service of the host is on an address of the stack, from the start or later.
func TestForward(t *testing.T) {
	t.Parallel()
	n := newNeighbourhood(t)
	args, _ := n.config("own", "listen 127.0.0.1:8000; listen [::1]:8000;")
	start(t, command{args: enter(n.caller, strings.Fields(args)...)})
	testenv.Await(t, "the web server", func() bool { return n.at(n.caller, "curl -s http://127.0.0.1:8000/").status == 0 })
	for _, tt := range []struct{ name, flags, script, stdout string }{
		{"--forward", "--forward 10.9.0.2:5432=127.0.0.1:8000", "curl -sS http://10.9.0.2:5432/", "127.0.0.1\n"},
		{"--no-cats", "--no-cats --forward 10.9.0.2:80=127.0.0.1:8000", "curl -sS http://10.9.0.2/", "127.0.0.1\n"},
		{"an address of nobody", "--forward 192.0.2.9:81=127.0.0.1:8000", "curl -sS http://192.0.2.9:81/", "127.0.0.1\n"},
		{"--host-loopback", "--host-loopback 10.9.0.3 --host-loopback fd00:9::3", "curl -sS http://10.9.0.3:8000/ 'http://[fd00:9::3]:8000/'", "127.0.0.1\n::1\n"},
		{"live", "", `set -e; catflap forward add 10.9.0.2:81=127.0.0.1:8000; catflap forward show; curl -sS http://10.9.0.2:81/
catflap forward del 10.9.0.2:81; ! curl -s http://10.9.0.2:81/; catflap forward show`, "10.9.0.2:81=127.0.0.1:8000\n127.0.0.1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if r := n.run(tt.flags, tt.script).want(t, 0); r.stdout != tt.stdout || r.stderr != "" {
				t.Errorf("%q, want %q; %s", r.stdout, tt.stdout, r.stderr)
			}
		})
	}
	t.Run("an ordinary user", func(t *testing.T) {
		if r := run(t, n.asUser("--forward 10.9.0.2:5432=127.0.0.1:8000", "curl", "-sS", "http://10.9.0.2:5432/")...).want(t, 0); r.stdout != "127.0.0.1\n" {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
	})
	t.Run("serve", func(t *testing.T) {
		p := start(t, command{args: enter(n.caller, catflap(t), "serve", "--dashboard", "off", "--forward", "10.9.0.2:5432=127.0.0.1:8000")})
		p.await("serving on")
		if r := n.at(n.caller, "curl -sS http://10.9.0.2:5432/ http://10.9.0.2/").want(t, 0); r.stdout != "127.0.0.1\nHello kitty!" {
			t.Errorf("%q; %s", r.stdout, r.stderr)
		}
		p.cmd.Process.Signal(os.Interrupt)
		p.wait().want(t, 0)
	})
	t.Run("80 is the cat server's", func(t *testing.T) {
		r := n.run("--forward 10.9.0.2:80=127.0.0.1:8000", "true").want(t, 1)
		wantError(t, r.stderr, "10.9.0.2:80", "in use", "--no-cats")
	})
	t.Run("nobody there", func(t *testing.T) {
		r := n.run("--forward 10.9.0.2:81=127.0.0.1:9", "curl -s http://10.9.0.2:81/").want(t, 7)
		wantError(t, r.stderr, "10.9.0.2:81=127.0.0.1:9", "refused", "running")
	})
}
