//go:build linux

package stack

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack/event"
)

// sockets are the socket calls of Sys. The kernel's have the same results.
type sockets interface {
	Socket(domain, typ, protocol int) (int, error)
	Bind(fd int, addr netip.AddrPort) error
	Listen(fd, backlog int) error
	Accept4(fd, flags int) (int, netip.AddrPort, error)
	Connect(fd int, addr netip.AddrPort) error
	Read(fd int, b []byte) (int, error)
	Write(fd int, b []byte) (int, error)
	Sendto(fd int, b []byte, flags int, to netip.AddrPort) (int, error)
	Recvfrom(fd int, b []byte, flags int) (int, netip.AddrPort, error)
	Sendmsg(fd int, m *Msg, flags int) (int, error)
	Recvmsg(fd int, m *Msg, flags int) (int, error)
	Shutdown(fd, how int) error
	Close(fd int) error
	Getsockname(fd int) (netip.AddrPort, error)
	Getpeername(fd int) (netip.AddrPort, error)
	Setsockopt(fd, level, name int, value any) error
	Getsockopt(fd, level, name int) (any, error)
	Fcntl(fd, cmd, arg int) (int, error)
	Ioctl(fd, request int) (int, error)
	Poll(fds []PollFD, timeout time.Duration) (int, error)
	EpollCreate1(flags int) (int, error)
	EpollCtl(epfd, op, fd int, ev EpollEvent) error
	EpollWait(epfd int, evs []EpollEvent, timeout time.Duration) (int, error)
}

// kernel makes the calls of Linux.
type kernel struct{}

func toSockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}

func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (kernel) Socket(domain, typ, protocol int) (int, error) {
	return unix.Socket(domain, typ, protocol)
}
func (kernel) Bind(fd int, addr netip.AddrPort) error { return unix.Bind(fd, toSockaddr(addr)) }
func (kernel) Listen(fd, backlog int) error           { return unix.Listen(fd, backlog) }
func (kernel) Accept4(fd, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Accept4(fd, flags)
	return n, fromSockaddr(sa), err
}
func (kernel) Connect(fd int, addr netip.AddrPort) error {
	if !addr.IsValid() {
		sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); errno != 0 {
			return errno
		}
		return nil
	}
	return unix.Connect(fd, toSockaddr(addr))
}
func (kernel) Read(fd int, b []byte) (int, error)  { return unix.Read(fd, b) }
func (kernel) Write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }
func (kernel) Sendto(fd int, b []byte, flags int, to netip.AddrPort) (int, error) {
	var sa unix.Sockaddr
	if to.IsValid() {
		sa = toSockaddr(to)
	}
	if err := unix.Sendto(fd, b, flags, sa); err != nil {
		return -1, err
	}
	return len(b), nil // scripts send little at a time
}
func (kernel) Recvfrom(fd int, b []byte, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Recvfrom(fd, b, flags)
	return n, fromSockaddr(sa), err
}
func (kernel) Sendmsg(fd int, m *Msg, flags int) (int, error) {
	var sa unix.Sockaddr
	if m.Name.IsValid() {
		sa = toSockaddr(m.Name)
	}
	return unix.SendmsgBuffers(fd, m.Buffers, m.Control, sa, flags)
}
func (kernel) Recvmsg(fd int, m *Msg, flags int) (int, error) {
	n, oobn, rflags, sa, err := unix.RecvmsgBuffers(fd, m.Buffers, m.Control, flags)
	m.Flags, m.Name, m.Control = rflags&^unix.MSG_CMSG_CLOEXEC, fromSockaddr(sa), m.Control[:oobn]
	return n, err
}
func (kernel) Shutdown(fd, how int) error { return unix.Shutdown(fd, how) }
func (kernel) Close(fd int) error         { return unix.Close(fd) }
func (kernel) Getsockname(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	return fromSockaddr(sa), err
}
func (kernel) Getpeername(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getpeername(fd)
	return fromSockaddr(sa), err
}
func (kernel) Setsockopt(fd, level, name int, value any) error {
	switch v := value.(type) {
	case Linger:
		return unix.SetsockoptLinger(fd, level, name, &unix.Linger{Onoff: int32(v.OnOff), Linger: int32(v.Linger)})
	case string:
		return unix.SetsockoptString(fd, level, name, v)
	}
	return unix.SetsockoptInt(fd, level, name, value.(int))
}
func (kernel) Getsockopt(fd, level, name int) (any, error) {
	switch {
	case level == SOL_SOCKET && name == SO_LINGER:
		var l unix.Linger
		size := uint32(unsafe.Sizeof(l))
		if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&size)), 0); errno != 0 {
			return nil, errno
		}
		return Linger{int(l.Onoff), int(l.Linger)}, nil
	case level == SOL_TCP && name == TCP_CONGESTION, level == SOL_SOCKET && name == SO_BINDTODEVICE:
		s, err := unix.GetsockoptString(fd, level, name)
		return s, err
	}
	return unix.GetsockoptInt(fd, level, name)
}
func (kernel) Fcntl(fd, cmd, arg int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), cmd, arg)
	return n, err
}
func (kernel) Ioctl(fd, request int) (int, error) { return unix.IoctlGetInt(fd, uint(request)) }
func (kernel) Poll(fds []PollFD, timeout time.Duration) (int, error) {
	var list []unix.PollFd
	for _, p := range fds {
		list = append(list, unix.PollFd{Fd: int32(p.FD), Events: int16(p.Events)})
	}
	n, err := unix.Poll(list, int(timeout.Milliseconds()))
	for i := range fds {
		fds[i].Revents = int(uint16(list[i].Revents))
	}
	return n, err
}
func (kernel) EpollCreate1(flags int) (int, error) { return unix.EpollCreate1(flags) }
func (kernel) EpollCtl(epfd, op, fd int, ev EpollEvent) error {
	return unix.EpollCtl(epfd, op, fd, &unix.EpollEvent{Events: ev.Events, Fd: int32(ev.Data)})
}
func (kernel) EpollWait(epfd int, evs []EpollEvent, timeout time.Duration) (int, error) {
	list := make([]unix.EpollEvent, len(evs))
	n, err := unix.EpollWait(epfd, list, int(timeout.Milliseconds()))
	for i := range max(n, 0) {
		evs[i] = EpollEvent{Events: list[i].Events, Data: uint64(list[i].Fd)}
	}
	return n, err
}

