// Package virtual is virtual time: a clock for netstack that moves only when it is told to.
package virtual

import (
	"container/heap"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Clock is a tcpip.Clock that stands still except in Set and Fire. It differs from gVisor's own manual clock in what a
// repeatable run needs: timers of one instant fire in the order in which they were set, one after another and never by
// themselves, and the next one's time can be asked for, so that an hour of silence costs nothing.
//
// The zero Clock stands at Epoch. Its methods may be called concurrently, but only one goroutine at a time moves it.
type Clock struct {
	mu     sync.Mutex
	now    time.Duration // since Epoch; guarded by mu, as are the fields below
	timers timerHeap
	count  uint64 // timers set so far
}

// Epoch is when a Clock starts. It is not the zero time, which netstack takes for "never".
var Epoch = time.Unix(1_000_000_000, 0)

// Now implements tcpip.Clock.
func (c *Clock) Now() time.Time { return Epoch.Add(c.Elapsed()) }

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime {
	// Not from zero: a time stamp of zero means "none" in places.
	return tcpip.MonotonicTime{}.Add(time.Hour + c.Elapsed())
}

// Elapsed is the virtual time since Epoch.
func (c *Clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// AfterFunc implements tcpip.Clock. f runs inside a later call of Fire, even if d is zero, and must not block.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	t := &timer{clock: c, f: f, index: -1}
	t.Reset(d)
	return t
}

// Next returns when the earliest timer fires, if there is a timer.
func (c *Clock) Next() (at time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].when, true
}

// Set moves the clock forward to an instant since Epoch, and runs no timer. It never moves the clock back.
func (c *Clock) Set(elapsed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = max(c.now, elapsed)
}

// Fire moves the clock to the earliest timer and runs it, unless there is none until then. It reports whether it ran one.
func (c *Clock) Fire(until time.Duration) bool {
	c.mu.Lock()
	if len(c.timers) == 0 || c.timers[0].when > until {
		c.mu.Unlock()
		return false
	}
	t := heap.Pop(&c.timers).(*timer)
	c.now = max(c.now, t.when)
	c.mu.Unlock()
	t.f()
	return true
}

// timer is a tcpip.Timer.
type timer struct {
	clock *Clock
	f     func()

	when  time.Duration // since Epoch; guarded by clock.mu, as are the fields below
	order uint64        // position among timers of one instant
	index int           // in the heap; -1 when it is not set
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
	t.when, t.order = c.now+max(d, 0), c.count
	heap.Push(&c.timers, t)
}

// timerHeap is a heap.Interface: the earliest timer is on top.
type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].when != h[j].when {
		return h[i].when < h[j].when
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
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}
