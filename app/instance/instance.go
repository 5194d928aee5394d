// Package instance ties a running catflap together: a link, the userspace stack
// on it, the cat server on the stack, and the control socket. It is where tun and
// stack, which do not know each other, meet.
package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"sync"
	"time"

	"github.com/catflap/catflap/app/cats"
	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/dashboard"
	"github.com/catflap/catflap/app/names"
	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// Defaults of a Config, as the command line documents them.
const (
	DefaultPort  = 80
	DefaultDrain = 5 * time.Second
)

// DefaultAddrs are the stack's addresses, and DefaultHostAddrs those of the other
// end of the link.
var (
	DefaultAddrs     = []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24"), netip.MustParsePrefix("fd00:9::2/64")}
	DefaultHostAddrs = []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:9::1/64")}
)

// Config describes an instance.
type Config struct {
	Addrs []netip.Prefix  // the stack's; if empty, DefaultAddrs
	Peers []netip.Addr    // hosts at the other end of the link: the default routes lead to the first of each family
	TCP   stack.TCPConfig // Start has ACKs wait for 10 ms by default
	Netem Netem

	// Names has Start serve a resolver on port 53 of every address of the stack, whose own names rules may
	// name too. If nil there is none.
	Names *names.Config

	Dev string // the name of the server's link in a Pair; if empty, cat0

	// Listening and Tell are bridge.Config's.
	Listening func() ([]netip.AddrPort, error)
	Tell      func(msg, remedy string)

	// Outward says that the stack is to have packets to all destinations. Servers listen
	// on each of Addrs then, and not on any address, which would be everybody's.
	Outward bool

	// AdaptProcs has the instance set GOMAXPROCS, between 1 and what it was, by how
	// long goroutines wait. It is for a process that is nothing but catflap.
	AdaptProcs bool

	Logger *slog.Logger // if nil, nothing is logged
}

// Instance is a running stack with its cat server. Close releases everything.
type Instance struct {
	name    string      // of the link
	dev     *tun.Device // nil if it is in memory
	netem   *impair.Link
	record  *recording // nil if nothing is recorded
	procs   *procs     // nil: GOMAXPROCS stays as it is
	stack   *stack.Stack
	bridge  *bridge.Bridge
	server  *cats.Server
	control *control.Server
	board   *dashboard.Server // nil if there is none
	names   *names.Server     // nil if there is none
	cfg     Config
	log     *slog.Logger

	serving sync.WaitGroup
	failed  chan error // capacity 1: why the instance cannot go on
	quit    chan struct{}
	close   func() error
}

// ackDelay is longer than an application on a machine that is not overloaded needs for
// its answer, and a quarter of Linux's TCP_DELACK_MIN: it is what a client loses who
// writes twice, with Nagle's algorithm, before he reads.
const ackDelay = 10 * time.Millisecond

// Start makes an instance on dev, which it closes on Close, and on error.
func Start(cfg Config, dev *tun.Device) (*Instance, error) {
	if cfg.TCP.ACKDelay == 0 {
		cfg.TCP.ACKDelay = ackDelay
	}
	// The kernel at the other end verifies checksums by itself.
	link := impair.Config{PeerVerifies: true, Logger: cfg.Logger}
	var resolver *names.Server
	if cfg.Names != nil {
		resolver = names.New(*cfg.Names)
		link.Names = resolver.Lookup
	}
	netem := impair.New(dev.Endpoint(), link)
	i, err := start(cfg, dev.Name(), netem)
	if err != nil {
		dev.Close()
		return nil, err
	}
	i.dev, i.names = dev, resolver
	if cfg.AdaptProcs {
		i.procs = startProcs()
	}
	i.serving.Go(func() {
		select {
		case <-dev.Done():
			i.fail(fmt.Errorf("device %s: %w", dev.Name(), dev.Err()))
		case <-i.quit:
		}
	})
	if err := i.resolve(); err != nil {
		i.Close()
		return nil, err
	}
	return i, nil
}

