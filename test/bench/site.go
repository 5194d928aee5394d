//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/tun"
)

// pick returns the address of the setting's family.
func (s setting) pick(v4, v6 string) netip.Addr {
	if s.Family == 6 {
		return netip.MustParseAddr(v6)
	}
	return netip.MustParseAddr(v4)
}

// contestant is a way from a client on the kernel's stack to the server.
type contestant struct {
	name, what string
	start      func(context.Context, *site) error
	skip       map[string]string // families of measures that are not for it, and why
}

// catflap reports whether catflap's stack is on the way, over a device.
func (c *contestant) catflap() bool {
	return c.name == onOffload || c.name == onWatched || c.name == onWater || c.name == viaEgress || c.name == viaForward
}

// relay reports whether the contestant has an MTU of its own.
func (c *contestant) relay() bool { return c.name == viaSlirp || c.name == viaPasta }

// site is a running contestant: namespaces, a server and a client in them.
type site struct {
	setting
	contestant     *contestant
	server, client *agent
	relay          *exec.Cmd // slirp4netns or pasta
	way            *agent    // catflap, where it leads to a server of the kernel's stack
	relayOutput    *bytes.Buffer
	target         netip.Addr
	sources        []netip.Addr // the client's addresses
	dev            string       // the client's interface; may be empty
	files          int          // that a process may have open

	// Where one process may not have as many files open as there are to be
	// connections: more of them, see grow.
	moreClients, moreServers []*agent
}

// pids are the processes that do the server's side of the work.
func (s *site) pids() []int {
	pids := []int{s.server.pid()}
	if s.relay != nil {
		pids = append(pids, s.relay.Process.Pid)
	}
	if s.way != nil {
		pids = append(pids, s.way.pid())
	}
	return pids
}

// stack is the process that catflap's stack is in.
func (s *site) stack() *agent {
	if s.way != nil {
		return s.way
	}
	return s.server
}

// startTimeout bounds the start of a site; it takes some 50 ms.
const startTimeout = 20 * time.Second

// startSite starts a contestant. Everything it makes ends with its processes.
func startSite(ctx context.Context, c *contestant, set setting, files int) (s *site, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer for %v", startTimeout))
	defer cancel()
	s = &site{setting: set, contestant: c, files: files}
	if err = c.start(ctx, s); err == nil {
		err = s.reach(ctx)
	}
	if err != nil {
		s.close()
		if s.relay != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(s.relayOutput.String()))
		}
		return nil, err
	}
	return s, nil
}

// A new site is tried at once and then every so often, for 5 s: duplicate address
// detection of a relay's IPv6 addresses takes up to two, and until the kernel has
// noticed that a link is up, what is sent on it is lost.
const (
	reachTries = 125
	reachTime  = 20 * time.Millisecond // of a try
	reachPause = 20 * time.Millisecond
)

// reach waits until the client can reach the server.
func (s *site) reach(ctx context.Context) (err error) {
	for range reachTries {
		if err = s.client.call(ctx, "load", load{Kind: loadEcho, N: 1, Target: s.target, Duration: reachTime}, nil); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
		time.Sleep(reachPause)
	}
	return fmt.Errorf("the server cannot be reached: %w", err)
}

func (s *site) close() {
	if s.relay != nil {
		s.relay.Process.Kill()
		s.relay.Wait()
	}
	for _, a := range append(append([]*agent{s.client, s.way, s.server}, s.moreClients...), s.moreServers...) {
		if a != nil {
			a.close()
		}
	}
}

// portStep lies between the ports of one server's services and the next one's.
const portStep = 1000

// capacity is how many connections a client, or a server on the kernel's stack, may
// have: some files are the runtime's, the listeners' and the agent's.
func (s *site) capacity() int { return s.files - 1000 }

// grow starts clients, and servers on the kernel's stack, until there are n. Those of
// the same number go together.
func (s *site) grow(ctx context.Context, n int) error {
	for i := 1; i < n; i++ {
		a, err := startAgent(fmt.Sprintf("%s client %d", s.contestant.name, i), s.client)
		if err != nil {
			return err
		}
		s.moreClients = append(s.moreClients, a)
		if s.contestant.name != onKernel {
			continue
		}
		if a, err = startAgent(fmt.Sprintf("%s server %d", s.contestant.name, i), s.server); err != nil {
			return err
		}
		s.moreServers = append(s.moreServers, a)
		if err := a.call(ctx, "serve", serveArgs{On: onKernel, PortOffset: i * portStep}, nil); err != nil {
			return err
		}
	}
	return nil
}

