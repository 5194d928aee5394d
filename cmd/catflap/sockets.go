package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/sockets"
	"github.com/catflap/catflap/stack"
)

// addSocketFlags defines the flags that ss and netstat share.
func addSocketFlags(c *cobra.Command, o *sockets.Options) {
	fs := c.Flags()
	fs.BoolVarP(&o.TCP, "tcp", "t", false, "TCP sockets")
	fs.BoolVarP(&o.UDP, "udp", "u", false, "UDP sockets")
	fs.BoolVarP(&o.Listening, "listening", "l", false, "only sockets that wait for connections or datagrams")
	fs.BoolVarP(&o.All, "all", "a", false, "sockets in every state")
	fs.BoolVarP(&o.Numeric, "numeric", "n", false, "port numbers instead of names")
	fs.BoolVarP(&o.IPv4, "ipv4", "4", false, "IPv4 sockets only")
	fs.BoolVarP(&o.IPv6, "ipv6", "6", false, "IPv6 sockets only")
}

// socketsOf asks an instance for its sockets, and which process has them.
func socketsOf(ctx context.Context, cl *control.Client) ([]stack.SocketInfo, sockets.Process, error) {
	ks, err := cl.Sockets(ctx)
	if err != nil {
		return nil, sockets.Process{}, err
	}
	info, err := cl.Info(ctx)
	return ks, sockets.Process{PID: info.PID, Command: info.Command, User: info.User}, err
}

func newSS(e *env) *cobra.Command {
	var o sockets.SS
	var summary, kill, unix, raw, packet, memory bool
	var family string
	c := &cobra.Command{
		Use:   "ss [-t] [-u] [-l] [-a] [-n] [-i] [-o] [-p] [-e] [-s] [-O] [-K] [-H] [-4|-6] [state STATE] [FILTER]",
		Short: "List the stack's sockets as ss(8) prints them",
		Long: `ss lists the sockets of the userspace stack in iproute2's format. Without -a and -l it lists
connections, but for those in TIME-WAIT and SYN-RECV. -i adds what the stack knows of each connection,
in ss's order and spellings; what it does not know is not printed.
Addresses are always printed as numbers; ports have the names of ` + sockets.ServicesFile + ` unless -n is given.

A FILTER is in the language of ss(8):
  state established, exclude time-wait, state connected|synchronized|bucket|big|all
  src HOST, dst HOST (10.9.0.0/24, 10.9.0.2:80, [fd00:9::2]:80, *:80), sport = :80, dport >= :1024, dev cat0
  not, and, or, parentheses; terms without a word between them must all hold
-K ends the TCP connections and listeners that are listed, with an RST to the peer.`,
		Example: `  catflap ss -tln
  catflap ss -tni state established '( sport = :80 or dport = :80 )'
  catflap ss -K dst 10.9.0.1`,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if memory {
				return &remedy.UsageError{Msg: "ss: -m: the stack does not tell how much memory a socket has", Remedy: "bytes that wait are in Recv-Q and Send-Q; windows: catflap ss -i"}
			}
			if o.Filter, err = sockets.ParseFilter(args); err != nil {
				return err
			}
			switch family {
			case "":
			case "inet":
				o.IPv4 = true
			case "inet6":
				o.IPv6 = true
			case "unix", "link", "netlink", "vsock", "tipc", "xdp":
				o.None = true
			default:
				return remedy.Usagef("ss: -f %s: want inet or inet6", family)
			}
			o.None = o.None || unix || raw || packet
			cl, err := e.client()
			if err != nil {
				return err
			}
			all, process, err := socketsOf(c.Context(), cl)
			if err != nil {
				return fmt.Errorf("ss: %w", err)
			}
			if summary {
				return sockets.Summary(e.stdout, all)
			}
			ks := o.Select(all)
			if kill {
				if ks, err = destroy(c.Context(), cl, ks); err != nil {
					return err
				}
			}
			if e.json {
				return e.printJSON(ks)
			}
			return o.Print(e.stdout, ks, process)
		},
	}
	addSocketFlags(c, &o.Options)
	fs := c.Flags()
	fs.BoolVarP(&o.Processes, "processes", "p", false, "the process that has the socket, and its fd")
	fs.BoolVarP(&o.Timers, "options", "o", false, "the timer that runs, of those that the stack knows of")
	fs.BoolVarP(&o.TCPInfo, "info", "i", false, "what the stack knows of each TCP connection")
	fs.BoolVarP(&o.NoHeader, "no-header", "H", false, "no header line")
	fs.BoolVarP(&o.Extended, "extended", "e", false, "the number of each socket")
	fs.BoolVarP(&o.OneLine, "oneline", "O", false, "each socket on one line")
	fs.BoolVarP(&summary, "summary", "s", false, "how many sockets there are")
	fs.BoolVarP(&kill, "kill", "K", false, "end the TCP sockets that are listed, and list those that were")
	fs.BoolVarP(&unix, "unix", "x", false, "sockets of the Unix domain, of which the stack has none")
	fs.BoolVarP(&memory, "memory", "m", false, "refused: see Recv-Q, Send-Q and -i")
	fs.BoolVarP(&raw, "raw", "w", false, "raw sockets, of which the stack has none")
	fs.BoolVarP(&packet, "packet", "0", false, "packet sockets, of which the stack has none")
	fs.StringVarP(&family, "family", "f", "", "sockets of the family `inet|inet6` only")
	return c
}

