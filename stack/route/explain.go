package route

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
//	rule 0 → table local → local 10.9.0.2 dev cat0
func (l *Lookup) Short() string {
	switch {
	case l.Martian != "":
		return "before any rule → martian: " + l.Martian
	case l.Rule == nil && l.Route == nil:
		return "no rule leads to a route"
	case l.Rule == nil:
		return "before any rule → " + l.Route.short()
	case l.Rule.Action != ActionLookup:
		return fmt.Sprintf("rule %d → %s", l.Rule.Priority, l.Rule.Action)
	}
	return fmt.Sprintf("rule %d → table %s → %s", l.Rule.Priority, l.Rule.Table, l.Route.short())
}

// short is the part of a route that says what becomes of a packet.
func (r *Route) short() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Type, dstName(r.Dst))
	if r.Gateway.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Gateway)
	}
	if r.Dev != "" {
		fmt.Fprintf(&b, " dev %s", r.Dev)
	}
	return b.String()
}

// Text is the lookup on several lines: the question, each rule that was tried
// with what came of it, and the answer. The last line ends with a newline.
func (l *Lookup) Text() string {
	var b strings.Builder
	b.WriteString("route lookup: to " + l.Query.Dst.String())
	if l.Query.Src.IsValid() {
		b.WriteString(" from " + l.Query.Src.String())
	}
	if l.Query.IIF != "" {
		b.WriteString(" iif " + l.Query.IIF)
	}
	if l.Query.OIF != "" {
		b.WriteString(" oif " + l.Query.OIF)
	}
	b.WriteByte('\n')
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, t := range l.Tries {
		route := ""
		if t.Route != nil {
			route = ": " + t.Route.short()
		}
		fmt.Fprintf(w, "  rule %d:\t%s\t%s %s%s\n", t.Rule.Priority, t.Rule.selector(), Mark(t.Match), t.Why, route)
	}
	w.Flush()
	b.WriteString("  => " + l.answer() + "\n")
	return b.String()
}

// answer says in words what becomes of the packet.
func (l *Lookup) answer() string {
	if l.Martian != "" {
		return "martian, nobody can have sent this here: dropped silently (" + l.Martian + ")"
	}
	if l.Route == nil {
		return "no route: dropped; a local sender gets ENETUNREACH"
	}
	s := l.Route.String() + ": "
	switch {
	case l.Rule == nil:
		s = l.Route.String() + " (decided before any rule): "
	case l.Rule.Action != ActionLookup:
		s = "the rule: "
	}
	switch l.Route.Type {
	case Local, Broadcast, Multicast:
		return s + "delivered to this stack"
	case Unreachable:
		return s + "dropped, the sender is told: host unreachable"
	case Prohibit:
		return s + "dropped, the sender is told: administratively prohibited"
	case Blackhole:
		return s + "dropped silently"
	}
	return s + "not for this stack"
}

// Mark is the sign of a try: ✓ for the one that was chosen, ✗ for one that was passed over.
func Mark(ok bool) string {
	if ok {
		return markYes
	}
	return markNo
}
