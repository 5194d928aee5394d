package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	pcapng "github.com/catflap/catflap/tun/capture"
	"github.com/catflap/catflap/tun/netns"
)

func TestMain(m *testing.M) {
	netns.Init()
	refs.SetLeakMode(refs.LeaksPanic)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if status == 0 {
			refs.DoLeakCheck()
		}
		os.Exit(status)
	}))
}

// get asks for a page and returns it, or the error.
func get(c *http.Client, url string) string {
	resp, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func hello(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "meow to %s from %s", host, r.Host)
}

// times runs a test in real and in virtual time. Run is for all that takes time.
func times(t *testing.T, f func(t *testing.T, o Options, run func(func()))) {
	t.Run("real", func(t *testing.T) { f(t, Options{}, func(f func()) { f() }) })
	t.Run("virtual", func(t *testing.T) {
		clock := NewClock()
		f(t, Options{Clock: clock}, clock.Run)
	})
}

func TestLink(t *testing.T) {
	times(t, func(t *testing.T, o Options, run func(func())) {
		l := New(t, o)
		client, server := l.Host("client"), l.Host("server")
		link := l.Link(client, server, Netem("delay 10ms"))
		url := server.Serve(http.HandlerFunc(hello))
		if url != "http://server" {
			t.Errorf("URL %s", url)
		}
		second := server.Serve(http.HandlerFunc(hello))
		if second == url || !strings.HasPrefix(second, "http://server:") {
			t.Errorf("URL of the second server: %s", second)
		}
		start := l.now()
		run(func() {
			if got := get(client.Client(), url); got != "meow to 10.9.0.1 from server" {
				t.Error(got)
			}
		})
		took := l.now() - start
		if took < 40*time.Millisecond || o.Clock != nil && took != 40*time.Millisecond {
			t.Errorf("took %s, want two round trips of 20ms", took)
		}
		if s := link.Stats(); s.In.Packets == 0 || s.Out.Packets == 0 {
			t.Errorf("stats: %+v", s)
		}
		run(func() {
			if got := get(client.Client(), second); !strings.HasPrefix(got, "meow to 10.9.0.1") {
				t.Error(got)
			}
			for _, url := range []string{"http://10.9.0.2", "http://[fd00:9::2]"} {
				if got := get(client.Client(), url); !strings.HasPrefix(got, "meow") {
					t.Error(got)
				}
			}
		})
	})
}

