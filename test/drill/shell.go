package drill

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
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
	stampTick  int // microseconds; 0: time stamps are not compared
	strict     bool
	ignorePush bool // PSH is not compared
	explain    bool // collect the stack's decisions about packets
	bindPort   uint16
	quietEnd   time.Duration
	hasQuiet   bool
	tcp        stack.TCPConfig
	sysctls    []sysctl // in order, for the kernel
	defines    map[string]string
}

// sysctl is one setting of the kernel: a path below /proc/sys and a value.
type sysctl struct{ path, value string }

// What packetdrill's own defaults are, so that scripts without options mean the same here.
const (
	defaultTolerance = 4 * time.Millisecond
	defaultMTU       = 1500
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
		bindPort:  defaultPort,
		defines:   map[string]string{},
		tcp: stack.TCPConfig{
			ReceiveBuffer: receiveBuffer, ReceiveBufferMax: receiveBufferMax,
			SendBuffer: sendBuffer, SendBufferMax: sendBufferMax,
			SynRetries: synRetries,
		},
	}
}

// configure reads the header options and the shell lines before the first event.
func (s *Script) configure(on Target) (settings, error) {
	set := defaultSettings()
	set.target = on
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
	for _, sh := range s.Init {
		if err := s.shellLines(sh, &set); err != nil {
			return set, err
		}
	}
	return set, nil
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
	case "gateway_ip", "speed", "wire_protocol", "verbose", "debug", "dry_run", "non_fatal", "init_scripts", "code_command", "code_format", "code_sockopt":
		// They say how packetdrill reaches the kernel or what it prints; here they change nothing.
	case "mtu":
		n, err := number(65535)
		if err != nil || n < 68 {
			return fmt.Errorf("%q is not an MTU from 68 to 65535", o.Value)
		}
		set.mtu = n
	case "mss":
		// How large the segments are of which a larger packet to the stack is said to consist (GRO): it comes whole.
		if n, err := number(65535); err != nil || n == 0 {
			return fmt.Errorf("%q is not an MSS", o.Value)
		}
	case "tolerance_usecs":
		n, err := number(10_000_000)
		if err != nil {
			return err
		}
		set.tolerance = time.Duration(n) * time.Microsecond
	case "tolerance_percent":
		if _, err := number(100); err != nil {
			return err
		}
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
	case "bind_port":
		n, err := number(65535)
		if err != nil || n == 0 {
			return fmt.Errorf("%q is not a port", o.Value)
		}
		set.bindPort = uint16(n)
	case "quiet_end":
		d, err := parseSeconds(o.Value)
		if err != nil {
			return fmt.Errorf("%q is not a time in seconds", o.Value)
		}
		set.quietEnd, set.hasQuiet = d, true
	case "define":
		name, value, ok := strings.Cut(o.Value, "=")
		if !ok || name == "" {
			return fmt.Errorf("%q is not NAME=VALUE", o.Value)
		}
		set.defines[name] = strings.Trim(value, `"`)
	default:
		return fmt.Errorf("this option is not known: ip_version, local_ip, remote_ip, netmask_ip, mtu, mss, tolerance_usecs, tcp_ts_tick_usecs, strict_segments, ignore_push, bind_port, define, quiet_end")
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

// shellLines applies a backquoted text: its commands are not run, but a few are understood.
func (s *Script) shellLines(sh *Shell, set *settings) error {
	text := strings.ReplaceAll(sh.Text, "\\\r\n", " ")
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, line := range commandEnd.Split(text, -1) {
		if i := strings.Index(line, "#"); i >= 0 && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
		}
		line = strings.TrimSpace(redirections.ReplaceAllString(line, ""))
		if line == "" {
			continue
		}
		if err := set.command(line); err != nil {
			return s.errorf(s.commandPos(sh, strings.Fields(line)[0]), "shell line %q: %v", line, err)
		}
	}
	return nil
}

// commandPos is where in a backquoted text a command stands that begins with the given word.
func (s *Script) commandPos(sh *Shell, word string) Pos {
	for n := range strings.Count(sh.Text, "\n") + 1 {
		line, from := s.line(sh.Pos.Line+n), 0
		if n == 0 {
			from = sh.Pos.Col // behind the backquote
		}
		if i := strings.Index(line[min(from, len(line)):], word); i >= 0 {
			return Pos{Line: sh.Pos.Line + n, Col: from + i + 1}
		}
	}
	return sh.Pos
}

var (
	commandEnd   = regexp.MustCompile(`\n|;|&&|\|\|`)
	redirections = regexp.MustCompile(`[0-9&]*>\s*\S+`)
	assignment   = regexp.MustCompile(`([A-Za-z0-9_./]+)\s*=\s*("[^"]*"|\S+)`)
)

