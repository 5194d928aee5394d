package lab

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/catflap/catflap/tun/impair"
)

// TestIntegrity moves bytes through a network that loses, reorders, duplicates and corrupts, and asserts that they arrive as
// they were sent, and that this is because checksums caught what was corrupted.
func TestIntegrity(t *testing.T) {
	size := 10 << 20 // bytes a case
	switch {
	case os.Getenv("CATFLAP_LONG") != "":
		size *= 10
	case raceEnabled || testing.Short():
		size /= 10
	}
	for _, loss := range []int{1, 5, 20} {
		for _, v6 := range []bool{false, true} {
			for _, up := range []bool{false, true} {
				t.Run(fmt.Sprintf("loss=%d%%/v6=%t/up=%t", loss, v6, up), func(t *testing.T) {
					clock := NewClock()
					l := New(t, Options{Clock: clock, Seed: 7, NoRecord: true})
					server, client := l.Host("server"), l.Host("client")
					link := l.Link(server, client, Netem(fmt.Sprintf("loss %d%% corrupt 2%% duplicate 2%% delay 10ms 2ms reorder 5%% limit 10000", loss)))
					from, to := server, client
					if up {
						from, to = to, from
					}
					addr := from.Addr()
					if v6 {
						addr = from.Addrs()[1].Addr()
					}
					b := newBulkTo(t, clock, from, to, addr)
					start := clock.Elapsed()
					got, at := b.run(size, start+24*time.Hour)
					if got != size {
						t.Fatalf("%d of %d bytes arrived, the last after %s", got, size, at-start)
					}
					t.Logf("%s, by the clock of the stacks", at-start)
					checkCaught(t, link.Stats(), v6)
				})
			}
		}
	}
}

func checkCaught(t *testing.T, stats impair.LinkStats, v6 bool) {
	for dir, s := range map[string]impair.Stats{"in": stats.In, "out": stats.Out} {
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
