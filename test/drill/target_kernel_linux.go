package drill

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/tun"
)

// kernelTarget is Linux's own TCP/IP: real sockets in a network namespace of their own, whose only way out is a TUN
// device that the script holds.
type kernelTarget struct {
	thread chan func() // runs in the namespace; closed to end it
	done   chan struct{}
	dev    int // the TUN device, non-blocking
	start  time.Time
	open   map[int]bool // sockets to close

	congestion string // algorithm of new sockets
	buf        []byte
}

// kernelPoll is how often calls that block are tried again.
const kernelPoll = 500 * time.Microsecond

// kernelDefaults are the settings that public scripts make before all else, so that the namespace's own do not matter.
// Those that this kernel does not have, or does not let a namespace change, are passed over.
var kernelDefaults = []sysctl{
	{"net/ipv4/tcp_rmem", fmt.Sprintf("4096 %d %d", receiveBuffer, receiveBufferMax)},
	{"net/ipv4/tcp_wmem", fmt.Sprintf("4096 %d %d", sendBuffer, sendBufferMax)},
	{"net/ipv4/tcp_timestamps", "1"},
	{"net/ipv4/tcp_syn_retries", fmt.Sprint(synRetries)},
	{"net/ipv4/tcp_synack_retries", fmt.Sprint(synRetries)},
	{"net/ipv4/tcp_sack", "1"},
	{"net/ipv4/tcp_dsack", "1"},
	{"net/ipv4/tcp_reordering", "3"},
	{"net/ipv4/tcp_congestion_control", "cubic"},
	{"net/ipv4/tcp_slow_start_after_idle", "0"},
	{"net/ipv4/tcp_early_retrans", "3"},
	{"net/ipv4/tcp_recovery", "1"},
	{"net/ipv4/tcp_ecn", "0"},
	{"net/ipv4/tcp_syncookies", "1"},
	{"net/ipv4/tcp_fastopen", "0x70403"},
	{"net/ipv4/tcp_fastopen_key", "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"},
	{"net/ipv4/icmp_ratelimit", "0"},
	{"net/ipv6/conf/all/accept_dad", "0"},
	{"net/ipv6/conf/default/accept_dad", "0"},
	{"net/ipv6/conf/default/router_solicitations", "0"},
}

// newKernelTarget makes the namespace. It needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN.
func newKernelTarget(set settings) (target, error) {
	k := &kernelTarget{thread: make(chan func()), done: make(chan struct{}), dev: -1, open: map[int]bool{}, buf: make([]byte, 1<<16)}
	if k.congestion = set.tcp.CongestionControl; k.congestion == "" {
		k.congestion = "cubic"
	}
	go func() {
		defer close(k.done)
		// Never unlocked: the thread is in another namespace and must end with its goroutine.
		runtime.LockOSThread()
		for f := range k.thread {
			f()
		}
	}()
	var err error
	k.in(func() { err = k.setUp(set) })
	if err != nil {
		k.stop()
		return nil, err
	}
	k.start = time.Now()
	return k, nil
}

// in runs f in the namespace and waits for it.
func (k *kernelTarget) in(f func()) {
	done := make(chan struct{})
	k.thread <- func() {
		defer close(done)
		f()
	}
	<-done
}