func TestAddresses(t *testing.T) {
	l := New(t, Options{})
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	sw := l.Switch("sw", a, b)
	l.Link(b, c, Subnet("192.0.2.4/30"))
	l.Link(c, sw)
	for _, tt := range []struct {
		h    *Host
		want string
	}{
		{a, "10.9.0.1/24 fd00:9::1/64"},
		{b, "10.9.0.2/24 fd00:9::2/64 192.0.2.5/30"},
		{c, "192.0.2.6/30 10.9.0.3/24 fd00:9::3/64"},
	} {
		var got []string
		for _, p := range tt.h.Addrs() {
			got = append(got, p.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s has %s, want %s", tt.h.Name(), got, tt.want)
		}
	}
	for _, tt := range []struct{ network, address, want string }{
		{"tcp", "c:80", "10.9.0.3:80"}, // an address in a subnet of a before the first
		{"tcp6", "c:80", "[fd00:9::3]:80"},
		{"tcp", "b:80", "10.9.0.2:80"},
		{"tcp", "[::1]:80", "[::1]:80"},
		{"tcp", "localhost:80", "localhost:80"},
		{"tcp", ":80", ":80"},
		{"tcp", "a:80", "10.9.0.1:80"},
	} {
		if got, err := a.resolve(tt.network, tt.address); got != tt.want || err != nil {
			t.Errorf("%s %s is %s, %v; want %s", tt.network, tt.address, got, err, tt.want)
		}
	}
	var dns *net.DNSError
	if _, err := a.Dial("tcp", "dog:80"); !errors.As(err, &dns) || !dns.IsNotFound || !strings.Contains(err.Error(), "a, b, c") {
		t.Errorf("dial to a host that does not exist: %v", err)
	}
	d := l.Host("d")
	if got, err := d.resolve("tcp", "d:80"); got != "localhost:80" || err != nil {
		t.Errorf("a host without links calls itself %s, %v", got, err)
	}
	l.Link(a, d, Subnet("198.51.100.0/24"))
	if _, err := a.Dial("tcp6", "d:80"); !errors.As(err, &dns) {
		t.Errorf("dial over IPv6 to a host without: %v", err)
	}
}

// TestReach has every node reach every other one, by both IP versions, over two switches and two routers.
func TestReach(t *testing.T) {
	times(t, func(t *testing.T, o Options, run func(func())) {
		l := New(t, o)
		a, b, c, d, e := l.Host("a"), l.Host("b"), l.Host("c"), l.Host("d"), l.Host("e")
		s1, s2 := l.Switch("s1"), l.Switch("s2")
		l.Link(s1, s2)
		for _, n := range []Node{a, b} {
			l.Link(n, s1)
		}
		l.Link(c, s2)
		r1 := l.Router("r1", s2)
		r2 := l.Router("r2", r1, d)
		l.Link(e, r2)
		hosts := []*Host{a, b, c, d, e}
		for _, h := range hosts {
			h.Serve(http.HandlerFunc(hello))
		}
		run(func() {
			for _, from := range hosts {
				for _, to := range hosts {
					if from == to {
						continue
					}
					for _, network := range []string{"tcp4", "tcp6"} {
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						conn, err := from.DialContext(ctx, network, to.Name()+":80")
						cancel()
						if err != nil {
							t.Errorf("%s to %s: %v", from.Name(), to.Name(), err)
							continue
						}
						conn.Close()
					}
				}
			}
			// A router has a name and addresses too, and answers.
			if _, err := a.Dial("tcp", "r2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("dial to a router: %v", err)
			}
		})
	})
}

// TestRouter holds that a router takes one off the TTL, and says when a packet is too big.
func TestRouter(t *testing.T) {
	clock := NewClock()
	l := New(t, Options{Clock: clock})
	client, server, r, s := l.Host("client"), l.Host("server"), l.Router("r"), l.Router("s")
	l.Link(client, r)
	l.Link(r, s, MTU(1300))
	l.Link(s, server)
	data := strings.Repeat("meow", 10_000)
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if string(b) != data || err != nil {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}))
	clock.Run(func() {
		resp, err := client.Client().Post(url, "text/plain", strings.NewReader(data))
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	ttl, largest := map[byte]bool{}, 0
	told := false
	for _, c := range l.record.captures {
		for p := range c.packets.All() {
			if c.link+"@"+c.node == "s-server@server" && !p.out {
				ttl[p.data[8]], largest = true, max(largest, len(p.data))
			}
			// ICMP destination unreachable, fragmentation needed: RFC 792, RFC 1191.
			told = told || c.link+"@"+c.node == "client-r@client" && !p.out && p.data[9] == 1 && p.data[20] == 3 && p.data[21] == 4
		}
	}
	if len(ttl) != 1 || !ttl[62] {
		t.Errorf("TTLs at the server: %v, want 62", ttl)
	}
	if largest > 1300 || largest < 1200 || !told {
		t.Errorf("the largest packet had %d bytes and the client was told: %v; want up to 1300, and true", largest, told)
	}
}

// TestPathMTU: a transfer goes through a link in its middle that takes smaller packets, with either IP version.
func TestPathMTU(t *testing.T) {
	for i, version := range []string{"IPv4", "IPv6"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			clock := NewClock()
			l := New(t, Options{Clock: clock})
			c, s, r1, r2 := l.Host("client"), l.Host("server"), l.Router("r1"), l.Router("r2")
			l.Link(c, r1)
			l.Link(r1, r2, MTU(1300))
			l.Link(r2, s)
			const size = 100_000
			s.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, size)) }))
			clock.Run(func() {
				body := get(c.Client(), "http://"+net.JoinHostPort(s.Addrs()[i].Addr().String(), "80")+"/")
				if len(body) != size {
					t.Errorf("%d bytes", len(body))
				}
			})
			if took := clock.Elapsed(); took > 10*time.Second { // netstack waits for its timer after it has heard
				t.Errorf("it took %v, so that the server has not heard the MTU", took)
			}
		})
	}
}

