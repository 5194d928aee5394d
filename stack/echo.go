package stack

import (
	"fmt"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Echo is an ICMP echo request that the stack is to send (RFC 792, RFC 4443 4.1). Its answer is an ordinary packet
// that arrives: see SubscribeWith.
type Echo struct {
	Dst  netip.Addr `json:"dst"`
	TTL  uint8      `json:"ttl,omitempty"` // hop limit; 0: the default
	ID   uint16     `json:"id"`
	Seq  uint16     `json:"seq"`
	Size int        `json:"size"` // bytes of data, up to MaxEchoSize
}

// MaxEchoSize is the most data of an Echo: what an IPv4 packet has room for.
const MaxEchoSize = 65535 - header.IPv4MinimumSize - header.ICMPv4MinimumSize

// SendEcho sends an echo request along the route to its destination, from the address that the route has. The error
// wraps what a program would be told: ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL.
func (s *Stack) SendEcho(e Echo) error {
	dst := e.Dst.Unmap()
	if !dst.IsValid() || e.Size < 0 || e.Size > MaxEchoSize {
		return fmt.Errorf("echo to %s with %d bytes: want an address, and 0..%d bytes: %w", e.Dst, e.Size, MaxEchoSize, syscall.EINVAL)
	}
	through, rt, err := s.output(netip.Addr{}, dst)
	if err != nil {
		return fmt.Errorf("echo to %s: %w", dst, err)
	}
	if rt.Type == Broadcast || dst.IsMulticast() {
		return fmt.Errorf("echo to %s: it is not the address of one host: %w", dst, syscall.EACCES)
	}
	nic := through.id
	if rt.Type == Local {
		nic = s.carrier(rt)
	}
	proto := netProto(IPv4)
	if dst.Is6() {
		proto = netProto(IPv6)
	}
	var src tcpip.Address
	if l := s.LookupRoute(RouteQuery{Dst: dst}); l.Src.IsValid() {
		src = toTCPIP(l.Src)
	}
	r, terr := s.ns.FindRoute(nic, src, toTCPIP(dst), proto, false)
	if terr != nil {
		return fmt.Errorf("echo to %s: %w", dst, errnoOf(terr))
	}
	defer r.Release()
	data := make([]byte, header.ICMPv4MinimumSize+e.Size) // ICMPv6's header of an echo is of that size too
	for i := range e.Size {
		data[header.ICMPv4MinimumSize+i] = byte(i)
	}
	transport := header.ICMPv4ProtocolNumber
	if dst.Is4() {
		h := header.ICMPv4(data)
		h.SetType(header.ICMPv4Echo)
		h.SetIdent(e.ID)
		h.SetSequence(e.Seq)
		h.SetChecksum(^checksum.Checksum(data, 0))
	} else {
		transport = header.ICMPv6ProtocolNumber
		h := header.ICMPv6(data)
		h.SetType(header.ICMPv6EchoRequest)
		h.SetIdent(e.ID)
		h.SetSequence(e.Seq)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: r.LocalAddress(), Dst: r.RemoteAddress()}))
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(data),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = transport
	ttl := e.TTL
	if ttl == 0 {
		ttl = r.DefaultTTL()
	}
	if err := r.WritePacket(stack.NetworkHeaderParams{Protocol: transport, TTL: ttl}, pkt); err != nil {
		return fmt.Errorf("echo to %s: %w", dst, errnoOf(err))
	}
	return nil
}
