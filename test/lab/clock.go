package lab

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/internal/virtual"
)

// Clock is virtual time: it stands still except in Run, Advance and Step, and an hour of silence costs it nothing. Given to
// a Lab it is the time of all stacks and links in it. It fits stack.Config.Clock and impair.Config.Clock too.
//
// Time moves from timer to timer, one timer at a time, and only when no goroutine of the process can run: a packet is
// delivered by such a timer, so what a packet sets in motion, in the stacks and in the program, is over before the next one
// comes. Timers of one instant fire in the order in which they were set.
//
// A program follows virtual time where it takes a clock: give it Now, After, Sleep, AfterFunc and WithTimeout. A program, or
// a part of it, that uses package time instead waits in real time, in which a virtual hour may be a millisecond: its timeouts
// do not fire, and a time.Sleep in it lets virtual time run on. That holds for the timeouts of net/http, which are package
// time's; a request's deadline is set with WithTimeout instead.
type Clock struct {
	time     virtual.Clock // moved by who has taken the Clock: see take
	released chan struct{} // closed when the lab ends: nobody sleeps any more
	stuck    func(why string)

	mu      sync.Mutex
	driven  bool // Run, Advance or Step is under way; guarded by mu, as is stopped
	stopped bool // released is closed
}

// Limits of a Clock, beyond which something is wrong with the test or with what it tests.
const (
	// maxRun is how long a Run may take in virtual time. TCP gives up on a peer within 15 minutes, and keepalive at Linux's
	// defaults within 2 h 11 min.
	maxRun = 24 * time.Hour
	// maxIdle is how long, in real time, a Run may wait with nothing to happen in virtual time.
	maxIdle = 30 * time.Second
	// maxTimersAtOnce is how many timers may fire at one instant: some 10 GB of packets on a link without delay.
	maxTimersAtOnce = 10_000_000
)

// idleInterval is how often a Run without timers looks whether there are any now.
const idleInterval = 100 * time.Microsecond

// NewClock returns a clock that stands at a fixed instant, the same for each.
func NewClock() *Clock {
	return &Clock{released: make(chan struct{}), stuck: func(why string) { panic("lab: " + why) }}
}

// Now implements tcpip.Clock.
func (c *Clock) Now() time.Time { return c.time.Now() }

// NowMonotonic implements tcpip.Clock.
func (c *Clock) NowMonotonic() tcpip.MonotonicTime { return c.time.NowMonotonic() }

// Elapsed is the virtual time since the clock was made.
func (c *Clock) Elapsed() time.Duration { return c.time.Elapsed() }

// AfterFunc implements tcpip.Clock. f runs when the clock gets there, even if d is zero, and must not block.
func (c *Clock) AfterFunc(d time.Duration, f func()) tcpip.Timer { return c.time.AfterFunc(d, f) }

// After is time.After in virtual time.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	ch := make(chan time.Time, 1)
	c.AfterFunc(d, func() { ch <- c.Now() })
	return ch
}

// Sleep is time.Sleep in virtual time. It returns early when the test is over.
func (c *Clock) Sleep(d time.Duration) {
	done := make(chan struct{})
	t := c.AfterFunc(d, func() { close(done) })
	defer t.Stop()
	select {
	case <-done:
	case <-c.released:
	}
}

// Run calls f, and lets time go on whenever nothing else can happen, until f returns. What the program does meanwhile, in
// whatever goroutines, takes no virtual time; what it waits for, it gets at once. It fails the test, and closes the lab's
// stacks so that f returns, when more than 24 hours have gone by in virtual time, or when nothing at all is left to happen.
func (c *Clock) Run(f func()) {
	if !c.take() {
		f() // within another Run, which moves the time
		return
	}
	defer c.give()
	done, ended := make(chan struct{}), make(chan struct{})
	defer func() {
		close(done)
		<-ended
	}()
	go func() {
		defer close(ended)
		c.drive(done)
	}()
	f()
}

