package drill_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/test/drill"
)

// slack is a tolerance that a busy machine keeps: these tests are of what the kernel does, and not of when.
const slack = "--tolerance_usecs=2000000\n"

// TestKernelForms runs on Linux what only it has, and what only it shows.
func TestKernelForms(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun)
	passive := strings.Replace(handshake, "<mss 1460>", "<...>", 1)
	const active = `0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
		+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0
	`
	const closed = `+0 close(3) = 0
		+0 > F. 1:1(0) ack 1 <...>
		+.01 < F. 1:1(0) ack 2 win 5000
		+0 > . 2:2(0) ack 2 <...>
	`
	scripts := map[string]string{
		"fast open, of a cookie that a peer gives": "`sysctl -q net.ipv4.tcp_timestamps=0`\n" + active + `+0 sendto(3, ..., 100, MSG_FASTOPEN, ..., ...) = -1 EINPROGRESS (Operation now in progress)
			+0 > S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 8,FO,nop,nop>
			+.01 < S. 0:0(0) ack 1 win 5000 <mss 1000,nop,nop,sackOK,FO 0102030405060708,nop,nop>
			+0 > . 1:1(0) ack 1
			` + closed + `+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 4
			+0 fcntl(4, F_SETFL, O_RDWR|O_NONBLOCK) = 0
			+0 sendto(4, ..., 100, MSG_FASTOPEN, ..., ...) = 100
			+0 > S 0:100(100) <mss 1460,nop,nop,sackOK,nop,wscale 8,FO 0102030405060708,nop,nop>`,
		"fast open, of a cookie that only the kernel knows": strings.Replace(handshake[:strings.Index(handshake, "+0 <")], "+0 listen", "+0 setsockopt(3, SOL_TCP, TCP_FASTOPEN, [5], 4) = 0\n+0 listen", 1) + `+0 < 40000 > 8080 S 0:0(0) win 5000 <mss 1000,FO>
			+0 > 8080 > 40000 S. 0:0(0) ack 1 <mss 1460,FO *,nop,nop>
			+.01 < 40001 > 8080 S 0:100(100) win 5000 <mss 1000,FO *>
			+0 > 8080 > 40001 S. 0:0(0) ack 101 <mss 1460>`,
		"a byte out of band": passive + `+0 < PU. 1:101(100) ack 1 win 5000 urg 50
			+0~+.5 > . 1:1(0) ack 101
			+0 recv(4, ..., 10, MSG_OOB) = 1
			+0 read(4, ..., 100) = 49
			+0 read(4, ..., 100) = 50`,
		"an address of no family": active + `+0 sendto(3, ..., 0, MSG_FASTOPEN, AF_UNSPEC, ...) = -1 EOPNOTSUPP (Operation not supported)
			+0 connect(3, AF_UNSPEC, ...) = 0`,
		"what is left to read": passive + `+0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0
			+0 < P. 1:1001(1000) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 1001
			+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 400}], msg_flags=0, msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=600}]}, 0) = 400`,
		"the error queue": passive + `+0 setsockopt(4, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0
			+0 send(4, ..., 1000, MSG_ZEROCOPY) = 1000
			+0 > P. 1:1001(1000) ack 1
			+.01 < . 1:1(0) ack 1001 win 5000
			+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 0}], msg_flags=MSG_ERRQUEUE, msg_control=[{cmsg_level=SOL_IP, cmsg_type=IP_RECVERR,
				cmsg_data={ee_errno=0, ee_origin=SO_EE_ORIGIN_ZEROCOPY, ee_type=0, ee_code=SO_EE_CODE_ZEROCOPY_COPIED, ee_info=0, ee_data=0}}]}, MSG_ERRQUEUE) = 0`,
		"time stamps of what was sent": passive + `+0 setsockopt(4, SOL_SOCKET, SO_TIMESTAMPING, [SOF_TIMESTAMPING_TX_ACK|SOF_TIMESTAMPING_SOFTWARE|SOF_TIMESTAMPING_OPT_ID], 4) = 0
			+0 write(4, ..., 1000) = 1000
			+0 > P. 1:1001(1000) ack 1
			+.1 < . 1:1(0) ack 1001 win 5000
			+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 0}], msg_flags=MSG_ERRQUEUE|MSG_TRUNC, msg_control=[{cmsg_level=SOL_SOCKET, cmsg_type=SCM_TIMESTAMPING, cmsg_data={scm_sec=0, scm_nsec=200000000}},
				{cmsg_level=SOL_IP, cmsg_type=IP_RECVERR, cmsg_data={ee_errno=ENOMSG, ee_origin=SO_EE_ORIGIN_TIMESTAMPING, ee_type=0, ee_code=0, ee_info=SCM_TSTAMP_ACK, ee_data=999}}]}, MSG_ERRQUEUE) = 0`,
		"buffers where no memory is": passive + `+0 write(4, NULL, 1000) = -1 EFAULT (Bad address)
			+0 < P. 1:1001(1000) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 1001
			+0 read(4, NULL, 1000) = -1 EFAULT (Bad address)`,
		"a pipe": passive + `+0 pipe([5, 6]) = 0
			+0 < P. 1:1001(1000) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 1001
			+0 splice(4, NULL, 6, NULL, 400, 0) = 400
			+0 ioctl(4, SIOCINQ, [600]) = 0
			+0 read(4, ..., 10) = 10`,
		"a file": "`rm -f /tmp/of-the-script; dd bs=1 count=5 if=/dev/zero of=/tmp/of-the-script status=none`\n" + passive + `+0 open("/tmp/of-the-script", O_RDONLY) = 5
			+0 sendfile(4, 5, [0], 5) = 5
			+0 > P. 1:6(5) ack 1`,
		"a file of the machine": passive + `+0 open("/etc/passwd", O_RDONLY) = -1 ENOENT (No such file or directory)`,
		"not sent yet": passive + `+0 write(4, ..., 1000) = 1000
			+0 ioctl(4, SIOCOUTQNSD, [0]) = 0
			+0 ioctl(4, SIOCOUTQ, [1000]) = 0`,
		"vectors keep their borders": passive + `+0 setsockopt(4, SOL_SOCKET, SO_ZEROCOPY, [1], 4) = 0
			+0 sendmsg(4, {msg_name(...)=..., msg_iov(18)=[{..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}, {..., 1}], msg_flags=0}, MSG_ZEROCOPY) = 18
			+0 > P. 1:18(17) ack 1
			+0 < . 1:1(0) ack 18 win 5000
			+0 > P. 18:19(1) ack 1`, // a super-packet has 17 pieces at most
		"a setting in the middle": passive + "+0 `sysctl -q net.ipv4.tcp_timestamps=0`\n" + `+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 5
			+0 fcntl(5, F_SETFL, O_RDWR|O_NONBLOCK) = 0
			+0 connect(5, ..., ...) = -1 EINPROGRESS (Operation now in progress)
			+0 > S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 8>`,
		"counters": passive + "+0 `nstat -n`\n+0 < . 1:1(0) ack 99999 win 5000\n+0 `nstat -s | grep -q 'TcpInSegs  *1 '`\n+0 `nstat | grep -c TcpInSegs | grep -q 1`\n+0 `nstat | grep -c TcpInSegs | grep -q 0 || nstat -z`\n",
		"sockets":  passive + "+0 `grep ' 0A ' /proc/net/tcp | grep -q ':1F90'`\n+0 `sockstat -4 -P tcp -s | grep -c LISTEN | grep -q 1`\n",
		"routes":   "`ip route change 192.0.2.1 dev tun0 advmss 600`\n" + strings.Replace(handshake, "<mss 1460>", "<mss 600>", 1),
		"a call that blocks": passive + `+0....5 read(4, ..., 100) = 100
			+.5 < P. 1:101(100) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 101`,
		"another port": "--connect_port=99\n" + active + `+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)
			+0 > S 0:0(0) <...>`,
		"segments put together": "--mss=1000\n" + passive + `+0 < P. 1:10001(10000) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 10001
			+0 %{ assert tcpi_rcv_mss == 1000, tcpi_rcv_mss }%`,
		"scales and memory": passive + "+0 %{ assert tcpi_snd_wscale == 0 and tcpi_rcv_wscale == 0 and SK_MEMINFO_RCVBUF > 0 }%\n",
	}
	dir := t.TempDir()
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".pkt"), []byte(slack+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}, Target: drill.Kernel})
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range r.Results {
		if res.Status != drill.Passed {
			t.Errorf("%s: %s", res.Status, res.Message)
		}
	}
}

