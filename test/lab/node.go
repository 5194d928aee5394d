package lab

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/catflap/catflap/internal/random"
	"github.com/catflap/catflap/stack"
)

// Node is what links join: a *Host, *Router, *Switch or *Namespace.
type Node interface {
	// Name is the node's name, which is its own in a Lab.
	Name() string

	node() node
}

// node is a Node from the inside.
type node interface {
	Node
	hasAddrs() bool                            // switches have none
	forwards() bool                            // packets for others
	attach(p *port, a *attachment) error       // takes a link's end, with the addresses on it
	setRoutes(to []route, out []forward) error // replaces what was set before
	close()
}

// attachment is a node's place in a subnet.
type attachment struct {
	net   *subnet
	node  node
	link  *Link
	end   int    // of link
	dev   string // the interface's name in the node's stack
	addrs []netip.Prefix
}

// attach gives a node its addresses.
func (s *subnet) attach(n node, link *Link, end int) (*attachment, error) {
	addrs, err := s.next()
	if err != nil {
		return nil, err
	}
	a := &attachment{net: s, node: n, link: link, end: end, addrs: addrs}
	s.nodes = append(s.nodes, a)
	return a, nil
}

// nameRule is what a node may be called: what a host may be called in a URL, and a file.
var nameRule = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

// checkName ends the test if a new node cannot have that name.
func (l *Lab) checkName(name string) {
	l.t.Helper()
	nodes := l.snapshot()
	switch {
	case !nameRule.MatchString(name) || name == "localhost":
		l.fatalf("name %q: a node's name is letters, digits and hyphens in between, and not localhost", name)
	case slices.ContainsFunc(nodes, func(o node) bool { return o.Name() == name }):
		l.fatalf("name %q: there is a node of this name", name)
	case len(nodes) >= maxNodes:
		l.fatalf("name %q: a lab has %d nodes at most", name, maxNodes)
	}
}

// add makes a node, whose name has been checked, part of the network.
func (l *Lab) add(n node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = append(l.nodes, n)
}

// device is a node's interface.
type device struct {
	name  string
	addrs []netip.Prefix
}

// stackNode is a node with a stack: a host or a router.
type stackNode struct {
	lab    *Lab
	name   string
	stack  *stack.Stack
	fwd    bool
	devs   []device // guarded by lab.mu, as is routes
	routes []stack.Route
}

func (l *Lab) newStackNode(name string, tcp stack.TCPConfig, fwd bool) (*stackNode, error) {
	n := &stackNode{lab: l, name: name, fwd: fwd}
	s, err := stack.New(stack.Config{
		TCP: tcp, Forwarding: fwd, Clock: l.clock, Rand: random.NewBytes(derive(l.seed, "node", name)), Logger: l.opts.Logger,
	})
	if err != nil {
		return nil, err
	}
	n.stack = s
	l.record.follow(n)
	return n, nil
}

// Name implements Node.
func (n *stackNode) Name() string { return n.name }

// Stack is the node's stack.
func (n *stackNode) Stack() *stack.Stack { return n.stack }

func (n *stackNode) hasAddrs() bool { return true }
func (n *stackNode) forwards() bool { return n.fwd }
func (n *stackNode) close()         { n.stack.Close() }

// attach makes the port the stack's next interface: eth0, eth1, in the order of the links.
func (n *stackNode) attach(p *port, a *attachment) error {
	a.dev = fmt.Sprintf("eth%d", len(n.devs))
	n.devs = append(n.devs, device{a.dev, a.addrs})
	return n.stack.AddLink(stack.Link{Name: a.dev, Endpoint: p, Addrs: a.addrs})
}

func (n *stackNode) setRoutes(to []route, _ []forward) error {
	var routes []stack.Route
	for _, r := range to {
		routes = append(routes, stack.Route{Dst: r.dst, Gateway: r.gateway, Dev: r.dev})
	}
	for _, r := range n.routes {
		if !slices.Contains(routes, r) {
			if err := n.stack.DelRoute(r.Match()); err != nil {
				return fmt.Errorf("%s: remove route %s: %w", n.name, r, err)
			}
		}
	}
	for _, r := range routes {
		if !slices.Contains(n.routes, r) {
			if err := n.stack.AddRoute(r); err != nil {
				return fmt.Errorf("%s: add route %s: %w", n.name, r, err)
			}
		}
	}
	n.routes = routes
	return nil
}

// Addrs returns the node's addresses with the lengths of their prefixes, link by link, IPv4 first.
func (n *stackNode) Addrs() []netip.Prefix {
	n.lab.mu.RLock()
	defer n.lab.mu.RUnlock()
	var addrs []netip.Prefix
	for _, d := range n.devs {
		addrs = append(addrs, d.addrs...)
	}
	return addrs
}

// Addr returns the node's first address: IPv4 unless its first link has none. It is invalid while the node has no link.
func (n *stackNode) Addr() netip.Addr {
	if addrs := n.Addrs(); len(addrs) > 0 {
		return addrs[0].Addr()
	}
	return netip.Addr{}
}

// Router forwards packets between its links: it takes one off their TTL, and answers with ICMP errors when that is used up or
// a packet is too big for the next link.
type Router struct{ *stackNode }

func (r *Router) node() node { return r }

// Router adds a router, with a link to each of the nodes given.
func (l *Lab) Router(name string, nodes ...Node) *Router {
	l.t.Helper()
	l.checkName(name)
	n, err := l.newStackNode(name, l.opts.TCP, true)
	if err != nil {
		l.fatalf("router %s: %v", name, err)
	}
	r := &Router{n}
	l.add(r)
	for _, to := range nodes {
		l.Link(to, r)
	}
	return r
}
