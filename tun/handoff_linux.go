package tun

import (
	"fmt"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// Handoff describes an open device to a process that is given its queues' descriptors.
type Handoff struct {
	Name     string
	MTU      int
	Driver   Driver
	Offloads Offloads // as probed by the process that opened the device
}

// Handoff returns the device's description, and duplicates of its queues' descriptors that are the
// caller's to send (SCM_RIGHTS) and to close. The receiver calls Adopt, even in another network namespace;
// this side calls Close. No stack may be attached on this side.
func (d *Device) Handoff() (Handoff, []int, error) {
	var fds []int
	for _, q := range d.queues {
		fd, err := q.(duplicator).dup()
		if err != nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
			return Handoff{}, nil, fmt.Errorf("tun: hand off %s: %w", d.name, err)
		}
		fds = append(fds, fd)
	}
	return Handoff{Name: d.name, MTU: d.MTU(), Driver: d.driver, Offloads: d.offloads}, fds, nil
}

// Adopt makes a Device of what another process's Handoff returned. It owns fds from now on, also if it fails.
func Adopt(h Handoff, fds []int, logger *slog.Logger) (*Device, error) {
	cfg, err := Config{Name: h.Name, MTU: h.MTU, Queues: len(fds), Driver: h.Driver, Logger: logger}.withDefaults()
	o := opened{name: h.Name, driver: h.Driver, offloads: h.Offloads}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
		if err != nil {
			unix.Close(fd)
			continue
		}
		if h.Driver == Water {
			o.queues = append(o.queues, newWaterQueue(os.NewFile(uintptr(fd), h.Name)))
			continue
		}
		var q *offloadQueue
		if q, err = newOffloadQueue(fd, h.Name); err == nil {
			o.queues = append(o.queues, q)
		}
	}
	if err != nil {
		for _, q := range o.queues {
			q.close()
		}
		return nil, fmt.Errorf("tun: adopt %s: %w", h.Name, err)
	}
	return newDevice(o, cfg.MTU), nil
}

// duplicator is a queue with a file descriptor.
type duplicator interface{ dup() (int, error) }

func (q *offloadQueue) dup() (int, error) { return dup(q.file) }

func (q *waterQueue) dup() (int, error) { return dup(q.rw.(*os.File)) }

func dup(f *os.File) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	if ctlErr := conn.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return -1, ctlErr
	}
	return fd, err
}
