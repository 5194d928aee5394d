package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/tun/impair"
)

func newTC(e *env) *cobra.Command {
	var stats bool
	c := &cobra.Command{
		Use:   "tc [-s] qdisc show [dev DEV] | add|change|replace dev DEV root netem SETTINGS | del dev DEV root",
		Short: "Impair what the stack sends, in the words of tc(8)",
		Long: `tc qdisc is another name of netem set out: a netem at the root of the stack's device impairs what the
stack sends. The words are tc's, with its abbreviations and synonyms: latency is delay, drop is loss.
What tc has no word for, packets that arrive, rules for single packets, is catflap netem's.`,
		Example: `  catflap tc qdisc add dev cat0 root netem latency 20ms 5ms drop 1%
  catflap tc -s qdisc show dev cat0
  catflap tc qdisc del dev cat0 root`,
		RunE: func(c *cobra.Command, args []string) error {
			w := &words.Words{Command: "tc", Rest: args}
			return tc(c.Context(), e, w, stats)
		},
	}
	fs := c.Flags()
	fs.BoolVarP(&stats, "statistics", "s", false, "what was done to packets")
	fs.BoolP("details", "d", false, "accepted, as with tc; all details are shown")
	fs.BoolVarP(&e.json, "json-output", "j", false, "print JSON")
	return c
}

