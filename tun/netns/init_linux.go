package netns

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/catflap/catflap/tun"
	"golang.org/x/sys/unix"
)

// initName is the argument zero, or the only one, by which Init knows that it is to become a namespace's first process.
const initName = "catflap-netns-init"

// initFD is where that process finds its socket to the maker.
const initFD = 3

// initCalled is set by Init. Without it, Start would start the whole program anew, which would start…
var initCalled atomic.Bool

// Init is to be called first in main, and in TestMain of tests that call Start. In a program that Start has
// started as a namespace's first process it does not return.
func Init() {
	initCalled.Store(true)
	if len(os.Args) == 0 || os.Args[0] != initName && (len(os.Args) != 2 || os.Args[1] != initName) {
		return
	}
	if err := runInit(); err != nil {
		fmt.Fprintln(os.Stderr, "netns:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// runInit is the life of the first process. It ends when the maker closes the socket or dies; then the
// kernel kills every other process of the PID namespace.
func runInit() error {
	// Commands get the descriptors sent for them, and none that our maker happened to inherit.
	if err := unix.CloseRange(initFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		unix.CloseOnExec(initFD) // before Linux 5.11
	}
	file := os.NewFile(initFD, "control")
	c, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("control socket: %w (this is not a command to be called)", err)
	}
	file.Close()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("control socket: not a unix socket")
	}

	// Keys pressed at the terminal are not for this process. Caught rather than ignored, since commands
	// would inherit that.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT,
		unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2)

	first, fds, err := receive(conn)
	closeAll(fds)
	if err != nil {
		return err
	}
	if first.Setup == nil {
		return errors.New("the first message does not say what to set up")
	}
	if err := first.Setup.furnish(); err != nil {
		return send(conn, message{Err: newWireError(err)})
	}
	handoff, queues, err := first.Setup.apply()
	if err != nil {
		return send(conn, message{Err: newWireError(err)})
	}
	err = send(conn, message{Ready: &handoff}, queues...)
	closeAll(queues)
	if err != nil {
		return err
	}

	p := &processes{conn: conn, user: first.Setup.User, mapped: first.Setup.Mapped, byPID: map[int]*process{}, byID: map[int]*process{}, started: make(chan struct{}, 1)}
	go p.reap() // for as long as this process lives
	for {
		m, fds, err := receive(conn)
		if err != nil {
			return nil // the maker is gone
		}
		switch {
		case m.Run != nil:
			p.start(m.ID, m.Run, fds)
		case m.Signal != nil:
			p.signal(m.ID, syscall.Signal(*m.Signal))
		}
		closeAll(fds)
	}
}

// furnish mounts what is the namespace's own.
func (s *setup) furnish() error {
	if !s.Private {
		return nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		// Else mounts would be seen outside.
		if len(s.Files)+len(s.Mask) > 0 {
			return &tun.OpError{Op: tun.OpNamespace, Name: "mount", Err: err}
		}
		return nil
	}
	if err := s.layOver(); err != nil {
		return err
	}
	// /proc shows the processes of this namespace. Where that is forbidden (a container may hide parts of
	// /proc) it goes on showing those outside; but for a mapped user nothing here depends on it.
	_ = unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	return nil
}

