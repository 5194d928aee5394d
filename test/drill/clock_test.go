package drill_test

import (
	"slices"
	"testing"
	"time"

	"github.com/catflap/catflap/test/drill"
)

func TestClock(t *testing.T) {
	w := drill.NewWire(1500)
	c := w.Clock()
	var fired []string
	note := func(s string) func() { return func() { fired = append(fired, s+" "+c.Elapsed().String()) } }
	c.AfterFunc(2*time.Second, note("second"))
	c.AfterFunc(time.Second, note("first"))
	c.AfterFunc(time.Second, note("first too")) // the same instant: in the order in which they were set
	stopped := c.AfterFunc(time.Second, note("stopped"))
	later := c.AfterFunc(time.Second, note("later"))
	later.Reset(3 * time.Second)
	c.AfterFunc(time.Second, func() { c.AfterFunc(0, note("at once")) })
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not say whether it stopped the timer")
	}
	w.Advance(5 * time.Second)
	want := []string{"first 1s", "first too 1s", "at once 1s", "second 2s", "later 3s"}
	if !slices.Equal(fired, want) {
		t.Errorf("fired %q, want %q", fired, want)
	}
	if c.Elapsed() != 5*time.Second {
		t.Errorf("the clock stands at %s", c.Elapsed())
	}
	if later.Stop() {
		t.Error("a timer that has fired was stopped")
	}
}

// TestClockRunsAway holds that a stack that sets timers without end does not hold a test for ever.
func TestClockRunsAway(t *testing.T) {
	w := drill.NewWire(1500)
	var again func()
	again = func() { w.Clock().AfterFunc(0, again) }
	again()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	w.Settle()
}
