package stack

import (
	"reflect"
	"runtime"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// sent is a TCP segment that is being written, and the connection that writes it.
type sent struct {
	e     *tcp.Endpoint // locked by this goroutine; nil: not known
	flags header.TCPFlags
	seq   seqnum.Value
	end   seqnum.Value // one past the last number that it occupies
}

// txHash is a random number that each endpoint keeps for life and marks its packets with.
var txHash = offsetIn[uint32](reflect.TypeFor[tcp.Endpoint](), "txHash")

// sentBy returns the segment that pkt is if e, which a lookup of its addresses has
// found, is who writes it, and so is locked by this very goroutine: netstack holds an
// endpoint's lock while the endpoint sends, and there is no queue between it and the
// link. Not every TCP segment is an endpoint's own. A RST for a segment that belongs to
// nobody carries no hash, and a SYN cookie carries its listener's, which may meanwhile
// be different from what the lookup finds.
func sentBy(e *tcp.Endpoint, pkt *stack.PacketBuffer) sent {
	h := header.TCP(pkt.TransportHeader().Slice())
	if !txHash.ok || pkt.Hash == 0 || pkt.Hash != *at[uint32](txHash, e) || len(h) < header.TCPMinimumSize {
		return sent{}
	}
	g := sent{e: e, flags: h.Flags(), seq: seqnum.Value(h.SequenceNumber())}
	g.end = g.seq.Add(seqnum.Size(pkt.Data().Size()))
	if g.flags.Intersects(header.TCPFlagSyn | header.TCPFlagFin) {
		g.end++
	}
	return g
}

// writer is a set of netstack's functions.
type writer uint16

// The functions that send a segment again, or call what does.
const (
	byHandshakeTimer writer = 1 << iota
	byRetransmissionTimer
	byProbeTimer
	byReorderTimer
	byKeepaliveTimer
	byZeroWindowProbe
	byMTU
	byResend // of the first segment that is not acknowledged
	byRACK
	bySACK
)

var writers = map[string]writer{
	"(*handshake).retransmitHandlerLocked": byHandshakeTimer,
	"(*sender).retransmitTimerExpired":     byRetransmissionTimer,
	"(*sender).probeTimerExpired":          byProbeTimer,
	"(*rackControl).reorderTimerExpired":   byReorderTimer,
	"(*Endpoint).keepaliveTimerExpired":    byKeepaliveTimer,
	"(*sender).sendZeroWindowProbe":        byZeroWindowProbe,
	"(*sender).updateMaxPayloadSize":       byMTU,
	"(*sender).resendSegment":              byResend,
	"(*rackControl).DoRecovery":            byRACK,
	"(*sackRecovery).handleSACKRecovery":   bySACK,
}

var tcpPackage = reflect.TypeFor[tcp.Endpoint]().PkgPath() + "."

// writing returns which of netstack's functions are at work on the segment that this
// goroutine is writing. Why a segment is sent again is kept in no variable of
// netstack's: it is which function sends it. The goroutine's stack has that; it is
// read only for segments that are not new.
func writing() (w writer) {
	var pcs [64]uintptr // from the link to a timer there are some 25
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for inside := false; ; {
		f, more := frames.Next()
		name, ok := strings.CutPrefix(f.Function, tcpPackage)
		if ok {
			inside = true
			w |= writers[name]
		}
		if !more || inside && !ok {
			return w
		}
	}
}

// More of what netstack shows to nobody: see sender.go.
var (
	congestionState = offsetIn[tcpip.CongestionControlState](senderType, "state")
	rackState       = offsetIn[tcp.TCPRACKState](senderType, "rc", "TCPRACKState")
)

// past is what a cause needs to know of the time before the segment in hand.
type past struct {
	known bool
	last  seqnum.Value // FastRecovery.Last
	una   seqnum.Value
	wnd   seqnum.Size
	dups  int

	// rewound is why all up to number upTo is to be sent again, by and by; mss was
	// the segment size then.
	rewound Cause
	upTo    seqnum.Value
	mss     int
}

// remember brings p up to date. The caller holds the endpoint's lock.
func (p *past) remember(v *tcp.TCPSenderState) {
	p.known, p.last, p.una, p.wnd, p.dups = true, v.FastRecovery.Last, v.SndUna, v.SndWnd, v.DupAckCount
}

// cause returns why g is sent again, or "" if it is sent for the first time or it is
// not known why; and the timer that fired for it, or noTimer. g.e is not nil.
func (p *past) cause(g sent) (c Cause, fired timerID) {
	if g.flags.Contains(header.TCPFlagRst) {
		return "", noTimer
	}
	snd := senderPointer(g.e)
	if snd == nil || g.flags.Contains(header.TCPFlagSyn) {
		if g.flags.Contains(header.TCPFlagSyn) && writing()&byHandshakeTimer != 0 {
			return CauseSYN, timerRetransmission
		}
		return "", noTimer
	}
	if !senderState.ok || !congestionState.ok || !rackState.ok {
		return "", noTimer
	}
	v := (*tcp.TCPSenderState)(senderState.in(snd))
	if !g.seq.LessThan(v.SndNxt) {
		return "", noTimer // new data, or an ACK
	}
	switch w := writing(); {
	case w&byZeroWindowProbe != 0:
		return CauseZeroWnd, timerZeroWindow
	case w&byKeepaliveTimer != 0:
		return CauseKeepalive, timerKeepalive
	case w&byProbeTimer != 0:
		return CauseTLP, timerProbe
	case w&byReorderTimer != 0:
		return CauseRACK, timerReorder
	case w&(byRACK|byResend) == byRACK|byResend:
		return p.detected(v, (*tcp.TCPRACKState)(rackState.in(snd))), noTimer
	case w&byRACK != 0:
		return CauseRACK, noTimer
	case w&(byResend|bySACK) != 0:
		return CauseFast, noTimer
	case w&byMTU != 0:
		p.rewound, p.upTo, p.mss = CausePMTU, v.SndNxt, v.MaxPayloadSize
		return CausePMTU, noTimer
	case w&byRetransmissionTimer != 0:
		p.rewound, p.upTo, p.mss = CauseRTO, v.SndNxt, v.MaxPayloadSize
		return CauseRTO, timerRetransmission
	case g.seq != g.end:
		return p.goneBack(g, v, *(*tcpip.CongestionControlState)(congestionState.in(snd))), noTimer
	}
	return "", noTimer
}

// detected returns how the loss was detected that RACK's recovery begins with. With
// RACK, netstack also counts duplicate ACKs, as long as it has seen no reordering and
// the ACKs are for more than the last recovery was about; that comes first, and makes
// the reordering window 0.
func (p *past) detected(v *tcp.TCPSenderState, rack *tcp.TCPRACKState) Cause {
	switch {
	case rack.Reord || rack.ReoWnd > 0:
		return CauseRACK
	case !p.known:
		return ""
	case p.dups >= 2 && p.una == v.SndUna && p.wnd == v.SndWnd && p.last.LessThan(v.SndUna-1):
		return CauseFast
	}
	return CauseRACK
}

// goneBack returns the cause for a segment that follows an earlier one that is sent
// again: after a timeout or a new path MTU, netstack goes back to some number and sends
// all from there as windows allow.
func (p *past) goneBack(g sent, v *tcp.TCPSenderState, state tcpip.CongestionControlState) Cause {
	known := p.rewound != "" && g.seq.LessThan(p.upTo) && p.mss == v.MaxPayloadSize
	switch {
	case state == tcpip.RTORecovery && !(known && p.rewound == CausePMTU):
		return CauseRTO
	case state != tcpip.RTORecovery && known:
		return p.rewound
	}
	return ""
}
