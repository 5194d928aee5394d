package impair

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestIntegrity moves bytes through a network that loses, reorders, duplicates and corrupts, and asserts that
// they arrive as they were sent, and that this is because checksums caught what was corrupted.
func TestIntegrity(t *testing.T) {
	const (
		short = 10 << 20 // bytes a case
		long  = 100 << 20
	)
	for _, tt := range []struct {
		loss  int
		conns int // at the same time: a connection that loses a lot spends its time in retransmission timeouts
	}{{1, 1}, {5, 4}, {20, 32}} {
		for _, v6 := range []bool{false, true} {
			for _, up := range []bool{false, true} {
				t.Run(fmt.Sprintf("loss=%d%%/v6=%t/up=%t", tt.loss, v6, up), func(t *testing.T) {
					t.Parallel()
					size := int64(short)
					if longTests() {
						size = long
					}
					if testing.Short() {
						size /= 10
					}
					integrity(t, tt.loss, tt.conns, size, v6, up)
				})
			}
		}
	}
}

func integrity(t *testing.T, loss, conns int, size int64, v6, up bool) {
	n := newNetwork(t, Config{Seed: 7})
	spec, err := Parse(fmt.Sprintf("loss %d%% corrupt 2%% duplicate 2%% delay 1ms 200us reorder 5%%", loss))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []Direction{In, Out} {
		if err := n.link.Set(dir, spec); err != nil {
			t.Fatal(err)
		}
	}
	ctx := within(t, 10*time.Minute)
	var transfers sync.WaitGroup
	for range conns {
		transfers.Go(func() {
			if err := n.transfer(ctx, v6, up, size/int64(conns)); err != nil {
				t.Error(err)
			}
		})
	}
	transfers.Wait()
	stats := n.link.Stats()
	for dir, s := range map[string]Stats{"in": stats.In, "out": stats.Out} {
		if s.Corrupted == 0 || s.Duplicated == 0 || s.Reordered == 0 || s.Lost == 0 {
			t.Errorf("%s: a cause did not show: %+v", dir, s)
		}
		// In an IPv4 packet each bit is under a checksum. In an IPv6 packet traffic class, flow label, hop limit and
		// next header are not: 44 bits of the 576 of a small one.
		missed := s.Corrupted - s.Caught - uint64(s.Queued)
		if s.Caught > s.Corrupted || !v6 && int64(missed) > 0 || v6 && s.Caught < s.Corrupted*3/4 {
			t.Errorf("%s: checksums caught %d of %d corrupted packets", dir, s.Caught, s.Corrupted)
		}
	}
}
