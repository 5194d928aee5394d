package tun

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// txQueue is the packets that wait to be written to one queue of the device, in their order, and the
// goroutine that writes them. Whoever sends need not wait for the kernel, which delivers a packet within
// the write: TCP keeps no connection locked for that time, and its next segments are ready when the
// peer's kernel is.
type txQueue struct {
	write func(*stack.PacketBuffer)

	writing sync.Mutex            // held by who has taken packets out, until he has written them; comes before mu
	spare   []*stack.PacketBuffer // the memory of a list that has been written

	mu     sync.Mutex
	some   sync.Cond // there are packets, or never will be
	pkts   []*stack.PacketBuffer
	closed bool
}

// txQueueLen is how many packets may wait; whoever has one more writes them himself. It is half of what
// Linux lets wait before a TUN device, at most 16 MiB of super-packets.
const txQueueLen = 256

func newTxQueue(write func(*stack.PacketBuffer)) *txQueue {
	q := &txQueue{write: write}
	q.some.L = &q.mu
	return q
}

// put takes over a reference of its own to pkt. It reports false if the queue is closed.
func (q *txQueue) put(pkt *stack.PacketBuffer) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.pkts = append(q.pkts, pkt.IncRef())
	n := len(q.pkts)
	q.mu.Unlock()
	if n == 1 {
		q.some.Signal()
	}
	if n >= txQueueLen {
		q.flush()
	}
	return true
}

// run writes packets until the queue is closed.
func (q *txQueue) run() {
	for {
		q.mu.Lock()
		for len(q.pkts) == 0 && !q.closed {
			q.some.Wait()
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return
		}
		q.flush()
	}
}

// flush writes what waits.
func (q *txQueue) flush() {
	q.writing.Lock()
	defer q.writing.Unlock()
	q.mu.Lock()
	pkts := q.pkts
	q.pkts = q.spare[:0]
	q.mu.Unlock()
	for i, pkt := range pkts {
		q.write(pkt)
		pkt.DecRef()
		pkts[i] = nil
	}
	q.spare = pkts
}

// close writes what waits, such as the resets of a stack that has ended, and has run return.
func (q *txQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.some.Broadcast()
	q.flush()
}
