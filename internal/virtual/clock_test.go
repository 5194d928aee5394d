package virtual

import (
	"slices"
	"testing"
	"time"
)

// TestMoves holds how a clock is moved: to timers, past them without running them, and never back.
func TestMoves(t *testing.T) {
	var c Clock
	if _, ok := c.Next(); ok || c.Fire(time.Hour) {
		t.Error("a clock without timers has one")
	}
	var fired []time.Duration
	note := func() { fired = append(fired, c.Elapsed()) }
	c.AfterFunc(2*time.Second, note)
	c.AfterFunc(time.Second, note)
	c.AfterFunc(-time.Second, note) // at once
	if at, ok := c.Next(); !ok || at != 0 {
		t.Errorf("the next timer is at %s, %v; want at 0s", at, ok)
	}
	if !c.Fire(0) || c.Fire(0) {
		t.Error("Fire(0) did not run just the timer that is due at once")
	}
	c.Set(1500 * time.Millisecond)
	c.Set(time.Second)
	if c.Elapsed() != 1500*time.Millisecond || c.Now() != Epoch.Add(c.Elapsed()) {
		t.Errorf("the clock stands at %s, %s; want at 1.5s", c.Elapsed(), c.Now())
	}
	for c.Fire(time.Minute) {
	}
	// The second ran late, since the clock was set past its time.
	if want := []time.Duration{0, 1500 * time.Millisecond, 2 * time.Second}; !slices.Equal(fired, want) {
		t.Errorf("timers ran at %s, want at %s", fired, want)
	}
}