// pair returns client i and where it finds a service.
func (s *site) pair(i, port int) (*agent, int) {
	if s.contestant.name == onKernel {
		port += i * portStep
	}
	if i == 0 {
		return s.client, port
	}
	return s.moreClients[i-1], port
}

// agents starts the server's agent and the client's: in one namespace or in two.
func (s *site) agents(ctx context.Context, shared bool) (err error) {
	if s.server, err = startAgent(s.contestant.name+" server", nil); err != nil {
		return err
	}
	peer := s.server
	if !shared {
		peer = nil
	}
	if s.client, err = startAgent(s.contestant.name+" client", peer); err != nil || s.Congestion == "" {
		return err
	}
	return inOrder(
		func() error { return s.server.call(ctx, "congestion", s.Congestion, nil) },
		func() error { return s.client.call(ctx, "congestion", s.Congestion, nil) },
	)
}

// clientSources is how many addresses the client has of each family: 50,000
// connections to one port of the server need more than one.
const clientSources = 4

// link sets s.target and s.sources, and returns the prefixes of both ends: those of
// catflap's own defaults, and more for the client.
func (s *site) link() (server, client []netip.Prefix) {
	server = instance.DefaultAddrs
	for _, p := range instance.DefaultHostAddrs {
		a := p.Addr()
		for range clientSources {
			client = append(client, netip.PrefixFrom(a, p.Bits()))
			if a.Is6() == (s.Family == 6) {
				s.sources = append(s.sources, a)
			}
			if a = a.Next(); a == server[0].Addr() || a == server[1].Addr() {
				a = a.Next()
			}
		}
	}
	s.target = s.pick(server[0].Addr().String(), server[1].Addr().String())
	return server, client
}

// Relays, by the names of their programs.
const (
	viaSlirp = "slirp4netns"
	viaPasta = "pasta"
)

// contestants, by the letters of the measurement's plan: (a) to (e).
var contestants = []*contestant{
	{name: onKernel, what: "Linux's own stack over a veth pair", start: startVeth},
	{name: onOffload, what: "catflap, TUN device with offloads", start: startTUN},
	{name: onWatched, what: "the same, and a program that listens to every event", start: startTUN, skip: map[string]string{
		familyIdle:  "idle connections have no events",
		familyCalls: "it makes the same calls",
	}},
	{name: onWater, what: "catflap, songgao/water, no offloads", start: startTUN},
	{name: onPair, what: "two catflap stacks in one process", start: startPair, skip: map[string]string{
		familyIdle:  "client and server share one process, whose memory cannot be told apart",
		familyCalls: "there is no system call on its packet path",
	}},
	{name: viaEgress, what: "catflap run --egress, to a server in its host namespace", start: startWay, skip: relaySkips},
	{name: viaForward, what: "catflap run --forward, to a server in its host namespace", start: startWay, skip: relaySkips},
	{name: viaSlirp, what: "slirp4netns, MTU 65520, to a server in its host namespace", start: startSlirp, skip: relaySkips},
	{name: viaPasta, what: "pasta (passt), MTU 65520, to a server in its host namespace", start: startPasta, skip: relaySkips},
}

var relaySkips = map[string]string{
	familyIdle:  "its connections end at sockets of the kernel",
	familyCalls: "its connections end at sockets of the kernel",
}

func startVeth(ctx context.Context, s *site) error {
	if err := s.agents(ctx, false); err != nil {
		return err
	}
	s.dev = "eth0"
	server, client := s.link()
	return inOrder(
		func() error {
			return s.server.call(ctx, "veth", vethArgs{Dev: "eth0", PeerDev: s.dev, Peer: s.client.pid(), MTU: s.MTU}, nil)
		},
		func() error { return s.server.call(ctx, "dev", devArgs{Dev: "eth0", Addrs: server}, nil) },
		func() error { return s.client.call(ctx, "dev", devArgs{Dev: s.dev, Addrs: client}, nil) },
		func() error { return s.server.call(ctx, "serve", serveArgs{On: onKernel}, nil) },
	)
}