// destroy ends TCP sockets, and returns those that it ended.
func destroy(ctx context.Context, cl *control.Client, ks []stack.SocketInfo) (ended []stack.SocketInfo, err error) {
	for _, k := range ks {
		if k.Network != "tcp" {
			continue
		}
		switch err := cl.Destroy(ctx, stack.Ends{Local: k.Local, Remote: k.Remote}); {
		case err == nil:
			ended = append(ended, k)
		case !errors.Is(err, syscall.ENOENT): // it has ended meanwhile
			return ended, fmt.Errorf("ss: -K: %w", err)
		}
	}
	return ended, nil
}

// netstatOptions are what netstat is asked for beside sockets.
type netstatOptions struct {
	sockets.Netstat
	route, statistics, interfaces, continuous, unix, raw, refused bool
}

func newNetstat(e *env) *cobra.Command {
	var o netstatOptions
	c := &cobra.Command{
		Use:   "netstat [-t] [-u] [-l] [-a] [-n] [-o] [-p] [-c] | -s | -i | -r",
		Short: "List the stack's sockets, counters, links or routes as netstat(8) prints them",
		Long: `netstat lists the sockets of the userspace stack in net-tools' format; -s its counters, -i its links, -r its
main table of routes. -c lists again every second, until SIGINT. What the stack does not count is not shown, or "-".
Addresses are always printed as numbers: nothing is looked up in the DNS. Ports have the names of ` + sockets.ServicesFile + ` unless -n is given.`,
		Example: `  catflap netstat -tln
  catflap netstat -atnp
  catflap netstat -s`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.refused {
				return &remedy.UsageError{Msg: "netstat: -g, -M: the stack has no multicast groups and no masquerading", Remedy: "services that are led elsewhere: catflap forward show"}
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			if !o.continuous {
				return o.print(c.Context(), e, cl)
			}
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			again := time.NewTicker(time.Second)
			defer again.Stop()
			for {
				if err := o.print(ctx, e, cl); err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return err
				}
				select {
				case <-again.C:
				case <-ctx.Done():
					return nil
				}
			}
		},
	}
	addSocketFlags(c, &o.Options)
	fs := c.Flags()
	fs.BoolVarP(&o.Processes, "programs", "p", false, "the process that has the socket")
	fs.BoolVarP(&o.Timers, "timers", "o", false, "the timer that runs, of those that the stack knows of")
	fs.BoolVarP(&o.Wide, "wide", "W", false, "do not cut long addresses")
	fs.BoolVarP(&o.route, "route", "r", false, "the main table of routes")
	fs.BoolVarP(&o.statistics, "statistics", "s", false, "what the stack has counted")
	fs.BoolVarP(&o.interfaces, "interfaces", "i", false, "the links")
	fs.BoolVarP(&o.continuous, "continuous", "c", false, "list again every second")
	fs.BoolVar(&o.IPv4, "inet", false, "the same as -4")
	fs.BoolVar(&o.IPv6, "inet6", false, "the same as -6")
	fs.BoolVarP(&o.unix, "unix", "x", false, "sockets of the Unix domain, of which the stack has none")
	fs.BoolVarP(&o.raw, "raw", "w", false, "raw sockets, of which the stack has none")
	fs.BoolP("extend", "e", false, "accepted: there is no more to show")
	fs.BoolP("numeric-hosts", "", false, "accepted: addresses are numbers")
	fs.BoolVar(&o.Numeric, "numeric-ports", false, "the same as -n")
	fs.BoolVarP(&o.refused, "groups", "g", false, "refused: the stack has no multicast groups")
	fs.BoolVarP(&o.refused, "masquerade", "M", false, "refused: see catflap forward show")
	return c
}

