package drill

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/internal/virtual"
)

// Clock is the clock of a [Wire], for the stack on it: it stands still except in Advance and Settle, in which timers of one
// instant fire in the order in which they were set, one after another.
type Clock struct{ time virtual.Clock }

// Now implements tcpip.Clock.
func (c *Clock) Now() time.Time { return c.time.Now() }

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime { return c.time.NowMonotonic() }

// Elapsed is the time since the wire was made.
func (c *Clock) Elapsed() time.Duration { return c.time.Elapsed() }

// AfterFunc implements tcpip.Clock. f runs inside a later call that moves the clock, even when d is zero.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer { return c.time.AfterFunc(d, f) }