// script makes calls and writes down what came of them. fds and ports are named by
// the order of their appearance, so that two runs can be compared.
type script struct {
	sockets
	t      *testing.T
	settle func() // waits until the network is quiet
	log    []string
	fds    map[int]string
	open   map[int]bool
	ports  map[uint16]string
}

// fixedPorts are those that scripts ask for.
const fixedPort = 10000

func (x *script) fd(n int) string {
	if n < 0 {
		return "-1"
	}
	if x.fds[n] == "" {
		x.fds[n] = fmt.Sprintf("fd%d", len(x.fds))
	}
	return x.fds[n]
}

func (x *script) addr(a netip.AddrPort) string {
	p := a.Port()
	switch {
	case !a.IsValid():
		return "AF_UNSPEC"
	case p <= fixedPort:
		return a.String()
	}
	if x.ports[p] == "" {
		x.ports[p] = fmt.Sprintf("port%d", len(x.ports))
	}
	return a.Addr().String() + ":" + x.ports[p]
}

func (x *script) note(call string, err error, results ...any) {
	x.settle()
	s := call + " ="
	if err != nil {
		errno, ok := err.(syscall.Errno)
		if !ok {
			x.t.Errorf("%s: %v is no errno", call, err)
		}
		s += " " + unix.ErrnoName(errno)
	} else {
		for _, r := range results {
			s += fmt.Sprint(" ", r)
		}
	}
	x.log = append(x.log, s)
}

func parseAddr(a any) netip.AddrPort {
	switch a := a.(type) {
	case string:
		if a == "" {
			return netip.AddrPort{}
		}
		return netip.MustParseAddrPort(a)
	case netip.AddrPort:
		return a
	}
	panic(a)
}

// arg is the n-th argument of a call as strace writes it.
func (x *script) arg(n int, c CallEvent) string { return parseStrace(x.t, FormatCall(&c)).Args[n] }

func (x *script) msgFlags(flags int) string {
	return x.arg(3, CallEvent{Name: "recvfrom", Flags: flags, Buffer: &event.Buffer{}})
}

