package netns

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Process is a process that somebody else started, and whose end is to be noticed.
type Process struct {
	file    *os.File // a pidfd: readable once the process has ended
	done    chan struct{}
	waiting sync.WaitGroup
}

// FindProcess finds the process of that number. The caller must Close it. It needs Linux 5.3.
func FindProcess(pid int) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		if err = unix.SetNonblock(fd, true); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return nil, joinError(fmt.Sprintf("process %d", pid), err)
	}
	p := &Process{file: os.NewFile(uintptr(fd), "pidfd"), done: make(chan struct{})}
	conn, err := p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return nil, err
	}
	p.waiting.Go(func() {
		ended := false
		conn.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			ended = n == 1 && err == nil
			return ended
		}) // an error means Close
		if ended {
			close(p.done)
		}
	})
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Close ends the watching; the process goes on.
func (p *Process) Close() error {
	err := p.file.Close()
	p.waiting.Wait()
	return err
}
