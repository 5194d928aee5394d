package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// kernelSaysReset asks for the state: a connection that is open for sending is closed
// only by a reset.
func kernelSaysReset(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	closed := false
	if err := raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		closed = err == nil && info.State == unix.BPF_TCP_CLOSE
	}); err != nil {
		return false
	}
	return closed
}
