package event

// Cause is why a TCP segment is sent again, or sent without new data.
type Cause string

// Causes.
const (
	CauseRTO       Cause = "RTO"               // the retransmission timer fired (RFC 6298 5.4)
	CauseSYN       Cause = "SYN"               // the same, of a SYN or SYN-ACK
	CauseFast      Cause = "fast"              // duplicate ACKs (RFC 5681 3.2, RFC 6582, RFC 6675)
	CauseRACK      Cause = "RACK"              // a segment sent later has arrived (RFC 8985 6.2)
	CauseTLP       Cause = "tail-loss probe"   // nothing came for two round trips (RFC 8985 7)
	CauseZeroWnd   Cause = "zero-window probe" // (RFC 9293 3.8.6.1)
	CauseKeepalive Cause = "keepalive"         // (RFC 9293 3.8.4)
	CausePMTU      Cause = "path MTU"          // an ICMP error has made the segment too big (RFC 1191)
)

var causeTexts = map[Cause]string{
	CauseRTO:       "retransmission: RTO: the retransmission timer fired",
	CauseSYN:       "retransmission: SYN: the retransmission timer fired before there was an answer",
	CauseFast:      "retransmission: fast: three duplicate ACKs",
	CauseRACK:      "retransmission: RACK: a segment sent later has arrived",
	CauseTLP:       "retransmission: tail-loss probe: nothing came for two round trips",
	CauseZeroWnd:   "zero-window probe: asks for the window again",
	CauseKeepalive: "keepalive: asks whether the peer is still there",
	CausePMTU:      "retransmission: path MTU: an ICMP error says that the segment was too big",
}

// Explain says in words what happened.
func (c Cause) Explain() string { return causeTexts[c] }
