package tun_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/catflap/catflap/tun"
)

// TestTransfer moves bytes both ways between the kernel's TCP and netstack's, through a real device.
func TestTransfer(t *testing.T) {
	for _, tc := range []struct {
		driver tun.Driver
		queues int
		size   int64
	}{
		{tun.Offload, 1, 64 << 20},
		{tun.Offload, 2, 32 << 20},
		{tun.Water, 1, 4 << 20},
		{tun.Water, 2, 4 << 20},
	} {
		t.Run(fmt.Sprintf("%v-%d", tc.driver, tc.queues), func(t *testing.T) {
			ns := startNS(t, tun.Config{Driver: tc.driver, Queues: tc.queues})
			dev := ns.Device()
			if dev.Driver() != tc.driver || dev.Queues() != tc.queues {
				t.Fatalf("got driver %v with %d queues, want %v with %d", dev.Driver(), dev.Queues(), tc.driver, tc.queues)
			}
			t.Log(dev.Offloads())
			serve(t, newStack(t, dev.Endpoint(), stackAddrs...))
			want := patternSum(tc.size)
			for _, addr := range []string{"10.9.0.2:80", "[fd00:9::2]:80"} {
				for _, direction := range []string{"down", "up"} {
					before := dev.Stats()
					got := strings.Fields(runSelf(t, ns, direction, addr, fmt.Sprint(tc.size)))[0]
					if got != want {
						t.Errorf("%s %s: SHA-256 %s, want %s", direction, addr, got, want)
					}
					after := dev.Stats()
					// With super-packets of up to 64 KiB the data takes far fewer packets than segments.
					packets, gso := after.TxPackets-before.TxPackets, after.TxGSOPackets-before.TxGSOPackets
					if direction == "up" {
						packets, gso = after.RxPackets-before.RxPackets, after.RxGSOPackets-before.RxGSOPackets
					}
					segments := uint64(tc.size / 1448)
					if tc.driver == tun.Offload && (packets > segments/4 || gso == 0) {
						t.Errorf("%s %s: %d packets (%d GSO) for %d segments: offload does not work", direction, addr, packets, gso, segments)
					}
					if tc.driver == tun.Water && (gso != 0 || packets < segments) {
						t.Errorf("%s %s: %d packets (%d GSO) for %d segments: there should be no offload", direction, addr, packets, gso, segments)
					}
				}
			}
			if s := dev.Stats(); s.RxDroppedBadChecksum+s.RxDroppedBadVnetHdr+s.RxDroppedTruncated+s.RxDroppedNotIP+s.TxDroppedError+s.TxDroppedTooBig != 0 {
				t.Errorf("dropped what was good: %+v", s)
			}
		})
	}
}
