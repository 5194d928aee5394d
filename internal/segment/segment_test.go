package segment_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"

	"github.com/catflap/catflap/internal/segment"
)

// superPacket builds what netstack or the kernel hands over: a TCP packet of any size with the pseudo-header's
// sum in its checksum field.
func superPacket(v6 bool, ipOptions, tcpOptions []byte, flags uint16, id uint16, seq uint32, payload []byte, mss int) ([]byte, stack.GSO) {
	l4 := header.IPv4MinimumSize + len(ipOptions)
	if v6 {
		l4 = header.IPv6MinimumSize
	}
	b := make([]byte, l4+header.TCPMinimumSize+len(tcpOptions)+len(payload))
	gso := stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, CsumOffset: header.TCPChecksumOffset, L3HdrLen: uint16(l4), MSS: uint16(mss)}
	addrs := b[12:20]
	if v6 {
		gso.Type = stack.GSOTCPv6
		header.IPv6(b).Encode(&header.IPv6Fields{
			TrafficClass: 3, FlowLabel: 77, PayloadLength: uint16(len(b) - l4), TransportProtocol: header.TCPProtocolNumber, HopLimit: 64,
			SrcAddr: tcpip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: 1}), DstAddr: tcpip.AddrFrom16([16]byte{0: 0xfd, 3: 9, 15: 2}),
		})
		addrs = b[8:40]
	} else {
		header.IPv4(b).Encode(&header.IPv4Fields{
			TOS: 3, TotalLength: uint16(len(b)), ID: id, TTL: 64, Flags: header.IPv4FlagDontFragment, Protocol: uint8(header.TCPProtocolNumber),
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 2}),
		})
		b[0] = 4<<4 | byte(l4/4)
		copy(b[header.IPv4MinimumSize:], ipOptions)
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	}
	tcp := b[l4:]
	header.TCP(tcp).Encode(&header.TCPFields{SrcPort: 40000, DstPort: 80, SeqNum: seq, AckNum: 5, DataOffset: uint8(header.TCPMinimumSize + len(tcpOptions)), WindowSize: 99})
	binary.BigEndian.PutUint16(tcp[12:], uint16(tcp[12])<<8|flags)
	copy(tcp[header.TCPMinimumSize:], tcpOptions)
	copy(tcp[header.TCPMinimumSize+len(tcpOptions):], payload)
	pseudo := checksum.Combine(checksum.Checksum(addrs, uint16(header.TCPProtocolNumber)), uint16(len(tcp)))
	binary.BigEndian.PutUint16(tcp[header.TCPChecksumOffset:], pseudo)
	return b, gso
}

// decode has gopacket read a packet and verify all of its checksums.
func decode(t interface{ Fatalf(string, ...any) }, b []byte) (*layers.IPv4, *layers.IPv6, *layers.TCP) {
	first := gopacket.LayerType(layers.LayerTypeIPv4)
	if b[0]>>4 == 6 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b, first, gopacket.Default)
	if err := p.ErrorLayer(); err != nil {
		t.Fatalf("gopacket cannot decode: %v", err.Error())
	}
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP in %x", b)
	}
	tcp.SetNetworkLayerForChecksum(p.NetworkLayer())
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		t.Fatalf("checksums: %v %+v", err, bad)
	}
	v4, _ := p.NetworkLayer().(*layers.IPv4)
	v6, _ := p.NetworkLayer().(*layers.IPv6)
	return v4, v6, tcp
}

