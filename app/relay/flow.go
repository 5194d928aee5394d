package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/catflap/catflap/stack"
)

// maxDatagram is the longest that IPv4 carries, and a little.
const maxDatagram = 64 << 10

// dnsPort is where flows are mostly one question and its answer.
const dnsPort = 53

// errMadeWay ends the flow that has been silent longest, for another.
var errMadeWay = errors.New("relay: the flow made way for another")

// flow is datagrams between a client and what it asked for.
type flow struct {
	r    *Relay
	idle time.Duration // negative: no limit
	from time.Time
	last atomic.Int64 // when a datagram passed, in nanoseconds since from

	once sync.Once
	err  error // of once
	ends []net.Conn
}

// flowFor takes a flow in, for which another may have to make way; nil if the relay is closed.
func (r *Relay) flowFor(port uint16, ends ...net.Conn) *flow {
	f := &flow{r: r, idle: r.cfg.FlowIdle, from: time.Now(), ends: ends}
	if port == dnsPort {
		f.idle = r.cfg.DNSIdle
	}
	r.mu.Lock()
	var oldest *flow
	if r.closed {
		r.mu.Unlock()
		f.end(ErrClosed)
		return nil
	}
	if len(r.flows) >= r.cfg.MaxFlows {
		for o := range r.flows {
			if oldest == nil || o.silentSince().Before(oldest.silentSince()) {
				oldest = o
			}
		}
		delete(r.flows, oldest)
	}
	r.flows[f] = struct{}{}
	r.mu.Unlock()
	if oldest != nil {
		r.flowsMade.Add(1)
		oldest.end(errMadeWay)
	}
	r.flowsAll.Add(1)
	return f
}

func (f *flow) silentSince() time.Time { return f.from.Add(time.Duration(f.last.Load())) }

func (f *flow) passed(c *counter, n int) {
	f.last.Store(int64(time.Since(f.from)))
	c.bytes.Add(uint64(n))
	c.datagrams.Add(1)
}

// end closes the flow's sockets. The first error counts.
func (f *flow) end(err error) {
	f.once.Do(func() {
		f.err = err
		for _, c := range f.ends {
			c.Close()
		}
	})
}

// forget takes the flow out, and returns why it ended.
func (f *flow) forget() error {
	f.end(nil)
	f.r.mu.Lock()
	defer f.r.mu.Unlock()
	delete(f.r.flows, f)
	return f.err
}

// read reads one datagram from c. It reports false when the flow is at an end.
func (f *flow) read(c net.Conn, b []byte) (n int, ok bool) {
	for {
		n, err := c.Read(b)
		switch {
		case err == nil:
			return n, true
		case !errors.Is(err, os.ErrDeadlineExceeded):
			f.end(err)
			return 0, false
		}
		if !f.patient(c) {
			f.end(nil) // it was idle: that is how flows end
			return 0, false
		}
	}
}

// patient sets the time at which the flow will have been idle for too long, and reports
// false if that has passed.
func (f *flow) patient(c net.Conn) bool {
	if f.idle < 0 {
		return true
	}
	at := f.silentSince().Add(f.idle)
	if !at.After(time.Now()) {
		return false
	}
	return c.SetReadDeadline(at) == nil
}

// copy sends the datagrams that come from one end to the other.
func (f *flow) copy(from, to net.Conn, c *counter) {
	b := make([]byte, maxDatagram)
	f.patient(from)
	for {
		n, ok := f.read(from, b)
		if !ok {
			return
		}
		f.passed(c, n)
		if _, err := to.Write(b[:n]); dead(err) {
			f.end(err)
			return
		}
	}
}

// dead reports whether an error of a datagram socket is of more than one datagram. One
// that is too long, or finds no room or no way, is lost like others on the way.
func dead(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, net.ErrClosed)
}

