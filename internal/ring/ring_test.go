package ring

import (
	"slices"
	"testing"
)

// TestQueue pushes and pops past every size of the buffer: what is kept is always the newest, under its number.
func TestQueue(t *testing.T) {
	var q Queue[*int]
	for n := range 1000 {
		q.Push(&n)
		if limit := n/7 + 1; q.Len() > limit {
			if p := q.Pop(); *p != int(q.First())-1 {
				t.Fatalf("popped %d, want %d", *p, q.First()-1)
			}
		}
		if q.Next() != uint64(n+1) {
			t.Fatalf("after %d values Next is %d", n+1, q.Next())
		}
		want := int(q.First())
		for p := range q.All() {
			if *p != want || q.At(uint64(want)) != p {
				t.Fatalf("value %d stands where %d should", *p, want)
			}
			want++
		}
		if want != n+1 {
			t.Fatalf("the newest value is %d, want %d", want-1, n)
		}
	}
	for _, at := range []int{0, int(q.First()), 900, 2000} {
		want := uint64(min(max(at, int(q.First())), 1000))
		if got := q.Find(func(p *int) bool { return *p >= at }); got != want {
			t.Errorf("the first value from %d on is number %d, want %d", at, got, want)
		}
	}
	for q.Len() > 0 {
		q.Pop()
	}
	if slices.ContainsFunc(q.buf, func(p *int) bool { return p != nil }) {
		t.Error("the queue holds on to what was popped")
	}
}
