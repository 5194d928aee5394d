package mend

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/catflap/catflap/stack/internal/peek"
)

// netstack takes data, and even a FIN, from a segment whose acknowledgment or time
// stamp shows that it was forged or is long out of date. The guard here, between the
// demultiplexer and the endpoint's queue, drops such segments, and has netstack answer
// with the ACK that the RFCs ask for.
//
// It reads the connection's variables without its lock, which a reader or writer holds
// while it copies, and which must not be waited for under the demultiplexer's locks.
// That is sound because each variable is one word, changes in one direction only, and
// is compared on the side where an older value lets more through:
//
//   - SND.UNA and TS.Recent only grow, and a segment is too old by an earlier value
//     only if it is too old by the present one.
//   - SND.NXT only grows, but netstack advances it after it has handed a segment to the
//     link, so the peer's answer can be here first. All but that one segment is
//     counted, because the link orders its writes before the answers to them. Less
//     than a segment above SND.NXT, the lock is tried: who gets it sees the true value,
//     and if it is taken, the segment may pass. To a blind attacker that is worth
//     64 KiB beside the window below SND.UNA that RFC 5961 5.2 leaves open anyway.
//
// The time of TS.Recent is two words on a 32-bit machine, of which one may be old. That
// makes it wrong by up to 4.3 s: nothing to the 24 days of PAWS, and to renewTimestamp
// one renewal more or less.
//
// Segments queued before this one can only move the variables on, to what the peer
// cannot have seen when it sent this one.

// Why the guard drops a segment, by the kernel's names.
const (
	DropAckUnsent = "TCP_ACK_UNSENT_DATA" // SEG.ACK > SND.NXT (RFC 9293 3.10.7.4)
	DropAckTooOld = "TCP_TOO_OLD_ACK"     // SEG.ACK < SND.UNA - MAX.SND.WND (RFC 5961 5.2)
	DropPAWS      = "TCP_RFC7323_PAWS"    // SEG.TSval < TS.Recent (RFC 7323 5.3)
)

// maxSegment is the most that netstack hands to a link at once: a TSO super-packet's
// payload, and a FIN.
const maxSegment = 1<<16 + 1

// maxWindow is the largest window without its scale. netstack does not keep
// MAX.SND.WND, the largest that the peer has offered, so the largest that it can
// express stands for it.
const maxWindow = 1<<16 - 1

// pawsIdle is how long TS.Recent is good for without a newer one: 24 days, less than
// it takes a clock of 1 kHz to wrap its sign (RFC 7323 5.5).
const pawsIdle = 24 * 24 * time.Hour

// minTimeout is the least retransmission timeout that peers have (Linux's TCP_RTO_MIN;
// RFC 6298 2.4 asks for a second).
const minTimeout = 200 * time.Millisecond

// synchronized reports whether a connection is in a state in which both sides know
// each other's numbers, so that its sender and receiver are there. TIME-WAIT, in which
// no data is taken, is netstack's to judge.
func synchronized(e *tcp.Endpoint) bool {
	switch e.EndpointState() {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2, tcp.StateCloseWait, tcp.StateClosing, tcp.StateLastAck:
		return peek.CanLook()
	}
	return false
}

// neverSent reports whether number n is beyond all that a connection has sent, that
// is, above SND.NXT. It is false when that cannot be known: see above.
//
//go:norace
func neverSent(e *tcp.Endpoint, n seqnum.Value) bool {
	snd := peek.LookSender(e)
	switch nxt := snd.SndNxt; {
	case !nxt.LessThan(n):
		return false
	case nxt.Add(maxSegment).LessThan(n):
		return true
	case !e.TryLock():
		return false
	}
	nxt := snd.SndNxt
	e.ResumeWork() // which is no more than unlocking
	return nxt.LessThan(n)
}