func (x *script) option(name string, level, option int, v any) string {
	c := CallEvent{Name: name, Option: optionEvent(level, option, v)}
	return strings.Join([]string{x.arg(1, c), x.arg(2, c), x.arg(3, c)}, ", ")
}

func (x *script) epollEvents(events uint32) string {
	return x.arg(3, CallEvent{Name: "epoll_ctl", Op: EPOLL_CTL_ADD, Epoll: []EpollEvent{{Events: events}}})
}

func (x *script) socketp(domain, typ, proto int) int {
	fd, err := x.Socket(domain, typ, proto)
	if err == nil {
		x.open[fd] = true
	}
	c := CallEvent{Name: "socket", Domain: domain, Type: typ}
	x.note(fmt.Sprintf("socket(%s, %s, %d)", x.arg(0, c), x.arg(1, c), proto), err, x.fd(fd))
	return fd
}
func (x *script) socket(domain, typ int) int { return x.socketp(domain, typ|SOCK_NONBLOCK, 0) }
func (x *script) tcp() int                   { return x.socket(AF_INET, SOCK_STREAM) }
func (x *script) udp() int                   { return x.socket(AF_INET, SOCK_DGRAM) }
func (x *script) bind(fd int, a any) {
	ap := parseAddr(a)
	err := x.Bind(fd, ap)
	x.note(fmt.Sprintf("bind(%s, %s)", x.fd(fd), x.addr(ap)), err)
}
func (x *script) listen(fd, backlog int) {
	x.note(fmt.Sprintf("listen(%s, %d)", x.fd(fd), backlog), x.Listen(fd, backlog))
}
func (x *script) accept4(fd, flags int) int {
	n, from, err := x.Accept4(fd, flags)
	if err == nil {
		x.open[n] = true
	} else {
		n = -1
	}
	x.note(fmt.Sprintf("accept4(%s, %s)", x.fd(fd), x.arg(3, CallEvent{Name: "accept4", Flags: flags})), err, x.fd(n), x.addr(from))
	return n
}
func (x *script) accept(fd int) int { return x.accept4(fd, SOCK_NONBLOCK) }
func (x *script) connect(fd int, a any) {
	ap := parseAddr(a)
	err := x.Connect(fd, ap)
	x.note(fmt.Sprintf("connect(%s, %s)", x.fd(fd), x.addr(ap)), err)
}
func (x *script) read(fd, n int) {
	b := make([]byte, n)
	got, err := x.Read(fd, b)
	x.note(fmt.Sprintf("read(%s, %d)", x.fd(fd), n), err, got, string(b[:max(got, 0)]))
}
func (x *script) write(fd int, s string) {
	n, err := x.Write(fd, []byte(s))
	x.note(fmt.Sprintf("write(%s, %q)", x.fd(fd), s), err, n)
}
func (x *script) sendto(fd int, s string, flags int, to any) {
	ap := parseAddr(to)
	n, err := x.Sendto(fd, []byte(s), flags|MSG_NOSIGNAL, ap)
	x.note(fmt.Sprintf("sendto(%s, %d bytes, %s, %s)", x.fd(fd), len(s), x.msgFlags(flags), x.addr(ap)), err, n)
}
func (x *script) send(fd int, s string, flags int) { x.sendto(fd, s, flags, "") }
func (x *script) recvfrom(fd, n, flags int) {
	b := make([]byte, n)
	got, from, err := x.Recvfrom(fd, b, flags)
	x.note(fmt.Sprintf("recvfrom(%s, %d, %s)", x.fd(fd), n, x.msgFlags(flags)), err, got, string(b[:min(max(got, 0), n)]), x.addr(from))
}
func (x *script) recvmsg(fd, flags int, sizes ...int) {
	m := Msg{}
	for _, n := range sizes {
		m.Buffers = append(m.Buffers, make([]byte, n))
	}
	n, err := x.Recvmsg(fd, &m, flags)
	x.note(fmt.Sprintf("recvmsg(%s, %v, %s)", x.fd(fd), sizes, x.msgFlags(flags)), err, n, fmt.Sprintf("%q", m.Buffers), x.msgFlags(m.Flags), x.addr(m.Name))
}
func (x *script) sendmsg(fd int, to any, parts ...string) {
	m := Msg{Name: parseAddr(to)}
	for _, p := range parts {
		m.Buffers = append(m.Buffers, []byte(p))
	}
	n, err := x.Sendmsg(fd, &m, MSG_NOSIGNAL)
	x.note(fmt.Sprintf("sendmsg(%s, %s, %q)", x.fd(fd), x.addr(m.Name), parts), err, n)
}

