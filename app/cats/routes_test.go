package cats

import (
	"bytes"
	"encoding/json"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	s := start(t, Config{})
	c := s.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: cat\r\nConnection: close\r\n\r\n")
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(all, []byte("\r\n\r\n"))
	if string(body) != "Hello kitty!" {
		t.Errorf("body %q", body)
	}
	for _, line := range []string{"HTTP/1.1 200 OK", "Content-Type: text/plain; charset=utf-8", "Content-Length: 12"} {
		if !bytes.Contains(head, []byte(line)) {
			t.Errorf("no %q in the header:\n%s", line, head)
		}
	}
}

// TestHead asks each route with GET and HEAD: same status and length, no body.
func TestHead(t *testing.T) {
	s := start(t, Config{})
	for _, path := range []string{"/", "/cat/luna.svg", "/cat/luna.png", "/cats", "/bytes/1000", "/healthz", "/nothing"} {
		get, body := s.get(path)
		head, none := s.do("HEAD", path, nil)
		if head.StatusCode != get.StatusCode || len(none) != 0 {
			t.Errorf("HEAD %s: status %d and %d bytes, want %d and none", path, head.StatusCode, len(none), get.StatusCode)
		}
		if get.StatusCode == 200 && head.ContentLength != int64(len(body)) {
			t.Errorf("HEAD %s: Content-Length %d, GET has %d bytes", path, head.ContentLength, len(body))
		}
		if h, g := head.Header.Get("Content-Type"), get.Header.Get("Content-Type"); h != g {
			t.Errorf("HEAD %s: Content-Type %q, GET's is %q", path, h, g)
		}
	}
}

func TestErrorsAreHelpful(t *testing.T) {
	s := start(t, Config{})
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/dog", 404, "this server knows /, /cat"},
		{"GET", "/cat/a/b", 404, "/cat/{seed}"},
		{"GET", "/cat/", 404, "/cat/{seed}"},
		{"GET", "/cat/.svg", 400, "such as /cat/luna"},
		{"GET", "/cat/" + strings.Repeat("x", MaxSeed+1), 400, "more than 128"},
		{"GET", "/cat/luna.png?size=15", 400, "from 16 to 1024"},
		{"GET", "/cat/luna.png?size=big", 400, `"big" is not a number`},
		{"GET", "/cats?from=-1", 400, "such as /cats?from=24"},
		{"GET", "/cats?from=99999999999999999999", 400, "such as /cats?from=24"},
		{"GET", "/bytes/-1", 400, "from 0 to 1099511627776"},
		{"GET", "/bytes/1099511627777", 400, "from 0 to 1099511627776"},
		{"GET", "/bytes/1k", 400, "from 0 to 1099511627776"},
		{"POST", "/", 405, "GET, HEAD"},
		{"DELETE", "/cat/luna", 405, "GET, HEAD"},
		{"POST", "/bytes/1", 405, "GET, HEAD"},
		{"GET", "/upload", 405, "POST, PUT"},
		{"OPTIONS", "/conn", 405, "GET, HEAD"},
	} {
		resp, body := s.do(c.method, c.path, nil)
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s %.40s: status %d, %q; want %d and %q", c.method, c.path, resp.StatusCode, body, c.status, c.says)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
			t.Errorf("%s %.40s: Content-Type %q", c.method, c.path, ct)
		}
		if c.status == 405 && resp.Header.Get("Allow") != c.says {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, resp.Header.Get("Allow"), c.says)
		}
	}
}

func TestBytes(t *testing.T) {
	s := start(t, Config{})
	for _, n := range []int{0, 1, 1460, patternChunk, PatternPeriod, 3<<20 + 5} {
		resp, body := s.get("/bytes/" + strconv.Itoa(n))
		if resp.StatusCode != 200 || resp.ContentLength != int64(n) || len(body) != n || resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("/bytes/%d: status %d, Content-Length %d, %d bytes, header %v", n, resp.StatusCode, resp.ContentLength, len(body), resp.Header)
		}
		if i := CheckPattern(body, 0); i != -1 {
			t.Errorf("/bytes/%d: wrong at %d", n, i)
		}
	}
}

