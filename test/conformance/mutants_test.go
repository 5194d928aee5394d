package conformance

import (
	"encoding/binary"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/test/drill"
)

// mutant is a way in which a stack breaks a rule, made from outside: by what stands between the stack and a script. It
// shows whether some script asserts the rule.
type mutant struct {
	name, rule string
	// between makes what stands there in one run.
	between func() func(dir drill.Direction, p *view) [][]byte
	reason  string // why no script finds it; "" when one must
}

// view is a packet on its way, with its bytes to change.
type view struct {
	packet.Packet
	b []byte
}

// same lets the packet go on; seal does after a change.
func (v *view) same() [][]byte { return [][]byte{v.b} }
func (v *view) seal() [][]byte { sum(v.b); return [][]byte{v.b} }

// transport is where the transport header starts.
func (v *view) transport() []byte {
	if v.Version == 4 {
		return v.b[int(v.b[0]&15)*4:]
	}
	return v.b[40:]
}

// sum puts checksums right: that of IPv4's header and that of TCP, UDP or ICMP behind it.
func sum(b []byte) {
	var body, pseudo []byte
	var proto uint8
	if b[0]>>4 == 4 {
		n := int(b[0]&15) * 4
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], packet.Checksum(b[:n], 0))
		body, pseudo, proto = b[n:], append([]byte(nil), b[12:20]...), b[9]
	} else {
		body, pseudo, proto = b[40:], append([]byte(nil), b[8:40]...), b[6]
	}
	at := map[uint8]int{packet.ProtoTCP: 16, packet.ProtoUDP: 6, packet.ProtoICMP: 2, packet.ProtoICMPv6: 2}[proto]
	if at == 0 || len(body) < at+2 {
		return
	}
	pseudo = append(pseudo, 0, proto)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	if proto == packet.ProtoICMP {
		pseudo = nil
	}
	binary.BigEndian.PutUint16(body[at:], 0)
	binary.BigEndian.PutUint16(body[at:], packet.Checksum(body, uint32(^packet.Checksum(pseudo, 0))))
}

// outgoing is a mutant that has no memory, and looks only at what the stack sends.
func outgoing(f func(v *view) [][]byte) func() func(drill.Direction, *view) [][]byte {
	return func() func(drill.Direction, *view) [][]byte {
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.In {
				return v.same()
			}
			return f(v)
		}
	}
}

// incoming is one that looks only at what the stack is sent.
func incoming(f func(v *view) [][]byte) func() func(drill.Direction, *view) [][]byte {
	return func() func(drill.Direction, *view) [][]byte {
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.Out {
				return v.same()
			}
			return f(v)
		}
	}
}

// silent drops what the stack sends when a condition holds.
func silent(when func(v *view) bool) func() func(drill.Direction, *view) [][]byte {
	return outgoing(func(v *view) [][]byte {
		if when(v) {
			return nil
		}
		return v.same()
	})
}

// deaf keeps from the stack what a condition holds for.
func deaf(when func(v *view) bool) func() func(drill.Direction, *view) [][]byte {
	return incoming(func(v *view) [][]byte {
		if when(v) {
			return nil
		}
		return v.same()
	})
}

// is reports whether a packet is TCP with just these of the flags SYN, ACK, FIN and RST.
func is(v *view, f packet.Flags) bool {
	return v.TCP != nil && v.TCP.Flags&(packet.SYN|packet.ACK|packet.FIN|packet.RST) == f
}

// isTCP reports whether a packet is TCP with all of these flags.
func isTCP(v *view, f packet.Flags) bool { return v.TCP != nil && v.TCP.Flags&f == f }

// withoutOption overwrites an option with NOPs, and reports whether there was one.
func withoutOption(v *view, kind uint8) bool {
	t := v.transport()
	end := int(t[12]>>4) * 4
	for i := 20; i < end; {
		switch {
		case t[i] == packet.OptEOL:
			return false
		case t[i] == packet.OptNOP:
			i++
			continue
		case i+1 >= end || t[i+1] < 2:
			return false
		}
		n := int(t[i+1])
		if t[i] == kind {
			for j := i; j < min(i+n, end); j++ {
				t[j] = packet.OptNOP
			}
			return true
		}
		i += n
	}
	return false
}

