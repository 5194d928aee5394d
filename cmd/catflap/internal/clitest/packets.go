package clitest

import (
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/tun/capture"
)

// Packets are packets of many kinds, with their directions.
func Packets(t testing.TB) (all []capture.Packet) {
	add := func(d capture.Direction, size int, ls ...gopacket.SerializableLayer) {
		buf := gopacket.NewSerializeBuffer()
		ls = append(ls, gopacket.Payload(make([]byte, size)))
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 7, 1, 23, 59, 58, 123456789, time.UTC).Add(time.Duration(len(all)) * 1700 * time.Millisecond)
		all = append(all, capture.Packet{Time: at, Direction: d, Data: append([]byte(nil), buf.Bytes()...)})
	}
	v4 := func(proto layers.IPProtocol, src, dst byte) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: net.IP{10, 9, 0, src}, DstIP: net.IP{10, 9, 0, dst}}
	}
	v6 := func(proto layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("fd00:9::1"), DstIP: net.ParseIP("fd00:9::2")}
	}
	type network interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}
	tcp := func(d capture.Direction, ip network, h layers.TCP, size int) {
		h.SetNetworkLayerForChecksum(ip)
		add(d, size, ip, &h)
	}
	udp := func(ip network, src, dst layers.UDPPort) {
		h := layers.UDP{SrcPort: src, DstPort: dst}
		h.SetNetworkLayerForChecksum(ip)
		add(capture.In, 9, ip, &h)
	}
	tcp(capture.In, v4(6, 1, 2), layers.TCP{SrcPort: 40000, DstPort: 5100, Seq: 100, SYN: true, Window: 500}, 0)
	tcp(capture.Out, v4(6, 2, 1), layers.TCP{SrcPort: 5100, DstPort: 40000, Seq: 900, Ack: 101, SYN: true, ACK: true, Window: 500}, 0)
	tcp(capture.In, v4(6, 1, 2), layers.TCP{SrcPort: 40000, DstPort: 5100, Seq: 101, Ack: 901, ACK: true, PSH: true, Window: 500}, 300)
	tcp(capture.Out, v4(6, 3, 3), layers.TCP{SrcPort: 22, DstPort: 443, Seq: 5, RST: true}, 0)
	tcp(capture.Out, v6(6), layers.TCP{SrcPort: 22, DstPort: 5101, Seq: 5, Ack: 6, ACK: true, FIN: true}, 30)
	udp(v4(17, 1, 2), 40000, 9999)
	udp(v6(17), 5100, 1)
	add(capture.In, 50, v4(1, 1, 2), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 3, Seq: 1})
	i6 := v6(58)
	echo := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
	echo.SetNetworkLayerForChecksum(i6)
	add(capture.Out, 8, i6, echo)
	return all
}

// Expressions are expressions that tcpdump understands too.
var Expressions = []string{
	"", "tcp", "udp", "icmp", "icmp6", "ip", "ip6", "host 10.9.0.1", "src host 10.9.0.1", "dst 10.9.0.2", "host fd00:9::2", "ip6 host fd00:9::1",
	"net 10.9.0.2/31", "dst net 10.9.0.2/31", "net fd00:9::/32", "src net 10.9.0.0/30", "port 5100", "src port 5100", "dst port 5100", "tcp port 5100", "udp port 5100", "portrange 5100-5101",
	"tcp src portrange 20-30", "not tcp", "! tcp", "!tcp", "tcp and not port 22", "tcp or udp and port 5100", "tcp or (udp and port 5100)", "(tcp or udp) and port 5100",
	"not (tcp or udp)", "port 22 or 9999", "host 10.9.0.1 or 10.9.0.2", "not host 10.9.0.1 and 10.9.0.2", "tcp port 22 or 443 || udp", "tcp && ip6", "less 40", "greater 300", "src host 10.9.0.1 and dst port 5100 and not icmp",
	"ip and tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[tcpflags] & tcp-syn != 0 and tcp[tcpflags] & tcp-ack == 0", "tcp[13] = 2", "tcp[13]&2!=0", "(tcp[tcpflags] & tcp-ack) != 0 and not (tcp[13] & 7 != 0)",
	"ip[8] > 63", "ip[0] & 0xf != 5", "ip[2:2] > 60", "ip[6:2] & 0x1fff = 0", "ip and udp[4:2] > 8", "icmp[icmptype] = icmp-echo", "icmp[icmptype] != icmp-echoreply", "icmp[0] == 8 or icmp[1] = 3", "ip6[6] = 58", "ip6[7] < 255",
	"tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420", "len > 60", "len <= 40 or len > 300", "ip[2:2] - 20 * 2 > 10", "ip[2:2] / 2 + 1 < 40", "ip[2:2] % 2 = 1", "5 = 5 and udp", "1 > 2 or tcp", "tcp[200] = 0 or udp", "ip[8] / ip[1] = 1",
	"port http", "tcp port ssh", "udp port domain", "src or dst port 5100", "src and dst net 10.9", "dst or src host 10.9.0.1", "src host 10.9.0.1 or dst port 22", "net 10", "net 10.9.0", "net 10.9.0.0 mask 255.255.255.0", "src net 10.9.0.0/24",
	"ip proto 17", "ip proto \\udp", "proto 6", "ip proto 1", "ip multicast", "ip6 multicast", "host localhost or udp", "less 100 and greater 50", "ip host 10.9.0.1", "tcp dst port 5100 or 22", "not (ip[8] > 5 or udp)",
}

// ForeignExpressions are of what no packet here has, with a word that the refusal names.
var ForeignExpressions = map[string]string{
	"ether host 0:0:0:0:0:1": "ether", "vlan 7": "vlan", "arp": "arp", "tcp and mpls": "mpls", "gateway cat": "gateway", "ether[0] & 1 != 0": "ether", "broadcast": "broadcast", "ifname lo": "ifname", "not multicast": "multicast",
}
