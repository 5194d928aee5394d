package drill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/test/drill"
)

// play runs a script on the userspace stack.
func play(t testing.TB, script string) drill.Result {
	t.Helper()
	s, err := drill.Parse("x.pkt", []byte(script))
	if err != nil {
		t.Fatal(err)
	}
	return drill.Play(s, drill.Stack)
}

const handshake = `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 65535 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
+.1 < . 1:1(0) ack 1 win 65535
+0 accept(3, ..., ...) = 4
`

// TestMessages holds that each kind of mistake in a script shows from its message.
func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name   string
		script string
		status drill.Status
		says   []string
	}{
		{"wrong packet", handshake + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 2 win 5\n", drill.Failed, []string{
			"x.pkt:9: wrong packet: different ack, window\n    +0 > P. 1:101(100) ack 2 win 5\n",
			"  expected: > P. 1:101(100) ack 2 win 5\n",
			"  actual:   > P. 1:101(100) ack 1 win 65535\n",
			"                            ^^^^^ ^^^^^^^^^\n",
			"  packets so far:\n    0.000000 < S 0:0(0) win 65535 <mss 1000>\n",
			"fd 3 LISTEN", // the stack's decision on the SYN
			"    fd 4: tcp ESTABLISHED, local 192.168.0.1:8080, remote 192.0.2.1:33000",
		}},
		{"wrong option", strings.Replace(handshake, "mss 1460", "mss 1460,sackOK", 1), drill.Failed, []string{
			"x.pkt:5: wrong packet: different option sackOK\n",
			"expected: > S. 0:0(0) ack 1           <mss 1460, sackOK>\n",
			"actual:   > S. 0:0(0) ack 1 win 29184 <mss 1460, ->\n",
			"                                                 ^^^^^^^\n",
		}},
		{"missing packet", handshake + "+0 > P. 1:101(100) ack 1\n", drill.Failed, []string{
			"x.pkt:8: missing packet: the stack sent nothing until 0.104000\n", "expected: > P. 1:101(100) ack 1\n",
			"later:    nothing, in the next 2m0s\n",
		}},
		{"another packet, later", handshake + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1\n+0 > F. 101:101(0) ack 1\n", drill.Failed, []string{
			"x.pkt:10: missing packet: the stack sent nothing until 0.104000\n", "expected: > F. 101:101(0) ack 1\n", "later:    0.400000 > P. 1:101(100) ack 1 win 65535\n",
		}},
		{"packet too late", handshake + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 1\n+.1 > P. 1:101(100) ack 1\n", drill.Failed, []string{
			"x.pkt:10: time off: the packet was sent at 0.400000, expected 0.200000: 0.200000 too late (tolerance 12.5ms)\n",
		}},
		{"misspelt call", handshake + "+0 wrte(4, ..., 10) = 10\n", drill.Refused, []string{"x.pkt:8:4: the call wrte is not supported; did you mean write? (supported: accept, "}},
		{"half a packet", handshake + "+0 write(4, ..., 100) = 100\n+0 > P. 1:201(200) ack 1\n", drill.Failed, []string{
			"x.pkt:9: missing packet: the stack sent only the first 100 of 200 bytes",
		}},
		{"extra packet", handshake + "+0 write(4, ..., 100) = 100\n+.1 < P. 1:11(10) ack 101 win 5\n+0 > . 101:101(0) ack 11\n", drill.Failed, []string{
			"x.pkt:10: extra packet: the stack sent one at 0.100000 that the script does not expect\n", "0.100000 > P. 1:101(100) ack 1 win 65535",
		}},
		{"extra packet at the end", "--quiet_end=.1\n" + handshake + "+0 write(4, ..., 100) = 100\n", drill.Failed, []string{
			"x.pkt:9: extra packet: the stack sent one at 0.100000, after the last event\n",
		}},
		{"wrong errno", handshake + "+0 read(5, ..., 10) = -1 EAGAIN (Resource temporarily unavailable)\n", drill.Failed, []string{
			"x.pkt:8: wrong result: read() = -1 EBADF (Bad file descriptor), expected -1 EAGAIN (Resource temporarily unavailable)\n",
		}},
		{"wrong result", handshake + "+0 write(4, ..., 100) = 99\n", drill.Failed, []string{"x.pkt:8: wrong result: write() = 100, expected 99\n"}},
		{"time off", handshake + "+0 close(4) = 0\n+.1 > F. 1:1(0) ack 1\n", drill.Failed, []string{
			"x.pkt:9: time off: the packet was sent at 0.100000, expected 0.200000: 0.100000 too early (tolerance 12.5ms)\n",
		}},
		{"call blocks", handshake + "+0 read(4, ..., 10) = 10\n", drill.Failed, []string{
			"x.pkt:8: read blocks: a call that waits is written with the time of its end, START...END\n",
		}},
		{"call returns late", handshake + "+0....1 read(4, ..., 10) = 10\n", drill.Failed, []string{"x.pkt:8: read still blocks at"}},
		{"call returns early", handshake + "+0...0.2 read(4, ..., 10) = 10\n+.1 < P. 1:11(10) ack 1 win 5\n+0 > . 1:1(0) ack 11\n", drill.Failed, []string{
			"x.pkt:8: time off: read returned at 0.200000, expected 0.300000 (tolerance 25ms)\n",
		}},
		{"assertion", handshake + "+0 %{ assert tcpi_snd_cwnd == 11, 'initial window' }%\n", drill.Failed, []string{
			"x.pkt:8: assertion failed (tcpi_snd_cwnd = 10): initial window\n",
		}},
		{"option value", handshake + "+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n", drill.Failed, []string{"x.pkt:8: getsockopt gave [0], expected [1]\n"}},
		{"poll", handshake + "+0 poll([{fd=4, events=POLLIN|POLLOUT, revents=POLLIN}], 1, 0) = 1\n", drill.Failed, []string{
			"x.pkt:8: poll gave revents=POLLOUT for fd 4, expected POLLIN\n",
		}},
		{"unknown call", handshake + "+0 mmap(4) = 1\n", drill.Refused, []string{"x.pkt:8:4: the call mmap is not supported (supported: accept, "}},
		{"the kernel's call", handshake + "+0 splice(4, NULL, 5, NULL, 1, 0) = 1\n", drill.Refused, []string{"x.pkt:8:4: the userspace stack has no splice: only --target kernel"}},
		{"control message", handshake + "+0 recvmsg(4, {msg_iov(1)=[{..., 1}], msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=1}]}, 0) = 1\n", drill.Refused, []string{"x.pkt:8:51: control messages are not supported by the userspace stack"}},
		{"unknown symbol", handshake + "+0 setsockopt(4, SOL_TCP, TCP_NODELY, [1], 4) = 0\n", drill.Broken, []string{"x.pkt:8:27: the symbol TCP_NODELY is not known; did you mean TCP_NODELAY?\n"}},
		{"wrong number of arguments", handshake + "+0 read(4, ...) = 1\n", drill.Broken, []string{"x.pkt:8:4: read takes 3 arguments, not 2\n"}},
		{"shell line", "`rm -rf /`\n" + handshake, drill.Refused, []string{`x.pkt:1:2: shell line "rm -rf /": this command is not run; understood are sysctl`}},
		{"second shell line", "`sysctl -q net.ipv4.tcp_sack=1\n  tc qdisc replace`\n" + handshake, drill.Refused, []string{"x.pkt:2:3: shell line \"tc qdisc replace\": ", "      tc qdisc replace`\n      ^"}},
		{"file that is not there", "`./none.sh`\n" + handshake, drill.Refused, []string{"x.pkt:1:2: shell line \"./none.sh\": open none.sh: no such file or directory"}},
		{"setting in the middle", handshake + "+0 `sysctl -q net.ipv4.tcp_sack=0`\n", drill.Refused, []string{"x.pkt:8:5: shell line \"sysctl -q net.ipv4.tcp_sack=0\": this setting can only be made before the first event"}},
		{"FreeBSD's setting", "0 `sysctl -w net.inet.tcp.rexmit_slop=7`\n" + strings.Replace(handshake, "0 ", "+0 ", 1), drill.Refused, []string{"x.pkt:1:4: shell line \"sysctl -w net.inet.tcp.rexmit_slop=7\": FreeBSD's net.inet.tcp.rexmit_slop=7 has no counterpart"}},
		{"NULL", handshake + "+0 write(4, NULL, 10) = -1 EFAULT (Bad address)\n", drill.Refused, []string{"x.pkt:8:13: a NULL buffer is not supported"}},
		{"sysctl without counterpart", "`sysctl -q net.ipv4.tcp_timestamps=0`\n" + handshake, drill.Refused, []string{
			`the stack cannot do net.ipv4.tcp_timestamps=0, only 1`,
		}},
		{"unknown field of TCP_INFO", handshake + "+0 %{ assert tcpi_unheard == 1 }%\n", drill.Refused, []string{"x.pkt:8:14: tcpi_unheard is not known on this target\n"}},
		{"unknown option", "--frobnicate=1\n" + handshake, drill.Broken, []string{"x.pkt:1:1: --frobnicate: this option is not known: ip_version, "}},
		{"address of the wrong family", "--ip_version=ipv6\n--local_ip=10.0.0.1\n" + handshake, drill.Broken, []string{"--local_ip=10.0.0.1 is not an address for --ip_version=ipv6"}},
		{"expected failure", "// expected-fail: because\n" + handshake + "+0 > R 1:1(0)\n", drill.ExpectedFailure, nil},
		{"no cookie yet", strings.Replace(handshake, "<mss 1000>", "<FO *>", 1), drill.Failed, []string{"x.pkt:4: FO *: the stack has sent no cookie that could be given back"}},
		{"no cookie where one must be", strings.Replace(handshake, "<mss 1460>", "<mss 1460,FO *>", 1), drill.Failed, []string{
			"x.pkt:5: wrong packet: different option FO\n", "<mss 1460, FO *>\n",
		}},
		{"unexpected pass", "// expected-fail: because\n" + handshake, drill.UnexpectedPass, []string{`passed, but the script says "expected-fail: because"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := play(t, c.script)
			if res.Status != c.status {
				t.Errorf("status %s, want %s", res.Status, c.status)
			}
			for _, want := range c.says {
				if !strings.Contains(res.Message+"\n", want) {
					t.Errorf("the message lacks %q:\n%s", want, res.Message)
				}
			}
			// What a run refuses, or finds wrong in the script, --check finds without one.
			s, err := drill.Parse("x.pkt", []byte(c.script))
			if err == nil {
				err = s.Check(drill.Stack, drill.Environment{})
			}
			if refused := res.Status == drill.Refused || res.Status == drill.Broken; refused != (err != nil) || refused && err.Error() != res.Message {
				t.Errorf("check says %v", err)
			}
		})
	}
}

// TestExpectedRefusal holds that what a script says of its failure covers that it is not run at all. Without a run it is told.
func TestExpectedRefusal(t *testing.T) {
	script := "// expected-fail: no such setting\n`sysctl -q net.ipv4.tcp_timestamps=0`\n" + handshake
	if res := play(t, script); res.Status != drill.ExpectedFailure || !strings.Contains(res.Message, "tcp_timestamps=0") {
		t.Errorf("status %s: %s", res.Status, res.Message)
	}
	s, err := drill.Parse("x.pkt", []byte(script))
	if err == nil {
		err = s.Check(drill.Stack, drill.Environment{})
	}
	if err == nil || !strings.Contains(err.Error(), "tcp_timestamps=0") {
		t.Errorf("check says %v", err)
	}
}

// TestForms plays scripts that use what conformance scripts do not.
func TestForms(t *testing.T) {
	defaults := filepath.Join(t.TempDir(), "defaults.sh")
	if err := os.WriteFile(defaults, []byte("#!/bin/sh\n# what all scripts share\nsysctl -q net.ipv4.tcp_rmem=\"4096 540000 $((15*1024*1024))\"\nsysctl -q net.ipv4.tcp_fastopen=0x70403 # not in the stack\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"blocking accept": `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0 bind(3, ..., ...) = 0
			+0 listen(3, 1) = 0
			+0...0.2 accept(3, ..., ...) = 4
			+.1 < S 0:0(0) win 65535 <mss 1000>
			+0 > S. 0:0(0) ack 1 <mss 1460>
			+.1 < . 1:1(0) ack 1 win 65535
			+0 write(4, ..., 10) = 10
			+0 > P. 1:11(10) ack 1`,
		"blocking connect": `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+.1...0.2 connect(3, ..., ...) = 0
			+0 > S 0:0(0) <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 8>
			+.1 < S. 0:0(0) ack 1 win 5792 <mss 1460>
			+0 > . 1:1(0) ack 1`,
		"several segments for one expected": handshake + `+0 write(4, ..., 2500) = 2500
			+0 > P. 1:2501(2500) ack 1`,
		"vectors and messages": handshake + `+0 setsockopt(4, SOL_TCP, TCP_NODELAY, [1], 4) = 0
			+0 writev(4, [{..., 100}, {..., 50}], 2) = 150
			+0 > P. 1:151(150) ack 1
			+0 sendmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 20}], msg_flags=0}, 0) = 20
			+0 > P. 151:171(20) ack 1
			+.1 < P. 1:101(100) ack 171 win 65535
			+0 > . 171:171(0) ack 101
			+0 readv(4, [{..., 10}, {..., 20}], 2) = 30
			+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 1000}], msg_flags=0}, MSG_PEEK) = 70
			+0 recvfrom(4, ..., 1000, 0, ..., ...) = 70`,
		"epoll": handshake + `+0 epoll_create(1) = 5
			+0 epoll_ctl(5, EPOLL_CTL_ADD, 4, {events=EPOLLIN|EPOLLET, fd=4}) = 0
			+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0
			+.1 < P. 1:101(100) ack 1 win 65535
			+0 > . 1:1(0) ack 101
			+0 epoll_wait(5, {events=EPOLLIN, fd=4}, 1, 0) = 1
			+0 epoll_wait(5, {events=0, ptr=0}, 1, 0) = 0`,
		"poll waits": handshake + `+0...0.3 poll([{fd=4, events=POLLIN, revents=0}], 1, 300) = 0
			+.5...0.55 poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 300) = 1
			+.05 < P. 1:101(100) ack 1 win 65535`,
		"an acknowledgment without a number, of a packet as large as GRO makes them": "--mss=1000\n" + handshake + "+.1 < . 1:10001(10000) win 320\n+0 > . 1:1(0) ack 10001\n",
		"queues": handshake + `+.1 < P. 1:101(100) ack 1 win 65535
			+0 > . 1:1(0) ack 101
			+0 ioctl(4, SIOCINQ, [100]) = 0`,
		"mapped addresses": "--ip_version=ipv4-mapped-ipv6\n" + handshake,
		"explicit addresses": `0 socket(AF_INET, SOCK_STREAM, IPPROTO_TCP) = 3
			+0 bind(3, {sa_family = AF_INET, sin_port = htons(99), sin_addr = inet_addr("192.168.0.1")}, ...) = 0
			+0 listen(3, 1) = 0
			+0 < 1234 > 99 S 0:0(0) win 65535 <mss 1000>
			+0 > 99 > 1234 S. 0:0(0) ack 1 <...>`,
		"time stamps by name": `--tcp_ts_tick_usecs=1000
			0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
			+0 bind(3, ..., ...) = 0
			+0 listen(3, 1) = 0
			+0 < S 0:0(0) win 65535 <mss 1000,TS val 7 ecr 0>
			+0 > S. 0:0(0) ack 1 <mss 1460,nop,nop,TS val 100 ecr 7>
			+.1 < . 1:1(0) ack 1 win 65535 <nop,nop,TS val 107 ecr 100>
			+0 accept(3, ..., ...) = 4
			+.4 write(4, ..., 10) = 10
			+0 > P. 1:11(10) ack 1 <nop,nop,TS val 600 ecr 107>`,
		"any time": handshake + "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1\n* > P. 1:11(10) ack 1\n+0 < . 1:1(0) ack 11 win 5\n",
		"code":     handshake + "+0 %{ x = tcpi_snd_cwnd * 2; assert x == 20 and 5 <= x % 7 < 7 or False; print('cwnd %d' % tcpi_snd_cwnd) }%\n+1 %{ assert x // 3 == 6 }%\n",
		"sysctl":   "`" + defaults + "\nsysctl -q net.ipv4.tcp_sack=0 \\\n net.ipv4.tcp_congestion_control=reno`\n" + strings.NewReplacer("<mss 1000>", "<mss 1000,sackOK>").Replace(handshake),
		"an earlier connection": handshake + `+0 close(4) = 0
			+0 close(3) = 0
			+.5 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5
			+0 fcntl(5, F_SETFL, O_RDWR|O_NONBLOCK) = 0
			+0 connect(5, ..., ...) = -1 EINPROGRESS (Operation now in progress)
			+0 > S 0:0(0) <...>`, // its FIN, and that again, are passed over
		"an eighth of the time": handshake + `+0 write(4, ..., 10) = 10
			+0 > P. 1:11(10) ack 1
			+.27 > P. 1:11(10) ack 1`, // it comes after 0.3 s
		"FreeBSD's words": "0 `sysctl -w net.inet.tcp.sack.enable=1`\n+0 `sysctl -w net.inet.tcp.hostcache.purgenow=1`\n+0 `sysctl -w net.inet.tcp.recvspace=65536`\n" +
			strings.Replace(handshake, "0 ", "+0 ", 1) + "+0 `sockstat -4 -P tcp -s -p 8080 | grep -c ESTABLISHED | grep 1`\n+0 %{ assert tcpi_state == TCPI_ESTABLISHED }%\n+0 < [hlim 3] . 1:1(0) ack 1 win 5\n",
		"counters": handshake + "+0 < icmp unreachable frag_needed mtu 600 [9999:10999(1000)]\n+0 `nstat -n`\n+0 < icmp unreachable frag_needed mtu 600 [9999:10999(1000)]\n+0 `nstat | grep -q 'TcpExtOutOfWindowIcmps *1 '`\n",
		"strings":  handshake + "+0 write(4, \"hello\", 5) = 5\n+0 > P. 1:6(5) ack 1\n",
	} {
		t.Run(name, func(t *testing.T) { drill.Run(t, script) })
	}
}

// TestHourOfSilence holds that virtual time costs nothing.
func TestHourOfSilence(t *testing.T) {
	start := time.Now()
	res := play(t, handshake+"+3600 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1\n")
	if res.Status != drill.Passed {
		t.Fatal(res.Message)
	}
	if res.Elapsed < time.Hour {
		t.Errorf("%s passed on the stack's clock", res.Elapsed)
	}
	if real := time.Since(start); real > 10*time.Minute {
		t.Errorf("an hour of virtual time took %s", real)
	}
}

// FuzzPlay plays whatever parses: no script may panic or hang the runner or the stack.
func FuzzPlay(f *testing.F) {
	f.Add(handshake)
	f.Add(language)
	f.Add(handshake + "+0...1 write(4, ..., 100000) = 100000\n+.1 < F. 1:1(0) ack 1 win 0 <nop,nop,sack 1:2>\n* > . * ack 2\n+0 close(4) = 0\n")
	f.Add("0 < [routing 0x0001] S 0:0(0) <FO *>\n+0 > S. 0:0(0) ack 1 <FO *>\n")
	f.Add("0 < [frag 0:8, id 3, ttl 0, hopopt 0x1e00] udp (10)\n+1 > icmp unreachable port_unreachable\n")
	f.Fuzz(func(t *testing.T, src string) {
		s, err := drill.Parse("fuzz.pkt", []byte(src))
		if err != nil {
			return
		}
		if res := drill.Play(s, drill.Stack); res.Status != drill.Passed && res.Message == "" && res.Reason == "" {
			t.Errorf("%s without a message", res.Status)
		}
	})
}

// TestRepeats holds that a run gives the same result to the letter, each time: failures show every packet with its time.
func TestRepeats(t *testing.T) {
	script := handshake + "+0 write(4, ..., 20000) = 20000\n+5 < P. 1:3001(3000) ack 8001 win 65535\n+0 > R 0:0(0)\n"
	want := play(t, script).Message
	if !strings.Contains(want, "extra packet") {
		t.Fatal(want)
	}
	for range 200 {
		if got := play(t, script).Message; got != want {
			t.Fatalf("one run:\n%s\nanother:\n%s", want, got)
		}
	}
}

// scripts writes three scripts, one that passes, one that fails and one that fails as expected.
func scripts(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/pass.pkt":  handshake,
		"b/fail.pkt":  handshake + "+0 > R 1:1(0)\n",
		"b/xfail.pkt": "// expected-fail: known\n" + handshake + "+0 > R 1:1(0)\n",
		"b/other.txt": "not a script",
	} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRunFiles(t *testing.T) {
	dir := scripts(t)
	for _, paths := range [][]string{
		{dir}, {dir + "/..."}, {dir + "/*/*.pkt"}, {dir + "/a", dir + "/b/fail.pkt", dir + "/b/xfail.pkt"},
	} {
		var capture bytes.Buffer
		r, err := drill.RunFiles(context.Background(), drill.Options{Paths: paths, PCAPNG: &capture})
		if err != nil {
			t.Fatalf("%v: %v", paths, err)
		}
		r.Wall = 0
		if got, want := r.Summary(), "1 passed, 1 failed as expected, 1 failed; 3 scripts in 0s"; got != want || r.OK() {
			t.Errorf("%v: %s, OK %v; want %s", paths, got, r.OK(), want)
		}
		ng, err := pcapgo.NewNgReader(&capture, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		packets := 0
		for {
			if _, _, err = ng.ReadPacketData(); err != nil {
				break
			}
			packets++
		}
		if err != io.EOF || packets != 9 || ng.NInterfaces() != 3 {
			t.Errorf("the capture has %d packets of %d scripts, then %v", packets, ng.NInterfaces(), err)
		}
	}
}

func TestRunFilesErrors(t *testing.T) {
	dir := scripts(t)
	for _, c := range []struct {
		opts drill.Options
		says string
	}{
		{drill.Options{}, "no scripts: give files, directories or patterns"},
		{drill.Options{Paths: []string{dir + "/none"}}, "no such file"},
		{drill.Options{Paths: []string{dir + "/*.none"}}, "no scripts (*.pkt) there"},
		{drill.Options{Paths: []string{dir}, Target: "moon"}, `target "moon": stack, kernel and both are known`},
	} {
		_, err := drill.RunFiles(context.Background(), c.opts)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: error %v, want %q", c.opts, err, c.says)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := drill.RunFiles(ctx, drill.Options{Paths: []string{dir}}); err != context.Canceled {
		t.Errorf("cancelled: error %v", err)
	}
}

func TestReports(t *testing.T) {
	r, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{scripts(t)}})
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(text.String(), "\n")
	if !strings.HasPrefix(lines[0], "ok      ") || !strings.HasSuffix(lines[0], "a/pass.pkt (3 packets, 100ms)") || !strings.HasPrefix(lines[1], "FAIL    ") {
		t.Errorf("text:\n%s", &text)
	}
	if !strings.Contains(text.String(), "b/xfail.pkt: known\n") {
		t.Errorf("text:\n%s", &text)
	}

	var js bytes.Buffer
	if err := r.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	var back drill.Report
	if err := json.Unmarshal(js.Bytes(), &back); err != nil || len(back.Results) != 3 || back.Results[1].Status != drill.Failed || back.Results[1].Line != 8 {
		t.Errorf("JSON, error %v:\n%s", err, &js)
	}

	var junit bytes.Buffer
	if err := r.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Suites []struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Skipped  int `xml:"skipped,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(junit.Bytes(), &suites); err != nil {
		t.Fatal(err)
	}
	s := suites.Suites[0]
	if s.Tests != 3 || s.Failures != 1 || s.Skipped != 1 || s.Cases[1].Failure == nil || !strings.Contains(s.Cases[1].Failure.Message, "missing packet") {
		t.Errorf("JUnit:\n%s", &junit)
	}
}

