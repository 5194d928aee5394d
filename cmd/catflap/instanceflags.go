package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/names"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
)

// instanceFlags are the flags that run, serve and get share.
type instanceFlags struct {
	dev       string
	addrs     []string
	hostAddrs []string
	port      int
	driver    string
	mtu       int
	queues    int
	drain     time.Duration
	netem     netemFlags
	board     dashboardFlags
	noCats    bool
	ways      waysFlags
	dns       string

	namesByEgress bool // --egress has --dns host as the default
}

// add defines the flags; with no device, those of the TUN device are left out.
func (f *instanceFlags) add(c *cobra.Command, device bool) {
	fs := c.Flags()
	fs.StringArrayVar(&f.addrs, "addr", prefixStrings(instance.DefaultAddrs), "`PREFIX` of the stack, once for each address")
	fs.StringArrayVar(&f.hostAddrs, "host-addr", prefixStrings(instance.DefaultHostAddrs), "`PREFIX` of the other end, once for each address")
	fs.IntVar(&f.port, "port", instance.DefaultPort, "`PORT` of the cat server")
	f.queues = 1
	fs.IntVar(&f.mtu, "mtu", tun.DefaultMTU, "MTU of the link in `BYTES`")
	f.netem.add(c)
	if device {
		fs.StringVar(&f.dev, "dev", tun.DefaultName, "`NAME` of the TUN device")
		fs.StringVar(&f.driver, "driver", "auto", "TUN driver: auto, offload or water")
		fs.IntVar(&f.queues, "queues", f.queues, "`NUMBER` of device queues")
		fs.BoolVar(&f.noCats, "no-cats", false, "start no cat server: port 80 of the stack is free")
		f.ways.add(c)
		fs.StringVar(&f.dns, "dns", "", "names that programs may ask the stack's port 53 for, between commas: `host|off|NAME=ADDR`, where host asks this host's resolvers; of run with --egress the default is host, and else off")
		fs.DurationVar(&f.drain, "drain", instance.DefaultDrain, "how long running requests may take after SIGTERM, and connections after the command's end")
	}
}

func prefixStrings(ps []netip.Prefix) (out []string) {
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

// setup is what the flags say, checked.
type setup struct {
	instance  instance.Config
	device    tun.Config
	hostAddrs []netip.Prefix
	port      uint16
	drain     time.Duration
	noCats    bool
	ways      ways
	dns       names.Spec
	resolver  names.Resolver // the host's, if dns asks it
}

func (f *instanceFlags) parse(log *slog.Logger) (setup, error) {
	s := setup{drain: f.drain, noCats: f.noCats}
	var err error
	if s.ways, err = f.ways.parse(); err != nil {
		return s, err
	}
	if s.instance.Netem, err = f.netem.parse(); err != nil {
		return s, err
	}
	if _, err := f.board.address(); err != nil {
		return s, err
	}
	if s.instance.Addrs, err = parsePrefixes("--addr", f.addrs); err != nil {
		return s, err
	}
	if s.hostAddrs, err = parsePrefixes("--host-addr", f.hostAddrs); err != nil {
		return s, err
	}
	for _, p := range s.hostAddrs {
		s.instance.Peers = append(s.instance.Peers, p.Addr())
	}
	if err := s.ways.check(s.instance.Peers); err != nil {
		return s, err
	}
	if err := f.parseNames(&s, log); err != nil {
		return s, err
	}
	if f.port < 1 || f.port > 65535 {
		return s, remedy.Usagef("--port %d: out of range; the range is 1..65535", f.port)
	}
	s.port = uint16(f.port)
	if f.drain < 0 {
		return s, remedy.Usagef("--drain %s: want a duration of 0 or more", f.drain)
	}
	driver, err := tun.ParseDriver(f.driver)
	if f.driver != "" && err != nil {
		return s, remedy.Usagef("--driver %s: want auto, offload or water", f.driver)
	}
	s.device = tun.Config{Name: f.dev, MTU: f.mtu, Queues: f.queues, Driver: driver, Logger: log}
	// To tun.Config a zero is the default.
	if f.mtu == 0 {
		return s, remedy.Usagef("--mtu 0: out of range; the range is %d..%d", tun.MinMTU, tun.MaxMTU)
	}
	if f.queues == 0 {
		return s, remedy.Usagef("--queues 0: out of range; the range is 1..%d", tun.MaxQueues)
	}
	if err := s.device.Validate(); err != nil {
		var ce *tun.ConfigError
		if errors.As(err, &ce) {
			if ce.Field == "name" {
				return s, remedy.Usagef("--dev %v: want %s", ce.Value, ce.Want)
			}
			return s, remedy.Usagef("--%s %v: out of range; the range is %s", ce.Field, ce.Value, ce.Want)
		}
		return s, err
	}
	for _, p := range append(append([]netip.Prefix{}, s.instance.Addrs...), s.hostAddrs...) {
		if p.Addr().Is6() && f.mtu < tun.MinMTUIPv6 {
			return s, &remedy.UsageError{
				Msg:    fmt.Sprintf("--mtu %d: too small for the IPv6 address %s, which needs at least %d", f.mtu, p, tun.MinMTUIPv6),
				Remedy: "give IPv4 addresses only: --addr 10.9.0.2/24 --host-addr 10.9.0.1/24",
			}
		}
	}
	s.instance.Logger = log
	return s, nil
}

// parseNames reads --dns, and holds the rules that name hosts against it. What may go out by address is meant to go
// out by name as well, if this host itself knows names.
func (f *instanceFlags) parseNames(s *setup, log *slog.Logger) (err error) {
	implied := f.dns == "" && f.namesByEgress && len(s.ways.egress.Rules) > 0
	if s.dns, err = names.Parse(f.dns); err != nil {
		return remedy.Usagef("--dns %s", err)
	}
	s.dns.Host = s.dns.Host || implied
	for _, n := range s.instance.Netem.Settings {
		if n.Rule != nil && n.Rule.Match.Name != "" && len(s.dns.Own[strings.ToLower(n.Rule.Match.Name)]) == 0 {
			return &remedy.UsageError{Msg: fmt.Sprintf("--netem %s: %s is no address, and no name that --dns gives one", n, n.Rule.Match.Name), Remedy: fmt.Sprintf("give it one: --dns %s=ADDR", n.Rule.Match.Name)}
		}
	}
	if !s.dns.On() {
		return nil
	}
	if s.dns.Host {
		const file = "/etc/resolv.conf"
		if s.resolver, err = names.ReadResolver(file); err != nil && implied {
			s.dns.Host = false
			return nil
		} else if err != nil {
			return remedy.With(fmt.Errorf("--dns host: %w", err), "name this host's resolver there, as in \"nameserver 192.0.2.53\", or leave host out of --dns")
		}
	}
	s.instance.Names = &names.Config{Own: s.dns.Own, Search: s.resolver.Search, Upstreams: s.resolver.Servers, Logger: log}
	return nil
}

func parsePrefixes(flag string, in []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range in {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, remedy.Usagef("%s %s: want an address with a prefix length, such as 10.9.0.2/24", flag, s)
		}
		a := p.Addr()
		if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
			return nil, remedy.Usagef("%s %s: want a unicast address of a link", flag, s)
		}
		for _, o := range out {
			if o.Addr() == a {
				return nil, remedy.Usagef("%s %s: given twice", flag, s)
			}
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, remedy.Usagef("%s: want at least one address", flag)
	}
	return out, nil
}
