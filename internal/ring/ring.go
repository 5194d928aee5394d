// Package ring keeps the newest of what comes.
package ring

import "iter"

// Queue is a queue of the newest values: whoever pushes also pops, by a limit of his own. Values are numbered from 0 in the order
// in which they came, for ever, so that a reader who remembers a number can tell how many were forgotten meanwhile. The zero
// Queue is empty and ready to use.
type Queue[T any] struct {
	buf         []T    // of a power of two; value n is at n mod len(buf)
	first, next uint64 // numbers: of the oldest value kept, and of the one to come
}

// Len is how many values are kept.
func (q *Queue[T]) Len() int { return int(q.next - q.first) }

// First is the number of the oldest value that is kept, and so how many were popped.
func (q *Queue[T]) First() uint64 { return q.first }

// Next is the number of the value to come.
func (q *Queue[T]) Next() uint64 { return q.next }

// At returns value n, which is kept.
func (q *Queue[T]) At(n uint64) T { return q.buf[q.slot(n)] }

func (q *Queue[T]) slot(n uint64) uint64 { return n & uint64(len(q.buf)-1) }

// All yields what is kept, the oldest first.
func (q *Queue[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for n := q.first; n < q.next && yield(q.At(n)); n++ {
		}
	}
}

// Push adds a value.
func (q *Queue[T]) Push(v T) {
	if q.Len() == len(q.buf) {
		grown := Queue[T]{buf: make([]T, max(8, 2*len(q.buf))), first: q.first, next: q.next}
		for n := q.first; n != q.next; n++ {
			grown.buf[grown.slot(n)] = q.At(n)
		}
		*q = grown
	}
	q.buf[q.slot(q.next)] = v
	q.next++
}

// Pop forgets the oldest value, and returns it. There must be one.
func (q *Queue[T]) Pop() T {
	i := q.slot(q.first)
	v := q.buf[i]
	clear(q.buf[i : i+1])
	q.first++
	return v
}

// Find returns the number of the first value, at or after the oldest, that ok holds for; Next if for none. As in sort.Search, ok
// must hold for all values after that one too.
func (q *Queue[T]) Find(ok func(T) bool) uint64 {
	lo, hi := q.first, q.next
	for lo < hi {
		mid := lo + (hi-lo)/2
		if ok(q.At(mid)) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
