package cats

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"time"
)

// listener hands the server's connections to net/http, each with a slot and
// registered, so that Close finds every one of them.
type listener struct {
	net.Listener
	srv *Server
}

func (l *listener) Accept() (net.Conn, error) {
	s := l.srv
	if s.slots != nil {
		select {
		case s.slots <- struct{}{}:
		case <-s.done:
			return nil, net.ErrClosed
		}
	}
	nc, err := l.Listener.Accept()
	if err != nil {
		s.release()
		return nil, err
	}
	c := &conn{Conn: nc, srv: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		s.release()
		return nil, net.ErrClosed
	}
	s.conns[c] = struct{}{}
	s.group.Add(1)
	return c, nil
}

func (s *Server) release() {
	if s.slots != nil {
		<-s.slots
	}
}

// connState follows a connection through net/http. It runs on the connection's
// goroutine, apart from StateNew.
func (s *Server) connState(nc net.Conn, state http.ConnState) {
	c := nc.(*conn)
	busy := state == http.StateActive
	if busy != c.busy {
		c.busy = busy
		if busy {
			s.busy.Add(1)
		} else if s.busy.Add(-1) == 0 && s.draining.Load() {
			select {
			case s.quiet <- struct{}{}:
			default: // one token says it all
			}
		}
	}
	if state == http.StateClosed {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		s.release()
		s.group.Done()
	}
}

// conn is a connection whose writes fail when the peer takes nothing for
// StallTimeout.
type conn struct {
	net.Conn
	srv  *Server
	busy bool // a request runs; the connection's goroutine only
}

// Write writes all of p, however slowly, as long as each StallTimeout moves at
// least one byte. A deadline for the whole of p would cut a slow link.
func (c *conn) Write(p []byte) (n int, err error) {
	stall := c.srv.cfg.StallTimeout
	if stall == 0 {
		return c.Conn.Write(p)
	}
	for {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(stall)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:])
		n += m
		if m == 0 || n == len(p) || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// CloseWrite lets net/http send FIN before it closes, where the connection can,
// so that an answer sent before the request was read survives.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return nil
}

type connKey struct{}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

// connOf returns the connection of a request that came through Serve, else nil.
func connOf(r *http.Request) net.Conn {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c.Conn
	}
	return nil
}

// endpoints returns the network and the addresses of a request's connection.
func endpoints(r *http.Request) (network, local, remote string) {
	if c := connOf(r); c != nil {
		return c.LocalAddr().Network(), c.LocalAddr().String(), c.RemoteAddr().String()
	}
	network, remote = "tcp", r.RemoteAddr
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		network, local = a.Network(), a.String()
	}
	return network, local, remote
}
