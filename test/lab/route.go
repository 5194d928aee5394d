package lab

import (
	"fmt"
	"net/netip"
)

// route is a way to a subnet that a node is not in.
type route struct {
	dst     netip.Prefix
	gateway netip.Addr
	dev     string
}

// forward is where a switch sends packets for an address.
type forward struct {
	dst netip.Addr
	out *port
}

// subnetFor returns the subnet of a new link, given what its options say of it, if anything.
func (l *Lab) subnetFor(a, b node, want *subnet) (*subnet, error) {
	var net *subnet
	for _, n := range []node{a, b} {
		sw, ok := n.(*Switch)
		switch {
		case !ok || sw.net == nil:
		case net != nil && net != sw.net:
			return nil, fmt.Errorf("both switches have nodes already, in subnets of their own: link switches before nodes")
		case want != nil:
			return nil, fmt.Errorf("the switch has a subnet already: give the first of its links the option Subnet")
		default:
			net = sw.net
		}
	}
	if net == nil {
		if net = want; net == nil {
			net = newSubnet(len(l.subnets))
		}
		if len(l.subnets) >= maxNodes {
			return nil, fmt.Errorf("a lab has %d subnets at most", maxNodes)
		}
		l.subnets = append(l.subnets, net)
	}
	for _, n := range []node{a, b} {
		if sw, ok := n.(*Switch); ok {
			l.joinSwitch(sw, net)
		}
	}
	return net, nil
}

// joinSwitch gives a switch, and all switches that it is linked to, their subnet.
func (l *Lab) joinSwitch(sw *Switch, net *subnet) {
	if sw.net == net {
		return
	}
	sw.net = net
	for _, k := range l.links {
		if other, ok := k.other(sw).(*Switch); ok {
			l.joinSwitch(other, net)
		}
	}
}

// route has every node know the way to every subnet: the shortest, and of several the one whose links were made first. It is
// called when a link was made, with mu held; a link that is down does not change it.
func (l *Lab) route() error {
	for _, n := range l.nodes {
		var to []route
		var out []forward
		for _, net := range l.subnets {
			if sw, ok := n.(*Switch); ok {
				out = append(out, l.forwards(sw, net)...)
			} else if n.hasAddrs() && net.of(n) == nil {
				to = append(to, l.routesTo(n, net)...)
			}
		}
		if err := n.setRoutes(to, out); err != nil {
			return err
		}
	}
	return nil
}

// forwards returns where a switch sends what is for the nodes of a subnet.
func (l *Lab) forwards(sw *Switch, net *subnet) (out []forward) {
	for _, a := range net.nodes {
		path := l.path(sw, func(n node) bool { return n == a.node })
		if len(path) == 0 {
			continue
		}
		for _, addr := range a.addrs {
			out = append(out, forward{addr.Addr(), path[0].link.portOf(sw)})
		}
	}
	return out
}

// routesTo returns a node's routes to a subnet that it is not in, one for each IP version: through a router, or else to a host
// that happens to be there too.
func (l *Lab) routesTo(n node, net *subnet) (to []route) {
	path := l.path(n, func(o node) bool { return o.forwards() && net.of(o) != nil })
	if path == nil {
		path = l.path(n, func(o node) bool { return net.of(o) != nil })
	}
	for i, hop := range path {
		if !hop.node.hasAddrs() {
			continue // a switch
		}
		local, gateway := attachmentOn(path[0].link, n, l.subnets), attachmentOn(hop.link, hop.node, l.subnets)
		for _, dst := range []netip.Prefix{net.v4, net.v6} {
			gw, ok := gateway.addr(dst.Addr().Is4())
			if dst.IsValid() && ok && path[i].link != nil {
				to = append(to, route{dst, gw, local.dev})
			}
		}
		break
	}
	return to
}

// hop is a step of a path: over a link to a node.
type hop struct {
	link *Link
	node node
}

// path returns the shortest way from a node to another that will do, through nodes that forward; nil if there is none.
func (l *Lab) path(from node, found func(node) bool) []hop {
	came := map[node]hop{from: {}} // to each node: the link that led to it, and the node before
	for queue := []node{from}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at != from && found(at) {
			var path []hop
			for n := at; n != from; n = came[n].node {
				path = append([]hop{{came[n].link, n}}, path...)
			}
			return path
		}
		if at != from && !at.forwards() {
			continue
		}
		for _, k := range l.links {
			next := k.other(at)
			if _, seen := came[next]; next != nil && !seen {
				came[next] = hop{k, at}
				queue = append(queue, next)
			}
		}
	}
	return nil
}

// of returns a node's place in the subnet, nil if it has none.
func (s *subnet) of(n node) *attachment {
	for _, a := range s.nodes {
		if a.node == n {
			return a
		}
	}
	return nil
}

// attachmentOn returns the place that a node has on a link.
func attachmentOn(k *Link, n node, nets []*subnet) *attachment {
	for _, net := range nets {
		for _, a := range net.nodes {
			if a.link == k && a.node == n {
				return a
			}
		}
	}
	return nil
}

// addr returns the attachment's address of an IP version.
func (a *attachment) addr(v4 bool) (netip.Addr, bool) {
	for _, p := range a.addrs {
		if p.Addr().Is4() == v4 {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// other returns the node at the other end of a link than n; nil if n is at neither.
func (k *Link) other(n node) node {
	switch n {
	case k.nodes[0]:
		return k.nodes[1]
	case k.nodes[1]:
		return k.nodes[0]
	}
	return nil
}

// portOf returns the port of the node at an end of the link.
func (k *Link) portOf(n node) *port {
	if k.nodes[0] == n {
		return k.ports[0]
	}
	return k.ports[1]
}
