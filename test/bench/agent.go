//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime/pprof"
	"runtime/trace"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/tun"
)

// worker is what an agent knows between two requests.
type worker struct {
	srv    *server
	net    network // that of the load: the kernel's, or a pair's second stack
	held   holder  // connections kept open by a load
	tracks []func() error
}

// Requests.
type (
	// vethArgs makes a veth pair between the agent's namespace and that of Peer.
	vethArgs struct {
		Dev, PeerDev string
		Peer         int // process id; 0: the agent's own namespace
		MTU          int
	}
	// devArgs configures an interface of the agent's namespace.
	devArgs struct {
		Dev     string
		Addrs   []netip.Prefix
		Gateway []netip.Addr
	}
	// profileArgs starts a CPU profile and an execution trace of the agent, each
	// unless its file is empty; both empty: ends them.
	profileArgs struct{ CPU, Trace string }
)

func (w *worker) do(r request) (any, error) {
	switch r.Op {
	case "veth":
		return nil, decode(r, makeVeth)
	case "dev":
		return nil, decode(r, configureDev)
	case "congestion":
		return nil, decode(r, setCongestion)
	case "serve":
		return nil, decode(r, w.serve)
	case "way":
		return nil, decode(r, startWayHere)
	case "load":
		var s sample
		err := decode(r, func(l load) (err error) {
			s, err = w.load(l)
			return err
		})
		return s, err
	case "usage":
		var u usage
		err := decode(r, func(a usageArgs) (err error) {
			u, err = readUsage(a, w.srv)
			return err
		})
		return u, err
	case "release":
		w.held.release()
		if w.srv != nil {
			w.srv.held.release()
		}
		return nil, nil
	case "profile":
		return nil, decode(r, w.profile)
	}
	return nil, fmt.Errorf("unknown request %q", r.Op)
}

func decode[T any](r request, do func(T) error) error {
	var args T
	if err := json.Unmarshal(r.Args, &args); err != nil {
		return err
	}
	return do(args)
}

func makeVeth(a vethArgs) error {
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: a.Dev, MTU: a.MTU}, PeerName: a.PeerDev, PeerMTU: uint32(a.MTU)}
	if a.Peer != 0 {
		v.PeerNamespace = netlink.NsPid(a.Peer)
	}
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("make veth pair %s, %s: %w", a.Dev, a.PeerDev, err)
	}
	return nil
}

func configureDev(a devArgs) error {
	if err := tun.ConfigureHost(a.Dev, tun.HostConfig{Addrs: a.Addrs, Up: true}); err != nil {
		return err
	}
	for _, gw := range a.Gateway {
		link, err := netlink.LinkByName(a.Dev)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("default route through %s: %w", gw, err)
		}
	}
	return nil
}

// setCongestion sets the congestion control of the sockets that will be made in this
// network namespace.
func setCongestion(name string) error {
	if err := os.WriteFile(congestionSysctl, []byte(name), 0); err != nil {
		return fmt.Errorf("congestion control %s: %w; on Linux: modprobe tcp_%s", name, err, name)
	}
	return nil
}

func (w *worker) serve(a serveArgs) (err error) {
	if w.srv != nil {
		return errors.New("serves already")
	}
	w.srv, w.net, err = startServer(a)
	return err
}

func (w *worker) load(l load) (sample, error) {
	if w.net == nil {
		w.net = newKernel()
		// A client machine of many connections: all unprivileged ports.
		if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("1024 65535"), 0); err != nil {
			return nil, err
		}
	}
	return l.run(w.net, &w.held)
}

func (w *worker) profile(a profileArgs) error {
	var err error
	for _, end := range w.tracks {
		err = errors.Join(err, end())
	}
	w.tracks = nil
	if a.CPU != "" {
		f, cerr := os.Create(a.CPU)
		if cerr != nil {
			return cerr
		}
		w.tracks = append(w.tracks, func() error { pprof.StopCPUProfile(); return f.Close() })
		err = errors.Join(err, pprof.StartCPUProfile(f))
	}
	if a.Trace != "" {
		f, terr := os.Create(a.Trace)
		if terr != nil {
			return errors.Join(err, terr)
		}
		w.tracks = append(w.tracks, func() error { trace.Stop(); return f.Close() })
		err = errors.Join(err, trace.Start(f))
	}
	return err
}

// linkCounts returns the packets that an interface has carried, both ways, and those
// that it has dropped. A TSO super-packet is one.
func linkCounts(dev string) (packets, drops uint64, err error) {
	link, err := netlink.LinkByName(dev)
	if err != nil {
		return 0, 0, fmt.Errorf("interface %s: %w", dev, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, 0, fmt.Errorf("interface %s: %w", dev, unix.ENODATA)
	}
	return s.RxPackets + s.TxPackets, s.RxDropped + s.TxDropped, nil
}
