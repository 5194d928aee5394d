package relay

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/catflap/catflap/stack"
)

// HostBuffer is how much a socket of the host may hold each way, in bytes, when its
// peer is on the same host. The kernel would let both grow to several megabytes, in
// which what a bad link does to a sender would not be seen for seconds.
const HostBuffer = 256 << 10

// Host dials on the host's own network. Its zero value reaches all but what is closed
// unless it is named: the host's loopback (127.0.0.0/8, ::1, and the unspecified
// addresses, which lead there too), and link-local addresses (169.254.0.0/16,
// fe80::/10), where clouds keep the credentials of their machines.
type Host struct {
	Dialer net.Dialer
	Open   []netip.Prefix // closed addresses that may be reached
}

// ClosedError says that an address is closed to relayed flows.
type ClosedError struct{ Addr netip.Addr }

func (e *ClosedError) Error() string {
	return fmt.Sprintf("%s is closed to relayed connections, as the host's loopback and link-local addresses are", e.Addr)
}

// Unwrap is EACCES: the client is told that it is prohibited.
func (e *ClosedError) Unwrap() error { return syscall.EACCES }

// Remedy says what to do.
func (e *ClosedError) Remedy() string { return "name it, if it is meant to be reached" }

// allows reports whether an address is open.
func (h *Host) allows(a netip.Addr) bool {
	a = a.Unmap()
	for _, p := range h.Open {
		if p.Contains(a) {
			return true
		}
	}
	return !a.IsLoopback() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && a != limitedBroadcast
}

var limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// Dial is a Dialer: to where the flow leads, from an address of the host.
func (h *Host) Dial(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
	if !h.allows(t.Dst.Addr()) {
		return nil, &net.OpError{Op: "dial", Net: t.Network, Err: &ClosedError{t.Dst.Addr()}}
	}
	c, err := h.Dialer.DialContext(ctx, t.Network, t.Dst.String())
	if err != nil {
		return nil, err
	}
	Tune(c)
	return c, nil
}

// To is a Dialer that goes to one address of the host, HOST:PORT, wherever a flow leads.
// Who calls it names the address: nothing is closed.
func To(d *net.Dialer, address string) Dialer {
	return func(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
		c, err := d.DialContext(ctx, t.Network, address)
		if err != nil {
			return nil, err
		}
		Tune(c)
		return c, nil
	}
}

// Tune gives a socket of the host small buffers if its peer is on this host.
func Tune(c net.Conn) {
	b, ok := base(c).(*net.TCPConn)
	if ok && addrPort(c.RemoteAddr()).Addr().IsLoopback() {
		b.SetReadBuffer(HostBuffer)
		b.SetWriteBuffer(HostBuffer)
	}
}
