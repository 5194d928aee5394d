package tun

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// numbered is a packet that says who has sent it, and which of his it is.
func numbered(who, n int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData([]byte{byte(who)})})
	pkt.Hash = uint32(n)
	return pkt
}

// TestTxQueueOrder: several senders, more packets than may wait, and a slow device. Each packet is written
// once, those of one sender in their order, never two at a time, and none is left behind.
func TestTxQueueOrder(t *testing.T) {
	const senders, each = 4, 3 * txQueueLen
	var next [senders]uint32
	var writing atomic.Int32
	q := newTxQueue(func(pkt *stack.PacketBuffer) {
		if writing.Add(1) != 1 {
			t.Error("two packets are written at a time")
		}
		who := pkt.Data().AsRange().ToSlice()[0]
		if pkt.Hash != next[who] {
			t.Errorf("sender %d: packet %d after %d", who, pkt.Hash, next[who])
		}
		if next[who]++; next[who]%100 == 0 {
			time.Sleep(time.Millisecond)
		}
		writing.Add(-1)
	})
	var run, send sync.WaitGroup
	run.Go(q.run)
	for who := range senders {
		send.Go(func() {
			for n := range each {
				pkt := numbered(who, n)
				if !q.put(pkt) {
					t.Errorf("sender %d: packet %d was refused", who, n)
				}
				pkt.DecRef()
			}
		})
	}
	send.Wait()
	q.close()
	run.Wait()
	for who, n := range next {
		if n != each {
			t.Errorf("sender %d: %d packets were written, want %d", who, n, each)
		}
	}
}

// TestTxQueueBound: without a goroutine that writes, the sender does.
func TestTxQueueBound(t *testing.T) {
	written, most := 0, 0
	q := newTxQueue(func(*stack.PacketBuffer) { written++ })
	for n := range 10 * txQueueLen {
		pkt := numbered(0, n)
		q.put(pkt)
		pkt.DecRef()
		most = max(most, n+1-written)
	}
	if written != 10*txQueueLen || most != txQueueLen-1 {
		t.Errorf("%d packets of %d written, up to %d waited, want %d", written, 10*txQueueLen, most, txQueueLen-1)
	}
}

// TestTxQueueClosed: what came before close is written, what comes after is refused, and not kept.
func TestTxQueueClosed(t *testing.T) {
	written := 0
	q := newTxQueue(func(*stack.PacketBuffer) { written++ })
	pkt := numbered(0, 0)
	q.put(pkt)
	q.close()
	if written != 1 {
		t.Errorf("%d packets written, want the one that waited", written)
	}
	if q.put(pkt) {
		t.Error("a closed queue takes a packet")
	}
	if refs := pkt.ReadRefs(); refs != 1 {
		t.Errorf("%d references to the packet, want this test's", refs)
	}
	pkt.DecRef()
	q.run() // returns
}