var (
	tcObjects = []words.Choice{{Word: "qdisc", Abbrev: true}, {Word: "class", Abbrev: true}, {Word: "filter", Abbrev: true}, {Word: "action", Abbrev: true}, {Word: "actions"}, {Word: "monitor", Abbrev: true}}
	tcVerbs   = []words.Choice{
		{Word: "add", Abbrev: true}, {Word: "change", Abbrev: true}, {Word: "replace", Abbrev: true}, {Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"},
		{Word: "list", Abbrev: true, Means: "show"}, {Word: "show", Abbrev: true}, {Word: "lst", Abbrev: true, Means: "show"},
	}
	// netemWords are tc-netem's options, in the order in which tc tries abbreviations.
	netemWords = []words.Choice{
		{Word: "limit", Abbrev: true}, {Word: "latency", Abbrev: true, Means: "delay"}, {Word: "delay", Abbrev: true}, {Word: "loss", Abbrev: true}, {Word: "drop", Abbrev: true, Means: "loss"},
		{Word: "ecn", Abbrev: true}, {Word: "reorder", Abbrev: true}, {Word: "corrupt", Abbrev: true}, {Word: "gap"}, {Word: "duplicate", Abbrev: true},
		{Word: "distribution", Abbrev: true}, {Word: "rate", Abbrev: true}, {Word: "slot", Abbrev: true}, {Word: "seed", Abbrev: true},
	}
	// netemValues are words that stand for values of options, or as options within one.
	netemValues = []string{"random", "state", "gemodel", "packets", "bytes", "uniform", "normal", "pareto", "paretonormal"}
)

func tc(ctx context.Context, e *env, w *words.Words, stats bool) error {
	if !w.More() {
		return w.Errorf("want qdisc show, add, change, replace or del")
	}
	word := w.Next()
	switch words.Choose(word, tcObjects) {
	case "qdisc":
	case "":
		return w.Unexpected(word, "qdisc")
	default:
		return &remedy.UsageError{Msg: "tc " + word + ": the stack has one queue for each direction, and no classes or filters", Remedy: "what happens to which packets: catflap netem add RULE"}
	}
	w.Command = "tc qdisc"
	verb := "show"
	if w.More() {
		word = w.Next()
		if verb = words.Choose(word, tcVerbs); verb == "" {
			return w.Unexpected(word, words.OneOf(tcVerbs))
		}
	}
	w.Command += " " + verb
	dev, settings, err := tcPlace(w, verb)
	if err != nil {
		return err
	}
	var spec impair.Spec
	if verb != "show" && verb != "del" {
		if spec, err = tcNetem(w, settings); err != nil {
			return err
		}
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	info, err := cl.Info(ctx)
	if err != nil {
		return fmt.Errorf("tc: %w", err)
	}
	if dev != "" && dev != info.Dev && (verb != "show" || dev != "lo") {
		return remedy.With(fmt.Errorf("tc: Cannot find device %q", dev), "the device of this stack is "+info.Dev)
	}
	now, err := cl.Netem(ctx)
	if err != nil {
		return fmt.Errorf("tc: %w", err)
	}
	there := now.Out != (impair.Spec{})
	switch verb {
	case "show":
		return tcShow(e, info.Dev, dev, &now, stats)
	case "del":
		if !there {
			return remedy.With(errors.New("tc qdisc del: Cannot delete qdisc with handle of zero: "+dev+" has none"), "what impairs what arrives, and rules: catflap netem clear")
		}
		return cl.ClearNetem(ctx, "out")
	case "add":
		if there {
			return remedy.With(errors.New("tc qdisc add: Exclusivity flag on, cannot modify: "+dev+" has a netem"), "use: catflap tc qdisc change, or replace")
		}
	case "change":
		if !there {
			return remedy.With(errors.New("tc qdisc change: Qdisc not found: "+dev+" has no netem"), "use: catflap tc qdisc add, or replace")
		}
	}
	return cl.SetNetem(ctx, "out", spec)
}

// tcPlace reads where a qdisc is: the device, and the words after netem.
func tcPlace(w *words.Words, verb string) (dev string, settings []string, err error) {
	root, kind := false, ""
	for w.More() && kind == "" {
		switch word := w.Next(); word {
		case "dev":
			if dev, err = w.Value(word, "the name of a device"); err != nil {
				return "", nil, err
			}
		case "root":
			root = true
		case "handle":
			if _, err = w.Value(word, "a handle such as 1:"); err != nil {
				return "", nil, err
			}
		case "parent", "clsact", "ingress", "ingress_block", "egress_block":
			return "", nil, &remedy.UsageError{Msg: w.Command + ": " + word + ": the stack has one queue for each direction, at the root", Remedy: "what arrives is impaired by: catflap netem set in SETTINGS"}
		default:
			kind = word
		}
	}
	switch {
	case kind != "" && verb == "show":
		return "", nil, w.Unexpected(kind, "dev DEV")
	case verb == "show":
		return dev, nil, nil
	case dev == "":
		return "", nil, w.Errorf("no device; want dev DEV")
	case !root:
		return "", nil, w.Errorf("want root, where the device's one queue is")
	case kind != "" && kind != "netem":
		return "", nil, &remedy.UsageError{Msg: w.Command + ": " + kind + ": the stack has netem only", Remedy: "a rate, as tbf has it: catflap tc qdisc add dev " + dev + " root netem rate 1mbit"}
	case kind == "" && verb != "del":
		return "", nil, w.Errorf("no kind of qdisc; want netem")
	}
	return dev, w.Rest, nil
}

// tcNetem reads netem's settings in tc's words.
func tcNetem(w *words.Words, in []string) (impair.Spec, error) {
	out := make([]string, 0, len(in))
	for i, word := range in {
		if word != "" && word[0] >= 'a' && word[0] <= 'z' && !slices.Contains(netemValues, word) {
			switch option := words.Choose(word, netemWords); {
			case option == "ecn":
				return impair.Spec{}, &remedy.UsageError{Msg: w.Command + ": ecn: netem of catflap marks no packets", Remedy: "leave ecn out: packets are lost instead"}
			case option == "distribution" && i > 0 && out[i-1] == "slot":
				return impair.Spec{}, &remedy.UsageError{Msg: w.Command + ": slot distribution: slots come at random times between two bounds", Remedy: "use: slot MIN MAX, such as slot 10ms 20ms"}
			case option != "":
				word = option
			}
		}
		out = append(out, word)
	}
	spec, err := impair.Parse(strings.Join(out, " "))
	if err != nil {
		return spec, netemUsage(w.Command, err)
	}
	if spec == (impair.Spec{}) {
		spec.Limit = impair.DefaultLimit // a netem that does nothing is there all the same
	}
	return spec, nil
}

// tcShow lists the queues of lo and of the device, or of dev alone.
func tcShow(e *env, device, dev string, n *control.Netem, stats bool) error {
	type queue struct {
		Kind    string        `json:"kind"`
		Dev     string        `json:"dev"`
		Root    bool          `json:"root"`
		Options *impair.Spec  `json:"options,omitempty"`
		Stats   *impair.Stats `json:"stats,omitempty"`
	}
	queues := []queue{{Kind: "noqueue", Dev: "lo", Root: true}, {Kind: "noqueue", Dev: device, Root: true}}
	if n.Out != (impair.Spec{}) {
		queues[1] = queue{"netem", device, true, &n.Out, &n.Stats.Out}
	}
	queues = slices.DeleteFunc(queues, func(q queue) bool { return dev != "" && q.Dev != dev })
	if e.json {
		return e.printJSON(queues)
	}
	for _, q := range queues {
		at := "root"
		if dev == "" {
			at = "dev " + q.Dev + " root"
		}
		line := fmt.Sprintf("qdisc noqueue 0: %s refcnt 2 \n", at)
		if q.Options != nil {
			spec := *q.Options
			limit := spec.Limit
			if spec.Limit = 0; limit == 0 {
				limit = impair.DefaultLimit
			}
			line = strings.TrimRight(fmt.Sprintf("qdisc netem 8001: %s refcnt 2 limit %d %s", at, limit, spec), " ") + "\n"
		}
		if s := q.Stats; stats && s != nil {
			line += fmt.Sprintf(" Sent %d bytes %d pkt (dropped %d, overlimits %d requeues 0) \n backlog 0b %dp requeues 0\n",
				s.PassedBytes, s.Passed, s.Lost+s.OverLimit+s.Faulted, s.OverLimit, s.Queued)
		}
		if _, err := fmt.Fprint(e.stdout, line); err != nil {
			return err
		}
	}
	return nil
}
