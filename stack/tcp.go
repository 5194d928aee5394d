package stack

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TCPConfig tunes TCP. Zero values take the defaults named beside the fields,
// each with its reason below.
type TCPConfig struct {
	CongestionControl string        // "cubic" or "reno"; default cubic
	SendBufferMax     int           // bytes; default 8 MiB
	ReceiveBufferMax  int           // bytes; default 8 MiB
	SendBuffer        int           // initial bytes; default 1 MiB
	ReceiveBuffer     int           // initial bytes; default 1 MiB
	NoSACK            bool          // turns off selective acknowledgement (RFC 2018)
	NoRACK            bool          // turns off RACK-TLP loss detection (RFC 8985)
	TimeWait          time.Duration // default 60 s
	SynRetries        int           // default 6; netstack keeps it and does not act on it: a SYN is given up after 127 s
	Retries           int           // default 15
	ACKDelay          time.Duration // an ACK waits so long for data to go with (RFC 9293 3.8.6.3), below 0.5 s; default 0: it goes at once
	Processors        int           // goroutines that process segments; default half of GOMAXPROCS, at least 1, at most GOMAXPROCS
}

const (
	// defaultCongestionControl is what Linux, Windows and macOS ship; netstack's
	// own default is reno, which we cannot recommend: in congestion avoidance it
	// takes the remainder of the acknowledgments counted after it has grown the
	// window, so that each further one grows it by a segment, as in slow start
	// (RFC 5681 section 3.1 allows one a round trip).
	defaultCongestionControl = "cubic"

	// maxTCPBuffer bounds both buffers of a connection: 8 MiB carries 1 Gbit/s at
	// 64 ms, or 10 Gbit/s at 6.4 ms; Linux's tcp_rmem[2] is of this order.
	maxTCPBuffer = 8 << 20

	// startTCPBuffer is where automatic tuning starts. It also gives the window
	// scale of a SYN-ACK room to grow.
	startTCPBuffer = 1 << 20

	// minTCPBuffer is netstack's least buffer, and that of Linux's tcp_rmem[0].
	minTCPBuffer = 4 << 10

	// timeWait is Linux's TCP_TIMEWAIT_LEN; RFC 9293 3.4.2 asks for 2 MSL, up to 4 minutes.
	timeWait = 60 * time.Second

	// synRetries is Linux's tcp_syn_retries: gives up after 127 s.
	synRetries = 6

	// dataRetries is Linux's tcp_retries2, about 15 minutes (RFC 9293 3.8.3 asks
	// for at least 100 s).
	dataRetries = 15
)

func (c TCPConfig) withDefaults() TCPConfig {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	if c.CongestionControl == "" {
		c.CongestionControl = defaultCongestionControl
	}
	def(&c.SendBufferMax, maxTCPBuffer)
	def(&c.ReceiveBufferMax, maxTCPBuffer)
	def(&c.SendBuffer, min(startTCPBuffer, c.SendBufferMax))
	def(&c.ReceiveBuffer, min(startTCPBuffer, c.ReceiveBufferMax))
	def(&c.SynRetries, synRetries)
	def(&c.Retries, dataRetries)
	def(&c.Processors, max(1, runtime.GOMAXPROCS(0)/2))
	if c.TimeWait == 0 {
		c.TimeWait = timeWait
	}
	return c
}

// check says what of c there is not.
func (c TCPConfig) check(ns *stack.Stack) error {
	var have tcpip.TCPAvailableCongestionControlOption
	if err := ns.TransportProtocolOption(header.TCPProtocolNumber, &have); err != nil {
		return fmt.Errorf("stack: TCP congestion controls: %s", err)
	}
	names := strings.Fields(string(have))
	if slices.Sort(names); !slices.Contains(names, c.CongestionControl) {
		return fmt.Errorf("stack: TCP.CongestionControl is %q, which there is not: want %s", c.CongestionControl, strings.Join(names, " or "))
	}
	return nil
}

func (c TCPConfig) apply(ns *stack.Stack) tcpip.Error {
	cc := tcpip.CongestionControlOption(c.CongestionControl)
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minTCPBuffer, Default: c.SendBuffer, Max: c.SendBufferMax}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minTCPBuffer, Default: c.ReceiveBuffer, Max: c.ReceiveBufferMax}
	sack := tcpip.TCPSACKEnabled(!c.NoSACK)
	// With RACK a lossy link is several times as fast as without. What netstack then
	// does badly, and no option of it changes, is mended by guards where it would
	// hang (guard_stall.go) or crawl (renewTimestamp). What remains:
	//   - All segments that are queued get one acknowledgment, however many they are
	//     (RFC 9293 section 3.8.6.3 asks for one every second).
	//   - A SYN or SYN-ACK that is sent again has the time stamp of the first, so that
	//     the first round-trip time includes the timeout, and the connection starts with
	//     one of several seconds.
	recovery := tcpip.TCPRACKLossDetection
	if c.NoRACK {
		recovery = 0
	}
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	// Sockets start with Nagle's algorithm (RFC 896), as Linux's do; the net API
	// turns it off for each connection, as Go's net package does.
	delay := tcpip.TCPDelayEnabled(true)
	tw := tcpip.TCPTimeWaitTimeoutOption(c.TimeWait)
	// A new connection may take over a client port in TIME-WAIT whose timestamp
	// is a second old (RFC 6191), as Linux's tcp_tw_reuse=1 does.
	reuse := tcpip.TCPTimeWaitReuseGlobal
	syn := tcpip.TCPSynRetriesOption(c.SynRetries)
	retries := tcpip.TCPMaxRetriesOption(c.Retries)
	for _, o := range []tcpip.SettableTransportProtocolOption{&cc, &snd, &rcv, &sack, &recovery, &moderate, &delay, &tw, &reuse, &syn, &retries} {
		if err := ns.SetTransportProtocolOption(header.TCPProtocolNumber, o); err != nil {
			return err
		}
	}
	return nil
}
