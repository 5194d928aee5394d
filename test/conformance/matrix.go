package conformance

import (
	"fmt"
	"strings"
)

// The matrix is every kind of segment in every state of a TCP connection: what RFC 9293 section 3.10.7 says must follow.
// Its scripts are written by this file from the RFC's rules, not from what any stack does; "make conformance" renews them.

// state is a state of RFC 9293 section 3.3.2, and how a script reaches it. Numbers are the script's: 0 is each side's
// initial sequence number.
type state struct {
	name   string
	reach  []string
	rcvNxt int // next number expected from the peer
	sndNxt int // next number that the stack sends
	sndUna int // oldest number of the stack that is not acknowledged
}

var (
	passive = []string{
		"+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
		"+0 setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0",
		"+0 bind(3, ..., ...) = 0",
		"+0 listen(3, 1) = 0",
	}
	received    = add(passive, "+0 < S 0:0(0) win 65535 <mss 1000>", "+0 > S. 0:0(0) ack 1 <...>")
	established = add(received, "+.01 < . 1:1(0) ack 1 win 65535", "+0 accept(3, ..., ...) = 4")
	finWait1    = add(established, "+.01 shutdown(4, SHUT_WR) = 0", "+0 > F. 1:1(0) ack 1")
	finWait2    = add(finWait1, "+.01 < . 1:1(0) ack 2 win 65535")
	closeWait   = add(established, "+.01 < F. 1:1(0) ack 1 win 65535", "+0~+.5 > . 1:1(0) ack 2")
	closing     = add(finWait1, "+.01 < F. 1:1(0) ack 1 win 65535", "+0 > . 2:2(0) ack 2")
	lastAck     = add(closeWait, "+.01 close(4) = 0", "+0 > F. 1:1(0) ack 2")
	timeWait    = add(finWait2, "+.01 < F. 1:1(0) ack 2 win 65535", "+0 > . 2:2(0) ack 2")
	synSent     = []string{
		"+0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3",
		"+0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0",
		"+0 connect(3, ..., ...) = -1 EINPROGRESS (Operation now in progress)",
		"+0 > S 0:0(0) <...>",
	}
)

func add(lines []string, more ...string) []string {
	return append(append([]string(nil), lines...), more...)
}

// synchronized are the states from ESTABLISHED on.
var synchronized = []state{
	{"established", established, 1, 1, 1},
	{"fin-wait-1", finWait1, 1, 2, 1},
	{"fin-wait-2", finWait2, 1, 2, 2},
	{"close-wait", closeWait, 2, 1, 1},
	{"closing", closing, 2, 2, 1},
	{"last-ack", lastAck, 2, 2, 1},
	{"time-wait", timeWait, 2, 2, 2},
}

// matrixCase is one cell.
type matrixCase struct {
	state, event string
	section      string // of the RFC
	rfc          int
	level        string
	says         string
	lines        []string
	// noisy: more may follow, so the script does not ask for silence at its end.
	noisy bool
}

// beyond is farther ahead than any window without scaling reaches, and than what a stack may hold in reserve behind it.
const beyond = 1 << 20

// matrix returns all cells.
func matrix() []matrixCase {
	var cases []matrixCase
	for _, s := range synchronized {
		cases = append(cases, s.cases()...)
	}
	cases = append(cases, closedCases()...)
	cases = append(cases, listenCases()...)
	cases = append(cases, synSentCases()...)
	return append(cases, synReceivedCases()...)
}

