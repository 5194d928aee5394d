//go:build linux

// Command bench measures catflap beside the kernel's own TCP/IP stack: the same
// server, the same client, in network namespaces that it makes and that vanish with
// it, contestant after contestant in every round. What counts is the ratio within a
// round; absolute figures are those of the machine and of the minute.
//
//	go run ./test/bench -quick
//	go run ./test/bench -list
//	go run ./test/bench -contestants kernel,offload -measures bulk,http-16 -rounds 9
//	go run ./test/bench -contestants offload -measures http-16 -cpuprofile cpu.out
//
// It needs root, for the namespaces.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == agentArg {
		runAgent()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status, err := bench(ctx, os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
	}
	os.Exit(status)
}

// Exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// options are the command line.
type options struct {
	quick, list                   bool
	contestants, measures         string
	mtus, families, queues        string
	congestion                    string
	rounds                        int
	warmup, duration              time.Duration
	json, svg, cpuProfile, tracef string
}

// Durations and rounds: the quick run is to stay below three minutes with three
// contestants, and five rounds are the least that make a median of ratios.
const (
	fullDuration, fullWarmup   = time.Second, 300 * time.Millisecond
	quickDuration, quickWarmup = 800 * time.Millisecond, 200 * time.Millisecond
	defaultRounds              = 5
)

func parseOptions(args []string) (o options, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "the main ratios of kernel, offload and water, in under 3 minutes")
	f.BoolVar(&o.list, "list", false, "list contestants and measures")
	f.StringVar(&o.contestants, "contestants", "", "`NAMES` of contestants, separated by commas (default all; quick: kernel,offload,water)")
	f.StringVar(&o.measures, "measures", "", "`NAMES` of measures, separated by commas; \"http\" is all that begin with http-")
	f.StringVar(&o.mtus, "mtu", "", "MTUs in `BYTES`, separated by commas; the first with everything, the others one at a time (default 1500,9000; quick: 1500)")
	f.StringVar(&o.families, "family", "", "IP `VERSIONS`, likewise (default 4,6; quick: 4)")
	f.StringVar(&o.queues, "queues", "", "`NUMBERS` of TUN queues, likewise (default 1,2,4; quick: 1)")
	f.StringVar(&o.congestion, "congestion", "", "congestion controls of the kernel, `NAMES`, likewise, for bulk data (default default,cubic; quick: default)")
	f.IntVar(&o.rounds, "rounds", defaultRounds, "`NUMBER` of rounds")
	f.DurationVar(&o.duration, "duration", 0, fmt.Sprintf("`TIME` of one measurement (default %v; quick: %v)", fullDuration, quickDuration))
	f.DurationVar(&o.warmup, "warmup", 0, fmt.Sprintf("`TIME` before it (default %v; quick: %v)", fullWarmup, quickWarmup))
	f.StringVar(&o.json, "json", "", "write the results to `FILE`")
	f.StringVar(&o.svg, "svg", "", "write a plot of the main ratios to `FILE`")
	f.StringVar(&o.cpuProfile, "cpuprofile", "", "write a CPU profile of catflap's process to `FILE`; for one measure and one catflap contestant")
	f.StringVar(&o.tracef, "trace", "", "write an execution trace of catflap's process to `FILE`, likewise")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	def := func(p *string, full, quick string) {
		if *p == "" {
			if *p = full; o.quick {
				*p = quick
			}
		}
	}
	def(&o.contestants, "kernel,offload,watched,water,pair,egress,forward,slirp4netns,pasta", "kernel,offload,water")
	def(&o.mtus, "1500,9000", "1500")
	def(&o.families, "4,6", "4")
	def(&o.queues, "1,2,4", "1")
	def(&o.congestion, "default,cubic", "default")
	if o.duration == 0 {
		if o.duration = fullDuration; o.quick {
			o.duration = quickDuration
		}
	}
	if o.warmup == 0 {
		if o.warmup = fullWarmup; o.quick {
			o.warmup = quickWarmup
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1:
		return o, fmt.Errorf("-rounds %d: want 1 or more", o.rounds)
	case o.duration < 100*time.Millisecond || o.duration > time.Hour:
		return o, fmt.Errorf("-duration %v: want 100ms to 1h", o.duration)
	case o.warmup < 0 || o.warmup > time.Minute:
		return o, fmt.Errorf("-warmup %v: want 0 to 1m", o.warmup)
	}
	return o, nil
}

