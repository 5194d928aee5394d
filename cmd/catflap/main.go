// Command catflap runs a userspace TCP/IP stack that you can see into.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

func main() {
	netns.Init() // does not return in the first process of a namespace
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(run(context.Background(), e, os.Args[1:]))
}

// env is what a command has of the world around it.
type env struct {
	stdin          *os.File
	stdout, stderr io.Writer
	getenv         func(string) string

	control string // --control
	json    bool   // --json
	verbose bool   // -v
}

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// statusError ends the program with the status of a command it ran.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run runs one command line and returns the exit status.
func run(ctx context.Context, e *env, args []string) int {
	root := newRoot(e)
	root.SetArgs(args)
	root.SetIn(e.stdin)
	root.SetOut(e.stdout)
	root.SetErr(e.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var status statusError
	if errors.As(err, &status) {
		return int(status)
	}
	fmt.Fprintf(e.stderr, "catflap: %s\n", oneLine(err))
	code, advice := exitFailure, tun.Diagnose(err)
	var usage *remedy.UsageError
	var known *remedy.Error
	var cfg *tun.ConfigError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
		if advice = usage.Remedy; advice == "" {
			advice = "see: catflap help"
		}
	case errors.As(err, &cfg):
		code = exitUsage
	case errors.As(err, &known):
		advice = known.Remedy
	case controlRemedy(err) != "":
		advice = controlRemedy(err)
	}
	if advice != "" {
		fmt.Fprintf(e.stderr, "catflap: %s\n", advice)
	}
	return code
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func newRoot(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "catflap",
		Short: "A userspace TCP/IP stack that you can see into",
		Long: `catflap feeds raw IP packets from a TUN device into a TCP/IP stack in user space, serves
cats from it, and shows what the stack does with each packet.

  catflap get --trace http://10.9.0.2/                 no privilege, no device
  catflap run --trace -- curl -s http://10.9.0.2/      a real curl through a real TUN device`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(wrongFlag)
	root.Version = buildInfo().String()
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommand(newHelp())
	f := root.PersistentFlags()
	f.StringVar(&e.control, "control", "", "`PATH` of the control socket (default: CATFLAP_CONTROL, else the device's own)")
	f.BoolVar(&e.json, "json", false, "print JSON where something is listed")
	f.BoolVarP(&e.verbose, "verbose", "v", false, "log to stderr what the stack and the device do")
	defer complete(e, root)
	root.AddCommand(newRun(e), newServe(e), newAttach(e), newGet(e), newProxy(e), newIP(e), newSS(e), newNetstat(e), newLsof(e), newStrace(e), newLookup(e), newSteer(e), newForward(e), newNetem(e), newTC(e), newNstat(e), newSysctl(e), newPing(e), newTraceroute(e), newView(e), newTransfer(e), newCapture(e), newTcpdump(e), newTop(e), newDrill(e), newDoctor(e), newVersion(e))
	return root
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	u := &remedy.UsageError{Msg: fmt.Sprintf("unknown command %q", args[0]), Remedy: "see: " + c.CommandPath() + " --help"}
	if s := nearest(args[0], commandNames(c)); len(s) > 0 {
		u.Remedy = "did you mean: " + strings.Join(s, ", ")
	}
	return u
}

// noArgs refuses arguments, naming the first.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &remedy.UsageError{Msg: fmt.Sprintf("%s: unexpected argument %q", c.CommandPath(), args[0]), Remedy: "see: " + c.CommandPath() + " --help"}
	}
	return nil
}
