package stack

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Every call of Sys is an event, with its name, whether it succeeds or not.
func TestEveryCallIsAnEvent(t *testing.T) {
	s := newStack(t, Config{})
	y := s.Sys()
	sub := s.Subscribe(t.Context(), 1000)
	defer sub.Close()
	var want []string
	b := make([]byte, 4)
	for _, c := range []struct {
		name string
		call func(fd int) error
	}{
		{"bind", func(fd int) error { return y.Bind(fd, netip.MustParseAddrPort("127.0.0.1:0")) }},
		{"listen", func(fd int) error { return y.Listen(fd, 1) }},
		{"accept4", func(fd int) error { _, _, err := y.Accept4(fd, 0); return err }},
		{"connect", func(fd int) error { return y.Connect(fd, netip.MustParseAddrPort("127.0.0.1:1")) }},
		{"read", func(fd int) error { _, err := y.Read(fd, b); return err }},
		{"write", func(fd int) error { _, err := y.Write(fd, b); return err }},
		{"sendto", func(fd int) error { _, err := y.Sendto(fd, b, 0, netip.AddrPort{}); return err }},
		{"recvfrom", func(fd int) error { _, _, err := y.Recvfrom(fd, b, 0); return err }},
		{"sendmsg", func(fd int) error { _, err := y.Sendmsg(fd, &Msg{Buffers: [][]byte{b}}, 0); return err }},
		{"recvmsg", func(fd int) error { _, err := y.Recvmsg(fd, &Msg{Buffers: [][]byte{b}}, 0); return err }},
		{"shutdown", func(fd int) error { return y.Shutdown(fd, SHUT_RD) }},
		{"getsockname", func(fd int) error { _, err := y.Getsockname(fd); return err }},
		{"getpeername", func(fd int) error { _, err := y.Getpeername(fd); return err }},
		{"setsockopt", func(fd int) error { return y.Setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 1) }},
		{"getsockopt", func(fd int) error { _, err := y.Getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE); return err }},
		{"fcntl", func(fd int) error { _, err := y.Fcntl(fd, F_GETFL, 0); return err }},
		{"ioctl", func(fd int) error { _, err := y.Ioctl(fd, SIOCINQ); return err }},
		{"poll", func(fd int) error { _, err := y.Poll([]PollFD{{FD: fd, Events: POLLIN}}, 0); return err }},
		{"epoll_create1", func(int) error { _, err := y.EpollCreate1(0); return err }},
		{"epoll_ctl", func(fd int) error { return y.EpollCtl(fd, EPOLL_CTL_ADD, fd, EpollEvent{}) }},
		{"epoll_wait", func(fd int) error { _, err := y.EpollWait(fd, make([]EpollEvent, 1), 0); return err }},
		{"close", func(fd int) error { return y.Close(fd) }},
	} {
		fd, err := y.Socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0)
		must(t, err)
		for _, fd := range []int{fd, 9999} {
			err := c.call(fd)
			line := c.name
			if err != nil {
				line += " " + errnoName(err.(syscall.Errno))
			}
			want = append(want, line)
		}
	}
	var got []string
	for len(got) < len(want) {
		select {
		case ev := <-sub.Events():
			if c := ev.Call; c != nil && c.Name != "socket" {
				got = append(got, strings.TrimSpace(c.Name+" "+c.Error))
				if c.Start.IsZero() || c.Duration < 0 || FormatCall(c) == "" {
					t.Errorf("%+v", c)
				}
			}
		case <-time.After(patience):
			t.Fatalf("after %d of %d calls no more events", len(got), len(want))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Nobody follows: a call costs one atomic load more, and no allocation.
func TestUnfollowedCallsCostNothing(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	if n := testing.AllocsPerRun(100, func() { s.sys.begin("read", 3) }); n != 0 {
		t.Errorf("begin allocates %v times", n)
	}
	_, err := srv.Write(make([]byte, 8192))
	must(t, err)
	s.Quiesce()
	b := make([]byte, 1)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Read allocates %v times", n)
	}
	// Beside netstack's own: the segment, its packet and views.
	p := &payloader{}
	own := testing.AllocsPerRun(100, func() {
		p.b = b
		srv.fd.k.ep.Write(p, tcpip.WriteOptions{})
	})
	all := testing.AllocsPerRun(100, func() {
		if _, err := srv.Write(b); err != nil {
			t.Fatal(err)
		}
	})
	if all > own+1 { // segments are built by other goroutines too
		t.Errorf("Write allocates %v times, netstack alone %v", all, own)
	}
}
