// Package netns makes private network namespaces with a TUN device in them, and runs commands there. The
// device is served by the process that made the namespace, from outside.
//
// A namespace needs root, or user namespaces, in which its maker appears as root; and, in either case,
// read-write access to the TUN device file. Its processes form a PID namespace: when its first process
// dies, which it does with its maker however that dies, all of them are killed, and with the last of them
// and with the maker's end of the device the namespace vanishes.
//
// The first process is the maker's own program started anew, so a program that uses this package calls
// Init before anything else.
package netns

import (
	"io"
	"net/netip"
	"os"

	"github.com/catflap/catflap/tun"
)

// Config says what Start puts into the namespace.
type Config struct {
	Device     tun.Config     // the device to open
	HostAddrs  []netip.Prefix // addresses for its interface, as the commands inside see it
	Routes     []netip.Prefix // prefixes to route to the interface, besides the on-link ones of HostAddrs
	TxQueueLen int            // packets; if zero, Linux's default

	// User is who the commands run as. If nil they are root in the namespace, which is the caller, if he
	// is not root.
	User *User

	// Files are laid over files of the same path, which must be there, and Mask are paths at which the
	// commands find an empty file instead, if there is anything. Both are so in the namespace alone: nothing
	// of the host's changes.
	Files map[string]string
	Mask  []string

	// Join is a file that stands for a network namespace, such as /proc/PID/ns/net. If it is not "", no
	// namespace is made, but this one gets the device. Nothing else changes in it: its processes are not
	// touched, its loopback interface is left as it is, and User, Files and Mask must be zero. Who is not
	// root needs a namespace that belongs to a user namespace of his, and util-linux's nsenter: the user
	// namespace must be joined first, by a process with a single thread, which no Go program is.
	Join string
}

// User is an identity on the host.
type User struct {
	UID, GID int
	Groups   []int // supplementary; only root can have them kept
}

// Command is a program to run inside a namespace.
type Command struct {
	Args []string // program and arguments; the program is looked up in PATH
	Env  []string // "KEY=value"; if nil, this process's own environment
	Dir  string   // working directory; if empty, this process's own when Start was called

	// Stdin is a file because a reader that blocks could not be taken back when the command ends. If it is
	// the controlling terminal and this process is in its foreground, the command is put there instead for
	// as long as it runs, as a shell would do: keys like Ctrl-C are then for the command alone.
	// If nil, the null device.
	Stdin *os.File

	// Stdout and Stderr are handed to the command itself if they are *os.File; otherwise Run copies from a
	// pipe, until nobody inside the namespace holds it any more. If nil, the null device.
	Stdout, Stderr io.Writer

	// Signals received from it are sent to the command. If nil, none are.
	Signals <-chan os.Signal
}
