//go:build !linux

package tun

// ConfigureHost sets up the interface of that name on Linux. Elsewhere it fails with an error that wraps
// errors.ErrUnsupported: use the system's own tool (ifconfig, netsh).
func ConfigureHost(name string, cfg HostConfig) error {
	return &OpError{Op: OpConfigure, Name: name, Err: unsupported("setting up an interface")}
}

// setHostMTU leaves the interface as it is: its MTU is the administrator's.
func setHostMTU(name string, mtu int) error { return nil }
