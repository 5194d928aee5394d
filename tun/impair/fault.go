package impair

import (
	"fmt"
	"time"
)

// Direction is a way that packets go: see Link.
type Direction uint8

// Directions.
const (
	In  Direction = iota // from the link to the stack
	Out                  // from the stack to the link
)

func (d Direction) String() string {
	if d == In {
		return "in"
	}
	return "out"
}

func (d Direction) opposite() Direction { return 1 - d }

// Side is an end of a flow.
type Side uint8

// Sides. The client is who sent the SYN or, without TCP, the first packet. Of a connection whose start was not
// seen, the server is the side with the lower port.
const (
	AnySide Side = iota
	Client
	Server
)

func (s Side) String() string {
	switch s {
	case Client:
		return "client"
	case Server:
		return "server"
	}
	return "any"
}

// PacketID names a packet so that the same packet of another run has the same name, whatever its ports,
// sequence numbers and times are.
type PacketID struct {
	Dir   Direction
	Flow  string // "tcp/10.9.0.2:80#3" is the third connection to 10.9.0.2:80
	From  Side
	Index uint64 // of all packets that this side sent in this flow, from 1
	Copy  uint64 // 0: the packet itself; else a copy that duplication made, from 1
}

func (id PacketID) String() string {
	s := fmt.Sprintf("%s %s %s %d", id.Dir, id.Flow, id.From, id.Index)
	if id.Copy != 0 {
		s += fmt.Sprintf("+%d", id.Copy)
	}
	return s
}

// Action is what is done to a packet.
type Action uint8

// Actions.
const (
	ActionDrop      Action = iota + 1
	ActionDelay            // Fault.Delay: the packet takes so much longer
	ActionHold             // Fault.Delay: the packet, and all behind it in its flow, wait
	ActionCorrupt          // Fault.N: the bit that is flipped, from the start of the IP header
	ActionDuplicate        // one copy more, which is judged anew
	ActionReorder          // sent at once, ahead of those that wait
	ActionReset            // dropped, and answered with an RST
	ActionTooBig           // dropped, and answered with an ICMP error that says MTU Fault.N
	ActionWindow           // Fault.N: the window field
)

var actionNames = map[Action]string{
	ActionDrop: "drop", ActionDelay: "delay", ActionHold: "hold", ActionCorrupt: "corrupt",
	ActionDuplicate: "duplicate", ActionReorder: "reorder", ActionReset: "reset", ActionTooBig: "toobig",
	ActionWindow: "window",
}

// loses reports whether the packet goes no further.
func (a Action) loses() bool { return a == ActionDrop || a == ActionReset || a == ActionTooBig }

func (a Action) String() string { return actionNames[a] }

// Fault is one thing that was done to one packet.
type Fault struct {
	Time   time.Duration // since the Link was made
	Packet PacketID
	Action Action
	Delay  time.Duration // of ActionDelay and ActionHold
	N      int           // of ActionCorrupt, ActionTooBig and ActionWindow

	// Rule is the text of the rule that asked for it. If it is empty, Reason is the option of the direction's
	// Spec that did: "loss", "limit", "delay" …
	Rule   string
	Reason string
}