func TestUDP(t *testing.T) {
	times(t, func(t *testing.T, o Options, run func(func())) {
		l := New(t, o)
		a, b := l.Host("a"), l.Host("b")
		l.Link(a, b)
		pc, err := b.ListenPacket("udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Dial("udp", "b:53")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("meow")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		run(func() {
			if n, from, err := pc.ReadFrom(buf); err != nil || string(buf[:n]) != "meow" || from.String() != c.LocalAddr().String() {
				t.Errorf("%q from %v, %v", buf[:n], from, err)
			}
		})
	})
}

// TestDirections holds that each direction is what the text says, live changes and rules too.
func TestDirections(t *testing.T) {
	clock := NewClock()
	l := New(t, Options{Clock: clock})
	a, b := l.Host("a"), l.Host("b")
	link := l.Link(a, b, Netem("out delay 100ms"), NetemFrom(b, "delay 30ms"))
	ln, err := b.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (took time.Duration, err error) {
		start := clock.Elapsed()
		ctx, cancel := clock.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		clock.Run(func() {
			var c net.Conn
			if c, err = a.DialContext(ctx, "tcp", "b:7"); err == nil {
				c.Close()
				c, err = ln.Accept()
				if err == nil {
					c.Close()
				}
			}
		})
		return (clock.Elapsed() - start).Round(time.Millisecond), err
	}
	// A SYN, a SYN-ACK and the ACK that Accept waits for.
	if took, err := dial(); took != 230*time.Millisecond || err != nil {
		t.Errorf("took %s, %v; want 100ms + 30ms + 100ms", took, err)
	}
	link.SetFrom(a, "")
	link.Set("in delay 50ms")
	if took, err := dial(); took != 50*time.Millisecond || err != nil {
		t.Errorf("took %s, %v; want 50ms", took, err)
	}
	link.Set("")
	id := link.AddRule("drop tcp syn first 1")
	if took, err := dial(); took != time.Second || err != nil {
		t.Errorf("took %s, %v; want 1s, until the SYN is sent again", took, err)
	}
	if r := link.Rules(); len(r) != 1 || r[0].Applied != 1 || !link.DelRule(id) || link.DelRule(id) {
		t.Errorf("rules %+v", r)
	}
	link.Down()
	if took, err := dial(); took != 10*time.Second || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("took %s, %v; want DeadlineExceeded after 10s", took, err)
	}
	link.Up()
	if took, err := dial(); took != 0 || err != nil {
		t.Errorf("took %s, %v; want 0", took, err)
	}
	if l.Between(b, a) != link || link.Name() != "a-b" {
		t.Error("the link is not found")
	}
}