// layOver puts Files over what is there, and empty files over Mask.
func (s *setup) layOver() error {
	if len(s.Files)+len(s.Mask) == 0 {
		return nil
	}
	// The files are in a file system that has no place but those where they are laid. While it is filled it
	// needs one that is surely there, and that nobody but this process sees.
	const place = "/proc"
	if err := unix.Mount("tmpfs", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=1m"); err != nil {
		return &tun.OpError{Op: tun.OpNamespace, Name: "mount", Err: err}
	}
	defer unix.Unmount(place, unix.MNT_DETACH)
	n := 0
	lay := func(path, content string) error {
		n++
		from := fmt.Sprintf("%s/%d", place, n)
		if err := os.WriteFile(from, []byte(content), 0o644); err != nil {
			return err
		}
		if err := os.Chmod(from, 0o644); err != nil { // whatever the umask
			return err
		}
		return unix.Mount(from, path, "", unix.MS_BIND, "")
	}
	for path, content := range s.Files {
		if err := lay(path, content); err != nil {
			return fmt.Errorf("a private %s: %w", path, err)
		}
	}
	for _, path := range s.Mask {
		if err := lay(path, ""); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	return nil
}

// apply brings up the loopback interface, opens the device and configures it.
func (s *setup) apply() (h tun.Handoff, fds []int, err error) {
	if s.Private {
		if err := tun.ConfigureHost("lo", tun.HostConfig{Up: true}); err != nil {
			return h, nil, err
		}
	}
	dev, err := tun.Open(tun.Config{Name: s.Name, MTU: s.MTU, Queues: s.Queues, Driver: s.Driver, Path: s.Path})
	if err != nil {
		return h, nil, err
	}
	defer dev.Close()
	if err := tun.ConfigureHost(dev.Name(), s.Host); err != nil {
		return h, nil, err
	}
	return dev.Handoff()
}

// processes are the commands that run in the namespace.
type processes struct {
	conn    *net.UnixConn
	started chan struct{} // wakes reap when there were no children
	user    *User         // of the commands; nil: this process's
	mapped  bool

	mu    sync.Mutex // also held while a message is sent, and from a fork until the child is in the maps
	byPID map[int]*process
	byID  map[int]*process
}

type process struct {
	id, pid int
	group   bool // leads a process group of its own
}

func (p *processes) start(id int, r *run, fds []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	attr := &syscall.ProcAttr{Dir: r.Dir, Env: r.Env, Sys: &syscall.SysProcAttr{}}
	for _, fd := range fds {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if r.Foreground && len(fds) > 0 {
		attr.Sys.Setpgid, attr.Sys.Foreground, attr.Sys.Ctty = true, true, fds[0]
	}
	if u := p.user; u != nil {
		if p.mapped {
			attr.Sys.Cloneflags = unix.CLONE_NEWUSER
			attr.Sys.UidMappings = []syscall.SysProcIDMap{{ContainerID: u.UID, HostID: 0, Size: 1}}
			attr.Sys.GidMappings = []syscall.SysProcIDMap{{ContainerID: u.GID, HostID: 0, Size: 1}}
		} else {
			cred := &syscall.Credential{Uid: uint32(u.UID), Gid: uint32(u.GID)}
			for _, g := range u.Groups {
				cred.Groups = append(cred.Groups, uint32(g))
			}
			attr.Sys.Credential = cred
		}
	}
	if os.Getpid() != 1 {
		attr.Sys.Pdeathsig = syscall.SIGKILL // the kernel does not end it with us
	}
	pid, err := syscall.ForkExec(r.Path, r.Args, attr)
	if err != nil {
		send(p.conn, message{ID: id, Err: newWireError(fmt.Errorf("%s: %w", r.Path, err))})
		return
	}
	child := &process{id: id, pid: pid, group: r.Foreground}
	p.byPID[pid], p.byID[id] = child, child
	select {
	case p.started <- struct{}{}:
	default:
	}
}

func (p *processes) signal(id int, sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	child := p.byID[id]
	switch {
	case child == nil:
	case child.group:
		syscall.Kill(-child.pid, sig)
	default:
		syscall.Kill(child.pid, sig)
	}
}

// reap collects every process that ends: commands, whose status is reported, and orphans, which the kernel
// gives to a namespace's first process.
func (p *processes) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WUNTRACED, nil)
		if err == syscall.ECHILD {
			<-p.started
			continue
		}
		if err == nil {
			p.changed(pid, status)
		}
	}
}

func (p *processes) changed(pid int, status syscall.WaitStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	child := p.byPID[pid]
	if child == nil {
		return
	}
	if status.Stopped() {
		// Ctrl-Z on a command that is no shell: there is none here to continue it.
		if child.group && status.StopSignal() == syscall.SIGTSTP {
			syscall.Kill(-pid, syscall.SIGCONT)
		}
		return
	}
	exit := status.ExitStatus()
	if status.Signaled() {
		exit = 128 + int(status.Signal())
	}
	delete(p.byPID, pid)
	delete(p.byID, child.id)
	send(p.conn, message{ID: child.id, Exit: &exit}) // an error means that the maker is gone, which runInit sees too
}
