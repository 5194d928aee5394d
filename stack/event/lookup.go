package event

import "net/netip"

// FourTuple names a packet's flow as the packet does: from Src to Dst.
type FourTuple struct {
	Network string         `json:"network"` // "tcp" or "udp"
	Src     netip.AddrPort `json:"src"`
	Dst     netip.AddrPort `json:"dst"`
}

// The steps of a socket lookup, in the order in which they are tried.
const (
	StepExact     = "exact 4-tuple"
	StepSteering  = "steering rules"
	StepAddrPort  = "listener on address:port"
	StepPort      = "listener on any address:port"
	StepForwarder = "forwarder" // only where there is one
)

// SocketTry is one step of a socket lookup.
type SocketTry struct {
	Step      string         `json:"step"`
	Candidate string         `json:"candidate"` // what was looked for
	FD        int            `json:"fd"`        // the socket found, or -1
	Local     netip.AddrPort `json:"local,omitzero"`
	Remote    netip.AddrPort `json:"remote,omitzero"`
	State     string         `json:"state,omitempty"`
	Match     bool           `json:"match"`
	Why       string         `json:"why"`
}

// SocketLookup is the answer to "whose packet is this", with the way to it.
type SocketLookup struct {
	Tuple  FourTuple   `json:"tuple"`
	Tries  []SocketTry `json:"tries"`
	Found  bool        `json:"found"`
	FD     int         `json:"fd"`              // the winner's fd; -1 if none, or if the application has not accepted it yet
	State  string      `json:"state,omitempty"` // the winner's TCP state before the packet
	Answer string      `json:"answer"`          // in words
}
