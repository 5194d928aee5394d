package stack

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/catflap/catflap/stack/event"
	"github.com/catflap/catflap/stack/route"
)

// Control messages are in the layout of 64-bit Linux, in this machine's byte order: length (8 bytes), level, type,
// data, padded to a multiple of 8 (cmsg(3)). There are two, IP_PKTINFO (ip(7)) and IPV6_PKTINFO (RFC 3542 6).
const (
	cmsgHeader     = 16
	sizeofPktInfo  = 12 // struct in_pktinfo: link, local address, destination
	sizeofPktInfo6 = 20 // struct in6_pktinfo: destination, link

	// ControlSpace is the room for the control messages of any datagram.
	ControlSpace = cmsgHeader + (sizeofPktInfo+7)&^7 + cmsgHeader + (sizeofPktInfo6+7)&^7
)

// packetInfo is what a control message tells of a datagram.
type packetInfo struct {
	level int        // SOL_IP, SOL_IPV6
	link  int        // its number; 0: any
	local netip.Addr // this side's address, from which an answer goes; the unspecified one: any
	dst   netip.Addr // where the datagram received went, which may be a broadcast address
}

// control appends the message.
func (p packetInfo) control(b []byte) []byte {
	ne := binary.NativeEndian
	typ, data := uint32(IP_PKTINFO), make([]byte, 0, sizeofPktInfo6)
	if p.level == SOL_IP {
		data = append(ne.AppendUint32(data, uint32(p.link)), p.local.AsSlice()...)
		data = append(data, p.dst.AsSlice()...)
	} else {
		typ = IPV6_PKTINFO
		a := p.dst.As16()
		data = ne.AppendUint32(append(data, a[:]...), uint32(p.link))
	}
	b = ne.AppendUint64(b, uint64(cmsgHeader+len(data)))
	b = ne.AppendUint32(ne.AppendUint32(b, uint32(p.level)), typ)
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&7)...)
}

// parseControl reads control messages. Those of other levels are passed over, as Linux does.
func parseControl(b []byte) (all []packetInfo, err error) {
	ne := binary.NativeEndian
	for len(b) >= cmsgHeader {
		size := ne.Uint64(b)
		if size < cmsgHeader || size > uint64(len(b)) {
			return nil, syscall.EINVAL
		}
		p := packetInfo{level: int(int32(ne.Uint32(b[8:])))}
		typ, data := ne.Uint32(b[12:]), b[cmsgHeader:size]
		switch {
		case p.level == SOL_IP && typ == IP_PKTINFO && len(data) == sizeofPktInfo:
			p.link = int(ne.Uint32(data))
			p.local, p.dst = netip.AddrFrom4([4]byte(data[4:8])), netip.AddrFrom4([4]byte(data[8:12]))
			all = append(all, p)
		case p.level == SOL_IPV6 && typ == IPV6_PKTINFO && len(data) == sizeofPktInfo6:
			p.local, p.link = netip.AddrFrom16([16]byte(data)), int(ne.Uint32(data[16:]))
			p.dst = p.local
			all = append(all, p)
		case p.level == SOL_SOCKET, p.level == SOL_IP, p.level == SOL_IPV6:
			return nil, syscall.EINVAL // no such message, or not of that size
		}
		b = b[min((size+7)&^7, uint64(len(b))):]
	}
	return all, nil
}

// packetInfos are what the socket has asked to be told of a datagram received.
func (k *socket) packetInfos(cm *tcpip.ReceivableControlMessages) (all []packetInfo) {
	switch {
	case cm.HasIPPacketInfo:
		p := packetInfo{level: SOL_IP, link: int(cm.PacketInfo.NIC), dst: fromTCPIP(cm.PacketInfo.DestinationAddr)}
		p.local = k.s.answersFrom(cm.PacketInfo.NIC, p.dst)
		if k.pktInfo6.Load() {
			all = append(all, packetInfo{level: SOL_IPV6, link: p.link, dst: netip.AddrFrom16(p.dst.As16())})
		}
		if k.pktInfo.Load() {
			all = append(all, p)
		}
	case cm.HasIPv6PacketInfo && k.pktInfo6.Load():
		dst := fromTCPIP(cm.IPv6PacketInfo.Addr)
		all = append(all, packetInfo{level: SOL_IPV6, link: int(cm.IPv6PacketInfo.NIC), local: dst, dst: dst})
	}
	return all
}

// askPacketInfo has netstack keep what the socket wants to be told.
func (k *socket) askPacketInfo() {
	o := k.ep.SocketOptions()
	o.SetReceivePacketInfo(k.pktInfo.Load() || k.pktInfo6.Load())
	o.SetIPv6ReceivePacketInfo(k.pktInfo6.Load())
}

// answersFrom is the local address of a datagram that came in on a link and went to dst: dst, or if that is an address
// of many, the link's own.
func (s *Stack) answersFrom(nic tcpip.NICID, dst netip.Addr) netip.Addr {
	if _, rt := s.db.Load().Decide(RouteQuery{Dst: dst}, nil); rt != nil && rt.Type == Local {
		return dst
	}
	if a, err := s.ns.GetMainNICAddress(nic, netProto(route.FamilyOf(dst))); err == nil && a.Address.Len() > 0 {
		return fromTCPIP(a.Address)
	}
	return route.FamilyOf(dst).Any()
}

// linkOf is the link of a number, nil if there is none.
func (s *Stack) linkOf(id int) *link {
	for _, l := range *s.links.Load() {
		if int(l.id) == id {
			return l
		}
	}
	return nil
}

// controlEvent is control data with the names of the links.
func (s *Stack) controlEvent(b []byte) (all []event.PacketInfo) {
	infos, _ := parseControl(b)
	for _, p := range infos {
		ev := event.PacketInfo{Link: p.link, Local: p.local, Dst: p.dst}
		if l := s.linkOf(p.link); l != nil {
			ev.Dev = l.name
		}
		all = append(all, ev)
	}
	return all
}
