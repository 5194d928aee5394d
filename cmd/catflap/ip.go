package main

import (
	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/ip"
)

func newIP(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ip [-4|-6] [-s] [-d] [-br] [-o] [-j [-p]] rule|route|addr|link|neigh|monitor …",
		Short: "Show and change the stack's rules, routing tables and addresses, as ip(8) does",
		Long: `ip speaks iproute2's language about the userspace stack instead of the kernel: its words, their
abbreviations, and its output.

  ip rule  show
  ip rule  add|del [not] [from PREFIX] [to PREFIX] [iif DEV] [oif DEV] [priority N]
                   [table TABLE | unreachable | prohibit | blackhole]
  ip route show [table TABLE|all] [dev DEV] [type TYPE] [proto P] [scope S] [via GW] [src A]
                [[root|match|exact] PREFIX]
  ip route get ADDR [from SRC] [iif DEV] [oif DEV]
  ip route flush FILTER, with the words of show
  ip route add|change|replace|append|del [TYPE] PREFIX [via GW] [dev DEV] [table TABLE] [metric N]
                [src A] [proto P] [scope S]
  ip addr  show [[dev] DEV] [scope S] [to PREFIX] | add|replace|del ADDR[/LEN] dev DEV | flush dev DEV
  ip link  show [[dev] DEV]
  ip monitor [all|addr|route|rule]     what changes, looked for five times a second, until SIGINT

TYPE is unicast, local, broadcast, multicast, unreachable, prohibit, blackhole or throw; TABLE is local,
main, default or a number; PREFIX may be default. Options: -4 and -6 choose the family, -j (--json) prints
JSON, -p with it breaks the JSON into lines. Addresses are never looked up in the DNS.`,
		Example: `  catflap ip ru sh
  catflap ip ro sh table local
  catflap ip route get 192.0.2.77
  catflap ip route add local 192.0.2.0/24 dev cat0`,
		DisableFlagParsing: true, // iproute2's options are words with one dash
		RunE: func(c *cobra.Command, args []string) error {
			line, err := ip.Parse(args)
			if err != nil {
				return err
			}
			if line.Help {
				return c.Help()
			}
			if line.Control != "" {
				e.control = line.Control
			}
			e.verbose = e.verbose || line.Verbose
			line.JSON = line.JSON || e.json
			cl, err := e.client()
			if err != nil {
				return err
			}
			return line.Run(c.Context(), cl, e.stdout)
		},
	}
}
