package drill

import (
	"net/netip"
	"time"
)

// sockets are the socket calls of the system under test. None blocks: where the system's would, they return EAGAIN, and
// the runner tries again when something has moved, which is how one thread can run a script with blocking calls and give
// the same result each time. Values of names and flags are Linux's.
type sockets interface {
	socket(domain, typ, protocol int) (int, error)
	bind(fd int, addr netip.AddrPort) error
	listen(fd, backlog int) error
	accept(fd int) (int, netip.AddrPort, error)
	connect(fd int, addr netip.AddrPort) error // EINPROGRESS when it has begun
	send(fd int, b []byte, flags int, to netip.AddrPort) (int, error)
	recv(fd int, b []byte, flags int) (n int, from netip.AddrPort, err error)
	shutdown(fd, how int) error
	close(fd int) error
	getsockname(fd int) (netip.AddrPort, error)
	setsockopt(fd, level, name int, value any) error       // int, string or linger
	getsockopt(fd, level, name int, like any) (any, error) // a value of like's type
	ioctl(fd, request int) (int, error)
	poll(fd, events int) (revents int, err error)
	epollCreate() (int, error)
	epollCtl(epfd, op, fd int, events uint32, data uint64) error
	epollWait(epfd, max int) ([]epollEvent, error)
	// tcpInfo are the fields of TCP_INFO that the system knows, by Linux's names.
	tcpInfo(fd int) (map[string]int64, error)
	// describe says in one line how the socket stands.
	describe(fd int) string
}

// linger is the value of SO_LINGER.
type linger struct{ onOff, seconds int }

type epollEvent struct {
	events uint32
	data   uint64
}

// medium carries packets between script and system, and has the time. Its methods are for one goroutine.
type medium interface {
	// elapsed is the time since the start.
	elapsed() time.Duration
	// inject hands a packet to the system.
	inject(data []byte) error
	// sent takes the oldest packet of the system that nobody has taken yet.
	sent() (Frame, bool)
	// advance lets time go on until the given one. Whenever something may have happened it asks stop, and ends early
	// when that says so; it reports whether it did.
	advance(until time.Duration, stop func() bool) bool
}

// kernelTolerance is the least by which times may be off against the kernel: the script's thread and the kernel's timers
// run in real time beside whatever else the machine does. Linux's own packetdrill tests take 14 ms on slow machines.
const kernelTolerance = 15 * time.Millisecond
