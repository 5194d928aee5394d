//go:build unix

package control

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockTimeout bounds the wait for another process that makes its socket in the
// same directory, which takes a few system calls.
const lockTimeout = 2 * time.Second

// lockDir keeps other instances from making sockets in dir until unlock is called.
func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockTimeout)
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { f.Close() }, nil
		case err == unix.EINTR:
		case time.Now().After(deadline):
			f.Close()
			return nil, fmt.Errorf("%s: locked by another process: %w", dir, err)
		default:
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// private reports whether fi is this user's and closed to others.
func private(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && fi.Mode().Perm()&0o077 == 0
}

// ownerOnly gives a socket that is not bound yet the mode that its file will have.
// Linux takes it from there; elsewhere the call fails, and the file's directory
// keeps others out until the mode is set.
func ownerOnly(c syscall.RawConn) error {
	return c.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), 0o600) })
}
