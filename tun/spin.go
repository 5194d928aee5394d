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

	// maxSpinCredit bounds how many spins in vain it takes to stop spinning.
	maxSpinCredit = 4
)

// spinner decides what the reader of an empty queue does: look again, or sleep in the poller. It spins
// only as long as spinning pays: each spin in vain costs a credit, each packet that came during a spin, or
// so soon after one that a spin would have met it, earns one. An idle queue is not watched at all.
type spinner struct {
	tries  int
	since  time.Time // when the present spin or sleep began; zero if there is none
	credit int
}

// again reports whether to look at the queue again at once. After false the caller sleeps.
func (s *spinner) again() bool {
	if s.tries < yields {
		s.tries++
		runtime.Gosched()
		return true
	}
	now := time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	if s.credit > 0 {
		if now.Sub(s.since) < spinTime {
			runtime.Gosched()
			return true
		}
		s.credit--
	}
	s.since = now
	return false
}

// found notes that the queue held a packet.
func (s *spinner) found() {
	s.tries = 0
	if s.since.IsZero() {
		return
	}
	if s.credit < maxSpinCredit && time.Since(s.since) < spinTime {
		s.credit++
	}
	s.since = time.Time{}
}
