package relay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/catflap/catflap/stack"
)

// Config sets a relay's limits. Zero values mean the defaults named beside the fields;
// of the times, negative ones mean none.
type Config struct {
	// Idle is how long a connection may carry nothing; default 2 h 4 min, the least that
	// RFC 5382 REQ-5 allows a NAT. Peers that are dead are found by keep-alive probes long before.
	Idle time.Duration

	FlowIdle time.Duration // how long a flow of datagrams may carry nothing; default 2 min (RFC 4787 REQ-5)
	DNSIdle  time.Duration // the same of flows to port 53, which are mostly one question; default 30 s

	// MaxConns is how many connections are joined at once; default 16384, which with two
	// fds each is half of what Linux gives a service (1048576 fds are its most, 65536 a common limit).
	// Further ones are not answered.
	MaxConns int

	// MaxFlows is how many flows of datagrams there are at once; default 1024: each holds two
	// buffers of 64 KiB, the longest datagram. One more ends the flow that has been silent longest.
	MaxFlows int

	Logger *slog.Logger // nil: no logs
}

// Defaults of a Config.
const (
	DefaultIdle     = 2*time.Hour + 4*time.Minute
	DefaultFlowIdle = 2 * time.Minute
	DefaultDNSIdle  = 30 * time.Second
	DefaultMaxConns = 16384
	DefaultMaxFlows = 1024
)

// Dialer makes the other side's connection for a flow: "tcp" or "udp" to t.Dst, for
// t.Src. Its error is what the client is told: see stack.TCPRequest.Reject.
type Dialer func(ctx context.Context, t stack.FourTuple) (net.Conn, error)

// Stats count what a relay did.
type Stats struct {
	Conns     int    `json:"conns"`      // joined now
	ConnsAll  uint64 `json:"conns_all"`  // joined so far
	ConnsFull uint64 `json:"conns_full"` // not answered: MaxConns
	Failed    uint64 `json:"failed"`     // whose dial failed
	Resets    uint64 `json:"resets"`     // that a reset ended
	Idled     uint64 `json:"idled"`      // that were idle for too long

	Flows        int    `json:"flows"`
	FlowsAll     uint64 `json:"flows_all"`
	FlowsMade    uint64 `json:"flows_made_way"` // ended for others: MaxFlows
	Out          Count  `json:"out"`            // from the client on
	In           Count  `json:"in"`             // back to it
	Echoes       uint64 `json:"echoes"`         // echo replies
	EchoesLost   uint64 `json:"echoes_lost"`    // echo requests that nobody answered
	EchoesBarred uint64 `json:"echoes_barred"`  // echo requests that could not be sent: no ping socket
}

// Count is what has passed.
type Count struct {
	Bytes     uint64 `json:"bytes"` // of connections and datagrams
	Datagrams uint64 `json:"datagrams"`
}

// Relay joins connections. Its methods may be called from many goroutines.
type Relay struct {
	cfg Config
	log *slog.Logger
	ctx context.Context
	end context.CancelCauseFunc
	wg  sync.WaitGroup // joins, flows, dials

	connsAll, connsFull, failed, resets, idled, flowsAll, flowsMade, echoes, echoesLost, echoesBarred atomic.Uint64

	out, in counter

	mu     sync.Mutex // guards what follows
	closed bool
	joins  map[*join]struct{}
	flows  map[*flow]struct{}
}

type counter struct{ bytes, datagrams atomic.Uint64 }

func (c *counter) count() Count { return Count{c.bytes.Load(), c.datagrams.Load()} }

// ErrClosed is why a relay that was closed ends what it has joined.
var ErrClosed = errors.New("relay: closed")

// New returns a relay. The caller must Close it.
func New(cfg Config) *Relay {
	cfg.Idle = cmp.Or(cfg.Idle, DefaultIdle)
	cfg.FlowIdle = cmp.Or(cfg.FlowIdle, DefaultFlowIdle)
	cfg.DNSIdle = cmp.Or(cfg.DNSIdle, DefaultDNSIdle)
	cfg.MaxConns = cmp.Or(cfg.MaxConns, DefaultMaxConns)
	cfg.MaxFlows = cmp.Or(cfg.MaxFlows, DefaultMaxFlows)
	r := &Relay{cfg: cfg, log: cfg.Logger, joins: map[*join]struct{}{}, flows: map[*flow]struct{}{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.ctx, r.end = context.WithCancelCause(context.Background())
	return r
}

// Close resets every connection, ends every flow and dial, and waits for all
// goroutines. It may be called more than once.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end(ErrClosed)
	r.wg.Wait()
	return nil
}

// start runs f in a goroutine that Close waits for; false if the relay is closed.
func (r *Relay) start(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.wg.Go(f)
	return true
}

// with is a context that ends with either.
func (r *Relay) with(ctx context.Context) (context.Context, context.CancelFunc) {
	c, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.ctx, func() { cancel(ErrClosed) })
	return c, func() { stop(); cancel(nil) }
}

