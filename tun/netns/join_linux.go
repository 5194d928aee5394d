package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/catflap/catflap/tun"
	"golang.org/x/sys/unix"
)

// ErrNoNsenter says that a namespace of a user namespace cannot be joined for want of a program.
var ErrNoNsenter = errors.New("the user namespace of the network namespace is joined by util-linux's nsenter, which is not in PATH")

func joinError(path string, err error) error {
	return &tun.OpError{Op: tun.OpJoin, Name: path, Err: err}
}

// join starts the process that opens the device in the namespace that cfg.Join stands for.
func join(ctx context.Context, cfg Config) (*Namespace, error) {
	if cfg.User != nil || len(cfg.Files)+len(cfg.Mask) > 0 {
		return nil, errors.New("netns: a namespace that is there already keeps its users and files")
	}
	network, err := openNetns(cfg.Join)
	if err != nil {
		return nil, joinError(cfg.Join, err)
	}
	defer network.Close()
	if os.Geteuid() == 0 {
		attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		return launch(ctx, cfg, &exec.Cmd{Path: "/proc/self/exe", Args: []string{initName}, SysProcAttr: attr}, network, false)
	}

	// A user has no power over a network namespace outside of the user namespace that owns it.
	owner, err := onFD(network, func(fd int) (int, error) { return unix.IoctlRetInt(fd, unix.NS_GET_USERNS) })
	if err != nil {
		return nil, joinError(cfg.Join, err)
	}
	user := os.NewFile(uintptr(owner), "user namespace")
	defer user.Close()
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return nil, joinError(cfg.Join, ErrNoNsenter)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, joinError(cfg.Join, err)
	}
	return launch(ctx, cfg, &exec.Cmd{
		Path: nsenter,
		Args: []string{"nsenter", "--preserve-credentials", fmt.Sprintf("--user=/proc/self/fd/%d", initFD+1), fmt.Sprintf("--net=/proc/self/fd/%d", initFD+2), "--", self, initName},

		ExtraFiles:  []*os.File{user, network},
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}, // forgotten with the change of credentials; then the end of the socket is what ends it
	}, nil, false)
}

// openNetns opens a file that stands for a network namespace; syscall.EINVAL if it stands for none.
func openNetns(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err) // without the path
	}
	kind, err := onFD(f, func(fd int) (int, error) { return unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE) })
	if err == nil && kind != unix.CLONE_NEWNET || errors.Is(err, unix.ENOTTY) {
		err = syscall.EINVAL
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
