package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// openOffload opens cfg.Queues queues of a TUN device with virtio-net headers.
func openOffload(cfg Config) (opened, error) {
	o := opened{driver: Offload}
	fail := func(err error) (opened, error) {
		for _, q := range o.queues {
			q.close()
		}
		return opened{}, err
	}
	for i := range cfg.Queues {
		fd, err := unix.Open(cfg.Path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fail(&OpError{Op: OpOpen, Name: cfg.Path, Err: err})
		}
		if o.name, err = attach(fd, cfg.Name, cfg.Queues > 1, i == 0); err != nil {
			unix.Close(fd)
			return fail(&OpError{Op: OpAttach, Name: cfg.Name, Err: err})
		}
		if i == 0 {
			if o.offloads, err = negotiate(fd, o.name); err != nil {
				unix.Close(fd)
				return fail(&OpError{Op: OpAttach, Name: o.name, Err: err})
			}
		}
		// Only now: the poller reports an error on a TUN descriptor without an interface.
		q, err := newOffloadQueue(fd, o.name)
		if err != nil {
			return fail(&OpError{Op: OpAttach, Name: o.name, Err: err})
		}
		o.queues = append(o.queues, q)
	}
	return o, nil
}

// attach makes fd a queue of the interface, which is created if there is none, and returns its name. The
// first queue of several must not find queues of another process: for a device with one queue the kernel
// sees to that (EBUSY), for others IFF_TUN_EXCL does, except on an interface that was made persistent.
func attach(fd int, name string, multiQueue, first bool) (string, error) {
	const want = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	flags := uint16(want)
	if multiQueue {
		flags |= unix.IFF_MULTI_QUEUE
		if first && !persistent(name) {
			flags |= unix.IFF_TUN_EXCL
		}
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return "", fmt.Errorf("TUNSETIFF: %w", err)
	}
	name = ifr.Name()
	// A kernel that does not know a flag ignores it.
	if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
		return "", fmt.Errorf("TUNGETIFF: %w", err)
	}
	if got := ifr.Uint16(); got&want != want {
		return "", fmt.Errorf("TUNGETIFF: flags %#x granted of %#x: %w", got&want, want, errors.ErrUnsupported)
	}
	return name, nil
}

func persistent(name string) bool {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return false
	}
	t, ok := link.(*netlink.Tuntap)
	return ok && !t.NonPersist
}

// negotiate asks for each offload and notes what came of it. It fails only if virtio-net headers do not work at all.
func negotiate(fd int, name string) (Offloads, error) {
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHdrLen); err != nil {
		return Offloads{}, fmt.Errorf("TUNSETVNETHDRSZ: %w", err)
	}
	granted := Grant{Granted: true}
	o := Offloads{VnetHdr: granted}

	// From the host to us. TSO includes the checksum.
	offer := func(bits int) Grant {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, bits); err != nil {
			return Grant{Reason: fmt.Sprintf("TUNSETOFFLOAD refused: %v", err)}
		}
		return granted
	}
	if all := offer(unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6); all.Granted {
		o.RxChecksum, o.RxTSO4, o.RxTSO6 = granted, granted, granted
	} else {
		o.RxTSO6 = offer(unix.TUN_F_CSUM | unix.TUN_F_TSO6)
		o.RxTSO4 = offer(unix.TUN_F_CSUM | unix.TUN_F_TSO4) // the last one that succeeds is the one that holds
		if o.RxTSO4.Granted && o.RxTSO6.Granted {
			o.RxTSO6 = Grant{Reason: "TUNSETOFFLOAD refused TSO4 and TSO6 together"}
		}
		o.RxChecksum = granted
		if !o.RxTSO4.Granted && !o.RxTSO6.Granted {
			o.RxChecksum = offer(unix.TUN_F_CSUM)
		}
	}

	// From us to the host. Here nothing is asked for; the kernel takes a frame's header or does not.
	o.TxChecksum = probe(fd, name, probeFrame(vnetGSONone))
	if o.TxChecksum.Granted {
		o.TxTSO4 = probe(fd, name, probeFrame(vnetGSOTCPv4))
		o.TxTSO6 = probe(fd, name, probeFrame(vnetGSOTCPv6))
	} else {
		o.TxTSO4, o.TxTSO6 = o.TxChecksum, o.TxChecksum
	}
	return o, nil
}

// probe writes a frame whose header asks for an offload. The interface is still down, so the kernel
// examines the header, refuses with EINVAL what it does not take (as 6.6.44 and 6.10.3 did with TSO),
// and then refuses the frame with EIO before anything sees it. On an interface that somebody has brought
// up already the frame would reach the host; there the kernel is believed unprobed.
func probe(fd int, name string, frame []byte) Grant {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return Grant{Reason: fmt.Sprintf("not probed: %v", err)}
	}
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return Grant{Granted: true}
	}
	if _, err := unix.Write(fd, frame); err != nil && !errors.Is(err, unix.EIO) {
		return Grant{Reason: fmt.Sprintf("probe refused: %v", err)}
	}
	return Grant{Granted: true}
}

// offloadQueue is one descriptor of the device.
type offloadQueue struct {
	fd   int
	file *os.File // owns fd, and has it in the runtime's poller

	mu     sync.RWMutex // held for reading while fd is written to, so that it is not closed meanwhile
	closed atomic.Bool
}

// newOffloadQueue takes over fd, which is non-blocking and attached to the interface.
func newOffloadQueue(fd int, name string) (*offloadQueue, error) {
	file := os.NewFile(uintptr(fd), name)
	if err := file.SetReadDeadline(time.Time{}); err != nil {
		file.Close()
		return nil, fmt.Errorf("poll: %w", err)
	}
	return &offloadQueue{fd: fd, file: file}, nil
}

