// Package event has what happens in a stack as values, and the hub that hands them
// to those who subscribe. Events carry what was seen and decided; texts are made by
// who prints them.
package event

import (
	"net/netip"
	"time"

	"github.com/catflap/catflap/stack/route"
)

// Event is something that happened in the stack. Exactly one of the pointers is
// set. Events are values: a subscriber may keep them, and must not change them.
//
// Conn is a TCP connection's identity, from its first SYN to the end of TIME-WAIT,
// whether the application has a socket for it or not. A SYN that is sent again keeps
// it; another connection with the same addresses has another. No number is used
// twice. Once the application has it, it is the number of its socket too: that of
// SocketInfo, lsof's DEVICE and ss's ino.
type Event struct {
	Seq    uint64    `json:"seq"`            // counts the events for a subscription, from 1; a gap was dropped
	Time   time.Time `json:"time"`           // by the stack's clock
	Conn   uint64    `json:"conn,omitempty"` // the connection that it is about; 0: none
	Packet *Packet   `json:"packet,omitempty"`
	Call   *Call     `json:"call,omitempty"`
	State  *State    `json:"state,omitempty"`
	Sample *Sample   `json:"sample,omitempty"`
	Timer  *Timer    `json:"timer,omitempty"`
	Link   *Link     `json:"link,omitempty"`
}

// Packet is one packet (or TSO super-packet) on its way in or out.
type Packet struct {
	Out    bool          `json:"out"`
	Dev    string        `json:"dev"`
	Len    int           `json:"len"`              // bytes of the IP packet
	GSO    int           `json:"gso,omitempty"`    // of a TCP super-packet: payload bytes of each segment that it becomes on the wire
	Data   []byte        `json:"data"`             // its start, as long as Config.Snap asks for
	Route  *route.Lookup `json:"route,omitempty"`  // the routing decision
	Socket *SocketLookup `json:"socket,omitempty"` // in: the socket decision; out: nil
	FD     int           `json:"fd"`               // the socket's fd, or -1
	State  string        `json:"state,omitempty"`  // out: the TCP state of the sender
	Drop   string        `json:"drop,omitempty"`   // why the packet went no further

	// Retransmit is why a TCP segment is sent again: a Cause, or "" of what is sent for the first time.
	Retransmit Cause `json:"retransmit,omitempty"`
}

// Sample is how a connection's sender and receiver stand after a segment.
type Sample struct {
	FD     int            `json:"fd"` // -1: not accepted yet, or closed already
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`

	SRTT     time.Duration `json:"srtt"`   // 0: not measured yet
	RTTVar   time.Duration `json:"rttvar"` // RFC 6298
	RTO      time.Duration `json:"rto"`
	Cwnd     int           `json:"cwnd"`     // segments
	Ssthresh int           `json:"ssthresh"` // segments
	MSS      int           `json:"mss"`      // payload bytes of a segment
	InFlight int           `json:"inflight"` // bytes sent and not acknowledged
	Unsent   int           `json:"unsent"`   // bytes written and not sent
	SndWnd   int           `json:"snd_wnd"`  // bytes that the peer offers
	RcvWnd   int           `json:"rcv_wnd"`  // bytes that this side offers
	SndUna   uint32        `json:"snd_una"`
	SndNxt   uint32        `json:"snd_nxt"`
	RcvNxt   uint32        `json:"rcv_nxt"`

	Recovery string `json:"recovery,omitempty"` // "fast", "SACK", "RTO", or "" when nothing is being recovered
	Limit    string `json:"limit,omitempty"`    // what keeps the sender from sending: "application", "receive window", "congestion window"
}

// Timer is a timer of a connection that was set, stopped, or that fired.
type Timer struct {
	FD     int            `json:"fd"`
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	Name   string         `json:"name"`            // "retransmission", "tail-loss probe", "reorder", "zero-window probe", "keepalive", "time-wait"
	Action string         `json:"action"`          // "set", "stopped", "fired"
	After  time.Duration  `json:"after,omitempty"` // set: when it will fire, from now
}

// Link is what a layer below the stack, such as an impairment, did to a packet.
type Link struct {
	Dev    string        `json:"dev"`
	Out    bool          `json:"out"`
	Action string        `json:"action"`          // "drop", "delay", "hold", "corrupt", "duplicate", "reorder", "reset", "toobig", "window"
	Why    string        `json:"why"`             // the rule, or the setting such as "loss"
	Rule   bool          `json:"rule,omitempty"`  // Why is a rule
	Delay  time.Duration `json:"delay,omitempty"` // of delay and hold
	N      int           `json:"n,omitempty"`     // of corrupt: the bit; of toobig: the MTU; of window: the window field
	Len    int           `json:"len"`             // bytes of the IP packet
	Data   []byte        `json:"data"`            // its start as it was before, as long as Config.Snap asks for
}

// State is a change of a connection's TCP state.
type State struct {
	FD     int            `json:"fd"` // -1: not accepted yet, or closed already
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	From   string         `json:"from"`
	To     string         `json:"to"`
}
