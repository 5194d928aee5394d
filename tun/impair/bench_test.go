package impair

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// discard is a link endpoint, and a stack, that do nothing.
type discard struct{ stack.LinkEndpoint }

func (discard) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) { return pkts.Len(), nil }
func (discard) Attach(stack.NetworkDispatcher)                              {}
func (discard) Wait()                                                       {}
func (discard) Close()                                                      {}

func (discard) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (discard) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// BenchmarkWrite compares a batch of one packet through nothing but gVisor's own nested layer, through a Link
// that is off, and through one that is on.
func BenchmarkWrite(b *testing.B) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	defer pkt.DecRef()
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	var list stack.PacketBufferList
	list.PushBack(pkt.IncRef())
	defer list.DecRef()

	b.Run("nested", func(b *testing.B) {
		var e nested.Endpoint
		e.Init(discard{}, &e)
		for b.Loop() {
			e.WritePackets(list)
		}
	})
	b.Run("off", func(b *testing.B) {
		l := New(discard{}, Config{})
		defer l.Close()
		for b.Loop() {
			l.WritePackets(list)
		}
	})
	b.Run("on", func(b *testing.B) {
		bench := newBench(b, Config{Seed: 1})
		bench.set(b, Out, "loss 100%")
		data := datagram(1, 1500)
		for b.Loop() {
			bench.send(Out, data, stack.GSO{})
		}
	})
}
