package tun_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/internal/tuntest"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// checker is a link layer that decodes every packet that arrives through it.
type checker struct {
	nested.Endpoint
	t       testing.TB
	largest atomic.Int64 // bytes
}

func newChecker(t testing.TB, lower stack.LinkEndpoint) *checker {
	c := &checker{t: t}
	c.Endpoint.Init(lower, c)
	return c
}

func (c *checker) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	c.check(pkt)
	c.Endpoint.DeliverNetworkPacket(proto, pkt)
}

// check completes a partial checksum as Pipe documents it, and has gopacket verify all of them.
func (c *checker) check(pkt *stack.PacketBuffer) {
	b := pkt.ToView()
	defer b.Release()
	p := b.ToSlice()
	c.largest.Store(max(c.largest.Load(), int64(len(p)))) // one goroutine delivers
	if gso := pkt.GSOOptions; gso.NeedsCsum {
		start := int(gso.L3HdrLen)
		sum := ^checksum.Checksum(p[start:], 0)
		binary.BigEndian.PutUint16(p[start+int(gso.CsumOffset):], sum)
	}
	first := layers.LayerTypeIPv4
	if p[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	decoded := gopacket.NewPacket(p, first, gopacket.Default)
	if err := decoded.ErrorLayer(); err != nil {
		c.t.Errorf("malformed packet: %v", err.Error())
	}
	if tcp, ok := decoded.TransportLayer().(*layers.TCP); ok {
		tcp.SetNetworkLayerForChecksum(decoded.NetworkLayer())
	}
	if err, bad := decoded.VerifyChecksums(); err != nil || len(bad) > 0 {
		c.t.Errorf("checksums: %v %+v in a packet of %d bytes", err, bad, len(p))
	}
}

// TestPipeTransfer moves bytes between two stacks, in super-packets, all of them valid.
func TestPipeTransfer(t *testing.T) {
	for _, version := range []string{"IPv4", "IPv6"} {
		t.Run(version, func(t *testing.T) {
			a, b := tun.Pipe(1500)
			defer a.Close()
			check := newChecker(t, a)
			server := tuntest.NewStack(t, b, stackAddrs...)
			client := tuntest.NewStack(t, check, "10.9.0.1/24", "fd00:9::1/64")
			serve(t, server)
			defer client.Close()
			addr, proto := tcpip.AddrFrom4([4]byte{10, 9, 0, 2}), header.IPv4ProtocolNumber
			if version == "IPv6" {
				addr, proto = tcpip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: 2}), header.IPv6ProtocolNumber
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c, err := gonet.DialContextTCP(ctx, client, tcpip.FullAddress{Addr: addr, Port: 80}, proto)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			const n = 16 << 20
			c.Write(binary.BigEndian.AppendUint64([]byte("d"), n))
			h := sha256.New()
			if got, err := io.Copy(h, c); got != n {
				t.Fatalf("read %d bytes of %d: %v", got, n, err)
			}
			if got, want := fmt.Sprintf("%x", h.Sum(nil)), patternSum(n); got != want {
				t.Errorf("SHA-256 %s, want %s", got, want)
			}
			if s := a.Stats(); s.RxGSOPackets == 0 || s.RxPackets > n/1448/4 || check.largest.Load() < 60000 {
				t.Errorf("%d packets received, %d of them GSO, the largest of %d bytes: super-packets do not cross whole", s.RxPackets, s.RxGSOPackets, check.largest.Load())
			}
		})
	}
}

// TestPipeBounds: a full queue and a packet over the MTU lose packets and count them; Close gives all
// memory back (which TestMain verifies) and wakes whoever delivers.
func TestPipeBounds(t *testing.T) {
	a, b := tun.Pipe(1280)
	send := func(size int) tcpip.Error {
		var list stack.PacketBufferList
		list.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(bytes.Repeat([]byte{0x45}, size))}))
		defer list.DecRef()
		_, err := a.WritePackets(list)
		return err
	}
	if _, ok := send(1281).(*tcpip.ErrMessageTooLong); !ok {
		t.Error("a packet of 1281 bytes fits an MTU of 1280")
	}
	sent := uint64(0)
	for range 5000 { // nobody reads
		err := send(1280)
		if _, full := err.(*tcpip.ErrNoBufferSpace); full {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	s := a.Stats()
	if sent == 0 || sent == 5000 || s.TxPackets != sent || s.TxBytes != sent*1280 || s.TxDroppedNoBuffer != 1 || s.TxDroppedTooBig != 1 {
		t.Errorf("%d packets sent: %+v", sent, s)
	}
	delivering := make(chan struct{})
	unblock := make(chan struct{})
	b.Attach(dispatcherFunc(func() { delivering <- struct{}{}; <-unblock }))
	<-delivering
	closed := make(chan struct{})
	go func() { b.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("Close returned while a packet was being delivered")
	case <-time.After(10 * time.Millisecond):
	}
	close(unblock)
	go func() {
		for range delivering { // what is delivered before Close is noticed
		}
	}()
	<-closed
	close(delivering)
	if _, ok := send(100).(*tcpip.ErrClosedForSend); !ok {
		t.Error("the other end still takes packets after Close")
	}
	a.Close()
	a.Attach(dispatcherFunc(func() {})) // must not start anything
}

// TestPipeDetached: packets for a stack that has left are dropped, not kept.
func TestPipeDetached(t *testing.T) {
	a, b := tun.Pipe(1500)
	defer a.Close()
	b.Attach(dispatcherFunc(func() {}))
	b.Attach(nil)
	if b.IsAttached() {
		t.Error("attached after Attach(nil)")
	}
	var list stack.PacketBufferList
	list.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData([]byte{0x45})}))
	a.WritePackets(list)
	list.DecRef()
	testenv.Await(t, "a packet to be dropped for want of a stack", func() bool { return b.Stats().RxDroppedUnattached == 1 })
}

// dispatcherFunc is called for each packet delivered.
type dispatcherFunc func()

func (f dispatcherFunc) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { f() }
func (dispatcherFunc) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)      {}
