package stack

import (
	"sync/atomic"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// timedClock is the clock of a stack and its netstack: its timers can say when
// they fire, and are kept in a wheel if there is one.
type timedClock struct {
	tcpip.Clock
	wheel *wheel // nil: Clock is not the system's
}

// NowMonotonic implements tcpip.Clock. netstack asks ten times or so for each segment,
// and its own clock adds two numbers by way of three dates.
func (c *timedClock) NowMonotonic() tcpip.MonotonicTime {
	if c.wheel == nil {
		return c.Clock.NowMonotonic()
	}
	return monotonic(time.Since(c.wheel.base))
}

// monotonic is tcpip.MonotonicTime{}.Add(d), which is one number: see TestMonotonic.
func monotonic(d time.Duration) tcpip.MonotonicTime {
	return *(*tcpip.MonotonicTime)(unsafe.Pointer(&d))
}

var _ = [1]struct{}{}[unsafe.Sizeof(tcpip.MonotonicTime{})-unsafe.Sizeof(time.Duration(0))]

// AfterFunc implements tcpip.Clock.
func (c *timedClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	if c.wheel != nil {
		return c.wheel.afterFunc(d, f)
	}
	t := &timedTimer{clock: c.Clock}
	t.at.Store(t.after(d))
	t.Timer = c.Clock.AfterFunc(d, f)
	return t
}

// A leftTimer knows when it fires.
type leftTimer interface {
	tcpip.Timer
	left() time.Duration // 0 if it has fired
}

var _, _ leftTimer = (*timedTimer)(nil), (*wheelTimer)(nil)

// timedTimer is a leftTimer of any clock.
type timedTimer struct {
	tcpip.Timer
	clock tcpip.Clock
	at    atomic.Int64 // by the monotonic clock, in nanoseconds
}

func (t *timedTimer) after(d time.Duration) int64 {
	return int64(t.clock.NowMonotonic().Sub(tcpip.MonotonicTime{}) + d)
}

// Reset implements tcpip.Timer.
func (t *timedTimer) Reset(d time.Duration) {
	t.at.Store(t.after(d))
	t.Timer.Reset(d)
}

// left is the time until the timer fires; 0 if it has fired.
func (t *timedTimer) left() time.Duration {
	return max(0, time.Duration(t.at.Load()-t.after(0)))
}
