package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// serveOutside starts a server among the outside's programs, and waits until something is on its port.
func (n *neighbourhood) serveOutside(network, port string, args ...string) *process {
	n.t.Helper()
	p := start(n.t, command{args: enter(n.outside, args...), limit: 2 * patience})
	testenv.Await(n.t, args[0], func() bool {
		return n.at(n.outside, "ss -H --"+network+" -ln sport = :"+port).stdout != ""
	})
	return p
}

// TestEgressPrograms: what people use goes out through the stack as it goes out of a kernel.
func TestEgressPrograms(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "iperf3", "traceroute", "dnsmasq", "dig", "sshd", "ssh", "ssh-keygen", "git")
	n := newNeighbourhood(t)

	t.Run("iperf3", func(t *testing.T) {
		n.serveOutside("tcp", "5201", "iperf3", "-s")
		const bytes = 32 << 20
		for _, way := range []string{"", "-R", "-P 4", "-u -b 50M -l 1200"} {
			size := bytes
			if strings.HasPrefix(way, "-u") {
				size = 1 << 20
			}
			r := n.run("--egress all", fmt.Sprintf("iperf3 -J -n %d %s -c %s", size, way, outsideAddr)).want(t, 0)
			var got struct {
				End struct {
					Received struct{ Bytes, Packets, Lost_packets int } `json:"sum_received"`
				}
			}
			if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
				t.Fatalf("iperf3 %s: %v: %s", way, err, r.stdout)
			}
			if b := got.End.Received.Bytes; b < size/2 { // the rest of it may be on its way when iperf3 stops to count
				t.Errorf("iperf3 %s: %d bytes received of %d: %s", way, b, size, r.stdout)
			}
		}
	})

	// The stack takes a probe in whatever its TTL is, and sends it on as a packet of the host's: so the first to answer is
	// who was asked, in its own words, and the routers between are not seen.
	t.Run("traceroute", func(t *testing.T) {
		for _, how := range []string{"-n " + outsideAddr, "-n -I " + outsideAddr, "-n -T -p 80 " + outsideAddr, "-n " + outside6, "-n -I " + outside6} {
			r := n.run("--egress all", "traceroute -q 1 -N 1 -w 60 "+how).want(t, 0)
			lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
			to := how[strings.LastIndex(how, " ")+1:]
			if last := strings.Fields(lines[len(lines)-1]); len(last) != 4 || last[1] != to {
				t.Errorf("traceroute %s: %s%s", how, r.stdout, r.stderr)
			}
		}
	})

	t.Run("DNS over UDP and TCP", func(t *testing.T) {
		n.serveOutside("udp", "53", "dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file=", "--user=root", "--port=53",
			"--address=/cat.example/192.0.2.9", "--txt-record=long.example,"+strings.Repeat("purr", 50)+","+strings.Repeat("meow", 50)+","+strings.Repeat("hiss", 50))
		at := "dig +short +time=60 +tries=1 @" + outsideAddr + " "
		r := n.run("--egress all", at+"cat.example; "+at+"+tcp cat.example; "+at+"+noedns +ignore TXT long.example | wc -l; "+at+"TXT long.example | tr -d '\" \\n'").want(t, 0)
		if want := "192.0.2.9\n192.0.2.9\n0\n" + strings.Repeat("purr", 50) + strings.Repeat("meow", 50) + strings.Repeat("hiss", 50); r.stdout != want {
			t.Errorf("%q, want %q", r.stdout, want)
		}
		// A port where nobody is says so, as a kernel's socket hears it.
		r = n.run("--egress all", "dig +time=60 +tries=1 -p 54 @"+outsideAddr+" cat.example").want(t, 9)
		if !strings.Contains(r.stdout, "connection refused") {
			t.Errorf("nobody's port: %s", r.stdout)
		}
	})

	// Each failure is the kernel's: the same command says the same with our stack between and without.
	t.Run("failures", func(t *testing.T) {
		n.at(n.caller, "ip route add 203.0.113.0/24 via "+outsideAddr+"; ip route add prohibit 203.0.113.128/25; ip route add unreachable 192.0.2.0/25").want(t, 0)
		measured := regexp.MustCompile(`after \d+ ms|\d+ milliseconds`)
		for _, c := range []struct{ name, curl string }{
			{"closed", "http://" + outsideAddr + ":81/"},
			{"closed, IPv6", "http://[" + outside6 + "]:81/"},
			{"filtered", "--connect-timeout 2 http://203.0.113.1/"},
			{"nobody at that address", "--connect-timeout 60 http://198.51.100.77/"},
			{"several, of which one is open", "--connect-timeout 60 --resolve two:80:198.51.100.77," + outsideAddr + " http://two/"},
			{"several, of which none is open", "--connect-timeout 60 --resolve two:81:" + outsideAddr + ",[" + outside6 + "] http://two:81/"},
		} {
			plain := n.at(n.caller, "curl -sS "+c.curl)
			ours := n.run("--egress all", "curl -sS "+c.curl)
			plain.stderr, ours.stderr = measured.ReplaceAllString(plain.stderr, "after a while"), measured.ReplaceAllString(ours.stderr, "after a while")
			if plain.stdout != ours.stdout || plain.stderr != ours.stderr || plain.status != ours.status {
				t.Errorf("%s: a kernel's\n%+v\nours\n%+v", c.name, plain, ours)
			}
		}
	})

	// What speaks of the host itself, or of its link alone, is closed unless it is named.
	t.Run("closed unless named", func(t *testing.T) {
		n.at(n.outside, "ip addr add 169.254.169.254/32 dev lo").want(t, 0)
		n.at(n.caller, "ip route add 169.254.169.254 via "+outsideAddr+"; curl -sS http://169.254.169.254/").want(t, 0)
		const script = "curl -sS http://169.254.169.254/"
		n.run("--egress all", script).want(t, 7)
		if r := n.run("--egress 169.254.169.254", script).want(t, 0); r.stdout != callerAddr+"\n" {
			t.Errorf("named: %q", r.stdout)
		}
	})

	t.Run("git clone over ssh, lossy", func(t *testing.T) {
		dir := t.TempDir()
		r := run(t, "sh", "-ec", `cd "$0"; export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
ssh-keygen -q -t ed25519 -N '' -f host; ssh-keygen -q -t ed25519 -N '' -f key; cp key.pub keys
git init -q -b main repo; head -c 2000000 /dev/urandom >repo/file
git -C repo add file; git -C repo -c user.name=cat -c user.email=cat@example.com commit -q -m meow; sha256sum <repo/file`, dir).want(t, 0)
		sshd, err := exec.LookPath("sshd")
		if err != nil {
			t.Fatal(err)
		}
		n.serveOutside("tcp", "2222", "unshare", "--mount", "--", "sh", "-ec", `mount -t tmpfs none /run; mkdir /run/sshd
exec "$0" -D -e -f /dev/null -p 2222 -h "$1/host" -o AuthorizedKeysFile="$1/keys" -o StrictModes=no -o UsePAM=no -o PidFile=none`, sshd, dir)
		got := n.run("--egress all --netem loss_2%_delay_5ms_seed_7", fmt.Sprintf(`set -e; export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=%[1]s
export GIT_SSH_COMMAND='ssh -q -i %[1]s/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p 2222'
git clone -q ssh://root@%[2]s%[1]s/repo %[1]s/clone; sha256sum <%[1]s/clone/file`, dir, outsideAddr)).want(t, 0)
		if got.stdout != r.stdout {
			t.Errorf("cloned %q, want %q", got.stdout, r.stdout)
		}
	})
}

