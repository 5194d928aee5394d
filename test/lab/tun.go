package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"testing"

	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

// Namespace is a Linux network namespace in the network, in which programs run: its kernel is one end of a link, a TUN device.
type Namespace struct {
	lab   *Lab
	name  string
	ns    *netns.Namespace // nil until it is linked; guarded by lab.mu, as is addrs
	addrs []netip.Prefix
}

// tunName is the interface's name in a Namespace.
const tunName = "eth0"

// TUN is New for a network with one node that is real: a Linux network namespace, here called "kernel", with a TUN device for
// its one link, in which any program can run. Where that is not possible (another system, no access to /dev/net/tun, no
// user namespaces) the test is skipped with a remedy, and fails if the environment variable CATFLAP_REQUIRE is "all". Time is
// real: Options.Clock must be nil.
//
// The first process of the namespace is the test's own program started anew, so its TestMain calls netns.Init before anything
// else.
func TUN(t testing.TB, opts Options) (*Lab, *Namespace) {
	t.Helper()
	testenv.Require(t, testenv.Tun)
	if opts.Clock != nil {
		t.Fatal("lab: a kernel's time is real: leave Options.Clock nil, or use New")
	}
	l := New(t, opts)
	n := &Namespace{lab: l, name: "kernel"}
	l.add(n)
	return l, n
}

// open makes the namespace, now that its addresses are known.
func (n *Namespace) open(addrs []netip.Prefix, mtu int) (netstack.LinkEndpoint, error) {
	n.lab.t.Helper()
	if n.ns != nil {
		return nil, fmt.Errorf("the namespace %s has a link, and can have only one: link it to a router or a switch", n.name)
	}
	var everywhere []netip.Prefix
	for _, a := range addrs {
		zero := netip.IPv4Unspecified()
		if a.Addr().Is6() {
			zero = netip.IPv6Unspecified()
		}
		everywhere = append(everywhere, netip.PrefixFrom(zero, 0))
	}
	// The simple driver has no offloads: each packet is as it would be on a wire, which routers and captures need.
	ns, err := netns.Start(context.Background(), netns.Config{
		Device:    tun.Config{Name: tunName, MTU: mtu, Driver: tun.Water, Logger: n.lab.opts.Logger},
		HostAddrs: addrs, Routes: everywhere,
	})
	if err != nil {
		testenv.Skip(n.lab.t, err.Error(), tun.Diagnose(err))
	}
	n.ns, n.addrs = ns, addrs
	return ns.Device().Endpoint(), nil
}

// Name implements Node.
func (n *Namespace) Name() string { return n.name }

// Addrs returns the addresses of the namespace's interface.
func (n *Namespace) Addrs() []netip.Prefix {
	n.lab.mu.RLock()
	defer n.lab.mu.RUnlock()
	return n.addrs
}

// Run runs a program in the namespace until it ends or ctx does, and returns what it wrote to its standard output. The error
// has its exit status, if that is not 0, and what it wrote to standard error.
func (n *Namespace) Run(ctx context.Context, args ...string) ([]byte, error) {
	n.lab.mu.RLock()
	ns := n.ns
	n.lab.mu.RUnlock()
	if ns == nil {
		return nil, fmt.Errorf("lab: the namespace %s has no link yet", n.name)
	}
	var stdout, stderr bytes.Buffer
	status, err := ns.Run(ctx, netns.Command{Args: args, Stdout: &stdout, Stderr: &stderr})
	if err == nil && status != 0 {
		err = fmt.Errorf("lab: %s: exit status %d: %s", args[0], status, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.Bytes(), err
}

// Netns is the namespace itself, for programs that need more than Run; nil until it is linked.
func (n *Namespace) Netns() *netns.Namespace {
	n.lab.mu.RLock()
	defer n.lab.mu.RUnlock()
	return n.ns
}

func (n *Namespace) node() node                             { return n }
func (n *Namespace) hasAddrs() bool                         { return true }
func (n *Namespace) forwards() bool                         { return false }
func (n *Namespace) attach(*port, *attachment) error        { return nil }
func (n *Namespace) setRoutes(_ []route, _ []forward) error { return nil }

func (n *Namespace) close() {
	if n.ns != nil {
		n.ns.Close()
	}
}
