package dashboard

import "testing"

// TestKept: whatever is pushed and popped, the beginning and the newest are there, each under its number.
func TestKept(t *testing.T) {
	k := kept{beginning: 5}
	numbers := func() (all []uint64) {
		for e := range k.All() {
			all = append(all, e.seq)
		}
		return all
	}
	const limit = 12
	for n := range uint64(40) {
		if k.Len() >= limit {
			k.Pop()
		}
		if k.Next() != n {
			t.Fatalf("entry %d gets number %d", n, k.Next())
		}
		k.Push(&entry{seq: n})
		all := numbers()
		if len(all) != k.Len() || all[len(all)-1] != n {
			t.Fatalf("after entry %d: %v", n, all)
		}
		for i, seq := range all {
			want := uint64(i)
			if i >= 5 {
				want = n - uint64(len(all)-1-i)
			}
			if seq != want || k.At(seq).seq != seq || k.Find(seq).seq != seq {
				t.Fatalf("after entry %d: %v", n, all)
			}
		}
	}
	if k.Seek(3) != 3 || k.Seek(5) != 33 || k.Seek(36) != 36 || k.Seek(40) != 40 || k.Find(20) != nil {
		t.Errorf("seek %d %d %d %d", k.Seek(3), k.Seek(5), k.Seek(36), k.Seek(40))
	}
	for k.Len() > 3 {
		k.Pop()
	}
	k.Push(&entry{seq: 40}) // it does not join the beginning
	if all := numbers(); len(all) != 4 || all[0] != 0 || all[2] != 2 || all[3] != 40 || k.At(40).seq != 40 {
		t.Errorf("%v", all)
	}
}