// drive moves the clock until done is closed.
func (c *Clock) drive(done <-chan struct{}) {
	end := c.Elapsed() + maxRun
	var idle time.Time // since when there has been nothing to do
	atOnce := burst{}
	for {
		if !waitQuiet(done) {
			c.stuck(fmt.Sprintf("virtual time stands still at %s: for %s of real time some goroutine was always running", c.Elapsed(), maxBusy))
			return
		}
		select {
		case <-done:
			return
		default:
		}
		if c.time.Fire(end) {
			idle = time.Time{}
			if at := c.Elapsed(); atOnce.more(at) {
				c.stuck(fmt.Sprintf("%d timers have fired at %s, and there are more", maxTimersAtOnce, at))
				return
			}
			continue
		}
		switch next, ok := c.time.Next(); {
		case ok && next > end:
			c.stuck(fmt.Sprintf("Run has taken more than %s of virtual time", maxRun))
			return
		case idle.IsZero():
			idle = time.Now()
		case time.Since(idle) > maxIdle:
			c.stuck(fmt.Sprintf("Run waits at %s for something that is not of this lab: there has been no timer for %s of real time", c.Elapsed(), maxIdle))
			return
		}
		select {
		case <-done:
			return
		case <-time.After(idleInterval):
		}
	}
}

// Advance lets time go on by d, each timer on the way firing at its time. Within Run it is Sleep.
func (c *Clock) Advance(d time.Duration) {
	if !c.take() {
		c.Sleep(d)
		return
	}
	defer c.give()
	until := c.Elapsed() + d
	atOnce := burst{}
	for {
		if !waitQuiet(nil) {
			c.stuck(fmt.Sprintf("virtual time stands still at %s: for %s of real time some goroutine was always running", c.Elapsed(), maxBusy))
			return
		}
		if !c.time.Fire(until) {
			break
		}
		if at := c.Elapsed(); atOnce.more(at) {
			c.stuck(fmt.Sprintf("%d timers have fired at %s, and there are more", maxTimersAtOnce, at))
			return
		}
	}
	c.time.Set(until)
}

// Step waits until no goroutine can run, moves the clock to the next timer, fires this one, and waits again. It reports false
// if there is no timer. A test whose program is a function that it calls between steps, and not goroutines, is the same each
// time to the last byte.
func (c *Clock) Step() bool {
	if !c.take() {
		panic("lab: Step within Run")
	}
	defer c.give()
	waitQuiet(nil)
	fired := c.time.Fire(math.MaxInt64)
	if fired {
		waitQuiet(nil)
	}
	return fired
}

// take makes the caller the one who moves the clock.
func (c *Clock) take() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.driven {
		return false
	}
	c.driven = true
	return true
}

func (c *Clock) give() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.driven = false
}

// release ends all sleep, for good.
func (c *Clock) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped = true
		close(c.released)
	}
}

// burst counts timers of one instant.
type burst struct {
	at time.Duration
	n  int
}

// more counts one more, and reports whether that is too many.
func (b *burst) more(at time.Duration) bool {
	if at != b.at {
		*b = burst{at: at}
	}
	b.n++
	return b.n > maxTimersAtOnce
}

// WithTimeout is context.WithTimeout in virtual time.
func (c *Clock) WithTimeout(parent context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx := &timeout{Context: parent, done: make(chan struct{})}
	stopParent := context.AfterFunc(parent, func() { ctx.end(parent.Err()) })
	t := c.AfterFunc(d, func() { ctx.end(context.DeadlineExceeded) })
	return ctx, func() {
		stopParent()
		t.Stop()
		ctx.end(context.Canceled)
	}
}

// timeout is a context that ends by a Clock. Its Deadline is its parent's, since that is in real time.
type timeout struct {
	context.Context
	done chan struct{}

	mu  sync.Mutex
	err error // guarded by mu; set when done is closed
}

func (t *timeout) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
		close(t.done)
	}
}

// Done implements context.Context.
func (t *timeout) Done() <-chan struct{} { return t.done }

// Err implements context.Context.
func (t *timeout) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
