package main

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

// steerExample is a rule, for messages.
const steerExample = "tcp 192.0.2.0/24 1-65535 to :80"

func newSteer(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "steer show | add tcp|udp PREFIX PORTS to [ADDR]:PORT | del tcp|udp PREFIX PORTS",
		Short: "Send whole prefixes and port ranges to one listener",
		Long: `steer lets one listener serve every address of a prefix and every port of a range, as a BPF sk_lookup
program does in Linux. Connections that exist are never steered; of several rules the most specific one
decides: the longest prefix, then the narrowest range. The accepted connection's local address is the one
that the client dialled. Packets to the prefix must be local: see catflap ip route add local.`,
		Example: `  catflap steer add ` + steerExample + `
  catflap steer show
  catflap steer del tcp 192.0.2.0/24 1-65535`,
		RunE: func(c *cobra.Command, args []string) error {
			w := words.Words{Command: "steer", Rest: args}
			if !w.More() {
				return w.Errorf("want show, add or del")
			}
			verb := w.Next()
			if verb != "show" && verb != "add" && verb != "del" {
				return w.Unexpected(verb, "show, add or del")
			}
			w.Command += " " + verb
			var r stack.SteerRule
			var err error
			if verb == "show" {
				err = w.End("nothing after show")
			} else {
				r, err = parseSteer(&w, verb == "add")
			}
			if err != nil {
				return err
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			switch verb {
			case "add":
				if err := cl.AddSteering(c.Context(), r); err != nil {
					return err
				}
				return steerHint(c.Context(), e, cl, r)
			case "del":
				return cl.DelSteering(c.Context(), r)
			}
			return steerShow(c.Context(), e, cl)
		},
	}
}

func steerShow(ctx context.Context, e *env, cl *control.Client) error {
	rules, err := cl.Steering(ctx)
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	if e.json {
		return e.printJSON(rules)
	}
	for _, r := range rules {
		if _, err := fmt.Fprintln(e.stdout, r); err != nil {
			return err
		}
	}
	return nil
}

// steerHint says what is missing for a new rule to be reached.
func steerHint(ctx context.Context, e *env, cl *control.Client, r stack.SteerRule) error {
	l, err := cl.LookupRoute(ctx, stack.RouteQuery{Dst: r.Prefix.Addr()})
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	if l.Local() {
		return nil
	}
	info, err := cl.Info(ctx)
	if err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	fmt.Fprintf(e.stderr, "catflap: packets to %s are not delivered to this stack yet: catflap ip route add local %s dev %s\n", r.Prefix, r.Prefix, info.Dev)
	return nil
}

// parseSteer reads tcp|udp PREFIX PORTS [to [ADDR]:PORT].
func parseSteer(w *words.Words, target bool) (r stack.SteerRule, err error) {
	if r.Network, err = w.Value(w.Command, "tcp or udp"); err != nil {
		return r, err
	}
	if r.Network != "tcp" && r.Network != "udp" {
		return r, w.Unexpected(r.Network, "tcp or udp")
	}
	s, err := w.Value(r.Network, "a prefix such as 192.0.2.0/24")
	if err != nil {
		return r, err
	}
	if r.Prefix, err = netip.ParsePrefix(s); err != nil {
		a, aerr := netip.ParseAddr(s)
		if aerr != nil || a.Zone() != "" {
			return r, w.Bad("prefix", s, "a prefix such as 192.0.2.0/24, or an address")
		}
		r.Prefix = netip.PrefixFrom(a, a.BitLen())
	}
	if r.Prefix != r.Prefix.Masked() {
		return r, w.Errorf("prefix %q: has bits of a host; the prefix is %s", s, r.Prefix.Masked())
	}
	if s, err = w.Value(s, "a port or a range such as 1-65535"); err != nil {
		return r, err
	}
	lo, hi, isRange := strings.Cut(s, "-")
	if !isRange {
		hi = lo
	}
	l, lerr := strconv.ParseUint(lo, 10, 16)
	h, herr := strconv.ParseUint(hi, 10, 16)
	if lerr != nil || herr != nil || l == 0 || l > h {
		return r, w.Bad("ports", s, "a port or a range from 1 to 65535, such as 1-65535")
	}
	r.PortLo, r.PortHi = uint16(l), uint16(h)
	if !w.More() && !target {
		return r, nil
	}
	if s, err = w.Value(s, "to [ADDR]:PORT"); err != nil {
		return r, err
	}
	if s != "to" {
		return r, w.Unexpected(s, "to [ADDR]:PORT")
	}
	if s, err = w.Value(s, "[ADDR]:PORT"); err != nil {
		return r, err
	}
	if r.To, err = parseTarget(s, r.Prefix.Addr()); err != nil {
		return r, w.Bad("to", s, "[ADDR]:PORT with an address of the prefix's family, such as :80 or 10.9.0.2:80")
	}
	return r, w.End("nothing after the target")
}

// parseTarget reads [ADDR]:PORT; without ADDR the listener may have any address.
func parseTarget(s string, like netip.Addr) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(s, ":"); ok {
		s = netip.IPv4Unspecified().String() + ":" + port
		if like.Is6() {
			s = "[" + netip.IPv6Unspecified().String() + "]:" + port
		}
	}
	ap, err := netip.ParseAddrPort(s)
	if err == nil && (ap.Port() == 0 || ap.Addr().Is4() != like.Is4()) {
		err = strconv.ErrRange
	}
	return ap, err
}
