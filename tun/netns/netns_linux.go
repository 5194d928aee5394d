package netns

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/catflap/catflap/tun"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace with a TUN device in it. Its methods may be called from several
// goroutines.
type Namespace struct {
	cmd  *exec.Cmd // the first process
	conn *net.UnixConn
	dev  *tun.Device

	exited chan struct{}  // closed once the first process has been waited for
	done   chan struct{}  // closed once nothing comes from it any more
	reader sync.WaitGroup // the goroutine that receives

	closing sync.Once

	sending sync.Mutex // held while a message is sent, by nobody who holds mu: answers must get through

	mu      sync.Mutex
	nextID  int
	running map[int]chan message // each has room for the only answer it gets; nil once done is closed
}

// Start makes a namespace. Ctx bounds Start itself, not the namespace, which is there until Close, or until
// this process dies. Errors are a *tun.ConfigError or a *tun.OpError, for which tun.Diagnose has a remedy.
func Start(ctx context.Context, cfg Config) (*Namespace, error) {
	if !initCalled.Load() {
		return nil, errors.New("netns: the program must call netns.Init first in main")
	}
	if err := cfg.Device.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Join != "" {
		return join(ctx, cfg)
	}
	var first error
	for _, userNS := range []bool{false, true} {
		if !userNS && os.Geteuid() != 0 {
			continue
		}
		n, err := start(ctx, cfg, userNS)
		switch {
		case err == nil:
			return n, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case first == nil:
			first = err
		}
		// A root without CAP_SYS_ADMIN, as in a container, may still make a user namespace.
		if op := (*tun.OpError)(nil); !errors.As(err, &op) || op.Op != tun.OpNamespace || !errors.Is(err, os.ErrPermission) {
			return nil, err
		}
	}
	return nil, first
}

// start makes the namespaces, and in them the first process.
func start(ctx context.Context, cfg Config, userNS bool) (*Namespace, error) {
	attr := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if userNS {
		attr.Cloneflags |= unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	n, err := launch(ctx, cfg, &exec.Cmd{Path: "/proc/self/exe", Args: []string{initName}, SysProcAttr: attr}, nil, userNS)
	// What the first process may not do in a namespace of its own, it is the namespace that forbids
	// (AppArmor). Only the device file is outside.
	if op := (*tun.OpError)(nil); userNS && errors.As(err, &op) && op.Op != tun.OpOpen && errors.Is(err, os.ErrPermission) {
		err = &tun.OpError{Op: tun.OpNamespace, Name: namespaces(userNS), Err: err}
	}
	return n, err
}

// launch starts cmd, which is to become the first process, and has it set up what cfg says. If network is
// not nil the process is started in that namespace.
func launch(ctx context.Context, cfg Config, cmd *exec.Cmd, network *os.File, userNS bool) (*Namespace, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("netns: socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "control"), os.NewFile(uintptr(pair[1]), "control")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("netns: control socket: %w", err)
	}

	n := &Namespace{
		cmd:     cmd,
		conn:    conn.(*net.UnixConn),
		exited:  make(chan struct{}),
		done:    make(chan struct{}),
		running: map[int]chan message{},
	}
	cmd.Env, cmd.Stderr = os.Environ(), os.Stderr
	cmd.ExtraFiles = append([]*os.File{theirs}, cmd.ExtraFiles...) // initFD
	if err := n.fork(network); err != nil {
		n.conn.Close()
		if cfg.Join != "" {
			return nil, joinError(cfg.Join, err)
		}
		return nil, &tun.OpError{Op: tun.OpNamespace, Name: namespaces(userNS), Err: err}
	}
	theirs.Close() // so that its end is noticed

	stop := context.AfterFunc(ctx, func() { n.cmd.Process.Kill() })
	n.dev, err = n.setup(cfg, userNS)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		n.kill()
		if n.dev != nil {
			n.dev.Close()
		}
		return nil, err
	}
	n.reader.Go(n.receive)
	return n, nil
}

func namespaces(userNS bool) string {
	if userNS {
		return "user+net+pid"
	}
	return "net+pid"
}

// fork starts the first process, and a goroutine that waits for it. Pdeathsig is sent when the thread that
// forked ends, so that goroutine keeps the thread to itself. A thread that has joined another network
// namespace, which the child inherits, is never given back: it ends with the goroutine.
func (n *Namespace) fork(network *os.File) error {
	started := make(chan error)
	go func() {
		defer close(n.exited)
		runtime.LockOSThread()
		var err error
		if network == nil {
			defer runtime.UnlockOSThread()
		} else {
			_, err = onFD(network, func(fd int) (int, error) { return 0, unix.Setns(fd, unix.CLONE_NEWNET) })
		}
		if err == nil {
			err = n.cmd.Start()
		}
		started <- err
		if err == nil {
			n.cmd.Wait()
		}
	}()
	return <-started
}