// makePlan checks the options, and says what to do.
func makePlan(o options) (p plan, err error) {
	p = plan{rounds: o.rounds, warmup: o.warmup, duration: o.duration}
	for name := range strings.SplitSeq(o.contestants, ",") {
		i := slices.IndexFunc(contestants, func(c *contestant) bool { return c.name == name })
		if i < 0 {
			return p, fmt.Errorf("-contestants: there is no %q; -list shows them", name)
		}
		p.contestants = append(p.contestants, contestants[i])
	}
	all := measures()
	quick := slices.DeleteFunc(slices.Clone(all), func(m measure) bool { return !m.quick })
	base, varied := all, slices.DeleteFunc(slices.Clone(all), func(m measure) bool { return !m.varied })
	if o.quick {
		base, varied = quick, quick
	}
	if o.measures != "" {
		if base, err = pickMeasures(all, o.measures); err != nil {
			return p, err
		}
		varied = base
	}
	mtus, err := parseInts("mtu", o.mtus, 1280, 65521) // IPv6 needs the first; the second is slirp4netns's most
	if err != nil {
		return p, err
	}
	families, err := parseInts("family", o.families, 4, 6)
	if err != nil {
		return p, err
	}
	if slices.Contains(families, 5) {
		return p, errors.New("-family: want 4 or 6")
	}
	queues, err := parseInts("queues", o.queues, 1, 4)
	if err != nil {
		return p, err
	}
	var congestions []string
	for name := range strings.SplitSeq(o.congestion, ",") {
		if name == "default" || name == congestionControl() {
			name = ""
		}
		if !slices.Contains(congestions, name) {
			congestions = append(congestions, name)
		}
	}
	first := setting{MTU: mtus[0], Family: families[0], Queues: queues[0], Congestion: congestions[0]}
	p.stages = append(p.stages, stage{first, base, p.contestants})
	vary := func(change func(*setting), varied []measure, takesPart func(*contestant) bool) {
		set := first
		change(&set)
		// What listening costs does not depend on the setting.
		cs := slices.DeleteFunc(slices.Clone(p.contestants), func(c *contestant) bool { return !takesPart(c) || c.name == onWatched })
		p.stages = append(p.stages, stage{set, varied, cs})
	}
	two := func(c *contestant) bool { return c.name == onKernel || c.name == onOffload }
	for _, v := range mtus[1:] {
		vary(func(s *setting) { s.MTU = v }, varied, func(c *contestant) bool { return !c.relay() })
	}
	for _, v := range families[1:] {
		vary(func(s *setting) { s.Family = v }, varied, func(*contestant) bool { return true })
	}
	for _, v := range queues[1:] {
		vary(func(s *setting) { s.Queues = v }, varied, two)
	}
	bulk := slices.DeleteFunc(slices.Clone(base), func(m measure) bool { return !strings.HasPrefix(m.name, "bulk-") })
	for _, v := range congestions[1:] {
		vary(func(s *setting) { s.Congestion = v }, bulk, two)
	}
	p.profile = profileArgs{CPU: o.cpuProfile, Trace: o.tracef}
	if p.profile != (profileArgs{}) {
		n := len(slices.DeleteFunc(slices.Clone(p.contestants), func(c *contestant) bool { return !c.catflap() }))
		if n != 1 || len(p.stages) != 1 || len(base) != 1 {
			return p, errors.New("-cpuprofile and -trace want one catflap contestant, one measure and one setting: for example -contestants kernel,offload -measures http-16 -mtu 1500 -family 4 -queues 1")
		}
		for _, f := range []*string{&p.profile.CPU, &p.profile.Trace} {
			if *f != "" {
				if *f, err = filepath.Abs(*f); err != nil {
					return p, err
				}
			}
		}
	}
	return p, nil
}

func parseInts(flag, s string, least, most int) (v []int, err error) {
	for f := range strings.SplitSeq(s, ",") {
		n, err := strconv.Atoi(f)
		if err != nil || n < least || n > most {
			return nil, fmt.Errorf("-%s %q: want numbers from %d to %d, separated by commas", flag, s, least, most)
		}
		v = append(v, n)
	}
	return v, nil
}

func list(w io.Writer) {
	fmt.Fprintln(w, "contestants:")
	for _, c := range contestants {
		fmt.Fprintf(w, "  %-13s %s\n", c.name, c.what)
	}
	fmt.Fprintln(w, "measures (* in a quick run):")
	for _, m := range measures() {
		mark := ' '
		if m.quick {
			mark = '*'
		}
		fmt.Fprintf(w, "%c %-13s %s\n", mark, m.name, m.what)
	}
}

// bench is the whole program; it returns the exit status.
func bench(ctx context.Context, args []string, stdout io.Writer) (int, error) {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK, nil
	}
	if err != nil {
		return exitUsage, err
	}
	if o.list {
		list(stdout)
		return exitOK, nil
	}
	p, err := makePlan(o)
	if err != nil {
		return exitUsage, err
	}
	if os.Geteuid() != 0 {
		return exitFailure, errors.New("this needs root, to make network namespaces; try: sudo make bench-quick")
	}
	p.files = raiseFileLimit()
	rep := &report{
		Command: strings.Join(append([]string{"bench"}, args...), " "), Started: time.Now(), Machine: describeMachine(),
		Rounds: p.rounds, Warmup: p.warmup.String(), Duration: p.duration.String(), Contestants: map[string]string{},
	}
	var names []string
	for _, c := range p.contestants {
		rep.Contestants[c.name] = c.what
		names = append(names, c.name)
	}
	r := runner{plan: p, progress: newProgress(p.samples()), report: rep}
	runErr := r.run(ctx)
	r.progress.end()
	rep.Seconds = time.Since(rep.Started).Seconds()
	if errors.Is(runErr, context.Canceled) {
		runErr = errors.New("interrupted; what was measured until then is above")
	}
	err = errors.Join(writeTable(stdout, rep, names, onKernel), writeFile(o.json, func(w io.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(rep)
	}), writeFile(o.svg, func(w io.Writer) error { return writePlot(w, rep, names, onKernel) }), runErr)
	for _, m := range rep.Missing {
		if m.Failed {
			err = errors.Join(err, fmt.Errorf("%s: %s failed", m.Contestant, m.Measure))
		}
	}
	if err != nil {
		return exitFailure, err
	}
	return exitOK, nil
}

// writeFile writes a file if it has a name.
func writeFile(name string, write func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
