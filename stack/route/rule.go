package route

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// Action is what a rule does with a packet it selects.
type Action uint8

// The actions of ip-rule(8) that this stack has.
const (
	ActionLookup Action = iota // look in Rule.Table
	ActionUnreachable
	ActionProhibit
	ActionBlackhole
)

var actionNames = []string{"lookup", "unreachable", "prohibit", "blackhole"}

func (a Action) String() string { return nameOf(actionNames, a) }

// ParseAction reads an action's name.
func ParseAction(s string) (Action, bool) { return parseName[Action](actionNames, s) }

// MarshalText gives the name, for JSON.
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the name.
func (a *Action) UnmarshalText(b []byte) error {
	return unmarshalName(a, "rule action", string(b), ParseAction)
}

// answer is the type of the route that a rule other than a lookup gives.
func (a Action) answer() Type {
	switch a {
	case ActionProhibit:
		return Prohibit
	case ActionBlackhole:
		return Blackhole
	}
	return Unreachable
}

// Rule is one entry of the routing policy database (ip-rule(8)). A selector's
// zero value matches everything.
type Rule struct {
	Family   Family       `json:"-"`
	Priority uint32       `json:"priority"`
	Not      bool         `json:"not,omitempty"`
	From     netip.Prefix `json:"src,omitzero"`
	To       netip.Prefix `json:"dst,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Action   Action       `json:"action"`
	Table    TableID      `json:"table,omitempty"` // for ActionLookup
}

// String writes the rule as `ip rule show` does.
func (r Rule) String() string { return fmt.Sprintf("%d:\t%s", r.Priority, r.selector()) }

// selector is the rule without its priority.
func (r Rule) selector() string {
	var b strings.Builder
	if r.Not {
		b.WriteString("not ")
	}
	b.WriteString("from ")
	if r.From.IsValid() && r.From.Bits() > 0 {
		b.WriteString(dstName(r.From))
	} else {
		b.WriteString("all")
	}
	if r.To.IsValid() {
		b.WriteString(" to " + dstName(r.To))
	}
	if r.IIF != "" {
		b.WriteString(" iif " + r.IIF)
	}
	if r.OIF != "" {
		b.WriteString(" oif " + r.OIF)
	}
	b.WriteString(" " + r.Action.String())
	if r.Action == ActionLookup {
		b.WriteString(" " + r.Table.String())
	}
	return b.String()
}

// RuleMatch describes rules by some of their features, as `ip rule del` does. What is
// zero or nil is not compared. Whether a rule is a "not" rule never is (rule_find).
type RuleMatch struct {
	Family   Family       `json:"family"` // 0: that of From or To, else IPv4
	Priority *uint32      `json:"priority,omitempty"`
	From     netip.Prefix `json:"src,omitzero"`
	To       netip.Prefix `json:"dst,omitzero"`
	IIF      string       `json:"iif,omitempty"`
	OIF      string       `json:"oif,omitempty"`
	Action   *Action      `json:"action,omitempty"`
	Table    TableID      `json:"table,omitempty"`
}

// Match describes r by its features; selectors that r has not match any.
func (r Rule) Match() RuleMatch {
	return RuleMatch{Family: r.Family, Priority: &r.Priority, From: r.From, To: r.To, IIF: r.IIF, OIF: r.OIF, Action: &r.Action, Table: r.Table}
}

// selects reports whether m describes r.
func (m *RuleMatch) selects(r *Rule) bool {
	return (m.Priority == nil || r.Priority == *m.Priority) &&
		(!m.From.IsValid() || r.From == m.From) && (!m.To.IsValid() || r.To == m.To) &&
		(m.IIF == "" || r.IIF == m.IIF) && (m.OIF == "" || r.OIF == m.OIF) &&
		(m.Action == nil || r.Action == *m.Action) && (m.Table == 0 || r.Table == m.Table)
}

// selectors fills in the family that the prefixes of a rule imply, and gives the
// prefixes the form that rules have: without bits of a host, and the zero Prefix for
// "all".
func selectors(f *Family, from, to *netip.Prefix) error {
	for _, p := range []*netip.Prefix{from, to} {
		if !p.IsValid() {
			continue
		}
		if *f == 0 {
			*f = FamilyOf(p.Addr())
		}
		if FamilyOf(p.Addr()) != *f {
			return fmt.Errorf("%s is not %s: %w", p, *f, syscall.EINVAL)
		}
		if *p = p.Masked(); p.Bits() == 0 {
			*p = netip.Prefix{}
		}
	}
	if *f == 0 {
		*f = IPv4
	}
	return nil
}
