package relay

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/catflap/catflap/stack"
)

// echoTime is how long an answer to an echo request is waited for: ping gives a lost one
// up after ten seconds (iputils' MAXWAIT).
const echoTime = 10 * time.Second

// Echo is a stack.ForwardConfig's handler that sends echo requests on from an
// unprivileged ping socket of the host, to what host may reach, and hands back the
// replies. Where the system does not allow such sockets (Linux:
// net.ipv4.ping_group_range), requests are dropped and counted: no reply is made up.
func (r *Relay) Echo(host *Host) func(*stack.EchoRequest) {
	return func(q *stack.EchoRequest) {
		if !host.allows(q.Dst) {
			q.Reject(syscall.EACCES)
			return
		}
		ctx, cancel := r.with(context.Background())
		defer cancel()
		switch err := Ping(ctx, q.Dst, q.Seq, q.Data); {
		case err == nil:
			r.echoes.Add(1)
			if err := q.Reply(); err != nil {
				r.log.Debug("relay: echo reply", "to", q.Src, "err", err)
			}
		case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EPROTONOSUPPORT) || errors.Is(err, syscall.EAFNOSUPPORT):
			r.echoesBarred.Add(1)
			r.log.Debug("relay: no ping socket", "err", err)
		default:
			r.echoesLost.Add(1)
			q.Reject(err) // silence, if nobody answered
		}
	}
}

// Ping sends one echo request from an unprivileged ping socket, and waits up to 10 s for
// the reply with the same data.
func Ping(ctx context.Context, to netip.Addr, seq uint16, data []byte) error {
	network, local, proto := "udp4", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if to.Unmap().Is6() {
		network, local, proto = "udp6", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := icmp.ListenPacket(network, local)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	// The kernel puts the socket's own number in the place of the ID, and looks for it in replies.
	b, err := (&icmp.Message{Type: request, Body: &icmp.Echo{Seq: int(seq), Data: data}}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Unmap(), 0))); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(echoTime)); err != nil {
		return err
	}
	in := make([]byte, maxDatagram)
	for {
		n, from, err := c.ReadFrom(in)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		m, err := icmp.ParseMessage(proto, in[:n])
		if err != nil || m.Type != reply || addrPort(from).Addr() != to.Unmap() {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.Seq == int(seq) && string(e.Data) == string(data) {
			return nil
		}
	}
}
