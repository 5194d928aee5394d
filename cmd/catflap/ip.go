package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
)

// ipCommand is one command line of catflap ip.
type ipCommand struct {
	*env
	ctx    context.Context
	c      *control.Client
	family stack.Family // 0: not given
	json   bool
	pretty bool
	words.Words
}

// ipObjects are the objects of catflap ip, in iproute2's order, which decides what
// an abbreviation means.
var ipObjects = []words.Choice{
	{Word: "address", Abbrev: true},
	{Word: "route", Abbrev: true},
	{Word: "rule", Abbrev: true},
	{Word: "link", Abbrev: true},
	{Word: "help", Abbrev: true},
}

func newIP(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ip [-4|-6] [-j [-p]] rule|route|addr|link …",
		Short: "Show and change the stack's rules, routing tables and addresses, as ip(8) does",
		Long: `ip speaks iproute2's language about the userspace stack instead of the kernel: its words, their
abbreviations, and its output.

  ip rule  show
  ip rule  add|del [not] [from PREFIX] [to PREFIX] [iif DEV] [oif DEV] [priority N]
                   [table TABLE | unreachable | prohibit | blackhole]
  ip route show [table TABLE|all] [dev DEV] [type TYPE] [proto P] [scope S] [via GW] [src A]
                [[root|match|exact] PREFIX]
  ip route get ADDR [from SRC] [iif DEV] [oif DEV]
  ip route add|replace|append|del [TYPE] PREFIX [via GW] [dev DEV] [table TABLE] [metric N]
                [src A] [proto P] [scope S]
  ip addr  show [[dev] DEV] | add|del ADDR[/LEN] dev DEV
  ip link  show [[dev] DEV]

TYPE is unicast, local, broadcast, multicast, unreachable, prohibit, blackhole or throw; TABLE is local,
main, default or a number; PREFIX may be default. Options: -4 and -6 choose the family, -j (--json) prints
JSON, -p with it breaks the JSON into lines. Addresses are never looked up in the DNS.`,
		Example: `  catflap ip ru sh
  catflap ip ro sh table local
  catflap ip route get 192.0.2.77
  catflap ip route add local 192.0.2.0/24 dev cat0`,
		DisableFlagParsing: true, // iproute2's options are words with one dash
		RunE: func(c *cobra.Command, args []string) error {
			ip := &ipCommand{env: e, ctx: c.Context(), Words: words.Words{Command: "ip"}}
			help, err := ip.options(args)
			if err != nil {
				return err
			}
			if help {
				return c.Help()
			}
			if !ip.More() {
				return ip.Errorf("no object; want %s", words.OneOf(ipObjects))
			}
			word := ip.Next()
			object := words.Choose(word, ipObjects)
			if object == "help" {
				return c.Help()
			}
			if ip.c, err = e.client(); err != nil {
				return err
			}
			switch object {
			case "address":
				return ip.address()
			case "route":
				return ip.route()
			case "rule":
				return ip.rule()
			case "link":
				return ip.link()
			}
			return ip.Unexpected(word, words.OneOf(ipObjects))
		},
	}
}

