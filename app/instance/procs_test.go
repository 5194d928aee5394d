package instance

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
)

func TestProcsDecide(t *testing.T) {
	p := &procs{most: 3, now: 1}
	for i, c := range []struct {
		mean  time.Duration
		times int
		want  int
	}{
		{longWait, 1, 2},
		{longWait, 5, 3},               // never more than there were
		{shortWait + 1, 100, 3},        // neither long nor short
		{shortWait, procsQuiet - 1, 3}, // not yet for long enough
		{shortWait + 1, 1, 3},
		{0, procsQuiet - 1, 3}, // it has begun anew
		{0, 1, 2},
		{0, procsQuiet, 1},
		{0, 10 * procsQuiet, 1}, // never less than one
		{longWait, 1, 2},
	} {
		for range c.times {
			p.now = p.decide(c.mean)
		}
		if p.now != c.want {
			t.Errorf("step %d: %d processors after %d looks at a wait of %v, want %d", i, p.now, c.times, c.mean, c.want)
		}
	}
}

// TestProcs has goroutines queue for one processor, so that more are to come.
func TestProcs(t *testing.T) {
	before := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(before)
	p := startProcs()
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors at the start, want 1", n)
	}
	quit := make(chan struct{})
	done := make(chan struct{})
	const many = 200
	for range many {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-quit:
					return
				default:
					for end := time.Now().Add(20 * time.Microsecond); time.Now().Before(end); {
					}
					runtime.Gosched()
				}
			}
		}()
	}
	testenv.Await(t, fmt.Sprintf("a second processor, with %d goroutines queueing for the one", many), func() bool { return runtime.GOMAXPROCS(0) > 1 })
	close(quit)
	for range many {
		<-done
	}
	p.stop()
	if n := runtime.GOMAXPROCS(0); n != 4 {
		t.Errorf("%d processors after stop, want the 4 of the start", n)
	}
}

func TestProcsOfOne(t *testing.T) {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	p := startProcs()
	p.stop()
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Errorf("%d processors, want the one", n)
	}
}
