package stack

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/catflap/catflap/internal/random"
	"github.com/catflap/catflap/stack/internal/clock"
	"github.com/catflap/catflap/stack/internal/mend"
	"github.com/catflap/catflap/stack/internal/peek"
	"github.com/catflap/catflap/stack/route"
)

// Link is a network interface: a name, the link endpoint behind it, and its
// addresses. The stack attaches to Endpoint and, on Close, closes it.
type Link struct {
	Name     string
	Endpoint stack.LinkEndpoint
	Addrs    []netip.Prefix
}

// Config describes a Stack. The zero value is a stack with a loopback interface
// and nothing else.
type Config struct {
	Links      []Link
	Rules      []Rule  // beside the three (IPv6: two) rules that every stack has
	Routes     []Route // beside those that follow from the addresses
	Forwarding bool    // forward packets that match unicast routes (net.ipv4.ip_forward)

	// NoGuards lets netstack see what it should not believe: ICMP "too big" messages
	// that quote nothing in flight (RFC 5927), or an MTU that no link has; and segments
	// of a connection that acknowledge what was never sent (RFC 9293 3.10.7.4) or far
	// too little (RFC 5961 5.2), or whose time stamp is older than the last (RFC 7323 5).
	// It also leaves netstack alone where segments are lost: with connections that wait
	// for an acknowledgment and have no timer running (RFC 6298 5.1), and with the time
	// stamps of what arrives a second time (RFC 7323 4.3).
	NoGuards bool

	TCP    TCPConfig
	MaxFDs int // sockets open at once; default 1048576, Linux's fs.nr_open

	// Clock and Rand make a run repeatable: timers and time stamps come from
	// Clock, initial sequence numbers, ports and secrets from Rand. If nil, the
	// system's clock and crypto/rand.
	Clock tcpip.Clock
	Rand  io.Reader

	Logger *slog.Logger // nil: no logs
}

// Stack is a running userspace TCP/IP stack. Its methods may be called at the
// same time from many goroutines.
type Stack struct {
	ns       *stack.Stack
	clock    *clock.Clock
	log      *slog.Logger
	tcp      *tcpProtocol
	lo       *link
	fwd      bool
	guards   *mend.Guards  // nil: there are none
	ackDelay time.Duration // TCPConfig.ACKDelay
	sys      Sys
	events   hub
	stalls   mend.StallGuard
	drops    dropCounters
	steer    atomic.Pointer[steering]

	forwarders atomic.Pointer[forwarders] // nil: none; replaced whole under forwarding
	forwarding sync.Mutex
	forwarded  []*Forwarder // those that have not ended; guarded by forwarding

	seed uint32 // of the choice within a SO_REUSEPORT group

	db atomic.Pointer[route.DB] // rules, tables and addresses; replaced whole under mu

	mu    sync.Mutex              // guards changes of links, addresses, rules and routes
	links atomic.Pointer[[]*link] // replaced whole under mu

	closed    atomic.Bool
	closeOnce sync.Once
	done      chan struct{} // closed when Close begins
	start     time.Time
}

// CheckNetstack says what of netstack is not as catflap knows it. It returns nil if all
// is; otherwise its text is a line for each thing that is missing, with what does not
// work without it. New logs that as a warning, and goes on without.
func CheckNetstack() error { return peek.Check() }

// New starts a stack. The caller must Close it.
func New(cfg Config) (*Stack, error) {
	if cfg.MaxFDs == 0 {
		cfg.MaxFDs = defaultMaxFDs
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if d := cfg.TCP.ACKDelay; d < 0 || d >= mend.MaxACKDelay {
		return nil, fmt.Errorf("stack: TCP.ACKDelay is %v: want less than %v (RFC 9293), or 0 for none", d, mend.MaxACKDelay)
	}
	if cfg.TCP.Processors < 0 {
		return nil, fmt.Errorf("stack: TCP.Processors is %d: want 1 or more, or 0 for half of GOMAXPROCS", cfg.TCP.Processors)
	}
	if err := CheckNetstack(); err != nil {
		for _, missing := range strings.Split(err.Error(), "\n") {
			cfg.Logger.Warn("netstack is not as catflap knows it", "missing", missing)
		}
	}
	s := &Stack{clock: clock.Of(cfg.Clock), log: cfg.Logger, fwd: cfg.Forwarding, ackDelay: cfg.TCP.ACKDelay, done: make(chan struct{})}
	s.start = s.clock.Now()
	s.links.Store(new([]*link))
	s.db.Store(route.New())
	s.sys.init(s, cfg.MaxFDs)
	s.events.init(s)
	cfg.TCP = cfg.TCP.withDefaults()

	opts := stack.Options{
		Clock: s.clock,
		// The routing policy database decides what is local; packets to local
		// addresses go through lo, as in Linux.
		HandleLocal: false,
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			// No duplicate address detection, no router solicitations, no
			// autoconfigured addresses: a TUN link has one neighbour.
			ipv6.NewProtocolWithOptions(ipv6.Options{}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			s.newTCP(cfg.TCP.Processors), s.newUDP, icmp.NewProtocol4, icmp.NewProtocol6,
		},
	}
	if cfg.Rand != nil {
		opts.SecureRNG = cfg.Rand
		seed := make([]byte, 8)
		if _, err := io.ReadFull(cfg.Rand, seed); err != nil {
			return nil, fmt.Errorf("stack: read seed: %w", err)
		}
		var n int64
		for _, b := range seed {
			n = n<<8 | int64(b)
		}
		opts.RandSource = random.NewSource(n)
	}
	s.ns = stack.New(opts)
	rng := s.ns.SecureRNG()
	s.seed = rng.Uint32()
	if !cfg.NoGuards {
		s.guards = mend.NewGuards(s.ns, s.clock)
		s.stalls.Init(s.ns, s.clock, s.ns.Stats().TCP.Retransmits)
	}
	if err := s.configure(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stack) configure(cfg Config) error {
	if err := cfg.TCP.check(s.ns); err != nil {
		return err
	}
	if err := cfg.TCP.apply(s.ns); err != nil {
		return fmt.Errorf("stack: TCP configuration: %s", err)
	}
	// Register before the first link is attached: attaching starts delivery.
	s.ns.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.handleICMPv4)
	s.ns.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.handleICMPv6)
	lo := Link{Name: route.Loopback, Endpoint: loopback.New(), Addrs: []netip.Prefix{
		netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128"),
	}}
	for _, l := range append([]Link{lo}, cfg.Links...) {
		if err := s.AddLink(l); err != nil {
			return err
		}
	}
	for _, r := range cfg.Rules {
		if err := s.AddRule(r); err != nil {
			return err
		}
	}
	for _, r := range cfg.Routes {
		if err := s.AddRoute(r); err != nil {
			return err
		}
	}
	if cfg.Forwarding {
		for _, f := range []Family{IPv4, IPv6} {
			if err := s.ns.SetForwardingDefaultAndAllNICs(netProto(f), true); err != nil {
				return fmt.Errorf("stack: %s forwarding: %s", f, err)
			}
		}
	}
	return nil
}

