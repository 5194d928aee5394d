package lab

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// maxBusy is how long, in real time, a process may go on without a moment at which nothing runs.
const maxBusy = time.Minute

const (
	// spins is how often the scheduler is asked before this goroutine sleeps in between: at some 100 ns each, longer than
	// most of what a packet sets in motion.
	spins = 1000
	// spinInterval is how long it sleeps then: about the shortest that an operating system can.
	spinInterval = 20 * time.Microsecond
	// maxSyscall is how long a system call is waited for. One that takes longer waits for something from outside, as
	// package os/signal does for ever.
	maxSyscall = 10 * time.Millisecond
)

// quiet asks the scheduler whether any goroutine can run. Its mutex is held by whoever asks, so that two of them do not take
// each other for the program.
var quiet = struct {
	sync.Mutex
	samples  []metrics.Sample
	syscalls uint64 // that have lasted longer than maxSyscall; guarded by the mutex
}{samples: []metrics.Sample{
	{Name: "/sched/goroutines/running:goroutines"},
	{Name: "/sched/goroutines/runnable:goroutines"},
	{Name: "/sched/goroutines/not-in-go:goroutines"},
}}

// waitQuiet returns true once no goroutine of the process but the caller's runs or could run, or once done is closed; or
// false after maxBusy. All then wait for a timer, for input from outside, or for each other.
//
// The answer is exact: the scheduler counts under its lock, a processor that has nothing to run cannot be given something but
// by a goroutine that runs, which is then counted, and the caller is the only one.
func waitQuiet(done <-chan struct{}) bool {
	q := &quiet
	q.Lock()
	defer q.Unlock()
	var start, syscall time.Time
	for n := 0; ; n++ {
		metrics.Read(q.samples)
		running, runnable, syscalls := q.samples[0].Value.Uint64(), q.samples[1].Value.Uint64(), q.samples[2].Value.Uint64()
		switch {
		case running > 1 || runnable > 0:
			syscall = time.Time{}
		case syscalls <= q.syscalls:
			q.syscalls = syscalls
			return true
		case syscall.IsZero():
			syscall = time.Now()
		case time.Since(syscall) > maxSyscall:
			q.syscalls = syscalls
			return true
		}
		if runnable > 0 {
			runtime.Gosched()
		}
		if n < spins {
			continue
		}
		if start.IsZero() {
			start = time.Now()
		}
		select {
		case <-done:
			return true
		default:
		}
		if time.Since(start) > maxBusy {
			return false
		}
		time.Sleep(spinInterval)
	}
}
