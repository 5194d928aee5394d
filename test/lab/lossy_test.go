package lab

import (
	"fmt"
	"testing"
	"time"
)

// TestLossyLink holds that a transfer gets through where one packet in five is lost, each way: retransmission timeouts do not
// run away.
func TestLossyLink(t *testing.T) {
	const size, limit = 1 << 20, 5 * time.Minute
	seeds := uint64(5)
	if raceEnabled {
		seeds = 1
	}
	for seed := range seeds {
		for _, path := range []string{"delay 1500us", "delay 1500us rate 1gbit", "delay 10ms"} {
			t.Run(fmt.Sprintf("seed=%d %s", seed+1, path), func(t *testing.T) {
				clock := NewClock()
				l := New(t, Options{Clock: clock, Seed: seed + 1, NoRecord: true})
				client, server := l.Host("client"), l.Host("server")
				l.Link(client, server, Netem(path+" loss 20%"))
				b := newBulk(t, clock, server, client)
				start := clock.Elapsed()
				got, at := b.run(size, start+limit)
				if got != size {
					t.Errorf("%d of %d bytes in %s, the last after %s", got, size, limit, at-start)
				}
			})
		}
	}
}