// TestMistakes holds that mistakes end the test and say why.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(l *Lab)
		want string
	}{
		{"name", func(l *Lab) { l.Host("a:b") }, "letters, digits and hyphens"},
		{"localhost", func(l *Lab) { l.Host("localhost") }, "localhost"},
		{"twice", func(l *Lab) { l.Host("a"); l.Switch("a") }, "there is a node of this name"},
		{"self", func(l *Lab) { a := l.Host("a"); l.Link(a, a) }, "itself"},
		{"again", func(l *Lab) { a, b := l.Host("a"), l.Host("b"); l.Link(a, b); l.Link(b, a) }, "linked already"},
		{"netem", func(l *Lab) { l.Link(l.Host("a"), l.Host("b"), Netem("lose 1%")) }, "lose"},
		{"netem later", func(l *Lab) { l.Link(l.Host("a"), l.Host("b")).Set("loss 101%") }, "101"},
		{"rule", func(l *Lab) { l.Link(l.Host("a"), l.Host("b")).AddRule("drop cats") }, "cats"},
		{"from", func(l *Lab) { l.Link(l.Host("a"), l.Host("b")).SetFrom(l.Host("c"), "loss 1%") }, "not at an end"},
		{"mtu", func(l *Lab) { l.Link(l.Host("a"), l.Host("b"), MTU(10)) }, "68 to 65535"},
		{"subnet", func(l *Lab) { l.Link(l.Host("a"), l.Host("b"), Subnet("10.0.0.0")) }, "10.0.0.0"},
		{"full", func(l *Lab) { l.Link(l.Host("a"), l.Host("b"), Subnet("10.0.0.0/32")) }, "no address left"},
		{"two of one", func(l *Lab) { l.Link(l.Host("a"), l.Host("b"), Subnet("10.0.0.0/8", "11.0.0.0/8")) }, "one of each"},
		{"between", func(l *Lab) { l.Between(l.Host("a"), l.Host("b")) }, "not linked"},
		{"switches", func(l *Lab) { l.Link(l.Switch("a", l.Host("c")), l.Switch("b", l.Host("d"))) }, "link switches before nodes"},
		{"mtu of the lab", func(l *Lab) { New(l.t, Options{MTU: 1}) }, "68 to 65535"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ft := newFakeT(t, t.Name())
			log := ft.run(func(t testing.TB) { tt.do(New(t, Options{NoRecord: true})) })
			if !ft.Failed() || !strings.HasPrefix(log, "lab: ") || !strings.Contains(log, tt.want) {
				t.Errorf("failed: %v, log %q; want %q in it", ft.Failed(), log, tt.want)
			}
		})
	}
}

// TestFailure holds what a failing test leaves: the seed and how to repeat, a timeline with decisions and faults, and
// captures with comments.
func TestFailure(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(ArtifactsEnv, dir)
	ft := newFakeT(t, "TestSome/part one")
	log := ft.run(func(t testing.TB) {
		clock := NewClock()
		l := New(t, Options{Clock: clock, Seed: 42})
		client, server := l.Host("client"), l.Host("server")
		link := l.Link(client, server, Netem("delay 10ms"), Netem("drop tcp synack 1"))
		url := server.Serve(http.HandlerFunc(hello))
		clock.Run(func() { get(client.Client(), url) })
		link.Down()
		clock.Run(func() {
			ctx, cancel := clock.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			client.DialContext(ctx, "tcp", "server:81")
		})
		t.Error("it fails")
	})
	for _, want := range []string{
		"seed 42", "go test -run '^TestSome$'",
		"Flags [S.]", "SYN-SENT -> ESTABLISHED", "listener *:80 ✓", "drop by rule drop tcp synack 1",
		"the link goes down", "lost: the link is down", "call   listen(3, 4096)", "timeline.txt", "client-server@server.pcapng",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	f, err := os.Open(filepath.Join(dir, "TestSome-part-one", "client-server@server.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapng.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	packets, comments := 0, ""
	for {
		p, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Data) > 0 {
			packets++
		}
		comments += strings.Join(p.Comments, "\n")
	}
	if packets < 8 || !strings.Contains(comments, "drop by rule drop tcp synack 1") {
		t.Errorf("%d packets, with the comments %q", packets, comments)
	}
}

// TestFailureIsBounded holds that what is kept and logged has limits, and says what was left out.
func TestFailureIsBounded(t *testing.T) {
	ft := newFakeT(t, "TestBounded")
	dir := t.TempDir()
	log := ft.run(func(t testing.TB) {
		clock := NewClock()
		l := New(t, Options{Clock: clock, Artifacts: dir})
		client, server := l.Host("client"), l.Host("server")
		l.Link(client, server, MTU(65535))
		for i := range maxTimeline {
			l.record.note("client", fmt.Sprint("note ", i))
		}
		newBulk(t, clock, server, client).run(9<<20, time.Hour)
		for _, c := range l.record.captures {
			if c.bytes > maxCapture {
				t.Errorf("%d bytes of packets are kept", c.bytes)
			}
		}
		t.Error("it fails")
	})
	if n := strings.Count(log, "\n"); n > maxLog+20 || !strings.Contains(log, "lines left out") || !strings.Contains(log, "entries of the timeline were not kept") {
		t.Errorf("%d lines are logged:\n%s", n, log)
	}
	info, err := os.Stat(filepath.Join(dir, "client-server@client.pcapng"))
	if err != nil || info.Size() > maxCapture*3/2 || info.Size() < maxCapture/2 {
		t.Errorf("capture %v, %v", info, err)
	}
}

// TestCloseUnderLoad holds that closing ends what is going on, in real time, and leaves no goroutine: see TestMain.
func TestCloseUnderLoad(t *testing.T) {
	times(t, func(t *testing.T, o Options, _ func(func())) {
		ft := newFakeT(t, t.Name())
		ended := make(chan error, 4)
		ft.run(func(t testing.TB) {
			l := New(t, o)
			client, server := l.Host("client"), l.Host("server")
			link := l.Link(client, server, Netem("delay 1ms loss 1% duplicate 1% rate 50mbit"))
			url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for {
					if _, err := w.Write(make([]byte, 1<<16)); err != nil {
						return
					}
				}
			}))
			for range cap(ended) {
				go func() {
					resp, err := client.Client().Get(url)
					if err == nil {
						_, err = io.Copy(io.Discard, resp.Body)
					}
					ended <- err
				}()
			}
			if o.Clock != nil {
				o.Clock.Advance(100 * time.Millisecond)
			} else {
				testenv.Await(t, "load", func() bool { return link.Stats().In.Packets > 0 })
			}
			if link.Stats().In.Packets == 0 {
				t.Error("there was no load")
			}
		})
		for range cap(ended) {
			if err := <-ended; err == nil {
				t.Error("an endless transfer came to its end")
			}
		}
		if ft.Failed() {
			t.Error(ft.log.String())
		}
	})
}

