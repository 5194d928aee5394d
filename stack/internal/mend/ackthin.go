package mend

import (
	"encoding/binary"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// ThinACKs leaves inbound ACKs out.
//
// A receiver acknowledges every second segment, and netstack sends for every ACK:
// two segments at a time where it could send a super-packet. So of the ACKs that a
// link's reader finds waiting, only the last of each connection is handed on, which
// acknowledges what the others do. It is as if the network had lost those, which
// TCP is made for; an ACK that says more than its number goes its own way: one that
// repeats a number (RFC 5681 counts these), or has SACK blocks, data or flags.
//
// An ACK that a guard then drops may have taken another's place: that one is as good as
// lost, and the next makes up for it.
type ThinACKs struct {
	to Dispatcher

	mu    sync.Mutex
	slots [heldSlots]heldACK
	order []uint16 // the slots that were filled since the last flush; one may be empty, or come twice
}

const (
	// heldSlots is how many connections can have an ACK held, if no two of them fall
	// into the same slot.
	heldSlots = 128

	// heldMost is how many ACKs are read before what is held is handed on, so that a
	// sender that always has some waiting is not kept from sending.
	heldMost = 64
)

type heldACK struct {
	flow  flowKey
	ack   uint32
	proto tcpip.NetworkProtocolNumber
	pkt   *stack.PacketBuffer // nil: none
}

// flowKey is the addresses and ports of a segment, as they stand in its headers.
type flowKey [36]byte

// slot spreads flows over n places, a power of 2 of at most 2^16.
func (k *flowKey) slot(n uint32) uint16 {
	const golden = 0x9e3779b97f4a7c15 // 2^64 / phi, as Fibonacci hashing multiplies by; the upper bits depend on all
	h := uint64(0)
	for i := 0; i < len(k); i += 4 {
		h = (h ^ uint64(binary.LittleEndian.Uint32(k[i:]))) * golden
		h ^= h >> 32
	}
	return uint16(uint32(h) % n)
}

// outbound is the connection of a segment that this side sends.
func (k *flowKey) outbound(proto tcpip.NetworkProtocolNumber) stack.TransportEndpointID {
	n := header.IPv4AddressSize
	if proto == ipv6.ProtocolNumber {
		n = header.IPv6AddressSize
	}
	return stack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(k[4 : 4+n]), LocalPort: binary.BigEndian.Uint16(k[:]),
		RemoteAddress: tcpip.AddrFromSlice(k[4+n : 4+2*n]), RemotePort: binary.BigEndian.Uint16(k[2:]),
	}
}

// Dispatcher takes a link's packets: see stack.NetworkDispatcher.
type Dispatcher interface {
	DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)
}

// Init has what is handed on go to a dispatcher.
func (h *ThinACKs) Init(to Dispatcher) { h.to = to }

// Deliver hands a packet on, at once or with the next Flush, or leaves it out.
func (h *ThinACKs) Deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	flow, ack, plain, ok := parseACK(proto, pkt)
	if !ok {
		h.to.DeliverNetworkPacket(proto, pkt)
		return
	}
	h.mu.Lock()
	i := flow.slot(heldSlots)
	before := h.slots[i]
	h.slots[i] = heldACK{}
	if before.pkt != nil && plain && before.flow == flow && int32(ack-before.ack) > 0 {
		before.pkt.DecRef() // pkt says it too
		before.pkt = nil
	}
	full := false
	if plain {
		h.slots[i] = heldACK{flow, ack, proto, pkt.IncRef()}
		h.order = append(h.order, i)
		full = len(h.order) >= heldMost
	}
	h.mu.Unlock()
	if before.pkt != nil {
		h.deliver(before)
	}
	if !plain {
		h.to.DeliverNetworkPacket(proto, pkt)
	}
	if full {
		h.Flush()
	}
}

// Flush hands on what is held.
func (h *ThinACKs) Flush() {
	for next := 0; ; next++ {
		h.mu.Lock()
		if next >= len(h.order) {
			h.order = h.order[:0]
			h.mu.Unlock()
			return
		}
		i := h.order[next]
		held := h.slots[i]
		h.slots[i] = heldACK{}
		h.mu.Unlock()
		if held.pkt != nil {
			h.deliver(held)
		}
	}
}

func (h *ThinACKs) deliver(held heldACK) {
	h.to.DeliverNetworkPacket(held.proto, held.pkt)
	held.pkt.DecRef()
}

// Close drops what is held.
func (h *ThinACKs) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, i := range h.order {
		if s := &h.slots[i]; s.pkt != nil {
			s.pkt.DecRef()
			*s = heldACK{}
		}
	}
	h.order = nil
}

// parseACK returns the flow and the acknowledgment number of an inbound TCP segment;
// ok is false of other packets. plain says that the segment is an ACK and nothing
// else, but for a time stamp.
func parseACK(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) (flow flowKey, ack uint32, plain, ok bool) {
	size := pkt.Data().Size()
	b, _ := pkt.Data().PullUp(min(size, header.IPv6MinimumSize+header.TCPMinimumSize+paddedTSLength))
	hdr, length := 0, 0
	switch {
	case proto == ipv4.ProtocolNumber && len(b) >= header.IPv4MinimumSize+header.TCPMinimumSize:
		ip := header.IPv4(b)
		if ip.TransportProtocol() != tcp.ProtocolNumber || ip.HeaderLength() != header.IPv4MinimumSize || ip.More() || ip.FragmentOffset() != 0 {
			return flow, 0, false, false
		}
		hdr, length = header.IPv4MinimumSize, int(ip.TotalLength())
		copy(flow[4:], b[12:20])
	case proto == ipv6.ProtocolNumber && len(b) >= header.IPv6MinimumSize+header.TCPMinimumSize:
		ip := header.IPv6(b)
		if ip.NextHeader() != uint8(tcp.ProtocolNumber) {
			return flow, 0, false, false
		}
		hdr, length = header.IPv6MinimumSize, header.IPv6MinimumSize+int(ip.PayloadLength())
		copy(flow[4:], b[8:40])
	default:
		return flow, 0, false, false
	}
	b = b[hdr:]
	copy(flow[:4], b)
	h := header.TCP(b)
	plain = length == size && hdr+int(h.DataOffset()) == size && len(b) == size-hdr && plainACK(h, 0)
	return flow, h.AckNumber(), plain, true
}

// paddedTSLength is the time stamp option with two NOPs before it, as everyone pads it.
const paddedTSLength = 2 + header.TCPOptionTSLength

// plainACK reports whether a segment of which h is the whole header, options and all,
// before n bytes of data, is an ACK and nothing else, but for a time stamp.
func plainACK(h header.TCP, n int) bool {
	switch {
	case h.Flags() != header.TCPFlagAck || n != 0:
		return false
	case len(h) == header.TCPMinimumSize:
		return true
	}
	return len(h) == header.TCPMinimumSize+paddedTSLength && h[20] == header.TCPOptionNOP && h[21] == header.TCPOptionNOP && h[22] == header.TCPOptionTS
}

// Held returns how many ACKs are held.
func (h *ThinACKs) Held() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.slots {
		if h.slots[i].pkt != nil {
			n++
		}
	}
	return n
}
