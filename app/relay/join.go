package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/catflap/catflap/stack"
)

// Conn is a stream connection that can be closed one way, and reset: *net.TCPConn and
// *stack.TCPConn are.
type Conn interface {
	net.Conn
	CloseWrite() error
	SetLinger(sec int) error // 0: Close resets
}

// Result is how a joined connection ended.
type Result struct {
	Out, In int64 // bytes from a to b, and back
	Err     error // nil: both sides had said all
}

// errIdle ends a connection that was idle for too long.
var errIdle = errors.New("relay: nothing has passed for too long")

const (
	// smallBuffer is what a direction has while it carries little: most connections are
	// idle most of the time, and 10,000 of them take 80 MB so.
	smallBuffer = 4 << 10

	// largeBuffer is what it has, from a pool, while it reads more than fits in a small
	// one: a TSO frame's worth, or a segment on the loopback interface.
	largeBuffer = 64 << 10

	// drainTime is how long the data that came before a reset may take to reach who is to
	// be reset, if that one does not read: the lingering_timeout of web servers.
	drainTime = 5 * time.Second
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// join is two connections, a's client being who came first.
type join struct {
	r    *Relay
	ends [2]end
	from time.Time
	last atomic.Int64 // when something passed, in nanoseconds since from
	once sync.Once
	err  error // of once
}

// end is one of the two.
type end struct {
	Conn
	passed atomic.Int64 // bytes read from it
	broken atomic.Bool  // a write to it has failed: it was reset, whatever its reader says
	closed atomic.Bool  // CloseWrite was called
}

// Join copies between a and b until both have ended, or one is reset, or ctx or the
// relay is at an end. It closes both.
func (r *Relay) Join(ctx context.Context, a, b Conn) Result {
	j := &join{r: r, from: time.Now()}
	j.ends[0].Conn, j.ends[1].Conn = a, b
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		reset(a)
		reset(b)
		return Result{Err: ErrClosed}
	}
	r.joins[j] = struct{}{}
	r.wg.Add(1)
	r.mu.Unlock()
	defer r.wg.Done()
	r.connsAll.Add(1)

	ctx, cancel := r.with(ctx)
	defer cancel()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { defer close(ended); j.fail(context.Cause(ctx)) })
	idle := j.watch()
	var back sync.WaitGroup
	back.Go(func() { j.copy(1, 0) })
	j.copy(0, 1)
	back.Wait()
	idle.stop()
	if !stop() {
		<-ended
	}
	a.Close()
	b.Close()

	r.mu.Lock()
	delete(r.joins, j)
	r.mu.Unlock()
	j.once.Do(func() {}) // its err is ours to read
	switch {
	case errors.Is(j.err, errIdle):
		r.idled.Add(1)
	case j.err != nil && !errors.Is(j.err, ErrClosed):
		r.resets.Add(1)
	}
	return Result{Out: j.ends[0].passed.Load(), In: j.ends[1].passed.Load(), Err: j.err}
}

// copy moves data from one end to the other until there is no more.
func (j *join) copy(from, to int) {
	src, dst := &j.ends[from], &j.ends[to]
	total := &j.r.out.bytes
	if from == 1 {
		total = &j.r.in.bytes
	}
	small := make([]byte, smallBuffer)
	var large *[largeBuffer]byte
	defer func() { putLarge(large) }()
	for {
		buf := small
		if large != nil {
			buf = large[:]
		}
		n, err := src.Read(buf)
		if n > 0 {
			j.last.Store(int64(time.Since(j.from)))
			src.passed.Add(int64(n))
			total.Add(uint64(n))
			if _, werr := dst.Write(buf[:n]); werr != nil {
				j.broke(dst, src, werr)
				return
			}
		}
		switch {
		case err == io.EOF && !src.wasReset():
			if dst.closed.Store(true); dst.CloseWrite() != nil {
				j.fail(syscall.EPIPE)
			}
			return
		case err == io.EOF:
			j.fail(syscall.ECONNRESET)
			return
		case err != nil:
			j.fail(err)
			return
		}
		switch {
		case large == nil && n == len(small):
			large = largeBuffers.Get().(*[largeBuffer]byte)
		case large != nil && n <= len(small):
			putLarge(large)
			large = nil
		}
	}
}

func putLarge(b *[largeBuffer]byte) {
	if b != nil {
		largeBuffers.Put(b)
	}
}

// broke is called when dst, which data from src was for, takes no more. What dst has
// sent before it was reset is still to be read from it, and who does that comes upon the
// reset too: it ends the connection. It may be waiting to write to src.
func (j *join) broke(dst, src *end, err error) {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		j.fail(err)
		return
	}
	dst.broken.Store(true)
	src.SetWriteDeadline(time.Now().Add(drainTime))
	dst.SetReadDeadline(time.Now().Add(drainTime)) // it has been reset, so that this is for a Conn that does not say so
}

