package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// UDPRequest is a flow of datagrams that a forwarder has taken. Its socket is there from
// the first datagram on, and is closed when the handler returns.
type UDPRequest struct {
	f     *Forwarder
	tuple FourTuple
	conn  *UDPConn
	told  unreachableQuote
}

// Tuple is the flow, from the client to what it asks for.
func (r *UDPRequest) Tuple() FourTuple { return r.tuple }

// Conn is the flow's socket, connected to the client. The first datagram waits in it.
func (r *UDPRequest) Conn() *UDPConn { return r.conn }

// Reject tells the client by ICMP that its datagrams do not arrive: for ECONNREFUSED
// that nothing is on the port, for other errors as TCPRequest.Reject does. It may be
// called again, such as for each datagram.
func (r *UDPRequest) Reject(err error) {
	if silent(err) {
		return
	}
	r.f.rejected.Add(1)
	r.f.s.sendQuoted(r.told, rejectionOf(err))
}

// datagram is called with each datagram to a destination of the forwarder that no
// socket takes. It reports whether the datagram is dealt with.
func (f *Forwarder) datagram(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	if brokenSegment(pkt) != "" {
		return false // netstack counts it
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return false
	case len(f.flows) >= f.cfg.MaxFlows:
		f.dropped.Add(1)
		return true
	}
	r := &UDPRequest{f: f, tuple: tupleOf("udp", id), told: quoteOf(pkt)}
	k, err := f.open(id, pkt, r.tuple)
	if err != nil {
		f.dropped.Add(1)
		return true
	}
	f.flowsAll.Add(1)
	r.conn = &UDPConn{}
	r.conn.fd.init(&f.s.sys, k, "udp")
	r.conn.local, r.conn.remote = netAddr(false, r.tuple.Dst), netAddr(false, r.tuple.Src)
	f.flows[r.conn] = struct{}{}
	f.wg.Go(func() {
		defer f.forget(r.conn)
		f.cfg.UDP(r)
	})
	return true
}

func (f *Forwarder) forget(c *UDPConn) {
	c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.flows, c)
}

// open makes the socket of a flow, with its first datagram in it.
func (f *Forwarder) open(id stack.TransportEndpointID, pkt *stack.PacketBuffer, t FourTuple) (*socket, error) {
	y := &f.s.sys
	fd, err := y.reserve()
	if err != nil {
		return nil, err
	}
	wq := new(waiter.Queue)
	ep, terr := udp.NewForwarderRequest(f.s.ns, id, pkt).CreateEndpoint(wq)
	if terr != nil {
		y.release(fd, reserved{})
		return nil, errnoOf(terr)
	}
	k := &socket{s: f.s, id: y.ids.Add(1), fd: fd, domain: domainOf(t.Dst.Addr()), typ: SOCK_DGRAM, ep: ep, wq: wq, closed: make(chan struct{}), peer: t.Src}
	k.nonblock.Store(true)
	k.connected.Store(true)
	if err := y.install(fd, k); err != nil {
		ep.Abort()
		return nil, err
	}
	return k, nil
}
