package dashboard

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/catflap/catflap/app/internal/httpd"
	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// Config describes a Server.
type Config struct {
	Version string       // catflap's
	Name    string       // of what is shown: a device, or the file of a recording
	Driver  string       // of the device, "" if there is none
	MTU     int          // bytes
	Addrs   []netip.Addr // the stack's

	Payload bool // keep and show payload bytes

	// Stack is followed. If it is nil, Recording is shown instead, which New takes apart.
	Stack     *stack.Stack
	Recording record.Recording

	// OnDemand has the stack followed only until Ready, and while somebody looks, and for a minute after: an event
	// for each packet costs a fast transfer much of its speed.
	OnDemand bool

	Netem *impair.Link     // nil: the link cannot be impaired
	Wire  func() tun.Stats // the device's counters; nil: what events tell

	// Transfer moves bytes between a client and the stack, down to the client or up from it, and calls connected
	// with the client's address once it has one. If nil, the page cannot start transfers.
	Transfer func(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error

	// StackPort is the port of the stack on which this server is served too, 0 if on none, and StackFDs are those of
	// its listeners. What happens there is not recorded: else each message to a page would make events for the next.
	StackPort uint16
	StackFDs  []int

	Logger *slog.Logger // nil: no logs

	answer, goodbye time.Duration // for tests, both or neither: instead of answerTimeout and goodbyeTimeout
}

// Server answers on the listeners that it is given. Close ends it.
type Server struct {
	cfg   Config
	rec   *Recorder
	token string
	http  *httpd.Server // and all goroutines
	log   *slog.Logger

	streams   chan struct{} // a token for each stream
	transfers chan struct{} // and for each transfer

	watch watch
	seen  overviewCache
	notes []string // what is to be known of a recording

	mu    sync.Mutex
	hosts []string // names under which the server is known
	url   string
}

// New returns a server that records already and does not listen yet.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	start := time.Now()
	if cfg.Stack == nil && len(cfg.Recording.Events) > 0 {
		start = cfg.Recording.Events[0].Time
	}
	if cfg.answer == 0 {
		cfg.answer, cfg.goodbye = answerTimeout, goodbyeTimeout
	}
	s := &Server{
		cfg: cfg, rec: NewRecorder(start, cfg.Payload), token: newToken(), log: cfg.Logger,
		streams: make(chan struct{}, maxStreams), transfers: make(chan struct{}, maxTransfers),
	}
	s.http = httpd.New(httpd.Config{
		Name: "dashboard", Handler: s.handler(), HeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeader: maxHeader, MaxConns: maxConns, Goodbye: cfg.goodbye, Logger: s.log,
	})
	if cfg.Stack == nil {
		s.rec.load(cfg.Recording)
		s.notes = notes(cfg.Recording)
		s.cfg.Recording.Events = nil // what is kept of them is in the recorder
		return s
	}
	s.rec.hide(cfg.StackPort, cfg.StackFDs)
	s.watch.start(s)
	return s
}

// Ready tells that the program has made what it starts with, such as its listeners: from here on a server that
// records on demand waits for somebody to look.
func (s *Server) Ready() {
	if s.cfg.OnDemand {
		s.watch.stop()
	}
}

// Token is what a change must carry.
func (s *Server) Token() string { return s.token }

// URL is where a browser on this machine finds the page: on the first listener with a name. It is "" without one.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// Serve answers on l, which it closes in the end, and returns at once. Name is the HOST:PORT that the user gave, whose
// host requests may name; it may be "".
func (s *Server) Serve(l net.Listener, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if host, _, err := net.SplitHostPort(name); err == nil && host != "" {
		s.hosts = append(s.hosts, host)
		if s.url == "" {
			s.url = urlOf(host, l.Addr())
		}
	}
	s.http.Serve(l)
}

func (s *Server) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hosts
}

