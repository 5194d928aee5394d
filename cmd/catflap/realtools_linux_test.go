package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun/netns"
)

// The tests of this file put a kernel server and a catflap server into the same
// states, in one namespace, and hold the real tools' output against ours.

// Ports of both servers.
const (
	statesPort = 1000 // connections in several states
	halfPort   = 1001 // half-open connections
	udpPort    = 1002
)

// socketsHelper is the program inside the namespace: the kernel's server, the
// clients of both, and the tools.
const socketsHelper = "catflap-test-sockets"

// toolRun is what a tool and its counterpart printed.
type toolRun struct {
	Command       string
	Real, Ours    string
	RealRC, OurRC int
}

// serveStates accepts connections and does with each what its first byte says:
// 't' closes it first, so that TIME-WAIT is ours; anything else leaves it open.
func serveStates(l net.Listener) (stop func()) {
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			if _, err := io.ReadFull(c, b); err != nil || b[0] == 't' {
				c.Close()
				continue
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	})
	return func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	}
}

// makeStates connects so that the server at host has connections in ESTABLISHED,
// CLOSE-WAIT and TIME-WAIT.
func makeStates(host string) error {
	addr := net.JoinHostPort(host, fmt.Sprint(statesPort))
	dial := func(first string) (*net.TCPConn, error) {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			return nil, err
		}
		_, err = c.Write([]byte(first))
		return c.(*net.TCPConn), err
	}
	if _, err := dial("e"); err != nil {
		return err
	}
	w, err := dial("w")
	if err != nil {
		return err
	}
	if err := w.CloseWrite(); err != nil {
		return err
	}
	t, err := dial("t")
	if err != nil {
		return err
	}
	if _, err := t.Read(make([]byte, 1)); err != io.EOF {
		return fmt.Errorf("the server did not close: %w", err)
	}
	return t.Close()
}

// sendSYN sends a SYN from an address where nobody is, so that the server's SYN-ACK
// stays without an answer.
func sendSYN(src, dst string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	tcp := &layers.TCP{SrcPort: 4242, DstPort: halfPort, Seq: 1, SYN: true, Window: 65535}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		return err
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp); err != nil {
		return err
	}
	return unix.Sendto(fd, b.Bytes(), 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(dst).As4()})
}

// runSocketsHelper runs inside the namespace. It prints the toolRuns as JSON.
func runSocketsHelper() {
	if err := socketsHelperMain(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, socketsHelper+":", err)
		os.Exit(1)
	}
}

func socketsHelperMain(commands []string) error {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", statesPort))
	if err != nil {
		return err
	}
	serveStates(l)
	// A listener that waits for data keeps its connections in SYN-RECV.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var serr error
		if err := c.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60) }); err != nil {
			return err
		}
		return serr
	}}
	half, err := lc.Listen(context.Background(), "tcp4", fmt.Sprintf(":%d", halfPort))
	if err != nil {
		return err
	}
	defer half.Close() // one that nothing refers to is closed when the garbage collector comes by
	u, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", udpPort))
	if err != nil {
		return err
	}
	defer u.Close()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", halfPort))
	if err != nil {
		return err
	}
	defer c.Close()
	for _, host := range []string{"127.0.0.1", "10.9.0.2"} {
		if err := makeStates(host); err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
	}
	if err := sendSYN("10.9.0.99", "10.9.0.2"); err != nil {
		return err
	}
	for _, ss := range []string{"ss", "catflap ss"} {
		args := append(strings.Fields(ss), "-tan")
		for end := time.Now().Add(testenv.Patience); ; time.Sleep(time.Millisecond) {
			out, _ := output(args[0], args[1:]...)
			if strings.Count(out, "CLOSE-WAIT") >= 2 && strings.Contains(out, "TIME-WAIT") && strings.Contains(out, "SYN-RECV") {
				break
			}
			if time.Now().After(end) {
				return fmt.Errorf("%s -tan: not all states are there: %s", ss, out)
			}
		}
	}

	var runs []toolRun
	for _, c := range commands {
		r := toolRun{Command: c}
		args := strings.Fields(c)
		if args[0] == "lsof" {
			args = append(args, "-a", "-p", fmt.Sprint(os.Getpid()))
		}
		r.Real, r.RealRC = output(args[0], args[1:]...)
		r.Ours, r.OurRC = output("catflap", strings.Fields(c)...)
		runs = append(runs, r)
	}
	return json.NewEncoder(os.Stdout).Encode(runs)
}

