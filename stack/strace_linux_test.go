//go:build linux

package stack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/testenv"
)

// straceEnd is where the script's last call goes: it fails.
const straceEnd = "127.255.255.255:9999"

// straceScript is what strace watches a process do, and we ourselves.
func straceScript(x *script) {
	l := x.socketp(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP)
	x.set(l, SOL_SOCKET, SO_REUSEADDR, 1)
	x.bind(l, "127.0.0.1:0")
	x.bind(l, "127.0.0.1:0")
	x.listen(l, 4096)
	x.getsockname(l)
	x.get(l, SOL_SOCKET, SO_ERROR)
	e := x.epoll()
	x.epollctl(e, EPOLL_CTL_ADD, l, POLLIN|POLLOUT|POLLRDHUP|EPOLLET)
	x.epollwait(e)
	x.poll(l, POLLIN)
	c := x.tcp()
	x.connect(c, x.name(l))
	x.epollwait(e)
	x.poll(l, POLLIN|POLLPRI)
	s := x.accept4(l, SOCK_CLOEXEC|SOCK_NONBLOCK)
	x.epollctl(e, EPOLL_CTL_DEL, l, 0)
	x.set(s, SOL_TCP, TCP_NODELAY, 1)
	x.set(s, SOL_SOCKET, SO_KEEPALIVE, 1)
	x.set(s, SOL_TCP, TCP_KEEPINTVL, 15)
	x.set(s, SOL_SOCKET, SO_LINGER, Linger{1, 5})
	x.read(s, 9)
	x.write(c, "GET / HTTP/1.1\r\nHost: 10.9.0.2\r\nUser-Agent: cat\x00\x011\xff\r\n\r\n")
	x.read(s, 4096)
	x.send(s, "meow", 0)
	x.read(c, 9)
	x.getpeername(c)
	x.fcntl(c, F_GETFL, 0)
	x.fcntl(c, F_SETFL, O_NONBLOCK)
	x.ioctl(c, SIOCINQ)
	x.shutdown(c, SHUT_WR)
	x.read(s, 9)
	x.close(s)
	x.close(c)
	x.close(c)
	u, v := x.udp(), x.socket(AF_INET6, SOCK_DGRAM)
	x.bind(u, "127.0.0.1:0")
	x.sendto(x.udp(), "\"quoted\\\t", 0, x.name(u))
	x.recvfrom(u, 5, MSG_DONTWAIT|MSG_PEEK)
	x.sendmsg(x.udp(), x.name(u), "ab", "cd")
	x.recvmsg(u, 0, 5, 5)
	x.connect(v, "[::1]:7")
	x.getpeername(v)
	x.connect(x.udp(), straceEnd)
}

const straceHelper = "CATFLAP_STRACE_HELPER"

// TestStraceHelper is the process that strace follows; alone it does nothing.
func TestStraceHelper(t *testing.T) {
	if os.Getenv(straceHelper) == "" {
		return
	}
	runtime.LockOSThread() // never unlocked: it is bound to a processor
	delivered, err := kernelQuiesce()
	must(t, err)
	time.Sleep(time.Nanosecond) // no wait: the runtime makes the epoll instance of its own before the script begins
	run(t, kernel{}, func() { must(t, delivered()) }, straceScript)
}

// straceLine is a line of strace's output, taken apart.
type straceLine struct {
	Name string
	Args []string
	Ret  string
}

var straceNoise = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`0x[0-9a-f]{6,}`), "PTR"},            // where a buffer is
	{regexp.MustCompile(`^NULL$`), "PTR"},                    // we have no buffer for an address
	{regexp.MustCompile(`htons\([0-9]{5}\)`), "htons(PORT)"}, // ephemeral
	{regexp.MustCompile(`\bfd=[0-9]+`), "fd=FD"},
	{regexp.MustCompile(`u32=[0-9]+, u64=[0-9]+`), "u32=FD, u64=FD"},
	{regexp.MustCompile(`^\[112\]$`), "PTR"},
}

