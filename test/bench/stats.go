package main

import (
	"math"
	"slices"
)

// summary is what a series of measurements comes to.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize returns the zero summary of no values. Values that are no numbers are
// passed over.
func summarize(values []float64) summary {
	v := slices.DeleteFunc(slices.Clone(values), func(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) })
	if len(v) == 0 {
		return summary{}
	}
	slices.Sort(v)
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (v[len(v)/2-1] + m) / 2
	}
	return summary{Median: m, Min: v[0], Max: v[len(v)-1]}
}

// ratios divides two series of the same rounds, round by round. A round that
// either of them lacks (NaN), or in which the base is zero, has none.
func ratios(values, base []float64) []float64 {
	var r []float64
	for i := range min(len(values), len(base)) {
		if q := values[i] / base[i]; !math.IsNaN(q) && !math.IsInf(q, 0) {
			r = append(r, q)
		}
	}
	return r
}

// rotate returns the order of n contestants in a round: each goes first in turn,
// so that none always follows the same neighbour's heat.
func rotate(n, round int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = (i + round) % n
	}
	return order
}
