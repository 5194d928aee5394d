package e2e

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// marker is what a ping carries, as its -p wants it, and what it looks like in a file.
const marker, marked = "6d656f77", "meowmeow"

// untilMarked is a shell command that waits until a capture that is being written has all packets up to now: the last
// of them is a ping with the marker. PREFIX is where the ping is sent.
func untilMarked(prefix, file string) string {
	return "until grep -qa " + marked + " " + file + "; do " + prefix + " ping -q -c 1 -W 1 -p " + marker + " 10.9.0.2 >/dev/null; done"
}

// capturing wraps a shell script so that catflap captures to FILE meanwhile.
func capturing(t *testing.T, script, flags, file string) string {
	return strings.NewReplacer("CATFLAP", catflap(t), "FLAGS", flags, "FILE", file, "SCRIPT", script, "MARKED", untilMarked("", file)).Replace(`
CATFLAP capture -w FILE FLAGS 2>FILE.log & capture=$!
until grep -qs capturing FILE.log; do sleep 0.02; done
( SCRIPT )
MARKED
kill -INT $capture; wait $capture || echo "capture: status $?" >&2
cat FILE.log
`)
}

// roomy has a capture keep all of what fits the MTU: of packets of that size, all that a test's traffic has may wait
// for the capture, which then misses nothing however late it is.
const roomy = "-s 1500"

// TestCaptureComments: on a bad link, what the stack says of its packets in comments is what tshark finds out.
func TestCaptureComments(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl", "tshark")
	file := filepath.Join(t.TempDir(), "c.pcapng")
	r := inside(t, "auto", capturing(t, `
curl -sS -o /dev/null http://10.9.0.2/bytes/1500000
curl -s http://10.9.0.2:81/
curl -sS http://10.9.0.2/`, "--comments "+roomy, file), "--netem", "loss 3% delay 5ms seed 7")
	if r.stderr != "" {
		t.Errorf("the script complains: %s", r.stderr)
	}
	if !regexp.MustCompile(`capture: [1-9][0-9]* packets captured, [1-9][0-9]* of them lost by the link, 0 events missed`).MatchString(r.stdout) {
		t.Errorf("capture says %s", r.stdout)
	}
	// One look by tshark serves all: its start takes longer than its work.
	type commented struct{ number, src, dst, port, len, seq, direction, again, order, malformed, comment string }
	var frames []commented
	for _, r := range testenv.Tshark(t, file, "frame", "frame.number", "ip.src", "ip.dst", "tcp.dstport", "tcp.len", "tcp.seq", "frame.packet_flags_direction",
		"tcp.analysis.retransmission", "tcp.analysis.out_of_order", "_ws.malformed", "frame.comment") {
		for i := range r[:10] {
			r[i], _, _ = strings.Cut(r[i], ",") // an ICMP error's own, not those of the packet that it quotes
		}
		frames = append(frames, commented{r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10]})
	}
	pick := func(want func(f commented) bool) (numbers []string) {
		for _, f := range frames {
			if want(f) {
				numbers = append(numbers, f.number)
			}
		}
		return numbers
	}
	if bad := pick(func(f commented) bool { return f.malformed != "" }); len(bad) > 0 {
		t.Errorf("malformed packets: %v", bad)
	}
	const server = "10.9.0.2"
	for _, c := range []struct {
		what string
		says []string
		src  string
		dst  string
		port string
	}{
		{what: "a SYN that met the listener", says: []string{"socket: exact 4-tuple ✗, listener 10.9.0.2:80 ✗, listener *:80 ✓ fd 3"}},
		{what: "a SYN that met nobody", says: []string{"dropped: NO_SOCKET"}, port: "81"},
		{what: "a route in", says: []string{"route: rule 0 → table local → local 10.9.0.2 dev cat0"}, dst: server},
		{what: "a route out", says: []string{"route: rule 32766 → table main → unicast 10.9.0.0/24 dev cat0"}, src: server},
		{what: "a packet that the link lost", says: []string{"link: lost, the stack never saw it: drop by loss"}, dst: server},
		{what: "a loss on the way out", says: []string{"link: out: drop by loss: IP 10.9.0.2.80 > 10.9.0.1."}},
		{what: "a change of state", says: []string{"state: ", "LISTEN → SYN-RECEIVED"}},
		{what: "a socket call", says: []string{"call: accept4(3, "}},
		{what: "a sample", says: []string{"sample: ", "cwnd "}},
		{what: "what limits the sender", says: []string{"limited by congestion window"}},
		{what: "a timer", says: []string{"timer: ", "retransmission set, fires in"}},
	} {
		if len(pick(func(f commented) bool {
			for _, says := range c.says {
				if !strings.Contains(f.comment, says) {
					return false
				}
			}
			return (c.src == "" || c.src == f.src) && (c.dst == "" || c.dst == f.dst) && (c.port == "" || c.port == f.port)
		})) == 0 {
			t.Errorf("no packet tells of %s", c.what)
		}
	}
	if wrong := pick(func(f commented) bool {
		return f.src == server && !strings.HasSuffix(f.direction, "2") || f.dst == server && !strings.HasSuffix(f.direction, "1")
	}); len(wrong) > 0 {
		t.Errorf("packets with a wrong direction: %v", wrong)
	}

	// The stack knows what it sends again, and why; tshark finds out that it does.
	data := func(f commented) bool { return f.src == server && f.len != "" && f.len != "0" }
	ours := func(f commented) bool { return data(f) && strings.Contains(f.comment, "retransmission: ") }
	theirs := func(f commented) bool { return f.again != "" || f.order != "" }
	again := pick(ours)
	if len(again) < 5 {
		t.Errorf("the stack sent %d packets again, with 3%% of 1000 lost", len(again))
	}
	if odd := pick(func(f commented) bool { return ours(f) && !theirs(f) }); len(odd) > 0 {
		t.Errorf("sent again according to the stack, but not to tshark: %v", odd)
	}
	if odd := pick(func(f commented) bool { return data(f) && theirs(f) && !ours(f) }); len(odd) > 0 {
		t.Errorf("sent again according to tshark, but not to the stack: %v", odd)
	}
	var causes []string
	for _, f := range frames {
		if m := regexp.MustCompile(`retransmission: ([^\\]+)\\n`).FindStringSubmatch(f.comment + `\n`); ours(f) && m != nil && !slices.Contains(causes, m[1]) {
			causes = append(causes, m[1])
		}
	}
	t.Logf("%d packets sent again, for: %s", len(again), strings.Join(causes, ", "))
}

