package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/stack"
)

// socketFlags are the flags that ss and netstat share: which sockets to list, and how.
type socketFlags struct {
	tcp, udp, listening, all, numeric, processes, timers bool
	v4, v6                                               bool
}

func (f *socketFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.BoolVarP(&f.tcp, "tcp", "t", false, "TCP sockets")
	fs.BoolVarP(&f.udp, "udp", "u", false, "UDP sockets")
	fs.BoolVarP(&f.listening, "listening", "l", false, "only sockets that wait for connections or datagrams")
	fs.BoolVarP(&f.all, "all", "a", false, "sockets in every state")
	fs.BoolVarP(&f.numeric, "numeric", "n", false, "port numbers instead of names")
	fs.BoolVarP(&f.v4, "ipv4", "4", false, "IPv4 sockets only")
	fs.BoolVarP(&f.v6, "ipv6", "6", false, "IPv6 sockets only")
}

// names are those of ports; none if numbers are asked for.
func (f *socketFlags) names() services {
	if f.numeric {
		return nil
	}
	return loadServices()
}

// waiting reports whether k waits for whoever comes: what -l selects.
func waiting(k stack.SocketInfo) bool { return k.State == "LISTEN" || k.State == "UNCONN" }

// want reports whether the flags select k; other tells it about states that belong
// to neither -l nor the default.
func (f *socketFlags) want(k stack.SocketInfo, other func(state string) bool) bool {
	v4 := k.Family == stack.IPv4
	switch {
	case f.tcp != f.udp && f.tcp != (k.Network == "tcp"),
		f.v4 != f.v6 && f.v4 != v4,
		k.State == "CLOSED" && k.Local.Port() == 0: // neither bound nor connected
		return false
	case f.all:
		return true
	case f.listening:
		return waiting(k)
	}
	return !waiting(k) && !other(k.State)
}

// list asks for the sockets that the flags select: TCP by family with listeners
// first, as the kernel lists them.
func (f *socketFlags) list(ctx context.Context, c *control.Client, other func(string) bool) ([]stack.SocketInfo, error) {
	all, err := c.Sockets(ctx)
	if err != nil {
		return nil, err
	}
	out := slices.DeleteFunc(all, func(k stack.SocketInfo) bool { return !f.want(k, other) })
	rank := func(k stack.SocketInfo) int {
		r := int(k.Family)
		if !waiting(k) {
			r++
		}
		return r
	}
	slices.SortStableFunc(out, func(a, b stack.SocketInfo) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(rank(a), rank(b)))
	})
	return out, nil
}

// spell gives a state of RFC 9293 the spelling of a tool.
func spell(states map[string]string, state string) string {
	if s, ok := states[state]; ok {
		return s
	}
	return state
}
