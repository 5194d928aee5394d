package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/app/relay/proxy"
	"github.com/catflap/catflap/app/relay/toxiproxy"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
)

type proxyFlags struct {
	mtu   int
	netem netemFlags
	board dashboardFlags
	toxi  string
}

func newProxy(e *env) *cobra.Command {
	var f proxyFlags
	c := &cobra.Command{
		Use:   "proxy [flags] NAME=LISTEN=TARGET[/tcp|/udp]…",
		Short: "Put an impaired link between a port of this machine and a server: no device, no privilege",
		Long: `proxy listens on LISTEN and leads each connection through a userspace stack, an in-memory link that --netem
impairs, and a second stack to TARGET. All is in this process: it needs no device and no privilege.

Each proxy has its own link, and a control socket by its name: catflap --control NAME netem set loss 5%, and
ss, tcpdump, strace, lookup, top … likewise.

--netem impairs the links of all proxies; "NAME: SETTINGS" that of one. --toxiproxy-api answers Toxiproxy's
HTTP API, so that its clients can make proxies and ask for toxics; beside Toxiproxy's own there are the types
netem ({"settings": "loss 2%"}) and rule ({"rule": "drop tcp data 2"}).`,
		Example: `  catflap proxy pg=127.0.0.1:15432=127.0.0.1:5432 --netem "loss 2% delay 20ms seed 7"
  psql -h 127.0.0.1 -p 15432 -c 'select 1'
  catflap --control pg netem set delay 200ms
  catflap proxy cache=127.0.0.1:21211=127.0.0.1:11211/udp --netem "loss 10%"
  catflap proxy --toxiproxy-api 127.0.0.1:8474`,
		RunE: func(c *cobra.Command, args []string) error { return runProxy(c.Context(), e, &f, args) },
	}
	fs := c.Flags()
	fs.IntVar(&f.mtu, "mtu", tun.DefaultMTU, "MTU of the links in `BYTES`")
	f.netem.add(c)
	f.board.add(c, "")
	fs.StringVar(&f.toxi, "toxiproxy-api", "", "answer Toxiproxy's HTTP API on `ADDR`, such as 127.0.0.1:8474")
	return c
}

const proxyExample = "for example: catflap proxy pg=127.0.0.1:15432=127.0.0.1:5432"

// parse checks the command line. Each proxy has its settings.
func (f *proxyFlags) parse(e *env, args []string) (specs []proxy.Spec, netem []instance.Netem, err error) {
	if len(args) == 0 && f.toxi == "" {
		return nil, nil, &remedy.UsageError{Msg: "proxy: want NAME=LISTEN=TARGET", Remedy: proxyExample}
	}
	seen := map[string]bool{}
	for _, a := range args {
		s, err := proxy.Parse(a)
		var se *proxy.SpecError
		switch {
		case errors.As(err, &se):
			return nil, nil, &remedy.UsageError{Msg: "proxy: " + a + ": " + se.Error(), Remedy: se.Remedy}
		case seen[s.Name]:
			return nil, nil, &remedy.UsageError{Msg: fmt.Sprintf("proxy: %s: there is a proxy %q already", a, s.Name), Remedy: "give each its own name"}
		}
		seen[s.Name] = true
		specs = append(specs, s)
	}
	if f.mtu < tun.MinMTUIPv6 || f.mtu > tun.MaxMTU {
		return nil, nil, remedy.Usagef("--mtu %d: out of range; the range is %d..%d", f.mtu, tun.MinMTUIPv6, tun.MaxMTU)
	}
	if len(specs) != 1 && (f.netem.record != "" || f.netem.replay != "" || e.control != "") {
		return nil, nil, &remedy.UsageError{
			Msg:    fmt.Sprintf("proxy: --record, --replay and --control are of one proxy, and there are %d", len(specs)),
			Remedy: "run another catflap proxy for it",
		}
	}
	for _, s := range specs {
		own := f.netem
		own.settings = nil
		for _, text := range f.netem.settings {
			if name, rest, ok := strings.Cut(text, ":"); ok && seen[name] {
				if name != s.Name {
					continue
				}
				text = rest
			}
			own.settings = append(own.settings, text)
		}
		n, err := own.parse()
		if err != nil {
			return nil, nil, err
		}
		netem = append(netem, n)
	}
	_, err = f.board.address()
	return specs, netem, err
}

