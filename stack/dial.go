package stack

import (
	"context"
	"net"
	"net/netip"
	"syscall"
)

// resolve splits "host:port" into the addresses it may mean on a network. Hosts
// are IP literals, "localhost", or "" for any; there is no resolver in the stack.
func resolve(ctx context.Context, network, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	v4, v6 := network[len(network)-1] != '6', network[len(network)-1] != '4'
	var addrs []netip.Addr
	switch host {
	case "":
		addrs = []netip.Addr{netip.IPv6Unspecified(), netip.IPv4Unspecified()}
	case "localhost":
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	default:
		a, err := netip.ParseAddr(host)
		if err != nil {
			return nil, &net.DNSError{Err: "not an IP address, and the stack has no resolver", Name: host, IsNotFound: true}
		}
		addrs = []netip.Addr{a.Unmap()}
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		if a.Is4() && v4 || a.Is6() && v6 {
			out = append(out, netip.AddrPortFrom(a, uint16(port)))
		}
	}
	if len(out) == 0 {
		return nil, &net.AddrError{Err: errNoAddress.Error(), Addr: host}
	}
	return out, nil
}

// resolveLocal is resolve for listeners: one address, and whether it stands for
// both families.
func resolveLocal(network, address string) (netip.AddrPort, bool, error) {
	all, err := resolve(context.Background(), network, address)
	if err != nil {
		return netip.AddrPort{}, false, err
	}
	if last := network[len(network)-1]; all[0].Addr().IsUnspecified() && last != '4' && last != '6' {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), all[0].Port()), true, nil
	}
	return all[0], false, nil
}

// wrongNetwork is the error of a network that is not for this kind of call, as
// the net package words it.
func wrongNetwork(op, network, address string) error {
	var a net.Addr
	var err error = net.UnknownNetworkError(network)
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		ap, _, e := resolveLocal(network, address)
		if e != nil {
			err = e
			break
		}
		a = netAddr(network[0] == 't', ap)
		err = &net.AddrError{Err: "unexpected address type", Addr: address}
	}
	return opError(op, network, "", nil, a, err)
}

// netSocket makes a non-blocking socket for the net API. IPv6 sockets are for
// IPv6 alone, unless dual.
func (y *Sys) netSocket(ap netip.AddrPort, typ int, dual bool) (*socket, error) {
	domain := AF_INET
	if ap.Addr().Is6() {
		domain = AF_INET6
	}
	fd, err := y.Socket(domain, typ|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP)
	if err != nil {
		return nil, err
	}
	k, err := y.socket(fd)
	if err != nil {
		return nil, err
	}
	if domain == AF_INET6 {
		if err := y.setOption(k, SOL_IPV6, IPV6_V6ONLY, !dual); err != nil {
			y.Close(fd)
			return nil, err
		}
	}
	return k, nil
}

// Dial connects to an address, as net.Dial does for "tcp", "udp" and their "4"
// and "6" forms. The host must be an IP address or "localhost".
func (s *Stack) Dial(network, address string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, address)
}

// DialContext is Dial until ctx ends.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return s.DialFrom(ctx, netip.AddrPort{}, network, address)
}

// DialFrom is DialContext from a local address, and from a port of it unless that is 0.
// The stack need not have the address (IP_TRANSPARENT): packets to it must be delivered
// here, as a local route or a forwarder's prefix says, or nothing comes back.
func (s *Stack) DialFrom(ctx context.Context, local netip.AddrPort, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return nil, opError("dial", network, "", nil, nil, net.UnknownNetworkError(network))
	}
	addrs, err := resolve(ctx, network, address)
	if err != nil {
		return nil, opError("dial", network, "", nil, nil, err)
	}
	if host, _, _ := net.SplitHostPort(address); host == "" {
		addrs, _ = resolve(ctx, network, net.JoinHostPort("localhost", portString(addrs[0].Port())))
	}
	var first error
	for _, ap := range addrs {
		var c net.Conn
		if network[0] == 't' {
			c, err = s.dialTCP(ctx, network, local, ap)
		} else {
			c, err = s.dialUDP(network, local, ap)
		}
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

func (s *Stack) dialTCP(ctx context.Context, network string, local, ap netip.AddrPort) (net.Conn, error) {
	fail := func(call string, err error) (net.Conn, error) {
		return nil, opError("dial", network, call, nil, netAddr(true, ap), err)
	}
	if err := ctx.Err(); err != nil {
		return fail("", err)
	}
	y := &s.sys
	k, err := y.netSocket(ap, SOCK_STREAM, false)
	if err != nil {
		return fail("socket", err)
	}
	if err := y.bindFrom(k, local); err != nil {
		y.Close(k.fd)
		return fail("bind", err)
	}
	c := &TCPConn{}
	c.fd.init(y, k, network)
	err = y.Connect(k.fd, ap)
	if err == syscall.EINPROGRESS {
		err = c.waitConnect(ctx)
	}
	if err != nil {
		c.fd.close()
		return fail("connect", err)
	}
	c.setAddrs()
	y.setConnOptions(k)
	return c, nil
}

// bindFrom binds a socket that is about to connect to a local address, if one is given.
func (y *Sys) bindFrom(k *socket, local netip.AddrPort) error {
	if !local.IsValid() {
		return nil
	}
	level, name := SOL_IP, IP_TRANSPARENT
	if k.domain == AF_INET6 {
		level, name = SOL_IPV6, IPV6_TRANSPARENT
	}
	if err := y.setOption(k, level, name, true); err != nil {
		return err
	}
	return y.Bind(k.fd, local)
}
