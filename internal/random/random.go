// Package random makes random numbers that are the same for the same seed. What a seed gives is kept as it is: people note seeds to
// have a run again.
package random

import (
	oldrand "math/rand"
	"math/rand/v2"
	"sync"
)

// Bytes is an endless stream of random bytes, the same for the same seed. It may be used by several goroutines.
type Bytes struct {
	mu  sync.Mutex
	src *rand.ChaCha8 // guarded by mu
}

// NewBytes returns the stream of a seed.
func NewBytes(seed [32]byte) *Bytes { return &Bytes{src: rand.NewChaCha8(seed)} }

// Read implements io.Reader; it never fails.
func (b *Bytes) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.src.Read(p)
}

// NewSource returns math/rand's source of a seed, which several goroutines may use, as netstack does.
func NewSource(seed int64) oldrand.Source64 {
	return &source{src: oldrand.NewSource(seed).(oldrand.Source64)}
}

type source struct {
	mu  sync.Mutex
	src oldrand.Source64 // guarded by mu
}

func (s *source) Int63() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Int63()
}

func (s *source) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Uint64()
}

func (s *source) Seed(seed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.src.Seed(seed)
}

// NewStream returns the sequence of one of the many streams, by its number, that share a seed. Streams and seeds may be neighbours.
func NewStream(seed, stream uint64) *rand.PCG {
	// PCGs whose states are close start out alike, so they are taken apart first.
	return rand.NewPCG(mix(seed), mix(seed^mix(stream)))
}

// mix is the finalizer of SplitMix64: it scatters its argument over all 64 bits.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
