package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// direction is one half of a connection: what its readers (or its writers) wait on.
type direction struct {
	use  sync.Mutex    // one reader (writer) at a time, as in the net package
	wake chan struct{} // capacity 1: look again

	mu      sync.Mutex // guards the deadline
	at      time.Time  // zero: none
	armed   time.Time  // when timer fires; zero: it does not
	timer   tcpip.Timer
	expired bool
}

func (d *direction) init() { d.wake = make(chan struct{}, 1) }

func (d *direction) notify() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// setDeadline sets the deadline by the clock c. Moving it later, as servers do
// for every request, leaves the timer alone: when that fires, it looks again.
func (d *direction) setDeadline(c tcpip.Clock, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.expired = t, false
	if t.IsZero() {
		return
	}
	if !d.armed.IsZero() && !d.armed.After(t) {
		return
	}
	left := t.Sub(c.Now())
	if left <= 0 {
		d.expired = true
		d.notify()
		return
	}
	d.armed = t
	if d.timer != nil {
		d.timer.Reset(left)
		return
	}
	d.timer = c.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.armed = time.Time{}
		if d.at.IsZero() || d.expired {
			return
		}
		if left := d.at.Sub(c.Now()); left > 0 {
			d.armed = d.at
			d.timer.Reset(left)
			return
		}
		d.expired = true
		d.notify()
	})
}

func (d *direction) stop() {
	d.mu.Lock()
	if d.timer != nil {
		d.timer.Stop()
	}
	d.at = time.Time{}
	d.mu.Unlock()
}

func (d *direction) isExpired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}

// netFD carries a listener or connection of the net API on a non-blocking socket.
type netFD struct {
	k       *socket
	y       *Sys
	network string // as given to Listen or Dial: "tcp", "udp6", …
	entry   waiter.Entry
	r, w    direction
}

func (f *netFD) init(y *Sys, k *socket, network string) {
	f.y, f.k, f.network = y, k, network
	f.r.init()
	f.w.init()
	f.entry.Init(f, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventErr|waiter.EventHUp|waiter.EventRdHUp)
	k.wq.EventRegister(&f.entry)
}

// NotifyEvent implements waiter.EventListener: netstack says that k may be ready.
func (f *netFD) NotifyEvent(m waiter.EventMask) {
	const fail = waiter.EventErr | waiter.EventHUp
	if m&(waiter.ReadableEvents|waiter.EventRdHUp|fail) != 0 {
		f.r.notify()
	}
	if m&(waiter.WritableEvents|fail) != 0 {
		f.w.notify()
	}
}

