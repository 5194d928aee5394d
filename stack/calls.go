package stack

import (
	"io"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Socket makes a socket and returns its fd: socket(2). domain is AF_INET or
// AF_INET6; typ is SOCK_STREAM or SOCK_DGRAM, with SOCK_NONBLOCK and SOCK_CLOEXEC.
func (y *Sys) Socket(domain, typ, protocol int) (int, error) {
	c := y.begin("socket", -1)
	fd, err := y.openSocket(domain, typ, protocol)
	if c != nil {
		c.ev.Domain, c.ev.Type, c.ev.Protocol = domain, typ, protocol
		c.end(nil, int64(fd), err)
	}
	return fd, err
}

func (y *Sys) openSocket(domain, typ, protocol int) (int, error) {
	ep, wq, err := y.s.newEndpoint(domain, typ, protocol)
	if err != nil {
		return -1, err
	}
	fd, err := y.reserve()
	if err != nil {
		ep.Close()
		return -1, err
	}
	if _, err := y.newSocket(0, fd, domain, typ&sockTypeMask, ep, wq, typ&SOCK_NONBLOCK != 0); err != nil {
		return -1, err
	}
	return fd, nil
}

// Bind gives the socket a local address: bind(2).
func (y *Sys) Bind(fd int, addr netip.AddrPort) error {
	c := y.begin("bind", fd)
	k, err := y.socket(fd)
	if err == nil {
		err = k.bind(addr)
	}
	if c != nil {
		c.ev.Addr = addr
		c.end(k, 0, err)
	}
	return err
}

// Listen makes the socket a listener: listen(2).
func (y *Sys) Listen(fd, backlog int) error {
	c := y.begin("listen", fd)
	k, err := y.socket(fd)
	if err == nil {
		err = k.listen(backlog)
	}
	if c != nil {
		c.ev.Arg = backlog
		c.end(k, 0, err)
	}
	return err
}

// Accept4 takes a connection from the accept queue: accept4(2). flags are
// SOCK_NONBLOCK and SOCK_CLOEXEC for the new socket.
func (y *Sys) Accept4(fd, flags int) (int, netip.AddrPort, error) {
	k, err := y.socket(fd)
	if err != nil {
		if c := y.begin("accept4", fd); c != nil {
			c.ev.Flags = flags
			c.end(nil, -1, err)
		}
		return -1, netip.AddrPort{}, err
	}
	n, err := y.accept(k, flags)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	return n.fd, n.peer, nil
}

func (y *Sys) accept(k *socket, flags int) (n *socket, err error) {
	c := y.begin("accept4", k.fd)
	err = k.wait(false, waiter.ReadableEvents, func() (err error) {
		n, err = k.accept(flags)
		return err
	})
	if c != nil {
		c.ev.Flags = flags
		if err == nil {
			c.ev.Addr = n.peer
			c.end(n, int64(n.fd), nil)
		} else {
			c.end(nil, -1, err)
		}
	}
	return n, err
}

// Connect connects the socket: connect(2). On a non-blocking stream socket
// EINPROGRESS says that it becomes writable with the result.
func (y *Sys) Connect(fd int, addr netip.AddrPort) error {
	c := y.begin("connect", fd)
	k, err := y.socket(fd)
	if err == nil {
		err = k.connectBlocking(addr)
	}
	if c != nil {
		c.ev.Addr = addr
		c.end(k, 0, err)
	}
	return err
}

// Read reads from the socket: read(2). It returns 0 at the end of the stream.
func (y *Sys) Read(fd int, b []byte) (int, error) {
	k, err := y.socket(fd)
	if err != nil {
		return y.failed("read", fd, b, err)
	}
	w := tcpip.SliceWriter(b)
	return y.read(k, &w, b)
}

// read is Read on a socket; w writes to b.
func (y *Sys) read(k *socket, w io.Writer, b []byte) (n int, err error) {
	c := y.begin("read", k.fd)
	switch {
	case len(b) == 0: // unlike recv, read of nothing leaves a datagram
	case k.stream():
		n, err = k.recv1(w, len(b), 0)
	default:
		n, _, err = k.recvDatagram(b, 0)
	}
	if err != nil {
		n = -1
	}
	if c != nil {
		c.ev.Buffer = transferred(b, n)
		c.end(k, int64(n), err)
	}
	return n, err
}

// recv1 is recv with recvfrom's flags; the end of the stream is 0 bytes.
func (k *socket) recv1(w io.Writer, want, flags int) (n int, err error) {
	if want == 0 && k.stream() {
		return 0, nil
	}
	err = k.wait(flags&MSG_DONTWAIT != 0, waiter.ReadableEvents, func() error {
		res, err := k.recv(w, flags&MSG_PEEK != 0)
		n = res.Count
		return err
	})
	if err == errEOF {
		return 0, nil
	}
	return n, err
}

// Write writes to the socket: write(2). A blocking stream socket writes all of b.
func (y *Sys) Write(fd int, b []byte) (int, error) {
	k, err := y.socket(fd)
	if err != nil {
		return y.failed("write", fd, b, err)
	}
	c := y.begin("write", fd)
	n, err := k.sendAll(b, netip.AddrPort{}, 0)
	if c != nil {
		c.ev.Buffer = transferred(b, len(b))
		c.end(k, int64(n), err)
	}
	return n, err
}

// failed reports a read or write on what is no socket.
func (y *Sys) failed(name string, fd int, b []byte, err error) (int, error) {
	if err == syscall.ENOTSOCK {
		err = syscall.EINVAL // an epoll
	}
	if c := y.begin(name, fd); c != nil {
		n := -1
		if name == "write" {
			n = len(b)
		}
		c.ev.Buffer = transferred(b, n)
		c.end(nil, -1, err)
	}
	return -1, err
}

// sendAll sends b; on a blocking stream socket it waits until all is queued.
func (k *socket) sendAll(b []byte, to netip.AddrPort, flags int) (int, error) {
	sent := 0
	for {
		var n int
		err := k.wait(flags&MSG_DONTWAIT != 0, waiter.WritableEvents, func() (err error) {
			n, err = k.send(payload(b[sent:]), to, flags)
			return err
		})
		sent += max(n, 0)
		switch {
		case err != nil && sent > 0:
			return sent, nil
		case err != nil:
			return -1, err
		case sent >= len(b) || !k.stream() || flags&MSG_DONTWAIT != 0 || k.nonblock.Load():
			return sent, nil
		}
	}
}

// Sendto sends b, on a datagram socket to the given address unless it is zero:
// sendto(2). flags: MSG_DONTWAIT, MSG_MORE, MSG_NOSIGNAL.
func (y *Sys) Sendto(fd int, b []byte, flags int, to netip.AddrPort) (int, error) {
	c := y.begin("sendto", fd)
	k, err := y.socket(fd)
	n := -1
	if err == nil {
		n, err = k.sendAll(b, to, flags)
	}
	if c != nil {
		c.ev.Buffer, c.ev.Flags, c.ev.Addr = transferred(b, len(b)), flags, to
		c.end(k, int64(n), err)
	}
	return n, err
}

// Recvfrom receives into b and says from whom: recvfrom(2). flags: MSG_PEEK,
// MSG_DONTWAIT, MSG_WAITALL (streams), MSG_TRUNC (datagrams: the return value is
// the datagram's real length).
func (y *Sys) Recvfrom(fd int, b []byte, flags int) (int, netip.AddrPort, error) {
	k, err := y.socket(fd)
	if err != nil {
		if c := y.begin("recvfrom", fd); c != nil {
			c.ev.Buffer, c.ev.Flags = transferred(b, -1), flags
			c.end(nil, -1, err)
		}
		return -1, netip.AddrPort{}, err
	}
	return y.recvfrom(k, b, flags)
}

func (y *Sys) recvfrom(k *socket, b []byte, flags int) (n int, from netip.AddrPort, err error) {
	c := y.begin("recvfrom", k.fd)
	if k.stream() {
		n, err = k.recvStream(b, flags)
	} else {
		var got received
		n, got, err = k.recvDatagram(b, flags)
		from = got.from
	}
	if c != nil {
		c.ev.Buffer, c.ev.Flags, c.ev.Addr = transferred(b, min(n, len(b))), flags, from
		c.end(k, int64(n), err)
	}
	return n, from, err
}

func (k *socket) recvStream(b []byte, flags int) (int, error) {
	got := 0
	for {
		var w io.Writer = new(tcpip.SliceWriter(b[got:]))
		if flags&MSG_TRUNC != 0 {
			w = &discarder{len(b) - got} // the data is let go (tcp(7))
		}
		n, err := k.recv1(w, len(b)-got, flags)
		if err != nil && got == 0 {
			return -1, err
		}
		if n > 0 {
			got += n
		}
		if err != nil || n == 0 || got == len(b) || flags&MSG_WAITALL == 0 || flags&MSG_PEEK != 0 {
			return got, nil
		}
	}
}

// discarder takes n bytes and keeps none.
type discarder struct{ n int }

func (d *discarder) Write(p []byte) (int, error) {
	n := min(len(p), d.n)
	d.n -= n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

// received is what is known of a datagram received.
type received struct {
	from    netip.AddrPort
	control tcpip.ReceivableControlMessages
}

func (k *socket) recvDatagram(b []byte, flags int) (n int, d received, err error) {
	err = k.wait(flags&MSG_DONTWAIT != 0, waiter.ReadableEvents, func() error {
		w := datagramWriter{b: b}
		res, err := k.recv(&w, flags&MSG_PEEK != 0)
		if err != nil {
			return err
		}
		d = received{k.sockaddr(res.RemoteAddr), res.ControlMessages}
		n = min(res.Total, len(b))
		if flags&MSG_TRUNC != 0 {
			n = res.Total
		}
		return nil
	})
	if err == errEOF { // shutdown(SHUT_RD)
		if flags&MSG_DONTWAIT != 0 || k.nonblock.Load() {
			return -1, d, syscall.EAGAIN
		}
		return 0, d, nil
	}
	if err != nil {
		return -1, d, err
	}
	return n, d, nil
}

// datagramWriter keeps the start of a datagram and lets the rest go.
type datagramWriter struct{ b []byte }

func (w *datagramWriter) Write(p []byte) (int, error) {
	n := copy(w.b, p)
	w.b = w.b[n:]
	return len(p), nil
}

// Msg is the message of Sendmsg and Recvmsg: buffers, the peer's address, and control messages.
//
// Control is in the layout of 64-bit Linux (cmsg(3)). On a datagram socket that has IP_PKTINFO or IPV6_RECVPKTINFO set,
// Recvmsg fills it with the link and the address that the datagram came in on, and cuts it to what it has filled:
// [ControlSpace] bytes are enough. Sendmsg takes the same messages: the datagram then leaves from that address, which
// must be local to the stack, be it by a whole prefix (AnyIP).
type Msg struct {
	Name    netip.AddrPort // Sendmsg: zero on a connected socket
	Buffers [][]byte
	Control []byte
	Flags   int // set by Recvmsg: MSG_TRUNC if a datagram was cut, MSG_CTRUNC if the control messages were
}

func (m *Msg) size() (n int) {
	for _, b := range m.Buffers {
		n += len(b)
	}
	return n
}

// Sendmsg sends the buffers as one message: sendmsg(2).
func (y *Sys) Sendmsg(fd int, m *Msg, flags int) (int, error) {
	c := y.begin("sendmsg", fd)
	k, err := y.socket(fd)
	n := -1
	if err == nil {
		all := make([]byte, 0, m.size())
		for _, b := range m.Buffers {
			all = append(all, b...)
		}
		n, err = k.sendmsg(m, all, flags)
	}
	if c != nil {
		c.ev.Message, c.ev.Flags = m.event(y.s, m.size()), flags
		c.end(k, int64(n), err)
	}
	return n, err
}

// Recvmsg receives into the buffers: recvmsg(2).
func (y *Sys) Recvmsg(fd int, m *Msg, flags int) (int, error) {
	c := y.begin("recvmsg", fd)
	k, err := y.socket(fd)
	n := -1
	if err == nil {
		n, err = k.recvmsg(m, flags)
	}
	if c != nil {
		c.ev.Message, c.ev.Flags = m.event(y.s, n), flags
		c.end(k, int64(n), err)
	}
	return n, err
}

func (k *socket) recvmsg(m *Msg, flags int) (int, error) {
	m.Flags = 0
	room := m.Control
	m.Control = room[:0]
	b := make([]byte, m.size())
	var n int
	var err error
	if k.stream() {
		n, err = k.recvStream(b, flags)
	} else {
		var d received
		n, d, err = k.recvDatagram(b, flags|MSG_TRUNC)
		m.Name = d.from
		for _, p := range k.packetInfos(&d.control) {
			c := p.control(nil)
			if len(m.Control)+len(c) > len(room) {
				m.Flags |= MSG_CTRUNC
				break
			}
			m.Control = append(m.Control, c...)
		}
		if n > len(b) {
			m.Flags |= MSG_TRUNC
			if flags&MSG_TRUNC == 0 {
				n = len(b)
			}
		}
	}
	rest := b[:max(0, min(n, len(b)))]
	for _, dst := range m.Buffers {
		rest = rest[copy(dst, rest):]
	}
	return n, err
}

// Shutdown closes one or both directions: shutdown(2).
func (y *Sys) Shutdown(fd, how int) error {
	c := y.begin("shutdown", fd)
	k, err := y.socket(fd)
	if err == nil {
		err = k.shutdown(how)
	}
	if c != nil {
		c.ev.Op = how
		c.end(k, 0, err)
	}
	return err
}

// Close closes the fd: close(2). What blocks on it returns EBADF.
func (y *Sys) Close(fd int) error {
	c := y.begin("close", fd)
	f, err := y.file(fd)
	if err == nil {
		err = y.closeFile(fd, f)
	}
	if c != nil {
		k, _ := f.(*socket)
		c.end(k, 0, err)
	}
	return err
}

// closeSocket is Close for the net API: k's fd may be another socket's by now.
func (y *Sys) closeSocket(k *socket) error {
	c := y.begin("close", k.fd)
	err := y.closeFile(k.fd, k)
	if c != nil {
		c.end(k, 0, err)
	}
	return err
}

func (y *Sys) closeFile(fd int, f file) error {
	if !y.release(fd, f) {
		return syscall.EBADF
	}
	f.closeFile()
	return nil
}

// Getsockname returns the local address: getsockname(2).
func (y *Sys) Getsockname(fd int) (netip.AddrPort, error) {
	c := y.begin("getsockname", fd)
	k, err := y.socket(fd)
	var a netip.AddrPort
	if err == nil {
		a = k.localAddr()
	}
	if c != nil {
		c.ev.Addr = a
		c.end(k, 0, err)
	}
	return a, err
}

// Getpeername returns the peer's address: getpeername(2).
func (y *Sys) Getpeername(fd int) (netip.AddrPort, error) {
	c := y.begin("getpeername", fd)
	k, err := y.socket(fd)
	var a netip.AddrPort
	if err == nil {
		a, err = k.remoteAddr()
	}
	if c != nil {
		c.ev.Addr = a
		c.end(k, 0, err)
	}
	return a, err
}

// Fcntl gets or sets the file status flags: fcntl(2) with F_GETFL and F_SETFL.
// O_NONBLOCK is the only flag that can change.
func (y *Sys) Fcntl(fd, cmd, arg int) (int, error) {
	c := y.begin("fcntl", fd)
	k, err := y.socket(fd)
	ret := -1
	if err == nil {
		switch cmd {
		case F_GETFL:
			ret = O_RDWR
			if k.nonblock.Load() {
				ret |= O_NONBLOCK
			}
		case F_SETFL:
			k.nonblock.Store(arg&O_NONBLOCK != 0)
			ret = 0
		default:
			err = syscall.EINVAL
		}
	}
	if c != nil {
		c.ev.Op, c.ev.Arg = cmd, arg
		c.end(k, int64(ret), err)
	}
	return ret, err
}

// Ioctl asks for queued bytes: ioctl(2) with SIOCINQ and SIOCOUTQ.
func (y *Sys) Ioctl(fd, request int) (int, error) {
	c := y.begin("ioctl", fd)
	k, err := y.socket(fd)
	n := 0
	if err == nil {
		n, err = k.queued(request)
	}
	if c != nil {
		c.ev.Op, c.ev.Arg = request, n
		c.end(k, 0, err)
	}
	return n, err
}

func (k *socket) queued(request int) (int, error) {
	conn := tcpOf(k.ep)
	switch {
	case request != SIOCINQ && request != SIOCOUTQ:
		return 0, syscall.ENOTTY
	case conn != nil && conn.State() == tcpListen:
		return 0, syscall.EINVAL
	case conn != nil && request == SIOCOUTQ:
		n, ok := conn.Unsent()
		if !ok {
			return 0, syscall.ENOTTY
		}
		return n, nil
	case request == SIOCOUTQ:
		return 0, nil // a datagram is on the link when the call returns
	}
	n, err := k.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	return n, errnoOf(err)
}

// payload is a tcpip.Payloader over bytes that the caller keeps.
func payload(b []byte) *payloader { return &payloader{b: b} }

type payloader struct{ b []byte }

func (p *payloader) Len() int { return len(p.b) }

func (p *payloader) Read(dst []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(dst, p.b)
	p.b = p.b[n:]
	return n, nil
}
