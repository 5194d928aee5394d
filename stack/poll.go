package stack

import (
	"slices"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/catflap/catflap/stack/event"
)

// Poll events: poll(2), with Linux's values on every OS.
const (
	POLLIN    = 0x1
	POLLPRI   = 0x2
	POLLOUT   = 0x4
	POLLERR   = 0x8
	POLLHUP   = 0x10
	POLLNVAL  = 0x20
	POLLRDHUP = 0x2000

	EPOLLET      = 1 << 31
	EPOLLONESHOT = 1 << 30

	EPOLL_CTL_ADD = 1
	EPOLL_CTL_DEL = 2
	EPOLL_CTL_MOD = 3
)

const pollMask = POLLIN | POLLPRI | POLLOUT | POLLERR | POLLHUP | POLLRDHUP

// ready returns the events of k that are true now; errors and hang-ups always count.
func (k *socket) ready(events int) int {
	if k.closing.Load() {
		return POLLNVAL
	}
	events |= POLLERR | POLLHUP
	if c := tcpOf(k.ep); c != nil {
		return k.tcpReady(c) & events
	}
	return int(k.ep.Readiness(waiter.EventMask(events&pollMask))) & events
}

// tcpReady is Linux's tcp_poll.
func (k *socket) tcpReady(c tcpConn) (ev int) {
	st := c.State()
	var rcvShut, sndShut bool
	switch st {
	case tcpListen:
		return int(k.ep.Readiness(waiter.ReadableEvents)) & POLLIN
	case tcpConnecting, tcpSynSent, tcpSynReceived:
		return 0
	case tcpNew, tcpBound:
		return POLLOUT | POLLHUP
	case tcpCloseWait:
		rcvShut = true
	case tcpFinWait1, tcpFinWait2:
		sndShut = true
	case tcpEstablished:
	default: // LAST-ACK, CLOSING, TIME-WAIT, and after the end
		rcvShut, sndShut = true, true
	}
	if k.fault() != nil {
		ev |= POLLERR
	}
	ev |= int(k.ep.Readiness(waiter.ReadableEvents|waiter.WritableEvents)) & (POLLIN | POLLOUT)
	if rcvShut = rcvShut || k.readShut.Load(); rcvShut {
		ev |= POLLIN | POLLRDHUP
	}
	if sndShut {
		ev |= POLLOUT
	}
	if rcvShut && sndShut {
		ev |= POLLHUP
	}
	return ev
}

// waitMask is what to wait for on a socket to see events.
func waitMask(events int) waiter.EventMask {
	m := waiter.EventMask(events&pollMask) | waiter.EventErr | waiter.EventHUp
	if events&POLLRDHUP != 0 {
		m |= waiter.ReadableEvents // netstack reports a FIN so
	}
	return m
}

// waker is a waiter.EventListener that sets a flag in a channel.
type waker chan struct{}

func (w waker) NotifyEvent(waiter.EventMask) {
	select {
	case w <- struct{}{}:
	default:
	}
}

// Poll waits until one of fds is ready, and returns how many are: poll(2). A
// negative timeout means without end. Entries with negative FD are passed over.
func (y *Sys) Poll(fds []PollFD, timeout time.Duration) (int, error) {
	c := y.begin("poll", -1)
	n, err := y.poll(fds, timeout)
	if c != nil {
		c.ev.Poll, c.ev.Timeout = slices.Clone(fds), timeout
		c.end(nil, int64(n), err)
	}
	return n, err
}

func (y *Sys) poll(fds []PollFD, timeout time.Duration) (int, error) {
	w := make(waker, 1)
	scan := func() (n int) {
		for i := range fds {
			p := &fds[i]
			if p.Revents = 0; p.FD < 0 {
				continue
			}
			if k, err := y.socket(p.FD); err != nil {
				p.Revents = POLLNVAL
			} else {
				p.Revents = k.ready(p.Events)
			}
			if p.Revents != 0 {
				n++
			}
		}
		return n
	}
	if n := scan(); n > 0 || timeout == 0 {
		return n, nil
	}
	for _, p := range fds {
		k, err := y.socket(p.FD)
		if err != nil {
			continue
		}
		var e waiter.Entry
		e.Init(w, waitMask(p.Events))
		k.wq.EventRegister(&e)
		defer k.wq.EventUnregister(&e)
	}
	expired, stop := y.timeout(timeout)
	defer stop()
	for {
		if n := scan(); n > 0 {
			return n, nil
		}
		select {
		case <-w:
		case <-expired:
			return 0, nil
		case <-y.s.done:
			return 0, syscall.EBADF
		}
	}
}

// timeout returns a channel that is closed after d by the stack's clock; never if
// d is negative.
func (y *Sys) timeout(d time.Duration) (<-chan struct{}, func()) {
	if d < 0 {
		return nil, func() {}
	}
	ch := make(chan struct{})
	t := y.s.clock.AfterFunc(d, func() { close(ch) })
	return ch, func() { t.Stop() }
}

// epoll is an epoll instance: a file that knows which of its sockets may be ready.
type epoll struct {
	w waker

	collecting sync.Mutex // one collect at a time; comes before the sockets' locks

	mu    sync.Mutex // comes after the sockets' locks, under which NotifyEvent runs
	items map[*socket]*epollItem
	list  []*epollItem // may be ready, oldest first
	done  chan struct{}
}

type epollItem struct {
	ep     *epoll
	k      *socket
	entry  waiter.Entry
	ev     EpollEvent
	listed bool // in ep.list
	off    bool // EPOLLONESHOT has fired
}

// NotifyEvent implements waiter.EventListener.
func (it *epollItem) NotifyEvent(waiter.EventMask) {
	it.ep.mu.Lock()
	it.enlistLocked()
	it.ep.mu.Unlock()
	it.ep.w.NotifyEvent(0)
}

