package ip

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
)

var ruleVerbs = []words.Choice{
	{Word: "list", Abbrev: true, Means: "show"}, {Word: "lst", Abbrev: true, Means: "show"}, {Word: "show", Abbrev: true},
	{Word: "add", Abbrev: true}, {Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"}, {Word: "flush", Abbrev: true},
}

func (ip *command) rule() error {
	verb, err := ip.verb("rule", ruleVerbs)
	if err != nil {
		return err
	}
	if verb == "show" {
		return ip.ruleShow()
	}
	if verb == "flush" {
		return ip.ruleFlush()
	}
	if verb == "del" && !ip.More() {
		return ip.Errorf("want the rule to delete, such as priority 100")
	}
	m, not, err := ip.parseRule()
	if err != nil {
		return err
	}
	if verb == "del" {
		return ip.failed(ip.c.DelRule(ip.ctx, m))
	}
	r := stack.Rule{Family: m.Family, Not: not, From: m.From, To: m.To, IIF: m.IIF, OIF: m.OIF, Table: m.Table}
	if m.Priority != nil {
		r.Priority = *m.Priority
	}
	if m.Action != nil {
		r.Action = *m.Action
	}
	if r.Action == stack.ActionLookup && r.Table == 0 {
		r.Table = stack.TableMain // iproute2's default
	}
	return ip.failed(ip.c.AddRule(ip.ctx, r))
}

// ruleFlush removes all rules but the first, as iproute2 does.
func (ip *command) ruleFlush() error {
	if err := ip.End("nothing after flush"); err != nil {
		return err
	}
	for _, f := range ip.families(stack.IPv4) {
		rules, err := ip.c.Rules(ip.ctx, f)
		if err != nil {
			return ip.failed(err)
		}
		for _, r := range rules {
			if r.Priority == 0 {
				continue
			}
			if err := ip.c.DelRule(ip.ctx, stack.RuleMatch{Family: f, Priority: &r.Priority}); err != nil {
				return ip.failed(err)
			}
		}
	}
	return nil
}

func (ip *command) ruleShow() error {
	if err := ip.End("nothing after show"); err != nil {
		return err
	}
	var text strings.Builder
	var objects []object
	for _, f := range ip.families(stack.IPv4) {
		rules, err := ip.c.Rules(ip.ctx, f)
		if err != nil {
			return ip.failed(err)
		}
		for _, r := range rules {
			text.WriteString(r.String() + "\n")
			objects = append(objects, ruleObject(r))
		}
	}
	return ip.print(text.String(), objects)
}

func ruleObject(r stack.Rule) (o object) {
	o.add("priority", r.Priority)
	if r.Not {
		o.add("not", nil)
	}
	prefix := func(key, lenKey string, p netip.Prefix) {
		o.add(key, p.Addr().String())
		if !p.IsSingleIP() {
			o.add(lenKey, p.Bits())
		}
	}
	if r.From.IsValid() {
		prefix("src", "srclen", r.From)
	} else {
		o.add("src", "all")
	}
	if r.To.IsValid() {
		prefix("dst", "dstlen", r.To)
	}
	if r.IIF != "" {
		o.add("iif", r.IIF)
	}
	if r.OIF != "" {
		o.add("oif", r.OIF)
	}
	if r.Action == stack.ActionLookup {
		o.add("table", r.Table.String())
	} else {
		o.add("action", r.Action.String())
	}
	return o
}

var ruleWords = []words.Choice{
	{Word: "not"}, {Word: "from"}, {Word: "to"},
	{Word: "preference", Abbrev: true, Means: "priority"}, {Word: "order", Abbrev: true, Means: "priority"}, {Word: "priority", Abbrev: true},
	{Word: "table", Abbrev: true}, {Word: "lookup", Means: "table"}, {Word: "iif"}, {Word: "dev", Means: "iif"}, {Word: "oif"},
	{Word: "type", Abbrev: true},
}

// parseRule reads the selectors and the action of a rule: those that are given, for a
// rule of the family that they or the options say.
func (ip *command) parseRule() (r stack.RuleMatch, not bool, err error) {
	for ip.More() {
		word := ip.Next()
		key := words.Choose(word, ruleWords)
		switch key {
		case "not":
			not = true
		case "from", "to":
			p := &r.From
			if key == "to" {
				p = &r.To
			}
			if *p, err = ip.selector(word); err != nil {
				return r, not, err
			}
			if p.IsValid() {
				ip.Family = route.FamilyOf(p.Addr())
			}
		case "priority":
			s, err := ip.Value(word, "a number")
			if err != nil {
				return r, not, err
			}
			n, err := strconv.ParseUint(s, 0, 32)
			if err != nil {
				return r, not, ip.Bad(word, s, "a number from 0 to 4294967295")
			}
			r.Priority = new(uint32(n))
		case "table":
			if r.Table, err = ip.tableID(word); err != nil {
				return r, not, err
			}
		case "iif", "oif":
			s, err := ip.Value(word, "the name of a device")
			if err != nil {
				return r, not, err
			}
			if key == "iif" {
				r.IIF = s
			} else {
				r.OIF = s
			}
		default:
			if key == "type" {
				if word, err = ip.Value(word, "unreachable, prohibit or blackhole"); err != nil {
					return r, not, err
				}
			}
			a, ok := route.ParseAction(word)
			if !ok || a == stack.ActionLookup {
				return r, not, ip.Unexpected(word, words.OneOf(ruleWords)+", unreachable, prohibit, blackhole")
			}
			r.Action = &a
		}
	}
	if r.Family = ip.Family; r.Family == 0 {
		r.Family = stack.IPv4
	}
	return r, not, nil
}

// selector reads the prefix of a selector; the zero Prefix for "all".
func (ip *command) selector(key string) (netip.Prefix, error) {
	s, err := ip.Value(key, "a prefix or all")
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := ip.network(key, s)
	if err == nil && p.Bits() == 0 {
		return netip.Prefix{}, nil
	}
	return p, err
}