// inFlight reports whether number n may be one that was sent and not acknowledged.
//
//go:norace
func inFlight(e *tcp.Endpoint, n seqnum.Value) bool {
	return peek.LookSender(e).SndUna.LessThanEq(n) && !neverSent(e, n+1)
}

// judge says why a segment of a connection, not a SYN or reset, is to be dropped:
// "" if it is not.
//
//go:norace
func (g *Guards) judge(e *tcp.Endpoint, seg header.TCP) string {
	if e.SendTSOk {
		if ts, ok := timestamp(seg); ok && seqnum.Value(ts).LessThan(seqnum.Value(e.RecentTS)) {
			since := *peek.RecentTSTime(e)
			if g.clock.NowMonotonic().Sub(since) < pawsIdle {
				return DropPAWS
			}
		}
	}
	ack := seqnum.Value(seg.AckNumber())
	if snd := peek.LookSender(e); ack.LessThan(snd.SndUna) && ack.LessThan(snd.SndUna-maxWindow<<snd.SndWndScale) {
		return DropAckTooOld
	}
	if neverSent(e, ack) {
		return DropAckUnsent
	}
	return ""
}

// timestamp returns the TSval of a segment.
func timestamp(seg header.TCP) (tsVal uint32, ok bool) {
	o := seg[header.TCPMinimumSize:]
	if len(o) >= 12 && binary.BigEndian.Uint32(o) == header.TCPOptionNOP<<24|header.TCPOptionNOP<<16|header.TCPOptionTS<<8|header.TCPOptionTSLength {
		return binary.BigEndian.Uint32(o[4:]), true // as nearly all send it (RFC 7323 appendix A)
	}
	if len(o) < header.TCPOptionTSLength {
		return 0, false
	}
	parsed := header.ParseTCPOptions(o)
	return parsed.TSVal, parsed.TS
}

// Segment looks at a segment for a connection. If the segment is to be dropped, it
// returns what netstack is to be given in its place, to be released by the caller, and
// why; if not, nil. The reason is "" if netstack would have dropped it, too.
func (g *Guards) Segment(e *tcp.Endpoint, pkt *stack.PacketBuffer) (sub *stack.PacketBuffer, reason string) {
	seg := header.TCP(pkt.TransportHeader().Slice())
	if len(seg) < header.TCPMinimumSize || !synchronized(e) {
		return nil, ""
	}
	flags := seg.Flags()
	if flags&(header.TCPFlagSyn|header.TCPFlagRst) != 0 {
		// A SYN or reset may be answered with a challenge ACK. netstack limits the
		// rate of those (RFC 5961 7), but not when the segment has data, which it
		// does not read.
		if pkt.Data().Size() == 0 {
			return nil, ""
		}
		return substitute(pkt, seg.SequenceNumber(), flags, false), ""
	}
	if flags&header.TCPFlagAck == 0 {
		return nil, "" // netstack drops it
	}
	reason = g.judge(e, seg)
	if reason == "" {
		g.renewTimestamp(e, pkt, seg)
		return nil, ""
	}
	data := 0
	if reason == DropPAWS {
		data = pkt.Data().Size()
	}
	if sub = substitute(pkt, uint32(oldNumber(e))-uint32(data), header.TCPFlagAck, data > 0); sub == nil {
		return nil, ""
	}
	return sub, reason
}

