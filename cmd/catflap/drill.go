package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/test/drill"
)

func newDrill(e *env) *cobra.Command {
	var o drill.Options
	var target, junit, capture string
	var all, suite bool
	var defines []string
	c := &cobra.Command{
		Use:   "drill [flags] FILE.pkt...",
		Short: "Run packetdrill scripts against the userspace stack, on virtual time",
		Long: `drill runs scripts in packetdrill's language against the userspace stack: as any user, on any OS,
in virtual time, so that a minute takes milliseconds and the result is always the same. An argument is
a script, a directory, a glob pattern, or DIR/... for all below a directory. With --target kernel the
same scripts run against Linux's own TCP, in real time, as root; with --target both, what differs is listed.
--check only reads the scripts, and says what a run would refuse and why: with --target on that target, else on either. -D
gives a name that scripts leave to whoever runs them a meaning, as packetdrill's does. --suite adds a table by folder.
--repeat runs each again and again, and fails where two runs differ in anything.
The exit status is 1 if a script failed.`,
		Example: `  catflap drill handshake.pkt
  catflap drill -v test/conformance/...
  catflap drill --repeat 1000 test/conformance/...
  catflap drill --target both -w run.pcapng close.pkt
  catflap drill --target kernel --congestion cubic --suite -D CODE=host_unreachable gtests/net/tcp`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &remedy.UsageError{Msg: "drill: no script named", Remedy: "for example: catflap drill FILE.pkt"}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			switch o.Target = drill.Target(target); o.Target {
			case drill.Stack, drill.Kernel, drill.Both:
			default:
				return remedy.Usagef("drill: --target %s: want stack, kernel or both", target)
			}
			if o.Parallel < 0 {
				return remedy.Usagef("drill: --parallel %d: want 0 or more", o.Parallel)
			}
			switch {
			case o.Repeat < 1:
				return remedy.Usagef("drill: --repeat %d: want 1 or more", o.Repeat)
			case o.Repeat > 1 && o.Target != drill.Stack:
				return remedy.Usagef("drill: --repeat with --target %s: only the stack, whose time is virtual, gives the same result each time", target)
			case o.Shell && o.Target == drill.Stack:
				return remedy.Usagef("drill: --shell runs what scripts say in the kernel target's namespace: add --target kernel")
			case o.Check && (o.Repeat > 1 || capture != ""):
				return remedy.Usagef("drill: --check runs nothing: leave out --repeat and --write")
			}
			if o.Check && !c.Flags().Changed("target") {
				o.Target = ""
			}
			if o.Defines, err = parseDefines(defines); err != nil {
				return err
			}
			o.Paths = args
			if capture != "" {
				w, done, err := e.output(capture)
				if err != nil {
					return fmt.Errorf("drill: capture: %w", err)
				}
				o.PCAPNG = w
				defer func() { err = first(err, done(true)) }()
			}
			report, err := drill.RunFiles(c.Context(), o)
			if err != nil {
				return fmt.Errorf("drill: %w", err)
			}
			if junit != "" {
				if err := e.writeTo(junit, report.WriteJUnit); err != nil {
					return fmt.Errorf("drill: JUnit report: %w", err)
				}
			}
			if e.json {
				err = report.WriteJSON(e.stdout)
			} else {
				err = report.WriteText(e.stdout, all || e.verbose)
			}
			if err == nil && suite && !e.json {
				err = report.WriteSuite(e.stdout)
			}
			if err != nil {
				return err
			}
			if !report.OK() {
				return statusError(exitFailure)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&target, "target", string(drill.Stack), "what the scripts run against: stack, kernel or both")
	f.IntVar(&o.Parallel, "parallel", 0, "`NUMBER` of scripts at once (default: one for each processor)")
	f.IntVar(&o.Repeat, "repeat", 1, "run each script `TIMES`, and fail where two runs differ")
	f.BoolVar(&o.Check, "check", false, "only read the scripts, and say what is wrong with them")
	f.StringArrayVarP(&defines, "define", "D", nil, "give a name in the scripts a meaning: `NAME=VALUE`, again for more names")
	f.StringVar(&o.Congestion, "congestion", "", "congestion control algorithm of each socket, whatever the scripts set: `NAME`")
	f.BoolVar(&o.Shell, "shell", false, "with --target kernel, let a shell run lines of scripts that are not understood, as you: only for scripts that you trust")
	f.BoolVar(&suite, "suite", false, "print a table by folder, too")
	f.StringVarP(&capture, "write", "w", "", "write the packets of all scripts to `FILE`, as pcapng")
	f.StringVar(&junit, "junit", "", "write a report for a CI system to `FILE`, as JUnit XML")
	f.BoolVarP(&all, "all", "a", false, "print a line for scripts that pass, too")
	return c
}

// parseDefines reads NAME=VALUE; quotes around a value are packetdrill's way to say that it is text.
func parseDefines(list []string) (map[string]string, error) {
	defines := map[string]string{}
	for _, d := range list {
		name, value, ok := strings.Cut(d, "=")
		if !ok || name == "" {
			return nil, remedy.Usagef("drill: -D %s: want NAME=VALUE", d)
		}
		defines[name] = strings.Trim(value, `"`)
	}
	return defines, nil
}

// first returns the first error of errs that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// writeTo writes a whole file, or "-" for stdout, with write.
func (e *env) writeTo(name string, write func(io.Writer) error) error {
	w, done, err := e.output(name)
	if err != nil {
		return err
	}
	err = write(w)
	return first(err, done(err == nil))
}
