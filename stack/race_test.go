package stack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/catflap/catflap/internal/testenv"
)

const patience = testenv.Patience

// within fails the test if f does not return in time.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s: hangs after %s", what, d)
	}
}

// blockingSockets returns the fds of a listener, an idle connection and a UDP
// socket, all blocking.
func blockingSockets(t *testing.T, s *Stack) (l, c, u int) {
	t.Helper()
	y := s.Sys()
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	for _, p := range []*int{&l, &c, &u} {
		typ := SOCK_STREAM
		if p == &u {
			typ = SOCK_DGRAM
		}
		fd, err := y.Socket(AF_INET, typ, 0)
		must(t, err)
		*p = fd
		if p != &c {
			must(t, y.Bind(fd, addr))
		}
	}
	must(t, y.Listen(l, 8))
	name, err := y.Getsockname(l)
	must(t, err)
	must(t, y.Connect(c, name))
	_, _, err = y.Accept4(l, 0)
	must(t, err)
	return l, c, u
}

// tellCall is a function of its own for untilBlocked to find.
func tellCall(got chan<- error, call func(fd int) error, fd int) { got <- call(fd) }

// untilBlocked waits until a goroutine that was started with a function of this package waits for something.
func untilBlocked(t *testing.T, function string) {
	t.Helper()
	waits := regexp.MustCompile(`^goroutine \d+ \[(select|chan receive|sync\.Cond\.Wait|sync\.Mutex\.Lock)`)
	buf := make([]byte, 1<<20)
	testenv.Await(t, function+" to block", func() bool {
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "/stack."+function+"(") && waits.MatchString(g) {
				return true
			}
		}
		return false
	})
}

// What blocks on an fd returns EBADF when another goroutine closes it.
func TestCloseUnblocks(t *testing.T) {
	s := newStack(t, Config{})
	must(t, s.AddRoute(Route{Dst: pfx("198.51.100.0/24"), Dev: "lo"}))
	y := s.Sys()
	big := make([]byte, 64<<20)
	for _, c := range []struct {
		name string
		open func() int
		call func(fd int) error
		want error
	}{
		{"accept4", func() int { l, _, _ := blockingSockets(t, s); return l }, func(fd int) error { _, _, err := y.Accept4(fd, 0); return err }, syscall.EBADF},
		{"read", func() int { _, c, _ := blockingSockets(t, s); return c }, func(fd int) error { _, err := y.Read(fd, big); return err }, syscall.EBADF},
		{"write", func() int { _, c, _ := blockingSockets(t, s); return c }, func(fd int) error {
			n, err := y.Write(fd, big)
			if err == nil && n < len(big) {
				return syscall.EBADF // what was written before counts (write(2))
			}
			return err
		}, syscall.EBADF},
		{"recvfrom", func() int { _, _, u := blockingSockets(t, s); return u }, func(fd int) error { _, _, err := y.Recvfrom(fd, big, 0); return err }, syscall.EBADF},
		{"connect", func() int { fd, _ := y.Socket(AF_INET, SOCK_STREAM, 0); return fd }, func(fd int) error {
			return y.Connect(fd, netip.MustParseAddrPort("198.51.100.1:80"))
		}, syscall.EBADF},
		{"poll", func() int { _, c, _ := blockingSockets(t, s); return c }, func(fd int) error {
			p := []PollFD{{FD: fd, Events: POLLIN}}
			if n, err := y.Poll(p, -1); n != 1 || p[0].Revents != POLLNVAL {
				return fmt.Errorf("poll: %d, %v, %#x", n, err, p[0].Revents)
			}
			return nil
		}, nil},
		{"epoll_wait", func() int { fd, _ := y.EpollCreate1(0); return fd }, func(fd int) error {
			_, err := y.EpollWait(fd, make([]EpollEvent, 1), -1)
			return err
		}, syscall.EBADF},
	} {
		t.Run(c.name, func(t *testing.T) {
			fd := c.open()
			got := make(chan error, 1)
			go tellCall(got, c.call, fd)
			untilBlocked(t, "tellCall")
			if err := y.Close(fd); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-got:
				if err != c.want {
					t.Errorf("%v, want %v", err, c.want)
				}
			case <-time.After(patience):
				t.Fatalf("still blocks %v after close", patience)
			}
		})
	}
}