// recvcontrol receives a datagram with room for so many bytes of control messages.
func (x *script) recvcontrol(fd, room int) {
	m := Msg{Buffers: [][]byte{make([]byte, 8)}, Control: make([]byte, room)}
	n, err := x.Recvmsg(fd, &m, 0)
	infos, _ := parseControl(m.Control)
	x.note(fmt.Sprintf("recvmsg(%s, control %d)", x.fd(fd), room), err, n, x.msgFlags(m.Flags), fmt.Sprintf("%+v", infos))
}

// sendfrom sends a datagram with control messages.
func (x *script) sendfrom(fd int, to any, infos ...packetInfo) {
	m := Msg{Name: parseAddr(to), Buffers: [][]byte{[]byte("mew")}}
	for _, p := range infos {
		m.Control = p.control(m.Control)
	}
	n, err := x.Sendmsg(fd, &m, MSG_NOSIGNAL)
	x.note(fmt.Sprintf("sendmsg(%s, %s, control %+v)", x.fd(fd), x.addr(m.Name), infos), err, n)
}
func (x *script) shutdown(fd, how int) {
	x.note(fmt.Sprintf("shutdown(%s, %s)", x.fd(fd), x.arg(1, CallEvent{Name: "shutdown", Op: how})), x.Shutdown(fd, how))
}
func (x *script) close(fd int) {
	delete(x.open, fd)
	x.note(fmt.Sprintf("close(%s)", x.fd(fd)), x.Close(fd))
}
func (x *script) set(fd, level, name int, v any) {
	x.note(fmt.Sprintf("setsockopt(%s, %s)", x.fd(fd), x.option("setsockopt", level, name, v)), x.Setsockopt(fd, level, name, v))
}
func (x *script) get(fd, level, name int) {
	v, err := x.Getsockopt(fd, level, name)
	if n, ok := v.(int); ok && level == SOL_SOCKET && name == SO_ERROR {
		v = unix.ErrnoName(syscall.Errno(n))
	}
	x.note(fmt.Sprintf("getsockopt(%s, %s)", x.fd(fd), x.option("getsockopt", level, name, nil)), err, v)
}
func (x *script) getsockname(fd int) {
	a, err := x.Getsockname(fd)
	x.note(fmt.Sprintf("getsockname(%s)", x.fd(fd)), err, x.addr(a))
}
func (x *script) getpeername(fd int) {
	a, err := x.Getpeername(fd)
	x.note(fmt.Sprintf("getpeername(%s)", x.fd(fd)), err, x.addr(a))
}
func (x *script) fcntl(fd, cmd, arg int) {
	n, err := x.Fcntl(fd, cmd, arg)
	x.note(fmt.Sprintf("fcntl(%s, %s, %#x)", x.fd(fd), x.arg(1, CallEvent{Name: "fcntl", Op: cmd}), arg), err, n)
}
func (x *script) ioctl(fd, request int) {
	n, err := x.Ioctl(fd, request)
	x.note(fmt.Sprintf("ioctl(%s, %s)", x.fd(fd), x.arg(1, CallEvent{Name: "ioctl", Op: request})), err, n)
}
func (x *script) poll(fd, events int) {
	p := []PollFD{{FD: fd, Events: events}}
	n, err := x.Poll(p, 0)
	x.note(fmt.Sprintf("poll(%s, %s)", x.fd(fd), x.epollEvents(uint32(events))), err, n, x.epollEvents(uint32(p[0].Revents)))
}
func (x *script) epoll() int {
	fd, err := x.EpollCreate1(0)
	x.open[fd] = true
	x.note("epoll_create1(0)", err, x.fd(fd))
	return fd
}
func (x *script) epollctl(ep, op, fd int, events uint32) {
	err := x.EpollCtl(ep, op, fd, EpollEvent{Events: events, Data: uint64(fd)})
	x.note(fmt.Sprintf("epoll_ctl(%s, %s, %s, %s)", x.fd(ep), x.arg(1, CallEvent{Name: "epoll_ctl", Op: op}), x.fd(fd), x.epollEvents(events)), err)
}
func (x *script) epollwait(ep int) {
	evs := make([]EpollEvent, 8)
	n, err := x.EpollWait(ep, evs, 0)
	s := ""
	for _, ev := range evs[:max(n, 0)] {
		s += fmt.Sprintf(" %s:%s", x.fd(int(ev.Data)), x.epollEvents(ev.Events))
	}
	x.note(fmt.Sprintf("epoll_wait(%s)", x.fd(ep)), err, n, s)
}