// cases are the events in a synchronized state, RFC 9293 section 3.10.7.4.
func (s state) cases() []matrixCase {
	r, una := s.rcvNxt, s.sndUna
	seg := func(flags string, seq, n, ack int, more string) string {
		text := fmt.Sprintf("+.01 < %s %d:%d(%d)", flags, seq, seq+n, n)
		if strings.Contains(flags, ".") {
			text += fmt.Sprintf(" ack %d", uint32(ack)) // before number 0 come the largest
		}
		return text + " win 65535" + more
	}
	ackOf := func(n int) string { return fmt.Sprintf("+0 > . %d:%d(0) ack %d", s.sndNxt, s.sndNxt, n) }
	ack := ackOf(r)
	// An old segment must be acknowledged, which shows that the connection is still there and what it expects next. Not
	// after another acknowledgment of the kind, for stacks limit their rate (RFC 5961 section 7).
	alive := []string{
		strings.Replace(seg(".", r-1, 0, una, ""), "+.01", "+.05", 1),
		ack,
	}
	gone := []string{
		strings.Replace(seg(".", r, 0, s.sndNxt, ""), "+.01", "+.05", 1),
		fmt.Sprintf("+0 > R %d:%d(0)", s.sndNxt, s.sndNxt),
	}
	var cases []matrixCase
	on := func(event string, rfc int, section, level, says string, lines ...string) {
		cases = append(cases, matrixCase{state: s.name, event: event, section: section, rfc: rfc, level: level, says: says, lines: add(s.reach, lines...)})
	}
	reads := s.name == "established" || s.name == "fin-wait-1" || s.name == "fin-wait-2"
	tw := s.name == "time-wait"

	// First, check sequence number.
	on("old-data", 9293, "3.10.7.4", "MUST", "Data from before the window is acknowledged and dropped.",
		seg(".", r-1, 1, una, ""), ack)
	on("future-data", 9293, "3.10.7.4", "MUST", "Data beyond the window is acknowledged and dropped.",
		seg(".", r+beyond, 100, una, ""), ack)
	on("old-syn", 9293, "3.10.7.4", "MUST", "The connection's own SYN, come again, is acknowledged and dropped.",
		"+.01 < S 0:0(0) win 65535 <mss 1000>", ack)
	on("rst-outside", 5961, "3.2", "MUST", "A reset outside the window is dropped without an answer.",
		append([]string{seg("R", r+beyond, 0, 0, "")}, alive...)...)
	if !tw {
		// Second, check the RST bit.
		on("rst-exact", 9293, "3.10.7.4", "MUST", "A reset at RCV.NXT ends the connection.",
			append([]string{seg("R", r, 0, 0, "")}, gone...)...)
		on("rst-in-window", 5961, "3.2", "MUST", "A reset in the window, but not at RCV.NXT, is answered by a challenge ACK.",
			seg("R", r+10, 0, 0, ""), ack)
		// Fourth, check the SYN bit.
		on("syn-in-window", 5961, "4.2", "MUST", "A SYN in the window is answered by a challenge ACK.",
			fmt.Sprintf("+.01 < S %d:%d(0) win 65535 <mss 1000>", r+10, r+10), ack)
		on("syn-ack-in-window", 5961, "4.2", "MUST", "A SYN-ACK in the window is answered by a challenge ACK.",
			fmt.Sprintf("+.01 < S. %d:%d(0) ack %d win 65535 <mss 1000>", r+10, r+10, una), ack)
		// Fifth, check the ACK field.
		on("ack-above-snd-nxt", 9293, "3.10.7.4", "MUST", "An acknowledgment of what was never sent is answered by an ACK and dropped.",
			seg(".", r, 0, s.sndNxt+1000, ""), ack)
		on("data-ack-above-snd-nxt", 9293, "3.10.7.4", "MUST", "Data with an acknowledgment of what was never sent is dropped, and answered by an ACK.",
			seg(".", r, 100, s.sndNxt+1000, ""), ack)
		on("fin-ack-above-snd-nxt", 9293, "3.10.7.4", "MUST", "A FIN with an acknowledgment of what was never sent is dropped, and answered by an ACK.",
			seg("F.", r, 0, s.sndNxt+1000, ""), ack)
		on("data-ack-too-old", 5961, "5.2", "MUST", "Data with an acknowledgment older than the largest window is dropped, and answered by an ACK.",
			seg(".", r, 100, una-beyond, ""), ack)
		on("fin-ack-too-old", 5961, "5.2", "MUST", "A FIN with an acknowledgment older than the largest window is dropped, and answered by an ACK.",
			seg("F.", r, 0, una-beyond, ""), ack)
	}
	on("no-flags", 9293, "3.10.7.4", "MUST", "A segment without ACK is dropped.",
		append([]string{seg("-", r, 0, 0, "")}, alive...)...)
	on("data-no-flags", 9293, "3.10.7.4", "MUST", "Data without ACK is dropped.",
		append([]string{seg("-", r, 100, 0, "")}, alive...)...)
	on("fin-no-ack", 9293, "3.10.7.4", "MUST", "A FIN without ACK is dropped.",
		append([]string{seg("F", r, 0, 0, "")}, alive...)...)
	on("zero-window", 9293, "3.10.7.4", "MUST", "An acknowledgment that closes the window is not answered.",
		append([]string{fmt.Sprintf("+.01 < . %d:%d(0) ack %d win 0", r, r, una)}, alive...)...)
	on("bad-checksum", 9293, "3.1", "MUST", "A segment with a wrong checksum is dropped.",
		append([]string{strings.Replace(seg(".", r, 100, una, ""), "< ", "< [badsum] ", 1)}, alive...)...)
	if reads {
		// Seventh, the segment text; eighth, the FIN bit.
		on("data", 9293, "3.10.7.4", "MUST", "Data in order is acknowledged within half a second.",
			seg("P.", r, 100, una, ""), soon(ackOf(r+100)))
		on("data-gap", 9293, "3.10.7.4", "SHOULD", "Data beyond a gap is acknowledged at once with what was expected.",
			seg("P.", r+100, 100, una, ""), ack)
		on("data-overlap", 9293, "3.10.7.4", "MUST", "Data that begins before the window is taken from the window's left edge on.",
			seg("P.", r-1, 101, una, ""), soon(ackOf(r+100)))
		on("fin", 9293, "3.10.7.4", "MUST", "A FIN is acknowledged.",
			seg("F.", r, 0, una, ""), soon(ackOf(r+1)))
		on("data-fin", 9293, "3.10.7.4", "MUST", "Data with a FIN is acknowledged, and the FIN too.",
			seg("FP.", r, 100, una, ""), soon(ackOf(r+101)))
		on("fin-gap", 9293, "3.10.7.4", "SHOULD", "A FIN beyond a gap is kept, and taken when the gap is filled.",
			seg("F.", r+100, 0, una, ""), ack, seg(".", r, 100, una, ""), soon(ackOf(r+101)))
	} else {
		on("fin-again", 9293, "3.10.7.4", "MUST", "A FIN that comes again is acknowledged again.",
			seg("F.", r-1, 0, una, ""), ack)
	}
	return cases
}

