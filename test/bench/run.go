//go:build linux

package main

import (
	"context"
	"time"
)

// plan is what a run is to do.
type plan struct {
	stages           []stage
	contestants      []*contestant
	rounds           int
	warmup, duration time.Duration
	profile          profileArgs
	files            int // that a process may have open
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
			c := contest{runner: r, stage: st, measure: m, sites: make([]*site, len(st.contestants)), out: make([]bool, len(st.contestants))}
			if err := c.run(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
