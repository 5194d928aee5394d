package stack

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/stack/route"
)

// ForwardRule names the destinations of new flows that a forwarder takes.
type ForwardRule struct {
	Network string       `json:"network,omitempty"` // "tcp", "udp", "icmp" (echo requests); "": each of which the forwarder has a handler
	Prefix  netip.Prefix `json:"prefix"`
	PortLo  uint16       `json:"port_lo,omitempty"` // 0 with PortHi 0: all ports
	PortHi  uint16       `json:"port_hi,omitempty"` // inclusive
}

// String writes the rule as lookups show it: "tcp 192.0.2.0/24 443".
func (r ForwardRule) String() string {
	s := r.Prefix.String()
	if r.Prefix.IsSingleIP() {
		s = r.Prefix.Addr().String()
	}
	if r.Network != "" {
		s = r.Network + " " + s
	}
	switch {
	case r.PortHi == 0:
	case r.PortLo == r.PortHi:
		s += " " + portString(r.PortLo)
	default:
		s += " " + portString(r.PortLo) + "-" + portString(r.PortHi)
	}
	return s
}

func (r ForwardRule) validate() error {
	switch {
	case r.Network != "" && r.Network != "tcp" && r.Network != "udp" && r.Network != "icmp":
		return fmt.Errorf("network %q: want tcp, udp, icmp, or nothing for all", r.Network)
	case !r.Prefix.IsValid():
		return errors.New("no prefix")
	case r.Prefix.Addr().Is4In6():
		return fmt.Errorf("prefix %s is IPv4 in IPv6: write it as IPv4", r.Prefix)
	case r.Prefix != r.Prefix.Masked():
		return fmt.Errorf("prefix %s has host bits; the prefix is %s", r.Prefix, r.Prefix.Masked())
	case r.PortHi == 0 && r.PortLo == 0:
	case r.Network == "icmp":
		return errors.New("icmp has no ports")
	case r.PortLo == 0 || r.PortHi < r.PortLo:
		return fmt.Errorf("ports %d-%d: want 1 to 65535, the lower first", r.PortLo, r.PortHi)
	}
	return nil
}

func (r ForwardRule) covers(network string, dst netip.AddrPort) bool {
	return (r.Network == "" || r.Network == network) && r.Prefix.Contains(dst.Addr()) &&
		(r.PortHi == 0 || network != "icmp" && r.PortLo <= dst.Port() && dst.Port() <= r.PortHi)
}

// width orders rules by how much they cover: the longer prefix, then the narrower
// port range is the more specific rule.
func (r ForwardRule) width() int {
	ports := math.MaxUint16
	if r.PortHi != 0 {
		ports = int(r.PortHi - r.PortLo)
	}
	return (r.Prefix.Addr().BitLen()-r.Prefix.Bits())<<16 | ports
}

// ForwardConfig describes a forwarder: see [Stack.Forward]. At least one handler is
// needed; what has none is treated as if there were no forwarder. Each call of a
// handler has a goroutine of its own, and Close waits for it.
type ForwardConfig struct {
	Name  string // for those who look: "egress"
	Rules []ForwardRule

	// Links are links on which packets to the rules' prefixes are taken in though
	// the stack does not have these addresses: while the forwarder is open, a rule of
	// the routing policy database for each of them leads to a table of local routes.
	// Without, the forwarder sees what the database calls local: the stack's own
	// addresses, and prefixes with a local route (AnyIP).
	Links []string

	TCP  func(*TCPRequest)  // a SYN, which the handler answers or not
	UDP  func(*UDPRequest)  // a flow's first datagram
	Echo func(*EchoRequest) // an ICMP or ICMPv6 echo request

	// MaxPending is how many SYNs may wait for the handler's answer and then for the
	// client's ACK; default 4096, SOMAXCONN. One more lets the one that has waited longest
	// go, as an unanswered SYN goes: those who dial what does not answer keep nobody out.
	MaxPending int

	MaxFlows  int // UDP sockets open at once; default 4096. Further flows' datagrams are dropped
	MaxEchoes int // echo requests with the handler at once; default 256. Further ones are dropped
}

