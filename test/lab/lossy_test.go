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
	for seed := range uint64(5) {
		for _, rate := range []string{"", " rate 1gbit"} {
			t.Run(fmt.Sprintf("seed=%d%s", seed+1, rate), func(t *testing.T) {
				clock := NewClock()
				l := New(t, Options{Clock: clock, Seed: seed + 1, NoRecord: true})
				client, server := l.Host("client"), l.Host("server")
				l.Link(client, server, Netem("delay 1500us loss 20%"+rate))
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
