package stack

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/stack/route"
)

// TCPRequest is a SYN that a forwarder has taken, and has not answered. The handler
// answers it with Accept or Reject; if it returns without, the client is told nothing,
// as by a host that does not answer.
type TCPRequest struct {
	f      *Forwarder
	id     stack.TransportEndpointID
	tuple  FourTuple
	ctx    context.Context
	cancel context.CancelCauseFunc
	told   unreachableQuote
	iss    seqnum.Value // of the client
	first  time.Time    // when the SYN came

	answered bool // the handler's goroutine alone uses it

	// Guarded by Forwarder.mu.
	syn     *stack.PacketBuffer // nil: the request is complete
	shaking bool                // the SYN is with the listener
	conn    chan *TCPConn       // capacity 1: that came of it
	place   *list.Element       // in Forwarder.waiting; nil: cancelled
	timer   tcpip.Timer
}

// Causes for which a request's context ends, beside that the forwarder or the stack
// has closed (syscall.ECONNABORTED).
var (
	ErrClientGone = errors.New("the client has gone")
	ErrMadeWay    = errors.New("too many connections wait; the one that had waited longest made way")
)

const (
	// A client that still wants its connection sends its SYN again: after 1 s, and then
	// each time after twice as long (RFC 6298 5.5), at first in equal steps with some
	// (Linux's tcp_syn_linear_timeouts, macOS). One SYN may be lost on the way; and synSlack
	// covers clients that begin with 3 s (RFC 2988).
	synSlack = 3 * time.Second

	// synGiveUp is when Linux gives up (tcp_syn_retries=6: 127 s), and a little.
	synGiveUp = 130 * time.Second

	// handshakePatience is how long Linux waits for the ACK of a SYN-ACK (tcp_synack_retries=5).
	handshakePatience = 63 * time.Second
)

// synPatience is how long after its first SYN a client that has sent one after d is
// taken to want the connection: until the one after the next has been due.
func synPatience(d time.Duration) time.Duration {
	return min(4*d+3*time.Second+synSlack, synGiveUp)
}

// listen makes the listeners. They are bound to an address at which no TCP packet
// arrives: multicast.
func (f *Forwarder) listen() error {
	if f.cfg.TCP == nil {
		return nil
	}
	for _, r := range f.cfg.Rules {
		if l := f.listenerOf(r.Prefix.Addr()); *l == nil && (r.Network == "" || r.Network == "tcp") {
			k, err := f.listenOn(r.Prefix.Addr())
			if err != nil {
				return err
			}
			*l = &Listener{}
			(*l).fd.init(&f.s.sys, k, "tcp")
			(*l).addr = netAddr(true, k.info().Local)
			f.wg.Go(func() { f.accept(*l) })
		}
	}
	return nil
}

// forwardGroups are the addresses of forwarders' listeners, of scopes that leave no
// host (RFC 5771 section 10, RFC 4291 2.7).
var forwardGroups = map[Family]netip.Addr{IPv4: netip.AddrFrom4([4]byte{239, 255, 255, 255}), IPv6: netip.MustParseAddr("ff01::1")}

func (f *Forwarder) listenOn(a netip.Addr) (*socket, error) {
	y := &f.s.sys
	fd, err := y.openSocket(domainOf(a), SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, IPPROTO_IP)
	if err != nil {
		return nil, err
	}
	k, err := y.socket(fd)
	if err != nil {
		return nil, err
	}
	k.forwards = true
	k.backlog.Store(SOMAXCONN)
	err = errnoOf(k.ep.Bind(tcpip.FullAddress{NIC: f.s.lo.id, Addr: toTCPIP(forwardGroups[route.FamilyOf(a)])}))
	if err == nil {
		err = errnoOf(k.ep.Listen(SOMAXCONN + 1))
	}
	if err != nil {
		y.closeFile(fd, k)
		return nil, err
	}
	return k, nil
}

func (f *Forwarder) listenerOf(a netip.Addr) **Listener {
	if a.Is4() {
		return &f.v4
	}
	return &f.v6
}

// listener is that of an address's family, nil if there is none.
func (f *Forwarder) listener(a netip.Addr) *Listener { return *f.listenerOf(a) }

// acceptRetry is how long accept waits when the stack has no fd left.
const acceptRetry = 10 * time.Millisecond