// options takes the options, which stand before the object; iproute2 allows any
// prefix of those with names.
func (ip *ipCommand) options(args []string) (help bool, err error) {
	ip.json = ip.env.json
	named := []words.Choice{
		{Word: "json", Abbrev: true}, {Word: "pretty", Abbrev: true}, {Word: "family", Abbrev: true},
		{Word: "control"}, {Word: "verbose"}, {Word: "v", Means: "verbose"}, {Word: "help", Abbrev: true}, {Word: "4"}, {Word: "6"},
	}
	// Global options may also stand behind, as with every command of catflap.
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if !strings.HasPrefix(arg, "-") || len(arg) == 1 || len(rest) > 0 && !strings.HasPrefix(arg, "--") && arg != "-h" {
			rest = append(rest, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		option := words.Choose(name, named)
		if option == "control" || option == "family" {
			if !hasValue && len(args) == 0 {
				return false, ip.Errorf("%s: a value is missing", arg)
			}
			if !hasValue {
				value, args = args[0], args[1:]
			}
		}
		switch option {
		case "4":
			ip.family = stack.IPv4
		case "6":
			ip.family = stack.IPv6
		case "json":
			ip.json = true
		case "pretty":
			ip.pretty = true
		case "family":
			switch value {
			case "inet":
				ip.family = stack.IPv4
			case "inet6":
				ip.family = stack.IPv6
			default:
				return false, ip.Bad(arg, value, "inet or inet6")
			}
		case "control":
			ip.control = value
		case "verbose":
			ip.verbose = true
		case "help":
			return true, nil
		default:
			return false, ip.Errorf("unknown option %q; want -4, -6, -j, -p, --control PATH, --help", arg)
		}
	}
	ip.Rest = rest
	return false, nil
}

// verb takes the command word of an object; show if there is none.
func (ip *ipCommand) verb(object string, from []words.Choice) (string, error) {
	ip.Command = "ip " + object
	if !ip.More() {
		return "show", nil
	}
	word := ip.Next()
	v := words.Choose(word, from)
	if v == "" {
		return "", ip.Unexpected(word, words.OneOf(from))
	}
	ip.Command += " " + v
	return v, nil
}

// print prints lines as text, or objects as JSON.
func (ip *ipCommand) print(text string, objects []object) error {
	if ip.json {
		_, err := ip.stdout.Write(ipJSON(objects, ip.pretty))
		return err
	}
	_, err := fmt.Fprint(ip.stdout, text)
	return err
}

// failed is an error in the name of this command. What the stack refuses, it
// says itself: "add route 192.0.2.0/24: …".
func (ip *ipCommand) failed(err error) error {
	var refused *control.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("%s: %w", ip.Command, err)
}

// families are the families that a list shows: the one that was asked for, or def.
func (ip *ipCommand) families(def ...stack.Family) []stack.Family {
	if ip.family != 0 {
		return []stack.Family{ip.family}
	}
	return def
}

func familyOf(a netip.Addr) stack.Family {
	if a.Is4() {
		return stack.IPv4
	}
	return stack.IPv6
}

// addr reads the address after key.
func (ip *ipCommand) addr(key string) (netip.Addr, error) {
	s, err := ip.Value(key, "an address")
	if err != nil {
		return netip.Addr{}, err
	}
	return ip.parseAddr(key, s)
}

func (ip *ipCommand) parseAddr(key, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "":
		return a, ip.Bad(key, s, "an IPv4 or IPv6 address")
	case ip.family != 0 && familyOf(a) != ip.family:
		return a, ip.Bad(key, s, fmt.Sprintf("an %s address", ip.family))
	}
	return a, nil
}

// parsePrefix reads a prefix, an address for a prefix of one, or default (also all
// and any), whose family is that of the command line, IPv4 if it says none.
func (ip *ipCommand) parsePrefix(key, s string) (netip.Prefix, error) {
	if s == "default" || s == "all" || s == "any" {
		if ip.family == stack.IPv6 {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		if _, err := ip.parseAddr(key, s); err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, ip.Bad(key, s, "a prefix such as 192.0.2.0/24, an address, or default")
	case ip.family != 0 && familyOf(p.Addr()) != ip.family:
		return p, ip.Bad(key, s, fmt.Sprintf("an %s prefix", ip.family))
	}
	return p, nil
}

// network is parsePrefix for what must be a network: no bits of a host in it.
func (ip *ipCommand) network(key, s string) (netip.Prefix, error) {
	p, err := ip.parsePrefix(key, s)
	if err == nil && p != p.Masked() {
		return p, ip.Errorf("%s %q: has bits of a host; the prefix is %s", key, s, p.Masked())
	}
	return p, err
}

// tableID reads the table after key.
func (ip *ipCommand) tableID(key string) (stack.TableID, error) {
	s, err := ip.Value(key, "local, main, default or a number")
	if err != nil {
		return 0, err
	}
	t, err := stack.ParseTable(s)
	if err != nil {
		return 0, ip.Bad(key, s, "local, main, default or a number from 1 to 4294967295")
	}
	return t, nil
}
