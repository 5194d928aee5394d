package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun/impair"
)

// server accepts connections and has each handled, until the test ends.
func server(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}

func echo(c net.Conn) { io.Copy(c, c) }

func settings(t testing.TB, texts ...string) (n instance.Netem) {
	t.Helper()
	for _, text := range texts {
		s, err := impair.ParseSetting(text)
		if err != nil {
			t.Fatal(err)
		}
		n.Settings = append(n.Settings, s)
	}
	return n
}

func start(t testing.TB, cfg Config) *Proxy {
	t.Helper()
	cfg.Name, cfg.Listen = "test", "127.0.0.1:0"
	if cfg.Network == "" {
		cfg.Network = "tcp"
	}
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t testing.TB, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// Bytes come through a bad link as they were sent, both ways, and then their end.
func TestProxy(t *testing.T) {
	p := start(t, Config{Spec: Spec{Target: server(t, echo)}, Netem: settings(t, "loss 2% delay 1ms seed 7")})
	c := dial(t, p)
	const size = 2 << 20
	sent := make(chan []byte, 1)
	go func() {
		h, src := sha256.New(), rand.NewChaCha8([32]byte{1})
		io.CopyN(io.MultiWriter(c, h), src, size)
		c.CloseWrite()
		sent <- h.Sum(nil)
	}()
	h := sha256.New()
	if n, err := io.Copy(h, c); err != nil || n != size {
		t.Errorf("%d bytes came back, %v; want %d", n, err, size)
	}
	if !bytes.Equal(h.Sum(nil), <-sent) {
		t.Error("other bytes came back")
	}
	if st := p.Instance().Netem().Stats(); st.In.Lost == 0 || st.Out.Lost == 0 {
		t.Errorf("the link has lost nothing: %+v", st)
	}
	near, far := p.Stats()
	if near.Out.Bytes != size || far.In.Bytes != size {
		t.Errorf("%+v, %+v", near, far)
	}
}

// A server that refuses has the client reset, and is named.
func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	failed := make(chan error, 1)
	p := start(t, Config{Spec: Spec{Target: l.Addr().String()}, Failed: func(err error) { failed <- err }})
	c, err := net.Dial("tcp", p.Addr().String())
	if err == nil { // the RST may be there before connect looks
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v, want ECONNRESET", err)
	}
	if err := <-failed; !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("error %v", err)
	}
}

// A client that goes while the server does not answer leaves nothing: what is on its way ends.
func TestClientGoesWhileDialling(t *testing.T) {
	p := start(t, Config{Spec: Spec{Target: server(t, echo)}, Netem: settings(t, "drop tcp syn")})
	c := dial(t, p)
	testenv.Await(t, "the rule to hit", func() bool { st := p.Instance().Netem().Stats(); return st.In.Faulted > 0 })
	c.SetLinger(0)
	c.Close()
	testenv.Await(t, "the failure to be counted", func() bool { near, _ := p.Stats(); return near.Failed == 1 })
}

// A proxy that is off refuses, and resets what it had; on again it listens where it did.
func TestEnable(t *testing.T) {
	p := start(t, Config{Spec: Spec{Target: server(t, echo)}})
	c := dial(t, p)
	c.Write([]byte("x"))
	io.ReadFull(c, make([]byte, 1))
	p.Disable()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read gives %v, want ECONNRESET", err)
	}
	if _, err := net.Dial("tcp", p.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial gives %v, want ECONNREFUSED", err)
	}
	at := p.Addr().String()
	if err := p.Enable(); err != nil || p.Addr().String() != at {
		t.Fatalf("%v: %s, want %s", err, p.Addr(), at)
	}
	c = dial(t, p)
	c.Write([]byte("y"))
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestUDP(t *testing.T) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			l.WriteTo(b[:n], from)
		}
	})
	defer wg.Wait()
	defer l.Close()
	p := start(t, Config{Spec: Spec{Network: "udp", Target: l.LocalAddr().String()}, Netem: settings(t, "drop udp 2 from client")})
	c, err := net.Dial("udp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, text := range []string{"one", "lost", strings.Repeat("long ", 1000)} {
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			continue
		}
		b := make([]byte, 1<<16)
		if n, err := c.Read(b); err != nil || string(b[:n]) != text {
			t.Errorf("got %.10q, %v; want %.10q", b[:n], err, text)
		}
	}
}

