package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
)

func newForward(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "forward show | add ADDR:PORT=TARGET[/udp] | del ADDR:PORT[=TARGET][/udp]",
		Short: "Put a service of this machine on an address of the stack",
		Long: `forward leads connections to ADDR:PORT, an address of the stack or any that is routed to it, to TARGET,
HOST:PORT as this machine reaches it: through the link, as impaired as it is. A name is looked up for each
connection. When TARGET refuses, the client is refused. What is joined already goes on after del.`,
		Example: `  catflap forward add 10.9.0.2:5432=127.0.0.1:5432
  catflap forward show
  catflap forward del 10.9.0.2:5432`,
		RunE: func(c *cobra.Command, args []string) error {
			w := words.Words{Command: "forward", Rest: args}
			if !w.More() {
				return w.Errorf("want show, add or del")
			}
			verb := w.Next()
			if verb != "show" && verb != "add" && verb != "del" {
				return w.Unexpected(verb, "show, add or del")
			}
			w.Command += " " + verb
			var f bridge.Forward
			if verb != "show" {
				s, err := w.Value(w.Command, "ADDR:PORT=TARGET, such as 10.9.0.2:5432=127.0.0.1:5432")
				if err != nil {
					return err
				}
				parse := bridge.ParseForward
				if verb == "del" {
					parse = bridge.ParseForwardPlace
				}
				if f, err = parse(s); err != nil {
					return specError(w.Command, err)
				}
			}
			if err := w.End("nothing more"); err != nil {
				return err
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			switch verb {
			case "add":
				return forwardError(cl.AddForward(c.Context(), f))
			case "del":
				return forwardError(cl.DelForward(c.Context(), f))
			}
			return forwardShow(c.Context(), e, cl)
		},
	}
}

func forwardShow(ctx context.Context, e *env, cl *control.Client) error {
	all, err := cl.Forwards(ctx)
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	if e.json {
		return e.printJSON(all)
	}
	for _, f := range all {
		if _, err := fmt.Fprintln(e.stdout, f); err != nil {
			return err
		}
	}
	return nil
}