// TestCaptureSegments: with --segments tshark finds every checksum right, in both directions, and no packet that is
// longer than the MTU. Of whole super-packets a thousand events may wait for a capture. The traffic goes on when both
// captures have what there was before, and then neither misses anything, however late it is.
func TestCaptureSegments(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl", "tshark", "ping")
	for _, url := range []string{url4, url6} {
		dir := t.TempDir()
		whole, cut := filepath.Join(dir, "whole"), filepath.Join(dir, "cut")
		script := `curl -sSg URL/ -o /dev/null
for i in 0 1 2 3 4 5 6 7 8 9; do
	curl -sSg -o /dev/null URL/bytes/150000
	head -c 150000 /dev/zero | curl -sSg -T - -o /dev/null URL/upload
	ping -q -c 1 -p 7075727230$((30+i)) HOST >/dev/null # carries purr0 and the number
	until grep -qa purr0$i WHOLE && grep -qa purr0$i CUT; do sleep 0.02; done
done
ping -q -c 2 -i 0.1 -s 1000 HOST`
		host := strings.Trim(strings.TrimPrefix(url, "http://"), "[]")
		script = strings.NewReplacer("URL", "'"+url+"'", "HOST", host, "WHOLE", whole, "CUT", cut).Replace(script)
		r := inside(t, "offload", capturing(t, capturing(t, script, "--segments", cut), "", whole))
		if r.stderr != "" {
			t.Errorf("the script complains: %s", r.stderr)
		}
		if n := strings.Count(r.stdout, " 0 events missed"); n != 2 {
			t.Errorf("the captures missed packets: %s", r.stdout)
		}
		pieces, supers := read(t, cut), read(t, whole)
		for _, c := range inspect(t, pieces) {
			t.Error(c)
		}
		var long, full [2]int // from the server, and to it
		for way, ours := range []func(f frame) bool{func(f frame) bool { return f.sport == "80" }, func(f frame) bool { return f.dport == "80" }} {
			for _, f := range supers {
				if ours(f) && f.len > 1500 {
					long[way]++
				}
			}
			for _, f := range pieces {
				if ours(f) && f.tcpLen > 1000 {
					full[way]++
				}
			}
			if long[way] == 0 {
				t.Errorf("there were no super-packets to cut: %v", long)
			}
			if full[way] < 500 {
				t.Errorf("%v full segments, of 1.5 MB each way", full)
			}
		}
		for _, f := range pieces {
			if f.len > 1500 {
				t.Errorf("frame %s has %d bytes, more than the MTU", f.number, f.len)
			}
		}
	}
}

// TestCaptureLive: tshark reads a capture from a pipe while it is written, as Wireshark does with -k -i -.
func TestCaptureLive(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "ping", "tshark")
	r := inside(t, "auto", "cd "+t.TempDir()+`
mkfifo pipe
tshark -n -l -i pipe -T fields -e frame.interface_name -e ip.src -e icmp.type >seen 2>tshark.log & tshark=$!
`+catflap(t)+` capture -w - --comments icmp >pipe 2>capture.log & capture=$!
until grep -qs capturing capture.log; do sleep 0.02; done
ping -q -c 1 10.9.0.2 >/dev/null
until [ "$(wc -l <seen)" = 2 ]; do sleep 0.05; done
kill -INT $capture; wait $capture
wait $tshark
cat seen`)
	if want := "cat0\t10.9.0.1\t8\ncat0\t10.9.0.2\t0\n"; r.stdout != want {
		t.Errorf("tshark saw %q, want %q; %s", r.stdout, want, r.stderr)
	}
}
