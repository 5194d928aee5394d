package lab

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// Options describe a Lab. The zero value is a good one.
type Options struct {
	// Seed is where all that is random comes from: what links do, initial sequence numbers, ports. If zero, the environment
	// variable CATFLAP_SEED, or else a new one for each run. A test that fails logs it.
	Seed uint64

	// MTU of links that do not say otherwise, in bytes. If zero, 1500.
	MTU int

	// TCP tunes the stacks of hosts that do not say otherwise.
	TCP stack.TCPConfig

	// Clock, if not nil, is the time of all stacks and links, and stands still except when it is moved: see Clock. If nil,
	// time is real. A Clock serves one Lab.
	Clock *Clock

	// Artifacts is the folder for what is written when the test fails. If empty, the environment variable CATFLAP_ARTIFACTS
	// names one, in which each test has a folder of its own; else it is the test's own artifact folder if "go test" runs
	// with -artifacts, and a new temporary folder otherwise, which stays.
	Artifacts string

	// NoRecord keeps no packets and no timeline, for tests that measure. A failure then shows nothing but the seed.
	NoRecord bool

	// Logger hears what the stacks and links have to say. If nil, nobody does.
	Logger *slog.Logger
}

// maxNodes bounds a Lab's hosts, routers and switches, and so its subnets too: IPv4's default ones are 10.9.0.0/24 to
// 10.9.255.0/24.
const maxNodes = 256

// Lab is a network in memory. Its methods that build it are for the test's own goroutine: they end the test if they cannot do
// what they are asked for. All else may be used from any goroutine.
type Lab struct {
	t       testing.TB
	opts    Options
	seed    uint64
	clock   tcpip.Clock
	start   tcpip.MonotonicTime
	virtual *Clock // nil: real time
	record  *recorder

	patience time.Duration // closeTimeout, but for a test

	mu      sync.RWMutex // guards changes of the network
	nodes   []node
	links   []*Link
	subnets []*subnet
	closers []func()
	serving sync.WaitGroup // what Serve started
}

// New makes an empty network, which is closed when the test ends.
func New(t testing.TB, opts Options) *Lab {
	t.Helper()
	l := &Lab{t: t, opts: opts, clock: tcpip.NewStdClock(), virtual: opts.Clock, patience: closeTimeout}
	if l.opts.MTU == 0 {
		l.opts.MTU = tun.DefaultMTU
	}
	err := checkMTU(l.opts.MTU)
	if err == nil {
		l.seed, err = chooseSeed(opts.Seed)
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	if l.virtual != nil {
		l.clock = l.virtual
		l.virtual.mu.Lock()
		l.virtual.stuck = l.stuck
		l.virtual.mu.Unlock()
	}
	l.start = l.clock.NowMonotonic()
	if !opts.NoRecord {
		l.record = newRecorder(l)
	}
	t.Cleanup(l.close)
	return l
}

// Seed returns the seed in use.
func (l *Lab) Seed() uint64 { return l.seed }

// now is the time since the lab was made.
func (l *Lab) now() time.Duration { return l.clock.NowMonotonic().Sub(l.start) }

// fatalf ends the test.
func (l *Lab) fatalf(format string, args ...any) {
	l.t.Helper()
	l.t.Fatalf("lab: "+format, args...)
}

// stuck is called by the clock when it can no longer move: the program gets errors from its connections, and so ends.
func (l *Lab) stuck(why string) {
	l.t.Errorf("lab: %s", why)
	l.virtual.release()
	for _, n := range l.snapshot() {
		n.close()
	}
}

func (l *Lab) snapshot() []node {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return append([]node(nil), l.nodes...)
}

// onClose has f called when the lab is closed, before the stacks are.
func (l *Lab) onClose(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// closeTimeout is how long closing may take, in real time, until it counts as a leak.
const closeTimeout = 20 * time.Second

// close ends everything. The order is that in which users depend on each other: first the record of a failure is written,
// before closing adds to it; then sleepers wake; then clients and servers end, then stacks, each with the goroutines of its
// ports and links.
func (l *Lab) close() {
	l.t.Helper()
	if l.t.Failed() {
		l.report()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if l.virtual != nil {
			l.virtual.release()
		}
		l.mu.Lock()
		closers := l.closers
		l.closers = nil
		l.mu.Unlock()
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]()
		}
		l.record.stop()
		for _, n := range l.snapshot() {
			n.close()
		}
		l.serving.Wait()
	}()
	select {
	case <-done:
	case <-time.After(l.patience):
		l.t.Errorf("lab: something still runs %s after the end of the test; goroutines:\n%s", l.patience, stacks())
	}
}

// maxStacks bounds the text of goroutines that a leak is reported with.
const maxStacks = 64 << 10

func stacks() string {
	b := make([]byte, maxStacks)
	return string(b[:runtime.Stack(b, true)])
}

// report logs what happened, when the test has failed.
func (l *Lab) report() {
	l.t.Helper()
	name, _, _ := strings.Cut(l.t.Name(), "/")
	again := fmt.Sprintf("%s=%d go test -run '^%s$'", SeedEnv, l.seed, name)
	if l.opts.Seed != 0 {
		again = fmt.Sprintf("go test -run '^%s$'", name)
	}
	l.t.Logf("lab: seed %d; to repeat: %s", l.seed, again)
	l.record.report()
}

// Subnet gives a link, or a switch's first link, prefixes of its own, one of each IP version at most; without one of a version
// the link does not carry that version. The first node gets each prefix's first address, and so on.
func Subnet(prefixes ...string) LinkOption {
	return func(c *linkConfig) error {
		c.subnet = &subnet{}
		for _, text := range prefixes {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("subnet: %v", err)
			}
			of := &c.subnet.v4
			if p.Addr().Is6() {
				of = &c.subnet.v6
			}
			if of.IsValid() {
				return fmt.Errorf("subnet %s: there is %s already, and a link has one of each IP version", p, of)
			}
			*of = p.Masked()
		}
		return nil
	}
}

// subnet is the addresses of a link, or of all that is joined by switches.
type subnet struct {
	v4, v6 netip.Prefix // invalid: none
	last   int          // number of the last address given out
	nodes  []*attachment
}

// newSubnet returns the n-th default subnet: 10.9.n.0/24 and fd00:9:0:n::/64.
func newSubnet(n int) *subnet {
	return &subnet{
		v4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, byte(n), 0}), 24),
		v6: netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 7: byte(n)}), 64),
	}
}

// next gives out the next address of each IP version, with the length of its prefix.
func (s *subnet) next() ([]netip.Prefix, error) {
	s.last++
	var addrs []netip.Prefix
	for _, p := range []netip.Prefix{s.v4, s.v6} {
		if !p.IsValid() {
			continue
		}
		a := p.Addr()
		for range s.last {
			a = a.Next()
		}
		// An IPv4 subnet's last address is its broadcast address, but in a /31 (RFC 3021) and a /32.
		if !p.Contains(a) || a.Is4() && p.Bits() < 31 && !p.Contains(a.Next()) {
			return nil, fmt.Errorf("subnet %s has no address left for a node: give it a shorter prefix", p)
		}
		addrs = append(addrs, netip.PrefixFrom(a, p.Bits()))
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("subnet without prefixes: name one of IPv4 or of IPv6")
	}
	return addrs, nil
}
