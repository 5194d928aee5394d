package stack

import (
	"net"
	"syscall"
	"time"
)

// Listener is a TCP listener of the stack. It implements net.Listener as
// *net.TCPListener does.
type Listener struct {
	fd   netFD
	addr net.Addr
}

var (
	_ net.Listener = (*Listener)(nil)
	_ syscall.Conn = (*Listener)(nil)
)

// Listen announces on a local address, as net.Listen does for "tcp", "tcp4" and
// "tcp6". Without a host it listens on every address; "tcp" then on both families.
func (s *Stack) Listen(network, address string) (net.Listener, error) {
	return s.ListenTCP(network, address, SOMAXCONN)
}

// ListenTCP is Listen with a choice of backlog: how many connections may wait to
// be accepted.
func (s *Stack) ListenTCP(network, address string, backlog int) (*Listener, error) {
	fail := func(call string, err error) (*Listener, error) {
		var a net.Addr
		if ap, _, e := resolveLocal(network, address); e == nil {
			a = netAddr(true, ap)
		}
		return nil, opError("listen", network, call, nil, a, err)
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, wrongNetwork("listen", network, address)
	}
	ap, dual, err := resolveLocal(network, address)
	if err != nil {
		return fail("", err)
	}
	y := &s.sys
	k, err := y.netSocket(ap, SOCK_STREAM, dual)
	if err != nil {
		return fail("socket", err)
	}
	if err := y.setOption(k, SOL_SOCKET, SO_REUSEADDR, 1); err == nil {
		if err = y.Bind(k.fd, ap); err != nil {
			y.Close(k.fd)
			return fail("bind", err)
		}
	}
	if err := y.Listen(k.fd, backlog); err != nil {
		y.Close(k.fd)
		return fail("listen", err)
	}
	l := &Listener{}
	l.fd.init(y, k, network)
	l.addr = l.fd.localAddr()
	return l, nil
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP is Accept with the connection's own type.
func (l *Listener) AcceptTCP() (*TCPConn, error) {
	d := &l.fd.r
	d.use.Lock()
	defer d.use.Unlock()
	for {
		if err := l.fd.ready(d); err != nil {
			return nil, opError("accept", l.fd.network, "", nil, l.addr, err)
		}
		k, err := l.fd.y.accept(l.fd.k, SOCK_CLOEXEC|SOCK_NONBLOCK)
		switch {
		case err == syscall.EAGAIN:
			<-d.wake
		case err != nil:
			if l.fd.k.closing.Load() {
				err = net.ErrClosed
			}
			return nil, opError("accept", l.fd.network, "accept4", nil, l.addr, err)
		default:
			return l.fd.y.newTCPConn(k, l.fd.network), nil
		}
	}
}

// Close implements net.Listener. Connections that wait to be accepted are reset.
func (l *Listener) Close() error {
	if err := l.fd.close(); err != nil {
		return opError("close", l.fd.network, "", nil, l.addr, err)
	}
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }

// FD returns the listener's fd in the stack.
func (l *Listener) FD() int { return l.fd.k.fd }

// SyscallConn fails with errors.ErrUnsupported: there is no descriptor of the kernel's.
func (l *Listener) SyscallConn() (syscall.RawConn, error) {
	return nil, opError("raw-control", l.fd.network, "", nil, l.addr, errNoDescriptor)
}

// SetDeadline sets the deadline of Accept.
func (l *Listener) SetDeadline(t time.Time) error { return l.fd.setDeadline(t, &l.fd.r) }