func TestBytesRange(t *testing.T) {
	s := start(t, Config{})
	const tib = "/bytes/1099511627776"
	etag := `"pattern-1-1099511627776"`
	for _, c := range []struct {
		header       []string
		status       int
		offset       int64
		length       int
		contentRange string
	}{
		{[]string{"Range", "bytes=0-0"}, 206, 0, 1, "bytes 0-0/1099511627776"},
		{[]string{"Range", "bytes=1000000-2999999"}, 206, 1000000, 2000000, "bytes 1000000-2999999/1099511627776"},
		{[]string{"Range", "bytes=1099511627770-"}, 206, 1099511627770, 6, "bytes 1099511627770-1099511627775/1099511627776"},
		{[]string{"Range", "bytes=-1000"}, 206, MaxBytes - 1000, 1000, "bytes 1099511626776-1099511627775/1099511627776"},
		{[]string{"Range", "bytes=5-9", "If-Range", etag}, 206, 5, 5, "bytes 5-9/1099511627776"},
	} {
		resp, body := s.get(tib, c.header...)
		if resp.StatusCode != c.status || len(body) != c.length || resp.Header.Get("Content-Range") != c.contentRange || resp.Header.Get("Etag") != etag {
			t.Errorf("%v: status %d, %d bytes, header %v", c.header, resp.StatusCode, len(body), resp.Header)
		}
		if i := CheckPattern(body, c.offset); i != -1 {
			t.Errorf("%v: wrong at %d", c.header, i)
		}
	}

	resp, body := s.get("/bytes/10", "Range", "bytes=2-3", "If-Range", `"another"`)
	if resp.StatusCode != 200 || len(body) != 10 {
		t.Errorf("If-Range with another tag: status %d, %d bytes; want all", resp.StatusCode, len(body))
	}
	resp, _ = s.get("/bytes/10", "Range", "bytes=10-")
	if resp.StatusCode != 416 || resp.Header.Get("Content-Range") != "bytes */10" {
		t.Errorf("a range past the end: status %d, header %v", resp.StatusCode, resp.Header)
	}
	resp, _ = s.get("/bytes/10", "If-None-Match", `"pattern-1-10"`)
	if resp.StatusCode != 304 {
		t.Errorf("If-None-Match: status %d, want 304", resp.StatusCode)
	}

	resp, body = s.get(tib, "Range", "bytes=0-9,700000-700099,-5")
	mediaType, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || resp.StatusCode != 206 || mediaType != "multipart/byteranges" {
		t.Fatalf("three ranges: status %d, %v, %v", resp.StatusCode, resp.Header, err)
	}
	parts := multipart.NewReader(bytes.NewReader(body), params["boundary"])
	for _, want := range []struct {
		offset int64
		length int
	}{{0, 10}, {700000, 100}, {MaxBytes - 5, 5}} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(part)
		if len(b) != want.length || CheckPattern(b, want.offset) != -1 {
			t.Errorf("the part %s has %d bytes, or wrong ones", part.Header.Get("Content-Range"), len(b))
		}
	}
}

func TestConn(t *testing.T) {
	s := start(t, Config{})
	resp, body := s.get("/conn")
	var info netInfo
	if err := json.Unmarshal(body, &info); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	if info.Network != "tcp" || info.Local != s.addr || !strings.HasPrefix(info.Remote, "127.0.0.1:") || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("/conn: %+v, header %v", info, resp.Header)
	}

	var seen net.Conn
	hooked := start(t, Config{ConnInfo: func(c net.Conn) any { seen = c; return map[string]int{"fd": 7} }})
	if _, body := hooked.get("/conn"); !json.Valid(body) || !strings.Contains(string(body), `"fd": 7`) {
		t.Errorf("/conn with a hook: %q", body)
	}
	if _, ok := seen.(*net.TCPConn); !ok {
		t.Errorf("the hook was given a %T, want what Accept returned, a *net.TCPConn", seen)
	}
	broken := start(t, Config{ConnInfo: func(net.Conn) any { return func() {} }})
	if resp, body := broken.get("/conn"); resp.StatusCode != 500 || !strings.Contains(string(body), "cannot be encoded") {
		t.Errorf("/conn with a value that JSON does not know: status %d, %q", resp.StatusCode, body)
	}
}

func TestHealthz(t *testing.T) {
	s := start(t, Config{})
	if resp, body := s.get("/healthz"); resp.StatusCode != 200 || string(body) != "ok\n" {
		t.Errorf("/healthz: status %d, %q", resp.StatusCode, body)
	}
}

