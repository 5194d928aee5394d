package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/catflap/catflap/stack/internal/peek"
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

// Cause implements tcpFollower.
func (f *netstackFollower) Cause(g sent) (c Cause, fired tcpTimer) {
	if g.flags.Contains(header.TCPFlagRst) {
		return "", noTimer
	}
	v := peek.Sender(f.conn.e)
	if v == nil || g.flags.Contains(header.TCPFlagSyn) {
		if g.flags.Contains(header.TCPFlagSyn) && peek.Writing()&peek.ByHandshakeTimer != 0 {
			return CauseSYN, timerRetransmission
		}
		return "", noTimer
	}
	state, known := peek.Congestion(f.conn.e)
	rack := peek.RACK(f.conn.e)
	if !known || rack == nil {
		return "", noTimer
	}
	if !g.seq.LessThan(v.SndNxt) {
		return "", noTimer // new data, or an ACK
	}
	switch w := peek.Writing(); {
	case w&peek.ByZeroWindowProbe != 0:
		return CauseZeroWnd, timerZeroWindow
	case w&peek.ByKeepaliveTimer != 0:
		return CauseKeepalive, timerKeepalive
	case w&peek.ByProbeTimer != 0:
		return CauseTLP, timerProbe
	case w&peek.ByReorderTimer != 0:
		return CauseRACK, timerReorder
	case w&(peek.ByRACK|peek.ByResend) == peek.ByRACK|peek.ByResend:
		return f.detected(v, rack), noTimer
	case w&peek.ByRACK != 0:
		return CauseRACK, noTimer
	case w&(peek.ByResend|peek.BySACK) != 0:
		return CauseFast, noTimer
	case w&peek.ByMTU != 0:
		f.rewound, f.upTo, f.mss = CausePMTU, v.SndNxt, v.MaxPayloadSize
		return CausePMTU, noTimer
	case w&peek.ByRetransmissionTimer != 0:
		f.rewound, f.upTo, f.mss = CauseRTO, v.SndNxt, v.MaxPayloadSize
		return CauseRTO, timerRetransmission
	case g.seq != g.end:
		return f.goneBack(g, v, state), noTimer
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
