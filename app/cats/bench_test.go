package cats

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// quietWriter is a ResponseWriter that costs next to nothing.
type quietWriter struct{ h http.Header }

func (w quietWriter) Header() http.Header         { return w.h }
func (w quietWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w quietWriter) WriteHeader(int)             {}

// BenchmarkHelloHandler is the handler alone.
func BenchmarkHelloHandler(b *testing.B) {
	h := NewServer(Config{}).Handler()
	r := httptest.NewRequest("GET", "/", http.NoBody)
	w := quietWriter{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func serveBenchmark(b *testing.B) net.Conn {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := NewServer(Config{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		s.Close()
		<-done
	})
	return c
}

// BenchmarkHello is a request and its answer on one kept-alive loopback
// connection.
func BenchmarkHello(b *testing.B) {
	c := serveBenchmark(b)
	r := bufio.NewReader(c)
	request := []byte("GET / HTTP/1.1\r\nHost: cat\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n != 12 || err != nil {
			b.Fatal(n, err)
		}
	}
}

// BenchmarkBytes downloads 64 MiB over loopback.
func BenchmarkBytes(b *testing.B) {
	const size = 64 << 20
	c := serveBenchmark(b)
	request := []byte("GET /bytes/" + strconv.Itoa(size) + " HTTP/1.1\r\nHost: cat\r\n\r\n")
	buf := make([]byte, 1<<20)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(request); err != nil {
			b.Fatal(err)
		}
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			b.Fatal(err)
		}
		n := int64(r.Buffered())
		for n < resp.ContentLength {
			m, err := c.Read(buf)
			if err != nil {
				b.Fatal(err)
			}
			n += int64(m)
		}
	}
}

func BenchmarkCatSVG(b *testing.B) {
	i := 0
	for b.Loop() {
		Meet(strconv.Itoa(i % 100)).SVG()
		i++
	}
}

func BenchmarkCatPNG(b *testing.B) {
	i := 0
	for b.Loop() {
		if _, err := Meet(strconv.Itoa(i % 100)).PNG(DefaultSize); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
