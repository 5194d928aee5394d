package drill

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sysctl is one setting of the kernel: a path below /proc/sys and a value. soft is that its absence is no error ("-e").
type sysctl struct {
	path, value string
	soft        bool
}

var assignment = regexp.MustCompile(`^([A-Za-z0-9_./]+)\s*=\s*(.*)$`)

// sysctlCommand reads the arguments of sysctl and set_sysctls.py: flags, and NAME=VALUE in one word or more.
func sysctlCommand(args []string) ([]sysctl, error) {
	var out []sysctl
	soft := false
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch a {
		case "-q", "-w", "-qw", "-wq", "--quiet", "--write":
			continue
		case "-e", "-qe", "-eq", "--ignore":
			soft = true
			continue
		}
		if i+1 < len(args) && strings.HasPrefix(args[i+1], "=") { // NAME = VALUE
			a += args[i+1]
			i++
			if strings.HasSuffix(a, "=") && i+1 < len(args) {
				a += args[i+1]
				i++
			}
		}
		m := assignment.FindStringSubmatch(a)
		if m == nil {
			return nil, fmt.Errorf("%q is not NAME=VALUE", a)
		}
		name := strings.TrimPrefix(m[1], "/proc/sys/")
		out = append(out, sysctl{path: strings.ReplaceAll(name, ".", "/"), value: m[2], soft: soft})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no NAME=VALUE in it")
	}
	return portable(out)
}

// name is the setting as sysctl prints it.
func (y sysctl) name() string { return strings.ReplaceAll(y.path, "/", ".") }

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

// sysctl applies a setting of Linux to the stack.
func (set *settings) sysctl(y sysctl) error {
	value := y.value
	short, ok := strings.CutPrefix(y.path, "net/ipv4/")
	if !ok {
		if y.soft {
			return nil
		}
		return fmt.Errorf("the stack has no counterpart to %s: only some of net.ipv4", y.name())
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
			return fmt.Errorf("the stack has no counterpart to %s", y.name())
		}
		for _, v := range values {
			if v == "*" || v == value {
				return nil
			}
		}
		return fmt.Errorf("the stack cannot do %s=%s, only %s", y.name(), value, strings.Join(values, ", "))
	}
	return err
}

// FreeBSD's settings, in Linux's words, so that its scripts run on both targets. What a line restates is taken as it is.
//
// restated are values that are FreeBSD's own defaults, which need nothing: they say how FreeBSD is anyway, or what neither
// target has. A "*" stands for any value, of a setting that shows in no packet here.
var restated = map[string][]string{
	"net/inet/tcp/blackhole":                 {"0"},
	"net/inet/tcp/ecn/enable":                {"2"}, // ECN when the peer asks for it; its scripts do not
	"net/inet/tcp/ecn/maxretries":            {"1"},
	"net/inet/tcp/hostcache/purgenow":        {"*"}, // each script has a system of its own, which remembers nothing
	"net/inet/tcp/insecure_rst":              {"0"},
	"net/inet/tcp/insecure_syn":              {"0"},
	"net/inet/tcp/drop_synfin":               {"0"},
	"net/inet/tcp/syncookies":                {"1"},
	"net/inet/tcp/syncookies_only":           {"0"},
	"net/inet/tcp/rexmit_drop_options":       {"0"},
	"net/inet/tcp/rexmit_slop":               {"200"},
	"net/inet/tcp/rexmit_initial":            {"1000"},
	"net/inet/tcp/keepinit":                  {"75000"},
	"net/inet/tcp/keepintvl":                 {"75000"},
	"net/inet/tcp/keepidle":                  {"7200000"},
	"net/inet/tcp/keepcnt":                   {"8"},
	"net/inet/tcp/delacktime":                {"40"},
	"net/inet/tcp/icmp_may_rst":              {"1"},
	"net/inet/tcp/path_mtu_discovery":        {"1"},
	"net/inet/tcp/mssdflt":                   {"536"},
	"net/inet/tcp/v6mssdflt":                 {"1220"},
	"net/inet/tcp/tolerate_missing_ts":       {"0"},
	"net/inet/tcp/udp_tunneling_port":        {"0"},
	"net/inet/tcp/udp_tunneling_overhead":    {"*"},
	"net/inet/tcp/fastopen/client_enable":    {"0"},
	"net/inet/tcp/pmtud_blackhole_detection": {"0"},
	"net/inet/tcp/pmtud_blackhole_mss":       {"1200"},
	"net/inet/tcp/v6pmtud_blackhole_mss":     {"1220"},
	"kern/ipc/maxsockbuf":                    {"*"}, // a bound on what scripts ask for anyway
}

// portable puts FreeBSD's settings into Linux's words.
func portable(in []sysctl) ([]sysctl, error) {
	var out []sysctl
	for _, y := range in {
		if !strings.HasPrefix(y.path, "net/inet") && !strings.HasPrefix(y.path, "kern/") {
			out = append(out, y)
			continue
		}
		if oneOf(restated[y.path], y.value) {
			continue
		}
		linux := func(name, value string) {
			out = append(out, sysctl{path: "net/ipv4/" + name, value: value, soft: y.soft})
		}
		switch short := strings.TrimPrefix(y.path, "net/inet/tcp/"); {
		case short == "sack/enable":
			linux("tcp_sack", y.value)
		case short == "rfc1323":
			linux("tcp_timestamps", y.value)
			linux("tcp_window_scaling", y.value)
		case short == "recvspace":
			linux("tcp_rmem", fmt.Sprintf("4096 %s %d", y.value, receiveBufferMax))
		case short == "sendspace":
			linux("tcp_wmem", fmt.Sprintf("4096 %s %d", y.value, sendBufferMax))
		case short == "ecn/enable" && (y.value == "0" || y.value == "1"):
			linux("tcp_ecn", y.value)
		case short == "fastopen/client_enable" && y.value == "1":
			linux("tcp_fastopen", "1")
		case short == "syncookies_only" && y.value == "1":
			linux("tcp_syncookies", "2")
		default:
			return nil, fmt.Errorf("FreeBSD's %s=%s has no counterpart in Linux or in the stack", y.name(), y.value)
		}
	}
	return out, nil
}

// oneOf reports whether a value is among those listed, of which "*" is any.
func oneOf(values []string, value string) bool {
	for _, v := range values {
		if v == "*" || v == value {
			return true
		}
	}
	return false
}
