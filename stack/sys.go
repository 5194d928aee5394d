package stack

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/stack/route"
)

// Constants of the socket calls, with Linux's values on every OS.
const (
	AF_UNSPEC = 0
	AF_INET   = 2
	AF_INET6  = 10

	SOCK_STREAM   = 1
	SOCK_DGRAM    = 2
	SOCK_NONBLOCK = 0x800
	SOCK_CLOEXEC  = 0x80000

	IPPROTO_IP   = 0
	IPPROTO_TCP  = 6
	IPPROTO_UDP  = 17
	IPPROTO_IPV6 = 41

	MSG_PEEK     = 0x2
	MSG_CTRUNC   = 0x8
	MSG_TRUNC    = 0x20
	MSG_DONTWAIT = 0x40
	MSG_WAITALL  = 0x100
	MSG_NOSIGNAL = 0x4000
	MSG_MORE     = 0x8000

	SHUT_RD   = 0
	SHUT_WR   = 1
	SHUT_RDWR = 2

	F_GETFL    = 3
	F_SETFL    = 4
	O_RDWR     = 0x2
	O_NONBLOCK = 0x800

	SIOCINQ  = 0x541b
	SIOCOUTQ = 0x5411

	SOMAXCONN = 4096
)

const (
	// firstFD is the lowest fd handed out: 0, 1 and 2 are taken in any process.
	firstFD = 3

	// defaultMaxFDs is Linux's fs.nr_open, the most that a process can be given.
	defaultMaxFDs = 1 << 20
)

// Sys is the BSD socket layer: the socket calls of Linux on small integer fds,
// with errno errors (syscall.Errno). Listeners and connections of the net API
// are carried by it, so each of them is an fd.
//
// Calls block unless the socket is non-blocking, as in Linux; Close makes
// calls that block on the fd return EBADF.
type Sys struct {
	s   *Stack
	max int
	ids atomic.Uint64 // sockets made, and connections seen before they had one, so far

	mu      sync.Mutex
	files   []file                     // by fd; nil: free
	free    []uint64                   // bitmap of free fds below len(files)
	hint    int                        // no free fd in words below this one
	open    int                        // files in use, with those reserved
	byEP    map[tcpip.Endpoint]*socket // sockets by endpoint
	byPort  map[portKey][]*socket      // listeners and bound datagram sockets, for steering
	stopped bool
}

// portKey is a port of TCP (stream) or UDP.
type portKey struct {
	stream bool
	port   uint16
}

// file is what an fd refers to: a socket or an epoll instance.
type file interface {
	// closeFile releases the file; it is called once, without Sys.mu.
	closeFile()
}

// reserved marks an fd that is taken but not set yet.
type reserved struct{}

func (reserved) closeFile() {}

// Sys returns the stack's socket layer.
func (s *Stack) Sys() *Sys { return &s.sys }

func (y *Sys) init(s *Stack, max int) {
	y.s, y.max = s, max
	y.byEP = map[tcpip.Endpoint]*socket{}
	y.byPort = map[portKey][]*socket{}
	y.files = make([]file, firstFD)
	y.free = make([]uint64, 1)
	for fd := range firstFD {
		y.files[fd] = reserved{}
	}
}

// reserve takes the lowest free fd, as POSIX asks.
func (y *Sys) reserve() (int, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case y.stopped:
		return -1, syscall.ENETDOWN
	case y.open >= y.max:
		return -1, syscall.EMFILE
	}
	y.open++
	for w := y.hint; w < len(y.free); w++ {
		if m := y.free[w]; m != 0 {
			y.hint = w
			b := bits.TrailingZeros64(m)
			y.free[w] &^= 1 << b
			fd := w*64 + b
			y.files[fd] = reserved{}
			return fd, nil
		}
	}
	fd := len(y.files)
	y.files = append(y.files, reserved{})
	for len(y.free)*64 < len(y.files) {
		y.free = append(y.free, 0)
	}
	y.hint = fd / 64
	return fd, nil
}

