package stack

import (
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// socket is an open socket: an fd and the netstack endpoint behind it.
type socket struct {
	s      *Stack
	id     uint64 // never used again, unlike fd; of a connection, its identity: Event.Conn
	fd     int
	domain int // AF_INET or AF_INET6
	typ    int // SOCK_STREAM or SOCK_DGRAM
	ep     tcpip.Endpoint
	wq     *waiter.Queue

	conn        atomic.Uint64 // id once the socket is a connection's; 0: it is none's
	nonblock    atomic.Bool
	freebind    atomic.Bool
	transparent atomic.Bool
	pktInfo     atomic.Bool  // IP_PKTINFO
	pktInfo6    atomic.Bool  // IPV6_RECVPKTINFO
	discover    atomic.Int32 // IP_MTU_DISCOVER
	discover6   atomic.Int32 // IPV6_MTU_DISCOVER
	backlog     atomic.Int32 // as given to listen
	closing     atomic.Bool
	closed      chan struct{}  // closed with the fd
	readShut    atomic.Bool    // shutdown(SHUT_RD) was called
	failed      atomic.Bool    // connect has reported a failure
	peer        netip.AddrPort // of an accepted connection, even one reset since
	forwards    bool           // it is a forwarder's listener, which is bound to no address that anyone knows

	// pending is an error that was taken from netstack to see whether there is
	// one, and not reported yet: Linux's sk_err.
	pending atomic.Pointer[error]

	announced netip.AddrPort // where it waits for new flows; guarded by Sys.mu

	// What the packet path may ask of a socket while netstack holds locks that
	// come after the endpoint's own.
	boundTo   atomic.Pointer[netip.Addr] // nil: any address
	connected atomic.Bool                // datagram sockets: has a peer

	mu    sync.Mutex     // guards what follows
	bound netip.AddrPort // as given to bind; zero: not bound
	// connecting is set while a connect of this socket has not been answered for,
	// so that a second connect reports its result (connect(2), EALREADY).
	connecting bool
	options    []option // set before it was connected: accepted sockets inherit them
}

// option is a call of setsockopt.
type option struct {
	level, name int
	value       any
}

// newSocket makes a socket at fd; conn is the identity of the connection that it is
// accepted with, 0 if it is none.
func (y *Sys) newSocket(conn uint64, fd, domain, typ int, ep tcpip.Endpoint, wq *waiter.Queue, nonblock bool) (*socket, error) {
	id := conn
	if id == 0 {
		id = y.ids.Add(1)
	}
	k := &socket{s: y.s, id: id, fd: fd, domain: domain, typ: typ, ep: ep, wq: wq, closed: make(chan struct{})}
	k.nonblock.Store(nonblock)
	k.conn.Store(conn)
	k.discover.Store(IP_PMTUDISC_WANT)
	k.discover6.Store(IP_PMTUDISC_WANT)
	if err := y.install(fd, k); err != nil {
		ep.Abort()
		return nil, err
	}
	return k, nil
}

func (k *socket) stream() bool { return k.typ == SOCK_STREAM }

func (k *socket) family() Family {
	if k.domain == AF_INET {
		return IPv4
	}
	return IPv6
}

func (k *socket) v6only() bool { return k.domain == AF_INET6 && k.ep.SocketOptions().GetV6Only() }

// accepts reports whether a socket bound to any address takes flows of family f.
func (k *socket) accepts(f Family) bool {
	return f == k.family() || f == IPv4 && !k.ep.SocketOptions().GetV6Only()
}

func (k *socket) network() string {
	if k.stream() {
		return "tcp"
	}
	return "udp"
}

// closeFile implements file. Linux discards the fd first; the connection is then
// closed in order, or reset if data was left unread (RFC 9293 3.10.4).
func (k *socket) closeFile() {
	if k.closing.Swap(true) {
		return
	}
	close(k.closed)
	k.ep.Close()
	k.wq.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
}

// wait runs try until it does not give EAGAIN, waiting for mask in between; once
// only if the call is non-blocking. Close ends the wait with EBADF.
func (k *socket) wait(dontwait bool, mask waiter.EventMask, try func() error) error {
	err := try()
	if err != syscall.EAGAIN || dontwait || k.nonblock.Load() {
		return err
	}
	e, ch := waiter.NewChannelEntry(mask | waiter.EventErr | waiter.EventHUp)
	k.wq.EventRegister(&e)
	defer k.wq.EventUnregister(&e)
	for {
		if err := try(); err != nil && k.closing.Load() {
			return syscall.EBADF // whatever error the end of the connection has made of it
		} else if err != syscall.EAGAIN {
			return err
		}
		select {
		case <-ch:
		case <-k.closed:
			return syscall.EBADF
		}
	}
}

// tcpipAddr converts a socket address for this socket's domain: IPv4 addresses
// on an AF_INET6 socket become IPv4-mapped ones.
func (k *socket) tcpipAddr(ap netip.AddrPort) (tcpip.FullAddress, error) {
	a := ap.Addr()
	switch {
	case k.domain == AF_INET && !a.Unmap().Is4():
		return tcpip.FullAddress{}, syscall.EAFNOSUPPORT
	case k.domain == AF_INET6 && a.Is4():
		// The size of a sockaddr_in is too small; the net API hands mapped addresses.
		return tcpip.FullAddress{}, syscall.EINVAL
	case k.domain == AF_INET:
		a = a.Unmap()
	}
	fa := tcpip.FullAddress{Port: ap.Port()}
	switch {
	case a.IsUnspecified():
	case a.Is4():
		fa.Addr = tcpip.AddrFrom4(a.As4())
	default:
		fa.Addr = tcpip.AddrFrom16(a.As16())
	}
	return fa, nil
}

// sockaddrOf is an address as a program gives it to a socket of this domain.
func (k *socket) sockaddrOf(ap netip.AddrPort) netip.AddrPort {
	if k.domain == AF_INET {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if a := ap.Addr(); a.Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.As16()), ap.Port())
	}
	return ap
}

