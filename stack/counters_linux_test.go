package stack

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// kernelCounters are the names of the kernel's counters.
func kernelCounters(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, file := range []string{"/proc/net/snmp", "/proc/net/netstat", "/proc/net/snmp6"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			group, rest, headed := strings.Cut(line, ":")
			for _, name := range strings.Fields(rest) {
				names[group+name] = headed
			}
			if f := strings.Fields(line); !headed && len(f) == 2 {
				names[f[0]] = true
			}
		}
	}
	return names
}

// TestCounters holds the names against the kernel's, and sees them count.
func TestCounters(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	value := func() map[string]uint64 {
		m := map[string]uint64{}
		for _, c := range s.Counters() {
			if _, twice := m[c.Name]; twice {
				t.Errorf("%s is there twice", c.Name)
			}
			if !strings.HasPrefix(c.Name, c.Group()) {
				t.Errorf("%s is of group %s", c.Name, c.Group())
			}
			m[c.Name] = c.Value
		}
		return m
	}
	kernel, before := kernelCounters(t), value()
	for name := range before {
		if !kernel[name] {
			t.Errorf("the kernel has no counter %s", name)
		}
	}
	if _, err := s.Dial("tcp", "127.0.0.1:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatal(err)
	}
	after := value()
	for _, name := range []string{"TcpActiveOpens", "TcpInSegs", "TcpOutSegs", "TcpOutRsts", "IpInReceives", "IpInDelivers", "IpOutRequests"} {
		if after[name] <= before[name] {
			t.Errorf("%s is %d, and was %d before a connection was refused", name, after[name], before[name])
		}
	}
	if lo := s.Links()[0].Counters; lo.RxPackets < 2 || lo.RxPackets != lo.TxPackets || lo.RxBytes < 2*40 {
		t.Errorf("lo has carried %+v; want a SYN and an RST", lo)
	}
}

func TestSysctl(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func() map[string]string {
		all, err := s.Sysctls()
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		for _, v := range all {
			m[v.Name] = v.Value
		}
		return m
	}
	for name, value := range get() {
		if _, err := os.Stat("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err != nil {
			if strings.HasPrefix(name, "net.ipv6.") {
				continue // a kernel may have no IPv6
			}
			t.Errorf("the kernel has no %s: %v", name, err)
		}
		switch err := s.SetSysctl(Sysctl{name, value}); {
		case err != nil && !errors.Is(err, syscall.EACCES):
			t.Errorf("%s cannot have the value that it has: %v", name, err)
		case (err != nil) != (strings.Contains(name, "available") || strings.Contains(name, "forward")):
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, value := range map[string]string{
		"net.ipv4.tcp_sack": "0", "net.ipv4.tcp_congestion_control": "reno", "net.ipv4.tcp_rmem": "4096\t65536\t131072", "net.ipv4.tcp_wmem": "4096\t8192\t16384",
		"net.ipv4.ip_default_ttl": "9", "net.ipv4.ip_local_port_range": "40000\t40100", "net.ipv4.tcp_fin_timeout": "7", "net.ipv4.tcp_retries2": "3",
		"net.ipv4.tcp_syncookies": "2", "net.ipv4.tcp_tw_reuse": "0", "net.ipv4.tcp_recovery": "0", "net.ipv4.tcp_moderate_rcvbuf": "0", "net.ipv6.conf.default.hop_limit": "8",
	} {
		if err := s.SetSysctl(Sysctl{name, value}); err != nil {
			t.Error(err)
		}
		if got := get()[name]; got != value {
			t.Errorf("%s is %q after it was set to %q", name, got, value)
		}
	}
	for _, tc := range []struct {
		Sysctl
		want syscall.Errno
	}{
		{Sysctl{"net.ipv4.tcp_nosuch", "1"}, syscall.ENOENT}, {Sysctl{"net.ipv4.ip_forward", "1"}, syscall.EACCES},
		{Sysctl{"net.ipv4.tcp_sack", "2"}, syscall.EINVAL}, {Sysctl{"net.ipv4.tcp_rmem", "5 4 3"}, syscall.EINVAL}, {Sysctl{"net.ipv4.tcp_rmem", "1 2"}, syscall.EINVAL},
		{Sysctl{"net.ipv4.tcp_congestion_control", "nosuch"}, syscall.EINVAL}, {Sysctl{"net.ipv4.ip_default_ttl", "0"}, syscall.EINVAL},
		{Sysctl{"net.ipv4.ip_local_port_range", "9 5"}, syscall.EINVAL}, {Sysctl{"net.ipv4.ip_local_port_range", "-1 70000"}, syscall.EINVAL},
	} {
		if err := s.SetSysctl(tc.Sysctl); !errors.Is(err, tc.want) {
			t.Errorf("%s=%s: %v, want %v", tc.Name, tc.Value, err, tc.want)
		}
	}
}

// TestSendEcho asks for requests that cannot be sent; those that can are ping's (TestHabits).
func TestSendEcho(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tc := range []struct {
		e    Echo
		want error
	}{
		{Echo{Dst: netip.MustParseAddr("127.0.0.1")}, nil}, {Echo{Dst: netip.MustParseAddr("::1"), Size: 9}, nil},
		{Echo{}, syscall.EINVAL}, {Echo{Dst: netip.MustParseAddr("127.0.0.1"), Size: MaxEchoSize + 1}, syscall.EINVAL},
		{Echo{Dst: netip.MustParseAddr("192.0.2.7")}, syscall.ENETUNREACH},
	} {
		if err := s.SendEcho(tc.e); !errors.Is(err, tc.want) {
			t.Errorf("%+v: %v, want %v", tc.e, err, tc.want)
		}
	}
}
