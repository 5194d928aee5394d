package instance

import (
	"math"
	"runtime"
	"runtime/metrics"
	"time"
)

// procs sets GOMAXPROCS by what there is to do. A stack whose few goroutines hand
// packets to each other runs best on one processor: nothing wakes another CPU, no
// cache line moves, ACKs are read several at a time, and the peer on the same
// machine has the other CPU to itself. Many requests at once want them all. What
// tells the two apart is how long goroutines that could run wait for a processor.
type procs struct {
	most   int // the GOMAXPROCS of the start
	now    int
	sample []metrics.Sample
	counts []uint64 // of the last look
	quiet  int      // looks in a row at which nobody waited long
	quit   chan struct{}
	done   chan struct{}
}

const (
	// procsPeriod is how often the waiting is looked at, short beside what a person
	// or a congestion window notices. procsIdlePeriod is the same while no goroutine
	// has run, so that an idle server hardly wakes.
	procsPeriod     = 50 * time.Millisecond
	procsIdlePeriod = 500 * time.Millisecond

	// procsBusy is how many times a goroutine has waited within procsPeriod, of those
	// that Go counts (one in eight), where there is traffic; timers alone stay below it.
	procsBusy = 100

	// longWait is a mean wait that another processor is to shorten. On one processor
	// it is about 0.01 ms in a bulk transfer of one stream, 0.03 ms with 16
	// connections that ask in turn, 0.2 ms in eight streams, and 0.6 ms with 256
	// connections, of which then only two processors serve as many as they can ask.
	longWait = 300 * time.Microsecond

	// shortWait is one that calls for a processor less, if it has been as short for
	// procsQuiet looks.
	shortWait  = 50 * time.Microsecond
	procsQuiet = 10
)

const schedLatencies = "/sched/latencies:seconds"

// startProcs takes GOMAXPROCS over until stop. There must be one in a process at a time.
func startProcs() *procs {
	p := &procs{
		most:   runtime.GOMAXPROCS(0),
		sample: []metrics.Sample{{Name: schedLatencies}},
		quit:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	p.now = p.most
	if p.most == 1 {
		close(p.done)
		return p
	}
	p.wait()
	p.set(1)
	go p.run()
	return p
}

// stop gives the processors back.
func (p *procs) stop() {
	close(p.quit)
	<-p.done
	p.set(p.most)
}

func (p *procs) set(n int) {
	if n != p.now {
		p.now = n
		runtime.GOMAXPROCS(n)
	}
}

func (p *procs) run() {
	defer close(p.done)
	t := time.NewTimer(procsPeriod)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-p.quit:
			return
		}
		mean, n := p.wait()
		p.set(p.decide(mean))
		if n < procsBusy {
			t.Reset(procsIdlePeriod)
		} else {
			t.Reset(procsPeriod)
		}
	}
}

// decide returns how many processors there should be, after a look at which
// goroutines had waited for that long on average.
func (p *procs) decide(mean time.Duration) int {
	switch {
	case mean >= longWait:
		p.quiet = 0
		return min(p.now+1, p.most)
	case mean > shortWait:
		p.quiet = 0
	default:
		if p.quiet++; p.quiet >= procsQuiet {
			p.quiet = 0
			return max(p.now-1, 1)
		}
	}
	return p.now
}

// wait returns how long goroutines have waited for a processor since the last call,
// on average, and how often one has.
func (p *procs) wait() (mean time.Duration, n uint64) {
	metrics.Read(p.sample)
	if p.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0, 0 // a Go that does not count this any more
	}
	h := p.sample[0].Value.Float64Histogram()
	if p.counts == nil {
		p.counts = make([]uint64, len(h.Counts))
	}
	var sum float64
	for i, c := range h.Counts {
		d := c - p.counts[i]
		p.counts[i] = c
		if least := h.Buckets[i]; d > 0 && !math.IsInf(least, 0) {
			sum += float64(d) * least
		}
		n += d
	}
	if n == 0 {
		return 0, 0
	}
	return time.Duration(sum / float64(n) * float64(time.Second)), n
}