// ready is checked before each try: a closed fd and a passed deadline fail, even
// if the call would not block.
func (f *netFD) ready(d *direction) error {
	if f.k.closing.Load() {
		return net.ErrClosed
	}
	if d.isExpired() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// close closes the fd and wakes all that wait on it.
func (f *netFD) close() error {
	if err := f.y.closeSocket(f.k); err != nil {
		return net.ErrClosed
	}
	f.k.wq.EventUnregister(&f.entry)
	f.r.stop()
	f.w.stop()
	f.r.notify()
	f.w.notify()
	return nil
}

// setBuffer sets SO_RCVBUF or SO_SNDBUF.
func (f *netFD) setBuffer(name, bytes int) error {
	if f.k.closing.Load() {
		return net.ErrClosed
	}
	return f.y.setOption(f.k, SOL_SOCKET, name, bytes)
}

// errNoDescriptor is why there is no syscall.RawConn.
var errNoDescriptor = fmt.Errorf("a socket of a userspace stack has no descriptor in the kernel (Stack.Sys makes its calls, by its FD): %w", errors.ErrUnsupported)

func (f *netFD) localAddr() net.Addr { return netAddr(f.k.stream(), f.k.localAddr()) }

// netAddr is the net.Addr of a socket address, as the net package would give it.
func netAddr(stream bool, ap netip.AddrPort) net.Addr {
	if !ap.IsValid() {
		return nil
	}
	ap = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	if stream {
		return net.TCPAddrFromAddrPort(ap)
	}
	return net.UDPAddrFromAddrPort(ap)
}

// TCPConn is a TCP connection of the stack. It implements net.Conn as
// *net.TCPConn does.
type TCPConn struct {
	fd            netFD
	local, remote net.Addr

	rbuf tcpip.SliceWriter // Read's, guarded by fd.r.use
	wbuf payloader         // Write's, guarded by fd.w.use
}

var (
	_ net.Conn      = (*TCPConn)(nil)
	_ io.ReaderFrom = (*TCPConn)(nil)
	_ io.WriterTo   = (*TCPConn)(nil)
	_ syscall.Conn  = (*TCPConn)(nil)
)

// defaultKeepAlive is the net package's: probes after 15 s of silence, every 15 s,
// nine of them, so that dead peers do not pile up.
const (
	defaultKeepAliveIdle     = 15 * time.Second
	defaultKeepAliveInterval = 15 * time.Second
	defaultKeepAliveCount    = 9
)

// newTCPConn wraps a connected socket and sets the options that the net package
// sets: no delay and keepalive.
func (y *Sys) newTCPConn(k *socket, network string) *TCPConn {
	c := &TCPConn{}
	c.fd.init(y, k, network)
	c.setAddrs()
	y.setConnOptions(k)
	return c
}

func (y *Sys) setConnOptions(k *socket) {
	y.setOption(k, SOL_TCP, TCP_NODELAY, 1)
	y.setOption(k, SOL_SOCKET, SO_KEEPALIVE, 1)
	y.setOption(k, SOL_TCP, TCP_KEEPIDLE, int(defaultKeepAliveIdle/time.Second))
	y.setOption(k, SOL_TCP, TCP_KEEPINTVL, int(defaultKeepAliveInterval/time.Second))
	y.setOption(k, SOL_TCP, TCP_KEEPCNT, defaultKeepAliveCount)
}

// setAddrs keeps the addresses: they stay known after the connection has gone.
func (c *TCPConn) setAddrs() {
	c.local = c.fd.localAddr()
	if r, err := c.fd.k.remoteAddr(); err == nil {
		c.remote = netAddr(true, r)
	}
}

// FD returns the connection's fd in the stack.
func (c *TCPConn) FD() int { return c.fd.k.fd }

// Info describes the connection.
func (c *TCPConn) Info() SocketInfo { return c.fd.k.info() }

// LocalAddr implements net.Conn.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *TCPConn) RemoteAddr() net.Addr { return c.remote }

func (c *TCPConn) error(op, call string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return opError(op, c.fd.network, call, c.local, c.remote, err)
}

// Read implements net.Conn.
func (c *TCPConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	return n, c.error("read", "read", err)
}

func (c *TCPConn) read(b []byte) (int, error) {
	d := &c.fd.r
	d.use.Lock()
	defer d.use.Unlock()
	for {
		if err := c.fd.ready(d); err != nil {
			return 0, err
		}
		if len(b) == 0 {
			return 0, nil
		}
		c.rbuf = b
		n, err := c.fd.y.read(c.fd.k, &c.rbuf, b)
		switch {
		case err == syscall.EAGAIN:
			<-d.wake
		case err != nil:
			if c.fd.k.closing.Load() {
				err = net.ErrClosed
			}
			return 0, err
		case n == 0:
			if c.fd.k.closing.Load() {
				return 0, net.ErrClosed
			}
			return 0, io.EOF
		default:
			c.rbuf = nil
			return n, nil
		}
	}
}

// Write implements net.Conn.
func (c *TCPConn) Write(b []byte) (int, error) {
	n, err := c.write(b)
	return n, c.error("write", "write", err)
}

func (c *TCPConn) write(b []byte) (int, error) {
	d := &c.fd.w
	d.use.Lock()
	defer d.use.Unlock()
	sent := 0
	for {
		if err := c.fd.ready(d); err != nil {
			return sent, err
		}
		c.wbuf.b = b[sent:] // nothing, too: what has failed fails then as well
		n, err := c.fd.y.write(c.fd.k, &c.wbuf, b[sent:])
		sent += max(n, 0)
		switch {
		case err == syscall.EAGAIN:
			<-d.wake
		case err != nil:
			if c.fd.k.closing.Load() {
				err = net.ErrClosed
			}
			return sent, err
		case sent == len(b):
			c.wbuf.b = nil
			return sent, nil
		}
	}
}

// write is Write on a non-blocking stream socket; p yields b.
func (y *Sys) write(k *socket, p *payloader, b []byte) (int, error) {
	c := y.begin("write", k.fd)
	n, err := k.send(p, netip.AddrPort{}, 0)
	if c != nil {
		c.ev.Buffer = transferred(b, len(b))
		c.end(k, int64(n), err)
	}
	return n, err
}

// copyBufferSize is how much WriteTo and ReadFrom move at once: a TSO frame's worth.
const copyBufferSize = 64 << 10

var copyBuffers = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

// ReadFrom implements io.ReaderFrom. Data is sent as soon as r has given some.
func (c *TCPConn) ReadFrom(r io.Reader) (int64, error) {
	return copyThrough(c, r)
}

// copyThrough copies r to w through a pooled buffer until r ends.
func copyThrough(w io.Writer, r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[copyBufferSize]byte)
	defer copyBuffers.Put(buf)
	var total int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			m, werr := w.Write(buf[:n])
			total += int64(m)
			switch {
			case werr != nil:
				return total, werr
			case m < n:
				return total, io.ErrShortWrite
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// WriteTo implements io.WriterTo.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) {
	return copyThrough(w, c)
}

// Close implements net.Conn.
func (c *TCPConn) Close() error { return c.error("close", "close", c.fd.close()) }

// CloseRead shuts the reading side down.
func (c *TCPConn) CloseRead() error {
	err := c.shutdown(SHUT_RD)
	c.fd.r.notify()
	return err
}

// CloseWrite sends FIN once all that was written has been sent.
func (c *TCPConn) CloseWrite() error {
	err := c.shutdown(SHUT_WR)
	c.fd.w.notify()
	return err
}

func (c *TCPConn) shutdown(how int) error {
	if c.fd.k.closing.Load() {
		return c.error("close", "shutdown", net.ErrClosed)
	}
	return c.error("close", "shutdown", c.fd.y.Shutdown(c.fd.k.fd, how))
}

// SetDeadline implements net.Conn. Deadlines are compared with the stack's clock.
func (c *TCPConn) SetDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.r, &c.fd.w) }