// startTUN has the server open a TUN device whose other end is the client's kernel.
func startTUN(ctx context.Context, s *site) error {
	if err := s.agents(ctx, true); err != nil {
		return err
	}
	s.dev = tun.DefaultName
	server, client := s.link()
	return s.server.call(ctx, "serve", serveArgs{
		On: s.contestant.name, Dev: s.dev, MTU: s.MTU, Queues: s.Queues, Addrs: server, HostAddrs: client,
	}, nil)
}

func startPair(ctx context.Context, s *site) (err error) {
	if s.server, err = startAgent("pair", nil); err != nil {
		return err
	}
	s.client = s.server
	server, client := s.link()
	return s.server.call(ctx, "serve", serveArgs{On: onPair, MTU: s.MTU, Addrs: server, HostAddrs: client}, nil)
}

// relayMTU is the largest that the relays take, and what Podman gives both: they
// gain from it, since no packet of theirs ever leaves the machine.
const relayMTU = 65520

// startSlirp has the client reach the server at the address that slirp4netns gives
// its host's loopback interface.
func startSlirp(ctx context.Context, s *site) error {
	path, err := lookRelay(viaSlirp, "slirp4netns")
	if err != nil {
		return err
	}
	if err := s.agents(ctx, false); err != nil {
		return err
	}
	s.dev, s.target = "tap0", s.pick("10.0.2.2", "fd00::2")
	args := []string{"--configure", "--mtu=" + strconv.Itoa(relayMTU)}
	if s.Family == 6 {
		args = append(args, "--enable-ipv6")
	}
	args = append(args, strconv.Itoa(s.client.pid()), s.dev)
	return inOrder(
		func() error { return s.server.call(ctx, "dev", devArgs{Dev: "lo"}, nil) },
		func() error { return s.server.call(ctx, "serve", serveArgs{On: onKernel}, nil) },
		func() error { return s.startRelay(path, args) },
	)
}

// startPasta has the client reach the server at the address of the host's gateway,
// for which pasta takes its host's loopback interface. The host is a namespace with
// a veth pair that leads nowhere.
func startPasta(ctx context.Context, s *site) error {
	path, err := lookRelay(viaPasta, "passt")
	if err != nil {
		return err
	}
	if err := s.agents(ctx, false); err != nil {
		return err
	}
	s.dev, s.target = "eth0", s.pick("192.0.2.254", "2001:db8::fe") // documentation prefixes: RFC 5737, RFC 3849
	host := devArgs{
		Dev:     s.dev,
		Addrs:   []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
		Gateway: []netip.Addr{netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::fe")},
	}
	return inOrder(
		func() error { return s.server.call(ctx, "dev", devArgs{Dev: "lo"}, nil) },
		func() error {
			return s.server.call(ctx, "veth", vethArgs{Dev: s.dev, PeerDev: "nowhere", MTU: s.MTU}, nil)
		},
		func() error { return s.server.call(ctx, "dev", devArgs{Dev: "nowhere"}, nil) },
		func() error { return s.server.call(ctx, "dev", host, nil) },
		func() error { return s.server.call(ctx, "serve", serveArgs{On: onKernel}, nil) },
		func() error {
			return s.startRelay(path, []string{
				"--foreground", "--quiet", "--config-net", "--netns-only", "--runas", "0", "--mtu", strconv.Itoa(relayMTU),
				"--interface", s.dev, "--ns-ifname", s.dev,
				"-t", "none", "-u", "none", "-T", "none", "-U", "none",
				// By process id it would look for a user namespace too, without the right to.
				"--netns", fmt.Sprintf("/proc/self/fd/%d", relayNetns),
			})
		},
	)
}

func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// errNotInstalled is why a relay does not take part.
var errNotInstalled = errors.New("not installed")

func lookRelay(name, pkg string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w; on Debian: apt-get install %s", name, errNotInstalled, pkg)
	}
	return path, nil
}

// relayNetns is the file descriptor of the client's namespace in a relay, the first
// of exec.Cmd's ExtraFiles.
const relayNetns = 3

// startRelay starts a relay in the server's namespace.
func (s *site) startRelay(path string, args []string) error {
	var output bytes.Buffer
	relay := exec.Command(path, args...)
	relay.Stdout, relay.Stderr = &output, &output
	relay.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", s.client.pid()))
	if err != nil {
		return err
	}
	defer netns.Close()
	relay.ExtraFiles = []*os.File{netns}
	if err := startIn(relay, s.server.pid()); err != nil {
		return err
	}
	s.relay, s.relayOutput = relay, &output
	return nil
}