// AddLink attaches a link. The stack owns the endpoint from here on.
func (s *Stack) AddLink(cfg Link) error {
	if cfg.Name == "" || cfg.Endpoint == nil {
		return errors.New("stack: a link needs a name and an endpoint")
	}
	s.mu.Lock()
	if s.link(cfg.Name) != nil {
		s.mu.Unlock()
		return fmt.Errorf("stack: link %q: a link of this name exists", cfg.Name)
	}
	l := &link{s: s, id: s.ns.NextNICID(), name: cfg.Name, loopback: cfg.Endpoint.Capabilities()&stack.CapabilityLoopback != 0}
	l.Endpoint.Init(cfg.Endpoint, l)
	l.thin.Init(l)
	if s.ackDelay > 0 && !l.loopback && !s.fwd { // others' ACKs are not ours to delay
		l.delayed = mend.NewDelayedACKs(egress{l}, s.ns, s.clock, s.ackDelay)
	}
	if l.loopback && s.lo == nil {
		s.lo = l
	}
	links := append(slices.Clone(*s.links.Load()), l)
	s.links.Store(&links)
	s.mu.Unlock()

	if err := s.ns.CreateNICWithOptions(l.id, l, stack.NICOptions{Name: cfg.Name, QDisc: egress{l}}); err != nil {
		return fmt.Errorf("stack: link %q: %s", cfg.Name, err)
	}
	// The database is the judge of what is local, so netstack takes what it
	// lets through (promiscuous) and answers from the address that was asked
	// (spoofing). A router keeps netstack's own check: its forwarder depends on it.
	if err := s.ns.SetPromiscuousMode(l.id, !s.fwd); err != nil {
		return fmt.Errorf("stack: link %q: %s", cfg.Name, err)
	}
	if err := s.ns.SetSpoofing(l.id, true); err != nil {
		return fmt.Errorf("stack: link %q: %s", cfg.Name, err)
	}
	if err := s.change(func(db *route.DB) (*route.DB, error) { return db.AddDevice(l.name, l.loopback) }); err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	for _, a := range cfg.Addrs {
		if err := s.AddAddr(cfg.Name, a); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stack) link(name string) *link {
	for _, l := range *s.links.Load() {
		if l.name == name {
			return l
		}
	}
	return nil
}

// Done is closed when Close begins.
func (s *Stack) Done() <-chan struct{} { return s.done }

// Close stops the stack: blocked calls return, connections are reset, links are
// detached and closed, and all goroutines of the stack have ended when it returns.
// It is safe to call more than once and under load.
func (s *Stack) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.done)
		s.sys.closeAll()
		s.closeForwarders()
		s.events.Close()
		s.stalls.Close()
		for _, l := range *s.links.Load() {
			if l.delayed != nil {
				l.delayed.Close()
			}
		}
		// First no more packets come in, then the transports end, then the
		// links' own goroutines.
		s.ns.Close()
		for _, l := range *s.links.Load() {
			l.Endpoint.Attach(nil)
			l.Endpoint.Close()
			l.thin.Close()
		}
		s.ns.Wait()
		s.clock.Close()
	})
	return nil
}

// Quiesce waits until TCP has processed every segment that has arrived so far.
// With a manual clock it makes a run repeatable: after it nothing moves until the
// next packet, call or tick.
func (s *Stack) Quiesce() {
	s.events.looking.Lock()
	defer s.events.looking.Unlock()
	s.tcp.quiesce()
}

func (s *Stack) newUDP(ns *stack.Stack) stack.TransportProtocol {
	return &udpProtocol{TransportProtocol: udp.NewProtocol(ns), s: s}
}