// decisions are what the link did to a number of exchanges, one after the other.
func decisions(t *testing.T, seed string) (did []string) {
	t.Helper()
	p := start(t, Config{Spec: Spec{Target: server(t, echo)}, Netem: settings(t, "loss 20% seed "+seed)})
	var mu sync.Mutex
	stop := p.Instance().Netem().Observe(func(f impair.Fault, _ []byte) {
		mu.Lock()
		defer mu.Unlock()
		if f.Packet.Index <= 8 { // what is sent again, and when an ACK goes alone, hangs on time
			did = append(did, f.Packet.Dir.String()+" "+f.Action.String())
		}
	})
	defer stop()
	c := dial(t, p)
	for range 10 {
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	did = slices.Clone(did)
	slices.Sort(did) // of each direction they come in order
	return did
}

// Equal seeds do equal things to equal traffic, and others do others.
func TestSeeds(t *testing.T) {
	one, two, other := decisions(t, "7"), decisions(t, "7"), decisions(t, "8")
	if len(one) == 0 || !slices.Equal(one, two) {
		t.Errorf("seed 7 did %v, and then %v", one, two)
	}
	if slices.Equal(one, other) {
		t.Errorf("seeds 7 and 8 both did %v", one)
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]Spec{
		"pg=127.0.0.1:15432=127.0.0.1:5432": {"pg", "tcp", "127.0.0.1:15432", "127.0.0.1:5432"},
		"dns=:53=[::1]:5353/udp":            {"dns", "udp", ":53", "[::1]:5353"},
		"web=localhost:0=example:http":      {"web", "tcp", "localhost:0", "example:http"},
	} {
		if got, err := Parse(text); err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"pg":                                     "want NAME=LISTEN=TARGET",
		"pg=127.0.0.1:1":                         "want NAME=LISTEN=TARGET",
		"=127.0.0.1:1=127.0.0.1:2":               "a proxy needs a name",
		"a/b=127.0.0.1:1=127.0.0.1:2":            "a name is made of",
		"../x=127.0.0.1:1=127.0.0.1:2":           "a name is made of",
		"pg=127.0.0.1=127.0.0.1:2":               `"127.0.0.1": where to listen: missing port`,
		"pg=127.0.0.1:99999=127.0.0.1:2":         "where to listen: port 99999: out of range",
		"pg=127.0.0.1:1=127.0.0.1:0":             "where to lead: port 0",
		"pg=127.0.0.1:1=127.0.0.1:nosuchservice": `where to lead: port "nosuchservice"`,
		"pg=127.0.0.1:1=127.0.0.1:2/sctp":        `"sctp": want tcp or udp`,
	} {
		_, err := Parse(text)
		var se *SpecError
		if !errors.As(err, &se) || !strings.Contains(err.Error(), want) || se.Remedy == "" {
			t.Errorf("%s: error %v, want one with %q and a remedy", text, err, want)
		}
	}
	if _, err := Start(Config{Spec: Spec{Name: "x", Network: "tcp", Listen: "127.0.0.1:0", Target: "bad"}}); err == nil {
		t.Error("a bad target was taken")
	}
}

// A port that is taken leaves nothing behind.
func TestPortTaken(t *testing.T) {
	at := server(t, echo)
	if _, err := Start(Config{Spec: Spec{Name: "x", Network: "tcp", Listen: at, Target: at}}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error %v, want EADDRINUSE", err)
	}
}