func (it *epollItem) enlistLocked() {
	if !it.listed {
		it.listed = true
		it.ep.list = append(it.ep.list, it)
	}
}

// closeFile implements file.
func (e *epoll) closeFile() {
	e.mu.Lock()
	items := e.items
	e.items = nil
	e.mu.Unlock()
	for _, it := range items {
		it.k.wq.EventUnregister(&it.entry)
	}
	close(e.done)
}

// EpollCreate1 makes an epoll instance: epoll_create1(2).
func (y *Sys) EpollCreate1(flags int) (int, error) {
	c := y.begin("epoll_create1", -1)
	fd, err := y.reserve()
	if err == nil {
		err = y.install(fd, &epoll{w: make(waker, 1), items: map[*socket]*epollItem{}, done: make(chan struct{})})
	}
	if c != nil {
		c.ev.Flags = flags
		c.end(nil, int64(fd), err)
	}
	return fd, err
}

func (y *Sys) epoll(fd int) (*epoll, error) {
	f, err := y.file(fd)
	if err != nil {
		return nil, err
	}
	e, ok := f.(*epoll)
	if !ok {
		return nil, syscall.EINVAL
	}
	return e, nil
}

// EpollCtl adds, changes or removes a socket: epoll_ctl(2).
func (y *Sys) EpollCtl(epfd, op, fd int, ev EpollEvent) error {
	c := y.begin("epoll_ctl", epfd)
	err := y.epollCtl(epfd, op, fd, ev)
	if c != nil {
		c.ev.Op, c.ev.Arg = op, fd
		if op != EPOLL_CTL_DEL {
			c.ev.Epoll = []EpollEvent{ev}
		}
		c.end(nil, 0, err)
	}
	return err
}

func (y *Sys) epollCtl(epfd, op, fd int, ev EpollEvent) error {
	e, err := y.epoll(epfd)
	if err != nil {
		return err
	}
	k, err := y.socket(fd)
	if err == syscall.ENOTSOCK {
		return syscall.EINVAL // no epoll within epoll
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	it := e.items[k]
	switch {
	case e.items == nil:
		e.mu.Unlock()
		return syscall.EBADF
	case op == EPOLL_CTL_ADD && it != nil:
		e.mu.Unlock()
		return syscall.EEXIST
	case op != EPOLL_CTL_ADD && it == nil:
		e.mu.Unlock()
		return syscall.ENOENT
	}
	switch op {
	case EPOLL_CTL_ADD:
		it = &epollItem{ep: e, k: k, ev: ev}
		e.items[k] = it
	case EPOLL_CTL_MOD:
		it.ev, it.off = ev, false
	case EPOLL_CTL_DEL:
		delete(e.items, k)
	default:
		e.mu.Unlock()
		return syscall.EINVAL
	}
	e.mu.Unlock()
	// The queue's lock comes before e.mu (NotifyEvent runs under it).
	if op != EPOLL_CTL_ADD {
		k.wq.EventUnregister(&it.entry)
	}
	if op != EPOLL_CTL_DEL {
		it.entry.Init(it, waitMask(int(ev.Events)))
		k.wq.EventRegister(&it.entry)
		if k.ready(int(ev.Events)) != 0 {
			it.NotifyEvent(0)
		}
	}
	return nil
}

// EpollWait waits for events and fills evs: epoll_wait(2). A negative timeout
// means without end.
func (y *Sys) EpollWait(epfd int, evs []EpollEvent, timeout time.Duration) (int, error) {
	c := y.begin("epoll_wait", epfd)
	n, err := y.epollWait(epfd, evs, timeout)
	if c != nil {
		c.ev.Arg, c.ev.Timeout = len(evs), timeout
		if err == nil {
			c.ev.Epoll = slices.Clone(evs[:n])
		} else {
			c.ev.Buffer = &event.Buffer{Addr: addressOf(evs), Len: -1}
		}
		c.end(nil, int64(n), err)
	}
	return n, err
}

func (y *Sys) epollWait(epfd int, evs []EpollEvent, timeout time.Duration) (int, error) {
	e, err := y.epoll(epfd)
	if err != nil {
		return -1, err
	}
	if len(evs) == 0 {
		return -1, syscall.EINVAL
	}
	expired, stop := y.timeout(timeout)
	defer stop()
	for {
		if n := e.collect(evs); n > 0 || timeout == 0 {
			return n, nil
		}
		select {
		case <-e.w:
		case <-expired:
			return 0, nil
		case <-e.done:
			return -1, syscall.EBADF
		case <-y.s.done:
			return -1, syscall.EBADF
		}
	}
}

// collect takes ready items off the list. Level-triggered ones go back to its
// end, as in Linux, so that all get their turn.
func (e *epoll) collect(evs []EpollEvent) int {
	e.collecting.Lock()
	defer e.collecting.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for range len(e.list) {
		if n == len(evs) {
			break
		}
		it := e.list[0]
		e.list = e.list[1:]
		it.listed = false
		if e.items[it.k] != it || it.off {
			continue
		}
		if it.k.closing.Load() {
			delete(e.items, it.k)
			continue
		}
		ev := it.ev
		e.mu.Unlock()
		r := it.k.ready(int(ev.Events & pollMask))
		e.mu.Lock()
		if r == 0 || e.items[it.k] != it {
			continue
		}
		evs[n] = EpollEvent{Events: uint32(r), Data: ev.Data}
		n++
		switch {
		case ev.Events&EPOLLONESHOT != 0:
			it.off = true
		case ev.Events&EPOLLET == 0:
			it.enlistLocked()
		}
	}
	return n
}
