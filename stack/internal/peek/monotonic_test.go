package peek

import (
	"math"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestMonotonic: the short way to a MonotonicTime leads where netstack's leads.
func TestMonotonic(t *testing.T) {
	same := func() {
		t.Helper()
		for _, d := range []time.Duration{0, 1, -1, time.Second + 1, 1000 * time.Hour, math.MaxInt64} {
			if got, want := Monotonic(d), (tcpip.MonotonicTime{}).Add(d); got != want {
				t.Errorf("%d: got %v, want %v", d, got, want)
			}
		}
	}
	same()
	defer Rename("nanoseconds", "seconds")()
	same()
}
