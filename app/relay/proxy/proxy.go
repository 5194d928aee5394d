// Package proxy puts a link between a port of the host and a server of the host: a
// connection to the port goes through a userspace stack, an impaired in-memory link and a
// second stack to the server. It needs no device and no privilege, on any system.
//
//	client → host socket → stack ≈ link ≈ stack → host socket → server
//
// What the link does to packets, the stacks do with real TCP: what is lost is sent
// again, what is late fills windows. The errors are those of a plain network: a server
// that refuses has the client's connection reset, since the port has accepted it before.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// Config describes a proxy.
type Config struct {
	Spec
	Netem  instance.Netem
	TCP    stack.TCPConfig
	MTU    int // of the link, bytes; default tun.DefaultMTU
	Relay  relay.Config
	Logger *slog.Logger // nil: no logs

	// Failed, if not nil, is told of each dial of the server that failed.
	Failed func(error)

	// Wrap, if not nil, is given each connection of the host, the accepted and the
	// dialled, and returns what is joined in its place.
	Wrap func(accepted bool, c relay.Conn) relay.Conn
}

// Proxy is a port of the host, and the way from there to a server.
type Proxy struct {
	cfg  Config
	pair *instance.Pair
	far  *relay.Relay // from the second stack to the server; the first is near
	fwd  *stack.Forwarder

	mu     sync.Mutex
	near   *relay.Relay // nil: the proxy is off
	addr   net.Addr
	target string
	wg     sync.WaitGroup // who accepts
}

// farAddr is where the second stack of every proxy is.
var farAddr = instance.DefaultAddrs[0].Addr()

// Start starts a proxy, which listens when it returns. The caller must Close it.
func Start(cfg Config) (*Proxy, error) {
	if err := cfg.Spec.Validate(); err != nil {
		return nil, err
	}
	cfg.MTU = cmp.Or(cfg.MTU, tun.DefaultMTU)
	cfg.Relay.Logger = cfg.Logger
	p := &Proxy{cfg: cfg, target: cfg.Target}
	var err error
	p.pair, err = instance.StartPair(instance.Config{
		Addrs: instance.DefaultAddrs, TCP: cfg.TCP, Netem: cfg.Netem, Dev: cfg.Name, Logger: cfg.Logger,
	}, instance.DefaultHostAddrs, cfg.MTU)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", cfg.Name, err)
	}
	p.far = relay.New(cfg.Relay)
	p.fwd, err = p.pair.Server.Stack().Forward(stack.ForwardConfig{
		Name:  cfg.Name,
		Rules: []stack.ForwardRule{{Network: cfg.Network, Prefix: netip.PrefixFrom(farAddr, farAddr.BitLen())}},
		TCP:   p.far.TCP(p.dial), UDP: p.far.UDP(p.dial),
	})
	if err == nil {
		err = p.Enable()
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("proxy %s: %w", cfg.Name, err)
	}
	return p, nil
}

// dial dials the server.
func (p *Proxy) dial(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	var d net.Dialer
	c, err := relay.To(&d, target)(ctx, t)
	if err != nil {
		if p.cfg.Failed != nil && ctx.Err() == nil {
			p.cfg.Failed(err)
		}
		return nil, err
	}
	return p.wrap(false, c), nil
}

func (p *Proxy) wrap(accepted bool, c net.Conn) net.Conn {
	if rc, ok := c.(relay.Conn); ok && p.cfg.Wrap != nil {
		return p.cfg.Wrap(accepted, rc)
	}
	return c
}

// cross dials over the link.
func (p *Proxy) cross(ctx context.Context, t stack.FourTuple) (net.Conn, error) {
	return p.pair.Client.DialContext(ctx, t.Network, netip.AddrPortFrom(farAddr, p.port()).String())
}

// port is the server's port, by which a connection is known on the link, too.
func (p *Proxy) port() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, port, _ := net.SplitHostPort(p.target) // Validate has
	n, err := net.LookupPort(p.cfg.Network, port)
	if err != nil {
		return 1
	}
	return uint16(n)
}

// Enable has a proxy that is off listen again, where it did.
func (p *Proxy) Enable() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.near != nil {
		return nil
	}
	address := p.cfg.Listen
	if p.addr != nil {
		address = p.addr.String() // port 0 was chosen once
	}
	near := relay.New(p.cfg.Relay)
	if p.cfg.Network == "udp" {
		l, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		p.addr = l.LocalAddr()
		p.wg.Go(func() { p.ended(near.ServePacket(l, p.cross)) })
	} else {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		p.addr = l.Addr()
		p.wg.Go(func() { p.ended(near.Serve(&listener{l, p}, p.cross)) })
	}
	p.near = near
	return nil
}