// setup has the first process open the device, and adopts it.
func (n *Namespace) setup(cfg Config, userNS bool) (*tun.Device, error) {
	d := cfg.Device
	err := send(n.conn, message{Setup: &setup{
		Name: d.Name, MTU: d.MTU, Queues: d.Queues, Driver: d.Driver, Path: d.Path,
		Host:    tun.HostConfig{Addrs: cfg.HostAddrs, Routes: cfg.Routes, TxQueueLen: cfg.TxQueueLen, Up: true},
		Private: cfg.Join == "", Files: cfg.Files, Mask: cfg.Mask, User: cfg.User, Mapped: userNS,
	}})
	if err != nil {
		return nil, fmt.Errorf("netns: set up: %w", err)
	}
	m, fds, err := receive(n.conn)
	switch {
	case err != nil:
		return nil, fmt.Errorf("netns: set up: %w", err)
	case m.Err != nil:
		return nil, m.Err.error()
	case m.Ready == nil:
		closeAll(fds)
		return nil, errors.New("netns: set up: the namespace's first process sent no device")
	}
	if d.Logger != nil && d.Driver == tun.Auto && m.Ready.Driver == tun.Water {
		d.Logger.Warn("tun: fell back to the water driver", "offloads", m.Ready.Offloads.String())
	}
	return tun.Adopt(*m.Ready, fds, d.Logger)
}

// receive passes the first process's answers to those who wait for them.
func (n *Namespace) receive() {
	for {
		m, fds, err := receive(n.conn)
		closeAll(fds)
		n.mu.Lock()
		if err != nil {
			for id, answer := range n.running {
				close(answer)
				delete(n.running, id)
			}
			n.running = nil
			close(n.done)
			n.mu.Unlock()
			return
		}
		if answer := n.running[m.ID]; answer != nil {
			answer <- m
			delete(n.running, m.ID)
		}
		n.mu.Unlock()
	}
}

// Device is the namespace's device, which Close closes.
func (n *Namespace) Device() *tun.Device { return n.dev }

// PID is the first process's, as this process sees it; /proc/PID/ns/net is the namespace.
func (n *Namespace) PID() int { return n.cmd.Process.Pid }

// Done is closed when the namespace's first process has ended, by Close or otherwise.
func (n *Namespace) Done() <-chan struct{} { return n.done }

// ErrClosed is what Run's error wraps when the namespace ended before the command.
var ErrClosed = fmt.Errorf("netns: the namespace has ended: %w", os.ErrClosed)

