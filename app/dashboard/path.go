package dashboard

import (
	"maps"
	"strconv"

	"github.com/catflap/catflap/stack"
)

// Step is one step of a packet's path, and what happened there since the recording began.
type Step struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	In       uint64            `json:"in"` // packets; of the application and its fds, calls
	Out      uint64            `json:"out"`
	InBytes  uint64            `json:"in_bytes"`
	OutBytes uint64            `json:"out_bytes"`
	Drops    map[string]uint64 `json:"drops"`
	Did      map[string]uint64 `json:"did"`
}

// The steps, from the wire to the application.
const (
	stepTun = iota
	stepImpair
	stepRules
	stepTables
	stepLookup
	stepFD
	stepApp
	stepCount
)

var stepIDs = [stepCount]string{"tun", "impair", "rules", "tables", "lookup", "fd", "app"}

var stepNames = [stepCount]string{
	"TUN device", "Impairment", "Rules", "Tables", "Socket lookup", "File descriptors", "Application",
}

// maxReasons bounds the different reasons and rules that a step counts apart: rules have any priority.
const maxReasons = 32

// pathCounters are guarded by Recorder.mu.
type pathCounters [stepCount]Step

func (c *pathCounters) init() {
	for i := range c {
		c[i] = Step{ID: stepIDs[i], Name: stepNames[i], Drops: map[string]uint64{}, Did: map[string]uint64{}}
	}
}

// clone is a copy for a reader.
func (c *pathCounters) clone() []Step {
	steps := make([]Step, stepCount)
	for i, s := range c {
		s.Drops, s.Did = maps.Clone(s.Drops), maps.Clone(s.Did)
		steps[i] = s
	}
	return steps
}

func count(m map[string]uint64, reason string) {
	if _, ok := m[reason]; !ok && len(m) >= maxReasons {
		reason = "other"
	}
	m[reason]++
}

func (c *pathCounters) pass(step int, out bool, bytes int) {
	s := &c[step]
	if out {
		s.Out++
		s.OutBytes += uint64(bytes)
	} else {
		s.In++
		s.InBytes += uint64(bytes)
	}
}

// loopback is the stack's own link, on which no device and no impairment is.
const loopback = "lo"

// packet counts the steps that a packet has come through, as its event tells.
func (c *pathCounters) packet(p *stack.PacketEvent) {
	l := p.Route
	if p.Dev != loopback && !(p.Out && l != nil && l.Route != nil && l.Route.Type == stack.Local) {
		c.pass(stepTun, p.Out, p.Len)
		c.pass(stepImpair, p.Out, p.Len)
	}
	c.pass(stepRules, p.Out, p.Len)
	at := stepRules // where it is dropped, if it is
	if l != nil && l.Rule != nil {
		count(c[stepRules].Did, "rule "+strconv.FormatUint(uint64(l.Rule.Priority), 10))
		if l.Rule.Action == stack.ActionLookup {
			at = stepTables
			count(c[stepTables].Did, l.Rule.Table.String())
		}
	}
	switch {
	case p.Drop == "NO_SOCKET":
		at = stepLookup
		c.pass(stepTables, p.Out, p.Len)
	case p.Drop != "" && at == stepRules:
	default:
		c.pass(stepTables, p.Out, p.Len)
	}
	if p.Drop != "" {
		count(c[at].Drops, p.Drop)
	}
	if p.Out {
		if p.FD >= 0 {
			c.pass(stepFD, true, p.Len)
		}
		return
	}
	if p.Socket == nil {
		return
	}
	c.pass(stepLookup, false, p.Len)
	for _, t := range p.Socket.Tries {
		if !t.Match {
			continue
		}
		switch t.Step {
		case stack.StepExact:
			count(c[stepLookup].Did, "established")
		case stack.StepSteering:
			count(c[stepLookup].Did, "steered")
		case stack.StepForwarder:
			count(c[stepLookup].Did, "forwarded")
		default:
			count(c[stepLookup].Did, "listener")
		}
		c.pass(stepFD, false, p.Len)
	}
}

// link counts what the link did to a packet.
func (c *pathCounters) link(l *stack.LinkEvent, lost bool) {
	reason := l.Why
	if lost {
		count(c[stepImpair].Drops, reason)
		if !l.Out {
			c.pass(stepTun, false, l.Len) // the stack will not see it
			c.pass(stepImpair, false, l.Len)
		}
		return
	}
	count(c[stepImpair].Did, l.Action)
}

// call counts a socket call.
func (c *pathCounters) call(k *stack.CallEvent) {
	n := uint64(max(k.Ret, 0))
	app := &c[stepApp]
	switch k.Name {
	case "accept4":
		count(c[stepFD].Did, "accept")
	case "read", "recvfrom", "recvmsg":
		count(c[stepFD].Did, "read")
		app.In++
		app.InBytes += n
	case "write", "sendto", "sendmsg":
		count(c[stepFD].Did, "write")
		app.Out++
		app.OutBytes += n
	case "close":
		count(c[stepFD].Did, "close")
	}
}