func start(cfg Config, dev string, netem *impair.Link) (*Instance, error) {
	if len(cfg.Addrs) == 0 {
		cfg.Addrs = DefaultAddrs
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	stack.LogNetstack(cfg.Logger)
	record, err := cfg.Netem.apply(netem)
	if err != nil {
		netem.Close()
		return nil, err
	}
	s, err := stack.New(stack.Config{
		Links:  []stack.Link{{Name: dev, Endpoint: netem, Addrs: cfg.Addrs}},
		Routes: defaultRoutes(dev, cfg.Peers),
		TCP:    cfg.TCP,
		Logger: cfg.Logger,
	})
	if err != nil {
		record.Close()
		netem.Close()
		return nil, err
	}
	tell(s, dev, netem)
	b := bridge.New(bridge.Config{Stack: s, Link: dev, Peers: cfg.Peers, Listening: cfg.Listening, Tell: cfg.Tell, Logger: cfg.Logger})
	i := &Instance{name: dev, stack: s, bridge: b, netem: netem, record: record, cfg: cfg, log: cfg.Logger, failed: make(chan error, 1), quit: make(chan struct{})}
	i.close = sync.OnceValue(i.shut)
	return i, nil
}

// resolve has the resolver answer at every address of the stack, at each by a socket of its own, so that an
// answer comes from where it was asked for.
func (i *Instance) resolve() error {
	if i.names == nil {
		return nil
	}
	serve := func(f func() error) {
		i.serving.Go(func() {
			if err := f(); !errors.Is(err, net.ErrClosed) {
				i.fail(fmt.Errorf("resolver: %w", err))
			}
		})
	}
	for _, p := range i.cfg.Addrs {
		at := netip.AddrPortFrom(p.Addr(), 53).String()
		pc, err := i.stack.ListenPacket("udp", at)
		if err != nil {
			return fmt.Errorf("resolver: %w", err)
		}
		serve(func() error { return i.names.ServePacket(pc) })
		l, err := i.stack.Listen("tcp", at)
		if err != nil {
			return fmt.Errorf("resolver: %w", err)
		}
		serve(func() error { return i.names.Serve(l) })
	}
	return nil
}

func defaultRoutes(dev string, peers []netip.Addr) (routes []stack.Route) {
	seen := map[bool]bool{}
	for _, p := range peers {
		if v6 := p.Is6(); !seen[v6] {
			seen[v6] = true
			any := netip.IPv4Unspecified()
			if v6 {
				any = netip.IPv6Unspecified()
			}
			routes = append(routes, stack.Route{Dst: netip.PrefixFrom(any, 0), Gateway: p, Dev: dev, Protocol: stack.ProtoStatic})
		}
	}
	return routes
}

// Control opens the control socket at path. version is catflap's, for those who ask.
func (i *Instance) Control(path, version string) error {
	info := control.Info{Version: version, PID: os.Getpid(), Command: filepath.Base(os.Args[0]), Addrs: i.cfg.Addrs, Started: time.Now()}
	if u, err := user.Current(); err == nil {
		info.User = u.Username
	}
	if i.dev != nil {
		info.Dev, info.Driver, info.MTU = i.dev.Name(), i.dev.Driver().String(), i.dev.MTU()
		info.Offloads = i.dev.Offloads().String()
	}
	var err error
	i.control, err = control.Serve(path, control.Parts{Stack: i.stack, Netem: i.netem, Bridge: i.bridge}, info, i.log)
	return err
}

// listening is where a server on a port of every address of the stack listens: IPv4 and
// IPv6 each with a listener of its own, as most servers on Linux have; or see Outward.
func (i *Instance) listening(port uint16) (at []netip.AddrPort) {
	if !i.cfg.Outward {
		return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)}
	}
	for _, a := range addrsOf(i.cfg.Addrs) {
		at = append(at, netip.AddrPortFrom(a, port))
	}
	return at
}

// networkOf is "tcp4" or "tcp6".
func networkOf(at netip.AddrPort) string {
	if at.Addr().Is4() {
		return "tcp4"
	}
	return "tcp6"
}

// Serve starts the cat server on a port of every address of the stack.
func (i *Instance) Serve(port uint16) error {
	i.server = cats.NewServer(cats.Config{Logger: i.log, ConnInfo: connInfo})
	for _, at := range i.listening(port) {
		l, err := i.stack.Listen(networkOf(at), at.String())
		if err != nil {
			return fmt.Errorf("cat server: %w", err)
		}
		i.serving.Go(func() {
			if err := i.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				i.fail(fmt.Errorf("cat server: %w", err))
			}
		})
	}
	i.Ready()
	return nil
}

// Ready is to be called in the place of Serve where there is to be no cat server.
func (i *Instance) Ready() {
	if i.board != nil {
		i.board.Ready()
	}
}

// connInfo is what /conn answers: the socket as the stack sees it.
func connInfo(c net.Conn) any {
	if c, ok := c.(*stack.TCPConn); ok {
		return c.Info()
	}
	return nil
}

func (i *Instance) fail(err error) {
	select {
	case i.failed <- err:
	default:
	}
}

// Stack returns the instance's stack.
func (i *Instance) Stack() *stack.Stack { return i.stack }

// Bridge returns what joins the stack with the host.
func (i *Instance) Bridge() *bridge.Bridge { return i.bridge }

// Netem returns the layer that impairs the instance's link.
func (i *Instance) Netem() *impair.Link { return i.netem }

// Failed yields why the instance cannot go on: its device is gone, or its server failed.
func (i *Instance) Failed() <-chan error { return i.failed }

// Drain stops accepting connections and waits until running requests are answered
// and the clients have acknowledged the answers, or ctx ends.
func (i *Instance) Drain(ctx context.Context) error {
	if i.server == nil {
		return nil
	}
	if err := i.server.Shutdown(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(flushPoll)
	defer tick.Stop()
	for i.unacknowledged() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// flushPoll is how often Drain looks whether all answers have arrived.
const flushPoll = 5 * time.Millisecond

// unacknowledged reports whether a closed connection still waits for the ACK of
// its FIN, and so perhaps of data before it, which closing the stack would cut off.
func (i *Instance) unacknowledged() bool {
	for _, k := range i.stack.Sockets() {
		switch k.State {
		case "FIN-WAIT-1", "CLOSING", "LAST-ACK":
			return true
		}
	}
	return false
}

// Close ends the instance at once: control socket, dashboard, server, resolver, bridge, stack, link, device, in this
// order. It waits for every goroutine.
func (i *Instance) Close() error { return i.close() }

func (i *Instance) shut() error {
	close(i.quit)
	var errs []error
	if i.control != nil {
		errs = append(errs, i.control.Close())
	}
	if i.board != nil {
		errs = append(errs, i.board.Close())
	}
	if i.server != nil {
		errs = append(errs, i.server.Close())
	}
	if i.names != nil {
		errs = append(errs, i.names.Close())
	}
	i.bridge.Close()
	errs = append(errs, i.stack.Close())
	i.netem.Close()
	if err := i.record.Close(); err != nil {
		i.log.Error("what was done to the packets is not recorded whole", "err", err)
		errs = append(errs, err)
	}
	if i.dev != nil {
		errs = append(errs, i.dev.Close())
	}
	i.serving.Wait()
	if i.procs != nil {
		i.procs.stop()
	}
	return errors.Join(errs...)
}