// TestKernelFails holds that what a script gets wrong on Linux shows.
func TestKernelFails(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun)
	passive := slack + strings.Replace(handshake, "<mss 1460>", "<...>", 1)
	for name, c := range map[string]struct {
		script string
		status drill.Status
		says   string
	}{
		"control message": {passive + `+0 setsockopt(4, SOL_TCP, TCP_INQ, [1], 4) = 0
			+0 < P. 1:1001(1000) ack 1 win 5000
			+0~+.5 > . 1:1(0) ack 1001
			+0 recvmsg(4, {msg_name(...)=..., msg_iov(1)=[{..., 400}], msg_flags=0, msg_control=[{cmsg_level=SOL_TCP, cmsg_type=TCP_CM_INQ, cmsg_data=1}]}, 0) = 400`,
			drill.Failed, "recvmsg gave control messages [level 6 type 36 value 600], expected [level 6 type 36 value 1]"},
		"shell line":       {passive + "+0 `nstat | grep NoSuchCounter`\n", drill.Failed, `shell line "nstat | grep NoSuchCounter" ended with status 1`},
		"unknown setting":  {"`sysctl -q net.ipv4.no_such=1`\n" + handshake, drill.Failed, "setting net.ipv4.no_such to \"1\""},
		"without --shell":  {"`mkdir /none`\n" + handshake, drill.Refused, "With --shell a shell runs it"},
		"to send controls": {passive + "+0 sendmsg(4, {msg_iov(1)=[{..., 1}], msg_control=[{cmsg_level=SOL_IP, cmsg_type=IP_TOS, cmsg_data=1}]}, 0) = 1\n", drill.Refused, "can only be received, not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := drill.Parse("x.pkt", []byte(c.script))
			if err != nil {
				t.Fatal(err)
			}
			res := drill.Play(s, drill.Kernel)
			if res.Status != c.status || !strings.Contains(res.Message, c.says) {
				t.Errorf("%s, want %s with %q:\n%s", res.Status, c.status, c.says, res.Message)
			}
			if err := s.Check(drill.Kernel, drill.Environment{}); (err != nil) != (c.status == drill.Refused) {
				t.Errorf("check says %v", err)
			}
		})
	}
}