// Close ends every request, stream and transfer, and waits for every goroutine. It may be called more than once.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(*http.Request) (any, error)) {
		mux.HandleFunc("GET /api/"+path, s.answer(func(_ http.ResponseWriter, r *http.Request) (any, error) { return f(r) }))
	}
	get("info", s.info)
	get("overview", func(*http.Request) (any, error) { return s.overview(), nil })
	get("connections", func(r *http.Request) (any, error) { return s.rec.rows(r.URL.Query().Get("closed") != ""), nil })
	get("packet/{seq}", s.packet)
	mux.HandleFunc("GET /api/stream", s.stream)
	mux.HandleFunc("GET /api/capture", s.capture)
	mux.HandleFunc("POST /api/token", change(s, func(*http.Request, struct{}) (any, error) { return nil, nil }))
	mux.HandleFunc("POST /api/netem", change(s, s.setNetem))
	mux.HandleFunc("POST /api/rules", change(s, s.addRule))
	mux.HandleFunc("DELETE /api/rules/{id}", change(s, s.delRule))
	mux.HandleFunc("POST /api/transfer", change(s, s.transfer))
	mux.HandleFunc("/api/", s.answer(func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return nil, refusef(http.StatusNotFound, "the package's documentation lists the requests", "there is no %s %s", r.Method, r.URL.Path)
	}))
	mux.Handle("/", newAssets())
	return s.guard(mux)
}

// answer makes a handler of a function that returns what to answer: JSON, ready or to be made, or nothing.
func (s *Server) answer(f func(http.ResponseWriter, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(w, r)
		if err != nil {
			refuse(w, err)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		if v == nil {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		b, ok := v.(json.RawMessage)
		if !ok {
			if b, err = json.Marshal(v); err != nil {
				refuse(w, err)
				return
			}
		}
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.answer))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // the client may be gone
	}
}

// Info is what a page asks first.
type Info struct {
	Version   string    `json:"version"`
	Mode      string    `json:"mode"` // "live" or "view"
	Name      string    `json:"name"`
	Start     time.Time `json:"start"`
	Now       float64   `json:"now"`
	Stack     stackInfo `json:"stack"`
	Controls  bool      `json:"controls"`
	Payload   bool      `json:"payload"`
	Transfer  bool      `json:"transfer"`
	Recording string    `json:"recording"` // "always", or "watched": only while somebody looks
	Since     *float64  `json:"since"`     // when the events that are kept now began to be followed; null: they are not
	Notes     []string  `json:"notes"`     // what a reader of a recording should know
	Limits    limits    `json:"limits"`
}

type stackInfo struct {
	Addrs  []string `json:"addrs"`
	Dev    string   `json:"dev"`
	Driver string   `json:"driver"`
	MTU    int      `json:"mtu"`
}

type limits struct {
	Packets     int `json:"packets"`
	PerConn     int `json:"per_connection"`
	Connections int `json:"connections"`
	Clients     int `json:"clients"`
}

func (s *Server) info(*http.Request) (any, error) {
	i := Info{
		Version: s.cfg.Version, Mode: "live", Name: s.cfg.Name, Start: s.rec.start, Now: seconds(s.now()),
		Stack:    stackInfo{Addrs: []string{}, Dev: s.cfg.Name, Driver: s.cfg.Driver, MTU: s.cfg.MTU},
		Controls: s.cfg.Netem != nil, Payload: s.cfg.Payload, Transfer: s.cfg.Transfer != nil,
		Recording: "always", Since: s.watch.since(), Notes: append([]string{}, s.notes...),
		Limits: limits{s.rec.max.events, s.rec.max.connEvents, s.rec.max.connections, maxStreams},
	}
	switch {
	case s.cfg.Stack == nil:
		i.Mode, i.Stack.Dev = "view", ""
		i.Since = new(float64)
	case s.cfg.OnDemand:
		i.Recording = "watched"
	}
	for _, a := range s.cfg.Addrs {
		i.Stack.Addrs = append(i.Stack.Addrs, a.String())
	}
	return i, nil
}

// now is the time since the recording's start: of a recording from a file, that of its last event.
func (s *Server) now() time.Duration {
	if s.cfg.Stack == nil {
		return s.rec.until()
	}
	return time.Since(s.rec.start)
}

// urlOf is where the listener at addr is found, of which the user gave the host.
func urlOf(host string, addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if a, perr := netip.ParseAddr(host); err != nil || perr == nil && a.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}
