package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// probeTimeout bounds the question whether somebody answers on a socket: a live
// listener's kernel answers at once, even when its process is stopped.
const probeTimeout = time.Second

// An InUseError says that another instance has the socket.
type InUseError struct{ Path string }

func (e *InUseError) Error() string {
	return e.Path + ": another catflap answers on this control socket"
}

// Remedy says what to do.
func (e *InUseError) Remedy() string {
	return "stop the other instance, or give this one another socket: --control PATH"
}

// listener is a unix listener that removes its file, and only its own, on Close.
type listener struct {
	*net.UnixListener
	path string
	file fs.FileInfo
}

// listen makes the socket at path, readable and writable by the owner only. A
// stale file, left by a process that was killed, gives way; a live one does not.
func listen(path string) (*listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	ours := slices.Contains(dirs(), dir)
	if ours {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	// One process at a time decides what is stale.
	unlock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	if ours {
		sweep(dir)
	}

	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return ownerOnly(c) }}
	nl, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	l := &listener{UnixListener: nl.(*net.UnixListener), path: path}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(path, 0o600)
	if err == nil {
		l.file, err = os.Lstat(path)
	}
	if err != nil {
		l.UnixListener.Close()
		os.Remove(path)
		return nil, err
	}
	return l, nil
}

// Close stops listening and removes the file.
func (l *listener) Close() error {
	if fi, err := os.Lstat(l.path); err == nil && os.SameFile(fi, l.file) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// removeStale makes way at path: nothing, or a socket on which nobody listens.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: there is a file here that is no socket", path)
	}
	live, err := answers(path)
	switch {
	case err != nil:
		return err
	case live:
		return &InUseError{Path: path}
	}
	return os.Remove(path)
}

// answers reports whether a process listens on the socket at path.
func answers(path string) (bool, error) {
	c, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		c.Close()
		return true, nil
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, syscall.EAGAIN), os.IsTimeout(err):
		return true, nil // its queue is full
	}
	return false, err
}

// sweep removes the sockets that killed `catflap run` processes have left.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // what is left behind does no harm
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), runPrefix) || e.Type() != fs.ModeSocket {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if live, err := answers(path); err == nil && !live {
			os.Remove(path)
		}
	}
}