// name is the local address of a socket.
func (x *script) name(fd int) netip.AddrPort {
	a, err := x.Getsockname(fd)
	if err != nil {
		x.t.Fatal(err)
	}
	return a
}

// listener is a TCP socket that listens on an ephemeral port of 127.0.0.1.
func (x *script) listener() int {
	l := x.tcp()
	x.bind(l, "127.0.0.1:0")
	x.listen(l, 8)
	return l
}

// pair is a TCP connection: the two ends, and the listener they met at.
func (x *script) pair() (c, s, l int) {
	l = x.listener()
	c = x.tcp()
	x.connect(c, x.name(l))
	s = x.accept(l)
	return c, s, l
}

// run runs a script on one implementation and returns its log.
func run(t *testing.T, y sockets, settle func(), f func(*script)) []string {
	x := &script{sockets: y, t: t, settle: settle, fds: map[int]string{}, open: map[int]bool{}, ports: map[uint16]string{}}
	f(x)
	for fd := range x.open {
		x.Close(fd)
	}
	settle()
	return x.log
}

// quiesceFD is the least number of kernelQuiesce's socket.
const quiesceFD = 1000

// kernelQuiesce returns what waits until the kernel has delivered all packets that this thread has sent over lo and
// those that they caused. It binds the thread to a processor: lo queues packets by processor, in their order, so that a
// datagram to oneself arrives after all that were sent before it. A busy kernel delivers later than within the call.
func kernelQuiesce() (wait func() error, err error) {
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, err
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, err
	}
	low, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	fd, err := unix.FcntlInt(uintptr(low), unix.F_DUPFD_CLOEXEC, quiesceFD) // out of the scripts' way
	if err != nil {
		return nil, err
	}
	if err := unix.Close(low); err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, err
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	return func() error {
		for range 4 { // SYN, SYN-ACK, ACK, and what that lets out
			if err := unix.Sendto(fd, []byte{0}, 0, self); err != nil {
				return err
			}
			if _, _, err := unix.Recvfrom(fd, make([]byte, 1), 0); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// TestAsLinux makes the same calls on the stack's sockets and on the kernel's, and
// compares all results.
func TestAsLinux(t *testing.T) {
	testenv.Require(t, testenv.Root)
	s := newStack(t, Config{})
	theirs := make(chan map[string][]string)
	// A thread in a network namespace of its own; it ends with the goroutine.
	go func() {
		runtime.LockOSThread()
		logs := map[string][]string{}
		defer func() { theirs <- logs }()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("unshare: %v", err)
			return
		}
		if err := loopbackUp(); err != nil {
			t.Errorf("lo up: %v", err)
			return
		}
		delivered, err := kernelQuiesce()
		if err != nil {
			t.Errorf("a socket to wait with: %v", err)
			return
		}
		for _, c := range linuxCases {
			logs[c.name] = run(t, kernel{}, func() {
				if err := delivered(); err != nil {
					t.Errorf("waiting for the kernel: %v", err)
				}
			}, c.script)
		}
	}()
	kernelLogs := <-theirs
	seen := map[string]bool{}
	for _, c := range linuxCases {
		if seen[c.name] {
			t.Errorf("two cases are named %q", c.name)
		}
		seen[c.name] = true
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			ours := run(t, s.Sys(), func() { s.Quiesce(); s.Quiesce() }, c.script)
			d := cmp.Diff(kernelLogs[c.name], ours)
			switch {
			case c.known == "" && d != "":
				t.Errorf("kernel (-) and stack (+) differ:\n%s", d)
			case c.known != "" && d == "":
				t.Errorf("the known difference has gone: %s", c.known)
			}
		})
	}
	if n := len(linuxCases); n < 90 {
		t.Errorf("%d cases, want at least 90", n)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
