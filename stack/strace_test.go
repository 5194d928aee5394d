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

// Strings as strace 6.1 writes them.
func TestQuote(t *testing.T) {
	for _, c := range []struct {
		in   string
		size int
		want string
	}{
		{"", 32, `""`},
		{"meow", 32, `"meow"`},
		{"meow", 4, `"meow"`},
		{"meows", 4, `"meow"...`},
		{"meow", 0, `""...`},
		{"GET / HTTP/1.1\r\nHost: x\r\n", 32, `"GET / HTTP/1.1\r\nHost: x\r\n"`},
		{"\t\v\f\n\r", 32, `"\t\v\f\n\r"`},
		{`"quoted" \ back`, 32, `"\"quoted\" \\ back"`},
		{"a\x00b", 32, `"a\0b"`},
		{"a\x001", 32, `"a\0001"`}, // a digit follows: three octal digits
		{"a\x008", 32, `"a\08"`},   // 8 is no octal digit
		{"\x01\x017", 32, `"\1\0017"`},
		{"\x1b[0m\x7f\x80\xff", 32, `"\33[0m\177\200\377"`},
		{"katze: \xc3\xbc", 32, `"katze: \303\274"`},
		{"\x00\x00\x00", 2, `"\0\0"...`},
	} {
		if got := Quote([]byte(c.in), len(c.in), c.size); got != c.want {
			t.Errorf("Quote(%q, %d) = %s, want %s", c.in, c.size, got, c.want)
		}
	}
	if got := Quote([]byte("meow"), 9, 32); got != `"meow"...` {
		t.Errorf("Quote of 4 bytes of 9: %s", got)
	}
}

func TestCallFormat(t *testing.T) {
	for _, c := range []struct {
		ev   CallEvent
		size int
		want string
	}{
		{CallEvent{Name: "socket", Args: []CallArg{text("AF_INET"), text("SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK"), text("IPPROTO_IP")}, Ret: 3}, 32,
			"socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 3"},
		{CallEvent{Name: "bind", Args: []CallArg{num(3), sockaddrArg(netip.MustParseAddrPort("10.9.0.2:80")), num(16)}, Ret: -1, Errno: syscall.EADDRINUSE, Error: "EADDRINUSE"}, 32,
			`bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.0.2")}, 16) = -1 EADDRINUSE (Address already in use)`},
		{CallEvent{Name: "listen", Args: []CallArg{num(3), num(4096)}}, 32, "listen(3, 4096)                         = 0"},
		{CallEvent{Name: "read", Args: []CallArg{num(4), data([]byte("GET / HTTP/1.1\r\n\r\n"), 18), num(4096)}, Ret: 18}, 5,
			`read(4, "GET /"..., 4096)               = 18`},
		{CallEvent{Name: "poll", Args: []CallArg{text("[{fd=3, events=POLLIN}]"), num(1), num(0)}, Result: "0 (Timeout)"}, 32,
			"poll([{fd=3, events=POLLIN}], 1, 0)     = 0 (Timeout)"},
	} {
		if got := c.ev.Format(c.size); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

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
				if c.Start.IsZero() || c.Duration < 0 || c.String() == "" {
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
	if n := testing.AllocsPerRun(100, func() { s.sys.begin("read") }); n != 0 {
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
