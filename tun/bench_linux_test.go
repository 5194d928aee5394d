package tun

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// readerOn is the reader of a device whose queue is one end of a packet socket instead, so that frames can
// be put into it. It is read by the caller.
func readerOn(t testing.TB, s stack.NetworkDispatcher) (r *offloadReader, put int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4*maxFrame)
	}
	q, err := newOffloadQueue(fds[0], "test")
	if err != nil {
		t.Fatal(err)
	}
	dev := newDevice(opened{name: "test", driver: Offload, queues: []queue{q}}, DefaultMTU)
	t.Cleanup(func() {
		q.close()
		unix.Close(fds[1])
	})
	dev.endpoint.dispatcher.attach(s)
	r = &offloadReader{queue: q, endpoint: &dev.endpoint}
	t.Cleanup(r.buf.release)
	return r, fds[1]
}

// discard is a stack that wants nothing.
type discard struct{ delivered int }

func (d *discard) DeliverNetworkPacket(protocol, *stack.PacketBuffer) { d.delivered++ }
func (*discard) DeliverLinkPacket(protocol, *stack.PacketBuffer)      {}

// rxFrames are what the kernel hands over: a super-packet and an acknowledgment.
func rxFrames(t testing.TB) map[string][]byte {
	ip := ip4(layers.IPProtocolTCP)
	frame := func(h vnetHdr, payload int) []byte {
		var b [vnetHdrLen]byte
		h.encode(b[:], 0)
		return append(b[:], build(t, ip, tcpOver(ip), randomPayload(payload))...)
	}
	return map[string][]byte{
		"64KiB": frame(vnetHdr{flags: vnetNeedsCsum, gsoType: vnetGSOTCPv4, gsoSize: 1448, csumStart: 20, csumOffset: 16}, 65000),
		"1500":  frame(vnetHdr{}, 1460),
		"ack":   frame(vnetHdr{flags: vnetDataValid}, 0),
	}
}

// txPackets are what netstack hands over.
func txPackets(t testing.TB) map[string]func() *stack.PacketBuffer {
	packet := func(payload int, gso stack.GSO) func() *stack.PacketBuffer {
		views := buffer.MakeWithData(make([]byte, payload))
		t.Cleanup(views.Release)
		return func() *stack.PacketBuffer {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 60, Payload: views.Clone()})
			tcp := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize))
			tcp.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
			ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
			ip.Encode(&header.IPv4Fields{TotalLength: uint16(pkt.Size()), TTL: 1, Protocol: 6})
			pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
			pkt.GSOOptions = gso
			return pkt
		}
	}
	return map[string]func() *stack.PacketBuffer{
		"64KiB": packet(65000, stack.GSO{Type: stack.GSOTCPv4, MSS: 1448, NeedsCsum: true, L3HdrLen: 20, CsumOffset: 16}),
		"1500":  packet(1460, stack.GSO{}),
		"ack":   packet(0, stack.GSO{}),
	}
}

func BenchmarkReceive(b *testing.B) {
	for name, frame := range rxFrames(b) {
		b.Run(name, func(b *testing.B) {
			r, put := readerOn(b, &discard{})
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				unix.Write(put, frame)
				if errno := r.next(); errno != 0 {
					b.Fatal(errno)
				}
			}
		})
	}
}

func BenchmarkTransmit(b *testing.B) {
	for name, packet := range txPackets(b) {
		b.Run(name, func(b *testing.B) {
			inNetNS(b)
			dev := open(b, Config{Driver: Offload})
			up(b, dev.Name())
			pkt := packet()
			defer pkt.DecRef()
			var list stack.PacketBufferList
			list.PushBack(pkt)
			b.ReportAllocs()
			b.SetBytes(int64(pkt.Size()))
			for b.Loop() {
				dev.Endpoint().WritePackets(list)
			}
		})
	}
}

func BenchmarkInspect(b *testing.B) {
	for name, frame := range rxFrames(b) {
		b.Run(name, func(b *testing.B) {
			h, f := decodeVnetHdr(frame), split(frame[vnetHdrLen:])
			b.ReportAllocs()
			for b.Loop() {
				if _, _, v := inspect(h, f); v != accept {
					b.Fatal(v)
				}
			}
		})
	}
}