// soon lets an acknowledgment be delayed (RFC 9293 section 3.8.6.3: by less than half a second).
func soon(line string) string { return strings.Replace(line, "+0 ", "+0~+.5 ", 1) }

// closedCases are the events where there is no socket, RFC 9293 section 3.10.7.1.
func closedCases() []matrixCase {
	var cases []matrixCase
	on := func(event, says string, lines ...string) {
		cases = append(cases, matrixCase{state: "closed", event: event, section: "3.10.7.1", rfc: 9293, level: "MUST", says: says, lines: lines})
	}
	on("syn", "A SYN to a closed port is reset, and acknowledged.", "0 < S 0:0(0) win 65535 <mss 1000>", "+0 > R. 0:0(0) ack 1")
	on("data-no-ack", "Data without ACK to a closed port is reset, and acknowledged.", "0 < P 0:100(100) win 65535", "+0 > R. 0:0(0) ack 100")
	on("fin-no-ack", "A FIN without ACK to a closed port is reset, and acknowledged.", "0 < F 0:0(0) win 65535", "+0 > R. 0:0(0) ack 1")
	on("no-flags", "A segment without flags to a closed port is reset, and acknowledged.", "0 < - 0:0(0) win 65535", "+0 > R. 0:0(0) ack 0")
	on("ack", "An ACK to a closed port is reset with its own number.", "0 < . 1:1(0) ack 77 win 65535", "+0 > R 77:77(0)")
	on("data", "Data to a closed port is reset with its acknowledgment number.", "0 < P. 1:101(100) ack 77 win 65535", "+0 > R 77:77(0)")
	on("fin", "A FIN to a closed port is reset with its acknowledgment number.", "0 < F. 1:1(0) ack 77 win 65535", "+0 > R 77:77(0)")
	on("syn-ack", "A SYN-ACK to a closed port is reset with its acknowledgment number.", "0 < S. 0:0(0) ack 77 win 65535 <mss 1000>", "+0 > R 77:77(0)")
	on("rst", "A reset to a closed port is not answered.", "0 < R 0:0(0) win 0", "+.1 < . 1:1(0) ack 78 win 65535", "+0 > R 78:78(0)")
	on("rst-ack", "A reset with ACK to a closed port is not answered.", "0 < R. 0:0(0) ack 77 win 0", "+.1 < . 1:1(0) ack 78 win 65535", "+0 > R 78:78(0)")
	return cases
}

