// Package httpd is the life of an HTTP server: it answers on the listeners that it is given, and ends with all that it started.
package httpd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Config describes a Server.
type Config struct {
	Name    string // in messages
	Handler http.Handler

	HeaderTimeout time.Duration // for a request's header to arrive
	IdleTimeout   time.Duration // of a kept-alive connection
	MaxHeader     int           // bytes of a request's header
	MaxConns      int           // open at once, on each listener; more wait in its backlog

	// Goodbye is how long Close waits for requests that run to end by themselves, once their contexts have ended. If it is 0,
	// Close cuts their connections at once.
	Goodbye time.Duration

	Logger *slog.Logger
}

// Server is an HTTP server. Close ends it.
type Server struct {
	cfg    Config
	http   http.Server
	ctx    context.Context // of every request; ends when Close begins
	cancel context.CancelFunc
	close  func() error

	wg     sync.WaitGroup // accept loops, connections, and what Go started
	mu     sync.Mutex
	closed bool // Close has begun; guarded by mu
}

// New returns a server with no listener yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.close = sync.OnceValue(s.shut)
	s.http = http.Server{
		Handler:           cfg.Handler,
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    cfg.MaxHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return s.ctx },
		ConnState:         s.connState,
	}
	return s
}

// Context ends when Close begins. It is the parent of every request's context.
func (s *Server) Context() context.Context { return s.ctx }

// Go runs f in a goroutine for which Close waits. It must not be called after Close but by a handler.
func (s *Server) Go(f func()) { s.wg.Go(f) }

// Serve answers on l, which it closes in the end, and returns at once.
func (s *Server) Serve(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		l.Close()
		return
	}
	s.wg.Go(func() {
		err := s.http.Serve(netutil.LimitListener(l, s.cfg.MaxConns))
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.cfg.Logger.Error(s.cfg.Name, "addr", l.Addr(), "err", err)
		}
	})
}

// connState counts connections. The accept loop, which is counted itself, calls it for a new one.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.wg.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.wg.Done()
	}
}

// Close ends every request, closes the listeners, and waits for every goroutine. It may be called more than once, but not by
// a handler.
func (s *Server) Close() error { return s.close() }

func (s *Server) shut() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	err := s.drain()
	s.wg.Wait()
	return err
}

func (s *Server) drain() error {
	if s.cfg.Goodbye > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Goodbye)
		defer cancel()
		if err := s.http.Shutdown(ctx); err == nil {
			return nil
		}
	}
	return s.http.Close()
}
