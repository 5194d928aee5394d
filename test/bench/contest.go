//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// contest is one measure in one setting. All contestants run all the time, and take
// turns.
type contest struct {
	*runner
	stage
	measure
	sites  []*site // nil: not running
	out    []bool  // takes no part any more
	rounds []round
}

// run takes the turns, and adds the result to the report, also if ctx ends before.
func (c *contest) run(ctx context.Context) error {
	defer func() {
		for _, s := range c.sites {
			if s != nil {
				s.close()
			}
		}
		var names []string
		for _, x := range c.contestants() {
			names = append(names, x.name)
		}
		c.report.Results = append(c.report.Results, makeResult(c.set, c.measure, names, onKernel, c.rounds))
	}()
	for n := range c.roundsOf(c.measure) {
		c.rounds = append(c.rounds, round{})
		for _, i := range rotate(len(c.sites), n) {
			c.turn(ctx, i, n)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return c.endProfile(ctx)
}

func (c *contest) contestants() []*contestant { return c.stage.contestants }

// turn is contestant i's in round n.
func (c *contest) turn(ctx context.Context, i, n int) {
	who := c.contestants()[i]
	c.progress.step(fmt.Sprintf("%s: %s, round %d of %d: %s", c.set, c.name, n+1, c.roundsOf(c.measure), who.name))
	if c.out[i] {
		return
	}
	if c.only != nil && !slices.Contains(c.only, who.name) {
		c.out[i] = true
		return
	}
	if why, ok := who.skip[c.family]; ok {
		c.out[i] = true
		c.report.Missing = append(c.report.Missing, missing{Setting: c.set, Measure: c.name, Contestant: who.name, Why: why})
		return
	}
	if err := c.start(ctx, i); err != nil {
		c.out[i] = true
		c.miss(ctx, i, 0, err)
		return
	}
	s, err := c.sample(ctx, c.sites[i])
	if err != nil {
		c.miss(ctx, i, n+1, err)
		return
	}
	c.rounds[n][who.name] = s
	first := c.metrics[0]
	c.progress.note(fmt.Sprintf("%-12s %-12s %s %s", c.name, who.name, human(s[first.Key]), first.Unit))
	if c.family == familyIdle { // the next round starts with a fresh heap
		c.stop(i)
	}
}

// start starts contestant i unless it runs.
func (c *contest) start(ctx context.Context, i int) (err error) {
	if c.sites[i] != nil {
		return nil
	}
	who := c.contestants()[i]
	if c.sites[i], err = startSite(ctx, who, c.set, c.files); err != nil || !who.catflap() {
		return err
	}
	return c.sites[i].stack().call(ctx, "profile", c.profile, nil)
}

func (c *contest) stop(i int) {
	if c.sites[i] != nil {
		c.sites[i].close()
		c.sites[i] = nil
	}
}

// miss notes why contestant i has no sample in a round, and lets it start afresh in
// the next one. The end of ctx is no contestant's failure, and what a relay cannot
// do, which is others' work, is a result and no failure of the run.
func (c *contest) miss(ctx context.Context, i, round int, err error) {
	c.stop(i)
	if ctx.Err() != nil {
		return
	}
	who := c.contestants()[i]
	c.report.Missing = append(c.report.Missing, missing{Setting: c.set, Measure: c.name, Contestant: who.name, Round: round, Why: err.Error(), Failed: !who.relay()})
	if !errors.Is(err, errNotInstalled) {
		c.progress.note(fmt.Sprintf("%-12s %-12s %v", c.name, who.name, err))
	}
}

func (c *contest) endProfile(ctx context.Context) error {
	if c.profile == (profileArgs{}) {
		return nil
	}
	for _, s := range c.sites {
		if s != nil && s.contestant.catflap() {
			return s.stack().call(ctx, "profile", profileArgs{}, nil)
		}
	}
	return nil
}

// sampleGrace is how long a measurement may take beyond its own time: the slowest,
// 50,000 connections, takes seconds.
const sampleGrace = time.Minute

func (c *contest) sample(ctx context.Context, s *site) (sample, error) {
	l := load{
		Kind: c.load, N: c.n, Target: s.target, Sources: s.sources, Warmup: c.warmup, Duration: c.durationOf(c.measure), Pids: s.pids(), Dev: s.dev, Awake: c.awake,
	}
	limit := l.Warmup + l.Duration + sampleGrace
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer for %v", limit))
	defer cancel()
	switch c.family {
	case familyOpen:
		return s.measureOpen(ctx, l)
	case familyIdle:
		return s.measureIdle(ctx, l, c.http)
	case familyCalls:
		return s.measureCalls(ctx, l)
	}
	return s.measureRate(ctx, l)
}