// TestLeak holds that what does not end when the test does is a failure, and is named.
func TestLeak(t *testing.T) {
	ft := newFakeT(t, t.Name())
	block, entered := make(chan struct{}), make(chan struct{})
	log := ft.run(func(t testing.TB) {
		l := New(t, Options{NoRecord: true})
		l.patience = 50 * time.Millisecond
		h := l.Host("h")
		url := h.Serve(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-block }))
		go h.Client().Get(url)
		<-entered
	})
	close(block)
	if !ft.Failed() || !strings.Contains(log, "still runs") || !strings.Contains(log, "TestLeak") {
		t.Errorf("failed: %v, log %q", ft.Failed(), log)
	}
}

// TestCorruption holds that corrupted packets never arrive as other bytes, through a router, in real time.
func TestCorruption(t *testing.T) {
	l := New(t, Options{Seed: 1})
	client, server := l.Host("client"), l.Host("server")
	r := l.Router("r")
	links := []*Link{l.Link(client, r, Netem("corrupt 5%")), l.Link(r, server, Netem("corrupt 5%"))}
	data := strings.Repeat("0123456789abcdef", 1<<14)
	url := server.Serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, data) }))
	if got := get(client.Client(), url); got != data {
		t.Errorf("%d bytes arrived, %d were sent, and they are not the same", len(got), len(data))
	}
	for _, link := range links {
		s := link.Stats()
		if s.In.Corrupted == 0 || s.In.Caught+s.Out.Caught != s.In.Corrupted+s.Out.Corrupted {
			t.Errorf("%s: %d and %d packets were corrupted, and %d and %d caught", link.Name(), s.In.Corrupted, s.Out.Corrupted, s.In.Caught, s.Out.Caught)
		}
	}
}

func TestHostTCP(t *testing.T) {
	l := New(t, Options{TCP: stack.TCPConfig{CongestionControl: "reno"}})
	a, b := l.Host("a"), l.Host("b", TCP(stack.TCPConfig{CongestionControl: "cubic"}))
	var got []string
	for _, h := range []*Host{a, b} {
		y := h.Stack().Sys()
		fd, err := y.Socket(stack.AF_INET, stack.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		cc, err := y.Getsockopt(fd, stack.SOL_TCP, stack.TCP_CONGESTION)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(cc))
	}
	if !slices.Equal(got, []string{"reno", "cubic"}) {
		t.Errorf("congestion control: %v", got)
	}
}