// Stats returns what the relay did so far.
func (r *Relay) Stats() Stats {
	r.mu.Lock()
	conns, flows := len(r.joins), len(r.flows)
	r.mu.Unlock()
	return Stats{
		Conns: conns, ConnsAll: r.connsAll.Load(), ConnsFull: r.connsFull.Load(), Failed: r.failed.Load(), Resets: r.resets.Load(), Idled: r.idled.Load(),
		Flows: flows, FlowsAll: r.flowsAll.Load(), FlowsMade: r.flowsMade.Load(), Out: r.out.count(), In: r.in.count(),
		Echoes: r.echoes.Load(), EchoesLost: r.echoesLost.Load(), EchoesBarred: r.echoesBarred.Load(),
	}
}

// full reports whether there is no room for a connection, and counts that.
func (r *Relay) full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.joins) < r.cfg.MaxConns {
		return false
	}
	r.connsFull.Add(1)
	return true
}

// TCP is a stack.ForwardConfig's handler that joins each connection with one that dial
// makes. The connection goes on when the forwarder has closed, until the relay closes.
func (r *Relay) TCP(dial Dialer) func(*stack.TCPRequest) {
	return func(q *stack.TCPRequest) {
		if r.full() {
			return
		}
		out, err := r.dial(q.Context(), dial, q.Tuple())
		if err != nil {
			q.Reject(err)
			return
		}
		in, err := q.Accept()
		if err != nil {
			r.log.Debug("relay: the client has not finished its handshake", "flow", q.Tuple(), "err", err)
			reset(out)
			return
		}
		if !r.start(func() { r.Join(r.ctx, in, out) }) {
			reset(in)
			reset(out)
		}
	}
}

// dial makes a stream connection.
func (r *Relay) dial(ctx context.Context, dial Dialer, t stack.FourTuple) (Conn, error) {
	ctx, cancel := r.with(ctx)
	defer cancel()
	c, err := dial(ctx, t)
	if err != nil {
		r.failed.Add(1)
		r.log.Debug("relay: dial", "flow", t, "err", err)
		return nil, err
	}
	out, ok := c.(Conn)
	if !ok {
		c.Close()
		r.failed.Add(1)
		return nil, syscall.EPROTOTYPE // the dialer's mistake: no stream
	}
	return out, nil
}

// Serve accepts the connections of l, which it closes in the end, and joins each with
// one that dial makes. A client whose dial fails is reset, since the listener has
// accepted it before. It returns why it ended: net.ErrClosed if l was closed.
func (r *Relay) Serve(l net.Listener, dial Dialer) error {
	stop := context.AfterFunc(r.ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	for {
		c, err := l.Accept()
		if err != nil {
			if temporary(err) && r.pause(acceptPause) {
				continue
			}
			return err
		}
		Tune(c)
		in, ok := c.(Conn)
		if !ok || r.full() || !r.start(func() { r.serve(in, dial) }) {
			resetConn(c)
		}
	}
}

// acceptPause is how long Serve waits when the process has no fd left, as net/http does
// at most.
const acceptPause = time.Second

// temporary reports whether accept may succeed later: the process or the system is out of fds or memory.
func temporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// pause waits, and reports false if the relay closes.
func (r *Relay) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// serve dials for a connection that was accepted. What the client sends meanwhile waits
// in one buffer, so that its reset is seen.
func (r *Relay) serve(in Conn, dial Dialer) {
	t := stack.FourTuple{Network: "tcp", Src: addrPort(in.RemoteAddr()), Dst: addrPort(in.LocalAddr())}
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	early := readEarly(in, func(err error) { cancel(err) })
	out, err := r.dial(ctx, dial, t)
	first, gone := early.stop()
	switch {
	case err != nil:
		reset(in)
	case gone != nil:
		reset(in)
		reset(out)
	default:
		r.Join(r.ctx, &primed{Conn: in, first: first}, out)
	}
}
