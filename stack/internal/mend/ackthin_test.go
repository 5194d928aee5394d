package mend

import "testing"

// TestFlowSlots has flows that differ in one thing spread well, whichever it is.
func TestFlowSlots(t *testing.T) {
	const n, flows = 128, 128
	for name, change := range map[string]func(k *flowKey, i int){
		"source port":      func(k *flowKey, i int) { k[0], k[1] = 0x80|byte(i>>8), byte(i) },
		"even source port": func(k *flowKey, i int) { k[0], k[1] = 0x80|byte(i>>7), byte(2*i) },
		"destination port": func(k *flowKey, i int) { k[2], k[3] = 0x80|byte(i>>8), byte(i) },
		"IPv4 source":      func(k *flowKey, i int) { k[7] = byte(i) },
		"IPv4 destination": func(k *flowKey, i int) { k[11] = byte(i) },
		"IPv6 destination": func(k *flowKey, i int) { k[35] = byte(i) },
	} {
		used := map[uint16]bool{}
		for i := range flows {
			k := flowKey{0: 0, 1: 80, 2: 0x90, 3: 1, 4: 10, 8: 10}
			change(&k, i)
			used[k.slot(n)] = true
		}
		if want := n * 55 / 100; len(used) < want { // by chance 63 % of the places
			t.Errorf("%s: %d flows in %d of %d places, want %d or more", name, flows, len(used), n, want)
		}
	}
}