// TestKernelEnvironment holds what -D, --congestion and --shell do.
func TestKernelEnvironment(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun)
	dir := t.TempDir()
	text := slack + "`echo made > made`\n" + strings.Replace(handshake, "<mss 1460>", "<...>", 1) +
		"+0 getsockopt(4, SOL_TCP, TCP_CONGESTION, \"reno\", [4]) = 0\n+0 setsockopt(4, SOL_TCP, OPTION, [1], 4) = 0\n+0 getsockopt(4, SOL_TCP, TCP_NODELAY, [1], [4]) = 0\n"
	if err := os.WriteFile(filepath.Join(dir, "x.pkt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	o := drill.Options{Paths: []string{dir}, Target: drill.Kernel, Environment: drill.Environment{
		Shell: true, Congestion: "reno", Defines: map[string]string{"OPTION": "TCP_NODELAY"},
	}}
	r, err := drill.RunFiles(context.Background(), o)
	if err != nil || !r.OK() {
		t.Fatalf("%v, %+v", err, r.Results)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "made")); string(b) != "made\n" {
		t.Errorf("the shell line did not run in the script's directory: %q, %v", b, err)
	}
}

// TestCheckEither holds that a check without a target says on which a script would not run.
func TestCheckEither(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"both.pkt":    handshake,
		"kernel.pkt":  handshake + "+0 pipe([5, 6]) = 0\n",
		"shell.pkt":   "`mkdir x`\n" + handshake,
		"nowhere.pkt": "--frobnicate\n" + handshake,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{dir}, Check: true})
	if err != nil {
		t.Fatal(err)
	}
	var text, suite bytes.Buffer
	if err := r.WriteText(&text, false); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kernel.pkt\n  not on stack: " + dir + "/kernel.pkt:8:4: the userspace stack has no pipe",
		"shell.pkt\n  not on stack: " + dir + "/shell.pkt:1:2: shell line \"mkdir x\"",
		"  on kernel with --shell only: ",
		"BROKEN  " + dir + "/nowhere.pkt\n  " + dir + "/nowhere.pkt:1:1: --frobnicate: this option is not known",
		"1 broken, 3 read; 4 scripts",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, &text)
		}
	}
	if err := r.WriteSuite(&suite); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Fields(suite.String()), strings.Fields("scripts accepted failed refused broken folder 4 3 0 0 1 "+dir+" 4 3 0 0 1 all"); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("suite:\n%s", &suite)
	}
}