// SetReadDeadline implements net.Conn.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.r) }

// SetWriteDeadline implements net.Conn.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.w) }

func (f *netFD) setDeadline(t time.Time, dirs ...*direction) error {
	if f.k.closing.Load() {
		return opError("set", f.network, "", nil, f.localAddr(), net.ErrClosed)
	}
	for _, d := range dirs {
		d.setDeadline(f.y.s.clock, t)
	}
	return nil
}

func (c *TCPConn) set(level, name int, v any) error {
	if c.fd.k.closing.Load() {
		return c.error("set", "setsockopt", net.ErrClosed)
	}
	return c.error("set", "setsockopt", c.fd.y.setOption(c.fd.k, level, name, v))
}

// SetNoDelay turns Nagle's algorithm off (true, the default) or on.
func (c *TCPConn) SetNoDelay(on bool) error { return c.set(SOL_TCP, TCP_NODELAY, on) }

// SetLinger sets SO_LINGER as net.TCPConn does: negative off, 0 resets on Close.
func (c *TCPConn) SetLinger(sec int) error {
	l := Linger{OnOff: 1, Linger: sec}
	if sec < 0 {
		l = Linger{}
	}
	return c.set(SOL_SOCKET, SO_LINGER, l)
}

// SetReadBuffer sets SO_RCVBUF to bytes.
func (c *TCPConn) SetReadBuffer(bytes int) error { return c.set(SOL_SOCKET, SO_RCVBUF, bytes) }

// SetWriteBuffer sets SO_SNDBUF to bytes.
func (c *TCPConn) SetWriteBuffer(bytes int) error { return c.set(SOL_SOCKET, SO_SNDBUF, bytes) }

// SyscallConn fails with errors.ErrUnsupported: there is no descriptor of the kernel's.
func (c *TCPConn) SyscallConn() (syscall.RawConn, error) {
	return nil, c.error("raw-control", "", errNoDescriptor)
}

// SetKeepAlive turns keepalive probes on or off.
func (c *TCPConn) SetKeepAlive(on bool) error { return c.set(SOL_SOCKET, SO_KEEPALIVE, on) }

// SetKeepAlivePeriod sets the idle time and the interval of probes, rounded up to
// seconds.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d, Interval: d, Count: -1})
}

// SetKeepAliveConfig configures keepalive as net.TCPConn does: zero values mean
// the defaults (15 s, 15 s, 9), negative ones leave things as they are.
func (c *TCPConn) SetKeepAliveConfig(cfg net.KeepAliveConfig) error {
	if err := c.SetKeepAlive(cfg.Enable); err != nil || !cfg.Enable {
		return err
	}
	seconds := func(d, def time.Duration) int {
		if d == 0 {
			d = def
		}
		return int((d + time.Second - 1) / time.Second)
	}
	if cfg.Idle >= 0 {
		if err := c.set(SOL_TCP, TCP_KEEPIDLE, seconds(cfg.Idle, defaultKeepAliveIdle)); err != nil {
			return err
		}
	}
	if cfg.Interval >= 0 {
		if err := c.set(SOL_TCP, TCP_KEEPINTVL, seconds(cfg.Interval, defaultKeepAliveInterval)); err != nil {
			return err
		}
	}
	if cfg.Count >= 0 {
		n := cfg.Count
		if n == 0 {
			n = defaultKeepAliveCount
		}
		return c.set(SOL_TCP, TCP_KEEPCNT, n)
	}
	return nil
}

// waitConnect waits for the result of a connect under way, or for ctx.
func (c *TCPConn) waitConnect(ctx context.Context) error {
	stop := context.AfterFunc(ctx, c.fd.w.notify)
	defer stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if c.fd.k.closing.Load() {
			return net.ErrClosed
		}
		if c.fd.k.tcpState().pending() {
			<-c.fd.w.wake
			continue
		}
		v, err := c.fd.y.getError(c.fd.k)
		if err == nil && v != 0 {
			err = syscall.Errno(v)
		}
		if err != nil && c.fd.k.closing.Load() {
			return net.ErrClosed
		}
		return err
	}
}

// getError is getsockopt(SO_ERROR).
func (y *Sys) getError(k *socket) (int, error) {
	c := y.begin("getsockopt", k.fd)
	v, err := k.getsockopt(SOL_SOCKET, SO_ERROR)
	if c != nil {
		c.ev.Option = optionEvent(SOL_SOCKET, SO_ERROR, v)
		c.end(k, 0, err)
	}
	n, _ := v.(int)
	return n, err
}

var errNoAddress = errors.New("no suitable address found")
