package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/stack"
)

// Config describes a bridge.
type Config struct {
	Stack *stack.Stack
	Link  string       // of the stack, on which the programs are
	Peers []netip.Addr // the programs' addresses: published ports lead to the first of a family

	// Listening returns where TCP servers among the programs listen. If nil, that is not
	// known: nothing can be published by Auto, and no remedy be said for a server that
	// listens at its loopback interface alone.
	Listening func() ([]netip.AddrPort, error)

	// Tell is called with what the user should know: a port that leads nowhere, with the
	// remedy. It may be called from many goroutines. If nil, these are logged.
	Tell func(msg, remedy string)

	Logger *slog.Logger // nil: no logs
}

// Bridge is what joins a stack with the host. Close ends it.
type Bridge struct {
	cfg   Config
	relay *relay.Relay
	ctx   context.Context
	end   context.CancelFunc
	wg    sync.WaitGroup // servers of published ports, and who looks for new ones

	mu       sync.Mutex // guards what follows
	closed   bool
	outward  []*stack.Forwarder // egress, and what is closed
	forwards map[Forward]*stack.Forwarder
	told     map[string]bool // what Tell was called with
}

// New makes a bridge that leads nowhere yet. The caller must Close it, before the stack.
func New(cfg Config) *Bridge {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Bridge{cfg: cfg, relay: relay.New(relay.Config{Logger: cfg.Logger}), forwards: map[Forward]*stack.Forwarder{}, told: map[string]bool{}}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// Close ends every flow and waits for all goroutines. It may be called more than once.
func (b *Bridge) Close() error {
	b.mu.Lock()
	b.closed = true
	all := b.outward
	b.outward = nil
	for f, fw := range b.forwards {
		all = append(all, fw)
		delete(b.forwards, f)
	}
	b.mu.Unlock()
	b.end()
	b.relay.Close() // handlers return
	for _, f := range all {
		f.Close()
	}
	b.wg.Wait()
	return nil
}

// drainPoll is how often Drain looks.
const drainPoll = 5 * time.Millisecond

// Drain waits until every connection has ended, or ctx ends: what programs have sent
// that have ended themselves is still on its way.
func (b *Bridge) Drain(ctx context.Context) error {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for b.relay.Stats().Conns > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Stats says what has passed.
func (b *Bridge) Stats() relay.Stats { return b.relay.Stats() }

// Names of forwarders, as lookups show them.
const (
	nameEgress   = "egress"
	nameLoopback = "host-loopback"
	nameForward  = "forward"
	nameClosed   = "closed"
)

// Egress is where the programs may go.
type Egress struct {
	Rules    []stack.ForwardRule // none: nowhere
	Loopback []netip.Addr        // by which they reach the host's own loopback interface: at most one of each family
}

// Egress leads the programs' flows out. What is not open is answered with ICMP
// "administratively prohibited", so that all of their destinations may be routed to the
// stack. Closed too, unless a rule other than that of All covers them, are the host's
// own addresses; and, unless named, those that [relay.Host] says. It is called once.
func (b *Bridge) Egress(e Egress) error {
	host := b.host(e.Rules)
	echo := b.relay.Echo(&host.Host)
	if len(e.Rules) > 0 {
		if err := b.outwards(nameEgress, e.Rules, host.dial, func(q *stack.EchoRequest) {
			if host.closed(q.Dst) {
				q.Reject(syscall.EACCES)
				return
			}
			echo(q)
		}); err != nil {
			return err
		}
	}
	for _, a := range e.Loopback {
		home := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if a.Is6() {
			home = netip.IPv6Loopback()
		}
		dial := func(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
			return relay.To(&net.Dialer{}, netip.AddrPortFrom(home, t.Dst.Port()).String())(ctx, t)
		}
		if err := b.outwards(nameLoopback, []stack.ForwardRule{{Prefix: netip.PrefixFrom(a, a.BitLen())}}, dial, nil); err != nil {
			return err
		}
	}
	var rest []stack.ForwardRule
	for _, p := range everywhere {
		if !slices.ContainsFunc(e.Rules, func(r stack.ForwardRule) bool { return r.Prefix == p && r.PortHi == 0 }) {
			rest = append(rest, stack.ForwardRule{Prefix: p})
		}
	}
	if len(rest) == 0 {
		return nil
	}
	return b.add(func() (*stack.Forwarder, error) {
		return b.cfg.Stack.Forward(stack.ForwardConfig{
			Name: nameClosed, Rules: rest, Links: []string{b.cfg.Link},
			TCP:  func(q *stack.TCPRequest) { q.Reject(syscall.EACCES) },
			UDP:  func(q *stack.UDPRequest) { q.Reject(syscall.EACCES) },
			Echo: func(q *stack.EchoRequest) { q.Reject(syscall.EACCES) },
		})
	})
}

// outwards starts a forwarder of egress.
func (b *Bridge) outwards(name string, rules []stack.ForwardRule, dial relay.Dialer, echo func(*stack.EchoRequest)) error {
	return b.add(func() (*stack.Forwarder, error) {
		return b.cfg.Stack.Forward(stack.ForwardConfig{
			Name: name, Rules: rules, Links: []string{b.cfg.Link}, TCP: b.relay.TCP(dial), UDP: b.relay.UDP(dial), Echo: echo,
		})
	})
}

func (b *Bridge) add(start func() (*stack.Forwarder, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	f, err := start()
	if err == nil {
		b.outward = append(b.outward, f)
	}
	return err
}

// outside is the host as egress sees it.
type outside struct{ relay.Host }

func (b *Bridge) host(rules []stack.ForwardRule) *outside {
	o := &outside{}
	for _, r := range rules {
		if r.Prefix.Bits() > 0 {
			o.Open = append(o.Open, r.Prefix)
		}
	}
	return o
}

// dial is relay.Host's, with the host's own addresses closed.
func (o *outside) dial(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
	if o.closed(t.Dst.Addr()) {
		return nil, &net.OpError{Op: "dial", Net: t.Network, Err: &relay.ClosedError{Addr: t.Dst.Addr()}}
	}
	return o.Dial(ctx, t)
}

// closed reports whether an address is the host's own, and no rule names it.
func (o *outside) closed(a netip.Addr) bool {
	return !slices.ContainsFunc(o.Open, func(p netip.Prefix) bool { return p.Contains(a) }) && isOwn(a)
}

// isOwn reports whether an address is the host's own: then the way to it begins there.
// No packet is sent.
func isOwn(a netip.Addr) bool {
	c, err := net.Dial("udp", netip.AddrPortFrom(a, 9).String())
	if err != nil {
		return false // there is no way to it
	}
	defer c.Close()
	local, ok := c.LocalAddr().(*net.UDPAddr)
	return ok && local.AddrPort().Addr().Unmap() == a
}

// AddForward puts a service of the host on an address inside. The error wraps
// syscall.EEXIST if there is one at the same place, and syscall.EADDRINUSE if a socket
// of the stack listens there.
func (b *Bridge) AddForward(f Forward) error {
	if err := f.Validate(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return net.ErrClosed
	}
	for o := range b.forwards {
		if o.At == f.At && o.Network == f.Network {
			return fmt.Errorf("forward %s: %w: %s", f, syscall.EEXIST, o)
		}
	}
	if b.listens(f) {
		return fmt.Errorf("forward %s: a socket of the stack is on %s already: %w", f, f.At, syscall.EADDRINUSE)
	}
	dial := b.tellFailures(f.String(), relay.To(&net.Dialer{}, f.Target))
	cfg := stack.ForwardConfig{
		Name: nameForward, Links: []string{b.cfg.Link},
		Rules: []stack.ForwardRule{{Network: f.Network, Prefix: netip.PrefixFrom(f.At.Addr(), f.At.Addr().BitLen()), PortLo: f.At.Port(), PortHi: f.At.Port()}},
	}
	if f.Network == "tcp" {
		cfg.TCP = b.relay.TCP(dial)
	} else {
		cfg.UDP = b.relay.UDP(dial)
	}
	fw, err := b.cfg.Stack.Forward(cfg)
	if err != nil {
		return err
	}
	b.forwards[f] = fw
	return nil
}

// listens reports whether a socket of the stack waits where f would be.
func (b *Bridge) listens(f Forward) bool {
	for _, k := range b.cfg.Stack.Sockets() {
		on := k.Local.Addr().Unmap()
		if k.Local.Port() == f.At.Port() && k.Network == f.Network && (k.State == "LISTEN" || k.State == "UNCONN") && (on == f.At.Addr() || on.IsUnspecified() && on.Is4() == f.At.Addr().Is4()) {
			return true
		}
	}
	return false
}

// tellFailures says why a target cannot be reached, once for each reason.
func (b *Bridge) tellFailures(what string, dial relay.Dialer) relay.Dialer {
	return func(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
		c, err := dial(ctx, t)
		switch {
		case err == nil, ctx.Err() != nil:
		case errors.Is(err, syscall.ECONNREFUSED):
			b.tell(fmt.Sprintf("%s: %s", what, err), "is the server running, and does it listen on that address?")
		default:
			b.tell(fmt.Sprintf("%s: %s", what, err), "its clients are told the same; is the address right?")
		}
		return c, err
	}
}

// DelForward takes a forward away. Its target need not be given. Connections go on.
// The error wraps syscall.ENOENT if there is none.
func (b *Bridge) DelForward(f Forward) error {
	b.mu.Lock()
	var fw *stack.Forwarder
	for o := range b.forwards {
		if o.At == f.At && o.Network == cmp.Or(f.Network, "tcp") && (f.Target == "" || f.Target == o.Target) {
			fw = b.forwards[o]
			delete(b.forwards, o)
		}
	}
	b.mu.Unlock()
	if fw == nil {
		return fmt.Errorf("there is no forward %s: %w", f, syscall.ENOENT)
	}
	return fw.Close()
}

// Forwards returns the forwards, ordered by where they are.
func (b *Bridge) Forwards() []Forward {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Forward{}
	for f := range b.forwards {
		out = append(out, f)
	}
	slices.SortFunc(out, func(x, y Forward) int {
		return cmp.Or(x.At.Compare(y.At), strings.Compare(x.Network, y.Network))
	})
	return out
}

// tell says something, once.
func (b *Bridge) tell(msg, remedy string) {
	b.mu.Lock()
	known := b.told[msg] || len(b.told) >= maxTold
	b.told[msg] = true
	b.mu.Unlock()
	switch {
	case known:
	case b.cfg.Tell != nil:
		b.cfg.Tell(msg, remedy)
	default:
		b.cfg.Logger.Warn(msg, "remedy", remedy)
	}
}

// maxTold bounds what is told: reasons may have ports in them.
const maxTold = 1024

func portString(p uint16) string { return strconv.Itoa(int(p)) }
