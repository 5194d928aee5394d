package tun

import "net/netip"

// HostConfig is how the operating system's end of a link is to be set up. Zero values leave things as they are.
type HostConfig struct {
	Addrs      []netip.Prefix // addresses to add, each with the length of its on-link prefix; present ones stay
	MTU        int            // in bytes; the Device's own, if given, must be the same
	TxQueueLen int            // packets that wait for the device's reader; Linux's default is 500
	Up         bool           // bring the interface up
	Routes     []netip.Prefix // prefixes to route to the interface, which needs Up
}
