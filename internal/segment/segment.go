// Package segment makes of TCP super-packets, and of packets whose checksums were left to a device, what they are
// on a wire.
package segment

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Bytes 12 and 13 of a TCP header hold these (RFC 9293 section 3.1, RFC 3168 section 6.1).
const (
	tcpFlagsAt = 13
	tcpFIN     = 0x01
	tcpPSH     = 0x08
	tcpCWR     = 0x80
)

// Packets returns what a frame of netstack's, or of an offloading device's, is on a wire: complete
// packets, each within the MSS. The frame's bytes, from its IP header on, are changed and kept. A frame whose
// headers do not bear out its options is returned as it is; what is wrong with it is the receiver's to say.
func Packets(frame []byte, gso stack.GSO) [][]byte {
	if !gso.NeedsCsum {
		return [][]byte{frame}
	}
	l4 := int(gso.L3HdrLen)
	if sum := l4 + int(gso.CsumOffset); l4 < header.IPv4MinimumSize || sum+2 > len(frame) {
		return [][]byte{frame}
	}
	if gso.Type == stack.GSOTCPv4 || gso.Type == stack.GSOTCPv6 {
		if segments := cut(frame, l4, int(gso.MSS)); segments != nil {
			return segments
		}
	}
	// The field holds the pseudo-header's sum, so that the sum over all is the packet's.
	at := l4 + int(gso.CsumOffset)
	sum := ^checksum.Checksum(frame[l4:], 0)
	if sum == 0 {
		sum = 0xffff // the same number in ones' complement; to UDP zero would mean no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(frame[at:], sum)
	return [][]byte{frame}
}

// cut makes TCP segments of a super-packet whose TCP header starts at l4; nil if its payload fits one.
// Sequence numbers go on; FIN and PSH are the last segment's, CWR the first's (RFC 3168 section 6.1.2); IPv4
// identifications count up, as TSO hardware has it.
func cut(frame []byte, l4, mss int) [][]byte {
	if len(frame) < l4+header.TCPMinimumSize || mss <= 0 {
		return nil
	}
	headers := l4 + int(frame[l4+12]>>4)*4
	if headers < l4+header.TCPMinimumSize || headers+mss >= len(frame) {
		return nil
	}
	payload := frame[headers:]
	v4 := frame[0]>>4 == header.IPv4Version
	var pseudo uint16 // the pseudo-header's sum, but for the length
	if v4 {
		pseudo = checksum.Checksum(frame[12:20], uint16(header.TCPProtocolNumber))
	} else {
		if l4 < header.IPv6MinimumSize {
			return nil
		}
		pseudo = checksum.Checksum(frame[8:40], uint16(header.TCPProtocolNumber))
	}
	n := (len(payload) + mss - 1) / mss
	segments := make([][]byte, 0, n)
	room := make([]byte, n*headers+len(payload)) // of all segments
	id := binary.BigEndian.Uint16(frame[4:])
	seq := binary.BigEndian.Uint32(frame[l4+4:])
	for i := range n {
		part := payload[i*mss : min((i+1)*mss, len(payload))]
		size := headers + len(part)
		s := room[:size:size]
		room = room[size:]
		copy(s, frame[:headers])
		copy(s[headers:], part)
		if v4 {
			binary.BigEndian.PutUint16(s[2:], uint16(size))
			binary.BigEndian.PutUint16(s[4:], id+uint16(i))
			binary.BigEndian.PutUint16(s[10:], 0)
			binary.BigEndian.PutUint16(s[10:], ^checksum.Checksum(s[:l4], 0))
		} else {
			binary.BigEndian.PutUint16(s[4:], uint16(size-header.IPv6MinimumSize))
		}
		binary.BigEndian.PutUint32(s[l4+4:], seq+uint32(i*mss))
		if i > 0 {
			s[l4+tcpFlagsAt] &^= tcpCWR
		}
		if i < n-1 {
			s[l4+tcpFlagsAt] &^= tcpFIN | tcpPSH
		}
		binary.BigEndian.PutUint16(s[l4+header.TCPChecksumOffset:], 0)
		sum := checksum.Combine(pseudo, uint16(size-l4))
		binary.BigEndian.PutUint16(s[l4+header.TCPChecksumOffset:], ^checksum.Checksum(s[l4:], sum))
		segments = append(segments, s)
	}
	return segments
}
