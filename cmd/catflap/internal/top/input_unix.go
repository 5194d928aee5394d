//go:build unix

package top

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func canWaitForInput() error { return nil }

// waitForInput waits until there is something to read, or for a time. Nothing is read, so that nobody is left
// behind in a read when the program goes on.
func waitForInput(f *os.File, d time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(d.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}
