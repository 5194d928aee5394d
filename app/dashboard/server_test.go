package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// site is a server on this machine's loopback, for a stack with nothing but a loopback of its own.
type site struct {
	t     testing.TB
	s     *Server
	stack *stack.Stack
	addr  string // of the server
}

func newSite(t testing.TB, change func(*Config)) *site {
	t.Helper()
	a, b := tun.Pipe(1500)
	link := impair.New(a, impair.Config{})
	st, err := stack.New(stack.Config{Links: []stack.Link{{Name: "cat0", Endpoint: link, Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Version: "test", Name: "cat0", Driver: "pipe", MTU: 1500, Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.2")}, Stack: st, Netem: link}
	if change != nil {
		change(&cfg)
	}
	w := &site{t: t, s: New(cfg), stack: st}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	w.s.Serve(l, w.addr)
	t.Cleanup(func() {
		if err := w.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		st.Close()
		b.Close()
	})
	return w
}

// ask makes a request with headers "Name: value", and returns status, body and header.
func (w *site) ask(method, path, body string, headers ...string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.addr+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	tp := &http.Transport{DisableKeepAlives: true}
	resp, err := tp.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// get decodes what a GET answers.
func get[T any](w *site, path string) (v T) {
	w.t.Helper()
	status, body, _ := w.ask("GET", path, "")
	if status != 200 {
		w.t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		w.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
	return v
}

const asJSON = "Content-Type: application/json"

func (w *site) token() string { return tokenHeader + ": " + w.s.Token() }

// Who may ask: the rules against other sites' pages and names.
func TestWhoMayAsk(t *testing.T) {
	w := newSite(t, nil)
	_, port, _ := net.SplitHostPort(w.addr)
	own := "Origin: http://" + w.addr
	for _, tt := range []struct {
		why          string
		method, path string
		headers      []string
		status       int
	}{
		{"the address itself", "GET", "/api/info", nil, 200},
		{"a loopback name", "GET", "/api/info", []string{"Host: localhost:" + port}, 200},
		{"a loopback name, any case, without a port", "GET", "/api/info", []string{"Host: LocalHost"}, 200},
		{"another port: a tunnel to here", "GET", "/api/info", []string{"Host: localhost:9999"}, 200},
		{"IPv6 loopback", "GET", "/api/info", []string{"Host: [::1]:" + port}, 200},
		{"the stack's own address", "GET", "/api/info", []string{"Host: 10.9.0.2:8098"}, 200},
		{"rebinding: another site's name", "GET", "/api/info", []string{"Host: evil.example:" + port}, 421},
		{"rebinding: also for the page", "GET", "/", []string{"Host: evil.example"}, 421},
		{"rebinding: also for streams", "GET", "/api/stream", []string{"Host: evil.example"}, 421},
		{"a name that only looks right", "GET", "/api/info", []string{"Host: localhost.evil.example"}, 421},
		{"a name that only looks right", "GET", "/api/info", []string{"Host: 127.0.0.1.evil.example"}, 421},
		{"another machine's address", "GET", "/api/info", []string{"Host: 10.9.0.3"}, 421},
		{"no address", "GET", "/api/info", []string{"Host: 0x7f.1"}, 421},
		{"its own page", "GET", "/api/info", []string{own, "Sec-Fetch-Site: same-origin"}, 200},
		{"another site's page", "GET", "/api/info", []string{"Origin: http://evil.example"}, 403},
		{"another site's page", "GET", "/api/stream", []string{"Origin: http://evil.example"}, 403},
		{"another port's page", "GET", "/api/info", []string{"Origin: http://127.0.0.1:1"}, 403},
		{"another scheme's page", "GET", "/api/info", []string{"Origin: https://" + w.addr}, 403},
		{"no page's origin", "GET", "/api/info", []string{"Origin: null"}, 403},
		{"another site's image or script", "GET", "/api/info", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"a sibling's", "GET", "/api/info", []string{"Sec-Fetch-Site: same-site"}, 403},
		{"typed in", "GET", "/api/info", []string{"Sec-Fetch-Site: none"}, 200},
		{"a link to the page", "GET", "/", []string{"Sec-Fetch-Site: cross-site"}, 200},
		{"a change by its own page", "POST", "/api/token", []string{own, asJSON, w.token()}, 204},
		{"a change by a program", "POST", "/api/token", []string{asJSON, w.token()}, 204},
		{"a change by another page, though it had the token", "POST", "/api/token", []string{"Origin: http://evil.example", asJSON, w.token()}, 403},
		{"no token", "POST", "/api/token", []string{own, asJSON}, 401},
		{"an empty token", "POST", "/api/token", []string{own, asJSON, tokenHeader + ":  "}, 401},
		{"a wrong token", "POST", "/api/token", []string{own, asJSON, tokenHeader + ": " + strings.Repeat("0", 32)}, 401},
		{"a token's beginning", "POST", "/api/token", []string{own, asJSON, tokenHeader + ": " + w.s.Token()[:31]}, 401},
		{"the token in the URL is none", "POST", "/api/token?token=" + w.s.Token(), []string{own, asJSON}, 401},
		{"no token", "POST", "/api/netem", []string{asJSON}, 401},
		{"no token", "POST", "/api/rules", []string{asJSON}, 401},
		{"no token", "DELETE", "/api/rules/1", nil, 401},
		{"no token", "POST", "/api/transfer", []string{asJSON}, 401},
		{"a form, which any page can send", "POST", "/api/token", []string{"Content-Type: text/plain", w.token()}, 415},
	} {
		body := ""
		if tt.method == "POST" {
			body = "{}"
		}
		if tt.path == "/api/stream" && tt.status == 200 {
			t.Fatal("a stream does not end")
		}
		status, answer, h := w.ask(tt.method, tt.path, body, tt.headers...)
		if status != tt.status {
			t.Errorf("%s: %s %s %v: %d %s, want %d", tt.why, tt.method, tt.path, tt.headers, status, answer, tt.status)
		}
		if status >= 400 && status != 404 {
			var r refusal
			if err := json.Unmarshal([]byte(answer), &r); err != nil || r.Message == "" || r.Remedy == "" {
				t.Errorf("%s: the refusal does not say what and what to do: %s", tt.why, answer)
			}
		}
		if strings.Contains(answer, w.s.Token()) {
			t.Errorf("%s: the answer has the token", tt.why)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": csp, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s %q", tt.why, name, h.Get(name))
			}
		}
		if got := h.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("%s: other sites may read: %s", tt.why, got)
		}
	}
}

// The opener's policy is sent where browsers heed it: elsewhere they complain.
func TestOpenerPolicy(t *testing.T) {
	w := newSite(t, nil)
	for host, want := range map[string]string{"localhost:80": "same-origin", "127.0.0.1": "same-origin", "[::1]:1": "same-origin", "10.9.0.2:8098": ""} {
		if _, _, h := w.ask("GET", "/", "", "Host: "+host); h.Get("Cross-Origin-Opener-Policy") != want {
			t.Errorf("%s: %q, want %q", host, h.Get("Cross-Origin-Opener-Policy"), want)
		}
	}
}

// A name that the user gave to listen on is the server's own.
func TestNamedHost(t *testing.T) {
	w := newSite(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.s.Serve(l, "cathouse.example:0")
	for host, want := range map[string]int{"cathouse.example": 200, "CatHouse.example:80": 200, "example": 421} {
		if status, _, _ := w.ask("GET", "/api/info", "", "Host: "+host); status != want {
			t.Errorf("host %s: %d, want %d", host, status, want)
		}
	}
}

func TestToken(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		tok := newToken()
		if len(tok) != 32 || seen[tok] {
			t.Fatalf("token %q", tok)
		}
		seen[tok] = true
	}
}

// Bad requests are refused with what is wrong.
func TestBadRequests(t *testing.T) {
	w := newSite(t, nil)
	for _, tt := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/api/nothing", "", 404, "there is no GET /api/nothing"},
		{"POST", "/api/info", "{}", 404, "there is no POST /api/info"},
		{"GET", "/nothing.js", "", 404, "there is no /nothing.js"},
		{"GET", "/assets/index.html", "", 404, ""},
		{"POST", "/", "{}", 405, "want GET"},
		{"GET", "/api/packet/1000000", "", 404, "not, or no longer, kept"},
		{"GET", "/api/packet/x", "", 400, `packet "x"`},
		{"GET", "/api/packet/-1", "", 400, `packet "-1"`},
		{"GET", "/api/stream?conn=1", "", 404, "connection 1"},
		{"GET", "/api/stream?conn=one", "", 400, `connection "one"`},
		{"GET", "/api/capture?conn=99", "", 404, "connection 99"},
		{"GET", "/api/capture?conn=0", "", 400, `connection "0"`},
		{"POST", "/api/token", "{", 400, "body"},
		{"POST", "/api/token", "", 400, "body"},
		{"POST", "/api/token", "{} {}", 400, "more than one"},
		{"POST", "/api/token", `{"token":1}`, 400, "token"},
		{"POST", "/api/token", "{" + strings.Repeat(" ", maxBody) + "}", 413, "16384 bytes"},
		{"POST", "/api/netem", `{"dir":"sideways","spec":""}`, 400, `direction "sideways"`},
		{"POST", "/api/netem", `{"dir":"in","spec":"loss much"}`, 400, `"much" at column 6`},
		{"POST", "/api/netem", `{"dir":"in","spec":"loss 101%"}`, 400, "101%"},
		{"POST", "/api/netem", `{"dir":"in","loss":3}`, 400, "loss"},
		{"POST", "/api/rules", `{"text":"drop everything"}`, 400, `"everything"`},
		{"POST", "/api/rules", `{"text":""}`, 400, "no words"},
		{"POST", "/api/rules", `[]`, 400, "body"},
		{"DELETE", "/api/rules/7", "", 404, "no rule 7"},
		{"DELETE", "/api/rules/x", "", 404, "no rule x"},
		{"POST", "/api/transfer", `{"bytes":1,"dir":"down"}`, 501, "no client"},
	} {
		status, body, _ := w.ask(tt.method, tt.path, tt.body, asJSON, w.token())
		if status != tt.status || !strings.Contains(body, strings.ReplaceAll(tt.says, `"`, `\"`)) {
			t.Errorf("%s %s %.40s: %d %s, want %d and %q", tt.method, tt.path, tt.body, status, body, tt.status, tt.says)
		}
	}
	status, body, _ := w.ask("POST", "/api/netem", `{"dir":"in","spec":"loss much"}`, asJSON, w.token())
	var r refusal
	if err := json.Unmarshal([]byte(body), &r); err != nil || status != 400 || r.Place != "loss much\n     ^^^^" || len(r.Expected) == 0 {
		t.Errorf("%s: want the place and what could stand there", body)
	}
}

// Controls change the link.
func TestControls(t *testing.T) {
	w := newSite(t, nil)
	do := func(method, path, body string) string {
		t.Helper()
		status, answer, _ := w.ask(method, path, body, asJSON, w.token())
		if status >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, status, answer)
		}
		return answer
	}
	answer := do("POST", "/api/netem", `{"dir":"out","spec":"delay 20ms loss 1% seed 5"}`)
	if !strings.Contains(answer, `"in":"","out":"delay 20ms loss 1% limit 1000 seed 5"`) {
		t.Errorf("answer %s", answer)
	}
	if got := w.s.cfg.Netem.Spec(impair.Out).Delay.Time; got != 20*time.Millisecond {
		t.Errorf("the link delays by %s", got)
	}
	do("POST", "/api/netem", `{"dir":"both","spec":""}`)
	if got := w.s.cfg.Netem.Spec(impair.Out).String(); got != "" {
		t.Errorf("cleared, the link still does %s", got)
	}
	if got := do("POST", "/api/rules", `{"text":"drop tcp data 1 from server"}`); got != `{"id":1,"text":"drop tcp data 1 from server"}` {
		t.Errorf("answer %s", got)
	}
	var o Overview
	testenv.Await(t, "an overview with the rule", func() bool { // one is kept for a while
		o = get[Overview](w, "/api/overview")
		return o.Netem != nil && len(o.Netem.Rules) > 0
	})
	if len(o.Netem.Rules) != 1 || o.Netem.Rules[0] != (netemRule{1, "drop tcp data 1 from server", 0}) {
		t.Errorf("overview: %+v", o.Netem)
	}
	do("DELETE", "/api/rules/1", "")
	if n := len(w.s.cfg.Netem.Rules()); n != 0 {
		t.Errorf("%d rules are left", n)
	}
}

