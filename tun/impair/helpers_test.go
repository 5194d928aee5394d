package impair

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func clientAddr(v6 bool) tcpip.Address {
	if v6 {
		return tcpip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: 1})
	}
	return tcpip.AddrFrom4([4]byte{10, 9, 0, 1})
}

func serverAddr(v6 bool) tcpip.Address {
	if v6 {
		return tcpip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: 2})
	}
	return tcpip.AddrFrom4([4]byte{10, 9, 0, 2})
}

// wire is a link endpoint without anything behind it: it keeps what is written to it, with the time.
type wire struct {
	stack.LinkEndpoint
	clock tcpip.Clock
	start tcpip.MonotonicTime

	mu   sync.Mutex
	sent []arrival
}

// arrival is a packet and when it came.
type arrival struct {
	at    time.Duration
	bytes []byte
	gso   stack.GSO
}

func (w *wire) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		w.keep(pkt)
	}
	return pkts.Len(), nil
}

func (w *wire) keep(pkt *stack.PacketBuffer) {
	v := pkt.ToView()
	defer v.Release()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, arrival{w.clock.NowMonotonic().Sub(w.start), v.ToSlice(), pkt.GSOOptions})
}

func (w *wire) Attach(stack.NetworkDispatcher)                                     {}
func (w *wire) Wait()                                                              {}
func (w *wire) Close()                                                             {}
func (w *wire) MaxHeaderLength() uint16                                            { return 0 }
func (w *wire) Capabilities() stack.LinkEndpointCapabilities                       { return 0 }
func (w *wire) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// DeliverNetworkPacket makes a wire the stack above a Link too.
func (w *wire) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	w.keep(pkt)
}

// take returns what came since the last take.
func (w *wire) take() []arrival {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sent
	w.sent = nil
	return s
}

// bench is a Link between two wires, on a manual clock.
type bench struct {
	*Link
	clock        *faketime.ManualClock
	below, above *wire
}

func newBench(t testing.TB, cfg Config) *bench {
	t.Helper()
	clock := faketime.NewManualClock()
	cfg.Clock = clock
	b := &bench{clock: clock}
	b.below = &wire{clock: clock, start: clock.NowMonotonic()}
	b.above = &wire{clock: clock, start: clock.NowMonotonic()}
	b.Link = New(b.below, cfg)
	b.Attach(b.above)
	t.Cleanup(b.Close)
	return b
}

func (b *bench) set(t testing.TB, dir Direction, text string) {
	t.Helper()
	s, err := Parse(text)
	if err == nil {
		err = b.Set(dir, s)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// send puts a packet in, as the stack or the link below would.
func (b *bench) send(dir Direction, data []byte, gso stack.GSO) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
	defer pkt.DecRef()
	pkt.NetworkProtocolNumber = ipProtocol(data)
	pkt.GSOOptions = gso
	if dir == In {
		b.DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
		return
	}
	var list stack.PacketBufferList
	list.PushBack(pkt)
	b.WritePackets(list)
}

// arrivals returns what came out in that direction since it was last asked.
func (b *bench) arrivals(dir Direction) []arrival {
	if dir == In {
		return b.above.take()
	}
	return b.below.take()
}

// datagram is a UDP packet with a number in it, and of that size in all.
func datagram(n uint32, size int) []byte {
	b := make([]byte, size)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: uint16(size), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}),
	})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	header.UDP(b[20:]).Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: uint16(size - 20)}) // no checksum: RFC 768
	binary.BigEndian.PutUint32(b[28:], n)
	return b
}

func serial(t testing.TB, b []byte) uint32 {
	t.Helper()
	if len(b) < 32 {
		t.Fatalf("packet of %d bytes", len(b))
	}
	return binary.BigEndian.Uint32(b[28:])
}
