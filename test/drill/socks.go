package drill

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// sockets are the socket calls of the system under test. None blocks: where the system's would, they return EAGAIN, and
// the runner tries again when something has moved, which is how one thread can run a script with blocking calls and give
// the same result each time. Values of names and flags are Linux's.
type sockets interface {
	socket(domain, typ, protocol int) (int, error)
	// setNonblock is F_SETFL of O_NONBLOCK, for a system that has sockets which block.
	setNonblock(fd int, on bool) error
	bind(fd int, addr netip.AddrPort) error
	listen(fd, backlog int) error
	accept(fd, flags int) (int, netip.AddrPort, error)
	// connect gives EINPROGRESS when it has begun. An invalid address is one of AF_UNSPEC.
	connect(fd int, addr netip.AddrPort) error
	// send sends buffers as one message.
	send(fd int, m outgoing) (int, error)
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

// outgoing is what a call sends.
type outgoing struct {
	buffers [][]byte
	flags   int
	to      netip.AddrPort // invalid: the peer
	// unspecified is an address of AF_UNSPEC.
	unspecified bool
}

// joined are all bytes of the message.
func (m outgoing) joined() []byte {
	if len(m.buffers) == 1 {
		return m.buffers[0]
	}
	return bytes.Join(m.buffers, nil)
}

// controls is a system whose sockets have control messages and an error queue.
type controls interface {
	// recvmsg reads a message with what is said about it; flags are MSG_TRUNC and its like.
	recvmsg(fd int, b []byte, flags int) (n int, all []control, msgFlags int, err error)
}

// files is a system whose sockets lie among the files of an operating system.
type files interface {
	// open opens a file of the script to be read.
	open(path string, data []byte) (int, error)
	pipe() (r, w int, err error)
	splice(in, out, n, flags int) (int, error)
	// sendfile sends n bytes of a file from an offset on, or from where it stands if that is negative.
	sendfile(out, in int, offset int64, n int) (int, error)
	// nowhere is a buffer of n bytes at an address that no memory belongs to.
	nowhere(n int) ([]byte, error)
}

// blocker is a system that has threads for calls that block. The function that background returns starts the call when
// it is first called, and gives errPending until the call has ended.
type blocker interface {
	background(call func() (int64, error)) func() (int64, error)
}

// errPending is a call's result while it still runs in another thread.
var errPending = errors.New("the call has not ended")

// control is a control message: of one number, or of an error, or of a time.
type control struct {
	level, typ int
	value      int64
	err        *extendedError
	// stamp is when something happened, in the script's time; slack is by how much it may be off.
	stamp *time.Duration
}

// extendedError is Linux's struct sock_extended_err.
type extendedError struct {
	errno             uint32
	origin, typ, code uint8
	info, data        uint32
}

// same reports whether an actual control message is the expected one; times may be off by slack.
func (c control) same(got control, slack time.Duration) bool {
	if c.level != got.level || c.typ != got.typ || c.value != got.value || (c.err == nil) != (got.err == nil) || (c.stamp == nil) != (got.stamp == nil) {
		return false
	}
	if c.err != nil && *c.err != *got.err {
		return false
	}
	return c.stamp == nil || (*c.stamp-*got.stamp).Abs() <= slack
}

func (c control) String() string {
	s := fmt.Sprintf("level %d type %d", c.level, c.typ)
	switch {
	case c.err != nil:
		return s + fmt.Sprintf(" {ee_errno=%d, ee_origin=%d, ee_type=%d, ee_code=%d, ee_info=%d, ee_data=%d}", c.err.errno, c.err.origin, c.err.typ, c.err.code, c.err.info, c.err.data)
	case c.stamp != nil:
		return s + " time " + clock(*c.stamp)
	}
	return s + fmt.Sprintf(" value %d", c.value)
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