func (k *socket) sockaddr(fa tcpip.FullAddress) netip.AddrPort {
	a := fromTCPIPOr(fa.Addr, k.family())
	if k.domain == AF_INET6 && a.Is4() {
		a = netip.AddrFrom16(a.As16())
	}
	return netip.AddrPortFrom(a, fa.Port)
}

func (k *socket) bind(ap netip.AddrPort) error {
	fa, err := k.tcpipAddr(ap)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bound.IsValid() || k.v6only() && ap.Addr().Is4In6() {
		return syscall.EINVAL
	}
	if a := ap.Addr().Unmap(); !a.IsUnspecified() {
		// The local table is the judge, as in Linux's inet_addr_valid_or_nonlocal.
		_, rt := k.s.db.Load().Decide(RouteQuery{Dst: a}, nil)
		local := rt != nil && rt.Type.Delivers()
		if !local && !k.freebind.Load() && !k.transparent.Load() {
			return syscall.EADDRNOTAVAIL
		}
		// netstack wants a link for the address; which one does not bind the socket.
		fa.NIC = k.s.lo.id
		if rt != nil {
			if l := k.s.link(rt.Dev); l != nil {
				fa.NIC = l.id
			}
		}
	}
	if fa.Addr.Len() != 0 {
		k.boundTo.Store(new(ap.Addr().Unmap()))
	}
	if err := errnoOf(k.ep.Bind(fa)); err != nil {
		k.boundTo.Store(nil)
		if err == syscall.EAGAIN {
			return syscall.EADDRINUSE // no ephemeral port is free
		}
		return err
	}
	k.bound = ap
	if !k.stream() {
		k.s.sys.announce(k)
	}
	return nil
}