// install puts f at a reserved fd. It fails if the stack has closed meanwhile.
func (y *Sys) install(fd int, f file) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.stopped {
		return syscall.ENETDOWN
	}
	y.files[fd] = f
	if k, ok := f.(*socket); ok {
		y.byEP[k.ep] = k
	}
	return nil
}

// release frees fd if it still refers to f.
func (y *Sys) release(fd int, f file) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if fd < firstFD || fd >= len(y.files) || y.files[fd] != f {
		return false
	}
	y.files[fd] = nil
	y.free[fd/64] |= 1 << (fd % 64)
	y.hint = min(y.hint, fd/64)
	y.open--
	if k, ok := f.(*socket); ok {
		delete(y.byEP, k.ep)
		y.withdrawLocked(k)
	}
	return true
}

// announce makes k findable by its port. k waits for new flows from now on.
func (y *Sys) announce(k *socket) {
	local := k.localAddr()
	y.mu.Lock()
	defer y.mu.Unlock()
	if k.announced.IsValid() || y.byEP[k.ep] != k {
		return
	}
	k.announced = local
	key := portKey{k.stream(), local.Port()}
	y.byPort[key] = append(y.byPort[key], k)
}

// announcement is where k waits for new flows; zero if it does not, or sends from
// a port that was chosen for it.
func (y *Sys) announcement(k *socket) netip.AddrPort {
	y.mu.Lock()
	defer y.mu.Unlock()
	return k.announced
}

func (y *Sys) withdrawLocked(k *socket) {
	key := portKey{k.stream(), k.announced.Port()}
	left := slices.DeleteFunc(y.byPort[key], func(o *socket) bool { return o == k })
	if len(left) == 0 {
		delete(y.byPort, key)
	} else {
		y.byPort[key] = left
	}
}

// waiting returns the sockets that wait for new flows to a local address: those
// bound to it, else those bound to any address. Unlike netstack's own lookup it
// may be called while netstack holds the locks of its demultiplexer.
func (y *Sys) waiting(stream bool, to netip.AddrPort) []*socket {
	y.mu.Lock()
	defer y.mu.Unlock()
	var bound, any []*socket
	for _, k := range y.byPort[portKey{stream, to.Port()}] {
		if !k.waits() {
			continue // connected since
		}
		switch a := k.announced.Addr(); {
		case a.Unmap() == to.Addr():
			bound = append(bound, k)
		case a.IsUnspecified() && k.accepts(route.FamilyOf(to.Addr())):
			any = append(any, k)
		}
	}
	if bound != nil {
		return bound
	}
	return any
}

func (y *Sys) file(fd int) (file, error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if fd < firstFD || fd >= len(y.files) || y.files[fd] == nil {
		return nil, syscall.EBADF
	}
	if _, ok := y.files[fd].(reserved); ok {
		return nil, syscall.EBADF
	}
	return y.files[fd], nil
}

// socket returns the socket at fd: EBADF if fd is not open, ENOTSOCK if it is no socket.
func (y *Sys) socket(fd int) (*socket, error) {
	f, err := y.file(fd)
	if err != nil {
		return nil, err
	}
	k, ok := f.(*socket)
	if !ok {
		return nil, syscall.ENOTSOCK
	}
	return k, nil
}

func (y *Sys) byEndpoint(ep tcpip.Endpoint) *socket {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.byEP[ep]
}

// sockets returns all sockets by fd.
func (y *Sys) sockets() []*socket {
	y.mu.Lock()
	defer y.mu.Unlock()
	var out []*socket
	for _, f := range y.files {
		if k, ok := f.(*socket); ok {
			out = append(out, k)
		}
	}
	return out
}

// closeAll closes every fd and lets no more be opened.
func (y *Sys) closeAll() {
	y.mu.Lock()
	y.stopped = true
	files := append([]file(nil), y.files...)
	y.mu.Unlock()
	for fd, f := range files {
		if f != nil && y.release(fd, f) {
			f.closeFile()
		}
	}
}