// Everything at once on a few sockets, with closes in between: nothing hangs,
// panics or races, and errors are errnos.
func TestCallsRace(t *testing.T) {
	s := newStack(t, Config{MaxFDs: 64})
	y := s.Sys()
	lfd, err := y.Socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0)
	must(t, err)
	must(t, y.Bind(lfd, netip.MustParseAddrPort("127.0.0.1:7000")))
	must(t, y.Listen(lfd, 16))
	addr := netip.MustParseAddrPort("127.0.0.1:7000")
	stop := time.Now().Add(500 * time.Millisecond)
	check := func(err error) {
		var errno syscall.Errno
		if err != nil && !errors.As(err, &errno) {
			t.Errorf("%v is no errno", err)
		}
	}
	fds := func(i int) int { return firstFD + 1 + i%12 } // not the listener
	jobs := []func(i int){
		func(i int) { fd, err := y.Socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0); check(err); _ = fd },
		func(i int) { check(y.Connect(fds(i), addr)) },
		func(i int) { _, _, err := y.Accept4(lfd, SOCK_NONBLOCK); check(err) },
		func(i int) { _, err := y.Read(fds(i), make([]byte, 64)); check(err) },
		func(i int) { _, err := y.Write(fds(i), make([]byte, 64)); check(err) },
		func(i int) { check(y.Shutdown(fds(i), i%3)) },
		func(i int) { check(y.Close(fds(i))) },
		func(i int) {
			_, err := y.Poll([]PollFD{{FD: fds(i), Events: POLLIN | POLLOUT}, {FD: fds(i + 1), Events: POLLIN}}, time.Millisecond)
			check(err)
		},
		func(i int) {
			e, err := y.EpollCreate1(0)
			check(err)
			if err == nil {
				for j := range 4 {
					check(y.EpollCtl(e, EPOLL_CTL_ADD, fds(i+j), EpollEvent{Events: POLLIN | POLLOUT}))
				}
				_, err = y.EpollWait(e, make([]EpollEvent, 4), time.Millisecond)
				check(err)
				check(y.Close(e))
			}
		},
		func(i int) { check(y.Setsockopt(fds(i), SOL_SOCKET, SO_LINGER, Linger{i % 2, 0})) },
		func(i int) { _, err := y.Getsockopt(fds(i), SOL_TCP, TCP_INFO); check(err) },
		func(i int) { s.Sockets() },
	}
	within(t, patience, "calls", func() {
		var wg sync.WaitGroup
		for _, job := range jobs {
			for range 2 {
				wg.Go(func() {
					for i := 0; time.Now().Before(stop); i++ {
						job(i)
					}
				})
			}
		}
		wg.Wait()
	})
	within(t, patience, "close", func() { s.Close() })
}

// While epoll_wait asks a socket whether it is ready, what holds that socket's lock
// can tell the epoll instance so.
func TestEpollNotifyWhileCollecting(t *testing.T) {
	s := newStack(t, Config{})
	y := s.Sys()
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	k := srv.fd.k
	e := tcpOf(k.ep)
	must(t, c.CloseWrite())
	_, err := io.Copy(io.Discard, srv)
	must(t, err)
	must(t, srv.CloseWrite())
	// Of a connection that has ended netstack tells the error under its lock.
	testenv.Await(t, "the end of the connection", func() bool { return e.State() == tcpClosed })
	ep, err := y.EpollCreate1(0)
	must(t, err)
	defer y.Close(ep)
	must(t, y.EpollCtl(ep, EPOLL_CTL_ADD, srv.FD(), EpollEvent{Events: POLLOUT}))
	e.Lock()
	unlock := sync.OnceFunc(e.Unlock)
	defer unlock()
	waited := make(chan error, 1)
	go tellCall(waited, func(ep int) error {
		n, err := y.EpollWait(ep, make([]EpollEvent, 1), -1)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d events", n)
		}
		return err
	}, ep)
	untilBlocked(t, "tellCall") // by the lock
	within(t, patience, "notify", func() { k.wq.Notify(waiter.WritableEvents) })
	unlock()
	must(t, <-waited)
}

