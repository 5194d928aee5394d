// Package clock is the time of a stack: the system's, with its timers in a wheel, or
// one that the user of the stack gives it.
package clock

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/stack/internal/peek"
)

// Clock is the clock of a stack and its netstack. Its timers are of type Timer.
type Clock struct {
	tcpip.Clock
	wheel *wheel // nil: Clock is not the system's
}

// Of returns c as a Clock; if c is nil, the system's, whose timers are kept in a wheel.
// The caller must Close it.
func Of(c tcpip.Clock) *Clock {
	if c == nil {
		return &Clock{tcpip.NewStdClock(), newWheel()}
	}
	return &Clock{Clock: c}
}

// Given reports whether the clock is one that the user of the stack gave: its time may
// be virtual.
func (c *Clock) Given() bool { return c.wheel == nil }

// Close stops the timers of the system's clock: none of them fires any more. The
// timers of another clock are its owner's.
func (c *Clock) Close() {
	if c.wheel != nil {
		c.wheel.close()
	}
}

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime {
	if c.wheel == nil {
		return c.Clock.NowMonotonic()
	}
	return peek.Monotonic(time.Since(c.wheel.base))
}

// AfterFunc implements tcpip.Clock. What it returns is a Timer.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	if c.wheel != nil {
		return c.wheel.afterFunc(d, f)
	}
	t := &givenTimer{clock: c.Clock}
	t.at.Store(t.after(d))
	t.Timer = c.Clock.AfterFunc(d, f)
	return t
}

// Timer is a timer of a Clock.
type Timer interface {
	tcpip.Timer

	// At returns when the timer fires or was to fire, by NowMonotonic.
	At() tcpip.MonotonicTime
}

var _, _ Timer = (*wheelTimer)(nil), (*givenTimer)(nil)

// givenTimer is a Timer of a clock that the stack was given.
type givenTimer struct {
	tcpip.Timer
	clock tcpip.Clock
	at    atomic.Int64 // by the monotonic clock, in nanoseconds
}

func (t *givenTimer) after(d time.Duration) int64 {
	return int64(t.clock.NowMonotonic().Sub(tcpip.MonotonicTime{}) + d)
}

// Reset implements tcpip.Timer.
func (t *givenTimer) Reset(d time.Duration) {
	t.at.Store(t.after(d))
	t.Timer.Reset(d)
}

// At implements Timer.
func (t *givenTimer) At() tcpip.MonotonicTime {
	return peek.Monotonic(time.Duration(t.at.Load()))
}