func (k *socket) listen(backlog int) error {
	if !k.stream() {
		return syscall.EOPNOTSUPP
	}
	// As Linux: negative means the most, the accept queue may exceed the backlog by
	// one, and SYN cookies begin when as many handshakes are under way as the backlog
	// says. netstack's begin one short of its own, which suits this.
	if backlog < 0 || backlog > SOMAXCONN {
		backlog = SOMAXCONN
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.bound.IsValid() {
		// listen(2) without bind takes an ephemeral port on any address.
		if err := errnoOf(k.ep.Bind(tcpip.FullAddress{})); err != nil {
			return err
		}
		k.bound = netip.AddrPortFrom(k.family().Any(), 0)
	}
	if err := k.ep.Listen(backlog + 1); err != nil {
		return errnoOf(err)
	}
	k.backlog.Store(int32(backlog))
	k.s.sys.announce(k)
	return nil
}

// accept takes a connection off the accept queue. The fd is reserved first, so
// that EMFILE leaves the connection in the queue.
func (k *socket) accept(flags int) (*socket, error) {
	if flags&^(SOCK_NONBLOCK|SOCK_CLOEXEC) != 0 {
		return nil, syscall.EINVAL
	}
	if !k.stream() {
		return nil, syscall.EOPNOTSUPP
	}
	fd, err := k.s.sys.reserve()
	if err != nil {
		return nil, err
	}
	var peer tcpip.FullAddress
	ep, wq, terr := k.ep.Accept(&peer)
	if terr != nil {
		k.s.sys.release(fd, reserved{})
		return nil, errnoOf(terr)
	}
	n, err := k.s.sys.newSocket(k.s.events.accepted(tcpOf(ep)), fd, k.domain, k.typ, ep, wq, flags&SOCK_NONBLOCK != 0)
	if err != nil {
		return nil, err
	}
	n.peer = n.sockaddr(peer)
	k.mu.Lock()
	inherited := k.options
	k.mu.Unlock()
	for _, o := range inherited {
		n.setsockopt(o.level, o.name, o.value) // what a connection cannot take it does without
	}
	return n, nil
}

// connect starts a connection; EINPROGRESS says that it is under way.
func (k *socket) connect(ap netip.AddrPort) error {
	if !ap.IsValid() {
		return k.disconnect()
	}
	fa, err := k.tcpipAddr(ap)
	if err != nil {
		return err
	}
	if k.v6only() && ap.Addr().Is4In6() {
		return syscall.ENETUNREACH
	}
	dst := ap.Addr().Unmap()
	if dst.IsUnspecified() {
		// Linux takes "any" as this host (ip_route_connect).
		dst = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if k.domain == AF_INET6 {
			dst = netip.IPv6Loopback()
		}
		fa.Addr = tcpip.AddrFromSlice(dst.AsSlice())
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.connecting {
		return k.reportConnectLocked()
	}
	if k.stream() && k.tcpState() == tcpListen {
		return syscall.EISCONN
	}
	if k.stream() && k.tcpState().unconnected() {
		src := k.bound.Addr().Unmap()
		if src.IsValid() && src.IsUnspecified() {
			src = netip.Addr{}
		}
		l, rt, err := k.s.output(src, dst)
		switch {
		case err != nil:
			return err
		case rt.Type == Broadcast || rt.Type == Multicast:
			return syscall.ENETUNREACH
		case k.bound.IsValid():
			// netstack chooses a link; link.dispose corrects it.
		case rt.Type == Local:
			fa.NIC = k.s.carrier(rt)
		default:
			fa.NIC = l.id
		}
	} else if !k.stream() {
		l, rt, err := k.s.output(netip.Addr{}, dst)
		if err != nil {
			return err
		}
		if rt.Type == Broadcast && !k.ep.SocketOptions().GetBroadcast() {
			return syscall.EACCES
		}
		if !k.bound.IsValid() || k.bound.Addr().IsUnspecified() {
			fa.NIC = l.id
			if rt.Type == Local {
				fa.NIC = k.s.carrier(rt)
			}
		}
	}
	was := k.connected.Swap(!k.stream())
	if k.stream() && k.conn.CompareAndSwap(0, k.id) {
		defer func() {
			if err != nil && err != syscall.EINPROGRESS {
				k.conn.Store(0) // no SYN was sent
			}
		}()
	}
	err = errnoOf(k.ep.Connect(fa))
	if err != nil {
		k.connected.Store(was)
	}
	switch err {
	case syscall.EINPROGRESS:
		k.connecting = true
	case syscall.EADDRNOTAVAIL, syscall.EAGAIN:
		err = syscall.EADDRNOTAVAIL // no port is free for this destination
	}
	return err
}

// disconnect is connect to AF_UNSPEC: a datagram socket has no peer any more. A
// netstack TCP endpoint cannot go back, so that only an unconnected one may ask.
func (k *socket) disconnect() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stream() {
		if k.tcpState().unconnected() {
			return nil
		}
		return syscall.EOPNOTSUPP
	}
	if err := errnoOf(k.ep.Disconnect()); err != nil {
		return err
	}
	k.connected.Store(false)
	return nil
}

// reportConnectLocked is what connect returns while one is under way or has ended:
// EALREADY, then its result once.
func (k *socket) reportConnectLocked() error {
	err := k.connectResultLocked()
	switch err {
	case nil:
		k.ep.Connect(tcpip.FullAddress{}) // netstack too has said it now: EISCONN from here on
	case syscall.EALREADY:
	default:
		k.failed.Store(true)
	}
	return err
}

func (k *socket) connectResultLocked() error {
	switch st := k.tcpState(); {
	case st.pending():
		return syscall.EALREADY
	case st.ended():
		k.connecting = false
		if err := k.takeError(); err != nil {
			return err
		}
		return syscall.ECONNABORTED
	}
	k.connecting = false
	k.takeError()
	return nil
}

// connectBlocking is connect(2) on a blocking socket.
func (k *socket) connectBlocking(ap netip.AddrPort) error {
	err := k.connect(ap)
	if err != syscall.EINPROGRESS || k.nonblock.Load() {
		return err
	}
	return k.wait(false, waiter.WritableEvents, func() error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if err := k.reportConnectLocked(); err != syscall.EALREADY {
			return err
		}
		return syscall.EAGAIN
	})
}

