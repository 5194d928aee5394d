package tun

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestConfigureHost(t *testing.T) {
	inNetNS(t)
	dev := open(t, Config{})
	cfg := HostConfig{
		Addrs:      []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:9::1/64")},
		MTU:        1400,
		TxQueueLen: 2000,
		Up:         true,
		Routes:     []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::/32")},
	}
	for range 2 { // what is there already is no error
		if err := ConfigureHost(dev.Name(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName(dev.Name())
	if err != nil {
		t.Fatal(err)
	}
	if a := link.Attrs(); a.MTU != 1400 || a.TxQLen != 2000 || a.RawFlags&unix.IFF_UP == 0 {
		t.Errorf("MTU %d, txqueuelen %d, flags %#x", a.MTU, a.TxQLen, a.RawFlags)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]int{}
	for _, a := range addrs {
		have[a.IPNet.String()] = a.Flags
	}
	for _, want := range cfg.Addrs {
		if flags, ok := have[want.String()]; !ok || flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%v is missing or tentative: %v", want, have)
		}
	}
	for _, to := range []string{"192.0.2.99", "2001:db8:1::1"} {
		routes, err := netlink.RouteGet(netip.MustParseAddr(to).AsSlice())
		if err != nil || routes[0].LinkIndex != link.Attrs().Index {
			t.Errorf("route to %s: %v, %v; want it through %s", to, routes, err, dev.Name())
		}
	}

	err = ConfigureHost("nosuch0", HostConfig{Up: true})
	if op := (*OpError)(nil); !errors.As(err, &op) || op.Op != OpConfigure || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an interface that does not exist: %v", err)
	}
	if err := ConfigureHost(dev.Name(), HostConfig{MTU: 70000}); err == nil || Diagnose(err) == "" {
		t.Errorf("MTU 70000: %v (remedy %q), want an error and a remedy", err, Diagnose(err))
	}
}

// TestPersistent: an interface that root made for us beforehand is used as it is, and stays.
func TestPersistent(t *testing.T) {
	inNetNS(t)
	for _, queues := range []int{1, 2} {
		made := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "cat0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_ONE_QUEUE | netlink.TUNTAP_NO_PI | unix.IFF_VNET_HDR}
		if queues > 1 {
			made.Flags, made.Queues = netlink.TUNTAP_MULTI_QUEUE|netlink.TUNTAP_NO_PI|unix.IFF_VNET_HDR, 1
		}
		if err := netlink.LinkAdd(made); err != nil {
			t.Fatal(err)
		}
		for _, fd := range made.Fds {
			fd.Close()
		}
		dev, err := Open(Config{Driver: Offload, Queues: queues})
		if err != nil {
			t.Fatalf("%d queues: %v", queues, err)
		}
		dev.Close()
		link, err := netlink.LinkByName("cat0")
		if err != nil {
			t.Fatalf("%d queues: the interface is gone: %v", queues, err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
	}
}
