package cats

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
)

// site is a server on a kernel loopback listener and a client of it.
type site struct {
	*Server
	t      *testing.T
	addr   string
	client *http.Client
	served chan error // Serve's result
}

func start(t *testing.T, cfg Config) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	s := &site{
		Server: NewServer(cfg), t: t, addr: l.Addr().String(),
		client: &http.Client{Transport: transport, Timeout: testenv.Patience},
		served: make(chan error, 1),
	}
	go func() { s.served <- s.Serve(l) }()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.Close()
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want http.ErrServerClosed", err)
		}
	})
	return s
}

// do sends a request with header fields as name, value pairs and returns the
// response with its body read.
func (s *site) do(method, path string, body io.Reader, header ...string) (*http.Response, []byte) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return resp, b
}

func (s *site) get(path string, header ...string) (*http.Response, []byte) {
	s.t.Helper()
	return s.do("GET", path, nil, header...)
}

// dial opens a connection that is closed when the test ends.
func (s *site) dial() net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testenv.Patience))
	return c
}

func TestShutdownLetsDownloadFinish(t *testing.T) {
	t.Parallel()
	s := start(t, Config{})
	const size = 64 << 20 // more than both socket buffers hold
	resp, err := s.client.Get("http://" + s.addr + "/bytes/67108864")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	idle := s.dial()

	down := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience)
		defer cancel()
		down <- s.Shutdown(ctx)
	}()

	// While the download runs, a health check is answered, and says no.
	for {
		resp, body := s.get("/healthz")
		if resp.StatusCode == 503 {
			if string(body) != "draining\n" {
				t.Errorf("/healthz while draining: body %q", body)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	if resp, _ := s.get("/"); resp.StatusCode != 503 || !resp.Close {
		t.Errorf("GET / while draining: status %d, close %v; want 503 and close", resp.StatusCode, resp.Close)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned %v with a download running", err)
	default:
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("the running download was cut: %v", err)
	}
	if len(body) != size || CheckPattern(body, 0) != -1 {
		t.Errorf("download: %d bytes, first wrong at %d", len(body), CheckPattern(body, 0))
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := idle.Read(make([]byte, 1)); err == nil {
		t.Error("a connection without a request is still open after Shutdown")
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("the listener is still open after Shutdown")
	}
}

func TestShutdownCutsAtDeadline(t *testing.T) {
	s := start(t, Config{})
	resp, err := s.client.Get("http://" + s.addr + "/bytes/1099511627776")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ContentLength != MaxBytes {
		t.Errorf("Content-Length %d, want %d", resp.ContentLength, int64(MaxBytes))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v, want context.DeadlineExceeded", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("a download of 1 TiB ended well")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestStalledDownloadIsCutSlowOneIsNot(t *testing.T) {
	t.Parallel()                  // it waits
	const stall = 2 * time.Second // a busy machine must not keep the slow reader for so long
	s := start(t, Config{StallTimeout: stall})

	// One who reads nothing is cut: the connection's busy count falls.
	stuck := s.dial()
	io.WriteString(stuck, "GET /bytes/1099511627776 HTTP/1.1\r\nHost: cat\r\n\r\n")
	testenv.Await(t, "the request to run", func() bool { return s.busy.Load() == 1 })
	testenv.Await(t, "the stalled request to be cut", func() bool { return s.busy.Load() == 0 })

	// One who reads slowly, but at least a little in each interval, gets all.
	slow := s.dial().(*net.TCPConn)
	slow.SetReadBuffer(16 << 10)
	const size = 8 << 20
	io.WriteString(slow, "GET /bytes/8388608 HTTP/1.1\r\nHost: cat\r\nConnection: close\r\n\r\n")
	begin := time.Now()
	buf := make([]byte, 512<<10)
	total := 0
	for {
		n, err := io.ReadFull(slow, buf)
		total += n
		if err != nil {
			break
		}
		time.Sleep(stall / 5)
	}
	if total < size {
		t.Errorf("a slow reader got %d bytes of %d in %v: it was cut", total, size, time.Since(begin))
	}
	if d := time.Since(begin); d < 2*stall {
		t.Errorf("the slow reader took %v: too fast to show anything", d)
	}
}

func TestUnwantedBodyDoesNotHold(t *testing.T) {
	t.Parallel() // it waits
	s := start(t, Config{ReadHeaderTimeout: 2 * time.Second})
	c := s.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: cat\r\nContent-Length: 10\r\n\r\nfour")
	all, _ := io.ReadAll(c) // an answer, then the end
	if !bytes.Contains(all, []byte("Hello kitty!")) {
		t.Errorf("answer %q", all)
	}
}

func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	slow := start(t, Config{ReadHeaderTimeout: 500 * time.Millisecond}).dial()
	io.WriteString(slow, "GET / HTTP/1.1\r\nHost: c")
	if all, err := io.ReadAll(slow); err != nil || len(all) > 0 && !bytes.Contains(all, []byte("408")) {
		t.Errorf("a header that never ends was answered %q, %v", all, err)
	}
	s := start(t, Config{MaxHeaderBytes: 4 << 10})
	resp, _ := s.get("/", "X-Long", string(bytes.Repeat([]byte("x"), 16<<10)))
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 16 KiB: status %d, want 431", resp.StatusCode)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	s := start(t, Config{IdleTimeout: 100 * time.Millisecond})
	c := s.dial()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: cat\r\n\r\n")
	all, err := io.ReadAll(c)
	if err != nil || !bytes.HasSuffix(all, []byte("\r\n\r\nHello kitty!")) {
		t.Errorf("answer %q, %v", all, err)
	}
}

func TestMaxConns(t *testing.T) {
	s := start(t, Config{MaxConns: 1})
	ask := func(c net.Conn) { io.WriteString(c, "GET / HTTP/1.1\r\nHost: cat\r\n\r\n") }
	first := s.dial()
	ask(first)
	if _, err := first.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	second := s.dial()
	ask(second)
	second.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Fatal("a second connection was served with MaxConns 1")
	}
	first.Close()
	second.SetReadDeadline(time.Now().Add(testenv.Patience))
	if _, err := second.Read(make([]byte, 1)); err != nil {
		t.Errorf("the second connection, after the first ended: %v", err)
	}
}

func TestCloseWithManyConnections(t *testing.T) {
	s := start(t, Config{})
	for range 50 {
		c := s.dial()
		io.WriteString(c, "GET /bytes/1099511627776 HTTP/1.1\r\nHost: cat\r\n\r\n")
	}
	testenv.Await(t, "50 downloads", func() bool { return s.busy.Load() == 50 })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := s.busy.Load(); n != 0 {
		t.Errorf("%d requests still run after Close", n)
	}
}