func (q *offloadQueue) close() error {
	q.mu.Lock()
	q.closed.Store(true)
	q.mu.Unlock()
	return q.file.Close()
}

// receive reads until there is nothing to read, sleeps in the poller, and reads on.
func (q *offloadQueue) receive(e *Endpoint) error {
	conn, err := q.file.SyscallConn()
	if err != nil {
		return os.ErrClosed
	}
	r := offloadReader{queue: q, endpoint: e}
	defer r.buf.release()
	var readErr error
	err = conn.Read(func(uintptr) bool {
		readErr = r.read()
		return readErr != nil
	})
	if readErr == nil {
		// The queue was closed, or the poller saw an error on the descriptor, and a read says which.
		conn.Control(func(uintptr) { readErr = r.read() })
	}
	switch {
	case q.closed.Load():
		return os.ErrClosed
	case readErr != nil:
		return readErr
	}
	return fmt.Errorf("%w (poll: %w)", ErrGone, err)
}

// offloadReader is the state of receive.
type offloadReader struct {
	queue    *offloadQueue
	endpoint *Endpoint
	buf      rxBuffer
	hdr      [vnetHdrLen]byte
	iov      [1 + len(rxSizes)]unix.Iovec
}

// read delivers frames until the queue is empty, and waiting is left to the poller (nil), or until the
// queue fails or is closed. To watch the empty queue for a while instead costs a processor that the sender
// of the next packet needs, and is slower where there are two.
func (r *offloadReader) read() error {
	for {
		switch errno := r.next(); errno {
		case 0:
		case unix.EINTR:
		case unix.EAGAIN:
			r.endpoint.dispatcher.endBatch()
			return nil
		default:
			return queueError(errno)
		}
		if r.queue.closed.Load() {
			return os.ErrClosed
		}
	}
}

// next reads and delivers one frame.
func (r *offloadReader) next() syscall.Errno {
	if r.iov[0].Base == nil {
		setIovec(&r.iov[0], r.hdr[:])
	}
	r.buf.refill(func(i int, memory []byte) { setIovec(&r.iov[1+i], memory) })
	n, errno := vectored(unix.SYS_READV, r.queue.fd, r.iov[:])
	if errno == 0 {
		r.deliver(n)
	}
	return errno
}

// vectored is readv or writev on a descriptor that does not block. The scheduler is
// not told of the call: it would give the processor away during one that takes
// longer than usual, as a write does in which the kernel delivers the packet, and
// waking another thread costs more than is left of the call.
func vectored(call uintptr, fd int, iov []unix.Iovec) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)))
	return int(n), errno
}

func (r *offloadReader) deliver(n int) {
	n -= vnetHdrLen
	if n < 0 {
		r.endpoint.dev.stats.drop(dropTruncated)
		return
	}
	proto, gso, v := inspect(decodeVnetHdr(r.hdr[:]), r.buf.frame(n))
	if v != accept {
		r.endpoint.dev.stats.drop(v)
		return
	}
	r.endpoint.deliver(proto, r.buf.take(n), gso, true)
}

// maxIovecs is Linux's UIO_MAXIOV.
const maxIovecs = 1024

// txVec is what one writev needs.
type txVec struct {
	hdr [vnetHdrLen]byte
	iov []unix.Iovec
}

var txVecs = sync.Pool{New: func() any { return &txVec{iov: make([]unix.Iovec, 0, 16)} }}

func (q *offloadQueue) transmit(pkt *stack.PacketBuffer) error {
	v := txVecs.Get().(*txVec)
	defer txVecs.Put(v)
	h, hdrLen := vnetHdrFor(pkt)
	h.encode(v.hdr[:], hdrLen)
	v.iov = append(v.iov[:0], iovec(v.hdr[:]))
	views, skip := pkt.AsViewList()
	for view := views.Front(); view != nil; view = view.Next() {
		b := view.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		v.iov = append(v.iov, iovec(b[skip:]))
		skip = 0
	}
	if len(v.iov) > maxIovecs {
		whole := pkt.ToView()
		defer whole.Release()
		clear(v.iov)
		v.iov = append(v.iov[:1], iovec(whole.AsSlice()))
		v.iov[0] = iovec(v.hdr[:])
	}
	err := q.writev(v.iov)
	clear(v.iov) // the pool is not to keep the packet's memory
	return err
}

func (q *offloadQueue) writev(iov []unix.Iovec) error {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if q.closed.Load() {
		return os.ErrClosed
	}
	for {
		switch _, errno := vectored(unix.SYS_WRITEV, q.fd, iov); errno {
		case 0:
			return nil
		case unix.EINTR:
		case unix.EIO: // the interface is down
			return errno
		default:
			return queueError(errno)
		}
	}
}

// queueError wraps ErrGone around what the kernel says of a queue whose interface is gone.
func queueError(errno syscall.Errno) error {
	switch errno {
	case unix.EBADFD, unix.EIO, unix.ENODEV, unix.ENXIO, unix.EBADF:
		return fmt.Errorf("%w (%w)", ErrGone, errno)
	}
	return errno
}

func setIovec(iov *unix.Iovec, b []byte) { *iov = iovec(b) }

func iovec(b []byte) (iov unix.Iovec) {
	if len(b) > 0 {
		iov.Base = &b[0]
		iov.SetLen(len(b))
	}
	return iov
}
