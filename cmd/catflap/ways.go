package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun/netns"
)

// waysFlags are the flags of run and serve that are about ways between stack and host.
type waysFlags struct {
	egress    string
	loopback  []string
	published []string
	forwards  []string
}

// add defines the flags that run and serve share.
func (f *waysFlags) add(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.forwards, "forward", nil, "put a service of this machine on an address of the stack: `ADDR:PORT=TARGET`[/udp]")
}

// addRun defines those that need the namespace.
func (f *waysFlags) addRun(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.egress, "egress", bridge.None, "where the command may go through the stack: all, none, or `CIDR[:PORTS],…`")
	fs.StringArrayVar(&f.loopback, "host-loopback", nil, "`ADDR` by which the command reaches this machine's 127.0.0.1, or ::1 if it is IPv6")
	fs.StringArrayVarP(&f.published, "publish", "t", nil, "lead a port of this machine to the command: `[HOSTADDR:]HOSTPORT:PORT[/udp]`, or auto for each TCP port on which it listens")
}

// ways is what the flags say.
type ways struct {
	egress    bridge.Egress
	published []bridge.Published
	auto      bool
	forwards  []bridge.Forward
}

func (f *waysFlags) parse() (w ways, err error) {
	if w.egress.Rules, err = bridge.ParseEgress(cmp.Or(f.egress, bridge.None)); err != nil {
		return w, specError("--egress", err)
	}
	for _, s := range f.loopback {
		a, err := netip.ParseAddr(s)
		if err != nil || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a.Zone() != "" {
			return w, &remedy.UsageError{Msg: fmt.Sprintf("--host-loopback %s: want a unicast address of a link", s), Remedy: "for example --host-loopback 10.9.0.3"}
		}
		for _, o := range w.egress.Loopback {
			if o.Is4() == a.Is4() {
				return w, &remedy.UsageError{Msg: fmt.Sprintf("--host-loopback %s: there is %s already", a, o), Remedy: "give one address for 127.0.0.1, and one for ::1"}
			}
		}
		w.egress.Loopback = append(w.egress.Loopback, a)
	}
	for _, s := range f.published {
		if s == bridge.Auto {
			w.auto = true
			continue
		}
		p, err := bridge.ParsePublished(s)
		if err != nil {
			return w, specError("--publish", err)
		}
		for _, o := range w.published {
			if o.Network == p.Network && o.Host == p.Host && o.From == p.From {
				return w, &remedy.UsageError{Msg: fmt.Sprintf("--publish %s: %s has the port already", s, o), Remedy: "give each its own port of this machine"}
			}
		}
		w.published = append(w.published, p)
	}
	for _, s := range f.forwards {
		fw, err := bridge.ParseForward(s)
		if err != nil {
			return w, specError("--forward", err)
		}
		w.forwards = append(w.forwards, fw)
	}
	return w, nil
}

func specError(flag string, err error) error {
	var se *bridge.SpecError
	if errors.As(err, &se) {
		return &remedy.UsageError{Msg: flag + " " + se.Error(), Remedy: se.Remedy}
	}
	return err
}

// check compares with the addresses of the other end of the link.
func (w *ways) check(peers []netip.Addr) error {
	for _, p := range peers {
		for _, a := range w.egress.Loopback {
			if a == p {
				return &remedy.UsageError{Msg: fmt.Sprintf("--host-loopback %s: that is the command's own address", a), Remedy: "want another, such as --host-loopback 10.9.0.3"}
			}
		}
		for _, f := range w.forwards {
			if f.At.Addr() == p {
				return &remedy.UsageError{Msg: fmt.Sprintf("--forward %s: %s is the command's own address", f, p), Remedy: "want the stack's, such as 10.9.0.2"}
			}
		}
	}
	return nil
}

// outward reports whether the stack is to have all packets, and not only those to its
// own network: those of egress, and the answers to clients of published ports.
func (w *ways) outward() bool {
	return len(w.egress.Rules)+len(w.egress.Loopback)+len(w.published) > 0 || w.auto
}

// routes are those of the namespace, of the families that it has addresses of.
func (w *ways) routes(hostAddrs []netip.Prefix) (routes []netip.Prefix) {
	has := map[netip.Prefix]bool{}
	add := func(p netip.Prefix) {
		if !has[p] {
			has[p] = true
			routes = append(routes, p)
		}
	}
	for _, p := range hostAddrs {
		if !w.outward() {
			break
		}
		if p.Addr().Is4() {
			add(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		} else {
			add(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		}
	}
	for _, f := range w.forwards {
		for _, p := range hostAddrs {
			if p.Addr().Is4() == f.At.Addr().Is4() && !p.Contains(f.At.Addr()) {
				add(netip.PrefixFrom(f.At.Addr(), f.At.Addr().BitLen()))
			}
		}
	}
	return routes
}

// of has an instance that is about to start know of the namespace that the ways lead to.
func (w *ways) of(c *instance.Config, ns *netns.Namespace, e *env) {
	c.Listening = func() ([]netip.AddrPort, error) { return bridge.ReadListening(ns.PID()) }
	c.Tell = e.say
	c.Outward = w.outward()
}

// open opens the ways.
func (w *ways) open(b *bridge.Bridge) error {
	if w.outward() {
		if err := b.Egress(w.egress); err != nil {
			return err
		}
	}
	for _, f := range w.forwards {
		if err := b.AddForward(f); err != nil {
			return forwardError(err)
		}
	}
	for _, p := range w.published {
		if err := b.Publish(p); err != nil {
			return publishError(err)
		}
	}
	if w.auto {
		return b.PublishAuto()
	}
	return nil
}

func publishError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return remedy.With(err, "another program listens on this port of the machine; choose another HOSTPORT")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return remedy.With(err, "HOSTADDR is an address of this machine, such as 127.0.0.1")
	case errors.Is(err, syscall.EACCES):
		return remedy.With(err, "ports below 1024 are for root; choose a higher HOSTPORT")
	}
	return err
}

func forwardError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return remedy.With(err, "catflap ss -l shows it; for the cat server: --no-cats, or another --port")
	case errors.Is(err, syscall.EEXIST):
		return remedy.With(err, "take it away before: catflap forward del")
	case errors.Is(err, syscall.ENOENT):
		return remedy.With(err, "catflap forward show lists them")
	}
	return err
}

// say prints what the user should know while an instance runs, and the remedy.
func (e *env) say(msg, remedy string) {
	lines := "catflap: " + strings.ReplaceAll(msg, "\n", " ") + "\n"
	if remedy != "" {
		lines += "catflap: " + remedy + "\n"
	}
	fmt.Fprint(e.stderr, lines)
}
