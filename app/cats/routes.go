package cats

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Greeting is the whole answer to GET /.
const Greeting = "Hello kitty!"

// The answer to GET /, made once: sending it costs no allocation. net/http does
// not write to header values.
var (
	greeting       = []byte(Greeting)
	greetingType   = []string{"text/plain; charset=utf-8"}
	greetingLength = []string{strconv.Itoa(len(Greeting))}
)

const (
	routesHelp = "this server knows /, /cat, /cat/{seed}, /cats, /bytes/{n}, /upload, /conn and /healthz"
	getOnly    = "GET, HEAD"
	uploadOnly = "POST, PUT"

	contentTypeKey  = "Content-Type"
	contentLenKey   = "Content-Length"
	noSniffKey      = "X-Content-Type-Options"
	cacheControlKey = "Cache-Control"
)

// routes returns the server's handler.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/{$}", only(getOnly, hello))
	for _, path := range []string{"/cat", "/cat.svg", "/cat.png", "/cat/{seed}"} {
		mux.Handle(path, only(getOnly, s.cat))
	}
	mux.Handle("/cats", only(getOnly, s.gallery))
	mux.Handle("/bytes/{n}", only(getOnly, s.bytes))
	mux.Handle("/upload", only(uploadOnly, s.upload))
	mux.Handle("/conn", only(getOnly, s.conn))
	mux.Handle("/healthz", only(getOnly, s.healthz))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, http.StatusNotFound, "there is nothing at %q; %s", r.URL.Path, routesHelp)
	})

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() && r.URL.Path != "/healthz" {
			w.Header().Set("Connection", "close")
			fail(w, http.StatusServiceUnavailable, "the server is shutting down; try again in a moment")
			return
		}
		// net/http reads an unwanted body to its end before it answers, and
		// without a deadline it would wait for it without end.
		if r.Body != http.NoBody && s.cfg.ReadHeaderTimeout > 0 {
			// The error of a foreign ResponseWriter without deadlines: it
			// has limits of its own.
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.cfg.ReadHeaderTimeout))
		}
		if r.URL.Path == "/" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			hello(w, r) // past the mux: this route is the one that is measured
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// only answers 405 to methods that are not in allow, a comma-separated list.
func only(allow string, h http.HandlerFunc) http.Handler {
	methods := strings.Split(allow, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, m := range methods {
			if r.Method == m {
				h(w, r)
				return
			}
		}
		w.Header().Set("Allow", allow)
		fail(w, http.StatusMethodNotAllowed, "%s is not possible on %s; use one of: %s", r.Method, r.URL.Path, allow)
	})
}

// fail answers with a status and one line of text that says why and what to do.
func fail(w http.ResponseWriter, status int, format string, args ...any) {
	h := w.Header()
	h[contentTypeKey] = greetingType
	h.Set(noSniffKey, "nosniff")
	h.Set(cacheControlKey, "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, format+"\n", args...)
}

// answer sends a whole body of a known type; net/http leaves it out for HEAD.
func answer(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set(contentTypeKey, contentType)
	h.Set(contentLenKey, strconv.Itoa(len(body)))
	h.Set(noSniffKey, "nosniff")
	w.Write(body) // a lost connection is the client's news
}

func hello(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h[contentTypeKey] = greetingType
	h[contentLenKey] = greetingLength
	w.Write(greeting)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		fail(w, http.StatusServiceUnavailable, "draining")
		return
	}
	w.Header().Set(cacheControlKey, "no-store")
	answer(w, greetingType[0], []byte("ok\n"))
}

// netInfo is what net.Conn tells about a connection.
type netInfo struct {
	Network string `json:"network"`
	Local   string `json:"local"`
	Remote  string `json:"remote"`
}

func (s *Server) conn(w http.ResponseWriter, r *http.Request) {
	var info any
	if c := connOf(r); c != nil && s.cfg.ConnInfo != nil {
		info = s.cfg.ConnInfo(c)
	}
	if info == nil {
		network, local, remote := endpoints(r)
		info = netInfo{network, local, remote}
	}
	body, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		s.cfg.Logger.Error("connection information cannot be encoded", "type", fmt.Sprintf("%T", info), "err", err)
		fail(w, http.StatusInternalServerError, "the information on this connection cannot be encoded: %v", err)
		return
	}
	w.Header().Set(cacheControlKey, "no-store")
	answer(w, "application/json", append(body, '\n'))
}

// bytes answers the first n bytes of the pattern, or ranges of them.
func (s *Server) bytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseUint(r.PathValue("n"), 10, 63)
	if err != nil || n > MaxBytes {
		fail(w, http.StatusBadRequest, "%q is not a number of bytes; use a decimal from 0 to %d, such as /bytes/1048576", r.PathValue("n"), uint64(MaxBytes))
		return
	}
	h := w.Header()
	h.Set(contentTypeKey, "application/octet-stream")
	h.Set(cacheControlKey, "no-transform")
	h.Set("Etag", `"pattern-1-`+strconv.FormatUint(n, 10)+`"`)
	http.ServeContent(patternWriter{w}, r, "", time.Time{}, NewPattern(int64(n)))
}

// patternWriter lets http.ServeContent write a pattern without a buffer in
// between: it copies from an io.LimitedReader, which would otherwise hide the
// pattern's WriteTo.
type patternWriter struct{ http.ResponseWriter }

// ReadFrom implements io.ReaderFrom.
func (w patternWriter) ReadFrom(r io.Reader) (int64, error) {
	if lr, ok := r.(*io.LimitedReader); ok {
		if p, ok := lr.R.(*Pattern); ok {
			n, err := p.writeTo(w.ResponseWriter, lr.N)
			lr.N -= n
			return n, err
		}
	}
	return io.Copy(w.ResponseWriter, r) // several ranges, as multipart
}
