package lab

import (
	"fmt"
	"sync/atomic"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// Link joins two nodes, here called a and b as in the call that made it. Its methods may be used while packets pass.
type Link struct {
	lab    *Lab
	name   string
	nodes  [2]node // a and b
	ports  [2]*port
	impair *impair.Link // at a's end: Out is from a to b
	down   atomic.Bool
}

// LinkOption is a property of a link.
type LinkOption func(*linkConfig) error

type linkConfig struct {
	mtu      int
	subnet   *subnet
	settings []impair.Setting
	from     []fromSetting
}

// fromSetting is a setting of the direction that starts at a node.
type fromSetting struct {
	node Node
	spec impair.Spec
}

// Netem impairs a link, with tc-netem's words ("delay 10ms loss 1%") for both directions, or for one of them after "out", which
// is from a to b, or "in", from b to a; or with a rule ("drop tcp data 2 from server"). See impair.ParseSetting. There may be
// several.
func Netem(text string) LinkOption {
	return func(c *linkConfig) error {
		s, err := impair.ParseSetting(text)
		c.settings = append(c.settings, s)
		return netemError(text, err)
	}
}

// NetemFrom impairs what a node sends into the link, with tc-netem's words.
func NetemFrom(n Node, text string) LinkOption {
	return func(c *linkConfig) error {
		s, err := impair.Parse(text)
		c.from = append(c.from, fromSetting{n, s})
		return netemError(text, err)
	}
}

func netemError(text string, err error) error {
	if err != nil {
		return fmt.Errorf("netem %q: %w", text, err)
	}
	return nil
}

// MTU sets the link's MTU in bytes.
func MTU(bytes int) LinkOption {
	return func(c *linkConfig) error {
		c.mtu = bytes
		return checkMTU(bytes)
	}
}

func checkMTU(bytes int) error {
	if bytes < tun.MinMTU || bytes > tun.MaxMTU {
		return fmt.Errorf("mtu %d: a link's MTU is %d to %d bytes", bytes, tun.MinMTU, tun.MaxMTU)
	}
	return nil
}

// Link joins two nodes. Unless an end is a switch it is a subnet of its own: the n-th one of the lab, counted from 0, has
// 10.9.n.0/24 and fd00:9:0:n::/64, and a has the address 1 in it, and b 2.
func (l *Lab) Link(a, b Node, opts ...LinkOption) *Link {
	l.t.Helper()
	link, err := l.link(a.node(), b.node(), opts)
	if err != nil {
		l.fatalf("link %s-%s: %v", a.Name(), b.Name(), err)
	}
	return link
}

func (l *Lab) link(a, b node, opts []LinkOption) (*Link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	cfg := linkConfig{mtu: l.opts.MTU}
	for _, o := range opts {
		if err := o(&cfg); err != nil {
			return nil, err
		}
	}
	switch {
	case a == b:
		return nil, fmt.Errorf("a node cannot be linked to itself: it has its loopback interface")
	case l.between(a, b) != nil:
		return nil, fmt.Errorf("they are linked already")
	}
	link := &Link{lab: l, name: a.Name() + "-" + b.Name(), nodes: [2]node{a, b}}
	net, err := l.subnetFor(a, b, cfg.subnet)
	if err != nil {
		return nil, err
	}
	var addrs [2]*attachment
	for i, n := range link.nodes {
		if n.hasAddrs() {
			if addrs[i], err = net.attach(n, link, i); err != nil {
				return nil, err
			}
		}
	}
	var ends [2]netstack.LinkEndpoint
	a1, b1 := newCable(cfg.mtu)
	ends[0], ends[1] = a1, b1
	wrap := 0
	for i, n := range link.nodes {
		// The kernel's end of a link is a TUN device, which its peer's port attaches to.
		if k, ok := n.(*Namespace); ok {
			dev, err := k.open(addrs[i].addrs, cfg.mtu)
			if err != nil {
				return nil, err
			}
			ends[i], ends[1-i] = nil, dev
			wrap = 1 - i
		}
	}
	seed := derive(l.seed, "link", link.name)
	link.impair = impair.New(ends[wrap], impair.Config{Clock: l.clock, Seed: seed64(seed), Logger: l.opts.Logger})
	ends[wrap] = link.impair
	if l.record != nil {
		link.impair.Observe(func(f impair.Fault, packet []byte) { l.record.fault(link, f, packet) })
	}
	for i, n := range link.nodes {
		if ends[i] == nil {
			continue
		}
		link.ports[i] = newPort(link, i, n, ends[i])
	}
	l.record.link(link)
	for _, s := range cfg.settings {
		if err := link.apply(s); err != nil {
			return nil, err
		}
	}
	for _, f := range cfg.from {
		dir, err := link.direction(f.node)
		if err == nil {
			err = link.impair.Set(dir, f.spec)
		}
		if err != nil {
			return nil, err
		}
	}
	l.links = append(l.links, link)
	for i, n := range link.nodes {
		if link.ports[i] == nil {
			continue
		}
		if err := n.attach(link.ports[i], addrs[i]); err != nil {
			return nil, err
		}
	}
	return link, l.route()
}

// between returns the link of two nodes, nil if there is none.
func (l *Lab) between(a, b node) *Link {
	for _, link := range l.links {
		if link.nodes == [2]node{a, b} || link.nodes == [2]node{b, a} {
			return link
		}
	}
	return nil
}

// Between returns the link of two nodes, which ends the test if there is none.
func (l *Lab) Between(a, b Node) *Link {
	l.t.Helper()
	l.mu.RLock()
	defer l.mu.RUnlock()
	link := l.between(a.node(), b.node())
	if link == nil {
		l.fatalf("%s and %s are not linked", a.Name(), b.Name())
	}
	return link
}

// Name is "a-b".
func (k *Link) Name() string { return k.name }

// wrapped says at which end the impairment is: its Out is from there.
func (k *Link) wrapped() int {
	if k.ports[0] == nil {
		return 1
	}
	return 0
}

// direction returns what the impairment calls the direction that starts at n.
func (k *Link) direction(n Node) (impair.Direction, error) {
	for i := range k.nodes {
		if k.nodes[i] == n.node() {
			return k.outOf(i), nil
		}
	}
	return 0, fmt.Errorf("%s is not at an end of the link %s", n.Name(), k.name)
}

func (k *Link) outOf(end int) impair.Direction {
	if end == k.wrapped() {
		return impair.Out
	}
	return impair.In
}

// apply does what a setting says, in which out is from a.
func (k *Link) apply(s impair.Setting) error {
	if k.wrapped() == 1 && s.Rule == nil {
		for i, d := range s.Dirs {
			s.Dirs[i] = 1 - d
		}
	}
	return s.Apply(k.impair)
}

// Set changes how the link is impaired, as Netem says it; a rule is added. The empty text turns settings of both directions off,
// and leaves rules. What is wrong with the text ends the test.
func (k *Link) Set(text string) {
	k.lab.t.Helper()
	s, err := impair.Setting{Dirs: []impair.Direction{impair.In, impair.Out}}, error(nil)
	if text != "" {
		s, err = impair.ParseSetting(text)
	}
	if err == nil {
		err = k.apply(s)
	}
	if err != nil {
		k.lab.fatalf("link %s: netem %q: %v", k.name, text, err)
	}
}

// SetFrom changes how what n sends into the link is impaired, as NetemFrom says it.
func (k *Link) SetFrom(n Node, text string) {
	k.lab.t.Helper()
	dir, err := k.direction(n)
	if err == nil {
		var s impair.Spec
		if s, err = impair.Parse(text); err == nil {
			err = k.impair.Set(dir, s)
		}
	}
	if err != nil {
		k.lab.fatalf("link %s: netem %q: %v", k.name, text, err)
	}
}

// AddRule adds a fault by address, such as "drop tcp syn first 1": see impair.ParseRule. It returns the rule's number.
func (k *Link) AddRule(text string) int {
	k.lab.t.Helper()
	r, err := impair.ParseRule(text)
	var id int
	if err == nil {
		id, err = k.impair.AddRule(r)
	}
	if err != nil {
		k.lab.fatalf("link %s: rule %q: %v", k.name, text, err)
	}
	return id
}

// DelRule removes the rule of that number, and reports whether there was one.
func (k *Link) DelRule(id int) bool { return k.impair.DelRule(id) }

// Down cuts the link: what is on its way and what is sent is lost, and neither end is told.
func (k *Link) Down() {
	if !k.down.Swap(true) {
		k.lab.record.note(k.name, "the link goes down")
	}
}

// Up mends the link.
func (k *Link) Up() {
	if k.down.Swap(false) {
		k.lab.record.note(k.name, "the link comes up")
	}
}

// Stats counts what was done to packets, by settings and by rules. Out is from a to b; where a is a Namespace, from b to a.
func (k *Link) Stats() impair.LinkStats { return k.impair.Stats() }

// Rules returns the rules with what came of them.
func (k *Link) Rules() []impair.RuleInfo { return k.impair.Rules() }

// Impair is the link's impairment itself, for recordings and Go values. Its Out is as in Stats.
func (k *Link) Impair() *impair.Link { return k.impair }
