package event

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// The two marks of a try: passed over, and chosen.
const (
	markNo  = "✗"
	markYes = "✓"
)

// Short is the lookup on one line, as a trace shows it:
//
//	exact 4-tuple ✗, listener 10.9.0.2:80 ✗, listener *:80 ✓ fd 3
func (l *SocketLookup) Short() string {
	var parts []string
	for _, t := range l.Tries {
		if (t.Step == StepSteering || t.Step == StepForwarder) && t.Candidate == "" {
			continue // there is no rule to speak of
		}
		s := l.shortName(t) + " " + mark(t.Match)
		if t.Match {
			s += " " + t.owner()
		}
		parts = append(parts, s)
	}
	if !l.Found {
		parts = append(parts, l.Answer)
	}
	return strings.Join(parts, ", ")
}

func (l *SocketLookup) shortName(t SocketTry) string {
	switch t.Step {
	case StepExact:
		return StepExact
	case StepSteering:
		return "steering " + t.Candidate
	case StepForwarder:
		return "forwarder " + t.Candidate
	}
	return l.stepName("listener") + " " + t.Candidate
}

// stepName is a step's name; what waits on a UDP port is no listener.
func (l *SocketLookup) stepName(step string) string {
	if l.Tuple.Network == "udp" {
		return strings.Replace(step, "listener", "socket", 1)
	}
	return step
}

// owner names the socket of a try that matched.
func (t SocketTry) owner() string {
	if t.FD < 0 {
		return strings.TrimSpace("no fd " + t.State)
	}
	return strings.TrimSpace(fmt.Sprintf("fd %d %s", t.FD, t.State))
}

// Text is the lookup on several lines: the question, each candidate that was
// tried with what came of it, and the winner. The last line ends with a newline.
func (l *SocketLookup) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "socket lookup: %s %s → %s\n", l.Tuple.Network, l.Tuple.Src, l.Tuple.Dst)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for i, t := range l.Tries {
		why := t.Why
		if t.Match {
			why = t.owner()
		}
		fmt.Fprintf(w, "  %d. %s\t%s\t%s %s\n", i+1, l.stepName(t.Step), t.Candidate, mark(t.Match), why)
	}
	w.Flush()
	switch {
	case !l.Found:
		fmt.Fprintf(&b, "  => %s\n", l.Answer)
	case l.FD < 0:
		fmt.Fprintf(&b, "  => %s, which has no fd: not accepted yet, or closed already\n", l.Answer)
	default:
		fmt.Fprintf(&b, "  => fd %d: %s\n", l.FD, l.Answer)
	}
	return b.String()
}

func mark(ok bool) string {
	if ok {
		return markYes
	}
	return markNo
}
