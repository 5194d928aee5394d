package toxiproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toxiclient "github.com/Shopify/toxiproxy/v2/client"

	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/app/relay/proxy"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun/impair"
)

// harness is a server with its proxies, and Toxiproxy's own client.
type harness struct {
	*Server
	client   *toxiclient.Client
	upstream string // an echo server

	mu      sync.Mutex
	proxies map[string]*proxy.Proxy
}

func newHarness(t *testing.T) *harness {
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
			wg.Go(func() { defer c.Close(); io.Copy(c, c) })
		}
	})
	h := &harness{upstream: l.Addr().String(), proxies: map[string]*proxy.Proxy{}}
	h.Server = New(Config{
		Seed: 1,
		Start: func(_ context.Context, cfg proxy.Config) (*proxy.Proxy, error) {
			p, err := proxy.Start(cfg)
			if err == nil {
				h.mu.Lock()
				h.proxies[cfg.Name] = p
				h.mu.Unlock()
			}
			return p, err
		},
		Stop: func(p *proxy.Proxy) { p.Close() },
	})
	if err := h.Serve("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(); l.Close(); wg.Wait() })
	h.client = toxiclient.NewClient(h.Addr().String())
	return h
}

func (h *harness) proxy(t *testing.T, name string) *toxiclient.Proxy {
	t.Helper()
	p, err := h.client.CreateProxy(name, "127.0.0.1:0", h.upstream)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// link is what impairs a proxy's packets.
func (h *harness) link(name string) *impair.Link {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proxies[name].Instance().Netem()
}

// passed is what has gone to the server and come from it.
func (h *harness) passed(name string) relay.Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, far := h.proxies[name].Stats()
	return far
}

func connect(t *testing.T, p *toxiclient.Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func exchange(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("got %q, %v; want %q", b, err, text)
	}
}

