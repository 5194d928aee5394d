package impair

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/catflap/catflap/tun"
)

const nicID = 1

var (
	clientAddrs = []string{"10.9.0.1/24", "fd00:9::1/64"}
	serverAddrs = []string{"10.9.0.2/24", "fd00:9::2/64"}
)

// fastClock runs faster than the system's, by speed: on a lossy link TCP spends its time in retransmission
// timeouts, and netstack's estimate of the round-trip time, and so its timeouts, grow with each.
type fastClock struct{ start time.Time }

const speed = 20

func newFastClock() fastClock { return fastClock{time.Now()} }

func (c fastClock) Now() time.Time { return c.start.Add(time.Since(c.start) * speed) }

func (c fastClock) NowMonotonic() tcpip.MonotonicTime {
	return tcpip.MonotonicTime{}.Add(time.Since(c.start) * speed)
}

func (c fastClock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return fastTimer{time.AfterFunc(d/speed, f)}
}

type fastTimer struct{ *time.Timer }

func (t fastTimer) Reset(d time.Duration) { t.Timer.Reset(d / speed) }

// newStack is a netstack with one NIC on ep.
func newStack(t testing.TB, clock tcpip.Clock, ep stack.LinkEndpoint, addrs ...string) *stack.Stack {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		Clock:              clock,
	})
	sack := tcpip.TCPSACKEnabled(true)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
	if err := s.CreateNIC(nicID, ep); err != nil {
		t.Fatalf("CreateNIC: %v", err)
	}
	for _, a := range addrs {
		prefix := netip.MustParsePrefix(a)
		pa := tcpip.ProtocolAddress{
			Protocol:          header.IPv4ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(prefix.Addr().AsSlice()), PrefixLen: prefix.Bits()},
		}
		if prefix.Addr().Is6() {
			pa.Protocol = header.IPv6ProtocolNumber
		}
		if err := s.AddProtocolAddress(nicID, pa, stack.AddressProperties{}); err != nil {
			t.Fatalf("AddProtocolAddress %s: %v", a, err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}, {Destination: header.IPv6EmptySubnet, NIC: nicID}})
	return s
}

// network is a client's and a server's stack with a Link at the server.
type network struct {
	client, server *stack.Stack
	link           *Link
}

// newNetwork serves uploads and downloads on port 80 of the server until the test ends.
func newNetwork(t testing.TB, cfg Config) *network {
	t.Helper()
	a, b := tun.Pipe(1500)
	if cfg.Clock == nil {
		cfg.Clock = newFastClock()
	}
	n := &network{link: New(b, cfg)}
	n.client, n.server = newStack(t, cfg.Clock, a, clientAddrs...), newStack(t, cfg.Clock, n.link, serverAddrs...)
	var conns sync.WaitGroup
	l, err := gonet.ListenTCP(n.server, tcpip.FullAddress{NIC: nicID, Port: 80}, header.IPv6ProtocolNumber) // IPv4 too
	if err != nil {
		t.Fatal(err)
	}
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				serveTransfer(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		n.client.Close()
		n.server.Close()
		conns.Wait()
		a.Close()
		n.client.Wait()
		n.server.Wait()
	})
	return n
}

// serveTransfer answers one request: 'd' or 'u' and a number of bytes.
func serveTransfer(c net.Conn) {
	var request [9]byte
	if _, err := io.ReadFull(c, request[:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(request[1:]))
	if request[0] == 'd' {
		io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(&pattern{}, n), make([]byte, 64<<10))
		return
	}
	h := sha256.New()
	io.CopyBuffer(h, io.LimitReader(c, n), make([]byte, 64<<10))
	c.Write(h.Sum(nil))
}

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

func (n *network) dial(ctx context.Context, v6 bool) (net.Conn, error) {
	proto := header.IPv4ProtocolNumber
	if v6 {
		proto = header.IPv6ProtocolNumber
	}
	return gonet.DialContextTCP(ctx, n.client, tcpip.FullAddress{Addr: serverAddr(v6), Port: 80}, proto)
}

// errWrongBytes is the one error that TCP must never give a reason for.
var errWrongBytes = errors.New("other bytes arrived than were sent")

// transfer moves bytes down or up on a connection of its own, and fails unless they arrive as they were sent.
func (n *network) transfer(ctx context.Context, v6, up bool, size int64) error {
	c, err := n.dial(ctx, v6)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer c.Close()
	if d, ok := ctx.Deadline(); ok {
		c.SetDeadline(d)
	}
	verb := byte('d')
	if up {
		verb = 'u'
	}
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte{verb}, uint64(size))); err != nil {
		return err
	}
	got := make([]byte, sha256.Size)
	if up {
		if _, err := io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(&pattern{}, size), make([]byte, 64<<10)); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
	} else {
		h := sha256.New()
		if m, err := io.CopyN(h, c, size); err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", m, size, err)
		}
		h.Sum(got[:0])
	}
	h := sha256.New()
	io.CopyN(h, &pattern{}, size)
	if want := h.Sum(nil); string(got) != string(want) {
		return fmt.Errorf("SHA-256 %x, want %x: %w", got, want, errWrongBytes)
	}
	return nil
}

// pattern reads as bytes that do not repeat for a while.
type pattern struct{ off uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		x := (p.off + uint64(i)) * 0x9e3779b97f4a7c15
		b[i] = byte(x >> 56)
	}
	p.off += uint64(len(b))
	return len(b), nil
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

// longTests reports whether tests that take minutes are asked for.
func longTests() bool { return os.Getenv("CATFLAP_LONG") != "" }
