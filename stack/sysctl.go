package stack

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
)

// Sysctl is a setting of the stack by the kernel's name for it: net.ipv4.tcp_sack. See ip-sysctl in the kernel's
// documentation for what each means.
type Sysctl struct {
	Name  string `json:"name"`
	Value string `json:"value"` // several numbers have tabs between them
}

// sysctl is how a setting is read and written.
type sysctl struct {
	name string
	get  func(*Stack) (string, error)
	set  func(*Stack, string) error // nil: read-only
}

// sysctls are the settings that there are, by name. A setting that netstack keeps without acting on it is none.
var sysctls = []sysctl{
	{"net.ipv4.ip_default_ttl", getHops(ipv4.ProtocolNumber), setHops(ipv4.ProtocolNumber)},
	{"net.ipv4.ip_forward", getForwarding, nil},
	{"net.ipv4.ip_local_port_range", getPorts, setPorts},
	{"net.ipv4.tcp_available_congestion_control", func(s *Stack) (string, error) {
		var v tcpip.TCPAvailableCongestionControlOption
		err := s.tcpOption(&v)
		return string(v), err
	}, nil},
	{"net.ipv4.tcp_congestion_control", func(s *Stack) (string, error) {
		var v tcpip.CongestionControlOption
		err := s.tcpOption(&v)
		return string(v), err
	}, func(s *Stack, text string) error {
		v := tcpip.CongestionControlOption(text)
		return s.setTCPOption(&v)
	}},
	{"net.ipv4.tcp_fin_timeout", func(s *Stack) (string, error) {
		var v tcpip.TCPLingerTimeoutOption
		err := s.tcpOption(&v)
		return strconv.Itoa(int(time.Duration(v) / time.Second)), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 1, 120)
		v := tcpip.TCPLingerTimeoutOption(time.Duration(n) * time.Second)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_moderate_rcvbuf", func(s *Stack) (string, error) {
		var v tcpip.TCPModerateReceiveBufferOption
		err := s.tcpOption(&v)
		return zeroOne(bool(v)), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 0, 1)
		v := tcpip.TCPModerateReceiveBufferOption(n == 1)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_recovery", func(s *Stack) (string, error) {
		var v tcpip.TCPRecovery
		err := s.tcpOption(&v)
		return strconv.Itoa(int(v)), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 0, int(tcpip.TCPRACKLossDetection|tcpip.TCPRACKStaticReoWnd|tcpip.TCPRACKNoDupTh))
		v := tcpip.TCPRecovery(n)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_retries2", func(s *Stack) (string, error) {
		var v tcpip.TCPMaxRetriesOption
		err := s.tcpOption(&v)
		return strconv.FormatUint(uint64(v), 10), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 1, 255)
		v := tcpip.TCPMaxRetriesOption(n)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_rmem", func(s *Stack) (string, error) {
		var v tcpip.TCPReceiveBufferSizeRangeOption
		err := s.tcpOption(&v)
		return fmt.Sprintf("%d\t%d\t%d", v.Min, v.Default, v.Max), err
	}, func(s *Stack, text string) error {
		n, err := sizes(text)
		v := tcpip.TCPReceiveBufferSizeRangeOption{Min: n[0], Default: n[1], Max: n[2]}
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_sack", func(s *Stack) (string, error) {
		var v tcpip.TCPSACKEnabled
		err := s.tcpOption(&v)
		return zeroOne(bool(v)), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 0, 1)
		v := tcpip.TCPSACKEnabled(n == 1)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_syncookies", func(s *Stack) (string, error) {
		var v tcpip.TCPAlwaysUseSynCookies
		err := s.tcpOption(&v)
		return map[bool]string{false: "1", true: "2"}[bool(v)], err
	}, func(s *Stack, text string) error {
		n, err := number(text, 1, 2) // a full queue always sends them
		v := tcpip.TCPAlwaysUseSynCookies(n == 2)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_tw_reuse", func(s *Stack) (string, error) {
		var v tcpip.TCPTimeWaitReuseOption
		err := s.tcpOption(&v)
		return strconv.Itoa(int(v)), err
	}, func(s *Stack, text string) error {
		n, err := number(text, 0, 2)
		v := tcpip.TCPTimeWaitReuseOption(n)
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv4.tcp_wmem", func(s *Stack) (string, error) {
		var v tcpip.TCPSendBufferSizeRangeOption
		err := s.tcpOption(&v)
		return fmt.Sprintf("%d\t%d\t%d", v.Min, v.Default, v.Max), err
	}, func(s *Stack, text string) error {
		n, err := sizes(text)
		v := tcpip.TCPSendBufferSizeRangeOption{Min: n[0], Default: n[1], Max: n[2]}
		return errors.Join(err, s.ifValid(err, &v))
	}},
	{"net.ipv6.conf.all.forwarding", getForwarding, nil},
	{"net.ipv6.conf.default.hop_limit", getHops(ipv6.ProtocolNumber), setHops(ipv6.ProtocolNumber)},
}

