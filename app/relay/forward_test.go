package relay

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// network is a client's stack whose default route leads over a link to one that forwards all.
func network(t testing.TB, cfg stack.ForwardConfig) (client, router *stack.Stack) {
	t.Helper()
	a, b := tun.Pipe(1500)
	new := func(addr, gw string, cfg stack.Config) *stack.Stack {
		s, err := stack.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	client = new("", "", stack.Config{
		Links:  []stack.Link{{Name: "eth0", Endpoint: a, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24")}}},
		Routes: []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.2"), Dev: "eth0"}},
	})
	router = new("", "", stack.Config{
		Links:  []stack.Link{{Name: "cat0", Endpoint: b, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}},
		Routes: []stack.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.0.1"), Dev: "cat0"}},
	})
	cfg.Name, cfg.Links = "egress", []string{"cat0"}
	cfg.Rules = []stack.ForwardRule{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}}
	f, err := router.Forward(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return client, router
}

// What a client of the stack sees of a host is what it would see without the stack between.
func TestErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	r := newRelay(t, Config{})
	dialled := make(chan struct{}, 1)
	client, router := network(t, stack.ForwardConfig{TCP: r.TCP(func(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
		host := &Host{}
		var d net.Dialer
		switch t.Dst.Addr().String() {
		case "192.0.2.1":
			return To(&d, open)(ctx, t)
		case "192.0.2.2":
			return To(&d, nobody.Addr().String())(ctx, t)
		case "192.0.2.3":
			dialled <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		case "192.0.2.4":
			return nil, syscall.EHOSTUNREACH
		}
		return host.Dial(ctx, t)
	})})
	for _, tt := range []struct {
		to   string
		want error
	}{
		{"192.0.2.2:80", syscall.ECONNREFUSED},
		{"192.0.2.4:80", syscall.EHOSTUNREACH},
		{"169.254.169.254:80", syscall.EHOSTUNREACH}, // as Linux makes of "prohibited"
	} {
		if _, err := client.DialContext(t.Context(), "tcp", tt.to); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.to, err, tt.want)
		}
	}
	// Filtered: nothing comes back, and the dial ends when the client gives up.
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-dialled; cancel() }()
	if _, err := client.DialContext(ctx, "tcp", "192.0.2.3:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("filtered: %v", err)
	}
	// Reset.
	c, err := client.DialContext(t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, c, "x")
	mustRead(t, server, "x")
	infos := router.Sockets()
	found := false
	for _, k := range infos {
		found = found || k.State == "ESTABLISHED" && k.FD >= 0 && k.Local.String() == "192.0.2.1:80"
	}
	if !found {
		t.Errorf("no socket 192.0.2.1:80 among %+v", infos)
	}
	reset(server.(Conn))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: read gives %v", err)
	}
	l.Close()
}

// Short connections one after the other from one port: each finds the one before it in TIME-WAIT.
func TestNarrowPortRange(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close() // the server first, so that TIME-WAIT is on the forwarder's side
		}
	}()
	r := newRelay(t, Config{})
	client, router := network(t, stack.ForwardConfig{TCP: r.TCP(To(&net.Dialer{}, l.Addr().String()))})
	y := client.Sys()
	for i := range 50 {
		fd, err := y.Socket(stack.AF_INET, stack.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		y.Setsockopt(fd, stack.SOL_SOCKET, stack.SO_REUSEADDR, 1)
		if err := y.Bind(fd, netip.MustParseAddrPort("10.9.0.1:40000")); err != nil {
			t.Fatal(err)
		}
		if err := y.Connect(fd, netip.MustParseAddrPort("192.0.2.1:80")); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		b := make([]byte, 10)
		if n, _, err := y.Recvfrom(fd, b, stack.MSG_WAITALL); string(b[:max(n, 0)]) != "hello" {
			t.Fatalf("connection %d: %q, %v", i, b[:max(n, 0)], err)
		}
		y.Close(fd)
		testenv.Await(t, "the sockets to close", func() bool { // LAST-ACK
			return !slices.ContainsFunc(client.Sockets(), func(k stack.SocketInfo) bool { return k.Local.Port() == 40000 })
		})
		if !slices.ContainsFunc(router.Sockets(), func(k stack.SocketInfo) bool { return k.State == "TIME-WAIT" }) {
			t.Fatalf("connection %d is not in TIME-WAIT: %+v", i, router.Sockets())
		}
	}
}

func TestHostAllows(t *testing.T) {
	h := &Host{}
	named := &Host{Open: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}
	for _, tt := range []struct {
		addr        string
		open, named bool
	}{
		{"192.0.2.1", true, true}, {"2001:db8::1", true, true}, {"10.0.0.1", true, true},
		{"127.0.0.1", false, true}, {"127.0.0.2", false, false}, {"::1", false, false}, {"::ffff:127.0.0.2", false, false},
		{"0.0.0.0", false, false}, {"::", false, false}, {"169.254.169.254", false, false}, {"fe80::1", false, false},
		{"224.0.0.1", false, false}, {"255.255.255.255", false, false},
	} {
		a := netip.MustParseAddr(tt.addr)
		if h.allows(a) != tt.open || named.allows(a) != tt.named {
			t.Errorf("%s: %v, and %v with 127.0.0.1 named; want %v, %v", a, h.allows(a), named.allows(a), tt.open, tt.named)
		}
	}
	_, err := h.Dial(t.Context(), stack.FourTuple{Network: "tcp", Dst: netip.MustParseAddrPort("127.0.0.1:1")})
	var closed *ClosedError
	if !errors.As(err, &closed) || !errors.Is(err, syscall.EACCES) || !strings.Contains(err.Error(), "127.0.0.1 is closed") {
		t.Errorf("error %v", err)
	}
}

// The host's kernel answers an unprivileged ping, and who waits for an answer can be told to stop.
func TestPing(t *testing.T) {
	for _, a := range []string{"127.0.0.1", "::1"} {
		err := Ping(t.Context(), netip.MustParseAddr(a), 7, []byte("data"))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Skipf("ping %s: %v; to allow unprivileged pings: sysctl net.ipv4.ping_group_range='0 2147483647'", a, err)
		}
		if err != nil {
			t.Errorf("ping %s: %v", a, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Ping(ctx, netip.MustParseAddr("127.255.255.255"), 7, nil); err == nil {
		t.Error("a ping that was to stop was answered")
	}
}
