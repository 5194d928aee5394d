package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// netemScript is what runs in a namespace: IPv6 is off there, so that no packet of the kernel's own (router
// solicitation, group membership) comes between those of the test.
func netemScript(script string) string {
	return "echo 1 > /proc/sys/net/ipv6/conf/cat0/disable_ipv6; " + script
}

// TestNetemServe: serve --netem impairs the packets of other programs, tells what it did, and ends in order.
func TestNetemServe(t *testing.T) {
	t.Parallel()
	s := serve(t, catflap(t), "--netem", "out delay 50ms seed 1", "--netem", "drop tcp syn 1", "--netem", "drop tcp data 2 from server")
	r := s.sh("curl -s -o /dev/null -w '%{http_code} %{size_download} %{time_connect}' http://10.9.0.2/bytes/100000").want(t, 0)
	// The lost SYN is sent again after a second (RFC 6298 section 2), and its answer takes 50 ms.
	if !regexp.MustCompile(`^200 100000 1\.[01]`).MatchString(r.stdout) {
		t.Errorf("curl says %q, want the whole body, over a connection that took the SYN's second try", r.stdout)
	}
	show := start(t, command{args: s.enter(catflap(t), "netem", "show"), env: s.cmd.Env}).wait().want(t, 0).stdout
	tells(t, show, []string{
		`^in: no settings`, `lost by rules 1`,
		`^out: delay 50ms .*seed 1`, `lost by rules 1, delayed \d`,
		`^1: +drop tcp syn 1 +matched 2 +applied 1$`,
		`^2: +drop tcp data 2 from server +matched \d+ +applied 1$`,
	})
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.process.wait().want(t, 0)
}

// TestNetemSeeds: equal seeds do equal things to equal traffic, and netem show tells of it in equal words; another
// seed does something else.
func TestNetemSeeds(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "ping", "curl")
	bin := catflap(t)
	numbers := regexp.MustCompile(`icmp_seq=\d+`)
	once := func(seed string) string {
		// The counts are of all since the start, so of each the line that tells what was done.
		r := run(t, bin, "run", "--", "sh", "-c", netemScript(`catflap netem set loss 20% duplicate 10% reorder 10% gap 3 delay 2ms seed `+seed+`
ping -n -c 60 -i 0.02 -W 0.2 10.9.0.2
catflap netem show | grep -o 'lost [0-9]*.*'`)).want(t, 0)
		done := strings.Join(regexp.MustCompile(`(?m)^lost .*$`).FindAllString(r.stdout, -1), "\n")
		if strings.Count(done, "\n") != 1 || !strings.Contains(done, "duplicated") || !strings.Contains(done, "reordered") {
			t.Fatalf("netem show does not tell what was done in both directions: %s", r.stdout)
		}
		return done + "\n" + strings.Join(numbers.FindAllString(r.stdout, -1), " ")
	}
	first, second, other := once("5"), once("5"), once("6")
	if first != second {
		t.Errorf("seed 5 did this:\n%s\nand then this:\n%s", first, second)
	}
	if first == other {
		t.Errorf("seeds 5 and 6 both did this:\n%s", first)
	}

	transfer := func() string {
		return run(t, bin, "run", "--netem", "drop tcp syn 1", "--netem", "drop tcp data 2..3 from server", "--netem", "corrupt tcp byte 50000 from server", "--",
			"sh", "-c", netemScript(`curl -s http://10.9.0.2/bytes/100000 | sha256sum; catflap netem show | grep -o 'applied .*'`)).want(t, 0).stdout
	}
	if a, b := transfer(), transfer(); a != b || strings.Count(a, "applied 1\n") != 2 || strings.Count(a, "applied 2\n") != 1 {
		t.Errorf("the rules did this:\n%s\nand then this:\n%s", a, b)
	}
}

// TestNetemAnswers: senders in the midst of a transfer are answered with RST, or with "too big", and act on it.
func TestNetemAnswers(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl", "ping")
	const (
		download = "curl -sS -g -m 100 -o /dev/null -w '%{size_download}' URL/bytes/300000"
		upload   = "head -c 300000 /dev/zero | curl -sS -g -m 100 -o /dev/null -w '%{size_upload}' --data-binary @- URL/upload"
		reset    = 56 // curl: failure in receiving network data
	)
	for _, tt := range []struct {
		name, rule, script string
		status             int
		stdout             string
	}{
		{"reset of the kernel's connection", "reset tcp data 1 from client", download, reset, ""},
		{"reset of the server's connection", "reset tcp data 5 from server", download, reset, ""},
		{"too big from the server", "toobig 1280 from server", download, 0, "300000"},
		{"too big from the client", "toobig 1280 from client", upload, 0, "300000"},
	} {
		for _, url := range []string{url4, url6} {
			t.Run(tt.name+" "+url, func(t *testing.T) {
				script := strings.ReplaceAll(tt.script, "URL", url) + `; status=$?; echo; catflap netem show | grep '^1:'; exit $status`
				r := run(t, catflap(t), "run", "--netem", tt.rule, "--", "sh", "-c", script).want(t, tt.status)
				if !strings.HasPrefix(r.stdout, tt.stdout) {
					t.Errorf("curl says %q, want %q", r.stdout, tt.stdout)
				}
				if !regexp.MustCompile(`applied [1-9]`).MatchString(r.stdout) {
					t.Errorf("the rule was not applied: %s", r.stdout)
				}
			})
		}
	}
	// A router would fragment a packet that may be: such a packet goes on.
	r := run(t, catflap(t), "run", "--netem", "toobig 1280", "--", "sh", "-c",
		"ping -n -M dont -s 1400 -c 1 -W 5 10.9.0.2 && ! ping -n -M do -s 1400 -c 1 -W 5 10.9.0.2").want(t, 0)
	if !strings.Contains(r.stdout, "mtu = 1280") {
		t.Errorf("a packet with DF was not answered with ICMP fragmentation needed: %s", r.stdout)
	}
}

// TestNetemTransfer: the bytes that come through a network that loses one packet in twenty each way are the bytes sent.
func TestNetemTransfer(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	const sum = "curl -s http://10.9.0.2/bytes/1048576 | sha256sum"
	clean := run(t, catflap(t), "run", "--", "sh", "-c", sum).want(t, 0).stdout
	p := start(t, command{args: []string{catflap(t), "run", "--netem", "loss 5% delay 2ms seed 7", "--", "sh", "-c", sum}, limit: 4 * patience})
	if lossy := p.wait().want(t, 0).stdout; lossy != clean {
		t.Errorf("SHA-256 %s over the lossy link, %s without", lossy, clean)
	}
}