// accept hands connections to who waits for them.
func (f *Forwarder) accept(l *Listener) {
	for {
		c, err := l.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			again := make(chan struct{})
			t := f.s.clock.AfterFunc(acceptRetry, func() { close(again) })
			select {
			case <-again:
			case <-f.ctx.Done():
				t.Stop()
			}
			continue
		}
		k := c.fd.k
		t := FourTuple{Network: "tcp", Src: k.peer, Dst: k.localAddr()}
		f.mu.Lock()
		r := f.pending[idOf(t)]
		if r != nil && r.shaking && r.place != nil {
			r.conn <- c
			f.completeLocked(r)
			c = nil
		}
		f.mu.Unlock()
		if c != nil { // whoever wanted it has gone
			c.SetLinger(0)
			c.Close()
		}
	}
}

// segment is called with each TCP segment to a destination of the forwarder that no
// socket takes. It reports whether the segment is dealt with.
func (f *Forwarder) segment(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	seg := header.TCP(pkt.TransportHeader().Slice())
	if len(seg) < header.TCPMinimumSize || brokenSegment(pkt) != "" {
		return false
	}
	flags := seg.Flags()
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.pending[id]
	switch {
	case f.closed:
		return false
	case r == nil && opensFlow(flags):
		f.askLocked(id, pkt, seg)
	case r == nil:
		return false
	case flags&header.TCPFlagRst != 0:
		f.resetLocked(r, seg)
	case r.shaking: // for SYN cookies, an ACK too
		f.s.tcp.queue.QueuePacket(f.endpoint(id), id, pkt)
	case !opensFlow(flags):
		return false
	case seqnum.Value(seg.SequenceNumber()) != r.iss:
		f.goneLocked(r) // it has begun anew; its next SYN is taken
	case r.place != nil:
		since := f.s.clock.Now().Sub(r.first)
		r.timer.Reset(synPatience(since) - since)
	}
	return true
}

func (f *Forwarder) endpoint(id stack.TransportEndpointID) stack.TransportEndpoint {
	return f.listener(fromTCPIP(id.LocalAddress)).fd.k.ep.(stack.TransportEndpoint)
}

// reset is called with each RST to a connection that may be a request's.
func (s *Stack) reset(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	seg := header.TCP(pkt.TransportHeader().Slice())
	if len(seg) < header.TCPMinimumSize || seg.Flags()&header.TCPFlagRst == 0 || brokenSegment(pkt) != "" {
		return
	}
	for _, f := range *s.forwarders.Load() {
		f.mu.Lock()
		if r := f.pending[id]; r != nil {
			f.resetLocked(r, seg)
		}
		f.mu.Unlock()
	}
}

// resetLocked ends a request whose client has sent an RST with the next number (RFC 5961
// 3.2): no window is open to it yet.
func (f *Forwarder) resetLocked(r *TCPRequest, seg header.TCP) {
	if seqnum.Value(seg.SequenceNumber()) == r.iss+1 {
		f.goneLocked(r)
	}
}

// askLocked takes a new request in.
func (f *Forwarder) askLocked(id stack.TransportEndpointID, pkt *stack.PacketBuffer, seg header.TCP) {
	if f.waiting.Len() >= f.cfg.MaxPending {
		f.cancelLocked(f.waiting.Front().Value.(*TCPRequest), ErrMadeWay)
		f.evicted.Add(1)
	}
	if len(f.pending) >= 2*f.cfg.MaxPending {
		f.dropped.Add(1) // handlers do not heed their contexts
		return
	}
	r := &TCPRequest{
		f: f, id: id, tuple: tupleOf("tcp", id), told: quoteOf(pkt), iss: seqnum.Value(seg.SequenceNumber()), first: f.s.clock.Now(),
		syn: pkt.Clone(), conn: make(chan *TCPConn, 1),
	}
	r.ctx, r.cancel = context.WithCancelCause(f.ctx)
	r.place = f.waiting.PushBack(r)
	r.timer = f.s.clock.AfterFunc(synPatience(0), func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.goneLocked(r)
	})
	f.pending[id] = r
	f.wg.Go(func() {
		defer r.complete() // on every path
		f.cfg.TCP(r)
	})
}

func (f *Forwarder) goneLocked(r *TCPRequest) {
	if f.cancelLocked(r, ErrClientGone) {
		f.gone.Add(1)
	}
}

// cancelLocked ends a request's context, once.
func (f *Forwarder) cancelLocked(r *TCPRequest, cause error) bool {
	if r.place == nil {
		return false
	}
	f.waiting.Remove(r.place)
	r.place = nil
	r.timer.Stop()
	r.cancel(cause)
	return true
}

