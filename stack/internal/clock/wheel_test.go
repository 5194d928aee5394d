package clock

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestWheelFiresInTime holds each timer of a wheel against its time: not before it,
// and not more than a tick after it.
func TestWheelFiresInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		defer w.close()
		var fired atomic.Int64
		rng := rand.New(rand.NewPCG(1, 2))
		const timers = 2000
		for i := range timers {
			d := time.Duration(rng.Int64N(int64(200 * time.Second))) // two turns and more
			if i%10 == 0 {
				d = time.Duration(rng.Int64N(int64(wheelLeast)))
			}
			want := time.Now().Add(d)
			w.afterFunc(d, func() {
				fired.Add(1)
				late := time.Since(want)
				if late < 0 || late > wheelTick || d < wheelLeast && late != 0 {
					t.Errorf("a timer of %v fired %v late", d, late)
				}
			})
			time.Sleep(time.Duration(rng.Int64N(int64(20 * time.Millisecond))))
		}
		time.Sleep(300 * time.Second)
		if n := fired.Load(); n != timers {
			t.Errorf("%d of %d timers fired", n, timers)
		}
		if w.next != 0 || w.used != [wheelSlots / 64]uint64{} {
			t.Error("the wheel still waits, and nothing is set")
		}
	})
}

func TestWheelStopAndReset(t *testing.T) {
	for _, d := range []time.Duration{wheelLeast / 2, wheelLeast, time.Second, time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWheel()
				defer w.close()
				var fired atomic.Int64
				tm := w.afterFunc(d, func() { fired.Add(1) })
				if got := tm.At().Sub(tcpip.MonotonicTime{}) - time.Since(w.base); got != d {
					t.Errorf("it fires in %v, want %v", got, d)
				}
				time.Sleep(d - time.Millisecond)
				if !tm.Stop() || tm.Stop() {
					t.Error("Stop: want true of a timer that runs, and then false")
				}
				time.Sleep(2 * d)
				if fired.Load() != 0 {
					t.Fatal("a stopped timer fired")
				}
				// From a short time to a long one and back, as retransmission does.
				for _, again := range []time.Duration{d, wheelLeast / 4, 2 * d} {
					tm.Reset(again)
				}
				time.Sleep(2*d - time.Millisecond)
				if fired.Load() != 0 {
					t.Fatal("a timer fired at a time that it was set away from")
				}
				time.Sleep(time.Millisecond + wheelTick)
				if fired.Load() != 1 {
					t.Fatalf("fired %d times, want once", fired.Load())
				}
				if tm.Stop() || tm.At().Sub(tcpip.MonotonicTime{}) > time.Since(w.base) {
					t.Error("a timer that has fired still runs")
				}
				tm.Reset(d)
				time.Sleep(d + wheelTick)
				if fired.Load() != 2 {
					t.Errorf("fired %d times, want twice: it was set anew", fired.Load())
				}
			})
		})
	}
}

func TestWheelForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		defer w.close()
		w.afterFunc(1<<63-1, func() { t.Error("for ever is over") })
		time.Sleep(time.Hour)
	})
}

func TestWheelClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWheel()
		tm := w.afterFunc(time.Second, func() { t.Error("fired after close") })
		w.close()
		tm.Reset(time.Second)
		time.Sleep(time.Minute)
	})
}

// TestWheelDistance holds the search for the next used slot against one by one.
func TestWheelDistance(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		w := &wheel{}
		for range rng.IntN(4) {
			i := rng.IntN(wheelSlots)
			w.used[i/64] |= 1 << (i % 64)
		}
		tick := rng.Int64N(5 * wheelSlots)
		want := int64(0)
		for d := int64(1); d <= wheelSlots; d++ {
			if i := (tick + d) % wheelSlots; w.used[i/64]&(1<<(i%64)) != 0 {
				want = d
				break
			}
		}
		if got := w.distance(tick); got != want {
			t.Fatalf("distance from %d = %d, want %d", tick, got, want)
		}
	}
}

// TestWheelManyUsers has several goroutines set and stop timers: the race detector looks,
// and no timer is left.
func TestWheelManyUsers(t *testing.T) {
	w := newWheel()
	var users sync.WaitGroup
	for u := range 4 {
		users.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(u), 5))
			timers := make([]*wheelTimer, 50)
			for i := range timers {
				timers[i] = w.afterFunc(wheelLeast, func() {})
			}
			for range 2000 {
				switch tm := timers[rng.IntN(len(timers))]; rng.IntN(3) {
				case 0:
					tm.Stop()
				default:
					tm.Reset(time.Duration(rng.Int64N(int64(2 * wheelLeast))))
				}
			}
			for _, tm := range timers {
				tm.Stop()
			}
		})
	}
	users.Wait()
	w.mu.Lock()
	if w.used != [wheelSlots / 64]uint64{} {
		t.Error("all timers are stopped, and the wheel holds some")
	}
	w.mu.Unlock()
	w.close()
}

func BenchmarkTimer(b *testing.B) {
	const others = 100_000 // connections in TIME-WAIT
	b.Run("wheel", func(b *testing.B) {
		w := newWheel()
		defer w.close()
		for range others {
			w.afterFunc(time.Minute, func() {})
		}
		b.ReportAllocs()
		for b.Loop() {
			w.afterFunc(time.Minute, func() {}).Stop()
		}
	})
	b.Run("heap", func(b *testing.B) {
		for range others {
			defer time.AfterFunc(time.Minute, func() {}).Stop()
		}
		b.ReportAllocs()
		for b.Loop() {
			time.AfterFunc(time.Minute, func() {}).Stop()
		}
	})
}
