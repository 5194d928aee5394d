// Package ip speaks iproute2's language about a running stack: the words of ip(8), their
// abbreviations, and its output, byte for byte.
package ip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
)

// Options are what stands before the object of a command line.
type Options struct {
	Family  stack.Family // 0: not given
	JSON    bool
	Pretty  bool // with JSON: in lines
	Stats   bool // what links have carried
	Brief   bool // a link's line has the least
	OneLine bool // each record on one line
	Verbose bool
	Help    bool   // nothing else counts
	Control string // path of the control socket; "" if not given
}

// Line is a command line whose options and object have been read.
type Line struct {
	Options
	object string
	words  words.Words // the rest
}

// objects are what a command line can be about, in iproute2's order, which decides what
// an abbreviation means.
var objects = []words.Choice{
	{Word: "address", Abbrev: true},
	{Word: "route", Abbrev: true},
	{Word: "rule", Abbrev: true},
	{Word: "link", Abbrev: true},
	{Word: "neighbor", Abbrev: true}, {Word: "neighbour", Abbrev: true, Means: "neighbor"},
	{Word: "monitor", Abbrev: true},
	{Word: "help", Abbrev: true},
}

// Parse reads the words after "ip" up to the object. The error is a *remedy.UsageError.
func Parse(args []string) (Line, error) {
	l := Line{words: words.Words{Command: "ip"}}
	if err := l.options(args); err != nil || l.Help {
		return l, err
	}
	if !l.words.More() {
		return l, l.words.Errorf("no object; want %s", words.OneOf(objects))
	}
	word := l.words.Next()
	if l.object = words.Choose(word, objects); l.object == "" {
		return l, l.words.Unexpected(word, words.OneOf(objects))
	}
	l.Help = l.object == "help"
	return l, nil
}

// Run asks or changes the stack behind c as the line says, and prints what ip would.
// The errors are those of the client, a *remedy.UsageError, or say in the name of the
// command what failed.
func (l Line) Run(ctx context.Context, c *control.Client, stdout io.Writer) error {
	ip := &command{Options: l.Options, Words: l.words, ctx: ctx, c: c, stdout: stdout}
	switch l.object {
	case "address":
		return ip.address()
	case "route":
		return ip.route()
	case "rule":
		return ip.rule()
	case "neighbor":
		return ip.neighbor()
	case "monitor":
		return ip.monitor()
	}
	return ip.link()
}

// command is a command line that is being carried out.
type command struct {
	Options
	words.Words
	ctx    context.Context
	c      *control.Client
	stdout io.Writer
}

// options takes the options, which stand before the object; iproute2 allows any
// prefix of those with names.
func (l *Line) options(args []string) error {
	named := []words.Choice{
		{Word: "json", Abbrev: true}, {Word: "pretty", Abbrev: true}, {Word: "family", Abbrev: true},
		{Word: "statistics", Abbrev: true}, {Word: "stats"}, {Word: "details", Abbrev: true}, {Word: "brief", Abbrev: true}, {Word: "oneline", Abbrev: true},
		{Word: "color", Abbrev: true}, {Word: "Numeric", Abbrev: true}, {Word: "timestamp", Abbrev: true}, {Word: "netns", Abbrev: true},
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
				return l.words.Errorf("%s: a value is missing", arg)
			}
			if !hasValue {
				value, args = args[0], args[1:]
			}
		}
		switch option {
		case "4":
			l.Family = stack.IPv4
		case "6":
			l.Family = stack.IPv6
		case "json":
			l.JSON = true
		case "pretty":
			l.Pretty = true
		case "family":
			switch value {
			case "inet":
				l.Family = stack.IPv4
			case "inet6":
				l.Family = stack.IPv6
			default:
				return l.words.Bad(arg, value, "inet or inet6")
			}
		case "statistics", "stats":
			l.Stats = true
		case "brief":
			l.Brief = true
		case "oneline":
			l.OneLine = true
		case "details", "color", "Numeric", "timestamp": // all details are shown, without colour
		case "netns":
			return &remedy.UsageError{Msg: "ip: " + arg + ": the stack is in no namespace of the kernel", Remedy: "another instance's stack: catflap ip --control NAME"}
		case "control":
			l.Control = value
		case "verbose":
			l.Verbose = true
		case "help":
			l.Help = true
			return nil
		default:
			return l.words.Errorf("unknown option %q; want -4, -6, -s, -d, -br, -o, -j, -p, --control PATH, --help", arg)
		}
	}
	l.words.Rest = rest
	return nil
}

// verb takes the command word of an object; show if there is none.
func (ip *command) verb(object string, from []words.Choice) (string, error) {
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
func (ip *command) print(text string, objects []object) error {
	if ip.JSON {
		_, err := ip.stdout.Write(formatJSON(objects, ip.Pretty))
		return err
	}
	_, err := fmt.Fprint(ip.stdout, text)
	return err
}

// failed is an error in the name of this command. What the stack refuses, it
// says itself: "add route 192.0.2.0/24: …".
func (ip *command) failed(err error) error {
	var refused *control.Error
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("%s: %w", ip.Command, err)
}

// families are the families that a list shows: the one that was asked for, or def.
func (ip *command) families(def ...stack.Family) []stack.Family {
	if ip.Family != 0 {
		return []stack.Family{ip.Family}
	}
	return def
}

// addr reads the address after key.
func (ip *command) addr(key string) (netip.Addr, error) {
	s, err := ip.Value(key, "an address")
	if err != nil {
		return netip.Addr{}, err
	}
	return ip.parseAddr(key, s)
}

func (ip *command) parseAddr(key, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "":
		return a, ip.Bad(key, s, "an IPv4 or IPv6 address")
	case ip.Family != 0 && route.FamilyOf(a) != ip.Family:
		return a, ip.Bad(key, s, fmt.Sprintf("an %s address", ip.Family))
	}
	return a, nil
}

// parsePrefix reads a prefix, an address for a prefix of one, or default (also all
// and any), whose family is that of the command line, IPv4 if it says none.
func (ip *command) parsePrefix(key, s string) (netip.Prefix, error) {
	if s == "default" || s == "all" || s == "any" {
		if ip.Family == stack.IPv6 {
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
	case ip.Family != 0 && route.FamilyOf(p.Addr()) != ip.Family:
		return p, ip.Bad(key, s, fmt.Sprintf("an %s prefix", ip.Family))
	}
	return p, nil
}

// network is parsePrefix for what must be a network: no bits of a host in it.
func (ip *command) network(key, s string) (netip.Prefix, error) {
	p, err := ip.parsePrefix(key, s)
	if err == nil && p != p.Masked() {
		return p, ip.Errorf("%s %q: has bits of a host; the prefix is %s", key, s, p.Masked())
	}
	return p, err
}

// tableID reads the table after key.
func (ip *command) tableID(key string) (stack.TableID, error) {
	s, err := ip.Value(key, "local, main, default or a number")
	if err != nil {
		return 0, err
	}
	t, err := route.ParseTable(s)
	if err != nil {
		return 0, ip.Bad(key, s, "local, main, default or a number from 1 to 4294967295")
	}
	return t, nil
}
