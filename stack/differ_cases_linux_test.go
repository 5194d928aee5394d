//go:build linux

package stack

import (
	"net/netip"
	"slices"
	"strings"
)

// linuxCase is a script of socket calls that gives the same results here and on
// Linux. Where netstack makes that impossible, known says why; the test fails when
// the difference has gone.
type linuxCase struct {
	name   string
	script func(*script)
	known  string
}

var linuxCases = []linuxCase{
	// socket
	{name: "socket families and types", script: func(x *script) {
		x.socketp(AF_INET, SOCK_STREAM, 0)
		x.socketp(AF_INET6, SOCK_DGRAM, 0)
		x.socketp(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_TCP)
		x.socketp(AF_INET, SOCK_DGRAM, IPPROTO_UDP)
	}},
	{name: "socket with wrong arguments", script: func(x *script) {
		x.socketp(AF_INET, SOCK_STREAM, IPPROTO_UDP)
		x.socketp(AF_INET, SOCK_DGRAM, IPPROTO_TCP)
		x.socketp(77, SOCK_STREAM, 0)
		x.socketp(AF_UNSPEC, SOCK_STREAM, 0)
		x.socketp(AF_INET, 0, 0)
		x.socketp(AF_INET, 9, 0)
		x.socketp(AF_INET, 77, 0)
		x.socketp(AF_INET, SOCK_STREAM, -1)
		x.socketp(AF_INET, SOCK_STREAM, 300)
		x.socketp(AF_INET, SOCK_STREAM|0x4000, 0)
	}},
	{name: "lowest free fd first", script: func(x *script) {
		a, b, c := x.tcp(), x.tcp(), x.tcp()
		x.close(b)
		x.tcp()
		x.close(a)
		x.close(c)
		x.udp()
		x.udp()
	}},
	{name: "calls on a closed fd", script: func(x *script) {
		a := x.tcp()
		x.close(a)
		x.close(a)
		x.bind(a, "127.0.0.1:0")
		x.listen(a, 1)
		x.accept(a)
		x.connect(a, "127.0.0.1:9")
		x.read(a, 1)
		x.write(a, "x")
		x.send(a, "x", 0)
		x.recvfrom(a, 1, 0)
		x.shutdown(a, SHUT_RDWR)
		x.getsockname(a)
		x.getpeername(a)
		x.set(a, SOL_SOCKET, SO_REUSEADDR, 1)
		x.get(a, SOL_SOCKET, SO_REUSEADDR)
		x.fcntl(a, F_GETFL, 0)
		x.ioctl(a, SIOCINQ)
		x.poll(a, POLLIN)
	}},
	{name: "negative fds", script: func(x *script) {
		x.close(-1)
		x.read(-1, 1)
		x.bind(-1, "127.0.0.1:0")
		x.poll(-1, POLLIN)
	}},

	// bind
	{name: "bind to an ephemeral port", script: func(x *script) {
		a := x.tcp()
		x.getsockname(a)
		x.bind(a, "127.0.0.1:0")
		x.getsockname(a)
	}},
	{name: "bind to any address", script: func(x *script) {
		a := x.tcp()
		x.bind(a, "0.0.0.0:8001")
		x.getsockname(a)
	}},
	{name: "bind twice", script: func(x *script) {
		a := x.tcp()
		x.bind(a, "127.0.0.1:0")
		x.bind(a, "127.0.0.1:0")
		u := x.udp()
		x.bind(u, "127.0.0.1:0")
		x.bind(u, "127.0.0.1:8002")
	}},
	{name: "bind to a taken address", script: func(x *script) {
		l := x.tcp()
		x.bind(l, "127.0.0.1:8003")
		x.listen(l, 1)
		a := x.tcp()
		x.bind(a, "127.0.0.1:8003")
		x.bind(a, "0.0.0.0:8003")
		x.bind(a, "127.0.0.2:8003")
	}},
	{name: "bind to an address taken by a bound socket", script: func(x *script) {
		x.bind(x.tcp(), "127.0.0.1:8004")
		x.bind(x.tcp(), "127.0.0.1:8004")
	}},
	{name: "bind with SO_REUSEADDR on both", script: func(x *script) {
		a, b := x.tcp(), x.tcp()
		for _, fd := range []int{a, b} {
			x.set(fd, SOL_SOCKET, SO_REUSEADDR, 1)
			x.bind(fd, "127.0.0.1:8005")
		}
		x.listen(a, 1)
		x.listen(b, 1)
	}},
	{name: "bind with SO_REUSEADDR to a listener's address", script: func(x *script) {
		a, b := x.tcp(), x.tcp()
		x.set(a, SOL_SOCKET, SO_REUSEADDR, 1)
		x.bind(a, "127.0.0.1:8006")
		x.listen(a, 1)
		x.set(b, SOL_SOCKET, SO_REUSEADDR, 1)
		x.bind(b, "127.0.0.1:8006")
	}},
	{name: "bind with SO_REUSEPORT", script: func(x *script) {
		for range 3 {
			a := x.tcp()
			x.set(a, SOL_SOCKET, SO_REUSEPORT, 1)
			x.bind(a, "127.0.0.1:8007")
			x.listen(a, 1)
		}
		x.bind(x.tcp(), "127.0.0.1:8007")
		b := x.tcp()
		x.set(b, SOL_SOCKET, SO_REUSEADDR, 1)
		x.bind(b, "127.0.0.1:8007")
	}},
	{name: "bind with SO_REUSEADDR beside TIME-WAIT", script: func(x *script) {
		l := x.tcp()
		x.set(l, SOL_SOCKET, SO_REUSEADDR, 1)
		x.bind(l, "127.0.0.1:8008")
		x.listen(l, 1)
		c := x.tcp()
		x.connect(c, "127.0.0.1:8008")
		s := x.accept(l)
		x.close(s)
		x.close(c)
		x.close(l)
		a := x.tcp()
		x.bind(a, "127.0.0.1:8008")
		x.set(a, SOL_SOCKET, SO_REUSEADDR, 1)
		x.bind(a, "127.0.0.1:8008")
		x.listen(a, 1)
	}},
	{name: "bind UDP twice to one address", script: func(x *script) {
		x.bind(x.udp(), "127.0.0.1:8009")
		b := x.udp()
		x.bind(b, "127.0.0.1:8009")
		x.bind(b, "0.0.0.0:8009")
		x.bind(b, "127.0.0.2:8009")
	}},
	{name: "bind UDP with SO_REUSEADDR", script: func(x *script) {
		for range 2 {
			a := x.udp()
			x.set(a, SOL_SOCKET, SO_REUSEADDR, 1)
			x.bind(a, "127.0.0.1:8010")
		}
	}},
	{name: "bind UDP with SO_REUSEPORT", script: func(x *script) {
		for range 2 {
			a := x.udp()
			x.set(a, SOL_SOCKET, SO_REUSEPORT, 1)
			x.bind(a, "127.0.0.1:8011")
		}
		x.bind(x.udp(), "127.0.0.1:8011")
	}},
	{name: "bind to an address that is not local", script: func(x *script) {
		x.bind(x.tcp(), "192.0.2.1:0")
		x.bind(x.udp(), "192.0.2.1:0")
		x.bind(x.socket(AF_INET6, SOCK_STREAM), "[2001:db8::1]:0")
	}},
	{name: "bind to any loopback address", script: func(x *script) {
		a := x.tcp()
		x.bind(a, "127.1.2.3:0")
		x.getsockname(a)
	}},
	{name: "bind to a broadcast or multicast address", script: func(x *script) {
		x.bind(x.tcp(), "127.255.255.255:0")
		x.bind(x.tcp(), "255.255.255.255:0")
		x.bind(x.tcp(), "224.0.0.1:0")
		x.bind(x.udp(), "127.255.255.255:0")
		x.bind(x.udp(), "255.255.255.255:0")
		x.bind(x.udp(), "224.0.0.1:0")
	}},
	{name: "bind with IP_FREEBIND", script: func(x *script) {
		a := x.tcp()
		x.set(a, SOL_IP, IP_FREEBIND, 1)
		x.get(a, SOL_IP, IP_FREEBIND)
		x.bind(a, "192.0.2.1:8012")
		x.listen(a, 1)
		x.getsockname(a)
	}},
	{name: "bind with IP_TRANSPARENT", script: func(x *script) {
		a := x.udp()
		x.set(a, SOL_IP, IP_TRANSPARENT, 1)
		x.get(a, SOL_IP, IP_TRANSPARENT)
		x.get(a, SOL_IP, IP_FREEBIND)
		x.bind(a, "192.0.2.1:8013")
		x.getsockname(a)
	}},
	{name: "bind to an address of another family", script: func(x *script) {
		x.bind(x.tcp(), "[::1]:0")
		x.bind(x.udp(), "[::1]:0")
		x.bind(x.socket(AF_INET6, SOCK_STREAM), "127.0.0.1:0")
	}},
	{name: "bind after connect", script: func(x *script) {
		c, _, _ := x.pair()
		x.bind(c, "127.0.0.1:0")
		u := x.udp()
		x.connect(u, "127.0.0.1:8014")
		x.bind(u, "127.0.0.1:0")
	}},
	{name: "an address is free after close", script: func(x *script) {
		for range 2 {
			l := x.tcp()
			x.bind(l, "127.0.0.1:8015")
			x.listen(l, 1)
			x.close(l)
		}
	}},

	// dual stack
	{name: "dual stack takes both families", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_STREAM)
		x.get(a, SOL_IPV6, IPV6_V6ONLY)
		x.bind(a, "[::]:8016")
		x.listen(a, 1)
		x.bind(x.tcp(), "0.0.0.0:8016")
		x.bind(x.tcp(), "127.0.0.1:8016")
		c := x.tcp()
		x.connect(c, "127.0.0.1:8016")
		s := x.accept(a)
		x.getsockname(s)
		x.getpeername(s)
	}},
	{name: "IPV6_V6ONLY leaves IPv4 alone", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_STREAM)
		x.set(a, SOL_IPV6, IPV6_V6ONLY, 1)
		x.bind(a, "[::]:8017")
		x.set(a, SOL_IPV6, IPV6_V6ONLY, 0)
		x.listen(a, 1)
		b := x.tcp()
		x.bind(b, "0.0.0.0:8017")
		x.listen(b, 1)
		c := x.tcp()
		x.connect(c, "127.0.0.1:8017")
		x.accept(a)
		x.accept(b)
	}},
	{name: "IPV6_V6ONLY on an IPv4 socket", script: func(x *script) {
		a := x.tcp()
		x.set(a, SOL_IPV6, IPV6_V6ONLY, 1)
		x.get(a, SOL_IPV6, IPV6_V6ONLY)
	}},
	{name: "mapped addresses", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_STREAM)
		x.bind(a, "[::ffff:127.0.0.1]:8018")
		x.listen(a, 1)
		x.getsockname(a)
		c := x.socket(AF_INET6, SOCK_STREAM)
		x.connect(c, "[::ffff:127.0.0.1]:8018")
		x.getpeername(c)
		x.getsockname(c)
	}},
	{name: "mapped addresses on an IPv6-only socket", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_STREAM)
		x.set(a, SOL_IPV6, IPV6_V6ONLY, 1)
		x.bind(a, "[::ffff:127.0.0.1]:8019")
		b := x.socket(AF_INET6, SOCK_STREAM)
		x.set(b, SOL_IPV6, IPV6_V6ONLY, 1)
		x.connect(b, "[::ffff:127.0.0.1]:8019")
	}},
	{name: "IPv6 connection", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_STREAM)
		x.bind(a, "[::1]:0")
		x.listen(a, 1)
		c := x.socket(AF_INET6, SOCK_STREAM)
		x.connect(c, x.name(a))
		s := x.accept(a)
		x.write(c, "meow")
		x.read(s, 9)
	}},

	// listen and accept
	{name: "listen without bind", script: func(x *script) {
		a := x.tcp()
		x.listen(a, 1)
		x.getsockname(a)
		x.bind(a, "127.0.0.1:0")
	}},
	{name: "listen twice", script: func(x *script) {
		a := x.listener()
		x.listen(a, 1)
		x.listen(a, -1)
		x.listen(a, 100000)
	}},
	{name: "listen on UDP", script: func(x *script) {
		x.listen(x.udp(), 1)
	}},
	{name: "listen on a connection", script: func(x *script) {
		c, s, _ := x.pair()
		x.listen(c, 1)
		x.listen(s, 1)
	}},
	{name: "accept with nobody there", script: func(x *script) {
		x.accept(x.listener())
	}},
	{name: "accept on what does not listen", script: func(x *script) {
		x.accept(x.tcp())
		a := x.tcp()
		x.bind(a, "127.0.0.1:0")
		x.accept(a)
		x.accept(x.udp())
		c, _, _ := x.pair()
		x.accept(c)
	}},
	{name: "accept4 with wrong flags", script: func(x *script) {
		l := x.listener()
		x.accept4(l, 1)
		x.accept4(l, SOCK_STREAM|SOCK_CLOEXEC)
	}},
	{name: "accept in order of arrival", script: func(x *script) {
		l := x.listener()
		for range 3 {
			c := x.tcp()
			x.connect(c, x.name(l))
			x.getsockname(c)
		}
		for range 4 {
			x.accept(l)
		}
	}},
	{name: "accepted sockets inherit what Linux copies", script: func(x *script) {
		l := x.tcp()
		x.set(l, SOL_SOCKET, SO_KEEPALIVE, 1)
		x.set(l, SOL_SOCKET, SO_REUSEADDR, 1)
		x.set(l, SOL_SOCKET, SO_REUSEPORT, 1)
		x.set(l, SOL_SOCKET, SO_LINGER, Linger{1, 5})
		x.set(l, SOL_SOCKET, SO_RCVBUF, 20000)
		x.set(l, SOL_SOCKET, SO_SNDBUF, 30000)
		x.set(l, SOL_TCP, TCP_NODELAY, 1)
		x.set(l, SOL_TCP, TCP_KEEPIDLE, 11)
		x.set(l, SOL_TCP, TCP_KEEPINTVL, 12)
		x.set(l, SOL_TCP, TCP_KEEPCNT, 3)
		x.set(l, SOL_TCP, TCP_USER_TIMEOUT, 14000)
		x.set(l, SOL_TCP, TCP_CONGESTION, "reno")
		x.set(l, SOL_IP, IP_TTL, 33)
		x.set(l, SOL_IP, IP_TOS, 16)
		x.bind(l, "127.0.0.1:0")
		x.listen(l, 1)
		x.connect(x.tcp(), x.name(l))
		s := x.accept4(l, 0)
		for _, name := range []int{SO_KEEPALIVE, SO_REUSEADDR, SO_REUSEPORT, SO_LINGER, SO_RCVBUF, SO_SNDBUF} {
			x.get(s, SOL_SOCKET, name)
		}
		for _, name := range []int{TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_CONGESTION} {
			x.get(s, SOL_TCP, name)
		}
		x.get(s, SOL_IP, IP_TTL)
		x.get(s, SOL_IP, IP_TOS)
		x.fcntl(s, F_GETFL, 0)
	}},
	{name: "a connection reset before accept", script: func(x *script) {
		l := x.listener()
		c := x.tcp()
		x.connect(c, x.name(l))
		x.set(c, SOL_SOCKET, SO_LINGER, Linger{1, 0})
		x.close(c)
		x.poll(l, POLLIN)
		s := x.accept(l)
		x.read(s, 1)
		x.read(s, 1)
	}},
	{name: "a listener's close resets what waits", script: func(x *script) {
		l := x.listener()
		c := x.tcp()
		x.connect(c, x.name(l))
		x.get(c, SOL_SOCKET, SO_ERROR)
		x.close(l)
		x.poll(c, POLLIN|POLLOUT|POLLRDHUP)
		x.read(c, 1)
		x.read(c, 1)
	}},
	{name: "shutdown of a listener", script: func(x *script) {
		l := x.tcp()
		addr := "127.0.0.1:8027"
		x.bind(l, addr)
		x.listen(l, 1)
		x.shutdown(l, SHUT_RD)
		x.accept(l)
		c := x.tcp()
		x.connect(c, addr)
		x.get(c, SOL_SOCKET, SO_ERROR)
		x.listen(l, 1)
		d := x.tcp()
		x.connect(d, addr)
		x.accept(l)
	}},
	{name: "options of a listener", script: func(x *script) {
		a := x.tcp()
		x.get(a, SOL_SOCKET, SO_ACCEPTCONN)
		x.listen(a, 1)
		x.get(a, SOL_SOCKET, SO_ACCEPTCONN)
		x.getpeername(a)
		x.read(a, 1)
		x.write(a, "x")
		x.connect(a, "127.0.0.1:9")
		x.ioctl(a, SIOCINQ)
		x.ioctl(a, SIOCOUTQ)
	}},

	// connect
	{name: "connect without blocking", script: func(x *script) {
		l := x.listener()
		c := x.tcp()
		x.connect(c, x.name(l))
		x.poll(c, POLLOUT)
		x.get(c, SOL_SOCKET, SO_ERROR)
		x.connect(c, x.name(l))
		x.connect(c, x.name(l))
		x.getpeername(c)
	}},
	{name: "connect blocking", script: func(x *script) {
		l := x.listener()
		c := x.socketp(AF_INET, SOCK_STREAM, 0)
		x.connect(c, x.name(l))
		x.connect(c, x.name(l))
		x.getpeername(c)
	}},
	{name: "connect refused", script: func(x *script) {
		a := x.tcp()
		x.connect(a, "127.0.0.1:9")
		x.poll(a, POLLIN|POLLOUT)
		x.get(a, SOL_SOCKET, SO_ERROR)
		x.get(a, SOL_SOCKET, SO_ERROR)
		x.getpeername(a)
	}},
	{name: "connect refused, blocking", script: func(x *script) {
		a := x.socketp(AF_INET, SOCK_STREAM, 0)
		x.connect(a, "127.0.0.1:9")
		x.get(a, SOL_SOCKET, SO_ERROR)
		x.read(a, 1)
		x.write(a, "x")
	}},
	{name: "connect again after a refusal", known: "a netstack endpoint whose handshake failed cannot be used again; Linux's goes back to CLOSE", script: func(x *script) {
		l := x.listener()
		a := x.socketp(AF_INET, SOCK_STREAM, 0)
		x.connect(a, "127.0.0.1:9")
		x.connect(a, x.name(l))
		x.write(a, "x")
	}},
	{name: "connect refused, reported by read", script: func(x *script) {
		a := x.tcp()
		x.connect(a, "127.0.0.1:9")
		x.read(a, 1)
		x.read(a, 1)
	}},
	{name: "connect refused, reported by write", script: func(x *script) {
		a := x.tcp()
		x.connect(a, "127.0.0.1:9")
		x.write(a, "x")
		x.write(a, "x")
	}},
	{name: "connect without a route", script: func(x *script) {
		x.connect(x.tcp(), "203.0.113.1:80")
		x.connect(x.udp(), "203.0.113.1:80")
		x.connect(x.socket(AF_INET6, SOCK_STREAM), "[2001:db8::1]:80")
		x.sendto(x.udp(), "x", 0, "203.0.113.1:80")
	}},
	{name: "connect to any address is to this host", script: func(x *script) {
		l := x.listener()
		c := x.tcp()
		x.connect(c, netip.AddrPortFrom(netip.IPv4Unspecified(), x.name(l).Port()))
		x.getpeername(c)
		x.getsockname(c)
	}},
	{name: "connect to many", script: func(x *script) {
		x.connect(x.tcp(), "255.255.255.255:80")
		x.connect(x.tcp(), "127.255.255.255:80")
		x.connect(x.udp(), "255.255.255.255:80")
		x.connect(x.udp(), "127.255.255.255:80")
	}},
	{name: "connect to another family", script: func(x *script) {
		x.connect(x.tcp(), "[::1]:80")
		x.connect(x.udp(), "[::1]:80")
	}},
	{name: "connect an IPv6 socket with sockaddr_in", script: func(x *script) {
		x.connect(x.socket(AF_INET6, SOCK_STREAM), "127.0.0.1:80")
	}},
	{name: "connect a TCP connection to nobody", known: "a netstack endpoint cannot be used for a second connection", script: func(x *script) {
		c, _, _ := x.pair()
		x.connect(c, "")
	}},
	{name: "connect an unconnected socket to nobody", script: func(x *script) {
		x.connect(x.tcp(), "")
		x.connect(x.udp(), "")
	}},
	{name: "connect from a bound address", script: func(x *script) {
		l := x.listener()
		c := x.tcp()
		x.bind(c, "127.0.0.7:8020")
		x.connect(c, x.name(l))
		x.getsockname(c)
		s := x.accept(l)
		x.getpeername(s)
	}},
	{name: "connect twice from one address", script: func(x *script) {
		l := x.listener()
		for range 2 {
			c := x.tcp()
			x.set(c, SOL_SOCKET, SO_REUSEADDR, 1)
			x.bind(c, "127.0.0.7:8021")
			x.connect(c, x.name(l))
		}
	}},
	{name: "connect to oneself", script: func(x *script) {
		a := x.tcp()
		x.bind(a, "127.0.0.1:8022")
		x.connect(a, "127.0.0.1:8022")
		x.getpeername(a)
		x.write(a, "meow")
		x.read(a, 9)
	}},

	// data
	{name: "read and write", script: func(x *script) {
		c, s, _ := x.pair()
		x.read(s, 9)
		x.write(c, "hello")
		x.ioctl(s, SIOCINQ)
		x.read(s, 2)
		x.read(s, 9)
		x.read(s, 0)
		x.write(c, "")
	}},
	{name: "end of stream", script: func(x *script) {
		c, s, _ := x.pair()
		x.write(c, "bye")
		x.close(c)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.read(s, 9)
		x.read(s, 9)
		x.read(s, 9)
	}},
	{name: "write after the peer has closed", script: func(x *script) {
		c, s, _ := x.pair()
		x.close(c)
		x.write(s, "one")
		x.write(s, "two")
		x.poll(s, POLLIN|POLLOUT)
		x.read(s, 9)
		x.get(s, SOL_SOCKET, SO_ERROR)
	}},
	{name: "reset", script: func(x *script) {
		c, s, _ := x.pair()
		x.set(c, SOL_SOCKET, SO_LINGER, Linger{1, 0})
		x.close(c)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.read(s, 9)
		x.read(s, 9)
		x.write(s, "x")
		x.getpeername(s)
	}},
	{name: "reset reported by write", script: func(x *script) {
		c, s, _ := x.pair()
		x.set(c, SOL_SOCKET, SO_LINGER, Linger{1, 0})
		x.close(c)
		x.write(s, "x")
		x.write(s, "x")
	}},
	{name: "reset reported by SO_ERROR", script: func(x *script) {
		c, s, _ := x.pair()
		x.set(c, SOL_SOCKET, SO_LINGER, Linger{1, 0})
		x.close(c)
		x.get(s, SOL_SOCKET, SO_ERROR)
		x.get(s, SOL_SOCKET, SO_ERROR)
		x.read(s, 1)
		x.write(s, "x")
	}},
	{name: "close with unread data resets", script: func(x *script) {
		c, s, _ := x.pair()
		x.write(s, "unread")
		x.close(c)
		x.read(s, 9)
		x.write(s, "x")
	}},
	{name: "MSG_PEEK", script: func(x *script) {
		c, s, _ := x.pair()
		x.write(c, "hello")
		x.recvfrom(s, 2, MSG_PEEK)
		x.recvfrom(s, 9, MSG_PEEK)
		x.recvfrom(s, 9, 0)
		x.recvfrom(s, 9, MSG_PEEK)
	}},
	{name: "MSG_DONTWAIT on a blocking socket", script: func(x *script) {
		l := x.listener()
		x.connect(x.tcp(), x.name(l))
		s := x.accept4(l, 0)
		x.recvfrom(s, 9, MSG_DONTWAIT)
		u := x.socketp(AF_INET, SOCK_DGRAM, 0)
		x.bind(u, "127.0.0.1:0")
		x.recvfrom(u, 9, MSG_DONTWAIT)
	}},
	{name: "MSG_WAITALL and MSG_TRUNC on a stream", script: func(x *script) {
		c, s, _ := x.pair()
		x.write(c, "hello")
		x.recvfrom(s, 3, MSG_WAITALL)
		x.write(c, "!")
		x.recvfrom(s, 3, MSG_WAITALL)
		x.write(c, "hello")
		x.recvfrom(s, 3, MSG_TRUNC)
		x.recvfrom(s, 9, 0)
	}},
	{name: "sendmsg and recvmsg on a stream", script: func(x *script) {
		c, s, _ := x.pair()
		x.sendmsg(c, "", "hel", "lo ", "cat")
		x.recvmsg(s, 0, 4, 4)
		x.recvmsg(s, 0, 4, 4)
		x.recvmsg(s, 0, 4, 4)
	}},
	{name: "data on an unconnected stream", script: func(x *script) {
		a := x.tcp()
		x.read(a, 1)
		x.write(a, "x")
		x.send(a, "x", 0)
		x.sendto(a, "x", 0, "127.0.0.1:9")
		x.recvfrom(a, 1, 0)
	}},
	{name: "sendto on a connected stream ignores the address", script: func(x *script) {
		c, s, _ := x.pair()
		x.sendto(c, "x", 0, "127.0.0.1:9")
		x.read(s, 9)
	}},
	{name: "a full send buffer", script: func(x *script) {
		c, _, _ := x.pair()
		big := strings.Repeat("x", 64<<10)
		for full := 0; full < 3; {
			if _, err := x.Write(c, []byte(big)); err != nil {
				full++
				x.settle()
			}
		}
		x.write(c, "x")
		x.poll(c, POLLIN|POLLOUT)
	}},

	// shutdown
	{name: "shutdown of the sending side", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(c, SHUT_WR)
		x.write(c, "x")
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.read(s, 9)
		x.write(s, "still here")
		x.read(c, 99)
		x.shutdown(c, SHUT_WR)
	}},
	{name: "shutdown of the receiving side", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(s, SHUT_RD)
		x.read(s, 9)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.write(s, "y")
		x.read(c, 9)
	}},
	{name: "data after shutdown of the receiving side", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(s, SHUT_RD)
		x.write(c, "x")
		x.read(s, 9)
	}},
	{name: "shutdown of both sides", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(c, SHUT_RDWR)
		x.poll(c, POLLIN|POLLOUT|POLLRDHUP)
		x.read(c, 9)
		x.write(c, "x")
		x.read(s, 9)
		x.shutdown(s, SHUT_RDWR)
		x.poll(c, POLLIN|POLLOUT|POLLRDHUP)
	}},
	{name: "shutdown of what is not connected", script: func(x *script) {
		x.shutdown(x.tcp(), SHUT_RDWR)
		x.shutdown(x.udp(), SHUT_RDWR)
		a := x.tcp()
		x.bind(a, "127.0.0.1:0")
		x.shutdown(a, SHUT_WR)
	}},
	{name: "shutdown with a wrong argument", script: func(x *script) {
		c, _, _ := x.pair()
		x.shutdown(c, 3)
		x.shutdown(c, -1)
	}},
	{name: "shutdown after both have closed", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(c, SHUT_WR)
		x.shutdown(s, SHUT_WR)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.shutdown(s, SHUT_RDWR)
		x.getpeername(s)
	}},

	// UDP
	{name: "datagrams", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.recvfrom(a, 9, 0)
		x.sendto(b, "meow", 0, x.name(a))
		x.poll(a, POLLIN|POLLOUT)
		x.ioctl(a, SIOCINQ)
		x.recvfrom(a, 9, 0)
		x.getsockname(b)
		x.recvfrom(a, 9, 0)
	}},
	{name: "a datagram cut short", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		for range 4 {
			x.sendto(b, "meow", 0, x.name(a))
		}
		x.recvfrom(a, 2, 0)
		x.recvfrom(a, 2, MSG_TRUNC)
		x.recvmsg(a, 0, 1, 1)
		x.recvmsg(a, MSG_TRUNC, 2)
		x.recvfrom(a, 2, 0)
	}},
	{name: "a datagram cut short by read", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.sendto(b, "meow", 0, x.name(a))
		x.sendto(b, "purr", 0, x.name(a))
		x.read(a, 2)
		x.read(a, 0)
		x.read(a, 9)
	}},
	{name: "peeking at a datagram", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.sendto(b, "meow", 0, x.name(a))
		x.recvfrom(a, 2, MSG_PEEK)
		x.recvfrom(a, 9, MSG_PEEK|MSG_TRUNC)
		x.recvfrom(a, 9, 0)
	}},
	{name: "empty datagrams", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.sendto(b, "", 0, x.name(a))
		x.sendto(b, "x", 0, x.name(a))
		x.read(a, 9)
		x.read(a, 9)
	}},
	{name: "reading a datagram into nothing", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.sendto(b, "meow", 0, x.name(a))
		x.recvfrom(a, 0, 0)
		x.recvfrom(a, 9, 0)
	}},
	{name: "datagrams on a connected socket", script: func(x *script) {
		a, b, c := x.udp(), x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.bind(b, "127.0.0.1:0")
		x.connect(b, x.name(a))
		x.getpeername(b)
		x.write(b, "meow")
		x.recvfrom(a, 9, 0)
		x.sendto(c, "not from the peer", 0, x.name(b))
		x.recvfrom(b, 9, 0)
		x.sendto(b, "elsewhere", 0, netip.AddrPortFrom(x.name(a).Addr(), x.name(c).Port()))
		x.recvfrom(c, 9, 0)
	}},
	{name: "connect UDP again, and not at all", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.connect(b, x.name(a))
		x.connect(b, "127.0.0.1:8023")
		x.getpeername(b)
		x.connect(b, "")
		x.getpeername(b)
		x.getsockname(b)
		x.write(b, "x")
		x.sendto(b, "x", 0, x.name(a))
		x.recvfrom(a, 9, 0)
	}},
	{name: "a bound UDP socket keeps its port when dissolved", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:8028")
		x.connect(a, "127.0.0.1:8024")
		x.connect(a, "")
		x.getsockname(a)
		x.sendto(b, "meow", 0, x.name(a))
		x.recvfrom(a, 9, 0)
	}},
	{name: "datagrams to nobody", script: func(x *script) {
		a := x.udp()
		x.write(a, "x")
		x.send(a, "x", 0)
		x.sendmsg(a, "", "x")
	}},
	{name: "datagrams to port 0", script: func(x *script) {
		x.sendto(x.udp(), "x", 0, "127.0.0.1:0")
	}},
	{name: "datagrams that are too long", script: func(x *script) {
		a := x.udp()
		x.bind(a, "127.0.0.1:0")
		b := x.udp()
		x.sendto(b, strings.Repeat("x", 65508), 0, x.name(a))
		x.sendto(b, strings.Repeat("x", 65507), 0, x.name(a))
		x.recvfrom(a, 1, MSG_TRUNC)
	}},
	{name: "datagrams to a closed port", script: func(x *script) {
		a := x.udp()
		x.connect(a, "127.0.0.1:9")
		x.write(a, "x")
		x.poll(a, POLLIN|POLLOUT)
		x.get(a, SOL_SOCKET, SO_ERROR)
		x.write(a, "x")
		x.write(a, "x")
		x.write(a, "x")
		x.recvfrom(a, 9, 0)
		x.recvfrom(a, 9, 0)
	}},
	{name: "datagrams to a closed port, not connected", script: func(x *script) {
		a := x.udp()
		x.sendto(a, "x", 0, "127.0.0.1:9")
		x.get(a, SOL_SOCKET, SO_ERROR)
		x.recvfrom(a, 9, 0)
	}},
	{name: "datagrams to a broadcast address", script: func(x *script) {
		a := x.udp()
		x.sendto(a, "x", 0, "127.255.255.255:8025")
		x.set(a, SOL_SOCKET, SO_BROADCAST, 1)
		x.get(a, SOL_SOCKET, SO_BROADCAST)
		x.sendto(a, "x", 0, "127.255.255.255:8025")
	}},
	{name: "datagrams after shutdown", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.connect(b, x.name(a))
		x.shutdown(b, SHUT_WR)
		x.write(b, "x")
		x.shutdown(b, SHUT_RD)
		x.recvfrom(b, 9, 0)
	}},
	{name: "datagrams by an IPv6 socket", script: func(x *script) {
		a, b := x.socket(AF_INET6, SOCK_DGRAM), x.udp()
		x.bind(a, "[::]:8026")
		x.sendto(b, "meow", 0, "127.0.0.1:8026")
		x.recvfrom(a, 9, 0)
		c := x.socket(AF_INET6, SOCK_DGRAM)
		x.sendto(c, "purr", 0, "[::1]:8026")
		x.recvfrom(a, 9, 0)
		x.sendto(c, "hiss", 0, "[::ffff:127.0.0.1]:8026")
		x.recvfrom(a, 9, 0)
	}},
	{name: "sendmsg and recvmsg of datagrams", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "127.0.0.1:0")
		x.sendmsg(b, x.name(a), "me", "ow")
		x.recvmsg(a, 0, 3, 3)
	}},

	// poll
	{name: "poll of fresh sockets", script: func(x *script) {
		x.poll(x.tcp(), POLLIN|POLLOUT)
		x.poll(x.udp(), POLLIN|POLLOUT)
		a := x.tcp()
		x.bind(a, "127.0.0.1:0")
		x.poll(a, POLLIN|POLLOUT|POLLRDHUP)
	}},
	{name: "poll of a listener and a connection", script: func(x *script) {
		l := x.listener()
		x.poll(l, POLLIN|POLLOUT)
		c := x.tcp()
		x.connect(c, x.name(l))
		x.poll(l, POLLIN|POLLOUT)
		s := x.accept(l)
		x.poll(l, POLLIN)
		x.poll(s, POLLIN|POLLOUT)
		x.write(c, "x")
		x.poll(s, POLLIN|POLLOUT)
		x.poll(s, 0)
	}},
	{name: "poll while the peer closes", script: func(x *script) {
		c, s, _ := x.pair()
		x.shutdown(c, SHUT_WR)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.poll(s, POLLOUT)
		x.poll(c, POLLIN|POLLOUT|POLLRDHUP)
		x.shutdown(s, SHUT_WR)
		x.poll(s, POLLIN|POLLOUT|POLLRDHUP)
		x.poll(c, POLLIN|POLLOUT|POLLRDHUP)
	}},

	// epoll
	{name: "epoll, level-triggered", script: func(x *script) {
		c, s, _ := x.pair()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_ADD, s, POLLIN)
		x.epollwait(e)
		x.write(c, "x")
		x.epollwait(e)
		x.epollwait(e)
		x.read(s, 9)
		x.epollwait(e)
		x.epollctl(e, EPOLL_CTL_MOD, s, POLLOUT)
		x.epollwait(e)
		x.epollctl(e, EPOLL_CTL_DEL, s, 0)
		x.epollwait(e)
	}},
	{name: "epoll, edge-triggered", script: func(x *script) {
		c, s, _ := x.pair()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_ADD, s, POLLIN|POLLOUT|POLLRDHUP|EPOLLET)
		x.epollwait(e)
		x.epollwait(e)
		x.write(c, "x")
		x.epollwait(e)
		x.epollwait(e)
		x.write(c, "y")
		x.epollwait(e)
		x.epollwait(e)
		x.close(c)
		x.epollwait(e)
	}},
	{name: "epoll, one shot", script: func(x *script) {
		c, s, _ := x.pair()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_ADD, s, POLLIN|EPOLLONESHOT)
		x.write(c, "x")
		x.epollwait(e)
		x.write(c, "y")
		x.epollwait(e)
		x.epollctl(e, EPOLL_CTL_MOD, s, POLLIN|EPOLLONESHOT)
		x.epollwait(e)
		x.epollwait(e)
	}},
	{name: "epoll of a listener", script: func(x *script) {
		l := x.listener()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_ADD, l, POLLIN|POLLOUT|POLLRDHUP|EPOLLET)
		x.epollwait(e)
		x.connect(x.tcp(), x.name(l))
		x.epollwait(e)
		x.epollwait(e)
		x.accept(l)
	}},
	{name: "epoll with wrong arguments", script: func(x *script) {
		a := x.udp()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_MOD, a, POLLIN)
		x.epollctl(e, EPOLL_CTL_DEL, a, 0)
		x.epollctl(e, EPOLL_CTL_ADD, a, POLLIN)
		x.epollctl(e, EPOLL_CTL_ADD, a, POLLIN)
		x.epollctl(e, 77, a, POLLIN)
		x.epollctl(e, EPOLL_CTL_ADD, e, POLLIN)
		x.epollctl(a, EPOLL_CTL_ADD, e, POLLIN)
		x.epollwait(a)
		x.epollctl(e, EPOLL_CTL_ADD, -1, POLLIN)
	}},
	{name: "epoll forgets a closed socket", script: func(x *script) {
		c, s, _ := x.pair()
		e := x.epoll()
		x.epollctl(e, EPOLL_CTL_ADD, s, POLLIN)
		x.write(c, "x")
		x.close(s)
		x.epollwait(e)
	}},
	{name: "socket calls on an epoll", script: func(x *script) {
		e := x.epoll()
		x.bind(e, "127.0.0.1:0")
		x.listen(e, 1)
		x.accept(e)
		x.connect(e, "127.0.0.1:9")
		x.send(e, "x", 0)
		x.recvfrom(e, 1, 0)
		x.shutdown(e, SHUT_RD)
		x.getsockname(e)
		x.get(e, SOL_SOCKET, SO_TYPE)
		x.read(e, 1)
		x.write(e, "x")
	}},

	// fcntl and ioctl
	{name: "fcntl", script: func(x *script) {
		a := x.tcp()
		x.fcntl(a, F_GETFL, 0)
		x.fcntl(a, F_SETFL, 0)
		x.fcntl(a, F_GETFL, 0)
		x.fcntl(a, F_SETFL, O_NONBLOCK)
		x.fcntl(a, F_GETFL, 0)
		x.fcntl(a, 77777, 0)
	}},
	{name: "ioctl", script: func(x *script) {
		c, s, _ := x.pair()
		x.ioctl(c, SIOCINQ)
		x.ioctl(c, SIOCOUTQ)
		x.write(c, "meow")
		x.ioctl(c, SIOCOUTQ)
		x.ioctl(s, SIOCINQ)
		x.ioctl(s, 0x7777)
	}},

	// options
	{name: "options of sockets, fresh", script: func(x *script) {
		for _, fd := range []int{x.tcp(), x.udp(), x.socket(AF_INET6, SOCK_STREAM)} {
			for _, name := range []int{SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ERROR, SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_BROADCAST, SO_LINGER, SO_ACCEPTCONN, SO_BINDTODEVICE} {
				x.get(fd, SOL_SOCKET, name)
			}
			x.get(fd, SOL_IP, IP_TTL)
			x.get(fd, SOL_IP, IP_TOS)
			x.get(fd, SOL_IPV6, IPV6_UNICAST_HOPS)
			x.get(fd, SOL_IPV6, IPV6_TCLASS)
		}
	}},
	{name: "options of TCP, fresh", script: func(x *script) {
		a := x.tcp()
		for _, name := range []int{TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT, TCP_QUICKACK, TCP_USER_TIMEOUT, TCP_MAXSEG} {
			x.get(a, SOL_TCP, name)
		}
	}},
	{name: "boolean options", script: func(x *script) {
		a := x.tcp()
		for _, o := range [][2]int{{SOL_SOCKET, SO_REUSEADDR}, {SOL_SOCKET, SO_REUSEPORT}, {SOL_SOCKET, SO_KEEPALIVE}, {SOL_TCP, TCP_NODELAY}, {SOL_TCP, TCP_CORK}, {SOL_IP, IP_FREEBIND}} {
			for _, v := range []int{1, 0, 7, -1} {
				x.set(a, o[0], o[1], v)
				x.get(a, o[0], o[1])
			}
		}
	}},
	{name: "keepalive options", script: func(x *script) {
		a := x.tcp()
		for _, name := range []int{TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT} {
			for _, v := range []int{1, 15, 127, 128, 32767, 32768, 0, -1} {
				x.set(a, SOL_TCP, name, v)
				x.get(a, SOL_TCP, name)
			}
		}
	}},
	{name: "TCP_USER_TIMEOUT", script: func(x *script) {
		a := x.tcp()
		for _, v := range []int{5000, 0, -1} {
			x.set(a, SOL_TCP, TCP_USER_TIMEOUT, v)
			x.get(a, SOL_TCP, TCP_USER_TIMEOUT)
		}
	}},
	{name: "TCP_MAXSEG", script: func(x *script) {
		a := x.tcp()
		for _, v := range []int{1000, 87, 32768, -1} {
			x.set(a, SOL_TCP, TCP_MAXSEG, v)
		}
	}},
	{name: "TCP_WINDOW_CLAMP, fresh", known: "netstack's clamp is its receive buffer until one is set", script: func(x *script) {
		x.get(x.tcp(), SOL_TCP, TCP_WINDOW_CLAMP)
	}},
	{name: "TCP_MAXSEG 0", known: "netstack cannot forget a TCP_MAXSEG", script: func(x *script) {
		x.set(x.tcp(), SOL_TCP, TCP_MAXSEG, 0)
	}},
	{name: "TCP_CONGESTION", script: func(x *script) {
		a := x.tcp()
		x.set(a, SOL_TCP, TCP_CONGESTION, "reno")
		x.get(a, SOL_TCP, TCP_CONGESTION)
		x.set(a, SOL_TCP, TCP_CONGESTION, "catnip")
		x.set(a, SOL_TCP, TCP_CONGESTION, "")
		x.get(a, SOL_TCP, TCP_CONGESTION)
	}},
	{name: "TCP_SYNCNT, TCP_LINGER2, TCP_DEFER_ACCEPT", script: func(x *script) {
		a := x.tcp()
		for _, name := range []int{TCP_SYNCNT, TCP_LINGER2} {
			for _, v := range []int{1, 20, 127, 128, 0, -1} {
				x.set(a, SOL_TCP, name, v)
				x.get(a, SOL_TCP, name)
			}
		}
		x.set(a, SOL_TCP, TCP_DEFER_ACCEPT, 0)
		x.get(a, SOL_TCP, TCP_DEFER_ACCEPT)
	}},
	{name: "SO_LINGER", script: func(x *script) {
		a := x.tcp()
		x.set(a, SOL_SOCKET, SO_LINGER, Linger{1, 3})
		x.get(a, SOL_SOCKET, SO_LINGER)
		x.set(a, SOL_SOCKET, SO_LINGER, Linger{0, 9})
		x.get(a, SOL_SOCKET, SO_LINGER)
	}},
	{name: "SO_RCVBUF and SO_SNDBUF", script: func(x *script) {
		a := x.tcp()
		for _, name := range []int{SO_RCVBUF, SO_SNDBUF} {
			for _, v := range []int{10000, 65536, 100000} {
				x.set(a, SOL_SOCKET, name, v)
				x.get(a, SOL_SOCKET, name)
			}
		}
	}},
	{name: "IP_TTL and IP_TOS", script: func(x *script) {
		for _, a := range []int{x.tcp(), x.udp()} {
			for _, v := range []int{1, 64, 255, 256, 0, -1, -2} {
				x.set(a, SOL_IP, IP_TTL, v)
				x.get(a, SOL_IP, IP_TTL)
			}
			for _, v := range []int{0, 16, 252, 3, 256} {
				x.set(a, SOL_IP, IP_TOS, v)
				x.get(a, SOL_IP, IP_TOS)
			}
		}
	}},
	{name: "IPV6_UNICAST_HOPS and IPV6_TCLASS", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_DGRAM)
		for _, v := range []int{1, 255, 256, 0, -1, -2} {
			x.set(a, SOL_IPV6, IPV6_UNICAST_HOPS, v)
			x.get(a, SOL_IPV6, IPV6_UNICAST_HOPS)
		}
		for _, v := range []int{0, 16, 252, 255, 256, -1, -2} {
			x.set(a, SOL_IPV6, IPV6_TCLASS, v)
			x.get(a, SOL_IPV6, IPV6_TCLASS)
		}
	}},
	{name: "IP_MTU_DISCOVER", script: func(x *script) {
		a := x.udp()
		for _, v := range []int{0, 1, 2, 3, 6, -1} {
			x.set(a, SOL_IP, IP_MTU_DISCOVER, v)
			x.get(a, SOL_IP, IP_MTU_DISCOVER)
		}
	}},
	{name: "IPV6_MTU_DISCOVER and IPV6_RECVPKTINFO", script: func(x *script) {
		a := x.socket(AF_INET6, SOCK_DGRAM)
		for _, v := range []int{0, 1, 2, 3, 6, -1} {
			x.set(a, SOL_IPV6, IPV6_MTU_DISCOVER, v)
			x.get(a, SOL_IPV6, IPV6_MTU_DISCOVER)
		}
		for _, v := range []int{1, 0, 7} {
			x.set(a, SOL_IPV6, IPV6_RECVPKTINFO, v)
			x.get(a, SOL_IPV6, IPV6_RECVPKTINFO)
			x.set(a, SOL_IP, IP_PKTINFO, v)
			x.get(a, SOL_IP, IP_PKTINFO)
		}
	}},
	{name: "packet information", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(a, "0.0.0.0:0")
		x.bind(b, "127.0.0.1:0")
		to := netip.AddrPortFrom(netip.MustParseAddr("127.1.2.3"), x.name(a).Port())
		x.sendto(b, "unasked", 0, to)
		x.recvcontrol(a, ControlSpace)
		x.set(a, SOL_IP, IP_PKTINFO, 1)
		for _, room := range []int{ControlSpace, 32, 0} {
			x.sendto(b, "asked", 0, to)
			x.recvcontrol(a, room)
		}
		x.set(a, SOL_IP, IP_PKTINFO, 0)
		x.sendto(b, "unasked", 0, to)
		x.recvcontrol(a, ControlSpace)
	}},
	{name: "packet information of an IPv6 socket", script: func(x *script) {
		a, b, c := x.socket(AF_INET6, SOCK_DGRAM), x.udp(), x.socket(AF_INET6, SOCK_DGRAM)
		x.bind(a, "[::]:0")
		for _, options := range [][2]int{{1, 0}, {0, 1}, {1, 1}} {
			x.set(a, SOL_IPV6, IPV6_RECVPKTINFO, options[0])
			x.set(a, SOL_IP, IP_PKTINFO, options[1])
			x.sendto(b, "four", 0, netip.AddrPortFrom(netip.MustParseAddr("127.1.2.3"), x.name(a).Port()))
			x.recvcontrol(a, ControlSpace)
			x.sendto(c, "six", 0, netip.AddrPortFrom(netip.IPv6Loopback(), x.name(a).Port()))
			x.recvcontrol(a, ControlSpace)
		}
	}},
	{name: "a datagram from another address", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(b, "127.0.0.1:0")
		from := func(s string, link int) packetInfo {
			return packetInfo{level: SOL_IP, link: link, local: netip.MustParseAddr(s), dst: netip.MustParseAddr("0.0.0.0")}
		}
		for _, p := range []packetInfo{from("127.7.7.7", 0), from("127.7.7.7", 1), from("0.0.0.0", 1), from("0.0.0.0", 0), from("192.0.2.7", 0)} {
			x.sendfrom(a, x.name(b), p)
			x.recvfrom(b, 8, 0)
		}
		x.sendfrom(a, x.name(b), from("127.7.7.7", 0), from("127.8.8.8", 0))
		x.recvfrom(b, 8, 0)
		x.connect(a, x.name(b))
		x.sendfrom(a, "", from("127.7.7.7", 0))
		x.recvfrom(b, 8, 0)
		x.shutdown(a, SHUT_WR)
		x.sendfrom(a, "", from("127.7.7.7", 0))
	}},
	{name: "a datagram from another address, by an IPv6 socket", script: func(x *script) {
		a, b, c := x.socket(AF_INET6, SOCK_DGRAM), x.udp(), x.socket(AF_INET6, SOCK_DGRAM)
		x.bind(b, "127.0.0.1:0")
		x.bind(c, "[::1]:0")
		four := packetInfo{level: SOL_IPV6, dst: netip.MustParseAddr("::ffff:127.7.7.7")}
		x.sendfrom(a, netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), x.name(b).Port()), four)
		x.recvfrom(b, 8, 0)
		six := packetInfo{level: SOL_IPV6, dst: netip.IPv6Loopback()}
		x.sendfrom(a, x.name(c), six)
		x.recvfrom(c, 8, 0)
		six.dst = netip.MustParseAddr("2001:db8::7")
		x.sendfrom(a, x.name(c), six)
	}},
	{name: "wrong control messages", script: func(x *script) {
		a, b := x.udp(), x.udp()
		x.bind(b, "127.0.0.1:0")
		for _, c := range []packetInfo{{level: SOL_SOCKET, dst: netip.IPv6Unspecified()}, {level: SOL_TCP, dst: netip.IPv6Unspecified()}} {
			x.sendfrom(a, x.name(b), c)
			x.recvfrom(b, 8, 0)
		}
		p := packetInfo{level: SOL_IP, local: netip.MustParseAddr("127.0.0.1"), dst: netip.MustParseAddr("0.0.0.0")}
		good := p.control(nil)
		for _, change := range []func([]byte) []byte{
			func(b []byte) []byte { b[0] = 8; return b },
			func(b []byte) []byte { b[0] = 200; return b },
			func(b []byte) []byte { b[0] = 20; return b },
			func(b []byte) []byte { b[12] = 99; return b },
			func(b []byte) []byte { return b[:10] },
			func(b []byte) []byte { return b[:28] },
		} {
			n, err := x.Sendmsg(a, &Msg{Name: x.name(b), Buffers: [][]byte{[]byte("mew")}, Control: change(slices.Clone(good))}, MSG_NOSIGNAL)
			x.note("sendmsg with a wrong control message", err, n)
			x.recvfrom(b, 8, 0)
		}
	}},
	{name: "nothing written", script: func(x *script) {
		x.write(x.udp(), "")
		a := x.tcp()
		x.write(a, "")
		x.listen(a, 1)
		x.write(a, "")
		c, s, _ := x.pair()
		x.write(c, "")
		x.send(c, "", 0)
		for range 2000 { // the buffers of both ends
			if n, err := x.Write(c, make([]byte, 64<<10)); n <= 0 || err != nil {
				break
			}
		}
		x.write(c, "")
		x.close(s)
		x.write(c, "")
		x.write(c, "")
		d, _, _ := x.pair()
		x.shutdown(d, SHUT_WR)
		x.write(d, "")
		x.send(d, "", 0)
	}},
	{name: "a datagram that may not be cut", script: func(x *script) {
		for _, v := range []int{IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE} {
			a, b := x.udp(), x.udp()
			x.set(a, SOL_IP, IP_MTU_DISCOVER, v)
			x.bind(b, "127.0.0.1:0")
			for _, size := range []int{65000, 65507, 65508} {
				x.sendto(a, strings.Repeat("m", size), 0, x.name(b))
				x.recvfrom(b, 1, 0)
			}
			x.connect(a, x.name(b))
			x.send(a, strings.Repeat("m", 65508), 0)
		}
	}},
	{name: "IP_MTU_DISCOVER, fresh", script: func(x *script) {
		a := x.tcp()
		x.get(x.udp(), SOL_IP, IP_MTU_DISCOVER)
		x.get(a, SOL_IP, IP_MTU_DISCOVER)
		c, s, _ := x.pair()
		x.get(c, SOL_IP, IP_MTU_DISCOVER)
		x.get(s, SOL_IP, IP_MTU_DISCOVER)
	}},
	{name: "SO_BINDTODEVICE", script: func(x *script) {
		a := x.udp()
		x.set(a, SOL_SOCKET, SO_BINDTODEVICE, "lo")
		x.set(a, SOL_SOCKET, SO_BINDTODEVICE, "nocat0")
		x.set(a, SOL_SOCKET, SO_BINDTODEVICE, "")
	}},
	{name: "options that there are not", script: func(x *script) {
		a := x.tcp()
		x.set(a, SOL_SOCKET, 7777, 1)
		x.get(a, SOL_SOCKET, 7777)
		x.set(a, SOL_IP, 7777, 1)
		x.get(a, SOL_IP, 7777)
		x.set(a, SOL_TCP, 7777, 1)
		x.get(a, SOL_TCP, 7777)
		x.set(a, 7777, 1, 1)
		x.get(a, 7777, 1)
	}},
	{name: "options that cannot be set", script: func(x *script) {
		a := x.tcp()
		for _, name := range []int{SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_DOMAIN, SO_PROTOCOL} {
			x.set(a, SOL_SOCKET, name, 1)
		}
	}},
	{name: "TCP options on UDP", script: func(x *script) {
		a := x.udp()
		x.set(a, SOL_TCP, TCP_NODELAY, 1)
		x.get(a, SOL_TCP, TCP_NODELAY)
		x.set(a, SOL_TCP, TCP_CONGESTION, "reno")
	}},
	{name: "names of unbound and bound sockets", script: func(x *script) {
		for _, a := range []int{x.tcp(), x.udp(), x.socket(AF_INET6, SOCK_STREAM), x.socket(AF_INET6, SOCK_DGRAM)} {
			x.getsockname(a)
			x.getpeername(a)
		}
	}},
}