// listenCases are the events of a listener, RFC 9293 section 3.10.7.2.
func listenCases() []matrixCase {
	var cases []matrixCase
	on := func(event, level, says string, lines ...string) {
		cases = append(cases, matrixCase{state: "listen", event: event, section: "3.10.7.2", rfc: 9293, level: level, says: says, lines: add(passive, lines...)})
	}
	// A SYN that is answered shows that the listener is still there, and that nothing came before.
	alive := []string{"+.1 < S 0:0(0) win 65535 <mss 1000>", "+0 > S. 0:0(0) ack 1 <...>"}
	with := func(line string) []string { return append([]string{line}, alive...) }
	on("syn", "MUST", "A SYN to a listener is answered by a SYN-ACK.", alive...)
	on("rst", "MUST", "A reset to a listener is ignored.", with("+0 < 32000 > 8080 R 0:0(0) win 0")...)
	on("rst-ack", "MUST", "A reset with ACK to a listener is ignored.", with("+0 < 32000 > 8080 R. 0:0(0) ack 1 win 0")...)
	on("ack", "MUST", "An ACK to a listener is reset.", "+0 < . 1:1(0) ack 77 win 65535", "+0 > R 77:77(0)")
	on("data", "MUST", "Data with ACK to a listener is reset.", "+0 < P. 1:101(100) ack 77 win 65535", "+0 > R 77:77(0)")
	on("fin", "MUST", "A FIN with ACK to a listener is reset.", "+0 < F. 1:1(0) ack 77 win 65535", "+0 > R 77:77(0)")
	on("syn-ack", "MUST", "A SYN-ACK to a listener is reset.", "+0 < S. 0:0(0) ack 77 win 65535 <mss 1000>", "+0 > R 77:77(0)")
	on("no-flags", "MUST", "A segment without flags to a listener is dropped.", with("+0 < 32000 > 8080 - 0:0(0) win 65535")...)
	on("data-no-ack", "MUST", "Data without ACK to a listener is dropped.", with("+0 < 32000 > 8080 P 0:100(100) win 65535")...)
	on("fin-no-ack", "MUST", "A FIN without ACK to a listener is dropped.", with("+0 < 32000 > 8080 F 0:0(0) win 65535")...)
	on("bad-checksum", "MUST", "A SYN with a wrong checksum is dropped.", with("+0 < [badsum] 32000 > 8080 S 0:0(0) win 65535 <mss 1000>")...)
	return cases
}

