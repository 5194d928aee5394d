package strace

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
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
		ev   event.Call
		size int
		want string
	}{
		{event.Call{Name: "socket", FD: -1, Domain: stack.AF_INET, Type: stack.SOCK_STREAM | stack.SOCK_CLOEXEC | stack.SOCK_NONBLOCK, Ret: 3}, 32,
			"socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 3"},
		{event.Call{Name: "bind", FD: 3, Addr: netip.MustParseAddrPort("10.9.0.2:80"), Ret: -1, Error: "EADDRINUSE"}, 32,
			`bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.0.2")}, 16) = -1 EADDRINUSE (Address already in use)`},
		{event.Call{Name: "listen", FD: 3, Arg: 4096}, 32, "listen(3, 4096)                         = 0"},
		{event.Call{Name: "accept4", FD: 3, Addr: netip.MustParseAddrPort("[::ffff:10.9.0.1]:55402"), Flags: stack.SOCK_CLOEXEC, Ret: 5}, 32,
			`accept4(3, {sa_family=AF_INET6, sin6_port=htons(55402), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::ffff:10.9.0.1", &sin6_addr), sin6_scope_id=0}, [112 => 28], SOCK_CLOEXEC) = 5`},
		{event.Call{Name: "accept4", FD: 3, Ret: -1, Error: "EAGAIN"}, 32, "accept4(3, NULL, NULL, 0)               = -1 EAGAIN (Resource temporarily unavailable)"},
		{event.Call{Name: "read", FD: 4, Buffer: &event.Buffer{Size: 4096, Len: 18, Data: []byte("GET / HTTP/1.1\r\n\r\n")}, Ret: 18}, 5,
			`read(4, "GET /"..., 4096)               = 18`},
		{event.Call{Name: "read", FD: 4, Buffer: &event.Buffer{Addr: 0xc000012340, Size: 4096, Len: -1}, Ret: -1, Error: "EAGAIN"}, 32,
			`read(4, 0xc000012340, 4096)             = -1 EAGAIN (Resource temporarily unavailable)`},
		{event.Call{Name: "read", FD: 4, Buffer: &event.Buffer{Len: -1}, Ret: -1, Error: "EBADF"}, 32,
			`read(4, NULL, 0)                        = -1 EBADF (Bad file descriptor)`},
		{event.Call{Name: "sendto", FD: 4, Buffer: &event.Buffer{Size: 4, Len: 4, Data: []byte("meow")}, Flags: stack.MSG_NOSIGNAL, Ret: 4}, 32,
			`sendto(4, "meow", 4, MSG_NOSIGNAL, NULL, 0) = 4`},
		{event.Call{Name: "recvmsg", FD: 4, Message: &event.Message{Name: netip.MustParseAddrPort("10.9.0.1:53"), Flags: stack.MSG_TRUNC,
			Buffers: []event.Buffer{{Size: 4, Len: 4, Data: []byte("meow")}, {Size: 9}}}, Ret: 4}, 2,
			`recvmsg(4, {msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.9.0.1")}, msg_namelen=112 => 16, msg_iov=[{iov_base="me"..., iov_len=4}, {iov_base="", iov_len=9}], msg_iovlen=2, msg_controllen=0, msg_flags=MSG_TRUNC}, 0) = 4`},
		{event.Call{Name: "sendmsg", FD: 4, Message: &event.Message{Buffers: []event.Buffer{{Size: 4, Len: 4, Data: []byte("meow")}}, Control: []event.PacketInfo{
			{Link: 2, Dev: "cat0", Local: netip.MustParseAddr("192.0.2.7"), Dst: netip.MustParseAddr("0.0.0.0")}, {Link: 9, Local: netip.MustParseAddr("2001:db8::7"), Dst: netip.MustParseAddr("2001:db8::7")}}}, Ret: 4}, 32,
			`sendmsg(4, {msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base="meow", iov_len=4}], msg_iovlen=1, msg_control=[{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={ipi_ifindex=if_nametoindex("cat0"), ipi_spec_dst=inet_addr("192.0.2.7"), ipi_addr=inet_addr("0.0.0.0")}}, {cmsg_len=36, cmsg_level=SOL_IPV6, cmsg_type=IPV6_PKTINFO, cmsg_data={inet_pton(AF_INET6, "2001:db8::7", &ipi6_addr), ipi6_ifindex=9}}], msg_controllen=72, msg_flags=0}, 0) = 4`},
		{event.Call{Name: "setsockopt", FD: 4, Option: &event.Option{Level: stack.SOL_SOCKET, Name: stack.SO_LINGER, Linger: &event.Linger{OnOff: 1, Linger: 5}}}, 32,
			`setsockopt(4, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0`},
		{event.Call{Name: "getsockopt", FD: 4, Option: &event.Option{Level: stack.SOL_TCP, Name: 99}, Ret: -1, Error: "ENOPROTOOPT"}, 32,
			`getsockopt(4, SOL_TCP, 99, NULL, [0])   = -1 ENOPROTOOPT (Protocol not available)`},
		{event.Call{Name: "fcntl", FD: 4, Op: stack.F_GETFL, Ret: stack.O_RDWR | stack.O_NONBLOCK}, 32,
			`fcntl(4, F_GETFL)                       = 0x802 (flags O_RDWR|O_NONBLOCK)`},
		{event.Call{Name: "poll", FD: -1, Poll: []event.PollFD{{FD: 3, Events: stack.POLLIN}}}, 32,
			"poll([{fd=3, events=POLLIN}], 1, 0)     = 0 (Timeout)"},
		{event.Call{Name: "poll", FD: -1, Poll: []event.PollFD{{FD: -1}, {FD: 3, Events: stack.POLLIN | stack.POLLPRI, Revents: stack.POLLIN}}, Timeout: -1, Ret: 1}, 32,
			"poll([{fd=-1}, {fd=3, events=POLLIN|POLLPRI}], 2, -1) = 1 ([{fd=3, revents=POLLIN}])"},
		{event.Call{Name: "epoll_ctl", FD: 5, Op: stack.EPOLL_CTL_ADD, Arg: 3, Epoll: []event.EpollEvent{{Events: stack.POLLIN | stack.EPOLLET, Data: 3}}}, 32,
			"epoll_ctl(5, EPOLL_CTL_ADD, 3, {events=EPOLLIN|EPOLLET, data={u32=3, u64=3}}) = 0"},
		{event.Call{Name: "epoll_wait", FD: 5, Arg: 8, Timeout: 1500 * time.Microsecond}, 32, "epoll_wait(5, [], 8, 2)                 = 0"},
	} {
		if got := Format(&c.ev, c.size); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// Whoever reads a call from a file may find one that lacks what its name asks for.
func TestFormatBareCalls(t *testing.T) {
	for _, name := range []string{"accept4", "bind", "connect", "epoll_create1", "epoll_ctl", "epoll_wait", "fcntl", "getpeername", "getsockname",
		"getsockopt", "ioctl", "listen", "poll", "read", "recvfrom", "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socket", "write", "", "nosuchcall"} {
		if got := Format(&event.Call{Name: name}, DefaultSize); !strings.HasPrefix(got, name+"(") {
			t.Errorf("%q: %s", name, got)
		}
	}
}
