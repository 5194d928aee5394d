package control

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/catflap/catflap/stack"
)

// Version is the version of the API. It changes when an old client and a new
// server, or the reverse, would misunderstand each other.
const Version = 2

// versionHeader carries the server's Version in every response, so that a client
// can tell another version from something that is no catflap at all.
const versionHeader = "Catflap-Control"

// Limits of the server. A client is a command of the same user; the limits keep
// a broken one from taking the instance with it.
const (
	maxConns       = 64               // open at once; a shell pipeline of catflap commands needs a handful
	maxStreams     = 16               // event streams at once; each makes the stack record every packet
	maxBody        = 64 << 10         // bytes of a request; the largest, a route, has some 300
	maxHeader      = 16 << 10         // bytes of a request's header
	headerTimeout  = 5 * time.Second  // for a request's header to arrive
	requestTimeout = 10 * time.Second // for a request's body to arrive, and for a client's answer
	idleTimeout    = 30 * time.Second // of a kept-alive connection
	streamBuffer   = 1 << 14          // events that may wait for a stream's reader: a second of a fast transfer
	streamBytes    = 64 << 20         // bytes of packets that may wait for it: a second of a capture at 500 Mbit/s
)

// Info describes the process behind a control socket and its device.
type Info struct {
	Version  string         `json:"version"` // of catflap
	PID      int            `json:"pid"`
	Command  string         `json:"command"` // the name of the program
	User     string         `json:"user"`
	Dev      string         `json:"dev"`
	Driver   string         `json:"driver"`
	Offloads string         `json:"offloads,omitempty"` // what the kernel granted, and why not where it did not
	MTU      int            `json:"mtu"`                // bytes
	Addrs    []netip.Prefix `json:"addrs"`
	Started  time.Time      `json:"started"`
}

// Addr is an address of a link, for /v2/addrs.
type Addr struct {
	Dev    string       `json:"dev"`
	Prefix netip.Prefix `json:"prefix"`
}

// Rule is a stack.Rule with its family, which its selectors need not show.
type Rule struct {
	stack.Rule
	Family stack.Family `json:"family"`
}

func (r Rule) unwrap() stack.Rule {
	r.Rule.Family = r.Family
	return r.Rule
}

// Kinds selects the events of a stream. Samples and timers come with nearly every
// segment.
type Kinds struct {
	Calls, Packets, States, Links, Samples, Timers bool

	Snap int // bytes of each packet, up to 65535; if 0, stack.SubscribeConfig's default
}

// line is one line of an event stream: an event, or how many the stack could not
// hand over in all so far.
type line struct {
	*stack.Event
	Dropped uint64 `json:"dropped,omitempty"`
}

// Error is a request that the instance refused.
type Error struct {
	Message string `json:"error"`
	Errno   string `json:"errno,omitempty"` // such as EEXIST
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the errno, so that errors.Is(err, syscall.EEXIST) holds.
func (e *Error) Unwrap() error {
	if errno, ok := errnos[e.Errno]; ok {
		return errno
	}
	return nil
}

// errnos are the errors that the stack gives to changes of its tables.
var errnos = map[string]syscall.Errno{
	"EACCES":        syscall.EACCES,
	"EADDRNOTAVAIL": syscall.EADDRNOTAVAIL,
	"EEXIST":        syscall.EEXIST,
	"EHOSTUNREACH":  syscall.EHOSTUNREACH,
	"EINVAL":        syscall.EINVAL,
	"EMSGSIZE":      syscall.EMSGSIZE,
	"ENETUNREACH":   syscall.ENETUNREACH,
	"ENODEV":        syscall.ENODEV,
	"ENOENT":        syscall.ENOENT,
	"EOPNOTSUPP":    syscall.EOPNOTSUPP,
	"ESRCH":         syscall.ESRCH,
}

func errnoName(err syscall.Errno) string {
	for name, e := range errnos {
		if e == err {
			return name
		}
	}
	return ""
}
