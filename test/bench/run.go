//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// plan is what a run is to do.
type plan struct {
	stages           []stage
	contestants      []*contestant
	rounds           int
	warmup, duration time.Duration
	profile          profileArgs
}

// stage is measures in one setting.
type stage struct {
	set         setting
	measures    []measure
	contestants []*contestant
}

// runner carries a plan out.
type runner struct {
	plan
	progress *progress
	report   *report
}

func (p plan) samples() (n int) {
	for _, st := range p.stages {
		for _, m := range st.measures {
			n += len(st.contestants) * p.roundsOf(m)
		}
	}
	return n
}

func (p plan) roundsOf(m measure) int {
	if m.rounds != 0 {
		return min(m.rounds, p.rounds)
	}
	return p.rounds
}

func (p plan) durationOf(m measure) time.Duration {
	if m.duration != 0 {
		return m.duration
	}
	return p.duration
}

// run measures until the plan is done or ctx ends; what it has is in r.report.
func (r *runner) run(ctx context.Context) error {
	for _, st := range r.stages {
		for _, m := range st.measures {
			if err := r.measure(ctx, st, m); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure takes the samples of one measure. All contestants run all the time, and
// take turns.
func (r *runner) measure(ctx context.Context, st stage, m measure) error {
	sites := make([]*site, len(st.contestants))
	gone := make([]bool, len(sites))
	defer func() {
		for _, s := range sites {
			if s != nil {
				s.close()
			}
		}
	}()
	miss := func(i, round int, err error) {
		skipped := errors.Is(err, errNotInstalled)
		gone[i] = round == 0
		r.report.Missing = append(r.report.Missing, missing{
			Setting: st.set, Measure: m.name, Contestant: st.contestants[i].name, Round: round, Why: err.Error(), Failed: !skipped,
		})
		if !skipped {
			r.progress.note(fmt.Sprintf("%s: %s: %v", st.contestants[i].name, m.name, err))
		}
		if sites[i] != nil {
			sites[i].close()
			sites[i] = nil
		}
	}
	var rounds []round
	for n := range r.roundsOf(m) {
		samples := round{}
		rounds = append(rounds, samples)
		for _, i := range rotate(len(sites), n) {
			c := st.contestants[i]
			r.progress.step(fmt.Sprintf("%s: %s, round %d of %d: %s", st.set, m.name, n+1, r.roundsOf(m), c.name))
			if gone[i] {
				continue
			}
			if why, ok := c.skip[m.family]; ok {
				gone[i] = true
				r.report.Missing = append(r.report.Missing, missing{Setting: st.set, Measure: m.name, Contestant: c.name, Why: why})
				continue
			}
			if sites[i] == nil {
				var err error
				if sites[i], err = startSite(ctx, c, st.set); err == nil && c.catflap() {
					err = sites[i].server.call(ctx, "profile", r.profile, nil)
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					miss(i, 0, err)
					continue
				}
			}
			s, err := r.sample(ctx, sites[i], m)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				miss(i, n+1, err)
				continue
			}
			samples[c.name] = s
			if k := m.metrics[0]; len(s) > 0 {
				r.progress.note(fmt.Sprintf("%-12s %-12s %s %s", m.name, c.name, human(s[k.Key]), k.Unit))
			}
			if m.family == familyIdle { // the next round starts with a fresh heap
				sites[i].close()
				sites[i] = nil
			}
		}
	}
	if r.profile != (profileArgs{}) {
		for _, s := range sites {
			if s != nil && s.contestant.catflap() {
				if err := s.server.call(ctx, "profile", profileArgs{}, nil); err != nil {
					return err
				}
			}
		}
	}
	var names []string
	for _, c := range st.contestants {
		names = append(names, c.name)
	}
	r.report.Results = append(r.report.Results, makeResult(st.set, m, names, onKernel, rounds))
	return nil
}

// sampleGrace is how long a measurement may take beyond its own time: the slowest,
// 50,000 connections, takes seconds.
const sampleGrace = time.Minute

func (r *runner) sample(ctx context.Context, s *site, m measure) (sample, error) {
	l := load{
		Kind: m.load, N: m.n, Target: s.target, Sources: s.sources, Warmup: r.warmup, Duration: r.durationOf(m), Pids: s.pids(), Dev: s.dev,
	}
	limit := l.Warmup + l.Duration + sampleGrace
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer for %v", limit))
	defer cancel()
	switch m.family {
	case familyOpen:
		return s.measureOpen(ctx, l)
	case familyIdle:
		return s.measureIdle(ctx, l, m.name == "idle-http")
	case familyCalls:
		return s.measureCalls(ctx, l)
	}
	return s.measureRate(ctx, l)
}

func (s *site) measureRate(ctx context.Context, l load) (sample, error) {
	var before, after usage
	var x sample
	err := inOrder(
		func() error { return s.server.call(ctx, "usage", usageArgs{}, &before) },
		func() error { return s.client.call(ctx, "load", l, &x) },
		func() error { return s.server.call(ctx, "usage", usageArgs{}, &after) },
	)
	if err != nil {
		return nil, err
	}
	// Both of the whole load, with its warm-up.
	unit, n := "/op", x["ops"]
	if l.Kind == loadDown || l.Kind == loadUp {
		unit, n = "/packet", x["packets"]
	}
	if n > 0 {
		x["allocs"+unit] = float64(after.Allocs-before.Allocs) / n
		if after.Calls > 0 {
			x["rw-calls"+unit] = float64(after.Calls-before.Calls) / n
		}
	}
	return x, nil
}

// openTime bounds the opening of a number of connections.
const openTime = 50 * time.Second

func (s *site) measureOpen(ctx context.Context, l load) (x sample, err error) {
	l.Port, l.Duration = portHold, openTime
	return x, inOrder(
		func() error { return s.client.call(ctx, "load", l, &x) },
		func() error { return s.release(ctx) },
	)
}

// release closes the connections that client and server keep open.
func (s *site) release(ctx context.Context) error {
	return inOrder(
		func() error { return s.client.call(ctx, "release", nil, nil) },
		func() error { return s.server.call(ctx, "release", nil, nil) },
	)
}

func (s *site) measureIdle(ctx context.Context, l load, http bool) (sample, error) {
	if l.Port = portHold; http {
		l.Port, l.Request = portHTTP, true
	}
	l.Duration = openTime
	x := sample{}
	var base usage
	if err := s.server.call(ctx, "usage", usageArgs{Collect: true}, &base); err != nil {
		return nil, err
	}
	open := 0
	for _, n := range idleSteps {
		l.N = n - open
		var opened sample
		if err := s.client.call(ctx, "load", l, &opened); err != nil {
			return nil, err
		}
		u, err := s.usageOf(ctx, n, http)
		if err != nil {
			return nil, err
		}
		per := func(now, then uint64) float64 { return (float64(now) - float64(then)) / float64(n) }
		x[fmt.Sprintf("live@%d", n)] = per(u.Live, base.Live)
		x[fmt.Sprintf("rss@%d", n)] = per(u.RSS, base.RSS)
		x[fmt.Sprintf("slab@%d", n)] = per(u.Slab, base.Slab)
		if open == 0 {
			x["first"] = opened["first"]
		}
		x["last"] = opened["last"]
		open = n
	}
	x["last/first"] = x["last"] / x["first"]
	return x, s.release(ctx)
}

// usageOf waits until the server has accepted n connections, and returns what it
// then uses.
func (s *site) usageOf(ctx context.Context, n int, http bool) (u usage, err error) {
	for {
		if err = s.server.call(ctx, "usage", usageArgs{Collect: true}, &u); err != nil || http || u.Held >= int64(n) {
			return u, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// progress tells on stderr what is going on, and how much is left.
type progress struct {
	total, done int
	began       time.Time
	terminal    bool
}

func newProgress(total int) *progress {
	fi, err := os.Stderr.Stat()
	return &progress{total: total, began: time.Now(), terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

// step begins the next sample.
func (p *progress) step(what string) {
	if p.terminal {
		left := ""
		if p.done > 0 {
			d := time.Since(p.began) / time.Duration(p.done) * time.Duration(p.total-p.done)
			left = fmt.Sprintf(", %v left", d.Round(time.Second))
		}
		fmt.Fprintf(os.Stderr, "\r\x1b[K[%d/%d%s] %s", p.done+1, p.total, left, what)
	}
	p.done++
}

// note tells what came out.
func (p *progress) note(text string) {
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s\n", text)
		return
	}
	fmt.Fprintf(os.Stderr, "[%d/%d %v] %s\n", p.done, p.total, time.Since(p.began).Round(time.Second), text)
}

// end clears the line of the terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