func (k *kernelTarget) setUp(set settings) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making a network namespace: %w: the target kernel needs root", err)
	}
	dev, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	k.dev = dev
	req, err := unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(dev, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("making the TUN device: %w", err)
	}
	for _, s := range kernelDefaults {
		if err := writeSysctl(s); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	for _, s := range set.sysctls {
		if err := writeSysctl(s); err != nil {
			return err
		}
	}
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if set.remote.Is6() {
		anywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := tun.ConfigureHost("lo", tun.HostConfig{Up: true}); err != nil {
		return err
	}
	err = tun.ConfigureHost(deviceName, tun.HostConfig{
		Addrs: []netip.Prefix{set.local}, MTU: set.mtu, Up: true, Routes: []netip.Prefix{anywhere},
	})
	if err != nil {
		return err
	}
	return k.awaitReady(set)
}

// readyWithin bounds how long a fresh namespace may take until packets pass; it takes some milliseconds.
const readyWithin = 5 * time.Second

// awaitReady returns when packets pass in both directions. The kernel finishes parts of bringing up an interface, and
// its IPv6 addresses most of all, after the calls that asked for it have returned.
func (k *kernelTarget) awaitReady(set settings) error {
	domain := unix.AF_INET
	if set.remote.Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	local := netip.AddrPortFrom(set.local.Addr(), 9) // the discard port
	if err := unix.Bind(fd, sockaddr(local)); err != nil && err != unix.EADDRNOTAVAIL {
		return err
	}
	out, in := false, false
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_ = unix.Bind(fd, sockaddr(local)) // EINVAL once it has worked
		_ = unix.Sendto(fd, []byte{0}, 0, sockaddr(netip.AddrPortFrom(set.remote, 9)))
		probe := ipHeader{src: set.remote, dst: local.Addr(), proto: packet.ProtoUDP}
		if err := k.inject(probe.ip(udpBytes(9, 9, []byte{0}), udpSumAt)); err != nil {
			continue
		}
		for {
			f, ok := k.sent()
			if !ok {
				break
			}
			p, err := packet.Parse(f.Data)
			out = out || err == nil && p.UDP != nil && p.Dst == set.remote
		}
		if _, _, err := unix.Recvfrom(fd, make([]byte, 1), 0); err == nil {
			in = true
		}
		if in && out {
			return nil
		}
	}
	return fmt.Errorf("no packets pass through the new interface after %s", readyWithin)
}

func writeSysctl(s sysctl) error {
	if err := os.WriteFile("/proc/sys/"+s.path, []byte(s.value), 0); err != nil {
		return fmt.Errorf("setting %s to %q: %w", s.path, s.value, err)
	}
	return nil
}

func (k *kernelTarget) stop() {
	for fd := range k.open {
		unix.Close(fd)
	}
	if k.dev >= 0 {
		unix.Close(k.dev)
	}
	close(k.thread)
	<-k.done
}

func (k *kernelTarget) elapsed() time.Duration { return time.Since(k.start) }

func (k *kernelTarget) inject(data []byte) error {
	_, err := unix.Write(k.dev, data)
	if err == unix.EINVAL {
		return nil // not even an IP packet: the kernel drops it here already
	}
	return err
}

func (k *kernelTarget) sent() (Frame, bool) {
	n, err := unix.Read(k.dev, k.buf)
	if err != nil || n <= 0 {
		return Frame{}, false
	}
	return Frame{At: k.elapsed(), Data: append([]byte(nil), k.buf[:n]...)}, true
}

func (k *kernelTarget) advance(until time.Duration, stop func() bool) bool {
	for {
		if stop() {
			return true
		}
		left := until - k.elapsed()
		if left <= 0 {
			return false
		}
		wait := unix.NsecToTimespec(min(left, kernelPoll).Nanoseconds())
		fds := []unix.PollFd{{Fd: int32(k.dev), Events: unix.POLLIN}}
		_, _ = unix.Ppoll(fds, &wait, nil) // an interrupted wait ends early, which does no harm
	}
}

func (k *kernelTarget) socket(domain, typ, protocol int) (fd int, err error) {
	k.in(func() { fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol) })
	if err != nil {
		return -1, err
	}
	k.open[fd] = true
	if typ&0xf == unix.SOCK_STREAM {
		// The default belongs to the machine, not to the namespace: BBR would pace what scripts expect at once.
		// A kernel without the algorithm keeps its own.
		_ = unix.SetsockoptString(fd, unix.SOL_TCP, unix.TCP_CONGESTION, k.congestion)
	}
	return fd, nil
}

// sockaddr converts an address for a socket: an IPv4-mapped one is of AF_INET6.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	switch {
	case !a.IsValid():
		return nil
	case a.Addr().Is4():
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func (k *kernelTarget) bind(fd int, addr netip.AddrPort) error { return unix.Bind(fd, sockaddr(addr)) }

func (k *kernelTarget) listen(fd, backlog int) error { return unix.Listen(fd, backlog) }

func (k *kernelTarget) accept(fd int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	k.open[n] = true
	return n, addrPort(sa), nil
}

func (k *kernelTarget) connect(fd int, addr netip.AddrPort) error {
	return unix.Connect(fd, sockaddr(addr))
}