// TestSegments holds segments, as gopacket decodes them, against what RFC 9293, RFC 3168 and the super-packet say.
func TestSegments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		words := func(most int, label string) []byte {
			return bytes.Repeat([]byte{1}, 4*rapid.IntRange(0, most).Draw(t, label)) // no-operation, in both
		}
		var ipOptions []byte
		if !v6 {
			ipOptions = words(10, "IP options")
		}
		tcpOptions := words(10, "TCP options")
		flags := rapid.Uint16Range(0, 0x1ff).Draw(t, "flags")
		id, seq := rapid.Uint16().Draw(t, "id"), rapid.Uint32().Draw(t, "seq")
		mss := rapid.IntRange(1, 3000).Draw(t, "mss")
		payload := make([]byte, rapid.IntRange(0, min(65000, 60*mss)).Draw(t, "payload"))
		for i := range payload {
			payload[i] = byte((uint64(seq) + uint64(i)) * 0x9e3779b97f4a7c15 >> 56)
		}
		frame, gso := superPacket(v6, ipOptions, tcpOptions, flags, id, seq, payload, mss)

		segments := segment.Packets(frame, gso)
		if want := max(1, (len(payload)+mss-1)/mss); len(segments) != want {
			t.Fatalf("%d segments, want %d", len(segments), want)
		}
		var got []byte
		for i, s := range segments {
			v4, ip6, tcp := decode(t, s)
			first, last := i == 0, i == len(segments)-1
			if tcp.Seq != seq+uint32(len(got)) || tcp.Ack != 5 || tcp.Window != 99 || tcp.SrcPort != 40000 || tcp.DstPort != 80 {
				t.Fatalf("segment %d: %+v", i, tcp)
			}
			bit := func(n int) bool { return flags&(1<<n) != 0 }
			if tcp.FIN != (bit(0) && last) || tcp.PSH != (bit(3) && last) || tcp.CWR != (bit(7) && first) ||
				tcp.SYN != bit(1) || tcp.RST != bit(2) || tcp.ACK != bit(4) || tcp.URG != bit(5) || tcp.ECE != bit(6) || tcp.NS != bit(8) {
				t.Fatalf("segment %d of %d: flags of %+v, were %09b", i, len(segments), tcp, flags)
			}
			if len(tcp.Payload) > mss || !last && len(tcp.Payload) != mss {
				t.Fatalf("segment %d carries %d bytes of MSS %d", i, len(tcp.Payload), mss)
			}
			if v6 {
				if ip6.TrafficClass != 3 || ip6.FlowLabel != 77 || int(ip6.Length) != len(s)-40 || ip6.HopLimit != 64 {
					t.Fatalf("segment %d: %+v", i, ip6)
				}
			} else if v4.Id != id+uint16(i) || int(v4.Length) != len(s) || v4.TOS != 3 || v4.TTL != 64 || v4.Flags != layers.IPv4DontFragment {
				t.Fatalf("segment %d: %+v", i, v4)
			}
			got = append(got, tcp.Payload...)
		}
		if !bytes.Equal(got, payload) {
			t.Fatal("the segments carry other bytes")
		}
	})
}

// datagram is a UDP packet of 40 bytes with a number in it.
func datagram(n uint32) []byte {
	b := make([]byte, 40)
	header.IPv4(b).Encode(&header.IPv4Fields{
		TotalLength: 40, TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 2}), DstAddr: tcpip.AddrFrom4([4]byte{10, 9, 0, 1}),
	})
	header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	header.UDP(b[20:]).Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: 20})
	binary.BigEndian.PutUint32(b[28:], n)
	return b
}

// TestZeroUDPChecksum: a UDP checksum that comes out as zero is sent as 0xffff (RFC 768).
func TestZeroUDPChecksum(t *testing.T) {
	for n := range uint32(1 << 16) {
		b := datagram(n)
		binary.BigEndian.PutUint16(b[26:], checksum.Combine(checksum.Checksum(b[12:20], uint16(header.UDPProtocolNumber)), 20))
		got := segment.Packets(b, stack.GSO{NeedsCsum: true, L3HdrLen: 20, CsumOffset: 6})[0]
		if sum := binary.BigEndian.Uint16(got[26:]); sum == 0 {
			t.Fatalf("datagram %d has no checksum", n)
		} else if sum == 0xffff {
			return // found the one that would have had none
		}
	}
	t.Error("no datagram of 65536 has the checksum 0xffff")
}

// FuzzPackets: a frame that does not bear out its options is left alone, and nothing panics.
func FuzzPackets(f *testing.F) {
	frame, gso := superPacket(false, nil, nil, 0x10, 1, 1, make([]byte, 300), 100)
	f.Add(frame, uint8(gso.Type), gso.CsumOffset, gso.L3HdrLen, gso.MSS)
	frame, gso = superPacket(true, nil, nil, 0x10, 1, 1, make([]byte, 300), 100)
	f.Add(frame, uint8(gso.Type), gso.CsumOffset, gso.L3HdrLen, gso.MSS)
	f.Add([]byte{0x45}, uint8(1), uint16(16), uint16(20), uint16(1))
	f.Fuzz(func(t *testing.T, frame []byte, kind uint8, offset, l3, mss uint16) {
		size := len(frame)
		total := 0
		for _, p := range segment.Packets(frame, stack.GSO{Type: stack.GSOType(kind), NeedsCsum: true, CsumOffset: offset, L3HdrLen: l3, MSS: mss}) {
			total += len(p)
		}
		if total < size {
			t.Fatalf("%d bytes became %d", size, total)
		}
	})
}