// fault returns the pending error of a connection that has ended, and leaves it
// pending.
func (k *socket) fault() error {
	if p := k.pending.Load(); p != nil {
		return *p
	}
	if k.stream() && !k.tcpState().ended() {
		return nil
	}
	if err := k.lastError(); err != nil {
		k.pending.CompareAndSwap(nil, &err)
		return err
	}
	return nil
}

// takeError returns the pending error and clears it.
func (k *socket) takeError() error {
	if p := k.pending.Swap(nil); p != nil {
		return *p
	}
	return k.lastError()
}

// lastError takes the error from netstack, which keeps it in two places.
func (k *socket) lastError() error {
	err := errnoOf(k.ep.LastError())
	if second := errnoOf(k.ep.LastError()); err == nil {
		err = second
	}
	if err == syscall.ECONNABORTED {
		// A reset that found this side in CLOSE-WAIT (Linux's tcp_reset).
		err = syscall.EPIPE
	}
	return err
}

// tcpState is the state of a stream socket.
func (k *socket) tcpState() tcpState { return tcpOf(k.ep).State() }

// recv reads into w what is there. from is set for datagrams.
func (k *socket) recv(w io.Writer, peek bool) (res tcpip.ReadResult, err error) {
	if k.pending.Load() != nil && k.ep.Readiness(waiter.ReadableEvents) != 0 {
		if n, _ := k.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); n == 0 {
			return res, k.takeError()
		}
	}
	res, terr := k.ep.Read(w, tcpip.ReadOptions{Peek: peek, NeedRemoteAddr: !k.stream()})
	if terr != nil {
		err = errnoOf(terr)
		if err == errEOF && k.failed.Load() {
			err = syscall.ENOTCONN // Linux's socket is as if it never had tried
		}
		return res, err
	}
	if !peek {
		k.ep.ModerateRecvBuf(res.Count)
	}
	return res, nil
}

// send writes what fits of p, for datagrams to the address to if it is valid.
func (k *socket) send(p tcpip.Payloader, to netip.AddrPort, flags int) (int, error) {
	opts := tcpip.WriteOptions{More: flags&MSG_MORE != 0}
	if !k.stream() {
		if err := k.route(to, &opts); err != nil {
			return 0, err
		}
		if err := k.fits(p.Len(), to); err != nil {
			return 0, err
		}
	} else if to.IsValid() && k.tcpState().unconnected() {
		return 0, syscall.EPIPE
	}
	if k.pending.Load() != nil {
		return 0, k.takeError()
	}
	nothing := k.stream() && p.Len() == 0
	n, terr := k.ep.Write(p, opts)
	k.s.events.touched(k)
	if terr != nil {
		err := errnoOf(terr)
		switch {
		case err == syscall.EPIPE:
			k.takeError() // this is it
		case err == syscall.EAGAIN && nothing && !k.tcpState().pending():
			return 0, nil // nothing needs no room
		}
		return 0, err
	}
	if n == 0 && p.Len() > 0 && k.stream() {
		return 0, syscall.EAGAIN
	}
	return int(n), nil
}