// synSentCases are the events after an active open, RFC 9293 section 3.10.7.3.
func synSentCases() []matrixCase {
	var cases []matrixCase
	on := func(event, says string, lines ...string) {
		c := matrixCase{state: "syn-sent", event: event, section: "3.10.7.3", rfc: 9293, level: "MUST", says: says, lines: add(synSent, lines...)}
		// A stack may send its SYN again at once after it has reset what stood in its way.
		c.noisy = strings.HasSuffix(event, "-above-snd-nxt") || strings.HasSuffix(event, "-of-nothing")
		cases = append(cases, c)
	}
	// A handshake that completes shows that the connection still waits for it.
	alive := []string{"+.1 < S. 0:0(0) ack 1 win 65535 <mss 1000>", "+0 > . 1:1(0) ack 1"}
	with := func(line string) []string { return append([]string{line}, alive...) }
	on("syn-ack", "A SYN-ACK is acknowledged.", alive...)
	on("syn", "A SYN without ACK, a simultaneous open, is answered by a SYN-ACK.", "+.01 < S 0:0(0) win 65535 <mss 1000>", "+0 > S. 0:0(0) ack 1 <...>")
	on("ack-above-snd-nxt", "An acknowledgment of what was never sent is reset.", "+.01 < . 1:1(0) ack 1001 win 65535", "+0 > R 1001:1001(0)")
	on("ack-of-nothing", "An acknowledgment of less than the SYN is reset.", "+.01 < . 1:1(0) ack 0 win 65535", "+0 > R 0:0(0)")
	on("syn-ack-above-snd-nxt", "A SYN-ACK of what was never sent is reset.", "+.01 < S. 0:0(0) ack 1001 win 65535 <mss 1000>", "+0 > R 1001:1001(0)")
	on("syn-ack-of-nothing", "A SYN-ACK of less than the SYN is reset.", "+.01 < S. 0:0(0) ack 0 win 65535 <mss 1000>", "+0 > R 0:0(0)")
	on("rst-ack", "A reset that acknowledges the SYN ends the attempt.", "+.01 < R. 0:0(0) ack 1 win 0",
		"+0 getsockopt(3, SOL_SOCKET, SO_ERROR, [111], [4]) = 0", "+.1 < . 1:1(0) ack 1 win 65535", "+0 > R 1:1(0)")
	on("rst", "A reset without ACK is dropped.", with("+.01 < R 0:0(0) win 0")...)
	on("rst-ack-above-snd-nxt", "A reset that acknowledges what was never sent is dropped.", with("+.01 < R. 0:0(0) ack 1001 win 0")...)
	on("ack", "An ACK of the SYN without a SYN is dropped.", with("+.01 < . 1:1(0) ack 1 win 65535")...)
	on("data", "Data without a SYN is dropped.", with("+.01 < P. 1:101(100) ack 1 win 65535")...)
	on("fin", "A FIN without a SYN is dropped.", with("+.01 < F. 1:1(0) ack 1 win 65535")...)
	on("no-flags", "A segment without flags is dropped.", with("+.01 < - 0:0(0) win 65535")...)
	on("bad-checksum", "A SYN-ACK with a wrong checksum is dropped.", with("+.01 < [badsum] S. 0:0(0) ack 1 win 65535 <mss 1000>")...)
	return cases
}

