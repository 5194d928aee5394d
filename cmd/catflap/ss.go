package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/stack"
)

// ssStates are the spellings of ss(8).
var ssStates = map[string]string{
	"ESTABLISHED": "ESTAB", "SYN-RECEIVED": "SYN-RECV", "CLOSED": "UNCONN", "CONNECTING": "SYN-SENT",
}

func newSS(e *env) *cobra.Command {
	f := socketFlags{}
	var tcpInfo, noHeader bool
	c := &cobra.Command{
		Use:   "ss [-t] [-u] [-l] [-a] [-n] [-i] [-o] [-p] [-H] [-4|-6]",
		Short: "List the stack's sockets as ss(8) prints them",
		Long: `ss lists the sockets of the userspace stack in iproute2's format. Without -a and -l it lists
connections, but for those in TIME-WAIT and SYN-RECV. -i adds what the stack knows of each connection,
in ss's order and spellings; what it does not know is not printed.
Addresses are always printed as numbers; ports have the names of ` + servicesFile + ` unless -n is given.`,
		Example: `  catflap ss -tln
  catflap ss -tni`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cl, err := e.client()
			if err != nil {
				return err
			}
			ks, err := ssList(c.Context(), cl, &f)
			if err != nil {
				return fmt.Errorf("ss: %w", err)
			}
			if e.json {
				return e.printJSON(ks)
			}
			info, err := cl.Info(c.Context())
			if err != nil {
				return fmt.Errorf("ss: %w", err)
			}
			t := ssTable{flags: f, names: f.names(), tcpInfo: tcpInfo, header: !noHeader, info: info}
			return t.print(e.stdout, ks)
		},
	}
	f.add(c)
	fs := c.Flags()
	fs.BoolVarP(&f.processes, "processes", "p", false, "the process that has the socket, and its fd")
	fs.BoolVarP(&f.timers, "options", "o", false, "the timer that runs, of those that the stack knows of")
	fs.BoolVarP(&tcpInfo, "info", "i", false, "what the stack knows of each TCP connection")
	fs.BoolVarP(&noHeader, "no-header", "H", false, "no header line")
	return c
}

// ssList lists sockets in ss's order, UDP first.
func ssList(ctx context.Context, c *control.Client, f *socketFlags) ([]stack.SocketInfo, error) {
	ks, err := f.list(ctx, c, func(st string) bool { return st == "TIME-WAIT" || st == "SYN-RECEIVED" })
	slices.SortStableFunc(ks, func(a, b stack.SocketInfo) int { return -strings.Compare(a.Network, b.Network) })
	return ks, err
}

// ssTable is ss's table as it prints it where there is no terminal: columns as wide
// as what is in them.
type ssTable struct {
	flags   socketFlags
	names   services
	tcpInfo bool
	header  bool
	info    control.Info
}

// ssColumn is a column: what goes before it, and whether it is aligned right.
type ssColumn struct {
	before string
	right  bool
}

// ssColumns are Netid, State, Recv-Q, Send-Q, the local address and port, the peer's,
// and the rest.
var ssColumns = []ssColumn{{}, {before: " "}, {before: " "}, {before: " "}, {" ", true}, {}, {" ", true}, {}, {}}

const ssProcess = 8 // the last column