func TestInfo(t *testing.T) {
	w := newSite(t, nil)
	i := get[Info](w, "/api/info")
	if i.Mode != "live" || i.Name != "cat0" || !i.Controls || i.Transfer || i.Payload || i.Recording != "always" || i.Since == nil ||
		len(i.Stack.Addrs) != 1 || i.Limits.Packets != maxEvents || i.Now <= 0 {
		t.Errorf("%+v", i)
	}
}

// talk has a client and a server on the stack's loopback say something, and returns the client's address.
func (w *site) talk() netip.AddrPort {
	w.t.Helper()
	l, err := w.stack.Listen("tcp4", "127.0.0.1:7")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	c, err := w.stack.DialContext(w.t.Context(), "tcp4", "127.0.0.1:7")
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	srv, err := l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	defer srv.Close()
	if _, err := c.Write([]byte("secret")); err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.ReadFull(srv, make([]byte, 6)); err != nil {
		w.t.Fatal(err)
	}
	return netip.MustParseAddrPort(c.LocalAddr().String())
}

// A live stack: both ends of a conversation on it, its packets one by one, and as a file.
func TestLive(t *testing.T) {
	w := newSite(t, nil)
	at := w.talk()
	var rows []row
	testenv.Await(t, "both ends have all bytes", func() bool {
		rows = get[[]row](w, "/api/connections?closed=1")
		return len(rows) == 2 && rows[0].TX+rows[1].TX == 6 && rows[0].RX+rows[1].RX == 6
	})
	roles := map[string]row{rows[0].Role: rows[0], rows[1].Role: rows[1]}
	if c := roles["client"]; c.Local != at.String() || c.TX != 6 || c.FD < 0 {
		t.Errorf("client %+v", c)
	}
	srv := roles["server"]
	if srv.Local != "127.0.0.1:7" || srv.RX != 6 || srv.FD < 0 {
		t.Errorf("server %+v", srv)
	}
	events := w.s.rec.find(srv.ID)
	cur := w.s.rec.cursor(events)
	batch, _ := w.s.rec.read(&cur, nil, maxBatch)
	for _, e := range batch {
		if e.packet == nil {
			continue
		}
		d := get[Detail](w, fmt.Sprintf("/api/packet/%d", e.seq))
		if d.Len != e.packet.len || len(d.Hex) != 2*d.Captured || !strings.Contains(d.Text, "127.0.0.1.7") || len(d.Decision) == 0 {
			t.Errorf("packet %d: %+v", e.seq, d)
		}
		last := 0
		for _, f := range d.Fields {
			if f.Start < 0 || f.End > d.Captured || f.Start >= f.End {
				t.Errorf("packet %d of %d bytes: field %+v", e.seq, d.Captured, f)
			}
			last = max(last, f.End)
		}
		if last != d.Captured {
			t.Errorf("packet %d: fields end at %d of %d", e.seq, last, d.Captured)
		}
		if hidden := strings.Count(d.Hex, "."); hidden != 2*e.packet.plen {
			t.Errorf("packet %d: %d bytes of %d of the payload are hidden", e.seq, hidden/2, e.packet.plen)
		}
	}
	status, body, h := w.ask("GET", fmt.Sprintf("/api/capture?conn=%d", srv.ID), "")
	if status != 200 || strings.Contains(body, "secret") || !strings.Contains(h.Get("Content-Disposition"), ".pcapng") {
		t.Errorf("capture: %d, header %v", status, h)
	}
	rec, err := record.Read(strings.NewReader(body))
	if err != nil || rec.Cut != "" || rec.Foreign {
		t.Fatalf("capture: %v, %+v", err, rec.Cut)
	}
	// What was downloaded is viewed by the same code.
	v := New(Config{Name: "x.pcapng", Recording: rec})
	defer v.Close()
	again := v.rec.rows(true)
	if len(again) != 1 {
		t.Fatalf("%d connections in the file, want 1", len(again))
	}
	now := w.s.rec.find(srv.ID).row()
	if a := again[0]; a.Local != now.Local || a.Remote != now.Remote || a.RX != now.RX || a.TX != now.TX || a.State != now.State || a.Role != now.Role || a.FD != now.FD {
		t.Errorf("live %+v\nview %+v", now, a)
	}
	if status, body, _ := w.ask("GET", "/api/capture", ""); status != 200 || len(body) < 1000 {
		t.Errorf("the capture of all: %d, %d bytes", status, len(body))
	}
}