// Sysctls returns the settings that the stack has, by name.
func (s *Stack) Sysctls() ([]Sysctl, error) {
	out := make([]Sysctl, 0, len(sysctls))
	for _, c := range sysctls {
		v, err := c.get(s)
		if err != nil {
			return nil, fmt.Errorf("sysctl %s: %w", c.name, err)
		}
		out = append(out, Sysctl{c.name, v})
	}
	return out, nil
}

// SetSysctl changes a setting for the sockets to come. The error wraps ENOENT if there is no such setting, EACCES if it
// can only be read, EINVAL if it cannot have that value.
func (s *Stack) SetSysctl(v Sysctl) error {
	for _, c := range sysctls {
		if c.name != v.Name {
			continue
		}
		if c.set == nil {
			return fmt.Errorf("sysctl %s: it can only be read: %w", v.Name, syscall.EACCES)
		}
		if err := c.set(s, strings.TrimSpace(v.Value)); err != nil {
			return fmt.Errorf("sysctl %s: value %q: %w", v.Name, v.Value, err)
		}
		return nil
	}
	return fmt.Errorf("sysctl %s: the stack has no such setting: %w", v.Name, syscall.ENOENT)
}

func (s *Stack) tcpOption(o tcpip.GettableTransportProtocolOption) error {
	return errnoOf(s.ns.TransportProtocolOption(header.TCPProtocolNumber, o))
}

func (s *Stack) setTCPOption(o tcpip.SettableTransportProtocolOption) error {
	if s.ns.SetTransportProtocolOption(header.TCPProtocolNumber, o) != nil {
		return syscall.EINVAL
	}
	return nil
}

// ifValid sets an option whose value was read without an error.
func (s *Stack) ifValid(err error, o tcpip.SettableTransportProtocolOption) error {
	if err != nil {
		return nil
	}
	return s.setTCPOption(o)
}

func zeroOne(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

func number(text string, least, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a number from %d to %d: %w", least, most, syscall.EINVAL)
	}
	return n, nil
}

// maxSysctlBuffer bounds what one connection may be given to buffer, either way.
const maxSysctlBuffer = 1 << 30

// sizes reads the three of tcp_rmem and tcp_wmem.
func sizes(text string) (n [3]int, err error) {
	f := strings.Fields(text)
	bad := len(f) != len(n)
	for i := 0; !bad && i < len(n); i++ {
		n[i], err = strconv.Atoi(f[i])
		bad = err != nil || n[i] < 1 || n[i] > maxSysctlBuffer || i > 0 && n[i] < n[i-1]
	}
	if bad {
		return n, fmt.Errorf("want three numbers of bytes that do not fall, the last at most %d: least, default, most: %w", maxSysctlBuffer, syscall.EINVAL)
	}
	return n, nil
}

func getForwarding(s *Stack) (string, error) { return zeroOne(s.fwd), nil }

func getPorts(s *Stack) (string, error) {
	first, last := s.ns.PortRange()
	return fmt.Sprintf("%d\t%d", first, last), nil
}

func setPorts(s *Stack, text string) error {
	var first, last uint16
	if n, err := fmt.Sscan(text, &first, &last); err != nil || n != 2 || first == 0 || s.ns.SetPortRange(first, last) != nil {
		return fmt.Errorf("want the first and the last port, such as 32768 60999: %w", syscall.EINVAL)
	}
	return nil
}

func getHops(proto tcpip.NetworkProtocolNumber) func(*Stack) (string, error) {
	return func(s *Stack) (string, error) {
		var v tcpip.DefaultTTLOption
		err := errnoOf(s.ns.NetworkProtocolOption(proto, &v))
		return strconv.Itoa(int(v)), err
	}
}

func setHops(proto tcpip.NetworkProtocolNumber) func(*Stack, string) error {
	return func(s *Stack, text string) error {
		n, err := number(text, 1, 255)
		if err != nil {
			return err
		}
		v := tcpip.DefaultTTLOption(n)
		return errnoOf(s.ns.SetNetworkProtocolOption(proto, &v))
	}
}