// output runs a tool; a failure is part of what it says.
func output(name string, args ...string) (string, int) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	b, err := cmd.Output()
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		return string(b) + string(ee.Stderr), ee.ExitCode()
	case err != nil:
		return err.Error(), -1
	}
	return string(b), 0
}

// beside runs the commands in a namespace with both servers.
func beside(t *testing.T, commands ...string) []toolRun {
	t.Helper()
	testenv.Require(t, testenv.Root, testenv.Tun, "ip", "ss", "netstat", "lsof")
	ns, err := netns.Start(t.Context(), netns.Config{HostAddrs: instance.DefaultHostAddrs})
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	i, err := instance.Start(instance.Config{Peers: []netip.Addr{instance.DefaultHostAddrs[0].Addr()}}, ns.Device())
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	socket := filepath.Join(t.TempDir(), "c.sock")
	if err := i.Control(socket, "test"); err != nil {
		t.Fatal(err)
	}
	l, err := i.Stack().Listen("tcp4", fmt.Sprintf(":%d", statesPort))
	if err != nil {
		t.Fatal(err)
	}
	defer serveStates(l)()
	half, err := i.Stack().Listen("tcp4", fmt.Sprintf(":%d", halfPort))
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	u, err := i.Stack().ListenPacket("udp4", fmt.Sprintf(":%d", udpPort))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()

	helper, err := exec.LookPath(socketsHelper)
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	rc, err := ns.Run(t.Context(), netns.Command{
		Args: append([]string{helper}, commands...), Env: withVar(os.Environ(), controlEnv, socket), Stdout: &out, Stderr: &stderr,
	})
	if err != nil || rc != 0 {
		t.Fatalf("helper: status %d, %v\n%s", rc, err, &stderr)
	}
	var runs []toolRun
	if err := json.Unmarshal(out.Bytes(), &runs); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return runs
}

// table is a tool's output as one parser reads it: the header's words, and the
// kinds of rows there are.
type table struct {
	Header string
	Rows   []string
}

var (
	wildcard = regexp.MustCompile(`^(0\.0\.0\.0|\*):(\*|\d+)$`)
	endpoint = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+:\d+$`)
	pair     = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+:\d+->\d+\.\d+\.\d+\.\d+:\d+$`)
	owner    = regexp.MustCompile(`^\d+/\S+$`)
	users    = regexp.MustCompile(`^users:\(\("[^"]+",pid=\d+,fd=\d+\)\)$`)
	timer    = regexp.MustCompile(`^\(\d+\.\d\d/\d+/\d+\)$`)
	ssTime   = regexp.MustCompile(`^timer:\((\w+),[\w.]+,\d+\)$`)
	fd       = regexp.MustCompile(`^\d+u$`)
	number   = regexp.MustCompile(`^\d+$`)
)

// kind is what a word of a row is; the word itself if it is a spelling to keep.
func kind(word string) string {
	switch {
	case wildcard.MatchString(word):
		_, port, _ := strings.Cut(word, ":")
		if port != "*" {
			port = "PORT"
		}
		return strings.SplitN(word, ":", 2)[0] + ":" + port
	case endpoint.MatchString(word):
		return "ADDR:PORT"
	case pair.MatchString(word):
		return "ADDR:PORT->ADDR:PORT"
	case owner.MatchString(word):
		return "PID/PROGRAM"
	case users.MatchString(word):
		return "USERS"
	case timer.MatchString(word):
		return "(S/N/N)"
	case ssTime.MatchString(word):
		return ssTime.ReplaceAllString(word, "timer:($1,TIME,N)")
	case fd.MatchString(word):
		return "FDu"
	case number.MatchString(word):
		return "N"
	}
	return word
}

// served matches the rows of the servers under test, by their local port: the first
// address of the row.
var served = regexp.MustCompile(`^[^:]*:100[012](\s|->)`)

