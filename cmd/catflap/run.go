package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun/netns"
)

func (e *env) logger() *slog.Logger {
	level := slog.LevelWarn
	if e.verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
}

func newRun(e *env) *cobra.Command {
	var f instanceFlags
	var id identityFlags
	var trace bool
	c := &cobra.Command{
		Use:         "run [flags] [-- CMD ARG...]",
		Annotations: map[string]string{runsCommand: "yes"},
		Short:       "Run a command in a private network namespace that leads to the stack",
		Long: `run makes a private network namespace (as root, or as a user through a user namespace), opens
the TUN device in it, starts the stack and the cat server outside of it, and runs CMD inside:
by default an interactive shell. It exits with CMD's status. Inside, the commands that look at a
running stack (catflap ip, ss, netstat, …) find this one.

CMD is root inside: root itself, or a user who appears as root. With --as-user a user appears as himself, so
that servers start that refuse root. When root runs catflap, --as-user is the user who called sudo, and
--as-user=NAME is NAME; such a CMD may not ask the control socket, which stays root's.

With --dns programs inside find names: their /etc/resolv.conf and /etc/nsswitch.conf lead to the stack, and
those of the host stay as they are. --dns db=10.9.0.2,db=fd00:9::2 names an address (A, AAAA and PTR), which
a rule of --netem may use (drop udp to db); --dns host, the default with --egress, asks this host's
resolvers for all other names, and without host those are refused.

--egress has the stack lead the command's connections out: from sockets of catflap itself, which are in the
network of who called it. The host's own addresses, its loopback interface and link-local addresses stay
closed unless they are named. -t leads a port of this machine in to the command; a server sees its client's
own address if both are of one family, and the stack's address if the client is at a loopback address.`,
		Example: `  catflap run -- curl -s http://10.9.0.2/
  catflap run --trace -- curl -s 'http://[fd00:9::2]/'
  catflap run --egress all -- curl -s http://192.0.2.1/
  catflap run -t 18080:8080 -- python3 -m http.server 8080
  catflap run --forward 10.9.0.2:5432=127.0.0.1:5432 --netem "loss 2%" -- psql -h 10.9.0.2
  catflap run`,
		RunE: func(c *cobra.Command, args []string) error {
			return runInNamespace(c.Context(), e, &f, &id, trace, args)
		},
	}
	f.add(c, true)
	f.board.add(c, "")
	f.ways.addRun(c)
	f.namesByEgress = true
	id.add(c)
	c.Flags().BoolVar(&trace, "trace", false, "print each packet's way through the stack and each socket call to stderr")
	return c
}

func runInNamespace(ctx context.Context, e *env, f *instanceFlags, id *identityFlags, trace bool, args []string) error {
	s, err := f.parse(e.logger())
	if err != nil {
		return err
	}
	who, err := id.parse(e)
	if err != nil {
		return err
	}
	files, mask, err := s.nameFiles()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{shell(e)}
	}
	// Signals go to the command; catflap ends when it does.
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)

	ns, err := s.enter(ctx, e, netns.Config{
		Device: s.device, HostAddrs: s.hostAddrs, Routes: s.ways.routes(s.hostAddrs),
		User: who.user, Files: files, Mask: mask,
	})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer ns.Close()
	s.ways.of(&s.instance, ns, e)
	path := e.control
	if path == "" {
		path = control.RunPath() // many can run at once, each with a device of the same name
	}
	i, err := s.open(e, f, ns.Device(), opening{trace: trace, control: path, board: instance.Dashboard{Transfer: s.transferIn(ns)}})
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	defer i.close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-i.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	status, err := ns.Run(ctx, netns.Command{
		Args: args, Env: who.env(commandEnv(path)), Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Signals: signals,
	})
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission):
		return remedy.With(fmt.Errorf("run: %w", err), "CMD is a program in PATH or a path to one, which you may execute: is it installed?")
	case err != nil:
		return fmt.Errorf("run: %w", err)
	}
	i.drain(ctx, e, s.drain, signals)
	if status != 0 {
		return statusError(status)
	}
	return nil
}

func shell(e *env) string {
	if s := e.getenv("SHELL"); s != "" {
		return s
	}
	return "/bin/sh"
}

// commandEnv is the environment of the command: it finds catflap itself in its PATH,
// and the instance by its control socket.
func commandEnv(socket string) []string {
	if abs, err := filepath.Abs(socket); err == nil {
		socket = abs // the command may change its directory
	}
	env := withVar(os.Environ(), controlEnv, socket)
	if _, err := exec.LookPath("catflap"); err == nil {
		return env
	}
	exe, err := os.Executable()
	if err != nil || filepath.Base(exe) != "catflap" {
		return env
	}
	return withVar(env, "PATH", os.Getenv("PATH")+string(os.PathListSeparator)+filepath.Dir(exe))
}

// withVar sets a variable of an environment.
func withVar(env []string, name, value string) []string {
	env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	return append(env, name+"="+value)
}
