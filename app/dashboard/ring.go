package dashboard

// ring is a queue of the newest entries. They are numbered from 0 in the order in which they came, for ever, so
// that a reader who remembers a number can tell how many were forgotten meanwhile.
type ring struct {
	buf         []*entry // of a power of two; entry n is at n mod len(buf)
	first, next uint64   // numbers: of the oldest entry kept, and of the one to come
}

func (r *ring) len() int { return int(r.next - r.first) }

// at returns entry n, which is kept.
func (r *ring) at(n uint64) *entry { return r.buf[n&uint64(len(r.buf)-1)] }

func (r *ring) push(e *entry) {
	if r.len() == len(r.buf) {
		buf := make([]*entry, max(8, 2*len(r.buf)))
		for n := r.first; n != r.next; n++ {
			buf[n&uint64(len(buf)-1)] = r.at(n)
		}
		r.buf = buf
	}
	r.buf[r.next&uint64(len(r.buf)-1)] = e
	r.next++
}

// pop forgets the oldest entry.
func (r *ring) pop() *entry {
	i := r.first & uint64(len(r.buf)-1)
	e := r.buf[i]
	r.buf[i] = nil
	r.first++
	return e
}

// find returns the number of the first entry, at or after the oldest, that ok holds for; r.next if for none. As in
// sort.Search, ok must hold for all entries after that one too.
func (r *ring) find(ok func(*entry) bool) uint64 {
	lo, hi := r.first, r.next
	for lo < hi {
		mid := lo + (hi-lo)/2
		if ok(r.at(mid)) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
