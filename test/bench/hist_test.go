package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramBucketsAreContiguousAndNarrow(t *testing.T) {
	last := -1
	for v := uint64(0); v < 1<<20; v++ {
		i := histIndex(v)
		if i != last && i != last+1 {
			t.Fatalf("%d is in bucket %d, %d in bucket %d: want the same or the next", v-1, last, v, i)
		}
		last = i
		if m := histMiddle(i); math.Abs(float64(m)-float64(v)) > float64(v)/64 {
			t.Fatalf("%d is counted as %d: off by more than 1/64", v, m)
		}
	}
	if i := histIndex(math.MaxUint64); i != histBuckets-1 {
		t.Errorf("the largest value is in bucket %d, want the last, %d", i, histBuckets-1)
	}
}

func TestHistogramQuantilesAgreeWithSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var parts [3]histogram
	var all []time.Duration
	for i := range 10_000 {
		d := time.Duration(math.Exp(r.Float64()*16)) * time.Nanosecond
		parts[i%3].record(d)
		all = append(all, d)
	}
	var h histogram
	for i := range parts {
		h.merge(&parts[i])
	}
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		got := h.quantile(q)
		if diff := math.Abs(float64(got - want)); diff > float64(want)/64+1 {
			t.Errorf("quantile %v = %v, sorting gives %v", q, got, want)
		}
	}
}

func TestHistogramOfNothing(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("median of no samples = %v, want 0", got)
	}
	h.record(-time.Second)
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("a negative duration counts as %v, want 0", got)
	}
}