func status(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

// Every call of Toxiproxy's own client.
func TestClient(t *testing.T) {
	h := newHarness(t)
	p := h.proxy(t, "one")
	if !p.Enabled || p.Name != "one" || p.Upstream != h.upstream || strings.HasSuffix(p.Listen, ":0") {
		t.Errorf("created %+v", p)
	}
	exchange(t, connect(t, p), "hello")
	_, err := h.client.CreateProxy("one", "127.0.0.1:0", h.upstream)
	status(t, err, "409")
	_, err = h.client.CreateProxy("two", "127.0.0.1:0", "")
	status(t, err, "missing required field: upstream")
	_, err = h.client.Proxy("none")
	status(t, err, "404")

	all, err := h.client.Proxies()
	if err != nil || len(all) != 1 || all["one"].Listen != p.Listen {
		t.Errorf("%+v, %v", all, err)
	}
	got, err := h.client.Proxy("one")
	if err != nil || got.Listen != p.Listen {
		t.Errorf("%+v, %v", got, err)
	}

	at := p.Listen
	if err := p.Disable(); err != nil || p.Enabled {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := net.Dial("tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("disabled: dial gives %v", err)
	}
	if err := p.Enable(); err != nil || !p.Enabled || p.Listen != at {
		t.Fatalf("%+v, %v", p, err)
	}
	exchange(t, connect(t, p), "hello")

	for _, tx := range []struct {
		kind, stream string
		attrs        toxiclient.Attributes
		want         string // of the attributes that come back
	}{
		{"latency", "upstream", toxiclient.Attributes{"latency": 3, "jitter": 1}, "latency"},
		{"bandwidth", "", toxiclient.Attributes{"rate": 100000}, "rate"},
		{"slow_close", "upstream", toxiclient.Attributes{"delay": 1}, "delay"},
		{"slicer", "downstream", toxiclient.Attributes{"average_size": 10, "size_variation": 5, "delay": 10}, "average_size"},
		{"limit_data", "upstream", toxiclient.Attributes{"bytes": 100000}, "bytes"},
		{"netem", "downstream", toxiclient.Attributes{"settings": "loss 1%"}, "settings"},
		{"rule", "upstream", toxiclient.Attributes{"rule": "drop tcp data 2"}, "rule"},
	} {
		got, err := p.AddToxic("", tx.kind, tx.stream, 1, tx.attrs)
		stream := tx.stream
		if stream == "" {
			stream = "downstream"
		}
		if err != nil || got.Name != tx.kind+"_"+stream || got.Type != tx.kind || got.Stream != stream || got.Toxicity != 1 || got.Attributes[tx.want] == nil {
			t.Errorf("%s: %+v, %v", tx.kind, got, err)
		}
	}
	exchange(t, connect(t, p), "through all of them, and longer than a slice is")
	if s := h.link("one").Spec(impair.In); s.Delay.Time != 3*time.Millisecond || s.Delay.Jitter != time.Millisecond || s.Rate.Bits != 0 {
		t.Errorf("upstream is %v", s)
	}
	if s := h.link("one").Spec(impair.Out); s.Rate.Bits != 800_000_000 || s.Loss == nil {
		t.Errorf("downstream is %v", s)
	}
	if rules := h.link("one").Rules(); len(rules) != 1 || rules[0].Rule.String() != "drop tcp data 2 in" {
		t.Errorf("rules %+v", rules)
	}
	toxics, err := p.Toxics()
	if err != nil || len(toxics) != 7 {
		t.Errorf("%d toxics, %v", len(toxics), err)
	}
	_, err = p.AddToxic("", "latency", "upstream", 1, nil)
	status(t, err, "409")
	_, err = p.AddToxic("x", "teapot", "upstream", 1, nil)
	status(t, err, "invalid toxic type")
	_, err = p.AddToxic("x", "latency", "sideways", 1, nil)
	status(t, err, "stream was invalid")
	_, err = p.AddToxic("x", "latency", "upstream", 0.5, nil)
	status(t, err, "all connections of the proxy share")
	_, err = p.AddToxic("x", "netem", "downstream", 1, toxiclient.Attributes{"settings": "loss 5%"})
	status(t, err, "the downstream has a loss already")
	_, err = p.AddToxic("x", "netem", "upstream", 1, toxiclient.Attributes{"settings": "lose 5%"})
	status(t, err, "400")
	_, err = p.AddToxic("x", "slicer", "upstream", 1, toxiclient.Attributes{"average_size": 0})
	status(t, err, "average_size")

	up, err := p.UpdateToxic("latency_upstream", -1, toxiclient.Attributes{"latency": 5})
	if err != nil || up.Attributes["latency"] != 5.0 || up.Attributes["jitter"] != 1.0 {
		t.Errorf("%+v, %v", up, err)
	}
	if s := h.link("one").Spec(impair.In); s.Delay.Time != 5*time.Millisecond {
		t.Errorf("upstream is %v", s)
	}
	_, err = p.UpdateToxic("none", -1, nil)
	status(t, err, "404")
	if _, err = p.UpdateToxic("rule_upstream", -1, toxiclient.Attributes{"rule": "drop tcp data 3"}); err != nil {
		t.Error(err)
	}
	if rules := h.link("one").Rules(); len(rules) != 1 || rules[0].Rule.String() != "drop tcp data 3 in" {
		t.Errorf("rules %+v", rules)
	}
	for _, tx := range toxics {
		if err := p.RemoveToxic(tx.Name); err != nil {
			t.Error(err)
		}
	}
	status(t, p.RemoveToxic("none"), "404")
	for _, d := range []impair.Direction{impair.In, impair.Out} {
		if s := h.link("one").Spec(d); s != (impair.Spec{}) {
			t.Errorf("%v is %v after all toxics have gone", d, s)
		}
	}
	if rules := h.link("one").Rules(); len(rules) != 0 {
		t.Errorf("rules %+v", rules)
	}

	options := &toxiclient.ToxicOptions{ProxyName: "one", ToxicName: "slow", ToxicType: "latency", Stream: "upstream", Toxicity: 1, Attributes: toxiclient.Attributes{"latency": 1}}
	if _, err := h.client.AddToxic(options); err != nil {
		t.Error(err)
	}
	if _, err := h.client.UpdateToxic(options); err != nil {
		t.Error(err)
	}
	if err := h.client.RemoveToxic(options); err != nil {
		t.Error(err)
	}

	many, err := h.client.Populate([]toxiclient.Proxy{
		{Name: "one", Listen: p.Listen, Upstream: h.upstream, Enabled: true},
		{Name: "two", Listen: "127.0.0.1:0", Upstream: h.upstream, Enabled: true},
	})
	if err != nil || len(many) != 2 {
		t.Fatalf("%+v, %v", many, err)
	}
	exchange(t, connect(t, many[1]), "hello")
	_, err = h.client.Populate([]toxiclient.Proxy{{Name: "three"}})
	status(t, err, "missing required field: upstream at proxy 1")
	taken, err := h.client.Populate([]toxiclient.Proxy{{Name: "three", Listen: h.upstream, Upstream: h.upstream, Enabled: true}})
	if err == nil || len(taken) != 0 {
		t.Errorf("a port that is taken: %+v, %v", taken, err)
	}

	many[1].AddToxic("", "latency", "", 1, toxiclient.Attributes{"latency": 1})
	many[1].Disable()
	if err := h.client.ResetState(); err != nil {
		t.Error(err)
	}
	two, err := h.client.Proxy("two")
	if err != nil || !two.Enabled || len(two.ActiveToxics) != 0 {
		t.Errorf("after reset: %+v, %v", two, err)
	}
	if err := two.Delete(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", two.Listen); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("deleted: dial gives %v", err)
	}
	status(t, two.Delete(), "404")
}

// What others have set of the link stays, beside toxics.
func TestBase(t *testing.T) {
	h := newHarness(t)
	p := h.proxy(t, "one")
	set := func(text string) {
		s, err := impair.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.link("one").Set(impair.Out, s); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want string) {
		t.Helper()
		if s := h.link("one").Spec(impair.Out).String(); s != want {
			t.Errorf("downstream is %q, want %q", s, want)
		}
	}
	set("delay 10ms seed 7 limit 1000")
	p.AddToxic("a", "latency", "", 1, toxiclient.Attributes{"latency": 5})
	is("delay 15ms limit 1000 seed 7")
	set("loss 1% seed 8 limit 1000")
	p.AddToxic("b", "latency", "", 1, toxiclient.Attributes{"latency": 7})
	is("delay 12ms loss 1% limit 1000 seed 8")
	p.RemoveToxic("a")
	p.RemoveToxic("b")
	is("loss 1% limit 1000 seed 8")
}

// Toxics of a connection's bytes.
func TestToxics(t *testing.T) {
	h := newHarness(t)
	p := h.proxy(t, "one")
	add := func(t *testing.T, kind, stream string, attrs toxiclient.Attributes) {
		t.Helper()
		if _, err := p.AddToxic("it", kind, stream, 1, attrs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.RemoveToxic("it") })
	}
	for _, stream := range []string{"upstream", "downstream"} {
		t.Run("limit_data "+stream, func(t *testing.T) {
			add(t, "limit_data", stream, toxiclient.Attributes{"bytes": 10})
			before := h.passed("one")
			c := connect(t, p)
			io.WriteString(c, "0123456789abcdef")
			b, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix("0123456789", string(b)) {
				t.Errorf("got %q, %v", b, err)
			}
			if stream == "downstream" && string(b) != "0123456789" {
				t.Errorf("got %q", b)
			}
			// What was on its way arrives, and no more: the connection is over by then.
			c.Close()
			testenv.Await(t, "the connection to end", func() bool { st := h.passed("one"); return st.ConnsAll > before.ConnsAll && st.Conns == 0 })
			if n := h.passed("one").Out.Bytes - before.Out.Bytes; stream == "upstream" && n != 10 {
				t.Errorf("%d bytes went to the server", n)
			}
		})
		t.Run("timeout "+stream, func(t *testing.T) {
			c := connect(t, p)
			exchange(t, c, "before")
			add(t, "timeout", stream, toxiclient.Attributes{"timeout": 30})
			io.WriteString(c, "held back")
			if b, err := io.ReadAll(c); err != nil || len(b) != 0 {
				t.Errorf("got %q, %v; want the end", b, err)
			}
		})
		t.Run("timeout 0 "+stream, func(t *testing.T) {
			c := connect(t, p)
			exchange(t, c, "before")
			add(t, "timeout", stream, toxiclient.Attributes{"timeout": 0})
			io.WriteString(c, "held back")
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // what did not come by then may yet: it must not
			if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil {
				t.Errorf("%d bytes came", n)
			}
			c.SetReadDeadline(time.Time{})
			p.RemoveToxic("it")
			b := make([]byte, 9)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "held back" {
				t.Errorf("got %q, %v after the toxic has gone", b, err)
			}
		})
		t.Run("reset_peer "+stream, func(t *testing.T) {
			c := connect(t, p)
			exchange(t, c, "before")
			add(t, "reset_peer", stream, toxiclient.Attributes{"timeout": 10})
			io.WriteString(c, "x")
			if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read gives %v, want ECONNRESET", err)
			}
		})
		t.Run("slow_close "+stream, func(t *testing.T) {
			add(t, "slow_close", stream, toxiclient.Attributes{"delay": 40})
			c := connect(t, p)
			exchange(t, c, "before")
			start := time.Now()
			c.CloseWrite()
			if _, err := io.ReadAll(c); err != nil || time.Since(start) < 40*time.Millisecond {
				t.Errorf("the end came after %v, %v; want 40 ms or more", time.Since(start), err)
			}
		})
		t.Run("slicer "+stream, func(t *testing.T) {
			add(t, "slicer", stream, toxiclient.Attributes{"average_size": 10, "size_variation": 3})
			c := connect(t, p)
			var mu sync.Mutex
			small := 0
			dir := map[string]impair.Direction{"upstream": impair.In, "downstream": impair.Out}[stream]
			link := h.link("one")
			id, err := link.AddRule(impair.Rule{Verb: impair.VerbHold, Time: time.Nanosecond, Match: impair.Match{Proto: "tcp", Kind: impair.KindData, Way: dir.String(), Under: 20 + 60 + 14}})
			if err != nil {
				t.Fatal(err)
			}
			defer link.DelRule(id)
			stop := link.Observe(func(f impair.Fault, _ []byte) {
				mu.Lock()
				defer mu.Unlock()
				small++
			})
			defer stop()
			exchange(t, c, strings.Repeat("0123456789", 20))
			mu.Lock()
			defer mu.Unlock()
			if small < 10 {
				t.Errorf("%d small segments passed", small)
			}
		})
	}
}