// wasReset reports whether an end of data is that of a connection that was reset: its
// writer was told of the reset then, and nobody else will be.
func (e *end) wasReset() bool {
	return e.broken.Load() || !e.closed.Load() && isReset(e.Conn)
}

// fail resets both connections. The first error counts.
func (j *join) fail(err error) {
	j.once.Do(func() {
		j.err = err
		for i := range j.ends {
			reset(j.ends[i].Conn)
		}
	})
}

// reset closes a connection with an RST.
func reset(c Conn) {
	c.SetLinger(0)
	c.Close()
}

func resetConn(c net.Conn) {
	if c, ok := c.(Conn); ok {
		reset(c)
		return
	}
	c.Close()
}

// isReset asks a connection that is open for sending whether it was reset.
func isReset(c net.Conn) bool {
	switch c := base(c).(type) {
	case *stack.TCPConn:
		return c.Info().State == "CLOSED"
	case *net.TCPConn:
		return kernelSaysReset(c)
	}
	return false
}

// base is the connection that others are wrapped around.
func base(c net.Conn) net.Conn {
	for {
		w, ok := c.(interface{ Unwrap() Conn })
		if !ok {
			return c
		}
		c = w.Unwrap()
	}
}

// idleTimer ends a join on which nothing passes. It looks when the time may be over,
// rather than being set anew with each packet.
type idleTimer struct {
	mu    sync.Mutex
	timer *time.Timer // nil: stopped, or there is no limit
}

func (j *join) watch() *idleTimer {
	t := &idleTimer{}
	limit := j.r.cfg.Idle
	if limit < 0 {
		return t
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(limit, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.timer == nil {
			return
		}
		if left := limit - (time.Since(j.from) - time.Duration(j.last.Load())); left > 0 {
			t.timer.Reset(left)
			return
		}
		j.fail(errIdle)
	})
	return t
}

func (t *idleTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// ConnInfo is a joined connection.
type ConnInfo struct {
	Client netip.AddrPort `json:"client"` // who came
	Target netip.AddrPort `json:"target"` // who was dialled
	Out    int64          `json:"out"`    // bytes to Target
	In     int64          `json:"in"`     // bytes to Client
	Since  time.Time      `json:"since"`
}

// Conns returns the connections that are joined now.
func (r *Relay) Conns() (infos []ConnInfo) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for j := range r.joins {
		infos = append(infos, ConnInfo{
			Client: addrPort(j.ends[0].RemoteAddr()), Target: addrPort(j.ends[1].RemoteAddr()),
			Out: j.ends[0].passed.Load(), In: j.ends[1].passed.Load(), Since: j.from,
		})
	}
	return infos
}

// addrPort is a net.Addr of TCP or UDP; zero for others.
func addrPort(a net.Addr) netip.AddrPort {
	p, ok := a.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	ap := p.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// early reads ahead from a connection while its other side is dialled.
type early struct {
	c      Conn
	pieces [][]byte // as they came
	err    error
	done   chan struct{}
}

// readEarly starts to read; gone is called if the connection turns out to be reset.
func readEarly(c Conn, gone func(error)) *early {
	e := &early{c: c, done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for room := make([]byte, smallBuffer); len(room) > 0 && e.err == nil; {
			var n int
			if n, e.err = c.Read(room); n > 0 {
				e.pieces, room = append(e.pieces, room[:n:n]), room[n:]
			}
		}
		if e.err == nil {
			e.err = waitReset(c) // there is no room to read its reset
		}
		if e.err != nil && e.err != io.EOF && !errors.Is(e.err, os.ErrDeadlineExceeded) {
			gone(e.err)
		}
	}()
	return e
}

// stop ends the reading, and returns what was read, with io.EOF if that is all there is,
// and why the connection is gone, if it is.
func (e *early) stop() (first io.Reader, gone error) {
	e.c.SetReadDeadline(time.Unix(1, 0))
	<-e.done
	e.c.SetReadDeadline(time.Time{})
	switch {
	case e.err == nil, e.err == io.EOF:
	case errors.Is(e.err, os.ErrDeadlineExceeded):
		e.err = nil
	default:
		return nil, e.err
	}
	return &pieces{e.pieces, e.err}, nil
}

// waitReset waits until a connection that is not read is reset, or its read deadline has
// passed. Where that cannot be told it returns nil at once.
func waitReset(c net.Conn) error {
	if c, ok := base(c).(*net.TCPConn); ok {
		return kernelWaitsReset(c)
	}
	return nil
}

// pieces yields them one by one, and then an error for ever.
type pieces struct {
	left [][]byte
	err  error
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, p.err
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	return n, nil
}

// primed is a Conn of which something was read already.
type primed struct {
	Conn
	first io.Reader
}

func (c *primed) Unwrap() Conn { return c.Conn }

func (c *primed) Read(p []byte) (int, error) {
	if c.first != nil {
		if n, err := c.first.Read(p); n > 0 || err != nil {
			return n, err
		}
		c.first = nil
	}
	return c.Conn.Read(p)
}
