package sockets

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"

	"github.com/catflap/catflap/stack"
)

// netstatStates are the spellings of net-tools.
var netstatStates = map[string]string{
	"SYN-SENT": "SYN_SENT", "SYN-RECEIVED": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1", "FIN-WAIT-2": "FIN_WAIT2",
	"TIME-WAIT": "TIME_WAIT", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK", "CLOSED": "CLOSE",
	"CONNECTING": "SYN_SENT", "UNCONN": "",
}

// Netstat is netstat(8).
type Netstat struct {
	Options
	Wide bool // -W: long addresses are not cut
}

// Select returns the sockets that the options select, in netstat's order: TCP first.
func (o *Netstat) Select(all []stack.SocketInfo) []stack.SocketInfo {
	return o.selected(all, func(string) bool { return false })
}

// Print writes sockets of a process as a table.
func (o *Netstat) Print(w io.Writer, ks []stack.SocketInfo, of Process) error {
	t := netstatTable{Netstat: *o, names: o.names(), process: of}
	return t.print(w, ks)
}

// netstatTable is the table of net-tools 2.10.
type netstatTable struct {
	Netstat
	names   services
	process Process
}

// netstatAddr is how many characters an address with its port has room for.
const netstatAddr = 23

func (t *netstatTable) print(w io.Writer, ks []stack.SocketInfo) error {
	b := bufio.NewWriter(w)
	which := "w/o servers"
	switch {
	case t.All:
		which = "servers and established"
	case t.Listening:
		which = "only servers"
	}
	fmt.Fprintf(b, "Active Internet connections (%s)\n", which)
	fmt.Fprintf(b, "Proto Recv-Q Send-Q %-*s %-*s %-11s", netstatAddr, "Local Address", netstatAddr, "Foreign Address", "State")
	if t.Processes {
		fmt.Fprintf(b, " %-20s", "PID/Program name")
	}
	if t.Timers {
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
		if t.Processes {
			owner := "-" // of nobody: closed, or not accepted yet
			if k.FD >= 0 {
				owner = fmt.Sprintf("%d/%s", t.process.PID, t.process.Command)
			}
			fmt.Fprintf(b, " %-20s", owner)
		}
		if t.Timers {
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
	if room := netstatAddr - len(port); !t.Wide && len(host) > room {
		host = host[:max(room, 0)]
	}
	return host + port
}
