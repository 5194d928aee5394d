package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

func newAttach(e *env) *cobra.Command {
	var f instanceFlags
	var t attachTarget
	var trace bool
	c := &cobra.Command{
		Use:   "attach [flags] PID | --netns PATH | --container NAME",
		Short: "Put the device into a network namespace that is there already",
		Long: `attach opens the TUN device in the network namespace of a process, of a file such as /run/netns/NAME, or of
a container of podman, docker or nerdctl, with the stack and the cat server outside of it. It serves
until SIGINT or SIGTERM, or until the process ends; then it leaves nothing behind. The namespace's
processes go on as they were: they find one more interface, with --egress a default route through it, and
with --dns a resolver at the stack's addresses, to which their /etc/resolv.conf leads only if they name it
there.

Root can attach to every namespace. A user can attach to those of his own user namespaces (unshare -rn,
rootless podman), for which util-linux's nsenter must be in PATH.`,
		Example: `  catflap attach --netem 'loss 2% delay 20ms' 4711
  catflap attach --netns /run/netns/blue --egress all
  catflap attach --container db`,
		RunE: func(c *cobra.Command, args []string) error {
			t.args = args
			return attach(c.Context(), e, &f, &t, trace)
		},
	}
	f.add(c, true)
	f.board.add(c, "")
	f.ways.addRun(c)
	c.Flags().StringVar(&t.netns, "netns", "", "the namespace that the file `PATH` stands for")
	c.Flags().StringVar(&t.container, "container", "", "the namespace of the container `NAME`")
	c.Flags().BoolVar(&trace, "trace", false, "print each packet's way through the stack and each socket call to stderr")
	return c
}

// attachTarget is what attach was told to attach to.
type attachTarget struct {
	args             []string
	netns, container string
}

// find returns the namespace's file, what to call it, and, unless it was named by its file, the process by
// which it is known, which the caller closes.
func (t *attachTarget) find(ctx context.Context) (path, name string, p *netns.Process, err error) {
	given := len(t.args)
	for _, s := range []string{t.netns, t.container} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		return "", "", nil, &remedy.UsageError{Msg: fmt.Sprintf("attach: want one of PID, --netns PATH and --container NAME, not %d", given), Remedy: "see: catflap attach --help"}
	}
	var pid int
	switch {
	case t.netns != "":
		return t.netns, t.netns, nil, nil
	case t.container != "":
		if pid, err = containerPID(ctx, t.container); err != nil {
			return "", "", nil, err
		}
		name = "container " + t.container
	default:
		if pid, err = strconv.Atoi(t.args[0]); err != nil || pid < 1 {
			return "", "", nil, &remedy.UsageError{Msg: fmt.Sprintf("attach: %q is no process id", t.args[0]), Remedy: "name a process by its number, as ps and pgrep print it, a file with --netns, or a container with --container"}
		}
		name = fmt.Sprintf("process %d", pid)
	}
	if p, err = netns.FindProcess(pid); err != nil {
		return "", "", nil, fmt.Errorf("attach: %w", err)
	}
	return fmt.Sprintf("/proc/%d/ns/net", pid), name, p, nil
}

// containerPrograms know containers, and answer inspect alike.
var containerPrograms = []string{"podman", "docker", "nerdctl"}

// containerPID asks the programs that are installed for a container's first process.
func containerPID(ctx context.Context, name string) (int, error) {
	var said []string
	for _, program := range containerPrograms {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		var stderr bytes.Buffer
		c := exec.CommandContext(ctx, path, "inspect", "--format", "{{.State.Pid}}", "--", name)
		c.Stderr = &stderr
		out, err := c.Output()
		pid, numErr := strconv.Atoi(strings.TrimSpace(string(out)))
		switch {
		case err != nil:
			said = append(said, program+": "+strings.TrimSpace(strings.TrimSpace(stderr.String())+" ("+err.Error()+")"))
		case numErr != nil:
			said = append(said, fmt.Sprintf("%s: %q is no process id", program, out))
		case pid == 0:
			return 0, remedy.With(fmt.Errorf("attach: container %s of %s does not run", name, program), "start it: "+program+" start "+name)
		default:
			return pid, nil
		}
	}
	if len(said) == 0 {
		return 0, remedy.With(fmt.Errorf("attach: --container %s: none of %s is in PATH", name, strings.Join(containerPrograms, ", ")), "name a process of the container instead: catflap attach PID")
	}
	return 0, remedy.With(fmt.Errorf("attach: --container %s: %s", name, strings.Join(said, "; ")), "the program's ps lists the containers; rootless ones are their user's alone")
}

func attach(ctx context.Context, e *env, f *instanceFlags, t *attachTarget, trace bool) error {
	s, err := f.parse(e.logger())
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	path, name, process, err := t.find(ctx)
	if err != nil {
		return err
	}
	var ended <-chan struct{} // never, of a namespace that is known by its file
	if process != nil {
		defer process.Close()
		ended = process.Done()
	}
	if ours(path) {
		return remedy.With(fmt.Errorf("attach: %s is in this network namespace", name), "to have the device here: catflap serve")
	}
	ns, err := s.enter(ctx, e, netns.Config{Device: s.device, HostAddrs: s.hostAddrs, Routes: s.ways.routes(s.hostAddrs), Join: path})
	if errors.Is(err, netns.ErrNoNsenter) {
		return remedy.With(fmt.Errorf("attach: %w", err), "install util-linux, or run as root")
	}
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer ns.Close()
	s.ways.of(&s.instance, ns, e)
	socket := e.controlPath()
	if socket == "" {
		socket = control.RunPath() // a device of the same name may be in another namespace
	}
	i, err := s.open(e, f, ns.Device(), opening{trace: trace, control: socket, board: instance.Dashboard{Transfer: s.transferIn(ns)}})
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer i.close()
	dev := ns.Device()
	fmt.Fprintf(e.stderr, "catflap: attached to %s: %s, %s driver, MTU %d\n", name, dev.Name(), dev.Driver(), dev.MTU())
	for _, p := range s.instance.Addrs {
		if s.noCats {
			break
		}
		fmt.Fprintf(e.stderr, "catflap: http://%s/ is reached from there\n", hostPort(p.Addr(), s.port))
	}
	io.WriteString(e.stderr, "catflap: to look at it: export "+controlEnv+"="+socket+"\n")

	select {
	case err := <-i.Failed():
		return remedy.With(fmt.Errorf("attach: %w", err), tun.Diagnose(err))
	case <-ended:
		fmt.Fprintf(e.stderr, "catflap: %s has ended\n", name)
		i.drain(ctx, e, s.drain, signals)
	case <-ns.Done():
		return remedy.With(fmt.Errorf("attach: %s: the process that held the device has ended", name), "was it killed? start again")
	case <-ctx.Done():
	case <-signals:
	}
	return nil
}

// ours reports whether a file stands for the network namespace that this process is in.
func ours(path string) bool {
	a, err := os.Stat(path)
	if err != nil {
		return false
	}
	b, err := os.Stat("/proc/self/ns/net")
	return err == nil && os.SameFile(a, b)
}