// shortConnections opens so many connections, several at a time, on each of which the server speaks and ends first.
func shortConnections(addr, count string) {
	n, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	var left, failed atomic.Int64
	left.Store(int64(n))
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for left.Add(-1) >= 0 {
				if err := shortConnection(addr); err != nil && failed.Add(1) < 10 {
					fmt.Println(err)
				}
			}
		})
	}
	clients.Wait()
	fmt.Println("failed", failed.Load())
}

func shortConnection(addr string) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	b, err := io.ReadAll(c)
	if err == nil && !strings.Contains(string(b), "\r\n\r\n"+callerAddr) {
		err = fmt.Errorf("answer %q", b)
	}
	return err
}

// TestShortConnections: a client with few ports takes each again as soon as the server has ended, while the stack has the
// connection before in TIME-WAIT.
func TestShortConnections(t *testing.T) {
	t.Parallel()
	n := newNeighbourhood(t)
	count := 30_000
	if raceEnabled {
		count = 3_000 // the rest is for the run without
	}
	script := fmt.Sprintf("echo 40000 40499 >/proc/sys/net/ipv4/ip_local_port_range; %s %s:80 %d", strings.Join(program(t, "short-connections"), " "), outsideAddr, count)
	r := start(t, command{args: enter(n.caller, fast(t), "run", "--egress", "all", "--", "sh", "-c", script), limit: bulkPatience}).wait().want(t, 0)
	if r.stdout != "failed 0\n" {
		t.Errorf("of %d connections: %s", count, r.stdout)
	}
	log, err := os.ReadFile(filepath.Join(n.dir, "outside", "log"))
	if served := strings.Count(string(log), "\n"); err != nil || served < count {
		t.Errorf("the server served %d connections of %d: %v", served, count, err)
	}
}
