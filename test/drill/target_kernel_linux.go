package drill

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/tun"
)

// kernelTarget is Linux's own TCP/IP: real sockets in a network namespace of their own, whose only way out is a TUN
// device that the script holds. All of it runs in one thread, which is in the namespace: see [onKernelThread].
type kernelTarget struct {
	dev   int // the TUN device, non-blocking
	start time.Time
	fds   map[int]bool // fds to close

	congestion string // algorithm of new sockets
	fixed      bool   // scripts do not change it
	mss        int    // of the segments that a longer packet to the system consists of, 0: it is one
	ipv6       bool
	buf        []byte
	lent       [][]byte // what the kernel may still read
	unmapped   [][]byte // addresses without memory, to give back

	ended   int            // eventfd that tells that a call in another thread has ended
	working sync.WaitGroup // calls in other threads
}

// kernelPoll is how often calls that block are tried again.
const kernelPoll = 500 * time.Microsecond

// wakeUp is more than a thread of real-time priority takes to run again once its time has come.
const wakeUp = 100 * time.Microsecond

// kernelDefaults are the settings that public scripts make before all else, so that the namespace's own do not matter.
// Those that this kernel does not have, or does not let a namespace change, are passed over.
var kernelDefaults = []sysctl{
	{path: "net/ipv4/tcp_rmem", value: fmt.Sprintf("4096 %d %d", receiveBuffer, receiveBufferMax)},
	{path: "net/ipv4/tcp_wmem", value: fmt.Sprintf("4096 %d %d", sendBuffer, sendBufferMax)},
	{path: "net/ipv4/tcp_timestamps", value: "1"},
	{path: "net/ipv4/tcp_syn_retries", value: fmt.Sprint(synRetries)},
	{path: "net/ipv4/tcp_synack_retries", value: fmt.Sprint(synRetries)},
	{path: "net/ipv4/tcp_sack", value: "1"},
	{path: "net/ipv4/tcp_dsack", value: "1"},
	{path: "net/ipv4/tcp_reordering", value: "3"},
	{path: "net/ipv4/tcp_congestion_control", value: "cubic"},
	{path: "net/ipv4/tcp_slow_start_after_idle", value: "0"},
	{path: "net/ipv4/tcp_early_retrans", value: "3"},
	{path: "net/ipv4/tcp_recovery", value: "1"},
	{path: "net/ipv4/tcp_ecn", value: "0"},
	{path: "net/ipv4/tcp_syncookies", value: "1"},
	{path: "net/ipv4/tcp_fastopen", value: "0x70403"},
	{path: "net/ipv4/tcp_fastopen_key", value: "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"},
	{path: "net/ipv4/icmp_ratelimit", value: "0"},
	{path: "net/ipv6/conf/all/accept_dad", value: "0"},
	{path: "net/ipv6/conf/default/accept_dad", value: "0"},
	{path: "net/ipv6/conf/default/router_solicitations", value: "0"},
}

// onKernelThread runs f in a thread of its own, of the least real-time priority if that is allowed: without it a busy
// machine makes packets late, and the script fails for nothing. The thread may change its namespace; it ends with f.
func onKernelThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that the thread ends
		realTime()
		f()
	}()
	<-done
}

// realTime gives the calling thread the least real-time priority, and with it the programs that scripts run. Threads of
// Go's runtime are not started from a locked thread, and so do not get it.
func realTime() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0) // without the right to it the script runs as it can
}

// newKernelTarget makes the namespace, in the calling thread. It needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN.
func newKernelTarget(set settings) (target, error) {
	k := &kernelTarget{dev: -1, ended: -1, fds: map[int]bool{}, buf: make([]byte, maxFrame), mss: set.mss, ipv6: set.remote.Is6()}
	k.congestion, k.fixed = set.congestion, set.congestion != ""
	if err := k.setUp(set); err != nil {
		k.stop()
		return nil, err
	}
	k.start = time.Now()
	return k, nil
}

// maxFrame is the longest packet with its virtio-net header.
const maxFrame = vnetLen + 1<<16

// begin starts the script's time at tickOffset behind a tick of the kernel's clock, so that a moment's delay does not move
// what scripts do, or a timer of the kernel, by a whole tick.
func (k *kernelTarget) begin() {
	coarse := func() unix.Timespec {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts) // moves by ticks
		return ts
	}
	for first := coarse(); coarse() == first; {
	}
	k.start = time.Now().Add(tickOffset)
	for k.elapsed() < 0 {
	}
}

