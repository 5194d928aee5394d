package tun

import (
	"fmt"
	"log/slog"
)

// Limits and defaults of a Config.
const (
	DefaultName = "cat0"
	DefaultMTU  = 1500
	DefaultPath = "/dev/net/tun"

	MinMTU     = 68    // RFC 791 section 3.2: every module must forward 68 octets without fragmenting
	MinMTUIPv6 = 1280  // RFC 8200 section 5: below this a link carries no IPv6
	MaxMTU     = 65535 // the total length field of IPv4 has 16 bits

	// MaxNameLen is Linux's IFNAMSIZ without its terminating zero, in bytes.
	MaxNameLen = 15

	// MaxQueues bounds Config.Queues. The kernel would take 256, but each queue costs a goroutine and
	// 64 KiB of buffer, nothing is gained beyond one queue a processor, and one SCM_RIGHTS message,
	// which hands a device to another process, carries 253 descriptors.
	MaxQueues = 64
)

// Driver names a way to reach the kernel's TUN device.
type Driver int

const (
	// Auto is Offload where the system has it, else Water.
	Auto Driver = iota
	// Offload is Linux's TUN device with virtio-net headers: checksums and TCP segmentation are left
	// to the kernel, so a frame may hold up to 64 KiB.
	Offload
	// Water is the portable driver (Linux, macOS, Windows): one IP packet a frame, no offloads.
	Water
)

var driverNames = [...]string{Auto: "auto", Offload: "offload", Water: "water"}

func (d Driver) String() string {
	if d < 0 || int(d) >= len(driverNames) {
		return fmt.Sprintf("Driver(%d)", int(d))
	}
	return driverNames[d]
}

// ParseDriver is the inverse of Driver.String, for a flag.
func ParseDriver(s string) (Driver, error) {
	for d, name := range driverNames {
		if s == name {
			return Driver(d), nil
		}
	}
	return Auto, &ConfigError{Field: "driver", Value: s, Want: "auto, offload or water"}
}

// Config says which device Open opens, and how. The zero value is usable.
type Config struct {
	// Name of the interface, at most MaxNameLen bytes. If empty, DefaultName. macOS accepts only
	// utun[0-9]+ (and picks a number itself for DefaultName); Windows picks the adapter itself.
	Name string

	// MTU in bytes, MinMTU to MaxMTU. If zero, DefaultMTU. The interface gets it too on Linux; elsewhere
	// the interface's MTU is the administrator's to set. IPv6 needs at least MinMTUIPv6.
	MTU int

	// Queues is the number of the device's queues, each read by one goroutine, 1 to MaxQueues.
	// If zero, 1. More than one exists on Linux only.
	Queues int

	// Driver to use. If zero, Auto.
	Driver Driver

	// Path of the TUN device file on Linux. If empty, DefaultPath. Another path needs the Offload driver.
	Path string

	// Logger hears why Auto fell back to Water, and which offloads were refused. If nil, nobody does.
	Logger *slog.Logger
}

// A ConfigError reports a value that Config does not take.
type ConfigError struct {
	Field string // the field's name in lower case, as a flag would spell it: "mtu"
	Value any    // the value refused
	Want  string // what would have been accepted: "68..65535"
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("tun: %s %v is not valid: want %s", e.Field, e.Value, e.Want)
}

// Validate reports the first value that Open would refuse, as a *ConfigError.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

// withDefaults returns c with each zero value replaced, or a *ConfigError.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = DefaultName
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.Queues == 0 {
		c.Queues = 1
	}
	if c.Path == "" {
		c.Path = DefaultPath
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case len(c.Name) > MaxNameLen:
		return c, &ConfigError{"name", fmt.Sprintf("%q", c.Name), fmt.Sprintf("at most %d bytes", MaxNameLen)}
	case !validName(c.Name):
		return c, &ConfigError{"name", fmt.Sprintf("%q", c.Name), "an interface name: printable ASCII without space, '/', ':' or '%', and not . or .."}
	case c.MTU < MinMTU || c.MTU > MaxMTU:
		return c, &ConfigError{"mtu", c.MTU, fmt.Sprintf("%d..%d (IPv6 needs at least %d)", MinMTU, MaxMTU, MinMTUIPv6)}
	case c.Queues < 1 || c.Queues > MaxQueues:
		return c, &ConfigError{"queues", c.Queues, fmt.Sprintf("1..%d", MaxQueues)}
	case c.Driver < Auto || c.Driver > Water:
		return c, &ConfigError{"driver", c.Driver, "auto, offload or water"}
	case c.Driver == Water && c.Path != DefaultPath:
		return c, &ConfigError{"path", c.Path, DefaultPath + ", the only one the water driver knows"}
	}
	return c, nil
}

// validName holds what Linux's dev_valid_name refuses, and '%', which TUNSETIFF would take for a pattern.
func validName(name string) bool {
	if name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ' || c > '~', c == '/', c == ':', c == '%':
			return false
		}
	}
	return true
}