// JoinFlow copies datagrams between the connected sockets a and b until the flow has
// been idle for too long (nil), makes way for others, an end fails (syscall.ECONNREFUSED
// says that nobody is on its port), or ctx or the relay is at an end. It closes both.
func (r *Relay) JoinFlow(ctx context.Context, a, b net.Conn) error {
	f := r.flowFor(addrPort(b.RemoteAddr()).Port(), a, b)
	if f == nil {
		return ErrClosed
	}
	ctx, cancel := r.with(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { f.end(context.Cause(ctx)) })()
	var back sync.WaitGroup
	back.Go(func() { f.copy(b, a, &r.in) })
	f.copy(a, b, &r.out)
	back.Wait()
	return f.forget()
}

// UDP is a stack.ForwardConfig's handler that joins each flow with a socket that dial
// makes. When nobody is on the target's port, the client is told so.
func (r *Relay) UDP(dial Dialer) func(*stack.UDPRequest) {
	return func(q *stack.UDPRequest) {
		ctx, cancel := r.with(context.Background())
		defer cancel()
		out, err := dial(ctx, q.Tuple())
		if err != nil {
			r.failed.Add(1)
			r.log.Debug("relay: dial", "flow", q.Tuple(), "err", err)
			q.Reject(err)
			return
		}
		if err := r.JoinFlow(ctx, q.Conn(), out); errors.Is(err, syscall.ECONNREFUSED) {
			q.Reject(syscall.ECONNREFUSED)
		}
	}
}

// ServePacket joins the flows of datagrams that come to l, by who sends them, each with
// a socket that dial makes; it closes l in the end. It returns why it ended: net.ErrClosed if l
// was closed.
func (r *Relay) ServePacket(l net.PacketConn, dial Dialer) error {
	s := &packetServer{r: r, l: l, dial: dial, flows: map[netip.AddrPort]*packetFlow{}}
	stop := context.AfterFunc(r.ctx, func() { l.Close() })
	defer stop()
	defer s.wg.Wait()
	defer s.close()
	b := make([]byte, maxDatagram)
	for {
		n, from, err := l.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Of one datagram: on some systems an ICMP error for what was sent to
			// somebody else (WSAECONNRESET).
			if !r.pause(time.Millisecond) {
				return err
			}
			continue
		}
		if f := s.flow(from); f != nil {
			f.passed(&r.out, n)
			if _, err := f.out.Write(b[:n]); dead(err) {
				f.end(err)
			}
		}
	}
}

// packetServer is what ServePacket knows of its flows.
type packetServer struct {
	r    *Relay
	l    net.PacketConn
	dial Dialer
	wg   sync.WaitGroup

	mu    sync.Mutex
	flows map[netip.AddrPort]*packetFlow
}

type packetFlow struct {
	*flow
	out net.Conn
}

// flow is that of a client, a new one if there is none; nil if its dial failed.
func (s *packetServer) flow(from net.Addr) *packetFlow {
	client := addrPort(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flows[client]; f != nil {
		return f
	}
	out, err := s.dial(s.r.ctx, stack.FourTuple{Network: "udp", Src: client, Dst: addrPort(s.l.LocalAddr())})
	if err != nil {
		s.r.failed.Add(1)
		s.r.log.Debug("relay: dial", "client", client, "err", err)
		return nil
	}
	f := s.r.flowFor(addrPort(out.RemoteAddr()).Port(), out)
	if f == nil {
		return nil
	}
	pf := &packetFlow{f, out}
	s.flows[client] = pf
	s.wg.Go(func() {
		defer func() {
			s.mu.Lock()
			delete(s.flows, client)
			s.mu.Unlock()
			f.forget()
		}()
		b := make([]byte, maxDatagram)
		f.patient(out)
		for {
			n, ok := f.read(out, b)
			if !ok {
				return
			}
			f.passed(&s.r.in, n)
			if _, err := s.l.WriteTo(b[:n], from); errors.Is(err, net.ErrClosed) {
				f.end(err)
				return
			}
		}
	})
	return pf
}

func (s *packetServer) close() {
	s.l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.flows {
		f.end(net.ErrClosed)
	}
}
