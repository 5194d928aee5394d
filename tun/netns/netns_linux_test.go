package netns

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"golang.org/x/sys/unix"
)

var hostAddrs = []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:9::1/64")}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		testenv.Skip(t, "not root", "run the tests as root")
	}
}

func startNS(t testing.TB) *Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ns, err := Start(ctx, Config{HostAddrs: hostAddrs})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		testenv.Skip(t, err.Error(), tun.Diagnose(err))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return ns
}

// sh runs a shell script and returns its exit status and what it wrote to standard output.
func sh(t testing.TB, ns *Namespace, script string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	status, err := ns.Run(ctx, Command{Args: []string{"sh", "-c", script}, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	if stderr.Len() > 0 {
		t.Logf("%s: %s", script, stderr.String())
	}
	return status, stdout.String()
}

func TestRunStatus(t *testing.T) {
	ns := startNS(t)
	for script, want := range map[string]int{
		"true":          0,
		"false":         1,
		"exit 7":        7,
		"exit 255":      255,
		"kill -TERM $$": 128 + 15,
		"kill -KILL $$": 128 + 9,
	} {
		if got, _ := sh(t, ns, script); got != want {
			t.Errorf("%s: status %d, want %d", script, got, want)
		}
	}
	for _, args := range [][]string{nil, {"no-such-command-anywhere"}, {"/etc/passwd"}, {"/"}} {
		if _, err := ns.Run(context.Background(), Command{Args: args}); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if _, err := ns.Run(context.Background(), Command{Args: []string{"true"}, Dir: "/no/such/directory"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Run in a directory that does not exist: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ns.Run(ctx, Command{Args: []string{"true"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("Run with a canceled context: %v", err)
	}
}

func TestRunEnvironment(t *testing.T) {
	ns := startNS(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(w, "to stdin\n")
	w.Close()
	defer r.Close()
	var both bytes.Buffer
	status, err := ns.Run(context.Background(), Command{
		Args:  []string{"sh", "-c", `cat; echo "$KEY"; pwd; echo to stderr >&2`},
		Env:   []string{"KEY=value", "PATH=" + os.Getenv("PATH")},
		Dir:   "/usr",
		Stdin: r, Stdout: &both, Stderr: &both,
	})
	if want := "to stdin\nvalue\n/usr\nto stderr\n"; status != 0 || err != nil || both.String() != want {
		t.Errorf("status %d, %v, output %q; want %q", status, err, both.String(), want)
	}
	if status, err := ns.Run(context.Background(), Command{Args: []string{"sh", "-c", "read x || echo x; echo y >&2"}}); status != 0 || err != nil {
		t.Errorf("without standard files: status %d, %v", status, err)
	}
	// The descriptors of this process are not the command's.
	if _, out := sh(t, ns, "ls /proc/self/fd"); out != "0\n1\n2\n3\n" { // 3 is ls's own, on the directory
		t.Errorf("the command has the descriptors %q", out)
	}
}

// TestInside: what a command finds in the namespace.
func TestInside(t *testing.T) {
	ns := startNS(t)
	_, out := sh(t, ns, "cat /proc/net/if_inet6")
	addresses := map[string]uint64{} // address and interface: flags
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		flags, err := strconv.ParseUint(f[4], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		addresses[f[0]+" "+f[5]] = flags
	}
	if _, ok := addresses["00000000000000000000000000000001 lo"]; !ok {
		t.Errorf("the loopback interface is not up: %v", addresses)
	}
	flags, ok := addresses["fd000009000000000000000000000001 cat0"]
	if !ok || flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 {
		t.Errorf("fd00:9::1 is not there or not usable at once: %v", addresses)
	}
	if _, out := sh(t, ns, "cat /proc/net/route"); !strings.Contains(out, "cat0\t0000090A") {
		t.Errorf("10.9.0.0/24 is not routed to cat0:\n%s", out)
	}
	if _, out := sh(t, ns, "id -u"); out != "0\n" {
		t.Errorf("the command's user is %q, want root", out)
	}
	outside, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if _, out := sh(t, ns, "readlink /proc/self/ns/net"); strings.TrimSpace(out) == outside {
		t.Error("the command runs in our own namespace")
	}
	// This process stays where it is.
	if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != outside {
		t.Errorf("we are now in %s", now)
	}
	if _, out := sh(t, ns, "echo $$; readlink /proc/self/../self; cat /proc/1/cmdline"); !strings.Contains(out, initName) {
		t.Errorf("/proc does not show the PID namespace: %q", out)
	}
}

func TestRunConcurrently(t *testing.T) {
	ns := startNS(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var out bytes.Buffer
			status, err := ns.Run(context.Background(), Command{Args: []string{"sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i)}, Stdout: &out})
			if err != nil || status != i || out.String() != fmt.Sprintln(i) {
				t.Errorf("command %d: status %d, output %q, %v", i, status, out.String(), err)
			}
		})
	}
	wg.Wait()
	// Orphans are not left as zombies.
	sh(t, ns, "for i in 1 2 3; do (sleep 0.01 &) ; done")
	testenv.Await(t, "the orphans to be reaped", func() bool { return len(members(t, ns)) == 1 })
}

// members are the processes in ns's network namespace, zombies included, as this process sees them.
func members(t testing.TB, ns *Namespace) []int {
	t.Helper()
	var pids []int
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	// A zombie has no namespaces any more, so go by ancestry.
	parents := map[int]int{}
	for _, dir := range all {
		b, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		parents[pid], _ = strconv.Atoi(fields[1])
	}
	for pid := range parents {
		for p := pid; p > 0; p = parents[p] {
			if p == ns.PID() {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

func TestRunCanceled(t *testing.T) {
	ns := startNS(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		bufio.NewReader(r).ReadString('\n')
		cancel()
		io.Copy(io.Discard, r)
	}()
	begin := time.Now()
	// The background process keeps the pipe open beyond the death of its parent.
	_, err := ns.Run(ctx, Command{Args: []string{"sh", "-c", "sleep 1000 & echo ready; wait"}, Stdout: w})
	w.Close()
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 5*time.Minute {
		t.Errorf("Run returned %v after %v, want context.Canceled, and not at the end of a sleep of 1000 s", err, time.Since(begin))
	}
	if status, _ := sh(t, ns, "true"); status != 0 {
		t.Errorf("the namespace is not usable afterwards: status %d", status)
	}
}

func TestRunSignals(t *testing.T) {
	ns := startNS(t)
	signals := make(chan os.Signal, 1)
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		bufio.NewReader(r).ReadString('\n')
		signals <- syscall.SIGTERM
		io.Copy(io.Discard, r)
	}()
	status, err := ns.Run(context.Background(), Command{
		Args:    []string{"sh", "-c", `trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done`},
		Stdout:  w,
		Signals: signals,
	})
	if status != 9 || err != nil {
		t.Errorf("status %d, %v; want 9", status, err)
	}
}

// waitGone fails unless no process of the network namespace net is left soon.
func waitGone(t testing.TB, net string) {
	t.Helper()
	testenv.Await(t, "the last process to leave "+net, func() bool { return len(holders(net)) == 0 })
}

func holders(net string) (pids []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		if target, _ := os.Readlink(link); target == net {
			pids = append(pids, link)
		}
	}
	return pids
}

// TestClose: nothing remains, not even what has left its session, and who waits is told.
func TestClose(t *testing.T) {
	ns := startNS(t)
	net, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", ns.PID()))
	if err != nil {
		t.Fatal(err)
	}
	sh(t, ns, "setsid sleep 100 >/dev/null 2>&1 & (trap '' TERM HUP; sleep 100) >/dev/null 2>&1 &")
	before := len(holders(net))
	if before < 3 {
		t.Fatalf("%d processes in the namespace, want at least 3", before)
	}
	result := make(chan error)
	go func() {
		_, err := ns.Run(context.Background(), Command{Args: []string{"sleep", "100"}})
		result <- err
	}()
	testenv.Await(t, "the command to start", func() bool { return len(holders(net)) > before })
	for range 2 {
		if err := ns.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	waitGone(t, net)
	if err := <-result; !errors.Is(err, ErrClosed) || !errors.Is(err, os.ErrClosed) {
		t.Errorf("Run during Close: %v, want ErrClosed", err)
	}
	if _, err := ns.Run(context.Background(), Command{Args: []string{"true"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v, want ErrClosed", err)
	}
	<-ns.Done()
	<-ns.Device().Done()
}

// TestInitDies: the death of the first process is noticed.
func TestInitDies(t *testing.T) {
	ns := startNS(t)
	if err := syscall.Kill(ns.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ns.Done():
	case <-time.After(time.Minute):
		t.Fatal("not noticed")
	}
	if _, err := ns.Run(context.Background(), Command{Args: []string{"true"}}); !errors.Is(err, ErrClosed) {
		t.Errorf("Run: %v, want ErrClosed", err)
	}
}

func TestStartErrors(t *testing.T) {
	var config *tun.ConfigError
	if _, err := Start(context.Background(), Config{Device: tun.Config{MTU: 20}}); !errors.As(err, &config) {
		t.Errorf("MTU 20: %v, want a ConfigError", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Start(ctx, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled context: %v", err)
	}
	initCalled.Store(false)
	if _, err := Start(context.Background(), Config{}); err == nil || !strings.Contains(err.Error(), "netns.Init") {
		t.Errorf("without Init: %v", err)
	}
	initCalled.Store(true)

	needRoot(t)
	// Errors keep their type on the way from the other process.
	_, err := Start(context.Background(), Config{Device: tun.Config{Path: t.TempDir() + "/tun"}})
	if op := (*tun.OpError)(nil); !errors.As(err, &op) || op.Op != tun.OpOpen || !errors.Is(err, os.ErrNotExist) || !strings.Contains(tun.Diagnose(err), "modprobe tun") {
		t.Errorf("no device file: %v (remedy %q)", err, tun.Diagnose(err))
	}
	_, err = Start(context.Background(), Config{Device: tun.Config{MTU: 1000}, HostAddrs: hostAddrs})
	if !strings.Contains(tun.Diagnose(err), "1280") {
		t.Errorf("IPv6 address with MTU 1000: %v (remedy %q)", err, tun.Diagnose(err))
	}
}

// startHelper starts runHelper as another process.
func startHelper(t *testing.T, attr *syscall.SysProcAttr, stdin *os.File, path string, command ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"netns.test", helper, path}, command...), Stdin: stdin, Stdout: w, Stderr: os.Stderr, SysProcAttr: attr}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		r.Close()
	})
	return cmd, bufio.NewReader(r)
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("%v after %q", err, s)
	}
	return strings.TrimSpace(s)
}

// TestMakerKilled: nothing remains after SIGKILL of the process that made the namespace.
func TestMakerKilled(t *testing.T) {
	startNS(t) // or skip
	cmd, out := startHelper(t, nil, nil, tun.DefaultPath, "sh", "-c", "setsid sleep 100 & (trap '' TERM HUP; sleep 100) & echo ready; wait")
	var pid int
	if _, err := fmt.Sscanf(line(t, out), "init %d", &pid); err != nil {
		t.Fatal(err)
	}
	net, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	if got := line(t, out); got != "ready" {
		t.Fatalf("got %q, want ready", got)
	}
	if got := len(holders(net)); got < 4 {
		t.Fatalf("%d processes in the namespace, want at least 4", got)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	waitGone(t, net)
}

// TestUnprivileged: with access to the device file a user needs no privilege; without it there is a remedy.
func TestUnprivileged(t *testing.T) {
	needRoot(t)
	dir, err := os.MkdirTemp("/tmp", "netns")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/tun"
	if err := errors.Join(os.Chmod(dir, 0o755), unix.Mknod(path, unix.S_IFCHR, int(unix.Mkdev(10, 200)))); err != nil {
		testenv.Skip(t, err.Error(), "run the tests as root outside of a container")
	}
	const nobody = 65534
	for _, mode := range []os.FileMode{0o666, 0o600} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, out := startHelper(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, nil, path, "sh", "-c", "id -u; exit 3")
		all, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		got := string(all)
		if mode == 0o600 {
			if !strings.Contains(got, "permission denied") || !strings.Contains(got, "remedy: as root: chmod 0666 "+path) {
				t.Errorf("mode %o: %q, want permission denied and the remedy", mode, got)
			}
			continue
		}
		if strings.Contains(got, "start: tun: namespace") {
			testenv.Skip(t, got, "allow user namespaces")
		}
		if !strings.Contains(got, "\n0\n") || !strings.Contains(got, "status 3 err <nil>") || !strings.Contains(got, "device offload cat0") {
			t.Errorf("mode %o: %q, want the command run as root of its namespace, with status 3", mode, got)
		}
	}
}

// TestTerminal: a command has the terminal's foreground while it runs, and its maker has it back afterwards.
func TestTerminal(t *testing.T) {
	startNS(t) // or skip
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testenv.Skip(t, err.Error(), "mount /dev/pts")
	}
	defer master.Close()
	n, err := onFD(master, func(fd int) (int, error) {
		if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
			return 0, err
		}
		return unix.IoctlGetInt(fd, unix.TIOCGPTN)
	})
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	_, out := startHelper(t, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}, slave, tun.DefaultPath,
		"sh", "-c", `trap "exit 5" INT; echo ready; while :; do sleep 0.02; done`)
	line(t, out) // init PID
	if got := line(t, out); got != "ready" {
		t.Fatalf("got %q, want ready", got)
	}
	if _, err := master.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if got := line(t, out); !strings.HasPrefix(got, "status 5 err <nil> foreground true") {
		t.Errorf("after Ctrl-C: %q, want the command's own status, and the terminal back", got)
	}
}
