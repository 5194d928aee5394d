package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// nobody has a program run as the user of this name, who has no privilege. The test must be root's.
var nobody = []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"}

// startProxies starts catflap proxy as nobody, and returns where each proxy listens.
func startProxies(t *testing.T, bin string, args ...string) (p *process, at map[string]string) {
	t.Helper()
	p = start(t, command{args: slices.Concat(nobody, []string{bin, "proxy"}, args)})
	at = map[string]string{}
	for _, a := range args {
		if name, _, ok := strings.Cut(a, "="); ok && !strings.HasPrefix(a, "-") {
			p.await(`(?m)^catflap: ` + name + `: \S+ → `)
			at[name] = regexp.MustCompile(`(?m)^catflap: ` + name + `: (\S+) → `).FindStringSubmatch(p.stderr.String())[1]
		}
	}
	return p, at
}

// stop ends a program as its user would, and wants nothing of it left.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	p.wait().want(t, 0)
}

// freePort is a port of 127.0.0.1 on which nobody is.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// awaitPort waits until somebody listens on a port of 127.0.0.1.
func awaitPort(t testing.TB, p *process, port string) {
	t.Helper()
	testenv.Await(t, p.args[0]+" to listen on port "+port, func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// badLink is what the issue of all this is.
const badLink = "loss 2% delay 20ms seed 7"

// PostgreSQL behind a bad link, all as an ordinary user.
func TestProxyPostgreSQL(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv", "psql", "initdb", "pgbench")
	bin := catflap(t)
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal(err)
	}
	if initdb, err = filepath.EvalSymlinks(initdb); err != nil {
		t.Fatal(err)
	}
	bindir := filepath.Dir(initdb)
	dir := sharedDir(t)
	data := filepath.Join(dir, "data")
	as := func(args ...string) result {
		t.Helper()
		return start(t, command{args: slices.Concat(nobody, args), env: []string{"PGCONNECT_TIMEOUT=60"}}).wait()
	}
	as(filepath.Join(bindir, "initdb"), "-D", data, "-U", "cat", "-A", "trust", "--no-sync").want(t, 0)
	port := freePort(t)
	db := start(t, command{args: slices.Concat(nobody, []string{filepath.Join(bindir, "postgres"), "-D", data, "-p", port, "-h", "127.0.0.1", "-k", dir, "-F"})})
	awaitPort(t, db, port)
	p, at := startProxies(t, bin, "pg=127.0.0.1:0=127.0.0.1:"+port, "--netem", badLink)
	_, through, _ := net.SplitHostPort(at["pg"])
	psql := []string{"psql", "-h", "127.0.0.1", "-p", through, "-U", "cat", "-d", "postgres", "-At"}
	testenv.Await(t, "the database to start", func() bool { return as(append(psql, "-c", "select 1")...).status == 0 })
	if r := as(append(psql, "-c", "select sum(n), md5(string_agg(n::text, ',')) from generate_series(1, 20000) n")...).want(t, 0); !strings.HasPrefix(r.stdout, "200010000|") {
		t.Errorf("psql: %q", r.stdout)
	}
	bench := []string{"-h", "127.0.0.1", "-p", through, "-U", "cat", "postgres"}
	as(slices.Concat([]string{"pgbench", "-i", "-q"}, bench)...).want(t, 0)
	r := as(slices.Concat([]string{"pgbench", "-c", "8", "-j", "2", "-t", "5"}, bench)...).want(t, 0)
	if !strings.Contains(r.stdout, "number of transactions actually processed: 40/40") {
		t.Errorf("pgbench: %s", r.stdout)
	}
	if show := run(t, bin, "--control", controlOf(p, "pg"), "netem", "show").want(t, 0); !regexp.MustCompile(`lost \d+`).MatchString(show.stdout) {
		t.Errorf("the link has lost nothing: %s", show.stdout)
	}
	p.stop(t)
	db.cmd.Process.Signal(syscall.SIGINT) // fast shutdown
	db.wait().want(t, 0)
	os.RemoveAll(dir)
}

// controlOf is the control socket of a proxy of p.
func controlOf(p *process, name string) string {
	for _, e := range p.cmd.Env {
		if dir, ok := strings.CutPrefix(e, "XDG_RUNTIME_DIR="); ok {
			return filepath.Join(dir, "catflap", name+".sock")
		}
	}
	return ""
}

func TestProxyRedis(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv", "redis-server", "redis-benchmark")
	port := freePort(t)
	db := start(t, command{args: slices.Concat(nobody, []string{"redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir", sharedDir(t)})})
	awaitPort(t, db, port)
	p, at := startProxies(t, catflap(t), "redis=127.0.0.1:0=127.0.0.1:"+port, "--netem", "loss 2% delay 2ms seed 7")
	_, through, _ := net.SplitHostPort(at["redis"])
	r := run(t, "redis-benchmark", "-h", "127.0.0.1", "-p", through, "-n", "200", "-c", "50", "-P", "4", "-d", "1000", "-t", "set,get,lrange_100", "--csv").want(t, 0)
	for _, test := range []string{`"SET"`, `"GET"`, `"LRANGE_100`} {
		if !strings.Contains(r.stdout, test) {
			t.Errorf("redis-benchmark: no %s in %s", test, r.stdout)
		}
	}
	p.stop(t)
	db.cmd.Process.Signal(syscall.SIGTERM)
	db.wait()
}

// memcached over UDP: its frames are numbered, so that a lost one is asked for again.
func TestProxyMemcached(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv", "memcached")
	port := freePort(t)
	db := start(t, command{args: slices.Concat(nobody, []string{"memcached", "-p", port, "-U", port, "-l", "127.0.0.1"})})
	awaitPort(t, db, port)
	p, at := startProxies(t, catflap(t), "mc=127.0.0.1:0=127.0.0.1:"+port+"/udp", "--netem", "drop udp every 3 from client")
	c, err := net.Dial("udp", at["mc"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 30 {
		request := fmt.Sprintf("\x00%c\x00\x00\x00\x01\x00\x00set k%d 0 0 5\r\nvalue\r\n", i+1, i)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		if (i+1)%3 == 0 {
			continue // this one is lost
		}
		b := make([]byte, 2000)
		if n, err := c.Read(b); err != nil || !bytes.HasSuffix(b[:n], []byte("STORED\r\n")) || b[1] != byte(i+1) {
			t.Fatalf("request %d: %q, %v", i, b[:n], err)
		}
	}
	p.stop(t)
	db.cmd.Process.Signal(syscall.SIGTERM)
	db.wait()
}

// nc -N sends all it reads and then its FIN, and prints what comes until the other's: both ways.
func TestProxyHalfClose(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv", "nc")
	port := freePort(t)
	p, at := startProxies(t, catflap(t), "nc=127.0.0.1:0=127.0.0.1:"+port, "--netem", badLink)
	host, through, _ := net.SplitHostPort(at["nc"])
	question, answer := strings.Repeat("question ", 20000), strings.Repeat("answer ", 30000)
	server := start(t, command{args: []string{"nc", "-v", "-N", "-l", "127.0.0.1", port}, stdin: strings.NewReader(answer)})
	server.await("Listening")
	client := start(t, command{args: []string{"nc", "-N", host, through}, stdin: strings.NewReader(question)})
	if r := client.wait().want(t, 0); r.stdout != answer {
		t.Errorf("the client got %d bytes, want %d", len(r.stdout), len(answer))
	}
	if r := server.wait().want(t, 0); r.stdout != question {
		t.Errorf("the server got %d bytes, want %d", len(r.stdout), len(question))
	}
	// Nobody listens any more: a reset, and a line that says so.
	run(t, "nc", "-N", host, through)
	p.await(`nc: dial tcp 127.0.0.1:` + port + `: connect: connection refused\ncatflap: is the server running`)
	p.stop(t)
}

// A large file comes through with its sum, both ways at once.
func TestProxyFile(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv")
	size := int64(1 << 30)
	if raceEnabled {
		size = 256 << 20
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, at := startProxies(t, fast(t), "file=127.0.0.1:0="+l.Addr().String())
	client, err := net.Dial("tcp", at["file"])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	var wg sync.WaitGroup
	var sums [2][2][]byte
	for i, ends := range [][2]net.Conn{{client, server}, {server, client}} {
		wg.Go(func() {
			h, src := sha256.New(), rand.NewChaCha8([32]byte{byte(i)})
			if n, err := io.CopyN(io.MultiWriter(ends[0], h), src, size); err != nil {
				t.Errorf("%d bytes were taken, %v", n, err)
			}
			ends[0].(*net.TCPConn).CloseWrite()
			sums[i][0] = h.Sum(nil)
		})
		wg.Go(func() {
			h := sha256.New()
			if n, err := io.Copy(h, ends[1]); err != nil || n != size {
				t.Errorf("%d bytes came, %v", n, err)
			}
			sums[i][1] = h.Sum(nil)
		})
	}
	wg.Wait()
	for i := range sums {
		if !bytes.Equal(sums[i][0], sums[i][1]) {
			t.Errorf("way %d: other bytes came", i)
		}
	}
	p.stop(t)
}

// fds is how many files a process has open.
func fds(t testing.TB, pid int) int {
	t.Helper()
	d, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// A thousand connections at once, of which one side is killed each: its other side is reset, and nothing is left.
func TestProxyKill(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bin := catflap(t)
	p, at := startProxies(t, bin, "kill=127.0.0.1:0="+l.Addr().String(), "--netem", "delay 1ms")
	pid := p.cmd.Process.Pid
	before := fds(t, pid)
	const n = 1000
	clients, servers := make([]*net.TCPConn, n), make([]*net.TCPConn, n)
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for range n {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			var id [4]byte
			if _, err := io.ReadFull(c, id[:]); err != nil {
				t.Error(err)
			}
			i, _ := strconv.Atoi(string(id[:]))
			servers[i] = c.(*net.TCPConn)
		}
	})
	for i := range clients {
		c, err := net.Dial("tcp", at["kill"])
		if err != nil {
			t.Fatal(err)
		}
		clients[i] = c.(*net.TCPConn)
		fmt.Fprintf(c, "%04d", i)
	}
	accepting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i := range clients {
		victim, other := clients[i], servers[i]
		if i%2 == 0 {
			victim, other = other, victim
		}
		victim.SetLinger(0) // as a process that is killed with data that it has not read
		victim.Close()
		defer other.Close()
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("connection %d: read gives %v, want ECONNRESET", i, err)
		}
	}
	testenv.Await(t, "the proxy's sockets to close", func() bool { return fds(t, pid) <= before })
	ss := run(t, bin, "--control", controlOf(p, "kill"), "ss", "-tan").want(t, 0)
	if strings.Count(ss.stdout, "\n") != 2 { // the header, and the forwarder's listener
		t.Errorf("left on the stack:\n%.2000s", ss.stdout)
	}
	p.stop(t)
}

// What is wrong is named, with what to do about it; the other proxies go on.
func TestProxyBadInput(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv")
	bin := catflap(t)
	for args, want := range map[string]string{
		"proxy":                                "want NAME=LISTEN=TARGET",
		"proxy pg":                             `"pg": want NAME=LISTEN=TARGET`,
		"proxy pg=127.0.0.1:99999=127.0.0.1:1": "port 99999: out of range",
		"proxy pg=:0=127.0.0.1:1 pg=:0=127.0.0.1:1":   `there is a proxy "pg" already`,
		"proxy pg=:0=127.0.0.1:1 --netem lose":        "--netem",
		"proxy pg=:0=127.0.0.1:1 --mtu 7":             "--mtu 7: out of range",
		"proxy a=:0=:1 b=:0=:2 --record f":            "are of one proxy, and there are 2",
		"proxy pg=:0=127.0.0.1:1 --dashboard nowhere": "--dashboard nowhere: want HOST:PORT",
	} {
		r := run(t, append([]string{bin}, strings.Fields(args)...)...).want(t, 2)
		if lines := strings.Split(strings.TrimSpace(r.stderr), "\n"); len(lines) != 2 || !strings.Contains(lines[0], want) {
			t.Errorf("%s: %q, want a line with %q and a remedy", args, r.stderr, want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, at := startProxies(t, bin, "good=127.0.0.1:0="+l.Addr().String(), "lost=127.0.0.1:0=nowhere.invalid:80")
	p.await(`lost: the target nowhere.invalid:80: .*no such host|server misbehaving|lookup`)
	c, err := net.Dial("tcp", at["good"])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
	p.stop(t)
	q := start(t, command{args: []string{bin, "proxy", "taken=" + l.Addr().String() + "=127.0.0.1:1", "other=127.0.0.1:0=" + l.Addr().String()}})
	q.await(`taken: listen tcp ` + regexp.QuoteMeta(l.Addr().String()) + `: bind: address already in use\ncatflap: another program listens there`)
	q.await(`other: \S+ → `)
	q.stop(t)
	r := run(t, bin, "proxy", "taken="+l.Addr().String()+"=127.0.0.1:1").want(t, 1)
	if !strings.Contains(r.stderr, "none of the proxies could be started") {
		t.Errorf("%s", r.stderr)
	}
}

// Toxiproxy's API on the command line: its proxies have a control socket by their name too.
func TestProxyToxiproxyAPI(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, "setpriv", "curl")
	bin := catflap(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := start(t, command{args: slices.Concat(nobody, []string{bin, "proxy", "--toxiproxy-api", "127.0.0.1:0"})})
	p.await(`Toxiproxy's API at (\S+)`)
	url := regexp.MustCompile(`API at (\S+)/`).FindStringSubmatch(p.stderr.String())[1]
	r := run(t, "curl", "-sS", "-d", `{"name":"web","upstream":"`+l.Addr().String()+`"}`, url+"/proxies").want(t, 0)
	var v struct{ Listen string }
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	run(t, "curl", "-sS", "-d", `{"type":"netem","stream":"upstream","attributes":{"settings":"delay 7ms"}}`, url+"/proxies/web/toxics").want(t, 0)
	if show := run(t, bin, "--control", controlOf(p, "web"), "netem", "show", "in").want(t, 0); !strings.HasPrefix(show.stdout, "in: delay 7ms") {
		t.Errorf("%s", show.stdout)
	}
	c, err := net.Dial("tcp", v.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s, err := l.Accept(); err != nil {
		t.Error(err)
	} else {
		s.Close()
	}
	run(t, "curl", "-sS", "-X", "DELETE", url+"/proxies/web").want(t, 0)
	if r := run(t, bin, "--control", controlOf(p, "web"), "netem", "show").want(t, 1); !strings.Contains(r.stderr, "web") {
		t.Errorf("%s", r.stderr)
	}
	p.stop(t)
}