func runProxy(ctx context.Context, e *env, f *proxyFlags, args []string) error {
	specs, netem, err := f.parse(e, args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	set := proxies{e: e, f: f}
	defer set.close()
	start := set.start
	if f.toxi != "" {
		api := toxiproxy.New(toxiproxy.Config{Start: set.start, Stop: set.stop, Logger: e.logger()})
		defer api.Close()
		if err := api.Serve(f.toxi); err != nil {
			return remedy.With(fmt.Errorf("--toxiproxy-api %s: %w", f.toxi, err), proxyRemedy(err))
		}
		start = api.Start
		fmt.Fprintf(e.stderr, "catflap: Toxiproxy's API at http://%s/\n", api.Addr())
	}
	started := 0
	for i, s := range specs {
		if p, err := start(ctx, proxy.Config{Spec: s, Netem: netem[i]}); err != nil {
			fmt.Fprintf(e.stderr, "catflap: %s\n", oneLine(err))
			if r := proxyRemedy(err); r != "" {
				fmt.Fprintf(e.stderr, "catflap: %s\n", r)
			}
		} else {
			started++
			fmt.Fprintf(e.stderr, "catflap: %s: %s → %s/%s\n", s.Name, p.Addr(), s.Target, s.Network)
		}
	}
	if started == 0 && f.toxi == "" {
		return errors.New("proxy: none of the proxies could be started")
	}
	<-ctx.Done()
	return nil
}

// proxyRemedy says what to do when a proxy cannot start.
func proxyRemedy(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program listens there; port 0 is any that is free"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "want an address of this machine, such as 127.0.0.1"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 are for root; choose a higher one"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is the server running, and does it listen on that address?"
	case errors.As(err, &dns):
		return "is the name spelled right? an address does without a name"
	}
	return controlRemedy(err)
}

// proxies are those that run. They share the flags.
type proxies struct {
	e  *env
	f  *proxyFlags
	mu sync.Mutex
	ps []*proxy.Proxy
}

// start starts a proxy with its control socket and dashboard.
func (s *proxies) start(ctx context.Context, cfg proxy.Config) (*proxy.Proxy, error) {
	cfg.MTU, cfg.Logger = s.f.mtu, s.e.logger()
	cfg.Failed = s.tell(cfg.Name, cfg.Failed)
	p, err := proxy.Start(cfg)
	if err != nil {
		return nil, err
	}
	path := control.DefaultPath(cfg.Name)
	if s.e.control != "" {
		path = s.e.control
	}
	if err := p.Instance().Control(path, buildInfo().Version); err != nil {
		p.Close()
		return nil, fmt.Errorf("proxy %s: %w", cfg.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.board(p); err != nil {
		p.Close()
		return nil, fmt.Errorf("proxy %s: %w", cfg.Name, err)
	}
	s.ps = append(s.ps, p)
	if host, _, _ := net.SplitHostPort(cfg.Target); host != "" {
		if _, err := net.DefaultResolver.LookupHost(ctx, host); err != nil {
			fmt.Fprintf(s.e.stderr, "catflap: %s: the target %s: %s\ncatflap: %s; it is looked up again for each connection\n", cfg.Name, cfg.Target, err, proxyRemedy(err))
		}
	}
	return p, nil
}

// board serves the page of a proxy: of the first on the address that was given, of each
// further one on the next port.
func (s *proxies) board(p *proxy.Proxy) error {
	addr, err := s.f.board.address()
	if err != nil || addr == "" {
		return err
	}
	host, port, _ := net.SplitHostPort(addr)
	if n, _ := strconv.Atoi(port); n != 0 {
		addr = net.JoinHostPort(host, strconv.Itoa(n+len(s.ps)))
	}
	b, err := p.Instance().Dashboard(instance.Dashboard{Addr: addr, Payload: s.f.board.payload, Version: buildInfo().Version})
	if err != nil {
		return dashboardError(err)
	}
	b.Ready()
	fmt.Fprintf(s.e.stderr, "catflap: %s: ", p.Name())
	sayDashboard(s.e, b)
	return nil
}

// tell prints why a server could not be reached, when that is another reason than before.
func (s *proxies) tell(name string, next func(error)) func(error) {
	var mu sync.Mutex
	last := ""
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if text := oneLine(err); text != last {
			last = text
			fmt.Fprintf(s.e.stderr, "catflap: %s: %s\n", name, text)
			if r := proxyRemedy(err); r != "" {
				fmt.Fprintf(s.e.stderr, "catflap: %s\n", r)
			}
		}
		if next != nil {
			next(err)
		}
	}
}

// stop ends a proxy.
func (s *proxies) stop(p *proxy.Proxy) {
	s.mu.Lock()
	s.ps = slices.DeleteFunc(s.ps, func(o *proxy.Proxy) bool { return o == p })
	s.mu.Unlock()
	p.Close()
}

func (s *proxies) all() []*proxy.Proxy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*proxy.Proxy(nil), s.ps...)
}

func (s *proxies) close() {
	for _, p := range s.all() {
		p.Close()
	}
}