// listener hands out connections that are wrapped.
type listener struct {
	net.Listener
	p *Proxy
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.p.wrap(true, c), nil
}

func (p *Proxy) ended(err error) {
	if p.cfg.Logger != nil && !errors.Is(err, net.ErrClosed) {
		p.cfg.Logger.Error("the proxy accepts no more", "proxy", p.cfg.Name, "err", err)
	}
}

// Disable has the proxy listen no more, and resets its connections.
func (p *Proxy) Disable() {
	p.mu.Lock()
	near := p.near
	p.near = nil
	p.mu.Unlock()
	if near != nil {
		near.Close()
		p.wg.Wait()
	}
}

// Enabled reports whether the proxy listens.
func (p *Proxy) Enabled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.near != nil
}

// Name returns the proxy's name.
func (p *Proxy) Name() string { return p.cfg.Name }

// Addr is where it listens, or did.
func (p *Proxy) Addr() net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.addr
}

// Target is where it leads, HOST:PORT.
func (p *Proxy) Target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Network is "tcp" or "udp".
func (p *Proxy) Network() string { return p.cfg.Network }

// Instance is the second stack's, with the link and what impairs it.
func (p *Proxy) Instance() *instance.Instance { return p.pair.Server }

// Stats are what came from clients, and what went to the server.
func (p *Proxy) Stats() (near, far relay.Stats) {
	p.mu.Lock()
	n := p.near
	p.mu.Unlock()
	if n != nil {
		near = n.Stats()
	}
	return near, p.far.Stats()
}

// Close ends the proxy and resets its connections. It waits for every goroutine.
func (p *Proxy) Close() error {
	p.Disable()
	if p.fwd != nil {
		p.fwd.Close()
	}
	p.far.Close()
	return p.pair.Close()
}

// Spec says what a proxy is: NAME=LISTEN=TARGET[/tcp|/udp].
type Spec struct {
	Name    string
	Network string // "tcp" or "udp"
	Listen  string // HOST:PORT of this host; port 0: any that is free
	Target  string // HOST:PORT
}

// SpecError says which word of a Spec makes no sense.
type SpecError struct{ Word, Reason, Remedy string }

func (e *SpecError) Error() string { return fmt.Sprintf("%q: %s", e.Word, e.Reason) }

// Validate returns a *SpecError for the first word that makes no sense.
func (s Spec) Validate() error {
	switch {
	case s.Name == "":
		return &SpecError{s.Name, "a proxy needs a name", "NAME=LISTEN=TARGET, such as pg=127.0.0.1:15432=127.0.0.1:5432"}
	case len(s.Name) > maxName:
		return &SpecError{s.Name, fmt.Sprintf("a name of %d bytes is too long; the most is %d", len(s.Name), maxName), "give it a shorter one"}
	case !plainName(s.Name):
		return &SpecError{s.Name, "a name is made of letters, digits, '-', '_' and '.', and does not begin with '.'", "it names the proxy's control socket too"}
	case s.Network != "tcp" && s.Network != "udp":
		return &SpecError{s.Network, "want tcp or udp", "write /tcp or /udp behind the target; without, it is tcp"}
	}
	if err := hostPort(s.Listen, s.Network, true); err != nil {
		return &SpecError{s.Listen, "where to listen: " + err.Error(), "HOST:PORT of this machine, such as 127.0.0.1:15432; port 0 is any that is free"}
	}
	if err := hostPort(s.Target, s.Network, false); err != nil {
		return &SpecError{s.Target, "where to lead: " + err.Error(), "HOST:PORT of the server, such as 127.0.0.1:5432"}
	}
	return nil
}

// maxName leaves room for a control socket's path, of at most 103 bytes.
const maxName = 48

func plainName(s string) bool {
	for i, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.' && i > 0:
		default:
			return false
		}
	}
	return true
}

// hostPort checks an address; the host may be empty, for any or this host.
func hostPort(s, network string, zero bool) error {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) {
			return errors.New(ae.Err)
		}
		return err
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > 65535) {
		return fmt.Errorf("port %s: out of range; the range is 1..65535", port)
	}
	n, err := net.LookupPort(network, port)
	if err != nil || port == "" {
		return fmt.Errorf("port %q: no such service", port)
	}
	if n == 0 && !zero {
		return errors.New("port 0: out of range; the range is 1..65535")
	}
	return nil
}