// tickOffset is how long after a tick a script starts. A tick has 1, 3.3, 4 or 10 ms, and scripts' times are mostly
// multiples of 10 ms. With ticks of 4 ms such a time is 2.5 of them: what starts in the second half of a tick is counted as
// one tick more, as scripts that were written with shorter ticks ask for ("at least 49 ms" of 50), and not as one less.
const tickOffset = 2250 * time.Microsecond

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
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(dev, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("making the TUN device: %w", err)
	}
	// As a network card offers: the kernel then sizes its super-packets as scripts expect.
	if err := unix.IoctlSetInt(dev, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6|unix.TUN_F_TSO_ECN); err != nil {
		return fmt.Errorf("offloads of the TUN device: %w", err)
	}
	if k.ended, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	for _, s := range kernelDefaults {
		if err := k.setSysctl(s); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
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
		Addrs: []netip.Prefix{set.local}, MTU: set.mtu, Up: true,
		// The route to the peer is one that scripts may change.
		Routes: []netip.Prefix{anywhere, netip.PrefixFrom(set.remote, set.remote.BitLen())},
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

// setSysctl writes a setting of the namespace. The congestion control of new sockets is the drill's own to set, since a
// namespace may refuse it.
func (k *kernelTarget) setSysctl(s sysctl) error {
	if s.path == "net/ipv4/tcp_congestion_control" {
		if !k.fixed {
			k.congestion = s.value
		}
		return nil
	}
	if err := os.WriteFile("/proc/sys/"+s.path, []byte(s.value), 0); err != nil {
		return fmt.Errorf("setting %s to %q: %w", s.name(), s.value, err)
	}
	return nil
}

// program runs a program in the namespace, which it gets from the calling thread.
func (k *kernelTarget) program(dir, name string, args ...string) (string, int, error) {
	c := exec.Command(name, args...)
	c.Dir = dir
	// What the runner of public suites gives; their scripts make files of these names.
	c.Env = append(os.Environ(), fmt.Sprintf("PACKETDRILL_PID=%d", os.Getpid()))
	out, err := c.CombinedOutput()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return string(out), ended.ExitCode(), nil
	}
	return string(out), 0, err
}

// counters reads what nstat reads.
func (k *kernelTarget) counters() (map[string]uint64, error) {
	all := map[string]uint64{}
	for _, file := range []string{"netstat", "snmp"} { // two lines a protocol: names, then values
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return nil, err
		}
		lines := strings.Split(string(b), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j := 1; j < len(names) && j < len(values); j++ {
				if v, err := strconv.ParseUint(values[j], 10, 64); err == nil {
					all[strings.TrimSuffix(names[0], ":")+names[j]] = v
				}
			}
		}
	}
	b, err := os.ReadFile("/proc/thread-self/net/snmp6") // a line a counter
	if err != nil {
		return nil, err
	}
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) == 2 {
			if v, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				all[f[0]] = v
			}
		}
	}
	return all, nil
}

