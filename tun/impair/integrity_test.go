package impair

import (
	"context"
	"errors"
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
		conns int // at the same time
		piece int64
		limit time.Duration // for a piece
	}{
		{1, 1, long, 5 * time.Minute},
		// The stacks here are netstack without the guards of package stack: once in a hundred connections one
		// waits for ever.
		{5, 4, 2 << 20, 20 * time.Second},
		// At 20 % loss each way netstack takes round-trip times from acknowledgments of segments that were sent
		// again and again, and its timeouts grow into minutes: there a connection may fail, which is an error and
		// never wrong bytes, and its piece is sent once more.
		{20, 32, 64 << 10, 4 * time.Second},
	} {
		for _, v6 := range []bool{false, true} {
			for _, up := range []bool{false, true} {
				t.Run(fmt.Sprintf("loss=%d%%/v6=%t/up=%t", tt.loss, v6, up), func(t *testing.T) {
					t.Parallel()
					size := int64(short)
					switch {
					case longTests():
						size = long
					case testing.Short():
						size = short / 10
					}
					n := newImpaired(t, fmt.Sprintf("loss %d%% corrupt 2%% duplicate 2%% delay 10ms 2ms reorder 5%% limit 10000", tt.loss))
					n.move(t, v6, up, size, tt.piece, tt.conns, tt.limit)
					checkCaught(t, n.link.Stats(), v6)
				})
			}
		}
	}
}

func newImpaired(t *testing.T, netem string) *network {
	n := newNetwork(t, Config{Seed: 7})
	spec, err := Parse(netem)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []Direction{In, Out} {
		if err := n.link.Set(dir, spec); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// move moves size bytes in pieces, each on a connection of its own, several at a time. A piece that takes longer
// than limit is tried again, a few times.
func (n *network) move(t *testing.T, v6, up bool, size, piece int64, conns int, limit time.Duration) {
	const tries = 8
	var moving sync.WaitGroup
	room := make(chan struct{}, conns)
	for ; size > 0; size -= piece {
		part := min(size, piece)
		room <- struct{}{}
		moving.Go(func() {
			defer func() { <-room }()
			for try := 1; ; try++ {
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				err := n.transfer(ctx, v6, up, part)
				cancel()
				switch {
				case err == nil:
					return
				case errors.Is(err, errWrongBytes) || try == tries:
					t.Errorf("try %d: %v", try, err)
					return
				}
			}
		})
	}
	moving.Wait()
}

func checkCaught(t *testing.T, stats LinkStats, v6 bool) {
	for dir, s := range map[string]Stats{"in": stats.In, "out": stats.Out} {
		if s.Corrupted == 0 || s.Duplicated == 0 || s.Reordered == 0 || s.Lost == 0 {
			t.Errorf("%s: a cause did not show: %+v", dir, s)
		}
		// In an IPv4 packet each bit is under a checksum. In an IPv6 packet traffic class, flow label, hop limit and
		// next header are not: 44 bits of the 576 of a small one.
		missed := int64(s.Corrupted) - int64(s.Caught) - int64(s.Queued)
		if s.Caught > s.Corrupted || !v6 && missed > 0 || v6 && s.Caught < s.Corrupted*3/4 {
			t.Errorf("%s: checksums caught %d of %d corrupted packets", dir, s.Caught, s.Corrupted)
		}
	}
}