// With no fd left accept gives EMFILE, and the connection waits until there is one.
func TestFDExhaustion(t *testing.T) {
	s := newStack(t, Config{MaxFDs: 3})
	y := s.Sys()
	l, err := s.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	c, err := s.Dial("tcp", l.Addr().String())
	must(t, err)
	defer c.Close()
	spare, err := y.Socket(AF_INET, SOCK_DGRAM, 0)
	must(t, err)
	if _, err := y.Socket(AF_INET, SOCK_DGRAM, 0); err != syscall.EMFILE {
		t.Errorf("a fourth socket of three: %v, want EMFILE", err)
	}
	if _, err := y.EpollCreate1(0); err != syscall.EMFILE {
		t.Errorf("an epoll beside three sockets: %v, want EMFILE", err)
	}
	var op *net.OpError
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) || !errors.As(err, &op) || op.Op != "accept" {
		t.Errorf("accept: %v, want EMFILE", err)
	} else if !op.Temporary() {
		t.Error("EMFILE is not temporary: net/http would end the server")
	}
	must(t, y.Close(spare))
	srv, err := l.Accept()
	must(t, err)
	defer srv.Close()
	if fd := srv.(*TCPConn).FD(); fd != spare {
		t.Errorf("accepted fd %d, want the lowest free one, %d", fd, spare)
	}
	_, err = io.WriteString(c, "meow")
	must(t, err)
	b := make([]byte, 4)
	if _, err := io.ReadFull(srv, b); err != nil || string(b) != "meow" {
		t.Errorf("%q, %v", b, err)
	}
}

// A SO_REUSEPORT group shares connections and datagrams out, each flow to one.
func TestReusePortBalances(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}}})
	y := w.s.Sys()
	const members, flows = 4, 400
	group := func(typ int, addr string) (fds []int) {
		for range members {
			fd, err := y.Socket(AF_INET, typ|SOCK_NONBLOCK, 0)
			must(t, err)
			must(t, y.Setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1))
			must(t, y.Bind(fd, netip.MustParseAddrPort(addr)))
			if typ == SOCK_STREAM {
				must(t, y.Listen(fd, flows))
			}
			fds = append(fds, fd)
		}
		return fds
	}
	steered := SteerRule{Network: "tcp", Prefix: pfx("192.0.2.0/24"), PortLo: 1, PortHi: 65535, To: netip.MustParseAddrPort("10.9.0.2:80")}
	must(t, w.s.AddSteering(steered))
	tcp, udp := group(SOCK_STREAM, "10.9.0.2:80"), group(SOCK_DGRAM, "10.9.0.2:53")
	fair := func(what string, counts []int) {
		t.Helper()
		// A fair coin gives each flows/members ± 5 standard deviations.
		if slices.Min(counts) < flows/members/2 || slices.Max(counts) > flows/members*2 {
			t.Errorf("%s: %v of %d", what, counts, flows)
		}
	}
	for _, dst := range []string{"10.9.0.2:80", "192.0.2.7:443"} {
		counts := make([]int, members)
		for i := range flows {
			f := tuple("tcp", fmt.Sprintf("10.9.0.1:%d", 2000+i), dst)
			l := w.s.LookupSocket(f)
			w.handshake(t, f, 1)
			if n, _, err := y.Accept4(l.FD, 0); err != nil {
				t.Fatalf("%s: %v", l.Short(), err)
			} else {
				y.Setsockopt(n, SOL_SOCKET, SO_LINGER, Linger{1, 0})
				y.Close(n)
				w.read(t)
			}
			counts[slices.Index(tcp, l.FD)]++
		}
		fair(dst, counts)
	}
	counts := make([]int, members)
	for i := range flows {
		f := tuple("udp", fmt.Sprintf("10.9.0.1:%d", 2000+i), "10.9.0.2:53")
		for range 2 { // a flow stays with its socket
			l := w.s.LookupSocket(f)
			w.inject(datagram(t, f, "meow"))
			if n, err := y.Read(l.FD, make([]byte, 9)); n != 4 || err != nil {
				t.Fatalf("%s: read %d, %v", l.Short(), n, err)
			}
			counts[slices.Index(udp, l.FD)]++
		}
	}
	for i := range counts {
		counts[i] /= 2
	}
	fair("datagrams", counts)
}
