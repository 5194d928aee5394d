package main

import (
	"fmt"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
)

func newLookup(e *env) *cobra.Command {
	var iif string
	c := &cobra.Command{
		Use:   "lookup tcp|udp SRC:PORT DST:PORT",
		Short: "Say what would happen to a packet: rules and routes tried, sockets tried, the winner",
		Long: `lookup asks the stack, and the code that decides for packets answers: which rules and routes a packet
from SRC:PORT to DST:PORT meets, which sockets are tried for it and in which order, why each was passed
over, and which one gets it. No packet is sent. The packet is taken to arrive on the device that leads
to SRC; --iif names another.`,
		Example: `  catflap lookup tcp 10.9.0.1:55402 10.9.0.2:80
  catflap lookup udp '[fd00:9::1]:4242' '[fd00:9::2]:53'`,
		RunE: func(c *cobra.Command, args []string) error {
			t, err := parseTuple(args)
			if err != nil {
				return err
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			l, err := cl.LookupPacket(c.Context(), t, iif)
			if err != nil {
				return fmt.Errorf("lookup: %w", err)
			}
			if e.json {
				return e.printJSON(l)
			}
			_, err = fmt.Fprint(e.stdout, l.Text())
			return err
		},
	}
	c.Flags().StringVar(&iif, "iif", "", "`DEVICE` that the packet arrives on")
	return c
}

func parseTuple(args []string) (t stack.FourTuple, err error) {
	example := "for example: catflap lookup tcp 10.9.0.1:55402 10.9.0.2:80"
	if len(args) != 3 {
		return t, &remedy.UsageError{Msg: fmt.Sprintf("lookup: want tcp or udp, SRC:PORT and DST:PORT, got %d arguments", len(args)), Remedy: example}
	}
	if t.Network = args[0]; t.Network != "tcp" && t.Network != "udp" {
		return t, &remedy.UsageError{Msg: fmt.Sprintf("lookup: unexpected %q; want tcp or udp", args[0]), Remedy: example}
	}
	for i, to := range []*netip.AddrPort{&t.Src, &t.Dst} {
		ap, err := netip.ParseAddrPort(args[i+1])
		if err != nil || ap.Addr().Zone() != "" || ap.Port() == 0 {
			return t, &remedy.UsageError{Msg: fmt.Sprintf("lookup: %q: want ADDRESS:PORT, such as 10.9.0.1:55402 or [fd00:9::1]:55402", args[i+1]), Remedy: example}
		}
		*to = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if t.Src.Addr().Is4() != t.Dst.Addr().Is4() {
		return t, &remedy.UsageError{Msg: fmt.Sprintf("lookup: %s and %s are of different families", t.Src, t.Dst), Remedy: example}
	}
	return t, nil
}
