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
	if err := raw.Control(func(fd uintptr) { closed = closedByPeer(fd) }); err != nil {
		return false
	}
	return closed
}

func closedByPeer(fd uintptr) bool {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == unix.BPF_TCP_CLOSE
}

// kernelWaitsReset looks at the state each time when something happens to the socket.
func kernelWaitsReset(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if err := raw.Read(closedByPeer); err != nil {
		return err
	}
	return unix.ECONNRESET
}
