package sockets

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/catflap/catflap/stack"
)

// ssStates are the spellings of ss(8).
var ssStates = map[string]string{
	"ESTABLISHED": "ESTAB", "SYN-RECEIVED": "SYN-RECV", "CLOSED": "UNCONN", "CONNECTING": "SYN-SENT",
}

// SS is ss(8).
type SS struct {
	Options
	TCPInfo  bool    // -i: what the stack knows of each connection
	NoHeader bool    // -H: no header line
	Extended bool    // -e: the socket's number
	OneLine  bool    // -O: what -i says on the socket's own line
	None     bool    // -x, -w, -0 alone: sockets that the stack does not have
	Filter   *Filter // nil: none
}

// Select returns the sockets that the options select, in ss's order: UDP first.
func (o *SS) Select(all []stack.SocketInfo) []stack.SocketInfo {
	opts := o.Options
	if o.Filter != nil && o.Filter.states != nil {
		opts.All = true
	}
	ks := opts.selected(all, func(state string) bool { return state == "TIME-WAIT" || state == "SYN-RECEIVED" })
	ks = slices.DeleteFunc(ks, func(k stack.SocketInfo) bool {
		return o.None && !o.TCP && !o.UDP || o.Filter != nil && !o.Filter.selects(&k)
	})
	slices.SortStableFunc(ks, func(a, b stack.SocketInfo) int { return -strings.Compare(a.Network, b.Network) })
	return ks
}

// Print writes sockets of a process as a table.
func (o *SS) Print(w io.Writer, ks []stack.SocketInfo, of Process) error {
	t := ssTable{SS: *o, names: o.names(), process: of}
	return t.print(w, ks)
}

// ssTable is ss's table as it prints it where there is no terminal: columns as wide
// as what is in them.
type ssTable struct {
	SS
	names   services
	process Process
}

// ssColumn is a column: what goes before it, and whether it is aligned right.
type ssColumn struct {
	before string
	right  bool
}

// ssColumns are Netid, State, Recv-Q, Send-Q, the local address and port, the peer's,
// and the rest.
var ssColumns = []ssColumn{{}, {before: " "}, {before: " "}, {before: " "}, {" ", true}, {}, {" ", true}, {}, {}}

// Columns that are treated otherwise.
const (
	ssState   = 1
	ssProcess = 8
)

func (t *ssTable) print(w io.Writer, ks []stack.SocketInfo) error {
	var rows [][]string
	if !t.NoHeader {
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
	if t.TCP != t.UDP {
		first = 1 // one protocol needs no Netid
	}
	oneState := t.Filter != nil && t.Filter.oneState() // which every row would repeat
	if oneState && first == ssState {
		first++
	}
	b := bufio.NewWriter(w)
	for n, r := range rows {
		for i := first; i < len(r); i++ {
			if i == ssState && oneState {
				continue
			}
			c := ssColumns[i]
			if i > first {
				b.WriteString(c.before)
			}
			switch {
			case i == ssProcess && (t.TCPInfo || t.OneLine):
				b.WriteString(r[i]) // what follows has no column
			case c.right:
				fmt.Fprintf(b, "%*s", width[i], r[i])
			default:
				fmt.Fprintf(b, "%-*s", width[i], r[i])
			}
		}
		i := n - len(rows) + len(ks)
		info := t.TCPInfo && i >= 0 && ks[i].TCP != nil
		if info && t.OneLine {
			b.WriteString(" " + t.connection(ks[i].TCP))
		}
		b.WriteByte('\n')
		if info && !t.OneLine {
			fmt.Fprintf(b, "\t %s\n", t.connection(ks[i].TCP))
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
	if t.Processes && k.FD >= 0 {
		s += fmt.Sprintf(" users:((%q,pid=%d,fd=%d))", t.process.Command, t.process.PID, k.FD)
	}
	if t.Timers && k.Timer != nil {
		s += " " + ssTimer(k.Timer)
	}
	if t.Extended && k.ID != 0 {
		s += fmt.Sprintf(" ino:%d", k.ID)
	}
	return s
}

// Summary writes what ss -s says of all sockets, as far as the stack has such.
func Summary(w io.Writer, all []stack.SocketInfo) error {
	type count struct{ all, v4, v6 int }
	var tcp, udp count
	states := map[string]int{}
	orphans := 0
	for _, k := range all {
		c := &tcp
		if k.Network == "udp" {
			c = &udp
		} else {
			states[k.State]++
			if k.FD < 0 && k.State != "TIME-WAIT" && k.State != "SYN-RECEIVED" {
				orphans++
			}
			if k.State == "TIME-WAIT" { // of the total, and of no family
				c.all++
				continue
			}
		}
		c.all++
		if k.Family == stack.IPv4 {
			c.v4++
		} else {
			c.v6++
		}
	}
	b := bufio.NewWriter(w)
	fmt.Fprintf(b, "Total: %d\n", len(all)-states["TIME-WAIT"])
	fmt.Fprintf(b, "TCP:   %d (estab %d, closed %d, orphaned %d, timewait %d)\n\n", tcp.all, states["ESTABLISHED"], states["CLOSED"]+states["TIME-WAIT"], orphans, states["TIME-WAIT"])
	fmt.Fprintf(b, "%-9s %-9s %-9s %-9s\n", "Transport", "Total", "IP", "IPv6")
	tcp.all -= states["TIME-WAIT"]
	for _, r := range []struct {
		name string
		count
	}{{"UDP", udp}, {"TCP", tcp}, {"INET", count{tcp.all + udp.all, tcp.v4 + udp.v4, tcp.v6 + udp.v6}}} {
		fmt.Fprintf(b, "%s\t  %-9d %-9d %-9d\n", r.name, r.all, r.v4, r.v6)
	}
	b.WriteByte('\n')
	return b.Flush()
}

// connection writes what the stack knows of a connection, in ss's order.
func (t *ssTable) connection(i *stack.TCPInfo) string {
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
		if !t.Numeric && bps >= u.size {
			return strconv.FormatFloat(bps/u.size, 'g', 3, 64) + u.unit
		}
	}
	return strconv.FormatFloat(bps, 'f', 0, 64)
}