const (
	defaultMaxPending = SOMAXCONN
	defaultMaxFlows   = 4096 // two sockets and two goroutines each, of some 10 KiB
	defaultMaxEchoes  = 256  // a ping a second each from 256 hosts that wait a second
)

// ForwardStats count what a forwarder did.
type ForwardStats struct {
	Pending  int    `json:"pending"`  // SYNs that wait now
	Accepted uint64 `json:"accepted"` // connections
	Rejected uint64 `json:"rejected"` // SYNs and flows answered with RST or an ICMP error
	Gone     uint64 `json:"gone"`     // SYNs whose client went before it was answered
	Evicted  uint64 `json:"evicted"`  // SYNs that made way for others: MaxPending
	Flows    int    `json:"flows"`    // UDP flows now
	FlowsAll uint64 `json:"flows_all"`
	Echoes   uint64 `json:"echoes"`  // echo requests handed over
	Dropped  uint64 `json:"dropped"` // for which there was no room: SYNs, flows, echo requests
}

// Forwarder takes new flows for which no socket waits.
type Forwarder struct {
	s      *Stack
	cfg    ForwardConfig
	v4, v6 *Listener // of connections whose SYN the handler has accepted; nil: no rule for them
	ctx    context.Context
	end    context.CancelCauseFunc
	wg     sync.WaitGroup // handlers, and who accepts
	table  TableID        // of its routes; 0: it has none

	accepted, rejected, gone, evicted, flowsAll, echoes, dropped atomic.Uint64

	echoing atomic.Int64

	mu      sync.Mutex // guards what follows
	closed  bool
	flows   map[*UDPConn]struct{}
	pending map[stack.TransportEndpointID]*TCPRequest
	waiting list.List // of *TCPRequest, the oldest first: pending ones that are not cancelled
}

// Forward starts a forwarder: new flows to the destinations of its rules for which no
// socket of the stack waits go to its handlers. Where several rules cover a
// destination, the most specific decides, as with steering, then the older. An
// address that a link of the stack carries is covered only by a rule for it alone.
//
// Sockets of forwarded flows are like others: they have an fd, and their local address
// is what the client asked for, whoever has it elsewhere. Connections are accepted on a
// listener of the forwarder, one for each family, which is an fd too; no packet reaches
// it but SYNs that a handler has accepted. The caller must Close the forwarder; closing
// the stack closes it too.
func (s *Stack) Forward(cfg ForwardConfig) (*Forwarder, error) {
	fail := func(err error) (*Forwarder, error) {
		if cfg.Name != "" {
			return nil, fmt.Errorf("forward %s: %w", cfg.Name, err)
		}
		return nil, fmt.Errorf("forward: %w", err)
	}
	if cfg.TCP == nil && cfg.UDP == nil && cfg.Echo == nil {
		return fail(errors.New("no handler: want TCP, UDP or Echo"))
	}
	if len(cfg.Rules) == 0 {
		return fail(errors.New("no rules"))
	}
	for _, r := range cfg.Rules {
		if err := r.validate(); err != nil {
			return fail(fmt.Errorf("rule %s: %w", r, err))
		}
	}
	for _, n := range []struct {
		name string
		at   *int
		def  int
	}{{"MaxPending", &cfg.MaxPending, defaultMaxPending}, {"MaxFlows", &cfg.MaxFlows, defaultMaxFlows}, {"MaxEchoes", &cfg.MaxEchoes, defaultMaxEchoes}} {
		if *n.at < 0 {
			return fail(fmt.Errorf("%s is %d: want 1 or more, or 0 for %d", n.name, *n.at, n.def))
		}
		*n.at = cmp.Or(*n.at, n.def)
	}
	f := &Forwarder{s: s, cfg: cfg, flows: map[*UDPConn]struct{}{}, pending: map[stack.TransportEndpointID]*TCPRequest{}}
	f.ctx, f.end = context.WithCancelCause(context.Background())
	err := f.listen()
	if err == nil {
		err = s.addForwarder(f)
	}
	if err != nil {
		f.Close()
		return fail(err)
	}
	return f, nil
}

