package cats

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of [Config].
const (
	// DefaultReadHeaderTimeout is as long as a connection may be idle between
	// requests: whoever holds one open to look at it has not asked yet.
	DefaultReadHeaderTimeout = 2 * time.Minute

	// DefaultIdleTimeout keeps a browser's connections over a reading pause.
	DefaultIdleTimeout = 2 * time.Minute

	// DefaultStallTimeout is longer than five retransmissions of one segment
	// (1+2+4+8+16 s), so that only a dead peer or a zero window is cut.
	DefaultStallTimeout = 60 * time.Second

	// DefaultMaxHeaderBytes holds any browser's header eight times over.
	DefaultMaxHeaderBytes = 16 << 10

	// DefaultMaxConns bounds goroutines and buffers: about 16 KiB an idle
	// connection, 128 MiB in all.
	DefaultMaxConns = 8192

	// DefaultMaxUpload is the largest upload body in bytes, 1 TiB as for /bytes.
	DefaultMaxUpload = 1 << 40
)

// Config configures a [Server]. The zero value is ready to use.
type Config struct {
	// Logger hears of connections that could not be accepted and of handlers
	// that panicked; requests are not logged. If nil, nothing is logged.
	Logger *slog.Logger

	// ConnInfo returns what /conn answers for a connection, as a value
	// encoding/json can encode. It is called with the connection the
	// listener's Accept returned, concurrently, and must not keep or use it
	// for I/O. If nil, or if it returns nil, /conn answers what net.Conn
	// tells: network, local and remote address.
	ConnInfo func(net.Conn) any

	// ReadHeaderTimeout bounds the arrival of a request's header, and of a
	// body sent to a route that wants none. If zero, DefaultReadHeaderTimeout;
	// if negative, no limit.
	ReadHeaderTimeout time.Duration

	// IdleTimeout bounds the wait for the next request of a connection.
	// If zero, DefaultIdleTimeout; if negative, no limit.
	IdleTimeout time.Duration

	// StallTimeout ends a transfer in which the peer has not taken, or sent,
	// a single byte for so long. Each byte of progress starts it anew: a slow
	// transfer is never cut. If zero, DefaultStallTimeout; if negative, no limit.
	StallTimeout time.Duration

	// MaxHeaderBytes bounds a request's header in bytes (net/http adds 4 KiB
	// of slack). If zero or negative, DefaultMaxHeaderBytes.
	MaxHeaderBytes int

	// MaxConns bounds the connections served at once; beyond it, connections
	// wait in the listener's backlog. If zero, DefaultMaxConns; if negative,
	// no limit.
	MaxConns int

	// MaxUpload bounds an upload's body in bytes. If zero, DefaultMaxUpload;
	// if negative, no limit.
	MaxUpload int64
}

// limit resolves a documented zero or negative value: zero means def, negative
// means none, which is 0 for the caller.
func limit[T int | int64 | time.Duration](v, def T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 0
	}
	return v
}

// Server is the cat server. Create one with [NewServer]; a server that was shut
// down or closed is not used again. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	http    http.Server
	handler http.Handler

	draining  atomic.Bool
	busy      atomic.Int64  // connections with a request from its first byte to its flushed answer
	quiet     chan struct{} // capacity 1: busy fell to zero while draining
	done      chan struct{} // closed by Close
	slots     chan struct{} // one token a connection; nil: no limit
	rendering chan struct{} // one token a PNG being drawn

	mu     sync.Mutex
	closed bool
	conns  map[*conn]struct{} // every accepted connection that still has a goroutine
	group  sync.WaitGroup     // len(conns); no Add once closed
}

// NewServer returns a server with no listener yet.
func NewServer(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.ReadHeaderTimeout = limit(cfg.ReadHeaderTimeout, DefaultReadHeaderTimeout)
	cfg.IdleTimeout = limit(cfg.IdleTimeout, DefaultIdleTimeout)
	cfg.StallTimeout = limit(cfg.StallTimeout, DefaultStallTimeout)
	cfg.MaxConns = limit(cfg.MaxConns, DefaultMaxConns)
	cfg.MaxUpload = limit(cfg.MaxUpload, DefaultMaxUpload)
	if cfg.MaxHeaderBytes <= 0 {
		cfg.MaxHeaderBytes = DefaultMaxHeaderBytes
	}

	s := &Server{
		cfg:   cfg,
		quiet: make(chan struct{}, 1),
		done:  make(chan struct{}),
		// Drawing is pure computation: more at once than there are
		// processors would only hold more images in memory.
		rendering: make(chan struct{}, runtime.GOMAXPROCS(0)),
		conns:     make(map[*conn]struct{}),
	}
	if cfg.MaxConns > 0 {
		s.slots = make(chan struct{}, cfg.MaxConns)
	}
	s.handler = s.routes()

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	s.http = http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: cfg.ReadHeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		Protocols:         &protocols,
		ConnState:         s.connState,
		ConnContext:       withConn,
	}
	if cfg.IdleTimeout == 0 {
		s.http.IdleTimeout = -1 // zero would mean ReadTimeout to net/http
	}
	return s
}

// Handler returns the server's routes for use in another http.Server. Without
// this server's listener, /conn and /cat know the connection by the request's
// addresses alone, and StallTimeout does not guard writes.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve accepts connections on l and serves them until Shutdown or Close, then
// returns http.ErrServerClosed; any other error is the listener's own. It
// closes l. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	err := s.http.Serve(&listener{Listener: l, srv: s})
	select {
	case <-s.done: // an Accept that Close ended may have been quicker to say so
		return http.ErrServerClosed
	default:
		return err
	}
}

// Shutdown drains the server. At once, /healthz answers 503, any other new
// request is refused with 503, and idle connections are closed; requests
// already running go on. The listeners stay open meanwhile, so that a health
// check is answered and not refused. When the last running request is
// finished, or ctx is done, everything is closed as by Close; in the latter
// case requests were cut and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.http.SetKeepAlivesEnabled(false)
	var err error
	for err == nil && s.busy.Load() > 0 {
		select {
		case <-s.quiet:
		case <-s.done:
			return s.Close()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close closes the listeners and all connections, running transfers included,
// and returns when the last connection's goroutine has ended. It is idempotent.
// It must not be called from a handler.
func (s *Server) Close() error {
	s.draining.Store(true)
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
	for c := range s.conns {
		c.Conn.Close() // unblocks its goroutine; the error has no reader
	}
	s.mu.Unlock()
	err := s.http.Close()
	s.group.Wait()
	return err
}