// complete forgets a request. Only the first call counts.
func (r *TCPRequest) complete() {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	r.f.completeLocked(r)
}

func (f *Forwarder) completeLocked(r *TCPRequest) {
	if r.syn == nil {
		return
	}
	r.syn.DecRef()
	r.syn = nil
	delete(f.pending, r.id)
	f.cancelLocked(r, context.Canceled)
}

// Context ends when the client has gone, as far as can be told; when the request has
// to make way for others; and when the forwarder closes. context.Cause says which.
func (r *TCPRequest) Context() context.Context { return r.ctx }

// Tuple is the flow, from the client to what it asks for.
func (r *TCPRequest) Tuple() FourTuple { return r.tuple }

// Accept answers the SYN, waits for the client's ACK, and returns the connection,
// which is the caller's to close. The request's context is at an end then.
func (r *TCPRequest) Accept() (*TCPConn, error) {
	c, err := r.accept()
	if err != nil {
		return nil, opError("accept", "tcp", "", netAddr(true, r.tuple.Dst), netAddr(true, r.tuple.Src), err)
	}
	r.f.accepted.Add(1)
	return c, nil
}

func (r *TCPRequest) accept() (*TCPConn, error) {
	if r.answered {
		return nil, syscall.EINVAL
	}
	r.answered = true
	defer r.complete()
	r.endTimeWait()
	f := r.f
	f.mu.Lock()
	if r.place == nil {
		f.mu.Unlock()
		return nil, context.Cause(r.ctx)
	}
	r.shaking = true
	r.timer.Reset(handshakePatience)
	f.s.tcp.queue.QueuePacket(f.endpoint(r.id), r.id, r.syn)
	f.mu.Unlock()
	<-r.ctx.Done()
	select {
	case c := <-r.conn:
		return c, nil
	default:
	}
	// The handshake ends too. If netstack has not begun it, its connection will find nobody.
	if c := r.registered(); c != nil {
		c.Abort()
	}
	return nil, context.Cause(r.ctx)
}

func domainOf(a netip.Addr) int {
	if a.Is4() {
		return AF_INET
	}
	return AF_INET6
}

// registered is the connection of the request's 4-tuple, nil if there is none.
func (r *TCPRequest) registered() tcpConn {
	np, tp := protosOf(r.tuple)
	if c := tcpOf(r.f.s.ns.FindTransportEndpoint(np, tp, r.id, r.f.s.nicFor(r.tuple))); c != nil && c.State() != tcpListen {
		return c
	}
	return nil
}

// Reject tells the client that it cannot connect, as a network does in which a dial
// failed with err: a refused one with an RST, one for which there is no way with an
// ICMP error, and one that was not answered in time, or cancelled, with silence.
func (r *TCPRequest) Reject(err error) {
	if r.answered {
		return
	}
	r.answered = true
	defer r.complete()
	if r.ctx.Err() != nil || silent(err) {
		return
	}
	r.f.rejected.Add(1)
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
		r.f.s.sendQuoted(r.told, rejectionOf(err))
		return
	}
	r.f.s.tcp.refuse(r.id, r.syn)
}

// reopens reports whether a segment for a connection in TIME-WAIT is a SYN that may
// begin another between the same ports, and goes to a forwarder. netstack looks for a
// listener alone then, and drops the SYN when there is none.
func (s *Stack) reopens(ep stack.TransportEndpoint, q query, pkt *stack.PacketBuffer) bool {
	if !q.opens || !s.mayReopen(ep) || s.selectSocket(nil, q).forwarder == nil {
		return false
	}
	return tcpOf(ep).Newer(seqnum.Value(header.TCP(pkt.TransportHeader().Slice()).SequenceNumber()))
}

// mayReopen reports whether reopens is worth asking.
func (s *Stack) mayReopen(ep stack.TransportEndpoint) bool {
	if s.forwarders.Load() == nil {
		return false
	}
	c := tcpOf(ep)
	return c != nil && c.State() == tcpTimeWait
}

// opensFlow reports whether a segment with these flags asks for a connection.
func opensFlow(flags header.TCPFlags) bool {
	return flags&(header.TCPFlagSyn|header.TCPFlagAck|header.TCPFlagRst) == header.TCPFlagSyn
}

// endTimeWait takes the connection that reopens has found out of the way.
func (r *TCPRequest) endTimeWait() {
	if c := r.registered(); c != nil && c.State() == tcpTimeWait {
		r.f.s.tcp.endTimeWait(c)
	}
}
