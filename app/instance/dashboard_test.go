package instance

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

func startPair(t testing.TB, port uint16, d *Dashboard) *Pair {
	t.Helper()
	p, err := StartPair(Config{}, DefaultHostAddrs, tun.DefaultMTU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if d != nil {
		if _, err := p.Server.Dashboard(*d); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Server.Serve(port); err != nil {
		t.Fatal(err)
	}
	return p
}

// get asks over the pair's client, or over this machine's kernel if dial is nil.
func get(t *testing.T, dial func(context.Context, string, string) (net.Conn, error), url string) string {
	t.Helper()
	tp := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tp.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v: %s", url, resp.Status, err, b)
	}
	return string(b)
}

type connection struct {
	Local, Remote, Role string
	RX, TX              uint64
	Lost                int
}

// The page is on the host and on the stack; what goes through it is not in the record, and all else is, from the
// cat server's first call on.
func TestDashboard(t *testing.T) {
	p := startPair(t, 80, &Dashboard{Addr: "127.0.0.1:0", StackPort: DashboardPort, Version: "test"})
	if err := p.Server.Netem().Set(impair.Out, mustParse(t, "delay 1ms")); err != nil {
		t.Fatal(err)
	}
	dial := p.Client.DialContext
	url := p.Server.board.URL()
	for _, page := range []struct {
		dial func(context.Context, string, string) (net.Conn, error)
		base string
	}{{nil, url}, {dial, "http://10.9.0.2:8098/"}, {dial, "http://[fd00:9::2]:8098/"}} {
		if body := get(t, page.dial, page.base); !strings.Contains(body, "<html") {
			t.Errorf("%s: no page: %.100s", page.base, body)
		}
		if body := get(t, page.dial, page.base+"api/info"); !strings.Contains(body, `"addrs":["10.9.0.2","fd00:9::2"]`) {
			t.Errorf("%s: info %s", page.base, body)
		}
	}
	if body := get(t, dial, "http://10.9.0.2/"); body != "Hello kitty!" {
		t.Errorf("cat server: %s", body)
	}
	var list []connection
	testenv.Await(t, "the answer's bytes in the list", func() bool {
		list = nil
		if err := json.Unmarshal([]byte(get(t, nil, url+"api/connections?closed=1")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0 && list[0].TX > 100
	})
	if len(list) != 1 || list[0].Local != "10.9.0.2:80" || list[0].Role != "server" || list[0].TX < 100 {
		t.Fatalf("connections %+v, want the cat server's only", list)
	}
	resp, err := http.Get(url + "api/stream?conn=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 64<<10)
	n, err := io.ReadAtLeast(resp.Body, b, 8<<10)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"text":"listen(`, `"flags":"S."`, `"k":"l"`, `"action":"delay","why":"delay"`, `"to":"ESTABLISHED"`} {
		if !strings.Contains(string(b[:n]), want) {
			t.Errorf("the stream does not have %s:\n%s", want, b[:n])
		}
	}
}

// A port that is taken leaves nothing behind, and another can be tried.
func TestDashboardPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := startPair(t, 80, nil)
	d := Dashboard{Addr: l.Addr().String(), StackPort: DashboardPort}
	if _, err := p.Server.Dashboard(d); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("error %v, want EADDRINUSE", err)
	}
	d.Addr = "127.0.0.1:0"
	d.StackPort = 80
	if _, err := p.Server.Dashboard(d); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("error %v, want EADDRINUSE of the stack's port", err)
	}
	d.StackPort = DashboardPort
	if _, err := p.Server.Dashboard(d); err != nil {
		t.Fatal(err)
	}
}

// A transfer moves its bytes, and says whose connection it is.
func TestTransfer(t *testing.T) {
	p := startPair(t, 8080, nil)
	for _, up := range []bool{false, true} {
		var at netip.AddrPort
		if err := p.Transfer(8080)(t.Context(), 300_000, up, func(a netip.AddrPort) { at = a }); err != nil {
			t.Errorf("up %v: %v", up, err)
		}
		if at.Addr() != DefaultHostAddrs[0].Addr() || at.Port() == 0 {
			t.Errorf("up %v: client %s", up, at)
		}
	}
	if err := p.Transfer(81)(t.Context(), 1, false, func(netip.AddrPort) { t.Error("connected") }); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v, want ECONNREFUSED", err)
	}
}

// BenchmarkRecording is what recording costs a bulk transfer between two stacks.
func BenchmarkRecording(b *testing.B) {
	for _, bb := range []struct {
		name string
		d    *Dashboard
	}{{"none", nil}, {"on-demand", &Dashboard{OnDemand: true}}, {"always", &Dashboard{}}} {
		b.Run(bb.name, func(b *testing.B) {
			p := startPair(b, 80, bb.d)
			const bytes = 20_000_000
			b.SetBytes(bytes)
			for b.Loop() {
				if err := p.Transfer(80)(b.Context(), bytes, false, func(netip.AddrPort) {}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func mustParse(t *testing.T, text string) impair.Spec {
	t.Helper()
	spec, err := impair.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
