package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/tun/impair"
)

func newNetem(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "netem show | set [in|out|both] SETTINGS | add RULE | del NUMBER | clear [in|out|both]",
		Short: "Impair the live link: lose, delay, reorder, duplicate, corrupt",
		Long: `netem makes the network bad on purpose, without root and without a kernel module. "in" is what comes
to the stack, "out" what the stack sends.

SETTINGS are tc-netem's, one or several:
  delay TIME [JITTER [CORRELATION]] [distribution uniform|normal|pareto|paretonormal]
  loss [random] PERCENT [CORRELATION] | loss state P13 [P31 [P32 [P23 [P14]]]] | loss gemodel P [R [1-H [1-K]]]
  duplicate PERCENT [CORRELATION]     corrupt PERCENT [CORRELATION]
  reorder PERCENT [CORRELATION] [gap N]
  rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]
  slot MIN [MAX] [packets N] [bytes N]     limit N     seed N

A RULE says what happens to which packets:
  drop | blackhole | delay TIME | hold TIME | corrupt | duplicate | reset | window N | toobig MTU
      | cut TIME | vanish client|server
  [ip | icmp | udp | tcp [syn | synack | ack | data | fin | rst | byte OFFSET]]
  [N | N..M | N.. | first [N] | every N | all]
  [from client|server] [in | out] [size > N] [size < N] [port N] [connection N] [at TIME]
  [host NAME|ADDRESS[/LEN] | to NAME|ADDRESS[/LEN]]
Host is either address of a packet, to its destination; a NAME is one that --dns NAME=ADDR gave.
Packets are counted for each connection by itself. The server is the side that did not send the SYN.

Equal seeds do equal things to equal traffic.`,
		Example: `  catflap netem set loss 10% delay 20ms seed 7
  catflap netem set out rate 1mbit
  catflap netem add drop tcp data 2 from server
  catflap netem add 'blackhole size > 1400'
  catflap netem show
  catflap netem clear`,
		RunE: func(c *cobra.Command, args []string) error {
			w := words.Words{Command: "netem", Rest: args}
			if !w.More() {
				return w.Errorf("want show, set, add, del or clear")
			}
			verb := w.Next()
			do, ok := netemVerbs[verb]
			if !ok {
				return w.Unexpected(verb, "show, set, add, del or clear")
			}
			w.Command += " " + verb
			return do(c.Context(), e, &w)
		},
	}
}

var netemVerbs = map[string]func(context.Context, *env, *words.Words) error{
	"show":  netemShow,
	"set":   netemSet,
	"add":   netemAdd,
	"del":   netemDel,
	"clear": netemClear,
}

// netemUsage turns an error of the grammar into a usage error, which shows the place and what could stand there.
func netemUsage(command string, err error) error {
	var pe *impair.ParseError
	if !errors.As(err, &pe) {
		return remedy.Usagef("%s: %s", command, err)
	}
	advice := pe.Remedy()
	if advice == "" {
		advice = "see: catflap help netem"
	}
	return &remedy.UsageError{Msg: command + ": " + pe.Problem(), Remedy: advice}
}

// direction takes in, out or both, if it is there.
func direction(w *words.Words) string {
	if w.More() {
		if _, ok := impair.ParseDirections(w.Rest[0]); ok {
			return w.Next()
		}
	}
	return "both"
}

