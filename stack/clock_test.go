package stack

import (
	"math"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestMonotonic: the short way to a MonotonicTime leads where netstack's leads.
func TestMonotonic(t *testing.T) {
	for _, d := range []time.Duration{0, 1, -1, time.Second + 1, 1000 * time.Hour, math.MaxInt64} {
		if got, want := monotonic(d), (tcpip.MonotonicTime{}).Add(d); got != want {
			t.Errorf("%d: got %v, want %v", d, got, want)
		}
	}
}

func TestSystemClock(t *testing.T) {
	s := newStack(t, Config{})
	began := time.Now()
	start := s.clock.NowMonotonic()
	time.Sleep(10 * time.Millisecond)
	got := s.clock.NowMonotonic().Sub(start)
	if most := time.Since(began); got < 10*time.Millisecond || got > most {
		t.Errorf("%v have passed, at most %v", got, most)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		var c tcpip.Clock = s.clock
		s.clock.NowMonotonic()
		c.Now()
	}); allocs != 0 {
		t.Errorf("%v allocations to ask for the time", allocs)
	}
}