// optionData is the data of an option, nil if there is none of that kind.
func optionData(v *view, kind uint8) []byte {
	t := v.transport()
	end := int(t[12]>>4) * 4
	for i := 20; i < end; {
		if t[i] == packet.OptEOL {
			return nil
		}
		if t[i] == packet.OptNOP {
			i++
			continue
		}
		if i+1 >= end || t[i+1] < 2 || i+int(t[i+1]) > end {
			return nil
		}
		if t[i] == kind {
			return t[i+2 : i+int(t[i+1])]
		}
		i += int(t[i+1])
	}
	return nil
}

// eachSegment is called for every TCP segment that the stack sends.
func eachSegment(f func(v *view) bool) func() func(drill.Direction, *view) [][]byte {
	return outgoing(func(v *view) [][]byte {
		if v.TCP == nil || !f(v) {
			return v.same()
		}
		return v.seal()
	})
}

// resent notes data that the stack sends twice.
func resent(f func(v *view, times int) [][]byte) func() func(drill.Direction, *view) [][]byte {
	return func() func(drill.Direction, *view) [][]byte {
		type key struct {
			port uint16
			seq  uint32
		}
		seen := map[key]int{}
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.In || v.TCP == nil || len(v.Payload) == 0 {
				return v.same()
			}
			k := key{v.TCP.DstPort, v.TCP.Seq}
			seen[k]++
			return f(v, seen[k])
		}
	}
}