// Run runs a command inside the namespace and returns its exit status, or 128 plus the number of the signal
// that killed it, as a shell does. When ctx ends the command is killed, its children are not, and the error
// is ctx's. Several commands may run at the same time.
func (n *Namespace) Run(ctx context.Context, c Command) (int, error) {
	if len(c.Args) == 0 {
		return 0, errors.New("netns: run: no command given")
	}
	path, err := exec.LookPath(c.Args[0])
	if err != nil {
		return 0, fmt.Errorf("netns: run: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	env := c.Env
	if env == nil {
		env = os.Environ()
	}
	files, err := openStdio(c)
	if err != nil {
		return 0, fmt.Errorf("netns: run %s: %w", c.Args[0], err)
	}
	defer files.wait()
	foreground := c.Stdin != nil && inForeground(c.Stdin)
	if foreground {
		defer takeForeground(c.Stdin)
	}
	id, answer, err := n.start(run{Path: path, Args: c.Args, Env: env, Dir: c.Dir, Foreground: foreground}, files)
	files.closeTheirs()
	if err != nil {
		return 0, fmt.Errorf("netns: run %s: %w", c.Args[0], err)
	}
	done := ctx.Done()
	for {
		select {
		case m, ok := <-answer:
			switch {
			case !ok:
				return 0, fmt.Errorf("netns: run %s: %w", c.Args[0], ErrClosed)
			case m.Err != nil:
				return 0, fmt.Errorf("netns: run: %w", m.Err.error())
			case ctx.Err() != nil:
				files.abandon() // the command's children may hold its pipes for ever
				return *m.Exit, ctx.Err()
			}
			return *m.Exit, nil
		case <-done:
			done = nil
			n.signal(id, syscall.SIGKILL)
		case sig, ok := <-c.Signals:
			if !ok {
				c.Signals = nil
			} else if sig, ok := sig.(syscall.Signal); ok {
				n.signal(id, sig)
			}
		}
	}
}

func (n *Namespace) start(r run, files *stdio) (id int, answer <-chan message, err error) {
	ch := make(chan message, 1)
	n.mu.Lock()
	if n.running == nil {
		n.mu.Unlock()
		return 0, nil, ErrClosed
	}
	n.nextID++
	id = n.nextID
	n.running[id] = ch
	n.mu.Unlock()

	err = files.withFDs(func(fds []int) error { return n.send(message{ID: id, Run: &r}, fds...) })
	if err != nil {
		n.mu.Lock()
		delete(n.running, id)
		n.mu.Unlock()
		return 0, nil, err
	}
	return id, ch, nil
}

func (n *Namespace) send(m message, fds ...int) error {
	n.sending.Lock()
	defer n.sending.Unlock()
	return send(n.conn, m, fds...)
}

// signal sends sig to a command. If that fails the namespace is ending, which its caller sees otherwise.
func (n *Namespace) signal(id int, sig syscall.Signal) {
	number := int(sig)
	n.send(message{ID: id, Signal: &number})
}

// Close kills every process in the namespace, unless it was joined, and closes the device, after which the namespace is gone.
// Commands that Run waits for end with ErrClosed.
func (n *Namespace) Close() error {
	n.closing.Do(func() {
		n.kill()
		n.reader.Wait()
	})
	return n.dev.Close()
}

// kill ends the first process, and thereby all others: the kernel lets it end only after them.
func (n *Namespace) kill() {
	n.cmd.Process.Kill()
	<-n.exited
	n.conn.Close()
}

// inForeground reports whether f is the controlling terminal, with this process in its foreground.
func inForeground(f *os.File) bool {
	pgrp, err := onFD(f, func(fd int) (int, error) { return unix.IoctlGetInt(fd, unix.TIOCGPGRP) })
	return err == nil && pgrp == unix.Getpgrp()
}

// takeForeground brings this process back to the terminal's foreground, from where it may only do so if it
// does not listen to the signal that tells it off.
func takeForeground(f *os.File) {
	signal.Ignore(unix.SIGTTOU)
	defer signal.Reset(unix.SIGTTOU)
	onFD(f, func(fd int) (int, error) { return 0, unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp()) })
}

// onFD calls do with f's descriptor, which stays as it is (File.Fd might make it blocking).
func onFD(f *os.File, do func(fd int) (int, error)) (v int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if ctlErr := conn.Control(func(fd uintptr) { v, err = do(int(fd)) }); ctlErr != nil {
		return 0, ctlErr
	}
	return v, err
}

// stdio are a command's standard files, and the goroutines that copy what it writes into pipes.
type stdio struct {
	files   [3]*os.File
	theirs  []*os.File // those of files to be closed once the command has them
	pipes   []*os.File // our ends of pipes, closed by who copies from them
	copying sync.WaitGroup
}

func openStdio(c Command) (*stdio, error) {
	s := &stdio{}
	fail := func(err error) (*stdio, error) {
		s.closeTheirs()
		s.copying.Wait()
		return nil, err
	}
	if s.files[0] = c.Stdin; c.Stdin == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return fail(err)
		}
		s.files[0] = null
		s.theirs = append(s.theirs, null)
	}
	for i, w := range []io.Writer{c.Stdout, c.Stderr} {
		switch f, isFile := w.(*os.File); {
		case isFile && f != nil:
			s.files[1+i] = f
		case i == 1 && sameWriter(c.Stdout, c.Stderr):
			s.files[2] = s.files[1] // one pipe, so that the writer is not called from two goroutines
		default:
			theirs, err := s.pipe(w)
			if err != nil {
				return fail(err)
			}
			s.files[1+i] = theirs
			s.theirs = append(s.theirs, theirs)
		}
	}
	return s, nil
}

// pipe returns a file from which all is copied to w.
func (s *stdio) pipe(w io.Writer) (*os.File, error) {
	if w == nil {
		return os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	}
	r, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.pipes = append(s.pipes, r)
	s.copying.Go(func() {
		defer r.Close()
		io.Copy(w, r)
	})
	return theirs, nil
}

// sameWriter compares two writers, of which one may be of a type that cannot be compared.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}

func (s *stdio) withFDs(do func(fds []int) error) error {
	var fds []int
	var next func(i int) error
	next = func(i int) error {
		if i == len(s.files) {
			return do(fds)
		}
		_, err := onFD(s.files[i], func(fd int) (int, error) {
			fds = append(fds, fd)
			return 0, next(i + 1)
		})
		return err
	}
	return next(0)
}

func (s *stdio) closeTheirs() {
	for _, f := range s.theirs {
		f.Close()
	}
	s.theirs = nil
}

// abandon ends the copying.
func (s *stdio) abandon() {
	for _, r := range s.pipes {
		r.SetReadDeadline(time.Now())
	}
}

// wait returns when all that was written has been copied.
func (s *stdio) wait() {
	s.closeTheirs()
	s.copying.Wait()
}
