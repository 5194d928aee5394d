package stack

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
)

// tb is what testing.T, testing.B and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// wire is the far end of a stack's link cat0: it sends packets that gopacket
// built, and reads what comes back with the decoder of internal/packet.
type wire struct {
	s  *Stack
	ep *channel.Endpoint
}

// newWire returns a stack with the addresses 10.9.0.2/24 and fd00:9::2/64 on cat0,
// and the other end of that link.
func newWire(t testing.TB, cfg Config) *wire {
	t.Helper()
	w := &wire{ep: channel.New(1<<12, 1500, "")} // packets that a test may leave unread
	cfg.Links = append(cfg.Links, Link{Name: "cat0", Endpoint: w.ep, Addrs: []netip.Prefix{pfx("10.9.0.2/24"), pfx("fd00:9::2/64")}})
	w.s = newStack(t, cfg)
	return w
}

// inject hands an IP packet to the stack.
func (w *wire) inject(b []byte) {
	proto := ipv4.ProtocolNumber
	if b[0]>>4 == 6 {
		proto = ipv6.ProtocolNumber
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	w.ep.InjectInbound(proto, pkt)
	pkt.DecRef()
}

// injectBatched hands an IP packet to the stack as a batch of its own.
func (w *wire) injectBatched(b []byte) {
	proto := ipv4.ProtocolNumber
	if b[0]>>4 == 6 {
		proto = ipv6.ProtocolNumber
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	l := w.s.link("cat0")
	l.DeliverBatched(proto, pkt)
	l.EndBatch()
	pkt.DecRef()
}

// raw takes the packets that the stack has sent, once TCP has nothing left to do.
func (w *wire) raw() (out [][]byte) {
	w.s.Quiesce()
	for {
		pkt := w.ep.Read()
		if pkt == nil {
			return out
		}
		v := pkt.ToView()
		out = append(out, append([]byte(nil), v.AsSlice()...))
		v.Release()
		pkt.DecRef()
	}
}

// read is raw with the packets decoded and their checksums verified.
func (w *wire) read(t tb) (out []packet.Packet) {
	t.Helper()
	for _, b := range w.raw() {
		p, err := packet.Parse(b)
		if err == nil {
			err = p.Verify()
		}
		if err != nil {
			t.Fatalf("the stack sent a bad packet: %v: %x", err, b)
		}
		out = append(out, p)
	}
	return out
}

// ask injects a packet and returns the one answer to it, or nil.
func (w *wire) ask(t tb, b []byte) *packet.Packet {
	t.Helper()
	w.inject(b)
	switch out := w.read(t); len(out) {
	case 0:
		return nil
	case 1:
		return &out[0]
	default:
		t.Fatalf("%d answers to one packet: %v", len(out), out)
		return nil
	}
}

// ipLayer is an IP header for a packet from src to dst.
func ipLayer(src, dst netip.Addr, proto layers.IPProtocol) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func serialize(t tb, ls ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		t.Fatalf("%v", err)
	}
	return buf.Bytes()
}

// segment is a TCP segment of flow f, with sequence and acknowledgement numbers.
func segment(t tb, f FourTuple, flags packet.Flags, seq, ack uint32, data string) []byte {
	t.Helper()
	ip := ipLayer(f.Src.Addr(), f.Dst.Addr(), layers.IPProtocolTCP)
	h := &layers.TCP{
		SrcPort: layers.TCPPort(f.Src.Port()), DstPort: layers.TCPPort(f.Dst.Port()), Seq: seq, Ack: ack, Window: 65535,
		SYN: flags&packet.SYN != 0, ACK: flags&packet.ACK != 0, FIN: flags&packet.FIN != 0, RST: flags&packet.RST != 0, PSH: flags&packet.PSH != 0,
	}
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialize(t, ip, h, gopacket.Payload(data))
}

// datagram is a UDP datagram of flow f.
func datagram(t tb, f FourTuple, data string) []byte {
	t.Helper()
	ip := ipLayer(f.Src.Addr(), f.Dst.Addr(), layers.IPProtocolUDP)
	h := &layers.UDP{SrcPort: layers.UDPPort(f.Src.Port()), DstPort: layers.UDPPort(f.Dst.Port())}
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialize(t, ip, h, gopacket.Payload(data))
}

// echo is an ICMP echo request.
func echo(t tb, src, dst netip.Addr, data string) []byte {
	t.Helper()
	if src.Is4() {
		return serialize(t, ipLayer(src, dst, layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 7, Seq: 1}, gopacket.Payload(data))
	}
	ip := ipLayer(src, dst, layers.IPProtocolICMPv6)
	h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	h.SetNetworkLayerForChecksum(ip.(gopacket.NetworkLayer))
	return serialize(t, ip, h, &layers.ICMPv6Echo{Identifier: 7, SeqNumber: 1}, gopacket.Payload(data))
}

// handshake opens a connection from the far end, and returns the sequence number
// that the stack expects to be acknowledged next.
func (w *wire) handshake(t tb, f FourTuple, seq uint32) (ack uint32) {
	t.Helper()
	got := w.ask(t, segment(t, f, packet.SYN, seq, 0, ""))
	if got == nil || got.TCP == nil || got.TCP.Flags != packet.SYN|packet.ACK || got.TCP.Ack != seq+1 {
		t.Fatalf("SYN of %v was answered by %v", f, got)
	}
	ack = got.TCP.Seq + 1
	if got := w.ask(t, segment(t, f, packet.ACK, seq+1, ack, "")); got != nil {
		t.Fatalf("the handshake's last ACK was answered by %v", got)
	}
	return ack
}
