package stack

import (
	"net"
	"net/netip"
	"syscall"
)

// ReadMsgUDPAddrPort receives a datagram into b and its control messages into oob, as *net.UDPConn does; flags are
// MSG_TRUNC and MSG_CTRUNC. If oob has room, the socket is told on which link and for which address each datagram came
// in, as IP_PKTINFO and IPV6_RECVPKTINFO have it: given to [UDPConn.WriteMsgUDPAddrPort] once more, oob[:oobn] has the
// answer leave from that address. [ControlSpace] bytes are enough.
func (c *UDPConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	if len(oob) > 0 {
		if err := c.askPacketInfo(); err != nil {
			return 0, 0, 0, addr, c.error("read", "setsockopt", c.remote, err)
		}
	}
	n, addr, err = c.receive("recvmsg", func() (int, netip.AddrPort, error) {
		m := Msg{Buffers: [][]byte{b}, Control: oob}
		n, err := c.fd.y.Recvmsg(c.fd.k.fd, &m, 0)
		oobn, flags = len(m.Control), m.Flags
		return n, m.Name, err
	})
	if err != nil {
		return 0, 0, 0, addr, err
	}
	return n, oobn, flags, addr, nil
}

// askPacketInfo sets the option of the socket's family, once.
func (c *UDPConn) askPacketInfo() error {
	k := c.fd.k
	switch {
	case k.domain == AF_INET && !k.pktInfo.Load():
		return c.fd.y.setOption(k, SOL_IP, IP_PKTINFO, 1)
	case k.domain == AF_INET6 && !k.pktInfo6.Load():
		return c.fd.y.setOption(k, SOL_IPV6, IPV6_RECVPKTINFO, 1)
	}
	return nil
}

// ReadMsgUDP is ReadMsgUDPAddrPort with another address.
func (c *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, oob)
	if from.IsValid() {
		addr = net.UDPAddrFromAddrPort(from)
	}
	return n, oobn, flags, addr, err
}

// WriteMsgUDPAddrPort sends a datagram with control messages, as *net.UDPConn does; addr is the zero AddrPort if the
// connection has a peer. See [Msg] for what oob may hold.
func (c *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	switch {
	case c.remote != nil && addr.IsValid():
		return 0, 0, c.error("write", "", netAddr(false, addr), net.ErrWriteToConnected)
	case c.remote == nil && !addr.IsValid():
		return 0, 0, c.error("write", "", nil, syscall.EDESTADDRREQ)
	}
	to := addr
	if to.IsValid() {
		to = c.fd.k.sockaddrOf(to)
	}
	n, err = c.send("sendmsg", addr, func() (int, error) {
		return c.fd.y.Sendmsg(c.fd.k.fd, &Msg{Name: to, Buffers: [][]byte{b}, Control: oob}, 0)
	})
	if err != nil {
		return 0, 0, err
	}
	return n, len(oob), nil
}

// WriteMsgUDP is WriteMsgUDPAddrPort with another address, nil if the connection has a peer.
func (c *UDPConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	var to netip.AddrPort
	if addr != nil {
		to = addr.AddrPort()
	}
	return c.WriteMsgUDPAddrPort(b, oob, to)
}

// SetReadBuffer sets SO_RCVBUF to bytes.
func (c *UDPConn) SetReadBuffer(bytes int) error {
	return c.error("set", "setsockopt", nil, c.fd.setBuffer(SO_RCVBUF, bytes))
}

// SetWriteBuffer sets SO_SNDBUF to bytes.
func (c *UDPConn) SetWriteBuffer(bytes int) error {
	return c.error("set", "setsockopt", nil, c.fd.setBuffer(SO_SNDBUF, bytes))
}

// SyscallConn fails with errors.ErrUnsupported: there is no descriptor of the kernel's. Those who take a failure amiss
// take struct{ net.PacketConn }, which does not offer it.
func (c *UDPConn) SyscallConn() (syscall.RawConn, error) {
	return nil, c.error("raw-control", "", nil, errNoDescriptor)
}
