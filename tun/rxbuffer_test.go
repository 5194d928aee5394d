package tun

import (
	"bytes"
	"testing"
)

func TestRxBuffer(t *testing.T) {
	sum := 0
	for _, size := range rxSizes {
		sum += size
	}
	if sum != maxFrame {
		t.Fatalf("the pieces hold %d bytes, want %d", sum, maxFrame)
	}
	var b rxBuffer
	defer b.release()
	for _, n := range []int{1, 40, 1500, 4095, 4096, 4097, 8192, 8193, 16384, 30000, 32768, 65535, 65536} {
		refilled := 0
		b.refill(func(i int, memory []byte) {
			refilled++
			if len(memory) != rxSizes[i] {
				t.Errorf("piece %d has %d bytes, want %d", i, len(memory), rxSizes[i])
			}
		})
		want := []byte(randomPayload(n))
		rest := want
		for _, v := range b.views {
			rest = rest[copy(v.AsSlice(), rest):]
		}
		if got := bytes.Join(b.frame(n), nil); !bytes.Equal(got, want) {
			t.Errorf("frame of %d bytes differs from what was read", n)
		}
		held := 0
		out := b.take(n)
		views := out.AsViewList()
		for v := views.Front(); v != nil; v = v.Next() {
			held += v.Capacity()
		}
		if got := out.Flatten(); !bytes.Equal(got, want) {
			t.Errorf("packet of %d bytes differs from what was read", n)
		}
		if held > 2*n && held > 64 { // netstack's smallest piece
			t.Errorf("packet of %d bytes holds %d bytes of memory", n, held)
		}
		if n < copyBreak && b.views[0] == nil {
			t.Errorf("packet of %d bytes took the buffer away", n)
		}
		out.Release()
	}
}