func (o *netstatOptions) print(ctx context.Context, e *env, cl *control.Client) error {
	switch {
	case o.statistics:
		counters, err := cl.Counters(ctx)
		if err != nil {
			return fmt.Errorf("netstat: %w", err)
		}
		if e.json {
			return e.printJSON(counters)
		}
		return sockets.PrintStatistics(e.stdout, counters, o.TCP, o.UDP)
	case o.interfaces:
		links, err := cl.Links(ctx)
		if err != nil {
			return fmt.Errorf("netstat: %w", err)
		}
		if e.json {
			return e.printJSON(links)
		}
		return sockets.PrintInterfaces(e.stdout, links)
	case o.route:
		routes, err := cl.Routes(ctx, stack.IPv4, stack.TableMain)
		if err != nil {
			return fmt.Errorf("netstat: %w", err)
		}
		if o.IPv6 && !o.IPv4 {
			return &remedy.UsageError{Msg: "netstat: -r shows routes of IPv4", Remedy: "use: catflap ip -6 route show"}
		}
		if e.json {
			return e.printJSON(routes)
		}
		return sockets.PrintRoutes(e.stdout, routes)
	}
	all, process, err := socketsOf(ctx, cl)
	if err != nil {
		return fmt.Errorf("netstat: %w", err)
	}
	if (o.unix || o.raw) && !o.TCP && !o.UDP {
		all = nil
	}
	ks := o.Select(all)
	if e.json {
		return e.printJSON(ks)
	}
	return o.Print(e.stdout, ks, process)
}

func newLsof(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "lsof [-n] [-P] [-i[46][TCP|UDP][@ADDR][:PORT[-PORT][,…]]] [-s TCP:[^]STATE,…] [-p PID] [-u USER] [-c NAME] [-a] [-t] [-F[FIELDS]] [+c N]",
		Short: "List the stack's open sockets as lsof(8) prints them",
		Long: `lsof lists each open socket of the userspace stack, a row per fd, in lsof's format. COMMAND, PID and
USER are those of the process that runs the stack. Sockets without an fd are not listed: see catflap ss.
Addresses are always printed as numbers (-n); ports have the names of ` + sockets.ServicesFile + ` unless -P is given.
As with lsof, -i, -p, -u and -c select what any of them selects, unless -a is given; ^ before a state, a
process, a user or a name is all but that. -t prints the PID alone, -F fields for programs; the exit status is
1 if nothing was found.`,
		Example: `  catflap lsof -n -P
  catflap lsof -nP -iTCP:80 -sTCP:LISTEN`,
		DisableFlagParsing: true, // -i takes an argument that may stand apart
		RunE: func(c *cobra.Command, args []string) error {
			o, err := sockets.ParseLsof(args)
			if err != nil {
				return err
			}
			if o.Help {
				return c.Help()
			}
			e.json, e.verbose = e.json || o.JSON, e.verbose || o.Verbose
			if o.Control != "" {
				e.control = o.Control
			}
			cl, err := e.client()
			if err != nil {
				return err
			}
			all, process, err := socketsOf(c.Context(), cl)
			if err != nil {
				return fmt.Errorf("lsof: %w", err)
			}
			ks := o.Select(all, process)
			if e.json {
				err = e.printJSON(ks)
			} else {
				err = o.Print(e.stdout, ks, process)
			}
			if err == nil && len(ks) == 0 {
				return statusError(exitFailure)
			}
			return err
		},
	}
}
