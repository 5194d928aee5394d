package drill

import (
	"container/heap"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Clock is a clock for netstack that moves only when it is told to. It differs from gVisor's own manual clock in what a
// repeatable run needs: timers of one instant fire in the order in which they were set, one after another and never by
// themselves, and the next one's time can be asked for, so that an hour of silence costs nothing.
type Clock struct {
	mu     sync.Mutex
	now    time.Time // guarded by mu, as are the fields below
	timers timerHeap
	count  uint64 // timers set so far
}

// epoch is where a Clock starts. It is not the zero time, which netstack takes for "never".
var epoch = time.Unix(1_000_000_000, 0)

// NewClock returns a clock that stands at a fixed instant, the same for each.
func NewClock() *Clock { return &Clock{now: epoch} }

// Now implements tcpip.Clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime {
	// Not from zero: a time stamp of zero means "none" in places.
	return tcpip.MonotonicTime{}.Add(time.Hour + c.Elapsed())
}

// Elapsed is the time since the clock was made.
func (c *Clock) Elapsed() time.Duration { return c.Now().Sub(epoch) }

// AfterFunc implements tcpip.Clock. f runs inside a later call that moves the clock, even when d is zero.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, f: f, index: -1}
	t.Reset(d)
	return t
}

// next returns when the earliest timer fires.
func (c *Clock) next() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].when.Sub(epoch), true
}

// set moves the clock forward without running timers; it never goes back.
func (c *Clock) set(elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := epoch.Add(elapsed); t.After(c.now) {
		c.now = t
	}
}

// fire runs one timer that is due, and reports whether there was one.
func (c *Clock) fire() bool {
	c.mu.Lock()
	if len(c.timers) == 0 || c.timers[0].when.After(c.now) {
		c.mu.Unlock()
		return false
	}
	t := heap.Pop(&c.timers).(*timer)
	c.mu.Unlock()
	t.f()
	return true
}

type timer struct {
	clock *Clock
	f     func()

	when  time.Time // guarded by clock.mu, as are the fields below
	order uint64    // position among timers of one instant
	index int       // in the heap; -1 when it is not set
}

// Stop implements tcpip.Timer.
func (t *timer) Stop() bool {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.index < 0 {
		return false
	}
	heap.Remove(&c.timers, t.index)
	return true
}

// Reset implements tcpip.Timer.
func (t *timer) Reset(d time.Duration) {
	c := t.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.index >= 0 {
		heap.Remove(&c.timers, t.index)
	}
	c.count++
	t.when, t.order = c.now.Add(max(d, 0)), c.count
	heap.Push(&c.timers, t)
}

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if !h[i].when.Equal(h[j].when) {
		return h[i].when.Before(h[j].when)
	}
	return h[i].order < h[j].order
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
