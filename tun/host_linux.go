package tun

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ConfigureHost sets up the interface of that name in the calling thread's network namespace. It needs
// CAP_NET_ADMIN. IPv6 addresses are usable at once: they skip duplicate address detection, since nobody
// else is on the link. Errors are an *OpError.
func ConfigureHost(name string, cfg HostConfig) error {
	if err := configureHost(name, cfg); err != nil {
		return &OpError{Op: OpConfigure, Name: name, Err: err}
	}
	return nil
}

func configureHost(name string, cfg HostConfig) error {
	link, err := linkByName(name)
	if err != nil {
		return err
	}
	if cfg.MTU != 0 {
		if err := netlink.LinkSetMTU(link, cfg.MTU); err != nil {
			return fmt.Errorf("set mtu %d: %w", cfg.MTU, err)
		}
	}
	if cfg.TxQueueLen != 0 {
		if err := netlink.LinkSetTxQLen(link, cfg.TxQueueLen); err != nil {
			return fmt.Errorf("set txqueuelen %d: %w", cfg.TxQueueLen, err)
		}
	}
	if cfg.Up {
		if err := netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	for _, prefix := range cfg.Addrs {
		addr := &netlink.Addr{IPNet: ipNet(prefix)}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %v: %w", prefix, err)
		}
	}
	for _, prefix := range cfg.Routes {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(prefix.Masked())}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add route %v: %w", prefix, err)
		}
	}
	return nil
}

// setHostMTU gives the interface of that name an MTU, unless it has it already, for which no privilege is needed.
func setHostMTU(name string, mtu int) error {
	link, err := linkByName(name)
	if err != nil {
		return err
	}
	if link.Attrs().MTU == mtu {
		return nil
	}
	return netlink.LinkSetMTU(link, mtu)
}

// linkByName is netlink.LinkByName with an error that os.ErrNotExist matches.
func linkByName(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if notFound := (netlink.LinkNotFoundError{}); errors.As(err, &notFound) {
		return nil, fmt.Errorf("no such interface: %w", os.ErrNotExist)
	}
	return link, err
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