// Of a toxicity below 1 some connections are free.
func TestToxicity(t *testing.T) {
	h := newHarness(t)
	p := h.proxy(t, "one")
	if _, err := p.AddToxic("", "limit_data", "upstream", 0.5, toxiclient.Attributes{"bytes": 0}); err != nil {
		t.Fatal(err)
	}
	const n = 40
	free := 0
	for range n {
		c := connect(t, p)
		io.WriteString(c, "x")
		c.CloseWrite()
		if b, _ := io.ReadAll(c); string(b) == "x" {
			free++
		}
		c.Close()
	}
	if free < n/5 || free > n-n/5 {
		t.Errorf("%d of %d connections are free, want about half", free, n)
	}
}

func TestOther(t *testing.T) {
	h := newHarness(t)
	url := "http://" + h.Addr().String()
	get := func(method, path, body, agent string) (int, string) {
		t.Helper()
		r, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", agent)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	for _, tt := range []struct {
		method, path, body, agent string
		status                    int
		want                      string
	}{
		{"GET", "/version", "", "x", 200, `{"version":"` + APIVersion + `"}`},
		{"GET", "/proxies", "", "Mozilla/5.0", 403, "User agent not allowed"},
		{"GET", "/nothing", "", "x", 404, "404 page not found"},
		{"POST", "/proxies", "{", "x", 400, `{"error":"bad request body: unexpected EOF","status":400}`},
		{"POST", "/proxies", `{"name":"a/b","upstream":"127.0.0.1:1"}`, "x", 400, ""},
		{"POST", "/proxies", `{"name":"off","upstream":"127.0.0.1:1","enabled":false}`, "x", 201, `{"name":"off","listen":"localhost:0","upstream":"127.0.0.1:1","enabled":false,"toxics":[]}`},
		{"POST", "/proxies/off/toxics", `{"type":"latency","attributes":{"latency":7}}`, "x", 200, `{"attributes":{"latency":7,"jitter":0},"name":"latency_downstream","type":"latency","stream":"downstream","toxicity":1}`},
		{"GET", "/proxies/off/toxics/latency_downstream", "", "x", 200, `{"attributes":{"latency":7,"jitter":0},"name":"latency_downstream","type":"latency","stream":"downstream","toxicity":1}`},
		{"POST", "/proxies/off/toxics", `{"type":"latency","attributes":{"latency":-7}}`, "x", 400, ""},
		{"PATCH", "/proxies/off", `{"enabled":true}`, "x", 200, ""},
		{"DELETE", "/proxies/off/toxics/latency_downstream", "", "x", 204, ""},
		{"DELETE", "/proxies/off", "", "x", 204, ""},
	} {
		if st, body := get(tt.method, tt.path, tt.body, tt.agent); st != tt.status || tt.want != "" && body != tt.want {
			t.Errorf("%s %s %s: %d %s; want %d %s", tt.method, tt.path, tt.body, st, body, tt.status, tt.want)
		}
	}
}