// recorder is a test that notes its errors.
type recorder struct {
	testing.TB
	errors []string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Name() string              { return "recorder" }
func (r *recorder) Logf(string, ...any)       {}
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, f) }

func TestRunFails(t *testing.T) {
	r := &recorder{TB: t}
	drill.Run(r, handshake+"+0 > R 1:1(0)\n")
	drill.Run(r, "0 nonsense")
	if len(r.errors) != 2 {
		t.Errorf("%d errors of two scripts", len(r.errors))
	}
}

func TestDir(t *testing.T) {
	drill.Dir(t, fstest.MapFS{"x/y.pkt": {Data: []byte(handshake)}, "z.txt": {Data: []byte("?")}})
}

// TestKernel runs a script on Linux's own TCP, and compares both targets.
func TestKernel(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"same.pkt":  "--tolerance_usecs=500000\n" + handshake + "+0 write(4, ..., 10) = 10\n+0 > P. 1:11(10) ack 1\n",
		"same6.pkt": "--ip_version=ipv6\n--tolerance_usecs=500000\n" + handshake,
		"differ.pkt": "--tolerance_usecs=500000\n" + strings.NewReplacer("<mss 1000>", "<mss 1000,sackOK>", "<mss 1460>", "<...>").Replace(handshake) +
			strings.Repeat("+.1 < P. 1:101(100) ack 1 win 65535\n+0~+.5 > . 1:1(0) ack 101 <...>\n", 2) +
			"+.1 < P. 1:101(100) ack 1 win 65535\n+0 > . 1:1(0) ack 101 <nop,nop,sack 1:101>\n", // netstack does not report duplicates (RFC 2883)
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}, Target: drill.Both})
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.Results {
		want := drill.Passed
		if res.Target == drill.Stack && strings.HasSuffix(res.Script, "differ.pkt") {
			want = drill.Failed
		}
		if res.Status != want {
			t.Errorf("%s on %s: %s, want %s\n%s", res.Script, res.Target, res.Status, want, res.Message)
		}
	}
	if len(r.Differences) != 1 || !strings.Contains(r.Differences[0], "differ.pkt: stack fails at line 14, kernel passes") {
		t.Errorf("differences: %q", r.Differences)
	}
}
