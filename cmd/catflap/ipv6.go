package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

// enter starts a namespace, or joins one; with IPv4 alone where IPv6 is switched off.
func (s *setup) enter(ctx context.Context, e *env, cfg netns.Config) (*netns.Namespace, error) {
	ns, err := netns.Start(ctx, cfg)
	if tun.IPv6Off(err) && s.dropIPv6(e) {
		cfg.HostAddrs, cfg.Routes = s.hostAddrs, slices.DeleteFunc(cfg.Routes, is6)
		ns, err = netns.Start(ctx, cfg)
	}
	return ns, err
}

func is6(p netip.Prefix) bool { return p.Addr().Is6() }

// dropIPv6 takes the IPv6 addresses out of the setup and says so. It reports false, and takes nothing out, if no other
// address would be left.
func (s *setup) dropIPv6(e *env) bool {
	host, own := slices.DeleteFunc(slices.Clone(s.hostAddrs), is6), slices.DeleteFunc(slices.Clone(s.instance.Addrs), is6)
	if len(host) == 0 || len(own) == 0 {
		return false
	}
	s.hostAddrs, s.instance.Addrs = host, own
	s.instance.Peers = slices.DeleteFunc(slices.Clone(s.instance.Peers), netip.Addr.Is6)
	fmt.Fprintln(e.stderr, "catflap: IPv6 is switched off here: going on with IPv4 alone (sysctl net.ipv6.conf.all.disable_ipv6=0 turns it on)")
	return true
}
