package main

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
)

// netstatStates are the spellings of net-tools.
var netstatStates = map[string]string{
	"SYN-SENT": "SYN_SENT", "SYN-RECEIVED": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1", "FIN-WAIT-2": "FIN_WAIT2",
	"TIME-WAIT": "TIME_WAIT", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK", "CLOSED": "CLOSE",
	"CONNECTING": "SYN_SENT", "UNCONN": "",
}

func newNetstat(e *env) *cobra.Command {
	f := socketFlags{}
	var wide, route, stats, interfaces bool
	c := &cobra.Command{
		Use:   "netstat [-t] [-u] [-l] [-a] [-n] [-o] [-p]",
		Short: "List the stack's sockets as netstat(8) prints them",
		Long: `netstat lists the sockets of the userspace stack in net-tools' format. Addresses are always
printed as numbers: nothing is looked up in the DNS. Ports have the names of ` + servicesFile + ` unless -n is given.`,
		Example: `  catflap netstat -tln
  catflap netstat -atnp`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, o := range []struct {
				set             bool
				flag, what, use string
			}{
				{route, "-r", "routes", "catflap ip route show"},
				{stats, "-s", "statistics", "catflap ss -i"},
				{interfaces, "-i", "interfaces", "catflap ip link show"},
			} {
				if o.set {
					return &remedy.UsageError{Msg: fmt.Sprintf("netstat: %s: netstat lists sockets, not %s", o.flag, o.what), Remedy: "use: " + o.use}
				}
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			ks, err := f.list(c.Context(), cl, func(string) bool { return false })
			if err != nil {
				return fmt.Errorf("netstat: %w", err)
			}
			if e.json {
				return e.printJSON(ks)
			}
			info, err := cl.Info(c.Context())
			if err != nil {
				return fmt.Errorf("netstat: %w", err)
			}
			t := netstatTable{flags: f, names: f.names(), wide: wide, info: info}
			return t.print(e.stdout, ks)
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.BoolVarP(&f.processes, "programs", "p", false, "the process that has the socket")
	fs.BoolVarP(&f.timers, "timers", "o", false, "the timer that runs, of those that the stack knows of")
	fs.BoolVarP(&wide, "wide", "W", false, "do not cut long addresses")
	fs.BoolVarP(&route, "route", "r", false, "refused: see catflap ip route show")
	fs.BoolVarP(&stats, "statistics", "s", false, "refused: see catflap ss -i")
	fs.BoolVarP(&interfaces, "interfaces", "i", false, "refused: see catflap ip link show")
	return c
}

// netstatTable is the table of net-tools 2.10.
type netstatTable struct {
	flags socketFlags
	names services
	wide  bool
	info  control.Info
}

// netstatAddr is how many characters an address with its port has room for.
const netstatAddr = 23

func (t *netstatTable) print(w io.Writer, ks []stack.SocketInfo) error {
	b := bufio.NewWriter(w)
	which := "w/o servers"
	switch {
	case t.flags.all:
		which = "servers and established"
	case t.flags.listening:
		which = "only servers"
	}
	fmt.Fprintf(b, "Active Internet connections (%s)\n", which)
	fmt.Fprintf(b, "Proto Recv-Q Send-Q %-*s %-*s %-11s", netstatAddr, "Local Address", netstatAddr, "Foreign Address", "State")
	if t.flags.processes {
		fmt.Fprintf(b, " %-20s", "PID/Program name")
	}
	if t.flags.timers {
		fmt.Fprint(b, " Timer")
	}
	fmt.Fprintln(b)
	for _, k := range ks {
		proto, sendQ := k.Network, k.SendQ
		if k.Family == stack.IPv6 {
			proto += "6"
		}
		if k.State == "LISTEN" {
			sendQ = 0 // net-tools does not show the backlog
		}
		fmt.Fprintf(b, "%-4s %7d %6d %-*s %-*s %-11s", proto, k.RecvQ, sendQ,
			netstatAddr, t.addr(k, k.Local), netstatAddr, t.addr(k, k.Remote), spell(netstatStates, k.State))
		if t.flags.processes {
			owner := "-" // of nobody: closed, or not accepted yet
			if k.FD >= 0 {
				owner = fmt.Sprintf("%d/%s", t.info.PID, t.info.Command)
			}
			fmt.Fprintf(b, " %-20s", owner)
		}
		if t.flags.timers {
			fmt.Fprint(b, " "+netstatTimer(k))
		}
		fmt.Fprintln(b)
	}
	return b.Flush()
}

// addr writes an address and a port in netstatAddr characters: the address is cut,
// the port never.
func (t *netstatTable) addr(k stack.SocketInfo, ap netip.AddrPort) string {
	a := ap.Addr().Unmap()
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
		if k.Family == stack.IPv6 {
			a = netip.IPv6Unspecified()
		}
	}
	host, port := a.String(), ":"+t.names.port(k.Network, ap.Port())
	if room := netstatAddr - len(port); !t.wide && len(host) > room {
		host = host[:max(room, 0)]
	}
	return host + port
}
