package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
)

// sysctlOptions are the flags of sysctl(8).
type sysctlOptions struct {
	all, values, names, binary, ignore, quiet, write bool
	pattern                                          string
}

func newSysctl(e *env) *cobra.Command {
	var o sysctlOptions
	c := &cobra.Command{
		Use:   "sysctl [-n] [-N] [-e] [-q] [-w] NAME[=VALUE]… | -a [-r PATTERN]",
		Short: "Read and change the stack's settings by the kernel's names",
		Long: `sysctl reads and changes those settings of the stack that have a name in the kernel, such as
net.ipv4.tcp_congestion_control, in procps's format. Names may be written with slashes.
A change is for connections to come. What the stack does not have is an error, as an unknown name is.`,
		Example: `  catflap sysctl -a
  catflap sysctl net.ipv4.tcp_sack
  catflap sysctl -w net.ipv4.tcp_congestion_control=reno`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), e, args) },
	}
	fs := c.Flags()
	fs.BoolVarP(&o.all, "all", "a", false, "all settings that there are")
	fs.BoolVarP(&o.all, "All", "A", false, "the same as -a")
	fs.BoolVarP(&o.all, "X", "X", false, "the same as -a")
	fs.BoolVarP(&o.values, "values", "n", false, "values alone")
	fs.BoolVarP(&o.names, "names", "N", false, "names alone")
	fs.BoolVarP(&o.binary, "binary", "b", false, "values alone, without a line's end")
	fs.BoolVarP(&o.ignore, "ignore", "e", false, "say nothing of names that there are not")
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "do not print what was changed")
	fs.BoolVarP(&o.write, "write", "w", false, "arguments are changes, NAME=VALUE, as they are without it")
	fs.StringVarP(&o.pattern, "pattern", "r", "", "with -a: those whose name has a match of the regular expression `PATTERN`")
	return c
}

func (o *sysctlOptions) run(ctx context.Context, e *env, args []string) error {
	re, err := regexp.Compile(o.pattern)
	switch {
	case err != nil:
		return remedy.Usagef("sysctl: -r %q: %v", o.pattern, err)
	case o.all && len(args) > 0:
		return remedy.Usagef("sysctl: -a shows all settings: leave out %q", args[0])
	case !o.all && len(args) == 0:
		return &remedy.UsageError{Msg: "sysctl: no variables specified", Remedy: "all that there are: catflap sysctl -a"}
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	all, err := cl.Sysctls(ctx)
	if err != nil {
		return fmt.Errorf("sysctl: %w", err)
	}
	if o.all {
		shown := make([]stack.Sysctl, 0, len(all))
		for _, v := range all {
			if re.MatchString(v.Name) {
				shown = append(shown, v)
			}
		}
		return o.print(e, shown...)
	}
	var failed []error
	for _, arg := range args {
		failed = append(failed, o.one(ctx, e, cl, all, arg))
	}
	return errors.Join(failed...)
}

// one carries out one argument: NAME or NAME=VALUE.
func (o *sysctlOptions) one(ctx context.Context, e *env, cl *control.Client, all []stack.Sysctl, arg string) error {
	name, value, change := strings.Cut(arg, "=")
	if o.write && !change {
		return remedy.Usagef("sysctl: %q must be of the form NAME=VALUE", arg)
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if i := strings.IndexAny(name, "./"); i >= 0 && name[i] == '/' {
		name = strings.ReplaceAll(name, "/", ".")
	}
	for _, v := range all {
		if v.Name != name {
			continue
		}
		if !change {
			return o.print(e, v)
		}
		v.Value = value
		switch err := cl.SetSysctl(ctx, v); {
		case errors.Is(err, syscall.EACCES):
			return fmt.Errorf("sysctl: permission denied on key %q: it can only be read", name)
		case err != nil:
			return fmt.Errorf("sysctl: setting key %q: %w", name, err)
		case o.quiet:
			return nil
		}
		return o.print(e, v)
	}
	if o.ignore {
		return nil
	}
	return remedy.With(fmt.Errorf("sysctl: cannot stat /proc/sys/%s: No such file or directory", strings.ReplaceAll(name, ".", "/")),
		"the settings that the stack has: catflap sysctl -a")
}

func (o *sysctlOptions) print(e *env, vs ...stack.Sysctl) error {
	if e.json {
		return e.printJSON(vs)
	}
	for _, v := range vs {
		line := v.Name + " = " + v.Value + "\n"
		switch {
		case o.binary:
			line = v.Value
		case o.values:
			line = v.Value + "\n"
		case o.names:
			line = v.Name + "\n"
		}
		if _, err := fmt.Fprint(e.stdout, line); err != nil {
			return err
		}
	}
	return nil
}
