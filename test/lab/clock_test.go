package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/virtual"
)

func TestClock(t *testing.T) {
	c := NewClock()
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
	if !c.Step() || len(fired) != 1 {
		t.Errorf("a step fired %q", fired)
	}
	c.Advance(4 * time.Second)
	want := []string{"first 1s", "first too 1s", "at once 1s", "second 2s", "later 3s"}
	if !slices.Equal(fired, want) {
		t.Errorf("fired %q, want %q", fired, want)
	}
	if c.Elapsed() != 5*time.Second || c.Now() != virtual.Epoch.Add(5*time.Second) {
		t.Errorf("the clock stands at %s, %s", c.Elapsed(), c.Now())
	}
	if c.Step() {
		t.Error("there was a step without timers")
	}
}

// TestRunProgram runs a program of several goroutines that wait for the clock and for each other: whatever the scheduler does,
// each wakes at its time.
func TestRunProgram(t *testing.T) {
	for range 20 {
		c := NewClock()
		var mu sync.Mutex
		var log []string
		c.Run(func() {
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					for j := range 3 {
						c.Sleep(time.Duration(j*10+i+1) * time.Second)
						for range 1000 * (5 - i) { // those that wake first work longest
							runtime.Gosched()
						}
						mu.Lock()
						log = append(log, fmt.Sprintf("%s %d", c.Elapsed(), i))
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			<-c.After(time.Hour)
		})
		want := "1s 0,2s 1,3s 2,4s 3,5s 4,12s 0,14s 1,16s 2,18s 3,20s 4,33s 0,36s 1,39s 2,42s 3,45s 4"
		if got := strings.Join(log, ","); got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		if c.Elapsed() != time.Hour+45*time.Second {
			t.Fatalf("it took %s", c.Elapsed())
		}
	}
}

// TestRunNested holds that time can be asked for within Run as outside, and that it stands still after.
func TestRunNested(t *testing.T) {
	c := NewClock()
	c.Run(func() {
		c.Run(func() { c.Advance(time.Second) })
		c.Advance(time.Second)
	})
	ran := false
	c.AfterFunc(time.Nanosecond, func() { ran = true })
	time.Sleep(10 * time.Millisecond)
	if c.Elapsed() != 2*time.Second || ran {
		t.Errorf("the clock stands at %s", c.Elapsed())
	}
}

// TestRunBlocksInRealTime holds that a program that waits in real time is waited for.
func TestRunBlocksInRealTime(t *testing.T) {
	c := NewClock()
	start := time.Now()
	c.Run(func() { time.Sleep(20 * time.Millisecond) })
	if took := time.Since(start); took < 20*time.Millisecond || c.Elapsed() != 0 {
		t.Errorf("took %s and %s of virtual time", took, c.Elapsed())
	}
}

// TestTwoClocks holds that two tests at a time, each with a clock, do not wait for each other for ever.
func TestTwoClocks(t *testing.T) {
	for i := range 4 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			c := NewClock()
			c.Run(func() {
				for range 1000 {
					c.Sleep(time.Second)
				}
			})
			if c.Elapsed() != 1000*time.Second {
				t.Errorf("the clock stands at %s", c.Elapsed())
			}
		})
	}
}

func TestWithTimeout(t *testing.T) {
	c := NewClock()
	ctx, cancel := c.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child, cancelChild := context.WithCancel(ctx)
	defer cancelChild()
	c.Run(func() { <-child.Done() })
	if c.Elapsed() != time.Minute || !errors.Is(ctx.Err(), context.DeadlineExceeded) || !errors.Is(child.Err(), context.DeadlineExceeded) {
		t.Errorf("after %s: %v, and its child %v", c.Elapsed(), ctx.Err(), child.Err())
	}

	ctx, cancel = c.WithTimeout(context.Background(), time.Minute)
	cancel()
	if ctx.Err() != context.Canceled || c.Step() {
		t.Errorf("cancelled: %v, or its timer goes on", ctx.Err())
	}

	parent, cancelParent := context.WithCancel(context.Background())
	ctx, cancel = c.WithTimeout(parent, time.Minute)
	defer cancel()
	cancelParent()
	<-ctx.Done()
	if ctx.Err() != context.Canceled {
		t.Errorf("its parent was cancelled: %v", ctx.Err())
	}
}

// TestStuck holds that a Run that cannot end fails, and says why, and that the program then ends.
func TestStuck(t *testing.T) {
	ft := newFakeT(t, t.Name())
	var runs atomic.Int64
	log := ft.run(func(t testing.TB) {
		clock := NewClock()
		l := New(t, Options{Clock: clock, NoRecord: true})
		h := l.Host("h")
		ln, err := h.Listen("tcp", ":1")
		if err != nil {
			t.Fatal(err)
		}
		var again func()
		again = func() { runs.Add(1); clock.AfterFunc(time.Minute, again) }
		again()
		clock.Run(func() { ln.Accept() })
	})
	if !ft.Failed() || !strings.Contains(log, "more than 24h0m0s of virtual time") || runs.Load() < 24*60 {
		t.Errorf("failed: %v after %d timers: %s", ft.Failed(), runs.Load(), log)
	}
}