func (t *ssTable) print(w io.Writer, ks []stack.SocketInfo) error {
	var rows [][]string
	if t.header {
		rows = append(rows, []string{"Netid", "State", "Recv-Q", "Send-Q", "Local Address:", "Port", "Peer Address:", "Port", "Process"})
	}
	for _, k := range ks {
		rows = append(rows, []string{
			k.Network, spell(ssStates, k.State), fmt.Sprintf("%-6d", k.RecvQ), fmt.Sprintf("%-6d", k.SendQ),
			t.host(k, k.Local.Addr()), t.names.port(k.Network, k.Local.Port()),
			t.host(k, k.Remote.Addr()), t.names.port(k.Network, k.Remote.Port()), t.rest(k),
		})
	}
	width := make([]int, len(ssColumns))
	for _, r := range rows {
		for i, s := range r {
			width[i] = max(width[i], len(s))
		}
	}
	first := 0
	if t.flags.tcp != t.flags.udp {
		first = 1 // one protocol needs no Netid
	}
	b := bufio.NewWriter(w)
	for n, r := range rows {
		for i := first; i < len(r); i++ {
			c := ssColumns[i]
			if i > first {
				b.WriteString(c.before)
			}
			switch {
			case i == ssProcess && t.tcpInfo:
				b.WriteString(r[i]) // what follows on the next line has no column
			case c.right:
				fmt.Fprintf(b, "%*s", width[i], r[i])
			default:
				fmt.Fprintf(b, "%-*s", width[i], r[i])
			}
		}
		b.WriteByte('\n')
		if i := n - len(rows) + len(ks); t.tcpInfo && i >= 0 && ks[i].TCP != nil {
			fmt.Fprintf(b, "\t %s\n", t.tcp(ks[i].TCP))
		}
	}
	return b.Flush()
}

// host writes an address and a colon. On a socket for both families the
// unspecified address is *.
func (t *ssTable) host(k stack.SocketInfo, a netip.Addr) string {
	host := a.String()
	switch {
	case k.Family == stack.IPv4 && (!a.IsValid() || a.IsUnspecified()):
		host = "0.0.0.0"
	case !a.IsValid() || a.IsUnspecified():
		host = "*"
		if k.V6Only || k.State != "LISTEN" && k.State != "UNCONN" {
			host = "[::]"
		}
	case a.Is6():
		host = "[" + host + "]"
	}
	if k.Device != "" && a == k.Local.Addr() {
		host += "%" + k.Device
	}
	return host + ":"
}

// rest is the column Process: who has the socket, and which timer runs.
func (t *ssTable) rest(k stack.SocketInfo) string {
	s := ""
	if t.flags.processes && k.FD >= 0 {
		s += fmt.Sprintf(" users:((%q,pid=%d,fd=%d))", t.info.Command, t.info.PID, k.FD)
	}
	if t.flags.timers && k.Timer != nil {
		s += " " + ssTimer(k.Timer)
	}
	return s
}

// tcp writes what the stack knows of a connection, in ss's order.
func (t *ssTable) tcp(i *stack.TCPInfo) string {
	var f []string
	add := func(known bool, format string, args ...any) {
		if known {
			f = append(f, fmt.Sprintf(format, args...))
		}
	}
	add(i.Congestion != "", "%s", i.Congestion)
	add(i.RTO > 0, "rto:%s", millis(i.RTO))
	add(i.RTT > 0, "rtt:%s/%s", millis(i.RTT), millis(i.RTTVar))
	add(i.SndMSS > 0, "mss:%d", i.SndMSS)
	add(i.SndCwnd > 0, "cwnd:%d", i.SndCwnd)
	add(i.SndSsthresh > 0, "ssthresh:%d", i.SndSsthresh)
	add(i.SegsOut > 0, "segs_out:%d", i.SegsOut)
	add(i.SegsIn > 0, "segs_in:%d", i.SegsIn)
	if us := i.RTT.Microseconds(); us > 0 && i.SndMSS > 0 && i.SndCwnd > 0 {
		// A window each round trip, as ss itself reckons.
		bits := float64(i.SndCwnd) * float64(i.SndMSS) * 8
		add(true, "send %sbps", t.rate(bits*1e6/float64(us)))
	}
	add(i.Unacked > 0, "unacked:%d", i.Unacked)
	add(i.Sacked > 0, "sacked:%d", i.Sacked)
	add(i.SndWnd > 0, "snd_wnd:%d", i.SndWnd)
	return strings.Join(f, " ")
}

// millis writes a duration in milliseconds, to the microsecond, as C's %g does.
func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'g', 6, 64)
}

// rate writes bits per second: in full with -n, else with a unit.
func (t *ssTable) rate(bps float64) string {
	for _, u := range []struct {
		unit string
		size float64
	}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}} {
		if !t.flags.numeric && bps >= u.size {
			return strconv.FormatFloat(bps/u.size, 'g', 3, 64) + u.unit
		}
	}
	return strconv.FormatFloat(bps, 'f', 0, 64)
}
