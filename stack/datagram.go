package stack

import (
	"math"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/catflap/catflap/stack/route"
)

// Values of IP_MTU_DISCOVER and IPV6_MTU_DISCOVER: ip(7), ipv6(7).
const (
	IP_PMTUDISC_DONT  = 0 // packets may be cut into fragments by anybody
	IP_PMTUDISC_WANT  = 1 // by this side: the default
	IP_PMTUDISC_DO    = 2 // by nobody: what is too long fails with EMSGSIZE
	IP_PMTUDISC_PROBE = 3 // the same, whatever ICMP has said of the path
)

// fits fails with EMSGSIZE if a datagram of size bytes would be cut into fragments and the socket forbids that.
// netstack, which sets DF, would cut it all the same. to is zero for a connected socket.
func (k *socket) fits(size int, to netip.AddrPort) error {
	if !to.IsValid() {
		to, _ = k.remoteAddr()
	}
	dst := to.Addr().Unmap()
	discover, headers := k.discover.Load(), header.IPv4MinimumSize+header.UDPMinimumSize
	if dst.Is6() {
		discover, headers = k.discover6.Load(), header.IPv6MinimumSize+header.UDPMinimumSize
	}
	if discover != IP_PMTUDISC_DO && discover != IP_PMTUDISC_PROBE || !dst.IsValid() {
		return nil
	}
	l, _, err := k.s.output(netip.Addr{}, dst)
	if err == nil && size+headers > int(l.MTU()) {
		return syscall.EMSGSIZE
	}
	return nil // of other errors the sending itself tells
}

// sendmsg is sendmsg(2): it sends b, which are m's buffers.
func (k *socket) sendmsg(m *Msg, b []byte, flags int) (int, error) {
	if k.stream() || len(m.Control) == 0 {
		return k.sendAll(b, m.Name, flags)
	}
	infos, err := parseControl(m.Control)
	if err != nil {
		return -1, err
	}
	to := m.Name
	if !to.IsValid() {
		if to, err = k.remoteAddr(); err != nil {
			return -1, syscall.EDESTADDRREQ
		}
	}
	var info packetInfo // the last that is of the destination's family
	for _, p := range infos {
		if p.local.Unmap().Is4() == to.Addr().Unmap().Is4() {
			info = p
		}
	}
	src := info.local.Unmap()
	if src.IsValid() && src.IsUnspecified() {
		src = netip.Addr{}
	}
	if !src.IsValid() && info.link == 0 {
		return k.sendAll(b, m.Name, flags)
	}
	if err := k.sendFrom(src, info.link, b, m.Name, to); err != nil {
		return -1, err
	}
	return len(b), nil
}

// sendFrom sends a datagram from an address that need not be the socket's: src, if it is valid, by a link, if its
// number is not 0. netstack does so for IPv6 only, and only with addresses that a link carries, so that the packet is
// built here. name is the address as it was given, zero on a connected socket; to is where it goes.
func (k *socket) sendFrom(src netip.Addr, nic int, b []byte, name, to netip.AddrPort) error {
	dst := to.Addr().Unmap()
	family := route.FamilyOf(dst)
	np := netProto(family)
	if src.IsValid() {
		_, rt := k.s.db.Load().Decide(RouteQuery{Dst: src}, nil)
		if local := rt != nil && rt.Type == Local; !local && !k.freebind.Load() && !k.transparent.Load() {
			if family == IPv6 {
				return syscall.EINVAL // ip6_datagram_send_ctl
			}
			return syscall.ENETUNREACH // ip_route_output_key
		}
	}
	// What netstack checks before a write, and the port that it then gives.
	var opts tcpip.WriteOptions
	if err := k.route(name, &opts); err != nil {
		return err
	}
	if k.pending.Load() != nil {
		return k.takeError()
	}
	if err := k.ep.(tcpip.EndpointWithPreflight).Preflight(opts); err != nil {
		return errnoOf(err)
	}
	if len(b) > math.MaxUint16-header.UDPMinimumSize-header.IPv4MinimumSize {
		return syscall.EMSGSIZE
	}
	if err := k.fits(len(b), to); err != nil {
		return err
	}
	l, rt, err := k.s.output(src, dst)
	if err != nil {
		return err
	}
	out := l.id
	if rt.Type == Local {
		out = k.s.carrier(rt)
	} else if nic != 0 {
		if l = k.s.linkOf(nic); l == nil {
			return syscall.ENODEV
		}
		out = l.id
	}
	var local tcpip.Address
	if src.IsValid() {
		local = toTCPIP(src)
	}
	r, terr := k.s.ns.FindRoute(out, local, toTCPIP(dst), np, false)
	if terr != nil {
		return errnoOf(terr)
	}
	defer r.Release()

	ttl, tos := tcpip.IPv4TTLOption, tcpip.IPv4TOSOption
	if family == IPv6 {
		ttl, tos = tcpip.IPv6HopLimitOption, tcpip.IPv6TrafficClassOption
	}
	params := stack.NetworkHeaderParams{Protocol: udp.ProtocolNumber, TTL: r.DefaultTTL(), DF: k.discover.Load() != IP_PMTUDISC_DONT}
	if v, err := k.ep.GetSockOptInt(ttl); err == nil && v > 0 {
		params.TTL = uint8(v)
	}
	if v, err := k.ep.GetSockOptInt(tos); err == nil {
		params.TOS = uint8(v)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()) + header.UDPMinimumSize, Payload: buffer.MakeWithData(b),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = udp.ProtocolNumber
	h := header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize))
	length := uint16(pkt.Size())
	h.Encode(&header.UDPFields{SrcPort: k.localAddr().Port(), DstPort: to.Port(), Length: length})
	sum := header.PseudoHeaderChecksum(udp.ProtocolNumber, r.LocalAddress(), r.RemoteAddress(), length)
	sum = h.CalculateChecksum(checksum.Combine(sum, pkt.Data().Checksum()))
	if sum != math.MaxUint16 { // zero means no checksum (RFC 768)
		sum = ^sum
	}
	h.SetChecksum(sum)
	if err := r.WritePacket(params, pkt); err != nil {
		return errnoOf(err)
	}
	k.s.ns.Stats().UDP.PacketsSent.Increment()
	return nil
}