// The page is served with a tag, and not twice.
func TestAssets(t *testing.T) {
	w := newSite(t, nil)
	status, body, h := w.ask("GET", "/", "")
	if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/html") || !strings.Contains(body, "<html") {
		t.Fatalf("%d %v", status, h)
	}
	if status, body, _ := w.ask("GET", "/", "", "If-None-Match: "+h.Get("ETag")); status != 304 || body != "" {
		t.Errorf("the same page again: %d, %d bytes", status, len(body))
	}
	if status, _, _ := w.ask("GET", "/", "", `If-None-Match: "other"`); status != 200 {
		t.Errorf("another page: %d", status)
	}
	if err := fstest.TestFS(assets, "assets/index.html"); err != nil {
		t.Error(err)
	}
}

// events reads a stream, and yields its events until ctx ends or the stream does.
type message struct{ name, data string }

func (w *site) open(ctx context.Context, query string) (<-chan message, func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.addr+"/api/stream"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	tp := &http.Transport{DisableKeepAlives: true}
	resp, err := tp.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("stream: %s", resp.Status)
	}
	ch, done := make(chan message), make(chan struct{})
	go func() {
		defer close(done)
		defer close(ch)
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 16<<20)
		var m message
		for lines.Scan() {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				m.name = value
			case "data":
				m.data = value
				select {
				case ch <- m:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return ch, func() { cancel(); <-done }
}

// A stream tells of the stack, the connections, and one of them from its beginning on; and of the server's end.
func TestStream(t *testing.T) {
	w := newSite(t, func(c *Config) { c.answer, c.goodbye = time.Hour, time.Hour })
	w.talk()
	var id int
	testenv.Await(t, "the server's end is listed", func() bool {
		for _, c := range get[[]row](w, "/api/connections?closed=1") {
			if c.Role == "server" {
				id = c.ID
			}
		}
		return id != 0
	})
	begin := time.Now()
	ch, stop := w.open(t.Context(), fmt.Sprintf("?conn=%d", id))
	defer stop()
	var names []string
	var b struct {
		Conn   int
		Reset  bool
		Events []struct{ K, Flags string }
	}
	for m := range ch {
		names = append(names, m.name)
		if m.name == "batch" {
			if err := json.Unmarshal([]byte(m.data), &b); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if got := strings.Join(names, " "); got != "overview connections calls batch" {
		t.Errorf("messages %s", got)
	}
	if b.Conn != id || !b.Reset || len(b.Events) < 6 || b.Events[0].K != "p" || b.Events[0].Flags != "S" {
		t.Errorf("first batch: %+v", b)
	}
	closed := make(chan error, 1)
	overviews := 1
	last := message{}
	for m := range ch {
		last = m
		if m.name != "overview" {
			continue
		}
		if overviews++; overviews == 3 {
			go func() { closed <- w.s.Close() }()
		}
		if took, want := time.Since(begin), time.Duration(overviews-1)*overviewInterval; took < want {
			t.Errorf("%d overviews in %v, want them in no less than %v", overviews, took, want)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if last.name != "bye" {
		t.Errorf("the last message is %+v, want a goodbye", last)
	}
}

// Beyond the limit a stream is refused, and when one ends there is room again.
func TestTooManyStreams(t *testing.T) {
	w := newSite(t, nil)
	var stops []func()
	for range maxStreams {
		_, stop := w.open(t.Context(), "")
		stops = append(stops, stop)
	}
	if status, body, _ := w.ask("GET", "/api/stream", ""); status != 503 || !strings.Contains(body, "16 pages") {
		t.Errorf("%d %s, want 503", status, body)
	}
	if status, _, _ := w.ask("GET", "/api/info", ""); status != 200 {
		t.Errorf("other requests: %d", status)
	}
	stops[0]()
	testenv.Await(t, "there is room again", func() bool { return len(w.s.streams) < maxStreams })
	_, stop := w.open(t.Context(), "")
	stop()
	for _, stop := range stops[1:] {
		stop()
	}
}

// On demand the stack is followed while somebody looks.
func TestOnDemand(t *testing.T) {
	w := newSite(t, func(c *Config) { c.OnDemand = true })
	l, err := w.stack.Listen("tcp4", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.s.Ready()
	calls := w.s.rec.calls.kept.Len()
	if calls < 3 {
		t.Errorf("%d calls, want those of the start: socket, bind, listen", calls)
	}
	before := w.s.rec.version()
	if i := get[Info](w, "/api/info"); i.Since != nil || i.Recording != "watched" {
		t.Errorf("%+v, want nothing to be recorded", i)
	}
	w.talk()
	if n := w.s.rec.version(); n != before {
		t.Errorf("%d events were recorded with nobody there", n-before)
	}
	_, stop := w.open(t.Context(), "")
	if i := get[Info](w, "/api/info"); i.Since == nil {
		t.Error("nothing is recorded")
	}
	w.talk()
	testenv.Await(t, "events are recorded", func() bool { return w.s.rec.version() > before+10 })
	stop()
	testenv.Await(t, "the viewer has left", func() bool {
		w.s.watch.mu.Lock()
		defer w.s.watch.mu.Unlock()
		return w.s.watch.rest != nil
	})
	if i := get[Info](w, "/api/info"); i.Since == nil {
		t.Error("recording ends at once: a reload would lose what was there")
	}
	w.s.watch.stop() // the minute is over
	if i := get[Info](w, "/api/info"); i.Since != nil {
		t.Error("recording goes on")
	}
	_, stop = w.open(t.Context(), "")
	defer stop()
	n := w.s.rec.version()
	w.talk()
	testenv.Await(t, "events are recorded again", func() bool { return w.s.rec.version() > n+10 })
}

// The transfer's connection is found by its client's address.
func TestTransfer(t *testing.T) {
	asked := make(chan string, 1)
	fail := errors.New("the cat is out")
	w := newSite(t, func(c *Config) {
		c.Transfer = func(ctx context.Context, n int64, up bool, connected func(netip.AddrPort)) error {
			asked <- fmt.Sprint(n, up)
			if n == 13 {
				return fail
			}
			connected(client)
			<-ctx.Done()
			return ctx.Err()
		}
	})
	if !get[Info](w, "/api/info").Transfer {
		t.Error("info: no transfers")
	}
	b := seg{flags: packet.SYN, seq: 1}.bytes(client, server)
	w.s.rec.Add(&stack.Event{Seq: 1 << 30, Time: time.Now(), Packet: &stack.PacketEvent{Len: len(b), Data: b, FD: -1}})
	ask := func(body string) (int, string) {
		status, answer, _ := w.ask("POST", "/api/transfer", body, asJSON, w.token())
		return status, answer
	}
	if status, body := ask(`{"bytes":5000,"dir":"up"}`); status != 200 || body != `{"conn":1}` || <-asked != "5000 true" {
		t.Errorf("%d %s", status, body)
	}
	if status, body := ask(`{"bytes":13,"dir":"down"}`); status != 502 || !strings.Contains(body, fail.Error()) || <-asked != "13 false" {
		t.Errorf("%d %s", status, body)
	}
	for _, body := range []string{`{"bytes":0,"dir":"up"}`, `{"bytes":100000001,"dir":"up"}`, `{"bytes":1,"dir":"left"}`} {
		if status, answer := ask(body); status != 400 {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	for range maxTransfers - 1 {
		if status, body := ask(`{"bytes":1,"dir":"up"}`); status != 200 {
			t.Errorf("%d %s", status, body)
		}
		<-asked
	}
	if status, body := ask(`{"bytes":1,"dir":"up"}`); status != 429 {
		t.Errorf("%d %s, want 429", status, body)
	}
}

// Closing twice, and serving afterwards, do no harm.
func TestClosed(t *testing.T) {
	w := newSite(t, nil)
	if err := errors.Join(w.s.Close(), w.s.Close()); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.s.Serve(l, "")
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want the listener to be closed", err)
	}
}
