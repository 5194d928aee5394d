package impair

import (
	"math"
	"math/rand/v2"

	"github.com/catflap/catflap/internal/random"
)

// A cause is something with a random sequence of its own.
type cause uint64

const (
	causeLoss cause = iota + 1
	causeDuplicate
	causeCorrupt
	causeCorruptBit
	causeReorder
	causeDelay
	causeSlot
	causeRule
)

// newStream is the sequence of one cause in one direction: of the packets that come, or of the copies that
// duplication makes of them.
func newStream(seed uint64, dir Direction, copies bool, c cause) *rand.PCG {
	stream := uint64(dir)<<16 | uint64(c)
	if copies {
		stream |= 1 << 32
	}
	return random.NewStream(seed, stream)
}

// uniform is a sequence of 32-bit numbers, each as likely as any other.
type uniform struct{ pcg *rand.PCG }

func (u uniform) next() uint32 { return uint32(u.pcg.Uint64() >> 32) }

// below returns a number below n.
func (u uniform) below(n int) int { return int(uint64(u.next()) * uint64(n) >> 32) }

// correlated is netem's correlated random numbers: each is the weighted mean of the one before and a new
// uniform one. So they crowd towards the middle as the correlation grows, and a chance of less than one half
// happens more seldom than its percentage says, as tc-netem(8) warns.
type correlated struct {
	uniform
	rho  uint64 // weight of the number before, in 2^-32; if 0, none
	last uint32
}

func newCorrelated(pcg *rand.PCG, correlation Percent) correlated {
	c := correlated{uniform: uniform{pcg}}
	if rho := scale32(correlation); rho != 0 {
		c.rho = uint64(rho) + 1
	}
	c.last = c.uniform.next()
	return c
}

func (c *correlated) next() uint32 {
	v := c.uniform.next()
	if c.rho == 0 {
		return v
	}
	if c.rho < 1<<32 {
		// The sum of both weights is 2^32, so this does not overflow.
		c.last = uint32((uint64(v)*(1<<32-c.rho) + uint64(c.last)*c.rho) >> 32)
	}
	return c.last
}

// scale32 is a percentage as netem has it: a 32-bit number, 100 % being the largest.
func scale32(p Percent) uint32 { return uint32(math.RoundToEven(float64(p) / 100 * math.MaxUint32)) }

// share is how many of the 2^32 numbers make up a percentage.
func share(p Percent) uint64 { return uint64(math.Round(float64(p) / 100 * (1 << 32))) }

// chance is a Chance and its sequence.
type chance struct {
	threshold uint32
	numbers   correlated
}

func newChance(c Chance, pcg *rand.PCG) chance {
	return chance{scale32(c.Percent), newCorrelated(pcg, c.Correlation)}
}

// happens draws the next number.
func (c *chance) happens() bool { return c.threshold != 0 && c.numbers.next() <= c.threshold }

// Distribution is how jitter is distributed about the delay.
type Distribution uint8

// Distributions. Jitter is multiplied by a number that is distributed as these say, cut off at ±4.
const (
	Uniform      Distribution = iota // evenly from -1 to 1
	Normal                           // mean 0, standard deviation 1
	Pareto                           // with shape 3, moved to mean 0, and stretched by 4/3 as netem's table is
	ParetoNormal                     // a quarter of Normal and three quarters of Pareto, quantile by quantile
)

func (d Distribution) String() string {
	switch d {
	case Uniform:
		return "uniform"
	case Normal:
		return "normal"
	case Pareto:
		return "pareto"
	case ParetoNormal:
		return "paretonormal"
	}
	return "unknown"
}

// quantileLimit is where netem's tables end: they hold 16-bit numbers in units of 1/8192.
const quantileLimit = 32767.0 / 8192

// quantile is the inverse of the distribution function, for u from 0 to 1 exclusive.
func (d Distribution) quantile(u float64) float64 {
	switch d {
	case Normal:
		z := math.Sqrt2 * math.Erfinv(2*u-1)
		return max(-quantileLimit, min(quantileLimit, z))
	case Pareto:
		const shape = 3
		const mean = float64(shape) / (shape - 1)
		return min(quantileLimit, (math.Pow(1-u, -1.0/shape)-mean)*4/3)
	case ParetoNormal:
		return (Normal.quantile(u) + 3*Pareto.quantile(u)) / 4
	default:
		return 2*u - 1
	}
}

// unit turns a 32-bit number into one between 0 and 1 exclusive.
func unit32(n uint32) float64 { return (float64(n) + 0.5) / (1 << 32) }
