package capture

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

// tcpPacket builds a TCP packet with gopacket: the bytes come from another implementation than the code under test.
func tcpPacket(t testing.TB, v6 bool, seq uint32, size int) []byte {
	t.Helper()
	h := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: seq, Ack: 7, ACK: true, PSH: true, Window: 500}
	var ip gopacket.NetworkLayer = &layers.IPv4{Version: 4, TTL: 64, Id: 9, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 9, 0, 1}, DstIP: net.IP{10, 9, 0, 2}}
	if v6 {
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00:9::1"), DstIP: net.ParseIP("fd00:9::2")}
	}
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ip.(gopacket.SerializableLayer), h, gopacket.Payload(bytes.Repeat([]byte("purr"), size/4)))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// begun replaces a TCP packet's checksum by the pseudo-header's sum, as for a device that completes it.
func begun(b []byte) []byte {
	b = bytes.Clone(b)
	l4, addrs := 20, b[12:20]
	if b[0]>>4 == 6 {
		l4, addrs = 40, b[8:40]
	}
	sum := ^packet.Checksum(addrs, uint32(packet.ProtoTCP)+uint32(len(b)-l4))
	b[l4+16], b[l4+17] = byte(sum>>8), byte(sum)
	return b
}

// readAll reads a whole capture.
func readAll(t testing.TB, r io.Reader) (packets []Packet, c *Reader) {
	t.Helper()
	c, err := NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		p, err := c.Next()
		if err == io.EOF {
			return packets, c
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
}

// tshark reads a capture, and returns the fields of the packets that pass the filter.
func tshark(t testing.TB, capture []byte, filter string, fields ...string) [][]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.pcapng")
	if err := os.WriteFile(file, capture, 0o644); err != nil {
		t.Fatal(err)
	}
	return testenv.Tshark(t, file, filter, fields...)
}