func TestCatOfSeed(t *testing.T) {
	s := start(t, Config{})
	resp, svg := s.get("/cat/luna")
	if resp.Header.Get("Content-Type") != typeSVG || resp.Header.Get("Vary") != "Accept" || !bytes.Equal(svg, Meet("luna").SVG()) {
		t.Errorf("/cat/luna: %v", resp.Header)
	}
	etag := resp.Header.Get("Etag")
	if etag == "" || resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" {
		t.Errorf("/cat/luna is not to be cached: %v", resp.Header)
	}
	if resp, body := s.get("/cat/luna", "If-None-Match", `"x", W/`+etag); resp.StatusCode != 304 || len(body) != 0 {
		t.Errorf("If-None-Match: status %d, %d bytes", resp.StatusCode, len(body))
	}

	resp, body := s.get("/cat/luna", "Accept", "image/png")
	if resp.Header.Get("Content-Type") != typePNG || resp.Header.Get("Etag") == etag {
		t.Errorf("/cat/luna as PNG: %v", resp.Header)
	}
	if img, err := png.Decode(bytes.NewReader(body)); err != nil || img.Bounds().Dx() != DefaultSize || img.Bounds().Dy() != DefaultSize {
		t.Errorf("/cat/luna as PNG: %v", err)
	}
	// The extension outdoes Accept, and then the answer does not vary.
	resp, body = s.get("/cat/luna.png?size=64", "Accept", typeSVG)
	if img, err := png.Decode(bytes.NewReader(body)); err != nil || img.Bounds().Dx() != 64 || resp.Header.Get("Vary") != "" {
		t.Errorf("/cat/luna.png?size=64: %v, %v", err, resp.Header)
	}
	if resp, body := s.get("/cat/luna", "Accept", "text/html"); resp.StatusCode != 406 || resp.Header.Get("Vary") != "Accept" || !strings.Contains(string(body), typePNG) {
		t.Errorf("an Accept without pictures: status %d, %q", resp.StatusCode, body)
	}
	// A seed is any text, decoded.
	for _, seed := range []string{"a b", "Müller", "a/b", "..", "100%", "<script>", "\x00\xff"} {
		resp, body := s.get("/cat/" + url.PathEscape(seed) + ".svg")
		if resp.StatusCode != 200 || !bytes.Equal(body, Meet(seed).SVG()) {
			t.Errorf("/cat/%q: status %d", seed, resp.StatusCode)
		}
	}
}

func TestCatOfConnection(t *testing.T) {
	s := start(t, Config{})
	same := func(path string) []byte {
		resp, body := s.get(path)
		if resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Etag") != "" {
			t.Errorf("%s: status %d, header %v", path, resp.StatusCode, resp.Header)
		}
		return body
	}
	first := same("/cat")
	if !bytes.Equal(first, same("/cat")) || !bytes.Equal(first, same("/cat.svg")) {
		t.Error("a kept-alive connection's cat changed")
	}
	if _, err := png.Decode(bytes.NewReader(same("/cat.png"))); err != nil {
		t.Error(err)
	}
	s.client.CloseIdleConnections()
	if bytes.Equal(first, same("/cat")) {
		t.Error("a new connection got the old one's cat")
	}
}

func TestGallery(t *testing.T) {
	s := start(t, Config{})
	resp, body := s.get("/cats?from=24")
	page := string(body)
	if resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'; img-src 'self'; style-src 'sha256-") {
		t.Errorf("header %v", resp.Header)
	}
	for i := 24; i < 48; i++ {
		seed := strconv.Itoa(i)
		if !strings.Contains(page, `href="/cat/`+seed+`"`) || !strings.Contains(page, `src="/cat/`+seed+`.svg"`) || !strings.Contains(page, `alt="`+Meet(seed).String()+`"`) {
			t.Errorf("cat %d is not on the page as it should be", i)
		}
	}
	if !strings.Contains(page, `href="/cats?from=0"`) || !strings.Contains(page, `href="/cats?from=48"`) {
		t.Error("no way to the pages before and after")
	}
	// The style's hash is that of the style on the page, byte for byte.
	style := page[strings.Index(page, "<style>")+7 : strings.Index(page, "</style>")]
	if style != galleryCSS {
		t.Error("the style on the page is not the one the policy names")
	}
	for _, outside := range []string{"http:", "https:", "<script", "style=", "url("} {
		if strings.Contains(page, outside) {
			t.Errorf("the page contains %q", outside)
		}
	}
	if _, body := s.get("/cats"); strings.Contains(string(body), `rel="prev"`) {
		t.Error("the first page has one before it")
	}
	if _, body := s.get("/cats?from=" + strconv.Itoa(galleryLast)); strings.Contains(string(body), `rel="next"`) {
		t.Error("the last page has one after it")
	}
}

// FuzzRoutes asks for anything with anything: the server answers, without a
// panic, and never with a status nobody chose.
func FuzzRoutes(f *testing.F) {
	for _, path := range []string{"/", "/cat", "/cat/x.png?size=16", "/cat/%00", "/cats?from=7", "/bytes/9", "/upload", "//", "/../cat", "/cat/.png"} {
		f.Add("GET", path, "image/png;q=0.5", "bytes=0-1")
	}
	h := NewServer(Config{}).Handler()
	f.Fuzz(func(t *testing.T, method, target, accept, ranges string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.HasPrefix(u.Path, "/bytes/") && len(u.Path) > len("/bytes/1000000") {
			return // not a request, or more than a recorder holds
		}
		r := &http.Request{Method: method, URL: u, Host: "cat", Body: http.NoBody, RemoteAddr: "192.0.2.1:1",
			Header: http.Header{"Accept": {accept}, "Range": {ranges}}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case 200, 206, 301, 304, 307, 400, 404, 405, 406, 416:
		default:
			t.Errorf("%s %q: status %d, %q", method, target, w.Code, w.Body)
		}
	})
}
