package main

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/stack"
)

// flagValues are the values of flags that take one of a few.
var flagValues = map[string][]string{
	"driver": {"auto", "offload", "water"},
	"dns":    {"host", "off"},
	"egress": {"all", "none"},
	"target": {"stack", "kernel", "both"},
}

// complete tells the shell's completion what may follow in the languages of words, and after flags.
func complete(e *env, root *cobra.Command) {
	root.RegisterFlagCompletionFunc("control", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return control.Instances(), cobra.ShellCompDirectiveDefault // or a file
	})
	grammars := map[string]func(*env, []string) []string{"ip": completeIP, "netem": completeNetem, "lookup": completeLookup, "get": completeGet}
	for _, c := range root.Commands() {
		for name, values := range flagValues {
			if c.Flags().Lookup(name) != nil {
				c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
			}
		}
		if words := grammars[c.Name()]; words != nil {
			c.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
				return slices.DeleteFunc(words(e, args), func(w string) bool { return !strings.HasPrefix(w, begun) }), cobra.ShellCompDirectiveNoFileComp
			}
		}
	}
}

// completionTime is how long a running instance may take to answer while somebody waits at a prompt.
const completionTime = time.Second

// ask asks the running instance, if there is one.
func ask[T any](e *env, question func(context.Context, *control.Client) (T, error)) (answer T) {
	ctx, cancel := context.WithTimeout(context.Background(), completionTime)
	defer cancel()
	if cl, err := e.client(); err == nil {
		answer, _ = question(ctx, cl) // without an answer there is less to offer
	}
	return answer
}

// devices are the links of the running instance.
func devices(e *env) (names []string) {
	for _, l := range ask(e, func(ctx context.Context, cl *control.Client) ([]stack.LinkInfo, error) { return cl.Links(ctx) }) {
		names = append(names, l.Name)
	}
	return names
}

// hosts are the addresses of the running instance, or those that it would have.
func hosts(e *env) (addrs []netip.Addr) {
	prefixes := ask(e, func(ctx context.Context, cl *control.Client) (i control.Info, err error) { return cl.Info(ctx) }).Addrs
	if len(prefixes) == 0 {
		prefixes = instance.DefaultAddrs
	}
	for _, p := range prefixes {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

func hostWords(e *env) (words []string) {
	for _, a := range hosts(e) {
		words = append(words, a.String())
	}
	return words
}

var (
	ipObjects = []string{"addr", "link", "route", "rule"}
	ipVerbs   = map[string][]string{
		"addr": {"show", "add", "del"}, "link": {"show"}, "rule": {"show", "add", "del"},
		"route": {"show", "get", "add", "replace", "append", "del"},
	}
	routeTypes  = []string{"unicast", "local", "broadcast", "multicast", "unreachable", "prohibit", "blackhole", "throw"}
	routeTables = []string{"local", "main", "default"}
)

// completeIP offers the words of catflap ip.
func completeIP(e *env, args []string) []string {
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	if len(args) == 0 {
		return ipObjects
	}
	object := args[0]
	for _, o := range ipObjects { // abbreviated, or address
		if strings.HasPrefix(o, object) || strings.HasPrefix(object, o) {
			object = o
			break
		}
	}
	if len(args) == 1 {
		return ipVerbs[object]
	}
	verb, last := args[1], args[len(args)-1]
	switch last {
	case "dev", "iif", "oif":
		return devices(e)
	case "table":
		if object == "route" && verb == "show" {
			return append([]string{"all"}, routeTables...)
		}
		return routeTables
	case "type":
		return routeTypes
	case "src", "from", "get":
		return hostWords(e)
	}
	switch object + " " + verb {
	case "route show":
		return []string{"table", "dev", "type", "proto", "scope", "via", "src", "root", "match", "exact"}
	case "route get":
		return []string{"from", "iif", "oif"}
	case "route add", "route replace", "route append", "route del":
		words := []string{"via", "dev", "table", "metric", "src", "proto", "scope"}
		if len(args) == 2 {
			return append(routeTypes, "default")
		}
		return words
	case "rule add", "rule del":
		return []string{"not", "from", "to", "iif", "oif", "priority", "table", "unreachable", "prohibit", "blackhole"}
	case "addr show", "addr add", "addr del", "link show":
		return []string{"dev"}
	}
	return nil
}

// completeNetem offers the words of catflap netem.
func completeNetem(e *env, args []string) []string {
	directions := []string{"in", "out", "both"}
	settings := []string{"delay", "loss", "duplicate", "corrupt", "reorder", "rate", "slot", "limit", "seed"}
	if len(args) == 0 {
		return []string{"show", "set", "add", "del", "clear"}
	}
	last := args[len(args)-1]
	switch args[0] {
	case "show", "clear":
		if len(args) == 1 {
			return directions
		}
	case "set":
		switch last {
		case "set":
			return append(directions, settings...)
		case "distribution":
			return []string{"uniform", "normal", "pareto", "paretonormal"}
		case "loss":
			return []string{"random", "state", "gemodel"}
		case "in", "out", "both":
			return settings
		}
		return append(settings, "distribution", "gap", "packets", "bytes")
	case "add":
		switch last {
		case "add":
			return []string{"drop", "blackhole", "delay", "hold", "corrupt", "duplicate", "reset", "window", "toobig", "cut", "vanish"}
		case "vanish", "from":
			return []string{"client", "server"}
		case "to", "host":
			return hostWords(e)
		case "tcp":
			return []string{"syn", "synack", "ack", "data", "fin", "rst", "byte"}
		}
		return []string{"ip", "icmp", "udp", "tcp", "first", "every", "all", "from", "in", "out", "size", "port", "connection", "at", "host", "to"}
	}
	return nil
}

// completeLookup offers the words of catflap lookup.
func completeLookup(e *env, args []string) (words []string) {
	switch len(args) {
	case 0:
		return []string{"tcp", "udp"}
	case 2:
		for _, a := range hosts(e) {
			words = append(words, netip.AddrPortFrom(a, instance.DefaultPort).String())
		}
	}
	return words
}

// completeGet offers the pages of the cat server.
func completeGet(_ *env, args []string) (words []string) {
	if len(args) > 0 {
		return nil
	}
	for _, p := range instance.DefaultAddrs {
		for _, page := range []string{"", "cat", "cats", "bytes/1000000", "conn"} {
			words = append(words, "http://"+hostPort(p.Addr(), instance.DefaultPort)+"/"+page)
		}
	}
	return words
}