// parseStrace reads a line, ours or strace's.
func parseStrace(t *testing.T, line string) straceLine {
	name, rest, ok := strings.Cut(line, "(")
	if !ok {
		t.Fatalf("no call: %q", line)
	}
	var args []string
	depth, quoted, start := 0, false, 0
	end := -1
	for i := 0; i < len(rest) && end < 0; i++ {
		switch c := rest[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case c == ')' && depth == 0:
			args, end = append(args, rest[start:i]), i
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case c == ',' && depth == 0:
			args, start = append(args, rest[start:i]), i+2
		}
	}
	if end < 0 {
		t.Fatalf("no end of arguments: %q", line)
	}
	_, ret, ok := strings.Cut(rest[end:], " = ")
	if !ok {
		t.Fatalf("no result: %q", line)
	}
	for i := range args {
		if i == 0 && !strings.HasPrefix(args[0], "AF_") && !strings.HasPrefix(args[0], "[") && args[0] != "0" || name == "epoll_ctl" && i == 2 {
			args[i] = "FD"
		}
		for _, n := range straceNoise {
			args[i] = n.re.ReplaceAllString(args[i], n.with)
		}
	}
	for _, n := range straceNoise {
		ret = n.re.ReplaceAllString(ret, n.with)
	}
	switch name {
	case "ppoll": // what x/sys makes of Poll: the timeout is a struct, and there is a signal mask
		name, args = "poll", append(args[:2:2], "0")
		ret, _, _ = strings.Cut(ret, ", left ")
		if strings.HasPrefix(ret, "1 ([") && !strings.HasSuffix(ret, ")") {
			ret += ")"
		}
	case "epoll_pwait":
		name, args = "epoll_wait", args[:4]
	case "socket", "accept4", "epoll_create1":
		ret = regexp.MustCompile(`^[0-9]+$`).ReplaceAllString(ret, "FD")
	}
	return straceLine{name, args, ret}
}

// TestAsStrace runs a script under strace, and on the stack with a subscription,
// and compares what strace writes with what we write.
func TestAsStrace(t *testing.T) {
	testenv.Require(t, "strace")
	out := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command("strace", "-f", "-o", out, "-e", "trace=socket,bind,listen,accept4,connect,read,write,sendto,recvfrom,sendmsg,recvmsg,shutdown,close,setsockopt,getsockopt,getsockname,getpeername,poll,ppoll,epoll_create1,epoll_ctl,epoll_wait,epoll_pwait,fcntl,ioctl",
		os.Args[0], "-test.run=^TestStraceHelper$")
	cmd.Env = append(os.Environ(), straceHelper+"=1")
	if b, err := cmd.CombinedOutput(); err != nil {
		if strings.Contains(string(b), "PTRACE") || strings.Contains(string(b), "ptrace") {
			testenv.Skip(t, "no process may be traced here: "+string(b), "allow ptrace (kernel.yama.ptrace_scope=1, CAP_SYS_PTRACE in containers)")
		}
		t.Fatalf("%v: %s", err, b)
	}
	b, err := os.ReadFile(out)
	must(t, err)
	var theirs []straceLine
	started := false
	unfinished := map[string]string{} // by process
	for line := range strings.Lines(string(b)) {
		pid, line, _ := strings.Cut(strings.TrimSpace(line), " ")
		line = strings.TrimSpace(line)
		if head, ok := strings.CutSuffix(line, " <unfinished ...>"); ok {
			unfinished[pid] = head
			continue
		}
		if strings.HasPrefix(line, "<... ") {
			_, tail, _ := strings.Cut(line, " resumed>")
			line = unfinished[pid] + tail
		}
		// The script's calls, without those of the runtime around it, and without
		// the question that x/sys asks to know what kind of address it has.
		started = started || strings.HasPrefix(line, "socket(AF_INET, SOCK_STREAM")
		if !started || strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "---") || strings.Contains(line, "SO_PROTOCOL") ||
			strings.Contains(line, fmt.Sprintf("(%d, ", quiesceFD)) ||
			strings.HasPrefix(line, "epoll_pwait") && strings.Contains(line, ", 128, ") { // the runtime's own

			continue
		}
		theirs = append(theirs, parseStrace(t, line))
	}

	s := newStack(t, Config{})
	sub := s.Subscribe(t.Context(), 10000)
	run(t, s.Sys(), func() { s.Quiesce(); s.Quiesce() }, straceScript)
	sub.Close()
	var ours []straceLine
	for ev := range sub.Events() {
		if ev.Call != nil {
			ours = append(ours, parseStrace(t, FormatCall(ev.Call)))
		}
	}
	// At the end each closes what is open, and the process says PASS.
	cut := func(l []straceLine) []straceLine {
		for i := range l {
			if l[i].Name == "connect" && strings.Contains(strings.Join(l[i].Args, " "), "127.255.255.255") {
				return l[:i+1]
			}
		}
		t.Fatalf("the script's end is missing in %v", l)
		return nil
	}
	if d := cmp.Diff(cut(theirs), cut(ours)); d != "" {
		t.Errorf("strace (-) and we (+) differ:\n%s", d)
	}
}
