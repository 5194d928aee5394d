package toxiproxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/catflap/catflap/app/relay"
)

// conn is a connection of the host from which one stream enters the link: that of a
// client (upstream) or of the server (downstream). Its toxics are done as it is read.
type conn struct {
	relay.Conn
	p      *entry
	stream string

	// One goroutine reads.
	passed int64
	held   []byte // read, and not let through yet
	sliced bool

	mu       sync.Mutex
	drawn    map[*toxic]bool // by toxicity
	timers   map[*toxic]*time.Timer
	ended    bool
	closed   chan struct{}
	once     sync.Once
	deadline time.Time
	moved    chan struct{} // closed when deadline has changed
}

// Unwrap lets the relay see what the connection is, while its end is its own.
func (c *conn) Unwrap() relay.Conn {
	if c.isEnded() {
		return struct{ relay.Conn }{c.Conn}
	}
	return c.Conn
}

func newConn(p *entry, stream string, under relay.Conn) *conn {
	c := &conn{Conn: under, p: p, stream: stream, drawn: map[*toxic]bool{}, timers: map[*toxic]*time.Timer{}, closed: make(chan struct{}), moved: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
	c.retimeLocked()
	return c
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.p.mu.Lock()
		defer c.p.mu.Unlock()
		delete(c.p.conns, c)
		for _, t := range c.timers {
			t.Stop()
		}
	})
	return c.Conn.Close()
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	close(c.moved)
	c.moved = make(chan struct{})
	if c.ended {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// find returns the attributes of a toxic of type T that this connection has drawn.
func find[T attributes](c *conn) (a T, ok bool) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, t := range c.p.toxics {
		if a, is := t.Attributes.(T); is && t.Stream == c.stream && c.drewLocked(t) {
			return a, true
		}
	}
	return a, false
}

// drewLocked decides, once for each toxic, whether it is for this connection. entry.mu is held.
func (c *conn) drewLocked(t *toxic) bool {
	d, ok := c.drawn[t]
	if !ok {
		d = c.p.rng.Float32() < t.Toxicity
		c.drawn[t] = d
	}
	return d
}

// retimeLocked starts the timers of timeout toxics, and stops those of toxics that have
// gone. entry.mu is held.
func (c *conn) retimeLocked() {
	here := map[*toxic]bool{}
	for _, t := range c.p.toxics {
		a, ok := t.Attributes.(*timeout)
		if !ok || t.Stream != c.stream || a.Timeout == 0 || !c.drewLocked(t) {
			continue
		}
		here[t] = true
		if c.timers[t] == nil {
			c.timers[t] = time.AfterFunc(ms(a.Timeout), c.end)
		}
	}
	for t, timer := range c.timers {
		if !here[t] {
			timer.Stop()
			delete(c.timers, t)
		}
	}
}

// end has both sides see the end of the connection.
func (c *conn) end() {
	c.mu.Lock()
	c.ended = true
	close(c.moved)
	c.moved = make(chan struct{})
	c.Conn.SetReadDeadline(time.Unix(1, 0))
	c.mu.Unlock()
	c.Conn.CloseWrite()
}

func (c *conn) isEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// wait waits for d, or for ever if d is negative, until the toxics change.
func (c *conn) wait(d time.Duration) error {
	var at <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		at = t.C
	}
	c.p.mu.Lock()
	changed := c.p.changed
	c.p.mu.Unlock()
	for {
		c.mu.Lock()
		deadline, moved, ended := c.deadline, c.moved, c.ended
		c.mu.Unlock()
		var late <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return os.ErrDeadlineExceeded
			}
			t := time.NewTimer(left)
			defer t.Stop()
			late = t.C
		}
		if ended {
			return io.EOF
		}
		select {
		case <-at:
			return nil
		case <-changed:
			return nil
		case <-moved:
		case <-late:
		case <-c.closed:
			return os.ErrClosed
		}
	}
}

// Write implements net.Conn. Who has seen the end is sent nothing more.
func (c *conn) Write(p []byte) (int, error) {
	if c.isEnded() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if err != nil && c.isEnded() {
		return len(p), nil
	}
	return n, err
}

// CloseWrite implements relay.Conn.
func (c *conn) CloseWrite() error {
	if c.isEnded() {
		return nil
	}
	return c.Conn.CloseWrite()
}

// gate waits while a toxic of this kind holds the stream.
func (c *conn) gate() error {
	for {
		if _, ok := find[*timeout](c); !ok {
			return nil
		}
		if err := c.wait(-1); err != nil {
			return err
		}
	}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if c.isEnded() {
		return 0, io.EOF
	}
	if err := c.gate(); err != nil {
		return 0, err
	}
	if len(c.held) > 0 {
		n := copy(p, c.held)
		c.held = c.held[n:]
		return n, nil
	}
	size := len(p)
	if a, ok := find[*slicer](c); ok && size > 0 {
		if c.sliced && a.Delay > 0 {
			if err := c.wait(time.Duration(a.Delay) * time.Microsecond); err != nil {
				return 0, err
			}
		}
		c.sliced = true
		slice := a.AverageSize
		if a.SizeVariation > 0 {
			c.p.mu.Lock()
			slice += c.p.rng.Int64N(2*a.SizeVariation+1) - a.SizeVariation
			c.p.mu.Unlock()
		}
		size = min(size, int(slice))
	}
	if a, ok := find[*limitData](c); ok {
		left := a.Bytes - c.passed
		if left <= 0 {
			c.end()
			return 0, io.EOF
		}
		size = int(min(int64(size), left))
	}
	n, err := c.Conn.Read(p[:size])
	c.passed += int64(n)
	if c.isEnded() {
		return 0, io.EOF
	}
	if a, ok := find[*resetPeer](c); ok && (n > 0 || err == io.EOF) {
		if err := c.wait(ms(a.Timeout)); err == nil {
			c.SetLinger(0)
			c.Close()
			return 0, syscall.ECONNRESET
		}
	}
	if a, ok := find[*slowClose](c); ok && err == io.EOF {
		if werr := c.wait(ms(a.Delay)); werr != nil && !errors.Is(werr, io.EOF) {
			return n, werr
		}
	}
	if werr := c.gate(); werr != nil { // one has come while this waited
		if !errors.Is(werr, io.EOF) {
			c.held = append(c.held, p[:n]...)
		}
		return 0, werr
	}
	return n, err
}
