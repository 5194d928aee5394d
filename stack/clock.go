package stack

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// timedClock is the clock that netstack gets: its timers can say when they fire.
type timedClock struct{ tcpip.Clock }

// AfterFunc implements tcpip.Clock.
func (c timedClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timedTimer{clock: c.Clock}
	t.at.Store(t.after(d))
	t.Timer = c.Clock.AfterFunc(d, f)
	return t
}

// timedTimer is a timer that knows when it fires.
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
