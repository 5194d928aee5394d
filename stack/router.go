package stack

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	cut "github.com/catflap/catflap/internal/segment"
)

// dropTooBig is the kernel's name for a packet that does not fit the link that it is to be forwarded to.
const dropTooBig = "PKT_TOO_BIG"

// forward has netstack send on a packet that is for another host. What netstack forgets of a packet when it forwards
// it is done before: a super-packet becomes the segments that it is on a wire, and a checksum that was left to a
// device is completed.
func (l *link) forward(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if !pkt.GSOOptions.NeedsCsum {
		l.Endpoint.DeliverNetworkPacket(proto, pkt)
		return
	}
	for _, b := range cut.Packets(pkt.Data().AsRange().ToSlice(), pkt.GSOOptions) {
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
		p.NetworkProtocolNumber = proto
		l.Endpoint.DeliverNetworkPacket(proto, p)
		p.DecRef()
	}
}

// mtuOf is the MTU of the link that a route leads to, 0 if that is not known.
func (s *Stack) mtuOf(rt *Route) uint32 {
	if l := s.link(s.db.Load().Output(rt)); l != nil {
		return l.MTU()
	}
	return 0
}

// tooBig reports whether an incoming packet, or a segment of a super-packet, neither fits a link of that MTU nor may be
// cut: IPv6 leaves that to the sender (RFC 8200 5), and IPv4 if the sender says so. netstack would tell the sender of
// an IPv6 packet no MTU. An IPv6 packet at the end of its hops is another matter.
func tooBig(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer, mtu uint32) bool {
	size := pkt.Data().Size()
	if mtu == 0 || size <= int(mtu) {
		return false
	}
	b, ok := pkt.Data().PullUp(min(size, header.IPv4MaximumHeaderSize+header.TCPMinimumSize))
	if !ok {
		return false
	}
	if proto == ipv4.ProtocolNumber && header.IPv4(b).Flags()&header.IPv4FlagDontFragment == 0 || proto != ipv4.ProtocolNumber && header.IPv6(b).HopLimit() <= 1 {
		return false
	}
	gso := &pkt.GSOOptions
	if at := int(gso.L3HdrLen); gso.Type != stack.GSONone && len(b) >= at+header.TCPMinimumSize {
		size = min(size, at+int(header.TCP(b[at:]).DataOffset())+int(gso.MSS))
	}
	return size > int(mtu)
}
