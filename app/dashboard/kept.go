package dashboard

import (
	"iter"

	"github.com/catflap/catflap/internal/ring"
)

// kept are the entries of a connection: the first ones, which tell how it began, and the newest. Entries are numbered
// from 0 in the order in which they came, for ever. The zero kept has no first ones.
type kept struct {
	beginning int      // how many of the first are to be kept
	head      []*entry // numbered from 0; the last of them go last of all
	headed    uint64   // how many there have been
	tail      ring.Queue[*entry]
}

// Len is how many there are.
func (k *kept) Len() int { return len(k.head) + k.tail.Len() }

// Next is the number of the entry to come.
func (k *kept) Next() uint64 { return k.headed + k.tail.Next() }

// Seek returns the first number, from n on, of an entry that is kept; Next if there is none.
func (k *kept) Seek(n uint64) uint64 {
	if n < uint64(len(k.head)) {
		return n
	}
	return max(n, k.headed+k.tail.First())
}

// At returns entry n, which is kept.
func (k *kept) At(n uint64) *entry {
	if n < k.headed {
		return k.head[n]
	}
	return k.tail.At(n - k.headed)
}

// Push adds an entry.
func (k *kept) Push(e *entry) {
	if k.tail.Next() == 0 && uint64(len(k.head)) == k.headed && len(k.head) < k.beginning {
		k.head = append(k.head, e)
		k.headed++
		return
	}
	k.tail.Push(e)
}

// Pop forgets the oldest entry but for the first ones, and of those, if no others are left, the last. There must be one.
func (k *kept) Pop() *entry {
	if k.tail.Len() > 0 {
		return k.tail.Pop()
	}
	last := len(k.head) - 1
	e := k.head[last]
	k.head[last] = nil
	k.head = k.head[:last]
	return e
}

// All yields what is kept, the oldest first.
func (k *kept) All() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for n := k.Seek(0); n < k.Next() && yield(k.At(n)); n = k.Seek(n + 1) {
		}
	}
}

// Find returns the entry of an event's number, nil if it is not kept.
func (k *kept) Find(seq uint64) *entry {
	for _, e := range k.head {
		if e.seq == seq {
			return e
		}
	}
	if n := k.tail.Find(func(e *entry) bool { return e.seq >= seq }); n < k.tail.Next() && k.tail.At(n).seq == seq {
		return k.tail.At(n)
	}
	return nil
}