// renewTimestamp has a segment of which all has been received before renew TS.Recent,
// the time stamp that netstack's acknowledgment will echo. netstack answers such a
// segment without looking at its time stamp.
//
// It comes when the first acknowledgment was lost. The second then echoes a time from
// before the timeout, and the sender, to which it acknowledges new data, takes the
// timeout for round-trip time. At each such loss the next timeout is longer.
//
// It also comes when it was only overtaken, and its sender took it for lost. Then what
// was sent in between is still on its way, with older time stamps, and PAWS would drop
// it. What tells the two apart is time: a peer that waits for a timeout has sent nothing
// new for as long, so that TS.Recent has stood still for minTimeout.
//
// RFC 7323 4.3 has TS.Recent renewed by SEG.TSval >= TS.Recent and SEG.SEQ <=
// Last.ACK.sent, and its appendix H says that this rule is there for the segment that
// is sent again because an acknowledgment was lost. Section 5.3 R2 drops what is
// outside the window before that. Linux lets through what reaches up to Last.ACK.sent
// (tcp_sequence), whenever it comes; where more than one segment was in flight, the one
// that a timeout sends again does not. What R2 protects is protected here too: whoever
// forges a time stamp, with which PAWS would then drop all true segments, must meet the
// range of numbers that the peer can still send again, which is no larger than the
// largest window, as much as he must meet the window itself to have his time stamp taken
// by R3, and must have passed judge.
//
// The lock is tried and not waited for: who misses it has netstack's answer.
//
//go:norace
func (g *Guards) renewTimestamp(e *tcp.Endpoint, pkt *stack.PacketBuffer, seg header.TCP) {
	rcv, seq := peek.LookReceiver(e), seqnum.Value(seg.SequenceNumber())
	if !seq.LessThan(rcv.RcvNxt) || seq.LessThan(rcv.RcvNxt-maxWindow<<rcv.RcvWndScale) {
		return
	}
	n := seqnum.Size(pkt.Data().Size())
	if seg.Flags()&header.TCPFlagFin != 0 {
		n++
	}
	ts, ok := timestamp(seg)
	if n == 0 || !ok || rcv.RcvNxt.LessThan(seq.Add(n)) {
		return // netstack looks at its time stamp, or it has none
	}
	renewed, now := peek.RecentTSTime(e), g.clock.NowMonotonic()
	if now.Sub(*renewed) < minTimeout {
		return // more of what was sent before it may be on its way
	}
	ip := pkt.Network()
	_, valid, ok := header.TCPValid(seg, pkt.Data().Checksum, uint16(pkt.Data().Size()), ip.SourceAddress(), ip.DestinationAddress(), pkt.RXChecksumValidated)
	if !ok || !valid || !e.TryLock() {
		return
	}
	if e.SendTSOk && seqnum.Value(e.RecentTS).LessThan(seqnum.Value(ts)) && seq.LessThanEq(peek.LookSender(e).MaxSentAck) {
		e.RecentTS, *renewed = ts, now
	}
	e.ResumeWork() // which is no more than unlocking
}

// oldNumber returns a number that the connection has received already. netstack
// answers a segment there, such as a keep-alive, with an ACK and drops it.
//
//go:norace
func oldNumber(e *tcp.Endpoint) seqnum.Value { return peek.LookReceiver(e).RcvNxt - 1 }

// substitute returns a copy of a segment with another number, other flags, and with or
// without its data; nil if the segment is broken, which is netstack's to count.
//
// netstack limits the rate of its answers to segments without data, and answers each
// that has data. The latter is right for old duplicates, which PAWS finds: their
// sender may need the ACK. Challenges are of the former kind.
func substitute(pkt *stack.PacketBuffer, seq uint32, flags header.TCPFlags, data bool) *stack.PacketBuffer {
	seg := header.TCP(pkt.TransportHeader().Slice())
	ip := pkt.Network()
	_, valid, ok := header.TCPValid(seg, pkt.Data().Checksum, uint16(pkt.Data().Size()), ip.SourceAddress(), ip.DestinationAddress(), pkt.RXChecksumValidated)
	if !ok || !valid {
		return nil
	}
	sub := pkt.DeepCopyForForwarding(0)
	sub.NICID, sub.RXChecksumValidated = pkt.NICID, true
	if !data {
		sub.Data().CapLength(0)
	}
	h := header.TCP(sub.TransportHeader().Slice())
	h.SetSequenceNumber(seq)
	h.SetFlags(uint8(flags))
	return sub
}
