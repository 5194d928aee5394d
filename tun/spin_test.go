package tun

import (
	"testing"
	"time"
)

// TestSpinner: an empty queue is watched for a while only after packets came soon.
func TestSpinner(t *testing.T) {
	var s spinner
	watch := func() (looks int, d time.Duration) {
		begin := time.Now()
		for s.again() {
			looks++
		}
		return looks, time.Since(begin)
	}
	if looks, _ := watch(); looks != yields {
		t.Errorf("a new spinner looked %d times again, want %d", looks, yields)
	}
	s.found() // soon
	if s.credit != 1 {
		t.Errorf("credit %d after a packet that came soon, want 1", s.credit)
	}
	if looks, d := watch(); looks <= yields || d < spinTime {
		t.Errorf("with credit it looked %d times within %v, want it to spin for %v", looks, d, spinTime)
	}
	if s.credit != 0 {
		t.Errorf("credit %d after a spin in vain, want 0", s.credit)
	}
	s.empty = s.empty.Add(-soon)
	s.found() // late
	if looks, _ := watch(); looks != yields {
		t.Errorf("after a packet that came late it looked %d times again, want %d", looks, yields)
	}
	for range 2 * maxSpinCredit {
		s.tries, s.empty = yields, time.Now()
		s.found()
	}
	if s.credit != maxSpinCredit {
		t.Errorf("credit %d after many packets, want %d", s.credit, maxSpinCredit)
	}
	s.found() // the queue was not empty before
	if s.credit != maxSpinCredit {
		t.Errorf("credit %d, want %d", s.credit, maxSpinCredit)
	}
}
