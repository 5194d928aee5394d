package clock

import (
	"math/bits"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/stack/internal/peek"
)

// wheel keeps the timers of a stack that runs by the system's clock. A TCP
// connection has five or six: retransmission, keepalive, FIN-WAIT-2, TIME-WAIT, the
// application's deadlines. Nearly all are stopped, or set anew, before they fire,
// and those of TIME-WAIT pile up for a minute. In Go's own heap of timers each
// costs O(log n), and a stopped one stays until it is swept; in a hashed timing
// wheel (Varghese and Lauck, 1987) setting and stopping are a few instructions,
// however many there are.
//
// A timer fires on the first tick at or after its time, so up to wheelTick late.
// One that is shorter than wheelLeast is Go's after all. While nothing is set,
// nothing runs; otherwise one timer of Go's waits for the next slot that holds any.
type wheel struct {
	base time.Time

	mu      sync.Mutex
	slots   [wheelSlots]*wheelTimer
	used    [wheelSlots / 64]uint64 // a bit for each slot that holds timers
	visited int64                   // the last tick whose slot has been looked at
	next    int64                   // the tick that alarm waits for; 0: it does not run
	alarm   *time.Timer
	closed  bool
}

const (
	// wheelTick is as fine as the jiffy of a Linux with HZ=100, by which its timers run.
	wheelTick = 10 * time.Millisecond

	// wheelLeast keeps a timer's lateness below a tenth. It is below the least
	// retransmission timeout, 200 ms.
	wheelLeast = 100 * time.Millisecond

	// wheelSlots make a turn of 82 s, longer than TIME-WAIT: until then a timer is
	// met only when it is due. It is a power of 2.
	wheelSlots = 8192
)

// wheelTimer is a Timer of a wheel.
type wheelTimer struct {
	w *wheel
	f func()

	// Guarded by w.mu.
	at         time.Duration // when it fires, or was to fire, since w.base
	tick       int64         // the same, as a tick; 0: it is not in a slot
	next, prev *wheelTimer
	short      *time.Timer // nil until it is needed
}

func newWheel() *wheel {
	w := &wheel{base: time.Now()}
	w.alarm = time.AfterFunc(time.Hour, w.turn)
	w.alarm.Stop()
	return w
}

// afterFunc runs f in a goroutine of its own once d has passed.
func (w *wheel) afterFunc(d time.Duration, f func()) *wheelTimer {
	t := &wheelTimer{w: w, f: f}
	t.Reset(d)
	return t
}

// Reset implements tcpip.Timer.
func (t *wheelTimer) Reset(d time.Duration) {
	w := t.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.remove(t)
	now := time.Since(w.base)
	if t.at = now + d; t.at < now {
		t.at = 1<<63 - 1 // for ever
	}
	if d >= wheelLeast {
		if t.short != nil {
			t.short.Stop()
		}
		w.insert(t)
		return
	}
	if t.short == nil {
		t.short = time.AfterFunc(d, t.f)
		return
	}
	t.short.Reset(d)
}

// Stop implements tcpip.Timer.
func (t *wheelTimer) Stop() bool {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if t.w.remove(t) {
		return true
	}
	return t.short != nil && t.short.Stop()
}

// At implements Timer.
func (t *wheelTimer) At() tcpip.MonotonicTime {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	return peek.Monotonic(t.at)
}

func (w *wheel) insert(t *wheelTimer) {
	t.tick = max(int64((t.at-1)/wheelTick)+1, w.visited+1)
	i := t.tick % wheelSlots
	t.prev, t.next = nil, w.slots[i]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[i] = t
	w.used[i/64] |= 1 << (i % 64)
	if w.next == 0 || t.tick < w.next {
		w.wait(t.tick)
	}
}

// remove reports whether t was in a slot.
func (w *wheel) remove(t *wheelTimer) bool {
	if t.tick == 0 {
		return false
	}
	i := t.tick % wheelSlots
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else if w.slots[i] = t.next; t.next == nil {
		w.used[i/64] &^= 1 << (i % 64)
	}
	t.tick, t.next, t.prev = 0, nil, nil
	return true
}

// wait sets the alarm for a tick.
func (w *wheel) wait(tick int64) {
	w.next = tick
	w.alarm.Reset(time.Duration(tick)*wheelTick - time.Since(w.base))
}

// turn fires what is due, and waits for the next slot that holds timers.
func (w *wheel) turn() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	var due []func()
	now := int64(time.Since(w.base) / wheelTick)
	end := min(now, w.visited+wheelSlots)
	for tick := w.visited; ; {
		d := w.distance(tick)
		if tick += d; d == 0 || tick > end {
			break
		}
		for t := w.slots[tick%wheelSlots]; t != nil; {
			next := t.next
			if t.tick <= now {
				w.remove(t)
				due = append(due, t.f)
			}
			t = next
		}
	}
	w.visited = max(w.visited, now)
	w.next = 0
	if d := w.distance(w.visited); d != 0 {
		w.wait(w.visited + d)
	}
	w.mu.Unlock()
	for _, f := range due {
		go f()
	}
}

// distance is how many ticks after tick the next slot comes that holds timers, at
// most wheelSlots; 0: there is none.
func (w *wheel) distance(tick int64) int64 {
	from := uint64(tick+1) % wheelSlots
	word := w.used[from/64] >> (from % 64)
	if word != 0 {
		return 1 + int64(bits.TrailingZeros64(word))
	}
	for i := uint64(1); i <= wheelSlots/64; i++ {
		if word := w.used[(from/64+i)%(wheelSlots/64)]; word != 0 {
			return 1 + int64(i*64-from%64) + int64(bits.TrailingZeros64(word))
		}
	}
	return 0
}

// close stops all timers: none of them fires any more.
func (w *wheel) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.alarm.Stop()
	for i := range w.slots {
		for w.slots[i] != nil {
			w.remove(w.slots[i])
		}
	}
}
