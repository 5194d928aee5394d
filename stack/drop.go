package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Why netstack drops broken packets, by the kernel's names. netstack only counts them;
// what it verifies is verified here once more, for packets that are followed.
const (
	dropHeader   = "IP_INHDR"
	dropIPSum    = "IP_CSUM"
	dropTCPSum   = "TCP_CSUM"
	dropUDPSum   = "UDP_CSUM"
	dropTooSmall = "PKT_TOO_SMALL"
	dropNoSocket = "NO_SOCKET"
)

// brokenSegment says why netstack will drop a TCP segment or UDP datagram on its way
// to a socket: "" if it will not, as far as its header and checksum go.
func brokenSegment(pkt *stack.PacketBuffer) string {
	h, data, ip := pkt.TransportHeader().Slice(), pkt.Data(), pkt.Network()
	if pkt.TransportProtocolNumber == header.TCPProtocolNumber {
		_, sum, ok := header.TCPValid(h, data.Checksum, uint16(data.Size()), ip.SourceAddress(), ip.DestinationAddress(), pkt.RXChecksumValidated)
		return brokenBy(ok, sum, dropTCPSum)
	}
	ok, sum := header.UDPValid(h, data.Checksum, uint16(data.Size()), pkt.NetworkProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), pkt.RXChecksumValidated)
	return brokenBy(ok, sum, dropUDPSum)
}

func brokenBy(length, checksum bool, name string) string {
	switch {
	case !length:
		return dropTooSmall
	case !checksum:
		return name
	}
	return ""
}

// brokenPacket says why netstack has not looked for the socket of a packet of n bytes,
// of which b is the start: "" if that is not known.
func brokenPacket(pkt *stack.PacketBuffer, b []byte, n int) string {
	switch pkt.NetworkProtocolNumber {
	case ipv4.ProtocolNumber:
		switch h := header.IPv4(b); {
		case !h.IsValid(n):
			return dropHeader
		case !pkt.RXChecksumValidated && !h.IsChecksumValid():
			return dropIPSum
		}
	case ipv6.ProtocolNumber:
		if !header.IPv6(b).IsValid(n) {
			return dropHeader
		}
	}
	tp, th := transportOf(pkt.NetworkProtocolNumber, b)
	if tp == header.TCPProtocolNumber && len(th) < header.TCPMinimumSize || tp == header.UDPProtocolNumber && len(th) < header.UDPMinimumSize {
		return dropTooSmall
	}
	return ""
}
