package impair

import (
	"math/rand/v2"
	"strings"
)

// LossModel says which packets are lost: RandomLoss, StateLoss or GELoss.
type LossModel interface {
	// String is the model in tc's words, without "loss".
	String() string

	check(*checker)
	process(*rand.PCG) lossProcess
}

// lossProcess decides packet by packet.
type lossProcess interface{ lost() bool }

// RandomLoss loses each packet with a probability.
type RandomLoss Chance

func (l RandomLoss) String() string {
	s := formatPercent(l.Percent)
	if l.Correlation != 0 {
		s += " " + formatPercent(l.Correlation)
	}
	return s
}

func (l RandomLoss) check(c *checker) { c.chance("loss", Chance(l)) }

func (l RandomLoss) process(pcg *rand.PCG) lossProcess {
	return &randomProcess{newChance(Chance(l), pcg)}
}

type randomProcess struct{ chance }

func (p *randomProcess) lost() bool { return p.happens() }

// StateLoss is netem's Markov chain of four states, one step a packet. State 1: received in a gap between
// bursts. State 2: received within a burst. State 3: lost within a burst. State 4: lost alone, in a gap.
// Pij is the probability of the step from i to j; from 4 the chain always returns to 1.
type StateLoss struct{ P13, P31, P32, P23, P14 Percent }

func (l StateLoss) String() string { return "state " + joinPercents(l.P13, l.P31, l.P32, l.P23, l.P14) }

func joinPercents(ps ...Percent) string {
	var w []string
	for _, p := range ps {
		w = append(w, formatPercent(p))
	}
	return strings.Join(w, " ")
}

func (l StateLoss) check(c *checker) {
	c.percent("loss state P13", l.P13)
	c.percent("loss state P31", l.P31)
	c.percent("loss state P32", l.P32)
	c.percent("loss state P23", l.P23)
	c.percent("loss state P14", l.P14)
	c.check(l.P13+l.P14 <= 100, "loss state P13+P14", formatPercent(l.P13+l.P14), "want at most 100%")
	c.check(l.P31+l.P32 <= 100, "loss state P31+P32", formatPercent(l.P31+l.P32), "want at most 100%")
}

func (l StateLoss) process(pcg *rand.PCG) lossProcess {
	return &stateProcess{
		p13: share(l.P13), p31: share(l.P31), p32: share(l.P32), p23: share(l.P23), p14: share(l.P14),
		numbers: uniform{pcg}, state: receivedInGap,
	}
}

type markovState uint8

const (
	receivedInGap   markovState = 1
	receivedInBurst markovState = 2
	lostInBurst     markovState = 3
	lostInGap       markovState = 4
)

type stateProcess struct {
	p13, p31, p32, p23, p14 uint64 // in 2^-32
	numbers                 uniform
	state                   markovState
}

func (p *stateProcess) lost() bool {
	n := uint64(p.numbers.next())
	switch p.state {
	case receivedInGap:
		switch {
		case n < p.p14:
			p.state = lostInGap
		case n < p.p14+p.p13:
			p.state = lostInBurst
		}
	case receivedInBurst:
		if n < p.p23 {
			p.state = lostInBurst
		}
	case lostInBurst:
		switch {
		case n < p.p32:
			p.state = receivedInBurst
		case n < p.p32+p.p31:
			p.state = receivedInGap
		}
	case lostInGap:
		p.state = receivedInGap
	}
	return p.state == lostInBurst || p.state == lostInGap
}

// GELoss is the model of Gilbert and Elliott: a good and a bad state, each with a probability of loss.
type GELoss struct {
	P    Percent // of the step from good to bad
	R    Percent // of the step from bad to good
	Bad  Percent // of loss in the bad state: 1-h in the literature and for tc
	Good Percent // of loss in the good state: 1-k
}

func (l GELoss) String() string { return "gemodel " + joinPercents(l.P, l.R, l.Bad, l.Good) }

func (l GELoss) check(c *checker) {
	c.percent("loss gemodel P", l.P)
	c.percent("loss gemodel R", l.R)
	c.percent("loss gemodel 1-H", l.Bad)
	c.percent("loss gemodel 1-K", l.Good)
}

func (l GELoss) process(pcg *rand.PCG) lossProcess {
	return &geProcess{model: [2]geState{{share(l.P), share(l.Good)}, {share(l.R), share(l.Bad)}}, numbers: uniform{pcg}}
}

type geState struct{ leave, lose uint64 } // probabilities in 2^-32

type geProcess struct {
	model   [2]geState // good, bad
	state   int
	numbers uniform
}

// lost takes the step to the next state, and decides by the state that it left, as netem does.
func (p *geProcess) lost() bool {
	s := p.model[p.state]
	if uint64(p.numbers.next()) < s.leave {
		p.state ^= 1
	}
	return uint64(p.numbers.next()) < s.lose
}
