package tun

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
)

// Diagnose says in words what to do about an error of this package or of package netns. It returns ""
// if it has nothing to add.
func Diagnose(err error) string { return diagnose(err, runtime.GOOS, readSysctl) }

// IPv6Off reports whether err, of ConfigureHost or of netns.Start, says that the interface takes no IPv6 address or
// route: the kernel has no IPv6, or it is switched off (net.ipv6.conf.*.disable_ipv6), as in many containers. Whoever
// may not configure interfaces at all gets EPERM, not the EACCES of this.
func IPv6Off(err error) bool {
	var op *OpError
	return errors.As(err, &op) && op.Op == OpConfigure &&
		(errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EAFNOSUPPORT))
}

// readSysctl returns a Linux kernel parameter, "" if there is none of that name.
func readSysctl(name string) string {
	b, _ := os.ReadFile("/proc/sys/" + name)
	return strings.TrimSpace(string(b))
}

func diagnose(err error, goos string, sysctl func(string) string) string {
	var config *ConfigError
	if errors.As(err, &config) {
		return fmt.Sprintf("choose another %s: %s", config.Field, config.Want)
	}
	if errors.Is(err, errors.ErrUnsupported) && goos != "linux" {
		return "use what needs no TUN device: catflap get URL"
	}
	if errors.Is(err, ErrGone) {
		return "something removed the interface while it was in use; start again"
	}
	var op *OpError
	if !errors.As(err, &op) {
		return ""
	}
	if IPv6Off(err) {
		return "IPv6 is switched off here: sysctl net.ipv6.conf.all.disable_ipv6=0 turns it on; or give IPv4 addresses only"
	}
	denied := errors.Is(err, os.ErrPermission)
	switch op.Op {
	case OpOpen:
		switch {
		case goos == "windows":
			return "install the tap-windows6 adapter (it comes with OpenVPN)"
		case goos == "darwin":
			return "run as root: macOS gives utun devices to root only"
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
			return fmt.Sprintf("load the driver: modprobe tun; where %[1]s is still missing: mkdir -p /dev/net && mknod %[1]s c 10 200 && chmod 0666 %[1]s; in a container: --device /dev/net/tun", op.Name)
		case errors.Is(err, syscall.EPERM):
			return fmt.Sprintf("this container may not use the device, root or not: start it with --device %s", op.Name)
		case denied:
			return fmt.Sprintf("as root: chmod 0666 %[1]s (most distributions ship it so; the file gives no privilege by itself), or run as root", op.Name)
		}
	case OpAttach:
		switch {
		case errors.Is(err, syscall.EBUSY):
			return fmt.Sprintf("another program has %s open: stop it, or take another name with --dev", op.Name)
		case denied:
			return fmt.Sprintf("run as root, or in a private namespace (catflap run), or give the program CAP_NET_ADMIN (setcap cap_net_admin+ep FILE), or have root make the interface for you: ip tuntap add dev %s mode tun user $USER", op.Name)
		case errors.Is(err, syscall.EINVAL):
			return fmt.Sprintf("an interface %[1]s exists that is no TUN device, or one with another number of queues: remove it (ip link del %[1]s), or take another name with --dev", op.Name)
		case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENOTTY):
			return "this kernel has no virtio-net headers on TUN: use --driver water"
		}
	case OpConfigure:
		switch {
		case errors.Is(err, os.ErrNotExist):
			return fmt.Sprintf("the interface %s has gone: is another program removing it?", op.Name)
		case errors.Is(err, syscall.EPERM):
			return "run as root or with CAP_NET_ADMIN (a container: --cap-add NET_ADMIN), or in a private namespace (catflap run)"
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ERANGE):
			return fmt.Sprintf("choose an MTU between %d and %d; IPv6 addresses need at least %d", MinMTU, MaxMTU, MinMTUIPv6)
		}
	case OpJoin:
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ESRCH):
			return "name a process that runs (catflap attach PID), or a file that stands for a network namespace (--netns /run/netns/NAME)"
		case errors.Is(err, syscall.EINVAL):
			return "name a file that stands for a network namespace, such as /proc/PID/ns/net or /run/netns/NAME"
		case denied:
			return "the namespace belongs to another user: run as root, or as the user who made it"
		}
	case OpNamespace:
		return diagnoseNamespace(err, sysctl)
	}
	return ""
}

// diagnoseNamespace tells which of the ways to forbid user namespaces is in force.
func diagnoseNamespace(err error, sysctl func(string) string) string {
	const orRoot = ", or run as root"
	switch {
	case sysctl("kernel/unprivileged_userns_clone") == "0":
		return "user namespaces are switched off: sysctl kernel.unprivileged_userns_clone=1" + orRoot
	case sysctl("user/max_user_namespaces") == "0":
		return "no user namespaces are allowed: sysctl user.max_user_namespaces=15000" + orRoot
	case sysctl("user/max_net_namespaces") == "0":
		return "no network namespaces are allowed: sysctl user.max_net_namespaces=15000"
	case errors.Is(err, syscall.ENOSPC):
		return "too many namespaces, or nested too deep: raise sysctl user.max_user_namespaces and user.max_net_namespaces"
	case sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
		return "AppArmor restricts user namespaces (Ubuntu 23.10 and later): sysctl kernel.apparmor_restrict_unprivileged_userns=0, or give the program a profile with 'userns,'" + orRoot
	case errors.Is(err, os.ErrPermission):
		return "namespaces are forbidden here: run as root; in a container add --cap-add SYS_ADMIN or --security-opt seccomp=unconfined"
	case errors.Is(err, syscall.EINVAL):
		return "this kernel lacks user or network namespaces (CONFIG_USER_NS, CONFIG_NET_NS)"
	}
	return ""
}