// Name returns the name that it was given.
func (f *Forwarder) Name() string { return f.cfg.Name }

// Rules returns the rules that it was given.
func (f *Forwarder) Rules() []ForwardRule { return slices.Clone(f.cfg.Rules) }

// Stats returns what it has done so far.
func (f *Forwarder) Stats() ForwardStats {
	f.mu.Lock()
	pending, flows := len(f.pending), len(f.flows)
	f.mu.Unlock()
	return ForwardStats{
		Pending: pending, Accepted: f.accepted.Load(), Rejected: f.rejected.Load(), Gone: f.gone.Load(), Evicted: f.evicted.Load(),
		Flows: flows, FlowsAll: f.flowsAll.Load(), Echoes: f.echoes.Load(), Dropped: f.dropped.Load(),
	}
}

// Close takes the forwarder out, ends the contexts of requests that wait, closes the
// sockets of UDP flows, and waits for every handler to return. Connections that were
// accepted belong to whoever accepted them. It may be called more than once, but not by
// a handler.
func (f *Forwarder) Close() error {
	f.stop()
	f.wg.Wait()
	f.s.forwarding.Lock()
	defer f.s.forwarding.Unlock()
	f.s.forwarded = slices.DeleteFunc(f.s.forwarded, func(o *Forwarder) bool { return o == f })
	return nil
}

func (f *Forwarder) stop() {
	f.s.delForwarder(f)
	f.mu.Lock()
	f.closed = true
	flows := slices.Collect(maps.Keys(f.flows))
	f.mu.Unlock()
	f.end(syscall.ECONNABORTED)
	for _, c := range flows {
		c.Close()
	}
	for _, l := range []*Listener{f.v4, f.v6} {
		if l != nil {
			l.Close()
		}
	}
}

// forwarders is an immutable list, in the order of addition.
type forwarders []*Forwarder

// Forwarders returns the open forwarders in the order of their addition.
func (s *Stack) Forwarders() []*Forwarder {
	if fs := s.forwarders.Load(); fs != nil {
		return slices.Clone(*fs)
	}
	return nil
}

func (s *Stack) addForwarder(f *Forwarder) error {
	s.forwarding.Lock()
	defer s.forwarding.Unlock()
	if s.closed.Load() {
		return syscall.ENETDOWN
	}
	if err := f.addRoutes(); err != nil {
		return err
	}
	all := forwarders(append(s.Forwarders(), f))
	s.forwarders.Store(&all)
	s.forwarded = append(s.forwarded, f)
	return nil
}

func (s *Stack) delForwarder(f *Forwarder) {
	s.forwarding.Lock()
	defer s.forwarding.Unlock()
	all := forwarders(slices.DeleteFunc(s.Forwarders(), func(o *Forwarder) bool { return o == f }))
	if len(all) == 0 {
		s.forwarders.Store(nil)
	} else {
		s.forwarders.Store(&all)
	}
	f.delRoutes()
}

// closeForwarders closes every forwarder. The sockets have closed.
func (s *Stack) closeForwarders() {
	s.forwarding.Lock()
	all := slices.Clone(s.forwarded)
	s.forwarding.Unlock()
	for _, f := range all {
		f.stop()
	}
	for _, f := range all {
		f.wg.Wait()
	}
}

// Where the routes of forwarders are: rules of the priority below that of main, each
// to a table of its own above those that people number by hand.
const (
	forwardPriority           = 32000
	firstForwardTable TableID = 32000
)

