package main

import (
	"bufio"
	"fmt"
	"path"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func newNstat(e *env) *cobra.Command {
	var zeros, refused bool
	c := &cobra.Command{
		Use:   "nstat [-a] [-z] [-s] [PATTERN…]",
		Short: "Show the stack's counters as nstat(8) prints them",
		Long: `nstat lists what the stack has counted since it started, by the kernel's names, in iproute2's format.
What the stack does not count is not listed, not even with -z, which lists the counters that are zero.
UDP is counted for both families together. nstat keeps no history: -a, which asks for the whole, and -s,
which leaves the history alone, are accepted. A PATTERN selects counters, such as 'Tcp*'.`,
		Example: `  catflap nstat -az
  catflap nstat TcpRetransSegs 'TcpExt*'`,
		RunE: func(c *cobra.Command, args []string) error {
			if refused {
				return &remedy.UsageError{Msg: "nstat: -r, -n, -d: nstat of catflap keeps no history", Remedy: "what a command did is the difference of two calls: catflap nstat -az"}
			}
			for _, p := range args {
				if _, err := path.Match(p, ""); err != nil {
					return remedy.Usagef("nstat: pattern %q: a bracket is not closed", p)
				}
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			all, err := cl.Counters(c.Context())
			if err != nil {
				return fmt.Errorf("nstat: %w", err)
			}
			shown := all[:0]
			for _, k := range all {
				ok := len(args) == 0
				for _, p := range args {
					match, _ := path.Match(p, k.Name) // it was checked above
					ok = ok || match
				}
				if ok && (k.Value > 0 || zeros) {
					shown = append(shown, k)
				}
			}
			if e.json {
				kernel := make(map[string]uint64, len(shown))
				for _, k := range shown {
					kernel[k.Name] = k.Value
				}
				return e.printJSON(map[string]any{"kernel": kernel})
			}
			b := bufio.NewWriter(e.stdout)
			fmt.Fprintln(b, "#kernel")
			for _, k := range shown {
				fmt.Fprintf(b, "%-32s%-16d%6.1f\n", k.Name, k.Value, 0.0)
			}
			return b.Flush()
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&zeros, "zeros", "z", false, "counters that are zero too")
	fs.BoolP("ignore", "a", false, "accepted: all since the stack started is what nstat shows")
	fs.BoolP("noupdate", "s", false, "accepted: there is no history")
	fs.BoolVarP(&refused, "reset", "r", false, "refused: there is no history")
	fs.BoolVarP(&refused, "nooutput", "n", false, "refused: there is no history")
	fs.BoolP("pretty", "p", false, "accepted, as with --json")
	fs.BoolVarP(&e.json, "json-output", "j", false, "print JSON")
	for _, f := range []string{"reset", "nooutput"} {
		if err := fs.MarkHidden(f); err != nil {
			panic(err) // the flag is three lines above
		}
	}
	return c
}