// mutants are all of them.
var mutants = []mutant{
	{name: "dead", rule: "A stack answers.", between: silent(func(*view) bool { return true })},
	{name: "deaf", rule: "A stack takes what it is sent.", between: deaf(func(*view) bool { return true })},
	{name: "no-reset-of-unknown", rule: "A segment of no connection is reset (RFC 9293 3.10.7.1).", between: silent(func(v *view) bool { return isTCP(v, packet.RST) })},
	{name: "reset-of-reset", rule: "A reset is not answered (RFC 9293 3.10.7.1).", between: func() func(drill.Direction, *view) [][]byte {
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.In && isTCP(v, packet.RST) {
				v.transport()[13] &^= uint8(packet.RST) // to the stack it is a plain segment, which it answers
				return v.seal()
			}
			return v.same()
		}
	}},
	{name: "reset-without-ack", rule: "A reset of a segment without ACK acknowledges it (RFC 9293 3.10.7.1).", between: eachSegment(func(v *view) bool {
		if !is(v, packet.RST|packet.ACK) {
			return false
		}
		v.transport()[13] &^= uint8(packet.ACK)
		return true
	})},
	{name: "ack-off-by-one", rule: "An acknowledgment is RCV.NXT.", between: eachSegment(func(v *view) bool {
		t := v.transport()
		binary.BigEndian.PutUint32(t[8:], v.TCP.Ack+1)
		return isTCP(v, packet.ACK)
	})},
	{name: "sequence-off-by-one", rule: "Data stands at its place.", between: eachSegment(func(v *view) bool {
		binary.BigEndian.PutUint32(v.transport()[4:], v.TCP.Seq+1)
		return len(v.Payload) > 0
	})},
	{name: "other-bytes", rule: "What is sent is what was written.", between: eachSegment(func(v *view) bool {
		if len(v.Payload) == 0 {
			return false
		}
		v.b[len(v.b)-1] ^= 1
		return true
	})},
	{name: "other-bytes-again", rule: "What is sent again is what was sent (RFC 9293 3.8.1).", between: resent(func(v *view, times int) [][]byte {
		if times == 1 {
			return v.same()
		}
		v.b[len(v.b)-1] ^= 1
		return v.seal()
	})},
	{name: "nothing-again", rule: "What is not acknowledged is sent again (RFC 9293 3.8.1).", between: resent(func(v *view, times int) [][]byte {
		if times > 1 {
			return nil
		}
		return v.same()
	})},
	{name: "once-again", rule: "It is sent again until it is acknowledged (RFC 9293 3.8.1).", between: resent(func(v *view, times int) [][]byte {
		if times > 2 {
			return nil
		}
		return v.same()
	})},
	{name: "twice", rule: "What has arrived is not sent twice.", between: resent(func(v *view, times int) [][]byte {
		if times == 1 {
			return [][]byte{v.b, append([]byte(nil), v.b...)}
		}
		return v.same()
	})},
	{name: "no-push", rule: "The last segment of a write is pushed (RFC 9293 3.9.1.2).", between: eachSegment(func(v *view) bool {
		v.transport()[13] &^= uint8(packet.PSH)
		return isTCP(v, packet.PSH)
	})},
	{name: "no-fin", rule: "A close sends FIN.", between: eachSegment(func(v *view) bool {
		v.transport()[13] &^= uint8(packet.FIN)
		return isTCP(v, packet.FIN)
	})},
	{name: "no-pure-acks", rule: "Data is acknowledged.", between: silent(func(v *view) bool { return is(v, packet.ACK) && len(v.Payload) == 0 })},
	{name: "no-duplicate-acks", rule: "A gap is acknowledged at once (RFC 5681 4.2).", between: func() func(drill.Direction, *view) [][]byte {
		last := map[uint16]uint32{}
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.Out && is(v, packet.ACK) && len(v.Payload) == 0 {
				if n, ok := last[v.TCP.DstPort]; ok && n == v.TCP.Ack {
					return nil
				}
				last[v.TCP.DstPort] = v.TCP.Ack
			}
			return v.same()
		}
	}},
	{name: "challenge-in-reset", rule: "A reset that is not exact is challenged (RFC 5961 3.2).", between: func() func(drill.Direction, *view) [][]byte {
		var next uint32
		return func(dir drill.Direction, v *view) [][]byte {
			switch {
			case dir == drill.Out && isTCP(v, packet.ACK):
				next = v.TCP.Ack
			case dir == drill.In && is(v, packet.RST) && next != 0: // taken as if it were exact
				binary.BigEndian.PutUint32(v.transport()[4:], next)
				return v.seal()
			}
			return v.same()
		}
	}},
	{name: "no-mss", rule: "A SYN has the MSS option (RFC 9293 3.7.1).", between: eachSegment(func(v *view) bool { return isTCP(v, packet.SYN) && withoutOption(v, packet.OptMSS) })},
	{name: "mss-too-large", rule: "The MSS is the MTU without headers (RFC 6691).", between: eachSegment(func(v *view) bool {
		d := optionData(v, packet.OptMSS)
		if len(d) != 2 {
			return false
		}
		binary.BigEndian.PutUint16(d, binary.BigEndian.Uint16(d)+12)
		return true
	})},
	{name: "peer-mss-ignored", rule: "Segments are no longer than the peer's MSS (RFC 9293 3.7.1).", between: incoming(func(v *view) [][]byte {
		if v.TCP != nil {
			if d := optionData(v, packet.OptMSS); len(d) == 2 && isTCP(v, packet.SYN) {
				binary.BigEndian.PutUint16(d, 1460)
				return v.seal()
			}
		}
		return v.same()
	})},
	{name: "no-window-scale", rule: "Window scaling is answered (RFC 7323 2.2).", between: eachSegment(func(v *view) bool { return withoutOption(v, packet.OptWScale) })},
	{name: "no-sack-permitted", rule: "SACK is answered (RFC 2018 2).", between: eachSegment(func(v *view) bool { return withoutOption(v, packet.OptSACKOK) })},
	{name: "no-sack-blocks", rule: "What arrived beyond a gap is reported (RFC 2018 4).", between: eachSegment(func(v *view) bool { return withoutOption(v, packet.OptSACK) })},
	{name: "sack-blocks-swapped", rule: "The newest block comes first (RFC 2018 4).", between: eachSegment(func(v *view) bool {
		d := optionData(v, packet.OptSACK)
		if len(d) < 16 {
			return false
		}
		var first [8]byte
		copy(first[:], d)
		copy(d, d[8:16])
		copy(d[8:], first[:])
		return true
	})},
	{name: "sack-not-heard", rule: "What the peer reports is used (RFC 6675).", between: incoming(func(v *view) [][]byte {
		if v.TCP != nil && withoutOption(v, packet.OptSACK) {
			return v.seal()
		}
		return v.same()
	})},
	{name: "no-timestamps", rule: "Time stamps are answered (RFC 7323 3.2).", between: eachSegment(func(v *view) bool { return withoutOption(v, packet.OptTimestamp) })},
	{name: "stamp-stands-still", rule: "Time stamps advance (RFC 7323 5.4).", between: func() func(drill.Direction, *view) [][]byte {
		var first []byte
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.In || v.TCP == nil {
				return v.same()
			}
			if d := optionData(v, packet.OptTimestamp); len(d) == 8 {
				if first == nil {
					first = append([]byte(nil), d[:4]...)
				}
				copy(d, first)
				return v.seal()
			}
			return v.same()
		}
	}},
	{name: "echo-of-first-stamp", rule: "The stamp of the last segment in order is echoed (RFC 7323 4.3).", between: func() func(drill.Direction, *view) [][]byte {
		var first []byte
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.In || v.TCP == nil {
				return v.same()
			}
			if d := optionData(v, packet.OptTimestamp); len(d) == 8 {
				if first == nil {
					first = append([]byte(nil), d[4:]...)
				}
				copy(d[4:], first)
				return v.seal()
			}
			return v.same()
		}
	}},
	{name: "window-not-heard", rule: "The peer's window is kept (RFC 9293 3.8.6).", between: incoming(func(v *view) [][]byte {
		if isTCP(v, packet.ACK) && !isTCP(v, packet.SYN) {
			binary.BigEndian.PutUint16(v.transport()[14:], 65535)
			return v.seal()
		}
		return v.same()
	})},
	{name: "no-probes", rule: "A window of zero is probed (RFC 9293 3.8.6.1).", between: func() func(drill.Direction, *view) [][]byte {
		closed := map[uint16]bool{} // by the peer's port
		return func(dir drill.Direction, v *view) [][]byte {
			switch {
			case dir == drill.In && is(v, packet.ACK):
				closed[v.TCP.SrcPort] = v.TCP.Window == 0
			case dir == drill.Out && v.TCP != nil && closed[v.TCP.DstPort]:
				return nil
			}
			return v.same()
		}
	}},
	{name: "duplicates-count-twice", rule: "Two duplicates are no loss (RFC 5681 3.2).", between: func() func(drill.Direction, *view) [][]byte {
		last := map[uint16]uint32{}
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.Out || !is(v, packet.ACK) || len(v.Payload) > 0 {
				return v.same()
			}
			before, seen := last[v.TCP.SrcPort]
			last[v.TCP.SrcPort] = v.TCP.Ack
			if seen && before == v.TCP.Ack {
				return [][]byte{v.b, append([]byte(nil), v.b...)}
			}
			return v.same()
		}
	}},
	{name: "old-stamp-taken", rule: "A segment with an old time stamp is dropped (RFC 7323 5.3).", between: func() func(drill.Direction, *view) [][]byte {
		newest := map[uint16]uint32{}
		return func(dir drill.Direction, v *view) [][]byte {
			if dir == drill.Out || !is(v, packet.ACK) {
				return v.same()
			}
			d := optionData(v, packet.OptTimestamp)
			if len(d) != 8 {
				return v.same()
			}
			val, port := binary.BigEndian.Uint32(d), v.TCP.SrcPort
			if int32(val-newest[port]) >= 0 {
				newest[port] = val
				return v.same()
			}
			binary.BigEndian.PutUint32(d, newest[port])
			return v.seal()
		}
	}},
	{name: "routing-header-obeyed", rule: "A routing header of type 0 is not followed (RFC 5095).", between: incoming(func(v *view) [][]byte {
		if v.Version == 6 && v.b[6] == packet.ProtoRouting {
			v.b[40+3] = 0 // as if the way ended here
		}
		return v.same()
	})},
	{name: "no-checksum-dropped", rule: "Over IPv4 a datagram needs no checksum (RFC 768).", between: deaf(func(v *view) bool {
		return v.UDP != nil && v.Version == 4 && binary.BigEndian.Uint16(v.transport()[6:]) == 0
	})},
	{name: "window-of-nothing", rule: "A window is offered.", between: eachSegment(func(v *view) bool {
		binary.BigEndian.PutUint16(v.transport()[14:], 0)
		return !isTCP(v, packet.RST)
	})},
	{name: "checksum-not-looked-at", rule: "A segment with a wrong checksum is dropped (RFC 9293 3.1).", between: incoming(func(v *view) [][]byte { return v.seal() })},
	{name: "wrong-checksum", rule: "What is sent has a right checksum.", between: outgoing(func(v *view) [][]byte {
		if v.TCP != nil {
			v.transport()[16] ^= 0x55
		}
		return v.same()
	})},
	{name: "urgent-dropped", rule: "Urgent data arrives (RFC 9293 3.8.5).", between: deaf(func(v *view) bool { return isTCP(v, packet.URG) })},
	{name: "syn-data-dropped", rule: "Data in a SYN is not lost for ever (RFC 9293 3.10.7.2).", between: deaf(func(v *view) bool { return isTCP(v, packet.SYN) && len(v.Payload) > 0 })},
	{name: "ecn-answered", rule: "ECN is not claimed without it (RFC 3168 6.1.1).", between: eachSegment(func(v *view) bool {
		v.transport()[13] |= uint8(packet.ECE)
		return is(v, packet.SYN|packet.ACK)
	})},
	{name: "ect", rule: "Packets are marked ECT only with ECN (RFC 3168 6.1.1).", between: outgoing(func(v *view) [][]byte {
		if v.Version == 4 {
			v.b[1] |= 2
		} else {
			v.b[1] |= 2 << 4
		}
		return v.seal()
	})},
	{name: "ttl-of-one", rule: "The TTL is a host's (RFC 1122 3.2.1.7).", between: outgoing(func(v *view) [][]byte {
		if v.Version == 4 {
			v.b[8] = 1
		} else {
			v.b[7] = 1
		}
		return v.seal()
	})},
	{name: "no-echo-reply", rule: "An echo request is answered (RFC 792, RFC 4443).", between: silent(func(v *view) bool {
		return v.ICMP != nil && (v.ICMP.Type == 0 || v.ICMP.Type == 129)
	})},
	{name: "no-icmp-errors", rule: "Unreachable ports and protocols are told (RFC 1122 3.2.2.1).", between: silent(func(v *view) bool {
		return v.ICMP != nil && v.ICMP.Type != 0 && v.ICMP.Type != 129
	})},
	{name: "icmp-not-heard", rule: "ICMP errors are heard (RFC 1122 4.2.3.9, RFC 1191).", between: deaf(func(v *view) bool {
		_, quoted := v.Quoted()
		return quoted
	})},
	{name: "fragments-not-heard", rule: "Fragments are put together (RFC 791 3.2, RFC 8200 4.5).", between: deaf(func(v *view) bool { return v.Frag.Fragmented() })},
	{name: "udp-checksum-not-looked-at", rule: "A datagram with a wrong checksum is dropped (RFC 1122 4.1.3.4).", between: incoming(func(v *view) [][]byte {
		if v.UDP == nil {
			return v.same()
		}
		return v.seal()
	})},
}

// tamper is what a mutant does to the bytes of packets; what cannot be read goes on as it is.
func (m mutant) tamper() func(dir drill.Direction, b []byte) [][]byte {
	f := m.between()
	return func(dir drill.Direction, b []byte) [][]byte {
		p, err := packet.Parse(b)
		v := &view{Packet: p, b: b}
		if err != nil {
			return v.same()
		}
		return f(dir, v)
	}
}