// connections reads /proc/net/tcp, where an address is the bytes of its words in the machine's order.
func (k *kernelTarget) connections() ([]connection, error) {
	var all []connection
	for _, file := range []string{"tcp", "tcp6"} {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return nil, err
		}
		for _, l := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(l)
			if len(f) < 4 {
				continue
			}
			c := connection{local: procAddr(f[1]), remote: procAddr(f[2])}
			n, _ := strconv.ParseInt(f[3], 16, 64)
			for name, number := range stateNumbers {
				if number == n {
					c.state = name
				}
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func procAddr(s string) netip.AddrPort {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(p))
}

func (k *kernelTarget) stop() {
	for fd := range k.fds {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes a call that blocks on it in another thread
	}
	k.working.Wait()
	for fd := range k.fds {
		unix.Close(fd)
	}
	for _, b := range k.unmapped {
		_ = unix.Munmap(b)
	}
	for _, fd := range []int{k.dev, k.ended} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// background starts a call in a thread of its own when the function that it returns is first called.
func (k *kernelTarget) background(call func() (int64, error)) func() (int64, error) {
	type result struct {
		v   int64
		err error
	}
	var ended chan result
	return func() (int64, error) {
		if ended == nil {
			ended = make(chan result, 1)
			k.working.Go(func() {
				runtime.LockOSThread()
				realTime()
				v, err := call()
				ended <- result{v, err}
				_, _ = unix.Write(k.ended, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // a counter that is full tells as well
			})
		}
		select {
		case r := <-ended:
			ended <- r // for whoever asks again
			return r.v, r.err
		default:
			return 0, errPending
		}
	}
}

func (k *kernelTarget) elapsed() time.Duration { return time.Since(k.start) }

// vnetLen is the length of the virtio-net header before each packet on the device.
const vnetLen = 10

// Parts of a virtio-net header (linux/virtio_net.h).
const (
	vnetNeedsCsum = 1
	vnetTCPv4     = 1
	vnetTCPv6     = 4
)

func (k *kernelTarget) inject(data []byte) error {
	header := make([]byte, vnetLen, vnetLen+len(data))
	if p, err := packet.Parse(data); err == nil && p.TCP != nil && k.mss > 0 {
		// What a network card would have put together of segments of this size. Where the headers end is not said, so that
		// the kernel takes the memory for it that it takes without a card's help.
		header[1] = vnetTCPv4
		if k.ipv6 {
			header[1] = vnetTCPv6
		}
		binary.NativeEndian.PutUint16(header[4:], uint16(k.mss))
	}
	_, err := unix.Write(k.dev, append(header, data...))
	if err == unix.EINVAL {
		return nil // not even an IP packet: the kernel drops it here already
	}
	return err
}

func (k *kernelTarget) sent() (Frame, bool) {
	n, err := unix.Read(k.dev, k.buf)
	if err != nil || n <= vnetLen {
		return Frame{}, false
	}
	f := Frame{At: k.elapsed(), Data: append([]byte(nil), k.buf[vnetLen:n]...), noSum: k.buf[0]&vnetNeedsCsum != 0}
	if k.buf[1] != 0 {
		f.segment = int(binary.NativeEndian.Uint16(k.buf[4:]))
	}
	return f, true
}

func (k *kernelTarget) advance(until time.Duration, stop func() bool) bool {
	var count [8]byte
	for {
		if stop() {
			return true
		}
		left := until - k.elapsed()
		if left <= 0 {
			return false
		}
		// To the very moment it is not slept, since to wake up takes some time itself.
		wait := unix.NsecToTimespec(max(0, min(left-wakeUp, kernelPoll)).Nanoseconds())
		fds := []unix.PollFd{{Fd: int32(k.dev), Events: unix.POLLIN}, {Fd: int32(k.ended), Events: unix.POLLIN}}
		_, _ = unix.Ppoll(fds, &wait, nil) // an interrupted wait ends early, which does no harm
		if fds[1].Revents != 0 {
			_, _ = unix.Read(k.ended, count[:])
		}
	}
}

func (k *kernelTarget) socket(domain, typ, protocol int) (int, error) {
	fd, err := unix.Socket(domain, typ|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	k.track(fd)
	if typ&0xf == unix.SOCK_STREAM {
		// The default belongs to the machine, not to the namespace: BBR would pace what scripts expect at once.
		// A kernel without the algorithm keeps its own.
		_ = unix.SetsockoptString(fd, unix.SOL_TCP, unix.TCP_CONGESTION, k.congestion)
	}
	return fd, nil
}

func (k *kernelTarget) setNonblock(fd int, on bool) error { return unix.SetNonblock(fd, on) }

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

func (k *kernelTarget) accept(fd, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Accept4(fd, flags|unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	k.track(n)
	return n, addrPort(sa), nil
}

func (k *kernelTarget) connect(fd int, addr netip.AddrPort) error {
	if !addr.IsValid() {
		_, err := k.unspecified(unix.SYS_CONNECT, uintptr(fd))
		return err
	}
	return unix.Connect(fd, sockaddr(addr))
}

// unspecified makes a call with an address of AF_UNSPEC, which x/sys has no type for: the family is 0, as is all of the
// address. The arguments before the address are given.
func (k *kernelTarget) unspecified(call uintptr, args ...uintptr) (int, error) {
	const size = unix.SizeofSockaddrInet4
	zeros, err := unix.Mmap(-1, 0, size, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON) // memory that stays where it is
	if err != nil {
		return -1, err
	}
	k.unmapped = append(k.unmapped, zeros)
	var a [6]uintptr
	n := copy(a[:], args)
	a[n], a[n+1] = reflect.ValueOf(zeros).Pointer(), size
	r, _, errno := unix.Syscall6(call, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func (k *kernelTarget) send(fd int, m outgoing) (int, error) {
	if m.unspecified {
		// Without data: what it is for, a Fast Open, the kernel refuses before it looks at any.
		return k.unspecified(unix.SYS_SENDTO, uintptr(fd), 0, 0, uintptr(m.flags|unix.MSG_NOSIGNAL))
	}
	if m.flags&unix.MSG_ZEROCOPY != 0 {
		k.lent = append(k.lent, m.buffers...) // the kernel reads them until the peer has acknowledged them
	}
	return unix.SendmsgBuffers(fd, m.buffers, nil, sockaddr(m.to), m.flags|unix.MSG_NOSIGNAL)
}

func (k *kernelTarget) recv(fd int, b []byte, flags int) (int, netip.AddrPort, error) {
	n, sa, err := unix.Recvfrom(fd, b, flags)
	return n, addrPort(sa), err
}

// maxControl is room for the control messages of one call; the longest here has 80 bytes.
const maxControl = 1024

func (k *kernelTarget) recvmsg(fd int, b []byte, flags int) (n int, all []control, msgFlags int, err error) {
	oob := make([]byte, maxControl)
	n, oobn, msgFlags, _, err := unix.RecvmsgBuffers(fd, [][]byte{b}, oob, flags)
	if err != nil {
		return n, nil, msgFlags, err
	}
	if n > len(b) { // x/sys reads a byte where the script asks for none
		n, msgFlags = len(b), msgFlags|unix.MSG_TRUNC
	}
	list, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, nil, msgFlags, err
	}
	for _, m := range list {
		c := control{level: int(m.Header.Level), typ: int(m.Header.Type)}
		order := binary.NativeEndian
		switch d := m.Data; {
		case c.level == unix.SOL_SOCKET && c.typ == unix.SCM_TIMESTAMPING && len(d) >= 16:
			// The first of three times is the one that software takes.
			at := time.Unix(int64(order.Uint64(d)), int64(order.Uint64(d[8:]))).Sub(k.start)
			c.stamp = &at
		case (c.level == unix.SOL_IP && c.typ == unix.IP_RECVERR || c.level == unix.SOL_IPV6 && c.typ == unix.IPV6_RECVERR) && len(d) >= 16:
			c.err = &extendedError{errno: order.Uint32(d), origin: d[4], typ: d[5], code: d[6], info: order.Uint32(d[8:]), data: order.Uint32(d[12:])}
		case len(d) >= 4:
			c.value = int64(int32(order.Uint32(d)))
		case len(d) > 0:
			c.value = int64(d[0])
		}
		all = append(all, c)
	}
	return n, all, msgFlags, nil
}

// track notes an fd to close at the end.
func (k *kernelTarget) track(fd int) { k.fds[fd] = true }

func (k *kernelTarget) open(path string, data []byte) (int, error) {
	fd, err := unix.MemfdCreate(filepath.Base(path), unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	k.track(fd)
	_, err = unix.Pwrite(fd, data, 0)
	return fd, err
}

func (k *kernelTarget) pipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	k.track(p[0])
	k.track(p[1])
	return p[0], p[1], nil
}

func (k *kernelTarget) splice(in, out, n, flags int) (int, error) {
	// The script's thread must not wait: what would is EAGAIN.
	m, err := unix.Splice(in, nil, out, nil, n, flags|unix.SPLICE_F_NONBLOCK)
	return int(m), err
}

func (k *kernelTarget) sendfile(out, in int, offset int64, n int) (int, error) {
	if offset < 0 {
		return unix.Sendfile(out, in, nil, n)
	}
	return unix.Sendfile(out, in, &offset, n)
}

func (k *kernelTarget) nowhere(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, max(n, 1), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, err
	}
	k.unmapped = append(k.unmapped, b)
	return b[:n], nil
}

func (k *kernelTarget) shutdown(fd, how int) error { return unix.Shutdown(fd, how) }

func (k *kernelTarget) close(fd int) error {
	delete(k.fds, fd)
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
		k.track(fd)
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

// kernelInfo are the names of the members of struct tcp_info as Linux has them: x/sys's Snd_cwnd is tcpi_snd_cwnd.
var kernelInfo = func() []string {
	var names []string
	for name := range infoFields(&unix.TCPInfo{}, 0, 0) {
		names = append(names, name)
	}
	return names
}()

// infoFields names what the kernel says of a socket. first are the first eight bytes of its struct tcp_info, of which
// x/sys leaves out those that hold two numbers each; memory are the first two numbers of SO_MEMINFO.
func infoFields(i *unix.TCPInfo, first, memory uint64) map[string]int64 {
	var b, m [8]byte
	binary.NativeEndian.PutUint64(b[:], first)
	binary.NativeEndian.PutUint64(m[:], memory)
	info := map[string]int64{
		"tcpi_snd_wscale":       int64(b[6] & 0xf),
		"tcpi_rcv_wscale":       int64(b[6] >> 4),
		"SK_MEMINFO_RMEM_ALLOC": int64(binary.NativeEndian.Uint32(m[:])),
		"SK_MEMINFO_RCVBUF":     int64(binary.NativeEndian.Uint32(m[4:])),
	}
	v := reflect.ValueOf(i).Elem()
	for n := range v.NumField() {
		name := "tcpi_" + strings.ToLower(v.Type().Field(n).Name)
		if f := v.Field(n); f.CanUint() {
			info[name] = int64(f.Uint())
		} else if f.CanInt() {
			info[name] = f.Int()
		}
	}
	return info
}

func (k *kernelTarget) tcpInfo(fd int) (map[string]int64, error) {
	i, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, err
	}
	first, err := unix.GetsockoptUint64(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, err
	}
	memory, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MEMINFO)
	return infoFields(i, first, memory), err
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
