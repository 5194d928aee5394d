package conformance

import (
	"fmt"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/internal/random"
	"github.com/catflap/catflap/stack"
)

var isnCases = []goCase{
	{header{6528, "3", "SHOULD", "The same 4-tuple gets a larger initial number a second later.", ""}, "isn-same-tuple", "isn_test.go", isnSameTuple},
	{header{6528, "3", "SHOULD", "The initial numbers of neighbouring ports do not follow from each other.", ""}, "isn-neighbours", "isn_test.go", isnNeighbours},
	{header{6528, "3", "SHOULD", "After a restart, the same 4-tuple gets another initial number at the same time.", ""}, "isn-restart", "isn_test.go", isnRestart},
}

// isnHost has a listener on 10.1.0.1:80. Its secrets follow from a seed, so that a test gives the same result each time.
func isnHost(t testing.TB, seed byte) *host {
	t.Helper()
	h := newHost(t, stack.Config{Rand: random.NewBytes([32]byte{seed})}, "10.1.0.1/24")
	l, err := h.s.Listen("tcp", "10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return h
}

// isn opens a connection from a port, and resets it.
func (h *host) isn(port int) uint32 {
	h.t.Helper()
	from := fmt.Sprintf("10.1.0.2:%d", port)
	got := h.ask(segment(from, "10.1.0.1:80", layers.TCP{SYN: true, Seq: 100, Window: 65535}))
	if len(got) != 1 || got[0].TCP == nil || got[0].TCP.Ack != 101 {
		h.t.Fatalf("a SYN was answered by %v", got)
	}
	h.send(segment(from, "10.1.0.1:80", layers.TCP{RST: true, Seq: 101}))
	return got[0].TCP.Seq
}

func isnSameTuple(t testing.TB) {
	h := isnHost(t, 1)
	last := h.isn(5000)
	for i := range 60 {
		h.wires[0].Advance(time.Second)
		next := h.isn(5000)
		// RFC 9293 section 3.4.1: the clock counts about every 4 microseconds; Linux's is faster. What matters is
		// that the numbers of the earlier connection lie behind.
		if d := next - last; d == 0 || d >= 1<<31 {
			t.Fatalf("after %d seconds %d follows %d", i+1, next, last)
		}
		last = next
	}
}

func isnNeighbours(t testing.TB) {
	h := isnHost(t, 1)
	const n = 256
	var quarters [4]int
	steps := map[uint32]bool{}
	last := uint32(0)
	for port := range n {
		v := h.isn(5000 + port)
		quarters[v>>30]++
		steps[v-last] = true
		last = v
	}
	if len(steps) != n {
		t.Errorf("%d ports, %d different distances", n, len(steps))
	}
	for i, c := range quarters {
		// Of 256 fair draws, fewer than 32 in a quarter come once in a hundred thousand.
		if c < n/8 || c > n/2 {
			t.Errorf("%d of %d numbers are in quarter %d of the space", c, n, i)
		}
	}
}

func isnRestart(t testing.TB) {
	seen := map[uint32]bool{}
	for seed := range byte(4) {
		seen[isnHost(t, seed).isn(5000)] = true
	}
	if len(seen) != 4 {
		t.Errorf("4 stacks gave %d different numbers", len(seen))
	}
}
