package stack

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/stack/route"
)

// unreachableQuote is what an ICMP error tells of: who is told, whom the packet was
// for, and its start (RFC 792, RFC 4443 2.4(c)): its headers, by which the sender finds the socket.
type unreachableQuote struct {
	nic   tcpip.NICID
	proto tcpip.NetworkProtocolNumber
	src   netip.Addr
	dst   tcpip.Address
	bytes []byte
}

func quoteOf(pkt *stack.PacketBuffer) unreachableQuote {
	ip, th := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
	return unreachableQuote{
		nic: pkt.NICID, proto: pkt.NetworkProtocolNumber, src: fromTCPIP(pkt.Network().SourceAddress()), dst: pkt.Network().DestinationAddress(),
		bytes: append(append(make([]byte, 0, len(ip)+len(th)), ip...), th...),
	}
}

// rejection is a code of ICMP "destination unreachable" in each family.
type rejection struct {
	v4 header.ICMPv4Code
	v6 header.ICMPv6Code
}

// refusal is what a host says of a port where nobody is.
var refusal = rejection{header.ICMPv4PortUnreachable, header.ICMPv6PortUnreachable}

// rejections are the codes from which Linux makes the errors (icmp_err_convert,
// tab_unreach of icmpv6.c; RFC 1812 5.2.7.1, RFC 4443 3.1).
var rejections = []struct {
	err syscall.Errno
	rejection
}{
	{syscall.ECONNREFUSED, refusal},
	{syscall.ENETUNREACH, rejection{header.ICMPv4NetUnreachable, header.ICMPv6NetworkUnreachable}},
	{syscall.EACCES, rejection{header.ICMPv4AdminProhibited, header.ICMPv6Prohibited}},
	{syscall.EPERM, rejection{header.ICMPv4AdminProhibited, header.ICMPv6Prohibited}},
}

// rejectionOf is how a sender is told of err. An error that is not in the table says no
// more than that the host cannot be reached.
func rejectionOf(err error) rejection {
	for _, r := range rejections {
		if errors.Is(err, r.err) {
			return r.rejection
		}
	}
	return rejection{header.ICMPv4HostUnreachable, header.ICMPv6AddressUnreachable}
}

// silent reports whether err is of a destination that says nothing, or of a client
// that does not listen any more.
func silent(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, syscall.ETIMEDOUT) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

func (s *Stack) sendQuoted(q unreachableQuote, r rejection) {
	if s.ns.AllowICMPMessage() && (q.src.IsGlobalUnicast() || q.src.IsLinkLocalUnicast() || q.src.IsLoopback()) {
		var from tcpip.Address
		if r == refusal {
			from = q.dst // who refuses is the destination; all else is said by a router
		}
		s.writeUnreachable(q.nic, q.proto, from, q.src, r.v4, r.v6, q.bytes)
	}
}

// handleICMPv6 is handleICMPv4 for IPv6, where netstack answers for addresses of any
// kind. True has it not answer.
func (s *Stack) handleICMPv6(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	h := header.ICMPv6(pkt.TransportHeader().Slice())
	return len(h) >= header.ICMPv6EchoMinimumSize && h.Type() == header.ICMPv6EchoRequest && s.forwardEcho(id, pkt, h.Ident(), h.Sequence())
}

// EchoRequest is an ICMP echo request that a forwarder has taken.
type EchoRequest struct {
	Src, Dst netip.Addr
	ID, Seq  uint16
	Data     []byte // what is to come back

	f    *Forwarder
	told unreachableQuote
}

// forwardEcho hands an echo request to the forwarder that covers its destination, and
// reports whether one does.
func (s *Stack) forwardEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer, ident, seq uint16) bool {
	dst := fromTCPIP(id.LocalAddress)
	f, _ := s.covering("icmp", netip.AddrPortFrom(dst, 0))
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.echoing.Load() >= int64(f.cfg.MaxEchoes) {
		f.dropped.Add(1)
		return true
	}
	data := pkt.Data().AsRange().ToSlice()
	r := &EchoRequest{Src: fromTCPIP(id.RemoteAddress), Dst: dst, ID: ident, Seq: seq, Data: data, f: f, told: quoteOf(pkt)}
	f.echoes.Add(1)
	f.echoing.Add(1)
	f.wg.Go(func() {
		defer f.echoing.Add(-1)
		f.cfg.Echo(r)
	})
	return true
}

// Reply sends the echo reply, as from the destination.
func (r *EchoRequest) Reply() error {
	s, np := r.f.s, netProto(route.FamilyOf(r.Dst))
	route, terr := s.ns.FindRoute(r.told.nic, toTCPIP(r.Dst), toTCPIP(r.Src), np, false)
	if terr != nil {
		return errnoOf(terr)
	}
	defer route.Release()
	if np == ipv4.ProtocolNumber {
		b := make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(r.Data))
		s.sendICMP(route, header.ICMPv4ProtocolNumber, append(b, r.Data...), func(b []byte) {
			h := header.ICMPv4(b)
			h.SetType(header.ICMPv4EchoReply)
			h.SetIdent(r.ID)
			h.SetSequence(r.Seq)
			h.SetChecksum(^checksum.Checksum(b, 0))
		})
		return nil
	}
	b := make([]byte, header.ICMPv6EchoMinimumSize, header.ICMPv6EchoMinimumSize+len(r.Data))
	s.sendICMP(route, header.ICMPv6ProtocolNumber, append(b, r.Data...), func(b []byte) {
		h := header.ICMPv6(b)
		h.SetType(header.ICMPv6EchoReply)
		h.SetIdent(r.ID)
		h.SetSequence(r.Seq)
		h.SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: route.LocalAddress(), Dst: route.RemoteAddress()}))
	})
	return nil
}

// Reject tells the sender by ICMP that the destination cannot be reached: see
// TCPRequest.Reject.
func (r *EchoRequest) Reject(err error) {
	if silent(err) {
		return
	}
	r.f.rejected.Add(1)
	r.f.s.sendQuoted(r.told, rejectionOf(err))
}
