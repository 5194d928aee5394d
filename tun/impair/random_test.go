package impair

import (
	"math"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Seeds are fixed, so these tests pass or fail always. Bounds are five standard deviations, or what the
// Kolmogorov-Smirnov statistic exceeds once in a million: another seed would pass as well.
//
// They hold the model against its formulas, not against a kernel: many kernels are built without sch_netem. Where
// one has it, the same can be looked at by hand, on a veth pair between two namespaces: "tc qdisc add dev veth0 root
// netem loss 10%", "ping -f -c 10000", "tc -s qdisc show dev veth0", beside "catflap run --netem 'out loss 10%'" with
// the same ping and "catflap netem show".

// ksBound is what the distance of the distribution of n samples from the true one exceeds once in a million times.
func ksBound(n int) float64 { return math.Sqrt(-math.Log(1e-6/2) / 2 / float64(n)) }

// ks is the largest distance between the distribution of samples, which are coarser than 1e-6, and cdf, which is
// steep nowhere but where it jumps.
func ks(samples []float64, cdf func(float64) float64) (d float64) {
	slices.Sort(samples)
	n := float64(len(samples))
	for i, x := range samples {
		if i+1 < len(samples) && samples[i+1] == x {
			continue // a step of several at once
		}
		first := i
		for first > 0 && samples[first-1] == x {
			first--
		}
		d = max(d, float64(i+1)/n-cdf(x), cdf(x-1e-5)-float64(first)/n)
	}
	return d
}

func normalCDF(x float64) float64 { return math.Erfc(-x/math.Sqrt2) / 2 }

// bisect returns the x between lo and hi at which an increasing function is y.
func bisect(f func(float64) float64, y, lo, hi float64) float64 {
	for range 60 {
		if mid := (lo + hi) / 2; f(mid) < y {
			lo = mid
		} else {
			hi = mid
		}
	}
	return (lo + hi) / 2
}

// netemLimit is the largest value of netem's tables: 16 bits in units of 1/8192.
const netemLimit = 32767.0 / 8192

// paretoCDF is that of (4/3)(X-3/2), X being Pareto with shape 3 and minimum 1, which netem's table holds.
func paretoCDF(x float64) float64 {
	if x < -2./3 {
		return 0
	}
	return 1 - math.Pow(x*3/4+1.5, -3)
}

// TestDistributions holds delays against the distribution functions.
func TestDistributions(t *testing.T) {
	const mean, jitter = 100 * ms, 10 * ms
	capped := func(cdf func(float64) float64) func(float64) float64 {
		return func(x float64) float64 {
			switch {
			case x >= netemLimit-1e-6:
				return 1
			case x < -netemLimit-1e-6:
				return 0
			}
			return cdf(x)
		}
	}
	paretonormal := func(x float64) float64 {
		return bisect(func(u float64) float64 {
			n := bisect(normalCDF, u, -9, 9)
			p := min(bisect(paretoCDF, u, -1, 1e7), netemLimit)
			return (max(min(n, netemLimit), -netemLimit) + 3*p) / 4
		}, x, 0, 1)
	}
	for dist, tt := range map[Distribution]struct {
		cdf func(float64) float64
		n   int
	}{
		Uniform:      {func(x float64) float64 { return max(0, min(1, (x+1)/2)) }, 100_000},
		Normal:       {capped(normalCDF), 100_000},
		Pareto:       {capped(paretoCDF), 100_000},
		ParetoNormal: {paretonormal, 2_000}, // its reference is slow
	} {
		spec := Spec{Delay: Delay{Time: mean, Jitter: jitter, Distribution: dist}, Seed: 7}
		d := newDice(&spec, Out, false)
		samples := make([]float64, tt.n)
		for i := range samples {
			samples[i] = float64(d.roll(&spec, 100).delay-mean) / float64(jitter)
		}
		if distance := ks(samples, tt.cdf); distance > ksBound(tt.n) {
			t.Errorf("%s: the distance from the formula is %.4f, more than %.4f", dist, distance, ksBound(tt.n))
		}
	}
}

// correlatedCDF is the stationary distribution of x' = (1-r)u + rx with u uniform: the fixed point of averaging the
// distribution over u, on a grid.
func correlatedCDF(r float64) func(float64) float64 {
	const grid = 2000
	f := make([]float64, grid+1)
	for i := range f {
		f[i] = float64(i) / grid
	}
	at := func(f []float64, x float64) float64 {
		x = max(0, min(1, x)) * grid
		i := min(int(x), grid-1)
		return f[i] + (f[i+1]-f[i])*(x-float64(i))
	}
	for range 40 {
		// The integral of f, so that averaging over u is a difference.
		sum := make([]float64, grid+1)
		for i := range grid {
			sum[i+1] = sum[i] + (f[i]+f[i+1])/2/grid
		}
		area := func(x float64) float64 { // the integral of f from 0 to x, f being 0 below 0 and 1 above 1
			return at(sum, x) + max(0, x-1)
		}
		next := make([]float64, grid+1)
		for i := range next {
			y := float64(i) / grid
			next[i] = (area(y/r) - area((y-(1-r))/r)) * r / (1 - r)
		}
		f = next
	}
	return func(x float64) float64 { return at(f, x) }
}

// TestCorrelation holds correlated numbers against the model: their distribution, and how one follows another.
func TestCorrelation(t *testing.T) {
	const n = 200_000
	for _, percent := range []Percent{25, 50, 90} {
		r := float64(percent) / 100
		c := newCorrelated(newStream(7, Out, false, causeLoss), percent)
		xs := make([]float64, n)
		for i := range xs {
			xs[i] = unit32(c.next())
		}
		var cov, variance float64
		for i := range xs {
			variance += (xs[i] - 0.5) * (xs[i] - 0.5)
			if i > 0 {
				cov += (xs[i] - 0.5) * (xs[i-1] - 0.5)
			}
		}
		if got := cov / variance; math.Abs(got-r) > 5/math.Sqrt(n) {
			t.Errorf("correlation %v%%: one number follows another by %.4f", percent, got)
		}
		if got, want := variance/n, (1-r)/(1+r)/12; math.Abs(got/want-1) > 0.05 {
			t.Errorf("correlation %v%%: the variance is %.5f, want %.5f", percent, got, want)
		}
		// Correlated samples count for fewer.
		if d, bound := ks(xs, correlatedCDF(r)), ksBound(int(n*(1-r)/(1+r))); d > bound {
			t.Errorf("correlation %v%%: the distance from the model is %.4f, more than %.4f", percent, d, bound)
		}
	}
	c := newCorrelated(newStream(7, Out, false, causeLoss), 100)
	if a, b := c.next(), c.next(); a != b {
		t.Error("with a correlation of 100% numbers differ")
	}
}

// TestStreams: sequences of different seeds, directions, causes and of copies have nothing to do with each other.
func TestStreams(t *testing.T) {
	type key struct {
		seed   uint64
		dir    Direction
		copies bool
		cause  cause
	}
	streams := map[key][]float64{}
	const n = 5_000
	for _, seed := range []uint64{1, 2, 3} {
		for _, dir := range []Direction{In, Out} {
			for _, copies := range []bool{false, true} {
				for _, c := range []cause{causeLoss, causeDelay} {
					u := uniform{newStream(seed, dir, copies, c)}
					var xs []float64
					for range n {
						xs = append(xs, unit32(u.next())-0.5)
					}
					streams[key{seed, dir, copies, c}] = xs
				}
			}
		}
	}
	for a, xs := range streams {
		for b, ys := range streams {
			var cov float64
			for i := range xs {
				cov += xs[i] * ys[i] * 12
			}
			if got := cov / n; a != b && math.Abs(got) > 6/math.Sqrt(n) {
				t.Errorf("%+v and %+v are correlated by %.4f", a, b, got)
			}
		}
	}
}

// checkShare fails unless k of n is within five standard deviations of p.
func checkShare(t *testing.T, what string, k, n, p float64) {
	t.Helper()
	if bound := 5 * math.Sqrt(n*p*(1-p)); math.Abs(k-n*p) > bound {
		t.Errorf("%s: %.0f of %.0f, want %.0f ± %.0f", what, k, n, n*p, bound)
	}
}

// TestChances: as many packets as the percentages say are duplicated, corrupted, reordered and lost on a Link, and
// the bits that are flipped lie anywhere.
func TestChances(t *testing.T) {
	const n, size = 20_000, 100
	b := newBench(t, Config{PeerVerifies: true, Seed: 7})
	b.set(t, Out, "delay 1ms loss 3% duplicate 5% corrupt 10% reorder 20% limit 100000")
	b.set(t, In, "delay 1ms reorder 50% gap 4")
	var bits []float64
	defer b.Observe(func(f Fault, _ []byte) {
		if f.Action == ActionCorrupt {
			bits = append(bits, (float64(f.N)+0.5)/(8*size))
		}
	})()
	for i := range n {
		b.send(Out, datagram(uint32(i), size), stack.GSO{})
		b.send(In, datagram(uint32(i), size), stack.GSO{})
		if i%100 == 0 {
			b.clock.Advance(time.Millisecond)
		}
	}
	b.clock.Advance(time.Second)
	s := b.Stats().Out
	// A packet that is drawn to be both lost and duplicated goes out once.
	checkShare(t, "duplicated", float64(s.Duplicated), n, 0.05*0.97)
	all := float64(n) + float64(s.Duplicated)
	checkShare(t, "lost", float64(s.Lost), all, (n*0.03*0.95+float64(s.Duplicated)*0.03)/all)
	left := all - float64(s.Lost)
	checkShare(t, "corrupted", float64(s.Corrupted), left, 0.1)
	checkShare(t, "reordered", float64(s.Reordered), left, 0.2)
	if got := len(b.arrivals(Out)); got != int(left) {
		t.Errorf("%d packets arrived, want %.0f", got, left)
	}
	if d := ks(bits, func(x float64) float64 { return x }); d > ksBound(len(bits)) {
		t.Errorf("flipped bits are not spread evenly: distance %.4f", d)
	}
	// With a gap, three packets are delayed and then each is sent at once with 50 %: one of five on average.
	in := b.Stats().In
	if got, want := float64(in.Reordered)/n, 1.0/5; math.Abs(got-want) > 0.01 {
		t.Errorf("reordered with a gap of 4: %.3f, want %.3f", got, want)
	}
}

// TestSlotDistance: slots start as far apart as they should.
func TestSlotDistance(t *testing.T) {
	b := newBench(t, Config{Seed: 7})
	b.set(t, Out, "slot 10ms 30ms packets 1 limit 100000")
	const n = 5000
	for i := range n {
		b.send(Out, datagram(uint32(i), 100), stack.GSO{})
	}
	b.clock.Advance(time.Hour)
	got := b.arrivals(Out)
	if len(got) != n {
		t.Fatalf("%d packets", len(got))
	}
	var xs []float64
	for i := range got[1:] {
		xs = append(xs, float64(got[i+1].at-got[i].at)/float64(ms))
	}
	if d := ks(xs, func(x float64) float64 { return max(0, min(1, (x-10)/20)) }); d > ksBound(len(xs)) {
		t.Errorf("the distance from uniform is %.4f, more than %.4f", d, ksBound(len(xs)))
	}
}
