package tun

import (
	"runtime"
	"time"
)

const (
	// yields is how often an empty queue is looked at again after letting other goroutines run, which
	// mostly are about to cause the next packet.
	yields = 3

	// spinTime is how long an empty queue is watched beyond that. Being woken by the poller costs about
	// as much as this, and an answer over the same machine comes sooner.
	spinTime = 30 * time.Microsecond

	// soon is how long after a queue ran empty a packet must come for a spin to have been worth trying.
	// It is longer than spinTime, as being woken delays the packet's sender too when that waits for an answer.
	soon = 100 * time.Microsecond

	// maxSpinCredit bounds how many spins in vain it takes to stop spinning.
	maxSpinCredit = 8
)

// spinner decides what the reader of an empty queue does: look again, or sleep in the poller. It spins
// only while spinning pays: each spin in vain costs a credit, each packet that comes soon after the
// queue ran empty earns one. An idle queue is not watched at all.
type spinner struct {
	tries  int       // since the queue ran empty
	empty  time.Time // when that was; zero until tries are used up
	credit int
}

// again reports whether to look at the queue again at once. After false the caller sleeps.
func (s *spinner) again() bool {
	if s.tries < yields {
		s.tries++
		runtime.Gosched()
		return true
	}
	if s.empty.IsZero() {
		s.empty = time.Now()
	}
	if s.credit == 0 {
		return false
	}
	if time.Since(s.empty) < spinTime {
		runtime.Gosched()
		return true
	}
	s.credit--
	return false
}

// found notes that the queue held a packet.
func (s *spinner) found() {
	s.tries = 0
	if s.empty.IsZero() {
		return
	}
	if s.credit < maxSpinCredit && time.Since(s.empty) < soon {
		s.credit++
	}
	s.empty = time.Time{}
}
