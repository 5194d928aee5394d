package clock

import (
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
)

func TestSystemClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Of(nil)
		defer c.Close()
		start := c.NowMonotonic()
		time.Sleep(10 * time.Millisecond)
		if got := c.NowMonotonic().Sub(start); got != 10*time.Millisecond {
			t.Errorf("%v have passed, want 10ms", got)
		}
	})
	c := Of(nil)
	defer c.Close()
	if allocs := testing.AllocsPerRun(100, func() {
		var asked tcpip.Clock = c
		asked.NowMonotonic()
		asked.Now()
	}); allocs != 0 {
		t.Errorf("%v allocations to ask for the time", allocs)
	}
}

// A timer says when it fires, whoever's clock it is of.
func TestTimerAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system, given := Of(nil), Of(faketime.NewManualClock())
		defer system.Close()
		for name, c := range map[string]*Clock{"system": system, "given": given} {
			for _, d := range []time.Duration{wheelLeast / 2, time.Second} {
				now := c.NowMonotonic()
				tm := c.AfterFunc(d, func() {}).(Timer)
				if got := tm.At().Sub(now); got != d {
					t.Errorf("%s: a timer of %v fires after %v", name, d, got)
				}
				tm.Reset(2 * d)
				if got := tm.At().Sub(now); got != 2*d {
					t.Errorf("%s: a timer that was set to %v fires after %v", name, 2*d, got)
				}
				tm.Stop()
			}
		}
	})
}

// BenchmarkNowMonotonic: netstack asks ten times or so for each segment.
func BenchmarkNowMonotonic(b *testing.B) {
	c := Of(nil)
	defer c.Close()
	b.Run("clock", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c.NowMonotonic()
		}
	})
	b.Run("Since", func(b *testing.B) { // what any clock costs
		for b.Loop() {
			time.Since(c.wheel.base)
		}
	})
}