func (k *kernelTarget) send(fd int, b []byte, flags int, to netip.AddrPort) (int, error) {
	return unix.SendmsgN(fd, b, nil, sockaddr(to), flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func (k *kernelTarget) recv(fd int, b []byte, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Recvfrom(fd, b, flags|unix.MSG_DONTWAIT)
	return n, addrPort(sa), err
}

func (k *kernelTarget) shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

func (k *kernelTarget) close(fd int) error {
	delete(k.open, fd)
	return unix.Close(fd)
}

func (k *kernelTarget) getsockname(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	return addrPort(sa), err
}

func (k *kernelTarget) setsockopt(fd, level, name int, value any) error {
	switch v := value.(type) {
	case string:
		return unix.SetsockoptString(fd, level, name, v)
	case linger:
		return unix.SetsockoptLinger(fd, level, name, &unix.Linger{Onoff: int32(v.onOff), Linger: int32(v.seconds)})
	case int:
		return unix.SetsockoptInt(fd, level, name, v)
	}
	return syscall.EINVAL
}

func (k *kernelTarget) getsockopt(fd, level, name int, like any) (any, error) {
	switch like.(type) {
	case string:
		s, err := unix.GetsockoptString(fd, level, name)
		return strings.TrimRight(s, "\x00"), err
	case linger:
		l, err := getsockoptLinger(fd, level, name)
		return l, err
	}
	return unix.GetsockoptInt(fd, level, name)
}

// getsockoptLinger reads SO_LINGER. It is eight bytes, as IPv6Mreq's first members are, and x/sys has no reader for it;
// a 64-bit integer holds both.
func getsockoptLinger(fd, level, name int) (linger, error) {
	v, err := unix.GetsockoptUint64(fd, level, name)
	return linger{int(int32(v)), int(int32(v >> 32))}, err
}

func (k *kernelTarget) ioctl(fd, request int) (int, error) {
	return unix.IoctlGetInt(fd, uint(request))
}

func (k *kernelTarget) poll(fd, events int) (int, error) {
	p := []unix.PollFd{{Fd: int32(fd), Events: int16(events)}}
	_, err := unix.Poll(p, 0)
	return int(p[0].Revents), err
}

func (k *kernelTarget) epollCreate() (int, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		k.open[fd] = true
	}
	return fd, err
}

func (k *kernelTarget) epollCtl(epfd, op, fd int, events uint32, data uint64) error {
	return unix.EpollCtl(epfd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(data), Pad: int32(data >> 32)})
}

func (k *kernelTarget) epollWait(epfd, limit int) ([]epollEvent, error) {
	evs := make([]unix.EpollEvent, limit)
	n, err := unix.EpollWait(epfd, evs, 0)
	if err != nil {
		return nil, err
	}
	out := make([]epollEvent, n)
	for i, e := range evs[:n] {
		out[i] = epollEvent{e.Events, uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32}
	}
	return out, nil
}

// tcpInfo names the members of struct tcp_info as Linux does: x/sys's Snd_cwnd is tcpi_snd_cwnd.
func (k *kernelTarget) tcpInfo(fd int) (map[string]int64, error) {
	i, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, err
	}
	info := map[string]int64{}
	v := reflect.ValueOf(i).Elem()
	for n := range v.NumField() {
		name := "tcpi_" + strings.ToLower(v.Type().Field(n).Name)
		if f := v.Field(n); f.CanUint() {
			info[name] = int64(f.Uint())
		} else if f.CanInt() {
			info[name] = f.Int()
		}
	}
	return info, nil
}

func (k *kernelTarget) describe(fd int) string {
	local, err := k.getsockname(fd)
	if err != nil {
		return err.Error()
	}
	info, err := k.tcpInfo(fd)
	if err != nil {
		return "local " + local.String()
	}
	state := fmt.Sprint(info["tcpi_state"])
	for name, n := range stateNumbers {
		if n == info["tcpi_state"] {
			state = name
		}
	}
	return fmt.Sprintf("tcp %s, local %s, cwnd %d ssthresh %d rtt %dµs rto %dµs, retransmits %d", state, local,
		info["tcpi_snd_cwnd"], info["tcpi_snd_ssthresh"], info["tcpi_rtt"], info["tcpi_rto"], info["tcpi_total_retrans"])
}
