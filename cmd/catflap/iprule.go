package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

var ruleVerbs = []words.Choice{
	{Word: "list", Abbrev: true, Means: "show"}, {Word: "lst", Abbrev: true, Means: "show"}, {Word: "show", Abbrev: true},
	{Word: "add", Abbrev: true}, {Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"},
}

func (ip *ipCommand) rule() error {
	verb, err := ip.verb("rule", ruleVerbs)
	if err != nil {
		return err
	}
	if verb == "show" {
		return ip.ruleShow()
	}
	if verb == "del" && !ip.More() {
		return ip.Errorf("want the rule to delete, such as priority 100")
	}
	r, given, err := ip.parseRule()
	if err != nil {
		return err
	}
	if verb == "add" {
		return ip.failed(ip.c.AddRule(ip.ctx, r))
	}
	// A rule to delete is described by some of its features; the stack wants its action too.
	if !given.action {
		rules, err := ip.c.Rules(ip.ctx, r.Family)
		if err != nil {
			return ip.failed(err)
		}
		for _, o := range rules {
			if given.match(r, o) {
				r = o
				break
			}
		}
	}
	return ip.failed(ip.c.DelRule(ip.ctx, r))
}

func (ip *ipCommand) ruleShow() error {
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

// ruleGiven says which features of a rule the command line named.
type ruleGiven struct{ action, priority, not bool }

// match reports whether o has the features that the command line gave r.
func (g ruleGiven) match(r, o stack.Rule) bool {
	return (!g.priority || o.Priority == r.Priority) && (!g.not || o.Not) &&
		(!r.From.IsValid() || o.From == r.From) && (!r.To.IsValid() || o.To == r.To) &&
		(r.IIF == "" || o.IIF == r.IIF) && (r.OIF == "" || o.OIF == r.OIF)
}

// parseRule reads the selectors and the action of a rule.
func (ip *ipCommand) parseRule() (r stack.Rule, given ruleGiven, err error) {
	r.Family = ip.family
	for ip.More() {
		word := ip.Next()
		key := words.Choose(word, ruleWords)
		switch key {
		case "not":
			r.Not, given.not = true, true
		case "from", "to":
			p := &r.From
			if key == "to" {
				p = &r.To
			}
			if *p, err = ip.selector(word); err != nil {
				return r, given, err
			}
			if p.IsValid() {
				ip.family = familyOf(p.Addr())
			}
		case "priority":
			s, err := ip.Value(word, "a number")
			if err != nil {
				return r, given, err
			}
			n, err := strconv.ParseUint(s, 0, 32)
			if err != nil {
				return r, given, ip.Bad(word, s, "a number from 0 to 4294967295")
			}
			r.Priority, given.priority = uint32(n), true
		case "table":
			if r.Table, err = ip.tableID(word); err != nil {
				return r, given, err
			}
			given.action = true
		case "iif", "oif":
			s, err := ip.Value(word, "the name of a device")
			if err != nil {
				return r, given, err
			}
			if key == "iif" {
				r.IIF = s
			} else {
				r.OIF = s
			}
		default:
			if key == "type" {
				if word, err = ip.Value(word, "unreachable, prohibit or blackhole"); err != nil {
					return r, given, err
				}
			}
			a, ok := stack.ParseRuleAction(word)
			if !ok || a == stack.ActionLookup {
				return r, given, ip.Unexpected(word, words.OneOf(ruleWords)+", unreachable, prohibit, blackhole")
			}
			r.Action, given.action = a, true
		}
	}
	if r.Action == stack.ActionLookup && r.Table == 0 {
		r.Table = stack.TableMain // iproute2's default
	}
	if r.Family = ip.family; r.Family == 0 {
		r.Family = stack.IPv4
	}
	return r, given, nil
}

// selector reads the prefix of a selector; the zero Prefix for "all".
func (ip *ipCommand) selector(key string) (netip.Prefix, error) {
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
