package stack

import "github.com/catflap/catflap/stack/event"

// The events of package event by the names of this package.
type (
	Event           = event.Event
	PacketEvent     = event.Packet
	CallEvent       = event.Call
	StateEvent      = event.State
	SampleEvent     = event.Sample
	TimerEvent      = event.Timer
	LinkEvent       = event.Link
	EventKinds      = event.Kinds
	SubscribeConfig = event.Config
	Subscription    = event.Subscription

	Cause        = event.Cause
	FourTuple    = event.FourTuple
	SocketLookup = event.SocketLookup
	SocketTry    = event.SocketTry

	PollFD     = event.PollFD
	EpollEvent = event.EpollEvent
)

// The kinds of events.
const (
	PacketEvents  = event.Packets
	CallEvents    = event.Calls
	StateEvents   = event.States
	LinkEvents    = event.Links
	SampleEvents  = event.Samples
	TimerEvents   = event.Timers
	DefaultEvents = event.Default
	AllEvents     = event.All
)

// The steps of a socket lookup, in the order in which they are tried.
const (
	StepExact     = event.StepExact
	StepSteering  = event.StepSteering
	StepAddrPort  = event.StepAddrPort
	StepPort      = event.StepPort
	StepForwarder = event.StepForwarder
)

// Causes.
const (
	CauseRTO       = event.CauseRTO
	CauseSYN       = event.CauseSYN
	CauseFast      = event.CauseFast
	CauseRACK      = event.CauseRACK
	CauseTLP       = event.CauseTLP
	CauseZeroWnd   = event.CauseZeroWnd
	CauseKeepalive = event.CauseKeepalive
	CausePMTU      = event.CausePMTU
)
