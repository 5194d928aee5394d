//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netns"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// Ways through catflap to a server of the kernel's stack in its host's namespace.
const (
	viaEgress  = "egress"  // catflap run --egress
	viaForward = "forward" // catflap run --forward
)

// wayArgs has an agent be catflap between its own network namespace and that of a client.
type wayArgs struct {
	On        string
	Client    int // process id
	Dev       string
	MTU       int
	Queues    int
	Addrs     []netip.Prefix // the stack's
	HostAddrs []netip.Prefix // the client's
	Target    netip.Addr     // at which the client finds the server
}

// wayServer is the address of the server's host on its loopback interface: of the
// documentation prefixes, since the host's loopback addresses are closed to egress.
func (s setting) wayServer() netip.Addr { return s.pick("192.0.2.1", "2001:db8::1") }

func startWay(ctx context.Context, s *site) (err error) {
	if err := s.agents(ctx, false); err != nil {
		return err
	}
	if s.way, err = startAgent(s.contestant.name, s.server); err != nil {
		return err
	}
	s.dev = tun.DefaultName
	server, client := s.link()
	if s.contestant.name == viaEgress {
		s.target = s.wayServer()
	}
	own := netip.PrefixFrom(s.wayServer(), s.wayServer().BitLen())
	return inOrder(
		func() error { return s.server.call(ctx, "dev", devArgs{Dev: "lo", Addrs: []netip.Prefix{own}}, nil) },
		func() error { return s.server.call(ctx, "serve", serveArgs{On: onKernel}, nil) },
		func() error {
			return s.way.call(ctx, "way", wayArgs{
				On: s.contestant.name, Client: s.client.pid(), Dev: s.dev, MTU: s.MTU, Queues: s.Queues, Addrs: server, HostAddrs: client, Target: s.target,
			}, nil)
		},
	)
}

// startWayHere is the agent's part. What it makes lives as long as its process.
func startWayHere(a wayArgs) error {
	dev, err := openIn(a)
	if err != nil {
		return fmt.Errorf("%w%s", err, remedy(err))
	}
	var peers []netip.Addr
	for _, p := range a.HostAddrs {
		peers = append(peers, p.Addr())
	}
	i, err := instance.Start(instance.Config{Addrs: a.Addrs, Peers: peers, AdaptProcs: true}, dev)
	if err != nil {
		return err
	}
	if a.On == viaEgress {
		return i.Bridge().Egress(bridge.Egress{Rules: []stack.ForwardRule{{Prefix: netip.PrefixFrom(a.Target, a.Target.BitLen())}}})
	}
	home := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if a.Target.Is6() {
		home = netip.IPv6Loopback()
	}
	for _, port := range []uint16{portEcho, portDiscard, portBytes, portHold, portHTTP} {
		f := bridge.Forward{Network: "tcp", At: netip.AddrPortFrom(a.Target, port), Target: netip.AddrPortFrom(home, port).String()}
		if err := i.Bridge().AddForward(f); err != nil {
			return err
		}
		if port == portEcho {
			f.Network = "udp"
			if err := i.Bridge().AddForward(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// openIn opens the device in the client's network namespace. Its descriptors are good in
// every one.
func openIn(a wayArgs) (dev *tun.Device, err error) {
	runtime.LockOSThread()
	own, err := netns.Get()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	there, err := netns.GetFromPid(a.Client)
	if err != nil {
		return nil, err
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		return nil, err
	}
	dev, err = tun.Open(tun.Config{Name: a.Dev, MTU: a.MTU, Queues: a.Queues})
	if err == nil {
		routes := []netip.Prefix{netip.PrefixFrom(a.Target, a.Target.BitLen())}
		if err = tun.ConfigureHost(dev.Name(), tun.HostConfig{Addrs: a.HostAddrs, Routes: routes, Up: true}); err != nil {
			dev.Close()
		}
	}
	if back := netns.Set(own); back != nil {
		return nil, errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return dev, err
}
