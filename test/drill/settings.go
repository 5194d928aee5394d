package drill

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/catflap/catflap/stack"
)

// settings are what a script runs under: its header options, and what its shell lines set.
type settings struct {
	target     Target
	ipVersion  string // ipv4, ipv6 or ipv4-mapped-ipv6
	local      netip.Prefix
	remote     netip.Addr
	mtu        int
	tolerance  time.Duration
	percent    float64 // of the time since the event before, if that is more than tolerance
	stampTick  int     // microseconds; 0: time stamps are not compared
	strict     bool
	ignorePush bool // PSH is not compared
	explain    bool // collect the stack's decisions about packets
	bindPort   uint16
	mss        int    // of the segments that a longer packet to the kernel consists of; 0: it is one
	connect    uint16 // port that a connect without address goes to
	anyShell   bool   // shell lines that the runner does not understand go to a shell, on the kernel
	congestion string // algorithm of new sockets, whatever sysctl says; "" for what it says
	quietEnd   time.Duration
	hasQuiet   bool
	tcp        stack.TCPConfig
}

// What packetdrill's own defaults are, so that scripts without options mean the same here.
const (
	defaultTolerance = 4 * time.Millisecond
	// A timer of Linux's may be late by an eighth of its time, since its wheel has eight slots a level.
	defaultPercent = 12.5
	defaultMTU     = 1500
	// IPv6's header is 20 bytes longer, so with 20 bytes more an MSS is the same in both.
	defaultMTUv6 = defaultMTU + 20
	defaultPort  = 8080
)

// The send and receive buffers that public scripts set in their defaults.sh; much in them depends on it, as the window
// scale of 8 that follows from 15 MiB.
const (
	receiveBuffer    = 540000
	receiveBufferMax = 15 << 20
	sendBuffer       = 256 << 10
	sendBufferMax    = 4 << 20
	synRetries       = 5
)

func defaultSettings() settings {
	return settings{
		ipVersion: "ipv4",
		tolerance: defaultTolerance,
		percent:   defaultPercent,
		bindPort:  defaultPort,
		connect:   defaultPort,
		tcp: stack.TCPConfig{
			ReceiveBuffer: receiveBuffer, ReceiveBufferMax: receiveBufferMax,
			SendBuffer: sendBuffer, SendBufferMax: sendBufferMax,
			SynRetries: synRetries,
		},
	}
}

// Environment is what a script runs under that it does not say itself.
type Environment struct {
	// Defines are names that scripts leave to whoever runs them, as packetdrill's -D gives them.
	Defines map[string]string
	// Congestion is the congestion control algorithm of each socket, if not "": set on the socket itself, since a network
	// namespace may refuse to change its default.
	Congestion string
	// Shell lets the lines of a script that the runner does not understand run in a shell, as the user that runs this
	// program, in the script's directory. Only the kernel target does; it runs them in its network namespace.
	Shell bool
	// Between stands between a script and the userspace stack, for tests of scripts: it is called once for each run, and
	// what it returns is given each packet on its way and returns what goes on instead. The slice is its to change. Nil: nothing.
	Between func() func(dir Direction, packet []byte) [][]byte
}

// configure reads the header options and, for the stack, the settings that shell lines before the first event make.
func (s *Script) configure(on Target, env Environment) (settings, error) {
	set := defaultSettings()
	set.target, set.anyShell, set.congestion = on, env.Shell, env.Congestion
	if strings.HasSuffix(s.Name, "v6"+Extension) {
		set.ipVersion = "ipv6" // as the runners of public suites take such a name
	}
	var local, remote string
	prefix := -1
	for _, o := range s.Options {
		if err := set.option(o, &local, &remote, &prefix); err != nil {
			return set, s.errorf(o.Pos, "--%s: %v", o.Name, err)
		}
	}
	if err := set.addresses(local, remote, prefix); err != nil {
		return set, s.errorf(Pos{1, 1}, "%v", err)
	}
	if on != Stack {
		return set, nil
	}
	for _, sh := range s.opening() {
		if err := s.applySysctls(sh, &set); err != nil {
			return set, err
		}
	}
	if set.congestion != "" {
		set.tcp.CongestionControl = set.congestion
	}
	return set, nil
}

// opening are the shell lines before anything else happens: those without a time, and those that follow at once.
func (s *Script) opening() []*Shell {
	all := slices.Clone(s.Init)
	for _, e := range s.Events {
		if e.Shell == nil || e.Time.From != 0 || e.Time.Any {
			break
		}
		all = append(all, e.Shell)
	}
	return all
}

// applySysctls applies what a backquoted text sets to the stack's settings. The error is a *refusal.
func (s *Script) applySysctls(sh *Shell, set *settings) error {
	commands, err := s.commands(sh, Stack, set.anyShell)
	if err != nil {
		return err
	}
	for _, c := range commands {
		for _, y := range c.sysctls {
			if err := set.sysctl(y); err != nil && !c.soft {
				return c.refuse("%v", err)
			}
		}
	}
	return nil
}

