package impair

import (
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/batching"
)

// batches is a stack that takes packets in batches.
type batches struct {
	stack.NetworkDispatcher
	alone, batched, ended int
}

func (b *batches) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { b.alone++ }
func (b *batches) DeliverBatched(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)       { b.batched++ }
func (b *batches) EndBatch()                                                             { b.ended++ }

// TestBatch has packets come in batches: they go on as such while nothing is done to
// them, and one by one while the link is impaired.
func TestBatch(t *testing.T) {
	l := New(discard{}, Config{})
	defer l.Close()
	above := &batches{}
	l.Attach(above)
	deliver := func() {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, 40))})
		batching.Dispatcher(l).DeliverBatched(ipv4.ProtocolNumber, pkt)
		pkt.DecRef()
		l.EndBatch()
	}
	deliver()
	if *above != (batches{batched: 1, ended: 1}) {
		t.Errorf("without impairment: %+v", *above)
	}
	if err := l.Set(In, Spec{Duplicate: Chance{Percent: 100}}); err != nil {
		t.Fatal(err)
	}
	deliver()
	if *above != (batches{alone: 2, batched: 1, ended: 2}) {
		t.Errorf("with impairment: %+v", *above)
	}
	l.Attach(nil)
	deliver() // to nobody
}
