// Package sockets lists a stack's sockets in the languages of ss(8), netstat(8) and lsof(8): which sockets their options
// select, in which order, and how each is printed.
package sockets

import (
	"cmp"
	"slices"

	"github.com/catflap/catflap/stack"
)

// Process is the process that runs the stack, and so has its sockets.
type Process struct {
	PID     int
	Command string // the name of its program
	User    string
}

// Options are the options that ss and netstat share: which sockets to list, and how. Without options, they list the
// connections of TCP and UDP of both families.
type Options struct {
	TCP, UDP   bool // -t, -u: sockets of this protocol alone
	Listening  bool // -l: sockets that wait for whoever comes
	All        bool // -a: sockets in every state
	Numeric    bool // -n: numbers of ports, not their names
	Processes  bool // -p: who has the socket
	Timers     bool // -o: the timer that runs
	IPv4, IPv6 bool // -4, -6: sockets of this family alone
}

// names are those of ports; none if numbers are asked for.
func (o *Options) names() services {
	if o.Numeric {
		return nil
	}
	return loadServices()
}

// waiting reports whether k waits for whoever comes: what -l selects.
func waiting(k stack.SocketInfo) bool { return k.State == "LISTEN" || k.State == "UNCONN" }

// want reports whether the options select k; other tells it about states that belong
// to neither -l nor the default.
func (o *Options) want(k stack.SocketInfo, other func(state string) bool) bool {
	v4 := k.Family == stack.IPv4
	switch {
	case o.TCP != o.UDP && o.TCP != (k.Network == "tcp"),
		o.IPv4 != o.IPv6 && o.IPv4 != v4,
		k.State == "CLOSED" && k.Local.Port() == 0: // neither bound nor connected
		return false
	case o.All:
		return true
	case o.Listening:
		return waiting(k)
	}
	return !waiting(k) && !other(k.State)
}

// selected returns the sockets that the options select: TCP by family with listeners
// first, as the kernel lists them. The result is not nil: as JSON it is a list.
func (o *Options) selected(all []stack.SocketInfo, other func(state string) bool) []stack.SocketInfo {
	ks := make([]stack.SocketInfo, 0, len(all))
	for _, k := range all {
		if o.want(k, other) {
			ks = append(ks, k)
		}
	}
	rank := func(k stack.SocketInfo) int {
		r := int(k.Family)
		if !waiting(k) {
			r++
		}
		return r
	}
	slices.SortStableFunc(ks, func(a, b stack.SocketInfo) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(rank(a), rank(b)))
	})
	return ks
}

// spell gives a state of RFC 9293 the spelling of a tool.
func spell(states map[string]string, state string) string {
	if s, ok := states[state]; ok {
		return s
	}
	return state
}