// option applies one header option.
func (set *settings) option(o Option, local, remote *string, prefix *int) error {
	number := func(limit int) (int, error) {
		n, err := strconv.Atoi(o.Value)
		if err != nil || n < 0 || n > limit {
			return 0, fmt.Errorf("%q is not a number from 0 to %d", o.Value, limit)
		}
		return n, nil
	}
	switch o.Name {
	case "ip_version":
		switch o.Value {
		case "ipv4", "ipv6", "ipv4-mapped-ipv6":
			set.ipVersion = o.Value
		default:
			return fmt.Errorf("%q is none of ipv4, ipv6, ipv4-mapped-ipv6", o.Value)
		}
	case "local_ip":
		*local = o.Value
	case "remote_ip":
		*remote = o.Value
	case "netmask_ip":
		a, err := netip.ParseAddr(o.Value)
		if err != nil || !a.Is4() {
			return fmt.Errorf("%q is not an IPv4 netmask", o.Value)
		}
		b := a.As4()
		m := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
		*prefix = 0
		for ; m&(1<<31) != 0; m <<= 1 {
			*prefix++
		}
		if m != 0 {
			return fmt.Errorf("%q is not an IPv4 netmask", o.Value)
		}
	case "gateway_ip", "speed", "wire_protocol", "verbose", "debug", "dry_run", "non_fatal", "code_command", "code_format", "code_sockopt", "send_omit_free":
		// They say how packetdrill reaches the kernel, what it prints, or what it frees at its end; here they change nothing.
	case "udp_encapsulation":
		if o.Value != "tcp" {
			return fmt.Errorf("%q is not supported: only tcp", o.Value)
		}
		// Each segment says for itself whether it is in UDP.
	case "mtu":
		n, err := number(65535)
		if err != nil || n < 68 {
			return fmt.Errorf("%q is not an MTU from 68 to 65535", o.Value)
		}
		set.mtu = n
	case "mss":
		// How large the segments are of which a larger packet to the system is said to consist (GRO). To the userspace
		// stack it comes whole.
		n, err := number(65535)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not an MSS", o.Value)
		}
		set.mss = n
	case "tolerance_usecs":
		n, err := number(10_000_000)
		if err != nil {
			return err
		}
		set.tolerance = time.Duration(n) * time.Microsecond
	case "tolerance_percent":
		p, err := strconv.ParseFloat(o.Value, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return fmt.Errorf("%q is not a number from 0 to 100", o.Value)
		}
		set.percent = p
	case "tcp_ts_tick_usecs":
		n, err := number(1_000_000)
		if err != nil {
			return err
		}
		set.stampTick = n
	case "tcp_ts_ecr_scaled":
	case "strict_segments":
		set.strict = true
	case "ignore_push":
		set.ignorePush = true
	case "bind_port", "connect_port":
		n, err := number(65535)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a port", o.Value)
		}
		if o.Name == "bind_port" {
			set.bindPort = uint16(n)
		} else {
			set.connect = uint16(n)
		}
	case "quiet_end":
		d, err := parseSeconds(o.Value)
		if err != nil {
			return fmt.Errorf("%q is not a time in seconds", o.Value)
		}
		set.quietEnd, set.hasQuiet = d, true
	case "define", "D": // read where the name stands
		if name, _, ok := strings.Cut(o.Value, "="); !ok || name == "" {
			return fmt.Errorf("%q is not NAME=VALUE", o.Value)
		}
	default:
		return fmt.Errorf("this option is not known: ip_version, local_ip, remote_ip, netmask_ip, mtu, mss, tolerance_usecs, tolerance_percent, tcp_ts_tick_usecs, strict_segments, ignore_push, bind_port, connect_port, define, quiet_end")
	}
	return nil
}

// addresses fills in the addresses and MTU that the options left out.
func (set *settings) addresses(local, remote string, prefix int) error {
	v6 := set.ipVersion == "ipv6"
	def := func(v *string, v4, six string) {
		if *v == "" {
			*v = v4
			if v6 {
				*v = six
			}
		}
	}
	// Documentation and private addresses, packetdrill's own.
	def(&local, "192.168.0.1", "fd3d:0a0b:17d6::1")
	def(&remote, "192.0.2.1", "fd3d:fa7b:d17d::1")
	l, err := netip.ParseAddr(local)
	if err != nil || l.Is6() != v6 {
		return fmt.Errorf("--local_ip=%s is not an address for --ip_version=%s", local, set.ipVersion)
	}
	r, err := netip.ParseAddr(remote)
	if err != nil || r.Is6() != v6 {
		return fmt.Errorf("--remote_ip=%s is not an address for --ip_version=%s", remote, set.ipVersion)
	}
	if prefix < 0 {
		prefix = 16
		if v6 {
			prefix = 48
		}
	}
	set.local, set.remote = netip.PrefixFrom(l, prefix), r
	if set.mtu == 0 {
		set.mtu = defaultMTU
		if v6 {
			set.mtu = defaultMTUv6
		}
	}
	return nil
}