func netemSet(ctx context.Context, e *env, w *words.Words) error {
	dir := direction(w)
	if !w.More() {
		return w.Errorf("want settings such as loss 10%% delay 20ms; to end them: catflap netem clear")
	}
	spec, err := impair.Parse(strings.Join(w.Rest, " "))
	if err != nil {
		return netemUsage(w.Command, err)
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	return cl.SetNetem(ctx, dir, spec)
}

func netemAdd(ctx context.Context, e *env, w *words.Words) error {
	rule, err := impair.ParseRule(strings.Join(w.Rest, " "))
	if err != nil {
		return netemUsage(w.Command, err)
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	id, err := cl.AddNetemRule(ctx, rule)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(map[string]any{"id": id, "rule": rule})
	}
	_, err = fmt.Fprintf(e.stdout, "%d: %s\n", id, rule)
	return err
}

func netemDel(ctx context.Context, e *env, w *words.Words) error {
	s, err := w.Value(w.Command, "the number of a rule, as catflap netem show has it")
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(s)
	if err != nil || id < 1 {
		return w.Bad("rule", s, "its number, as catflap netem show has it")
	}
	if err := w.End("nothing after the number"); err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	return cl.DelNetemRule(ctx, id)
}

func netemClear(ctx context.Context, e *env, w *words.Words) error {
	dir := direction(w)
	if err := w.End("in, out or both"); err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	return cl.ClearNetem(ctx, dir)
}

func netemShow(ctx context.Context, e *env, w *words.Words) error {
	dirs, _ := impair.ParseDirections(direction(w))
	if err := w.End("in, out or both"); err != nil {
		return err
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	n, err := cl.Netem(ctx)
	if err != nil {
		return fmt.Errorf("netem: %w", err)
	}
	if e.json {
		return e.printJSON(n)
	}
	for _, d := range dirs {
		if err := printNetem(e, &n, d); err != nil {
			return err
		}
	}
	if len(n.Rules) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	for _, r := range n.Rules {
		fmt.Fprintf(t, "%d:\t%s\tmatched %d\tapplied %d\n", r.ID, r.Rule, r.Matched, r.Applied)
	}
	return t.Flush()
}

// printNetem prints one direction: its settings, and what was done so far. Counts that are zero are left out.
func printNetem(e *env, n *control.Netem, d impair.Direction) error {
	s := n.Stats.In
	if d == impair.Out {
		s = n.Stats.Out
	}
	settings := n.Spec(d).String()
	if settings == "" {
		settings = "no settings"
	}
	var done []string
	for _, c := range []struct {
		name  string
		count uint64
	}{
		{"lost", s.Lost}, {"over limit", s.OverLimit}, {"lost by rules", s.Faulted}, {"caught by checksum", s.Caught},
		{"delayed", s.Delayed}, {"duplicated", s.Duplicated}, {"corrupted", s.Corrupted}, {"reordered", s.Reordered},
		{"faults", s.Faults}, {"answered", s.Answered}, {"refused", s.Refused}, {"super-packets cut", s.Cut},
	} {
		if c.count > 0 {
			done = append(done, fmt.Sprintf("%s %d", c.name, c.count))
		}
	}
	if len(done) == 0 {
		done = []string{"nothing done"}
	}
	_, err := fmt.Fprintf(e.stdout, "%s: %s\n  seen %d packets %d bytes, passed %d packets %d bytes, queued %d\n  %s\n",
		d, settings, s.Packets, s.Bytes, s.Passed, s.PassedBytes, s.Queued, strings.Join(done, ", "))
	return err
}

// netemFlags are the flags of run, serve and get that impair the link from the start.
type netemFlags struct {
	settings       []string
	record, replay string
}

func (f *netemFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringArrayVar(&f.settings, "netem", nil, "impair the link: `SETTINGS`, or a rule, as catflap netem takes them; may be given several times")
	fs.StringVar(&f.record, "record", "", "write what is done to each packet to `FILE`")
	fs.StringVar(&f.replay, "replay", "", "do to each packet what the recording in `FILE` says")
}

func (f *netemFlags) parse() (n instance.Netem, err error) {
	n.Record = f.record
	for _, text := range f.settings {
		s, err := impair.ParseSetting(text)
		if err != nil {
			return n, netemUsage("--netem", err)
		}
		n.Settings = append(n.Settings, s)
	}
	if f.replay != "" {
		if len(f.settings) > 0 {
			return n, remedy.Usagef("--replay: a recording says all that is done; leave --netem out")
		}
		r, err := os.Open(f.replay)
		if err != nil {
			return n, fmt.Errorf("--replay: %w", err)
		}
		defer r.Close()
		if n.Replay, err = impair.ReadRecording(r); err != nil {
			return n, fmt.Errorf("--replay %s: %w", f.replay, err)
		}
	}
	return n, nil
}
