package impair

import (
	"math"
	"testing"
)

// chain is a Markov chain: steps between states, and the probability of loss in each.
type chain struct {
	step [][]float64
	loss []float64
}

// stationary returns how often the chain is in each state, by iteration.
func (c chain) stationary() []float64 {
	p := make([]float64, len(c.step))
	p[0] = 1
	for range 5_000 {
		next := make([]float64, len(p))
		for i := range p {
			for j := range p {
				next[j] += p[i] * c.step[i][j]
			}
		}
		// Halfway, so that a chain that alternates settles too.
		for i := range p {
			p[i] = (p[i] + next[i]) / 2
		}
	}
	return p
}

// rates returns how often a packet is lost, and how often one and the next.
func (c chain) rates() (one, two float64) {
	p := c.stationary()
	for i := range p {
		one += p[i] * c.loss[i]
		for j := range p {
			two += p[i] * c.loss[i] * c.step[i][j] * c.loss[j]
		}
	}
	return one, two
}

// stateChain is tc-netem(8)'s: 1 and 2 receive, 3 and 4 lose.
func stateChain(l StateLoss) chain {
	f := func(p Percent) float64 { return float64(p) / 100 }
	return chain{
		step: [][]float64{
			{1 - f(l.P13) - f(l.P14), 0, f(l.P13), f(l.P14)},
			{0, 1 - f(l.P23), f(l.P23), 0},
			{f(l.P31), f(l.P32), 1 - f(l.P31) - f(l.P32), 0},
			{1, 0, 0, 0},
		},
		loss: []float64{0, 0, 1, 1},
	}
}

func geChain(l GELoss) chain {
	f := func(p Percent) float64 { return float64(p) / 100 }
	return chain{
		step: [][]float64{{1 - f(l.P), f(l.P)}, {f(l.R), 1 - f(l.R)}},
		loss: []float64{f(l.Good), f(l.Bad)},
	}
}

// TestLossModels holds how much is lost, and how much of it in a row, against the models' formulas.
func TestLossModels(t *testing.T) {
	const n = 200_000
	independent := func(p float64) chain { return chain{[][]float64{{1}}, []float64{p}} }
	for _, tt := range []struct {
		text string
		chain
	}{
		{"loss 10%", independent(0.1)},
		{"loss 0.1%", independent(0.001)},
		{"loss 99.9%", independent(0.999)},
		{"loss 100%", independent(1)},
		{"loss 0%", independent(0)},
		{"loss 30% 50%", chain{}}, // see below
		{"loss state 5%", independent(0.05)},
		{"loss state 100%", independent(1)},
		{"loss state 5% 40%", stateChain(StateLoss{5, 40, 0, 100, 0})},
		{"loss state 5% 20% 30% 40%", stateChain(StateLoss{5, 20, 30, 40, 0})},
		{"loss state 2% 30% 10% 50% 3%", stateChain(StateLoss{2, 30, 10, 50, 3})},
		{"loss state 0% 0% 0% 0% 10%", stateChain(StateLoss{0, 0, 0, 0, 10})},
		{"loss gemodel 5%", independent(0.05)},
		{"loss gemodel 2% 20%", geChain(GELoss{2, 20, 100, 0})},
		{"loss gemodel 2% 20% 70%", geChain(GELoss{2, 20, 70, 0})},
		{"loss gemodel 2% 20% 70% 1%", geChain(GELoss{2, 20, 70, 1})},
	} {
		spec, err := Parse(tt.text)
		if err != nil {
			t.Fatal(err)
		}
		spec.Seed = 7
		d := newDice(&spec, Out, false)
		var one, two float64
		before := false
		for range n {
			lost := d.roll(&spec, 100).lost
			if lost {
				one++
				if before {
					two++
				}
			}
			before = lost
		}
		if tt.step == nil {
			want := correlatedCDF(0.5)(0.3)
			if got := one / n; math.Abs(got-want) > 0.005 {
				t.Errorf("%s: %.4f are lost, want %.4f", tt.text, got, want)
			}
			continue
		}
		wantOne, wantTwo := tt.rates()
		// Losses in bursts count for fewer: a burst of the longest model here has some five packets.
		within := func(p float64) float64 { return 5*math.Sqrt(p*(1-p)*10/n) + 3/float64(n) }
		if got := one / n; math.Abs(got-wantOne) > within(wantOne) {
			t.Errorf("%s: %.5f are lost, want %.5f ± %.5f", tt.text, got, wantOne, within(wantOne))
		}
		if got := two / n; math.Abs(got-wantTwo) > within(wantTwo) {
			t.Errorf("%s: %.5f are lost with the one before, want %.5f ± %.5f", tt.text, got, wantTwo, within(wantTwo))
		}
	}
}
