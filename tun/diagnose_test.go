package tun

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
)

func TestDiagnose(t *testing.T) {
	none := map[string]string{}
	for _, tc := range []struct {
		err    error
		goos   string
		sysctl map[string]string
		want   string // in the remedy; "" if there is to be none
	}{
		{&OpError{OpOpen, "/dev/net/tun", syscall.ENOENT}, "linux", none, "modprobe tun"},
		{&OpError{OpOpen, "/dev/net/tun", syscall.ENODEV}, "linux", none, "mknod /dev/net/tun"},
		{&OpError{OpOpen, "/dev/net/tun", syscall.EACCES}, "linux", none, "chmod 0666 /dev/net/tun"},
		{&OpError{OpOpen, "utun", syscall.EPERM}, "darwin", none, "root"},
		{&OpError{OpOpen, "tap", syscall.ENOENT}, "windows", none, "tap-windows6"},
		{&OpError{OpAttach, "cat0", fmt.Errorf("TUNSETIFF: %w", syscall.EPERM)}, "linux", none, "CAP_NET_ADMIN"},
		{&OpError{OpAttach, "cat0", syscall.EBUSY}, "linux", none, "another program has cat0 open"},
		{&OpError{OpAttach, "cat0", syscall.EINVAL}, "linux", none, "ip link del cat0"},
		{&OpError{OpAttach, "cat0", errors.ErrUnsupported}, "linux", none, "--driver water"},
		{&OpError{OpConfigure, "cat0", syscall.EINVAL}, "linux", none, "68 and 65535"},
		{&OpError{OpConfigure, "cat0", syscall.EPERM}, "linux", none, "CAP_NET_ADMIN"},
		{&OpError{OpConfigure, "cat0", fmt.Errorf("add address fd00:9::1/64: %w", syscall.EACCES)}, "linux", none, "disable_ipv6=0"},
		{&OpError{OpConfigure, "cat0", syscall.EAFNOSUPPORT}, "linux", none, "disable_ipv6=0"},
		{&OpError{OpOpen, "/dev/net/tun", syscall.EPERM}, "linux", none, "--device /dev/net/tun"},
		{&OpError{OpNamespace, "user", syscall.EPERM}, "linux", map[string]string{"kernel/unprivileged_userns_clone": "0"}, "unprivileged_userns_clone=1"},
		{&OpError{OpNamespace, "user", syscall.ENOSPC}, "linux", map[string]string{"user/max_user_namespaces": "0"}, "user.max_user_namespaces"},
		{&OpError{OpNamespace, "user", syscall.ENOSPC}, "linux", none, "nested too deep"},
		{&OpError{OpNamespace, "user", syscall.EACCES}, "linux", map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"},
		{&OpError{OpNamespace, "user", syscall.EPERM}, "linux", none, "run as root"},
		{&ConfigError{"mtu", 20, "68..65535"}, "linux", none, "68..65535"},
		{&OpError{OpOpen, "cat0", errors.ErrUnsupported}, "plan9", none, "catflap get"},
		{fmt.Errorf("run: %w", &OpError{OpAttach, "cat0", syscall.EBUSY}), "linux", none, "--dev"},
		{fmt.Errorf("tun: cat0: %w (%w)", ErrGone, syscall.EBADF), "linux", none, "removed"},
		{io.EOF, "linux", none, ""},
		{nil, "linux", none, ""},
	} {
		got := diagnose(tc.err, tc.goos, func(name string) string { return tc.sysctl[name] })
		if !strings.Contains(got, tc.want) || (tc.want == "") != (got == "") {
			t.Errorf("%v on %s: remedy %q, want %q in it", tc.err, tc.goos, got, tc.want)
		}
		if off := IPv6Off(tc.err); off != strings.Contains(got, "disable_ipv6=0") || off && strings.Contains(got, "root") {
			t.Errorf("%v: IPv6 is off: %v, and the remedy is %q", tc.err, off, got)
		}
	}
}
