//go:build !race

// Under the race detector sync.Pool forgets at random.

package tun

import (
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// allocs bounds the allocations for a packet: none but when the garbage collector empties a pool.
const allocs = 0.5

func TestReceiveAllocs(t *testing.T) {
	for name, frame := range rxFrames(t) {
		var d discard
		r, put := readerOn(t, &d)
		receive := func() {
			if _, err := unix.Write(put, frame); err != nil {
				t.Fatal(err)
			}
			if errno := r.next(); errno != 0 {
				t.Fatal(errno)
			}
		}
		const runs = 500
		if got := testing.AllocsPerRun(runs, receive); got > allocs {
			t.Errorf("%s: %.1f allocations a packet, want none", name, got)
		}
		if d.delivered != runs+1 {
			t.Errorf("%s: %d packets delivered, want %d: %+v", name, d.delivered, runs+1, r.endpoint.dev.Stats())
		}
	}
}

func TestTransmitAllocs(t *testing.T) {
	inNetNS(t)
	dev := open(t, Config{Driver: Offload})
	up(t, dev.Name())
	for name, packet := range txPackets(t) {
		const runs = 500
		var list stack.PacketBufferList
		send := func() {
			list.PushBack(packet())
			if _, err := dev.Endpoint().WritePackets(list); err != nil {
				t.Fatal(err)
			}
			list.Reset()
			dev.tx[0].flush()
		}
		baseline := testing.AllocsPerRun(runs, func() { list.PushBack(packet()); list.Reset() })
		if got := testing.AllocsPerRun(runs, send) - baseline; got > allocs {
			t.Errorf("%s: %.1f allocations a packet, want none", name, got)
		}
	}
	if s := dev.Stats(); s.TxDroppedError+s.TxDroppedDown+s.TxDroppedNoBuffer != 0 {
		t.Errorf("packets were not sent: %+v", s)
	}
}