// command applies one command of a shell line.
func (set *settings) command(line string) error {
	words := strings.Fields(line)
	switch base := path.Base(words[0]); {
	case base == "defaults.sh":
		// The values that these set are this package's own defaults.
		return nil
	case base == "set_sysctls.py", words[0] == "sysctl":
		found := assignment.FindAllStringSubmatch(line, -1)
		if len(found) == 0 {
			return fmt.Errorf("no NAME=VALUE in it")
		}
		for _, m := range found {
			if err := set.sysctl(m[1], strings.Trim(m[2], `"`)); err != nil {
				return err
			}
		}
		return nil
	case strings.HasPrefix(words[0], "/tmp/sysctl_restore_"), words[0] == "true", words[0] == "sync":
		// Each script runs on a stack of its own, so there is nothing to restore.
		return nil
	case words[0] == "nstat" && len(words) == 1:
		return nil // resets counters that nothing here reads
	case strings.HasPrefix(line, "ip tcp_metrics flush"):
		return nil // nothing is remembered from one connection to the next
	case words[0] == "ethtool" && strings.Contains(line, " -K ") && !strings.Contains(line, " on"):
		return nil // there is no offload to switch off
	case strings.HasPrefix(line, "tc qdisc add dev tun0 root pfifo") && len(words) == 7:
		return nil // there is no queueing discipline to replace
	}
	return fmt.Errorf("shell commands are not run; only these are understood: sysctl, set_sysctls.py, defaults.sh, sysctl_restore, ip tcp_metrics flush, ethtool -K … off")
}

// withoutEffect are settings of Linux's TCP for which nothing need be done here when they have these values, "*" for any:
// because the stack is so anyway, or because the value makes no difference on this link.
var withoutEffect = map[string][]string{
	// What the stack always does.
	"tcp_timestamps":            {"1"},
	"tcp_window_scaling":        {"1"},
	"tcp_slow_start_after_idle": {"1"},
	"tcp_syncookies":            {"0", "1"}, // cookies only when the queue is full
	"tcp_reordering":            {"3"},
	// What it never does.
	"tcp_dsack":             {"0"},
	"tcp_ecn":               {"0"},
	"tcp_fastopen":          {"0"},
	"tcp_mtu_probing":       {"0"},
	"tcp_autocorking":       {"0"},
	"tcp_notsent_lowat":     {"4294967295", "-1"},
	"tcp_no_metrics_save":   {"1"},
	"tcp_frto":              {"*"}, // how a timeout proves spurious shows in no packet that scripts look at
	"tcp_fack":              {"*"}, // without meaning in Linux since 4.15
	"tcp_ecn_option":        {"*"}, // nothing without ECN
	"tcp_fastopen_key":      {"*"}, // nothing without Fast Open
	"tcp_tso_win_divisor":   {"*"}, // nothing without segmentation offload
	"tcp_min_tso_segs":      {"*"},
	"tcp_pacing_ss_ratio":   {"*"}, // nothing without pacing
	"tcp_pacing_ca_ratio":   {"*"},
	"tcp_invalid_ratelimit": {"500"},

	"tcp_fastopen_blackhole_timeout_sec": {"*"},
}

// sysctl applies a setting, given as net.ipv4.NAME or /proc/sys/net/ipv4/NAME.
func (set *settings) sysctl(name, value string) error {
	p := strings.TrimPrefix(name, "/proc/sys/")
	p = strings.ReplaceAll(p, ".", "/")
	set.sysctls = append(set.sysctls, sysctl{p, value})
	if set.target == Kernel {
		return nil // it knows its own
	}
	short, ok := strings.CutPrefix(p, "net/ipv4/")
	if !ok {
		return fmt.Errorf("only net.ipv4.tcp_… can be set, not %s", name)
	}
	number := func() (int, error) {
		n, err := strconv.ParseInt(value, 0, 32)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("%s=%s: not a number", short, value)
		}
		return int(n), nil
	}
	three := func() (low, def, high int, err error) {
		f := strings.Fields(value)
		var n [3]int
		for i := range n {
			if len(f) != 3 {
				return 0, 0, 0, fmt.Errorf("%s=%q: three numbers are needed", short, value)
			}
			if n[i], err = strconv.Atoi(f[i]); err != nil || n[i] <= 0 {
				return 0, 0, 0, fmt.Errorf("%s=%q: %q is not a size", short, value, f[i])
			}
		}
		return n[0], n[1], n[2], nil
	}
	var err error
	switch short {
	case "tcp_sack":
		n, e := number()
		set.tcp.NoSACK, err = n == 0, e
	case "tcp_recovery", "tcp_early_retrans":
		n, e := number()
		set.tcp.NoRACK, err = n == 0, e
	case "tcp_congestion_control":
		set.tcp.CongestionControl = value
		if value != "cubic" && value != "reno" {
			err = fmt.Errorf("%s=%s: the stack has cubic and reno", short, value)
		}
	case "tcp_rmem":
		_, set.tcp.ReceiveBuffer, set.tcp.ReceiveBufferMax, err = three()
	case "tcp_wmem":
		_, set.tcp.SendBuffer, set.tcp.SendBufferMax, err = three()
	case "tcp_syn_retries":
		set.tcp.SynRetries, err = number()
	case "tcp_synack_retries":
		_, err = number() // netstack counts SYN-ACKs with tcp_syn_retries
	case "tcp_retries2":
		set.tcp.Retries, err = number()
	default:
		values, known := withoutEffect[short]
		if !known {
			return fmt.Errorf("the stack has no counterpart to %s", name)
		}
		for _, v := range values {
			if v == "*" || v == value {
				return nil
			}
		}
		return fmt.Errorf("the stack cannot do %s=%s, only %s", name, value, strings.Join(values, ", "))
	}
	return err
}