func (f *Forwarder) addRoutes() error {
	if len(f.cfg.Links) == 0 {
		return nil
	}
	for _, l := range f.cfg.Links {
		if f.s.link(l) == nil {
			return fmt.Errorf("link %q: %w", l, syscall.ENODEV)
		}
	}
	for t := firstForwardTable; ; t++ {
		if len(f.s.Routes(IPv4, t)) == 0 && len(f.s.Routes(IPv6, t)) == 0 {
			f.table = t
			break
		}
	}
	families := map[Family]bool{}
	seen := map[netip.Prefix]bool{}
	for _, r := range f.cfg.Rules {
		if seen[r.Prefix] {
			continue
		}
		seen[r.Prefix], families[route.FamilyOf(r.Prefix.Addr())] = true, true
		if err := f.s.AddRoute(Route{Type: Local, Dst: r.Prefix, Dev: f.cfg.Links[0], Table: f.table, Protocol: ProtoStatic}); err != nil {
			f.delRoutes()
			return err
		}
	}
	for _, l := range f.cfg.Links {
		for family := range families {
			if err := f.s.AddRule(Rule{Family: family, Priority: forwardPriority, IIF: l, Table: f.table}); err != nil {
				f.delRoutes()
				return err
			}
		}
	}
	return nil
}

func (f *Forwarder) delRoutes() {
	if f.table == 0 {
		return
	}
	for _, family := range []Family{IPv4, IPv6} {
		for _, r := range f.s.Rules(family) {
			if r.Priority == forwardPriority && r.Table == f.table {
				r.Family = family
				f.s.DelRule(r.Match()) // it is there, unless somebody took it away by hand
			}
		}
		for _, rt := range f.s.Routes(family, f.table) {
			f.s.DelRoute(rt.Match())
		}
	}
}

// covering is the forwarder, and its rule, that takes a new flow to dst; nil if none does.
func (s *Stack) covering(network string, dst netip.AddrPort) (*Forwarder, *ForwardRule) {
	all := s.forwarders.Load()
	if all == nil {
		return nil, nil
	}
	own := s.carries(dst.Addr())
	var best *Forwarder
	var rule *ForwardRule
	for _, f := range *all {
		if !f.handles(network) {
			continue
		}
		for i := range f.cfg.Rules {
			r := &f.cfg.Rules[i]
			if r.covers(network, dst) && (!own || r.Prefix.IsSingleIP()) && (rule == nil || r.width() < rule.width()) {
				best, rule = f, r
			}
		}
	}
	return best, rule
}

func (f *Forwarder) handles(network string) bool {
	switch network {
	case "tcp":
		return f.cfg.TCP != nil
	case "udp":
		return f.cfg.UDP != nil
	}
	return f.cfg.Echo != nil
}

// carries reports whether a link of the stack has the address, or it is a broadcast
// address of one: the kernel's own routes say so.
func (s *Stack) carries(a netip.Addr) bool {
	_, rt := s.db.Load().Decide(RouteQuery{Dst: a}, nil)
	return rt != nil && rt.Type.Delivers() && rt.Protocol == ProtoKernel
}

// explainForwarder writes the try of the last step down, and reports whether a forwarder
// takes the packet.
func (s *Stack) explainForwarder(c choice, q query, l *SocketLookup) bool {
	try := SocketTry{Step: StepForwarder, FD: -1}
	switch {
	case c.forwarder == nil:
		try.Why = "no rule covers " + q.Dst.String()
	case !q.opens:
		try.Candidate, try.Why = c.forwarder.name(c.forward), "it takes new connections, and this is no SYN"
	default:
		try.Candidate, try.Why, try.Match = c.forwarder.name(c.forward), "match", true
		if l := c.forwarder.listener(q.Dst.Addr()); q.Network == "tcp" && l != nil {
			try.FD, try.State = l.FD(), "LISTEN"
		}
		l.Found, l.FD, l.State, l.Answer = true, try.FD, try.State, "the forwarder "+try.Candidate
	}
	l.Tries = append(l.Tries, try)
	return try.Match
}

// name is how a lookup shows the forwarder and its rule.
func (f *Forwarder) name(r *ForwardRule) string {
	if f.cfg.Name == "" {
		return r.String()
	}
	return f.cfg.Name + " (" + r.String() + ")"
}