// parse reads a table whose header is n lines.
func parse(out string, n int) (t table) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) < n {
		return table{Header: out}
	}
	var header []string
	for _, l := range lines[:n] {
		header = append(header, strings.Fields(strings.ReplaceAll(l, "PortProcess", "Port Process"))...)
	}
	t.Header = strings.Join(header, " ")
	for _, l := range lines[n:] {
		if !served.MatchString(l) {
			continue
		}
		var words []string
		for _, w := range strings.Fields(l) {
			words = append(words, kind(w))
		}
		if strings.HasPrefix(out, "COMMAND") {
			words[0] = "COMMAND"
		}
		t.Rows = append(t.Rows, strings.Join(words, " "))
	}
	slices.Sort(t.Rows)
	t.Rows = slices.Compact(t.Rows)
	return t
}

// TestBesideRealTools compares headers, columns and spellings.
func TestBesideRealTools(t *testing.T) {
	headers := map[string]int{"ss": 1, "netstat": 2, "lsof": 1}
	for _, r := range beside(t,
		"ss -tan", "ss -tln", "ss -uan", "ss -tuan", "ss -tn", "ss -uln", "ss -tanp", "ss -4tan", "ss -ta", "ss -tlp",
		"ss -tan state close-wait", "ss -tan state connected", "ss -tan exclude listening", "ss -tan state bucket", "ss -tan state synchronized", "ss -tn state listening", "ss -tan state all", "ss -tan state big",
		"ss -tan sport = :1000", "ss -tan ( sport = :1000 or sport = :1001 )", "ss -tan sport >= :1000 and sport lt :1002", "ss -tan not sport = :1000", "ss -tan ! ( sport != :1000 )", "ss -tan src *:1000", "ss -tan state close-wait sport eq 1000",
		"ss -tanO", "ss -f inet -tan", "ss -tuan sport = :1002", "ss -tan sport = :1000 | sport = :1001", "ss -tan sport = :1000 sport = :1000",
		"netstat -tan", "netstat -tln", "netstat -uan", "netstat -tuan", "netstat -tn", "netstat -tulnp", "netstat -4tanW",
		"lsof -nP -i", "lsof -nP -iTCP", "lsof -nP -i4UDP", "lsof -nP -iTCP:1000 -sTCP:LISTEN", "lsof -n -P -i :1001",
		"lsof -nP -iTCP:1000 -sTCP:^LISTEN", "lsof -nP -iTCP -sTCP:ESTABLISHED,CLOSE_WAIT", "lsof +c 0 -nP -iTCP",
	) {
		tool, _, _ := strings.Cut(r.Command, " ")
		real, ours := parse(r.Real, headers[tool]), parse(r.Ours, headers[tool])
		if len(real.Rows) == 0 {
			t.Errorf("%s: the real tool shows nothing of the server:\n%s", r.Command, r.Real)
		}
		if d := cmp.Diff(real, ours); d != "" {
			t.Errorf("%s (-%s +catflap):\n%s\n%s:\n%s\ncatflap:\n%s", r.Command, tool, d, tool, r.Real, r.Ours)
		}
		if r.RealRC != r.OurRC {
			t.Errorf("%s: exit status %d; %s gives %d", r.Command, r.OurRC, tool, r.RealRC)
		}
	}
}

// TestBesideRealNetstat holds the fixed columns of net-tools byte by byte.
func TestBesideRealNetstat(t *testing.T) {
	for _, r := range beside(t, "netstat -tan", "netstat -tanp", "netstat -uln", "netstat -tn") {
		columns := func(out string) (lines []string) {
			for i, l := range strings.Split(out, "\n") {
				if i < 2 {
					lines = append(lines, l)
				} else if f := strings.Fields(l); len(f) > 5 {
					// Where each word begins, but for the numbers, which end in their columns.
					lines = append(lines, fmt.Sprint(strings.Index(l, f[3]), strings.Index(l, " "+f[4])+1, len(l)))
				}
			}
			slices.Sort(lines)
			return slices.Compact(lines)
		}
		if d := cmp.Diff(columns(r.Real), columns(r.Ours)); d != "" {
			t.Errorf("%s (-netstat +catflap):\n%s", r.Command, d)
		}
	}
}
