package instance

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/catflap/catflap/app/dashboard"
	"github.com/catflap/catflap/stack"
)

// DashboardPort is where the dashboard is served on the stack's own addresses, and by default on the host.
const DashboardPort = 8098

// Dashboard describes an instance's dashboard.
type Dashboard struct {
	Addr      string // HOST:PORT of this machine on which it is served; "": on none
	StackPort uint16 // port of every address of the stack on which it is served too; 0: on none
	Payload   bool   // keep and show payload bytes
	OnDemand  bool   // record only while somebody looks
	Version   string // catflap's

	// Transfer is dashboard.Config's.
	Transfer func(ctx context.Context, bytes int64, up bool, connected func(netip.AddrPort)) error
}

// Dashboard starts the dashboard, which ends with the instance. It is to be called before Serve, so that the
// recording begins with the cat server's first call. The error wraps syscall.EADDRINUSE when Addr is taken; then
// there is no dashboard, and Dashboard may be called again.
func (i *Instance) Dashboard(d Dashboard) (*dashboard.Server, error) {
	var host net.Listener
	if d.Addr != "" {
		var err error
		if host, err = net.Listen("tcp", d.Addr); err != nil {
			return nil, fmt.Errorf("dashboard: %w", err)
		}
	}
	cfg := dashboard.Config{
		Version: d.Version, Name: i.name, Addrs: addrsOf(i.cfg.Addrs), Payload: d.Payload, OnDemand: d.OnDemand,
		Stack: i.stack, Netem: i.netem, Transfer: d.Transfer, StackPort: d.StackPort, Logger: i.log,
	}
	if i.dev != nil {
		cfg.Driver, cfg.MTU, cfg.Wire = i.dev.Driver().String(), i.dev.MTU(), i.dev.Stats
	}
	var own []*stack.Listener // before the recording begins
	for _, at := range i.listening(d.StackPort) {
		if d.StackPort == 0 {
			break
		}
		l, err := i.stack.ListenTCP(networkOf(at), at.String(), stack.SOMAXCONN)
		if err != nil {
			for _, l := range own {
				l.Close()
			}
			if host != nil {
				host.Close()
			}
			return nil, fmt.Errorf("dashboard on the stack: %w", err)
		}
		own = append(own, l)
		cfg.StackFDs = append(cfg.StackFDs, l.FD())
	}
	i.board = dashboard.New(cfg)
	for _, l := range own {
		i.board.Serve(l, "")
	}
	if host != nil {
		i.board.Serve(host, d.Addr)
	}
	return i.board, nil
}

func addrsOf(prefixes []netip.Prefix) (addrs []netip.Addr) {
	for _, p := range prefixes {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}
