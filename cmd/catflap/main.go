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

// usageError is a command line that makes no sense; remedy may be empty.
type usageError struct{ msg, remedy string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, args ...any) error { return &usageError{msg: fmt.Sprintf(format, args...)} }

// remedyError is a failure for which there is something to do.
type remedyError struct {
	error
	remedy string
}

func (e *remedyError) Unwrap() error { return e.error }

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
	code, remedy := exitFailure, tun.Diagnose(err)
	var usage *usageError
	var rem *remedyError
	var cfg *tun.ConfigError
	switch {
	case errors.As(err, &usage):
		code = exitUsage
		if remedy = usage.remedy; remedy == "" {
			remedy = "see: catflap help"
		}
	case errors.As(err, &cfg):
		code = exitUsage
	case errors.As(err, &rem):
		remedy = rem.remedy
	case controlRemedy(err) != "":
		remedy = controlRemedy(err)
	}
	if remedy != "" {
		fmt.Fprintf(e.stderr, "catflap: %s\n", remedy)
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

		SuggestionsMinimumDistance: 2, // typing errors
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{msg: c.CommandPath() + ": " + err.Error(), remedy: "see: " + c.CommandPath() + " --help"}
	})
	f := root.PersistentFlags()
	f.StringVar(&e.control, "control", "", "`PATH` of the control socket (default: CATFLAP_CONTROL, else the device's own)")
	f.BoolVar(&e.json, "json", false, "print JSON where something is listed")
	f.BoolVarP(&e.verbose, "verbose", "v", false, "log to stderr what the stack and the device do")
	root.AddCommand(newRun(e), newServe(e), newGet(e), newIP(e), newSS(e), newNetstat(e), newLsof(e), newStrace(e), newLookup(e), newSteer(e), newNetem(e), newView(e), newTransfer(e), newCapture(e), newTcpdump(e), newTop(e), newDrill(e), newDoctor(e), newVersion(e))
	return root
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	u := &usageError{msg: fmt.Sprintf("unknown command %q", args[0]), remedy: "see: " + c.CommandPath() + " --help"}
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		u.remedy = "did you mean: " + strings.Join(s, ", ")
	}
	return u
}

// noArgs refuses arguments, naming the first.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return &usageError{msg: fmt.Sprintf("%s: unexpected argument %q", c.CommandPath(), args[0]), remedy: "see: " + c.CommandPath() + " --help"}
	}
	return nil
}
