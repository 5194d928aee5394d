package instance

import (
	"cmp"
	"net/netip"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/impair"
)

// Pair is two stacks in one process, joined by an in-memory link: an instance
// with the cat server, and a client. It needs no privilege and no TUN device.
type Pair struct {
	Server *Instance
	Client *stack.Stack
}

// The links' names at the two ends of a Pair.
const (
	serverDev = "cat0"
	clientDev = "eth0"
)

// StartPair makes a pair. The client has the addresses hostAddrs.
func StartPair(cfg Config, hostAddrs []netip.Prefix, mtu int) (*Pair, error) {
	a, b := tun.Pipe(mtu)
	srv, err := start(cfg, cmp.Or(cfg.Dev, serverDev), impair.New(a, impair.Config{Logger: cfg.Logger}))
	if err != nil {
		a.Close() // and with it b
		return nil, err
	}
	if len(cfg.Addrs) == 0 {
		cfg.Addrs = DefaultAddrs
	}
	var gateways []netip.Addr
	for _, p := range cfg.Addrs {
		gateways = append(gateways, p.Addr())
	}
	client, err := stack.New(stack.Config{
		Links:  []stack.Link{{Name: clientDev, Endpoint: b, Addrs: hostAddrs}},
		Routes: defaultRoutes(clientDev, gateways),
		TCP:    cfg.TCP,
		Logger: cfg.Logger,
	})
	if err != nil {
		b.Close()
		srv.Close()
		return nil, err
	}
	return &Pair{Server: srv, Client: client}, nil
}

// Close ends both stacks.
func (p *Pair) Close() error {
	p.Client.Close()
	return p.Server.Close()
}
