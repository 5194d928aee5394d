package stack

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// UDPConn is a UDP socket of the stack: a net.PacketConn, and when made by Dial a
// net.Conn.
type UDPConn struct {
	fd            netFD
	local, remote net.Addr // remote is nil if not connected
}

var (
	_ net.PacketConn = (*UDPConn)(nil)
	_ net.Conn       = (*UDPConn)(nil)
	_ syscall.Conn   = (*UDPConn)(nil)
)

// ListenPacket announces on a local address, as net.ListenPacket does for "udp",
// "udp4" and "udp6".
func (s *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	switch network {
	case "udp", "udp4", "udp6":
	default:
		return nil, wrongNetwork("listen", network, address)
	}
	ap, dual, err := resolveLocal(network, address)
	if err != nil {
		return nil, opError("listen", network, "", nil, nil, err)
	}
	y := &s.sys
	k, err := y.netSocket(ap, SOCK_DGRAM, dual)
	if err != nil {
		return nil, opError("listen", network, "socket", nil, netAddr(false, ap), err)
	}
	y.setOption(k, SOL_SOCKET, SO_BROADCAST, 1)
	if err := y.Bind(k.fd, ap); err != nil {
		y.Close(k.fd)
		return nil, opError("listen", network, "bind", nil, netAddr(false, ap), err)
	}
	c := &UDPConn{}
	c.fd.init(y, k, network)
	c.local = c.fd.localAddr()
	return c, nil
}

func (s *Stack) dialUDP(network string, local, ap netip.AddrPort) (net.Conn, error) {
	y := &s.sys
	k, err := y.netSocket(ap, SOCK_DGRAM, false)
	if err != nil {
		return nil, opError("dial", network, "socket", nil, netAddr(false, ap), err)
	}
	if err := y.bindFrom(k, local); err != nil {
		y.Close(k.fd)
		return nil, opError("dial", network, "bind", nil, netAddr(false, ap), err)
	}
	if err := y.Connect(k.fd, ap); err != nil {
		y.Close(k.fd)
		return nil, opError("dial", network, "connect", nil, netAddr(false, ap), err)
	}
	c := &UDPConn{}
	c.fd.init(y, k, network)
	c.local, c.remote = c.fd.localAddr(), netAddr(false, ap)
	return c, nil
}

func (c *UDPConn) error(op, call string, addr net.Addr, err error) error {
	if err == nil {
		return nil
	}
	if c.fd.k.closing.Load() {
		err = net.ErrClosed
	}
	return opError(op, c.fd.network, call, c.local, addr, err)
}

// FD returns the socket's fd in the stack.
func (c *UDPConn) FD() int { return c.fd.k.fd }

// LocalAddr implements net.Conn and net.PacketConn.
func (c *UDPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *UDPConn) RemoteAddr() net.Addr { return c.remote }

// ReadFromUDPAddrPort receives a datagram into b. What does not fit is lost.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return c.receive("recvfrom", func() (int, netip.AddrPort, error) { return c.fd.y.recvfrom(c.fd.k, b, 0) })
}

// receive makes a call that receives, until it has.
func (c *UDPConn) receive(name string, call func() (int, netip.AddrPort, error)) (int, netip.AddrPort, error) {
	d := &c.fd.r
	d.use.Lock()
	defer d.use.Unlock()
	for {
		if err := c.fd.ready(d); err != nil {
			return 0, netip.AddrPort{}, c.error("read", "", c.remote, err)
		}
		n, from, err := call()
		switch err {
		case nil:
			if c.fd.k.closing.Load() {
				return 0, netip.AddrPort{}, c.error("read", "", c.remote, net.ErrClosed)
			}
			return n, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), nil
		case syscall.EAGAIN:
			<-d.wake
		default:
			return 0, netip.AddrPort{}, c.error("read", name, c.remote, err)
		}
	}
}

// ReadFrom implements net.PacketConn.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDPAddrPort(b)
	if err != nil {
		return n, nil, err
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// Read implements net.Conn.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, _, err := c.receive("read", func() (int, netip.AddrPort, error) {
		n, err := c.fd.y.Read(c.fd.k.fd, b)
		return n, netip.AddrPort{}, err
	})
	return n, err
}

// WriteToUDPAddrPort sends a datagram.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.remote != nil {
		return 0, c.error("write", "", netAddr(false, to), net.ErrWriteToConnected)
	}
	to = c.fd.k.sockaddrOf(to)
	return c.send("sendto", to, func() (int, error) { return c.fd.y.Sendto(c.fd.k.fd, b, 0, to) })
}

// WriteTo implements net.PacketConn.
func (c *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	u, ok := addr.(*net.UDPAddr)
	if !ok || u == nil {
		return 0, c.error("write", "", addr, syscall.EINVAL)
	}
	return c.WriteToUDPAddrPort(b, u.AddrPort())
}

// Write implements net.Conn.
func (c *UDPConn) Write(b []byte) (int, error) {
	return c.send("write", netip.AddrPort{}, func() (int, error) { return c.fd.y.Write(c.fd.k.fd, b) })
}

// send makes a call that sends, until it has.
func (c *UDPConn) send(name string, to netip.AddrPort, call func() (int, error)) (int, error) {
	d := &c.fd.w
	d.use.Lock()
	defer d.use.Unlock()
	addr := c.remote
	if to.IsValid() {
		addr = netAddr(false, to)
	}
	for {
		if err := c.fd.ready(d); err != nil {
			return 0, c.error("write", "", addr, err)
		}
		n, err := call()
		switch err {
		case nil:
			return n, nil
		case syscall.EAGAIN:
			<-d.wake
		default:
			return 0, c.error("write", name, addr, err)
		}
	}
}

// Close implements net.Conn and net.PacketConn.
func (c *UDPConn) Close() error { return c.error("close", "", c.remote, c.fd.close()) }

// SetDeadline implements net.Conn. Deadlines are compared with the stack's clock.
func (c *UDPConn) SetDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.r, &c.fd.w) }

// SetReadDeadline implements net.Conn.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.r) }

// SetWriteDeadline implements net.Conn.
func (c *UDPConn) SetWriteDeadline(t time.Time) error { return c.fd.setDeadline(t, &c.fd.w) }
