package main

import (
	"math"
	"slices"
	"testing"
)

func TestSummarize(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want summary
	}{
		{nil, summary{}},
		{[]float64{3}, summary{3, 3, 3}},
		{[]float64{9, 1, 5}, summary{5, 1, 9}},
		{[]float64{4, 1, 2, 9}, summary{3, 1, 9}},
		{[]float64{math.NaN(), 2, math.Inf(1)}, summary{2, 2, 2}},
	} {
		in := slices.Clone(c.in)
		if got := summarize(c.in); got != c.want {
			t.Errorf("summarize(%v) = %+v, want %+v", c.in, got, c.want)
		}
		if len(in) > 0 && !math.IsNaN(in[0]) && !slices.Equal(in, c.in) {
			t.Errorf("summarize changed its argument from %v to %v", in, c.in)
		}
	}
}

func TestRatiosPairRounds(t *testing.T) {
	nan := math.NaN()
	got := ratios([]float64{1, 2, nan, 4, 5}, []float64{2, nan, 3, 0, 10})
	if want := []float64{0.5, 0.5}; !slices.Equal(got, want) {
		t.Errorf("ratios = %v, want %v: only rounds that both have, and no division by zero", got, want)
	}
	// The median of ratios is not the ratio of medians; the first is what counts
	// when the machine's speed changes between rounds.
	kernel, other := []float64{10, 100, 1000}, []float64{6, 50, 900}
	if m := summarize(ratios(other, kernel)).Median; m != 0.6 {
		t.Errorf("median of ratios = %v, want 0.6", m)
	}
}

func TestRotateIsFair(t *testing.T) {
	const n = 5
	first := map[int]int{}
	for round := range n {
		order := rotate(n, round)
		first[order[0]]++
		seen := slices.Sorted(slices.Values(order))
		if !slices.Equal(seen, []int{0, 1, 2, 3, 4}) {
			t.Errorf("round %d: order %v: want each contestant once", round, order)
		}
	}
	for i := range n {
		if first[i] != 1 {
			t.Errorf("contestant %d was first %d times in %d rounds, want once", i, first[i], n)
		}
	}
}