// route fills in how a datagram to the address to leaves.
func (k *socket) route(to netip.AddrPort, opts *tcpip.WriteOptions) error {
	if !to.IsValid() {
		return nil
	}
	fa, err := k.tcpipAddr(to)
	if err != nil {
		return err
	}
	if to.Port() == 0 {
		return syscall.EINVAL
	}
	k.mu.Lock()
	bound := k.bound
	k.mu.Unlock()
	src := bound.Addr().Unmap()
	if !src.IsValid() || src.IsUnspecified() {
		src = netip.Addr{}
	}
	l, rt, err := k.s.output(src, to.Addr().Unmap())
	if err != nil {
		return err
	}
	switch {
	case src.IsValid():
		// Bound to an address: netstack chooses a link; link.dispose corrects it.
	case rt.Type == Local:
		fa.NIC = k.s.carrier(rt)
	default:
		fa.NIC = l.id
	}
	opts.To = &fa
	return nil
}

// carrier is the link whose address netstack takes as the source of packets to a
// local address; link.dispose then turns them round through lo.
func (s *Stack) carrier(rt *Route) tcpip.NICID {
	if l := s.link(rt.Dev); l != nil {
		return l.id
	}
	return s.lo.id
}

func (k *socket) shutdown(how int) error {
	var f tcpip.ShutdownFlags
	switch how {
	case SHUT_RD:
		f = tcpip.ShutdownRead
	case SHUT_WR:
		f = tcpip.ShutdownWrite
	case SHUT_RDWR:
		f = tcpip.ShutdownRead | tcpip.ShutdownWrite
	default:
		return syscall.EINVAL
	}
	if f&tcpip.ShutdownRead != 0 {
		k.readShut.Store(true)
	}
	err := errnoOf(k.ep.Shutdown(f))
	k.s.events.touched(k)
	if err == nil {
		k.wq.Notify(waiter.EventHUp | waiter.ReadableEvents | waiter.WritableEvents)
	}
	return err
}

func (k *socket) localAddr() netip.AddrPort {
	fa, err := k.ep.GetLocalAddress()
	if err != nil {
		return netip.AddrPortFrom(k.family().Any(), 0)
	}
	return k.sockaddr(fa)
}

func (k *socket) remoteAddr() (netip.AddrPort, error) {
	fa, err := k.ep.GetRemoteAddress()
	if err != nil {
		return netip.AddrPort{}, errnoOf(err)
	}
	return k.sockaddr(fa), nil
}

// Bounds of socket(2)'s arguments in Linux.
const (
	sockTypeMask = 0xf // SOCK_TYPE_MASK
	sockMax      = 11  // SOCK_MAX: types are below
	protoMax     = 263 // IPPROTO_MAX
)

// newEndpoint makes the netstack endpoint of a new socket. The order of the checks
// is that of __sys_socket and inet_create.
func (s *Stack) newEndpoint(domain, typ, proto int) (tcpip.Endpoint, *waiter.Queue, error) {
	if typ&^(sockTypeMask|SOCK_NONBLOCK|SOCK_CLOEXEC) != 0 {
		return nil, nil, syscall.EINVAL
	}
	np := ipv4.ProtocolNumber
	switch domain {
	case AF_INET:
	case AF_INET6:
		np = ipv6.ProtocolNumber
	default:
		return nil, nil, syscall.EAFNOSUPPORT
	}
	typ &= sockTypeMask
	if typ >= sockMax || proto < 0 || proto >= protoMax {
		return nil, nil, syscall.EINVAL
	}
	var tp tcpip.TransportProtocolNumber
	switch typ {
	case SOCK_STREAM:
		tp = header.TCPProtocolNumber
		if proto != IPPROTO_IP && proto != IPPROTO_TCP {
			return nil, nil, syscall.EPROTONOSUPPORT
		}
	case SOCK_DGRAM:
		tp = udp.ProtocolNumber
		if proto != IPPROTO_IP && proto != IPPROTO_UDP {
			return nil, nil, syscall.EPROTONOSUPPORT
		}
	default:
		return nil, nil, syscall.ESOCKTNOSUPPORT
	}
	wq := new(waiter.Queue)
	ep, err := s.ns.NewEndpoint(tp, np, wq)
	if err != nil {
		return nil, nil, errnoOf(err)
	}
	return ep, wq, nil
}