// synReceivedCases are the events after a SYN to a listener, RFC 9293 section 3.10.7.4.
func synReceivedCases() []matrixCase {
	var cases []matrixCase
	on := func(event string, rfc int, section, says string, lines ...string) {
		cases = append(cases, matrixCase{state: "syn-received", event: event, section: section, rfc: rfc, level: "MUST", says: says, lines: add(received, lines...)})
	}
	alive := []string{"+.1 < . 1:1(0) ack 1 win 65535", "+0 accept(3, ..., ...) = 4", "+.01 < P. 1:101(100) ack 1 win 65535", "+0~+.5 > . 1:1(0) ack 101"}
	with := func(lines ...string) []string { return append(lines, alive...) }
	on("ack", 9293, "3.10.7.4", "An ACK of the SYN-ACK establishes the connection.", with()...)
	on("data", 9293, "3.10.7.4", "Data that acknowledges the SYN-ACK is taken.", "+.01 < P. 1:101(100) ack 1 win 65535", "+0~+.5 > . 1:1(0) ack 101", "+0 accept(3, ..., ...) = 4", "+0 read(4, ..., 1000) = 100")
	on("fin", 9293, "3.10.7.4", "A FIN that acknowledges the SYN-ACK is acknowledged.", "+.01 < F. 1:1(0) ack 1 win 65535", "+0 > . 1:1(0) ack 2")
	on("ack-above-snd-nxt", 9293, "3.10.7.4", "An acknowledgment of what was never sent is reset.", "+.01 < . 1:1(0) ack 1001 win 65535", "+0 > R 1001:1001(0)")
	on("ack-of-nothing", 9293, "3.10.7.4", "An acknowledgment of less than the SYN-ACK is reset.", "+.01 < . 1:1(0) ack 0 win 65535", "+0 > R 0:0(0)")
	on("rst-exact", 9293, "3.10.7.4", "A reset at RCV.NXT ends the attempt.", "+.01 < R 1:1(0) win 0", "+.1 < . 1:1(0) ack 1 win 65535", "+0 > R 1:1(0)")
	on("rst-in-window", 5961, "3.2", "A reset in the window, but not at RCV.NXT, is answered by a challenge ACK.", with("+.01 < R 11:11(0) win 0", "+0 > . 1:1(0) ack 1")...)
	on("rst-outside", 5961, "3.2", "A reset outside the window is dropped without an answer.", with("+.01 < R 1048577:1048577(0) win 0")...)
	on("old-syn", 9293, "3.10.7.4", "The SYN, come again, is acknowledged and dropped.", "+.01 < S 0:0(0) win 65535 <mss 1000>", "+0 > . 1:1(0) ack 1")
	on("future-data", 9293, "3.10.7.4", "Data beyond the window is acknowledged and dropped.", with("+.01 < P. 1048577:1048677(100) ack 1 win 65535", "+0 > . 1:1(0) ack 1")...)
	on("no-flags", 9293, "3.10.7.4", "A segment without ACK is dropped.", with("+.01 < - 1:1(0) win 65535")...)
	on("data-no-flags", 9293, "3.10.7.4", "Data without ACK is dropped.", with("+.01 < - 1:101(100) win 65535")...)
	on("bad-checksum", 9293, "3.1", "An ACK with a wrong checksum is dropped.", with("+.01 < [badsum] . 1:1(0) ack 1 win 65535")...)
	return cases
}

// quiet is how long, in seconds, nothing more may follow a cell's last event: less than the least retransmission timeout
// of any stack tested here, 200 ms.
const quiet = ".05"

// script writes a cell as a script.
func (c matrixCase) script(ipVersion string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "// RFC %d section %s: %s\n// %s: %s\n", c.rfc, c.section, c.level, strings.ToUpper(c.state), c.says)
	if reason := knownFailures[c.state+"/"+c.event]; reason != "" {
		fmt.Fprintf(&s, "// expected-fail: %s\n", reason)
	}
	fmt.Fprintf(&s, "--tolerance_percent=0\n--ip_version=%s\n", ipVersion)
	if !c.noisy {
		fmt.Fprintf(&s, "--quiet_end=%s\n", quiet)
	}
	s.WriteString("\n")
	for _, line := range c.lines {
		s.WriteString(line + "\n")
	}
	return s.String()
}

// files are the matrix's scripts by path.
func files() map[string]string {
	out := map[string]string{}
	for _, v := range []string{"ipv4", "ipv6"} {
		for _, c := range matrix() {
			out[fmt.Sprintf("matrix/%s/%s/%s.pkt", v, c.state, c.event)] = c.script(v)
		}
	}
	return out
}
