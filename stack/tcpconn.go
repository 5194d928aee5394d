package stack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tcpConn is a TCP connection or listener, as the rest of the stack sees it. Who
// implements TCP stands behind it: see netstacktcp.go. Two of the same connection are
// equal.
type tcpConn interface {
	// Endpoint is what the socket layer reads, writes and configures.
	Endpoint() tcpip.Endpoint

	// State takes no lock: the caller may hold any.
	State() tcpState

	// Ends returns the addresses and ports: of a listener the address that it listens
	// on, which may be the unspecified one, and no remote. They are fixed once the
	// connection has left the states before SYN-SENT; before, the caller holds its lock.
	Ends() (local, remote netip.AddrPort)

	// Unsent returns the bytes that the application has written and the peer has not
	// acknowledged: SIOCOUTQ in tcp(7); ok is false if that is not known.
	Unsent() (n int, ok bool)

	// AcceptQueue returns how many connections wait to be accepted from a listener; ok
	// is false if that is not known.
	AcceptQueue() (n int, ok bool)

	// Newer reports whether a SYN with this number begins another connection between the
	// ports of one in TIME-WAIT: it is above all that has come (RFC 1122 4.2.2.13). It takes
	// no lock.
	Newer(seq seqnum.Value) bool

	// Abort ends the connection or its handshake at once, with an RST if it was
	// synchronized. It takes the lock.
	Abort()

	// Info returns TCP_INFO. It takes the lock.
	Info() *TCPInfo

	// Timer returns the timer of those that ss -o shows which is running, nil if none
	// is or that is not known. It takes the lock.
	Timer(now tcpip.MonotonicTime) *Timer

	// Lock keeps the connection as it is until Unlock: it neither processes a segment
	// nor sends one but by who holds the lock. It comes before the hub's.
	Lock()
	Unlock()

	// What follows is for events.

	// Sending returns the segment that pkt, on its way out, is if this connection is
	// sending it, and so is locked by this very goroutine; ok is false of what else
	// carries its addresses.
	Sending(pkt *stack.PacketBuffer) (seg sent, ok bool)

	// Probe has p told after each segment that the connection has processed, with its
	// lock held; nil ends that. The caller holds the lock.
	Probe(p tcpProbe)

	// Follow returns what tells of the connection from here on.
	Follow() tcpFollower
}

// tcpProbe is told what a connection does, in the goroutine that does it.
type tcpProbe interface {
	// received is called after each segment that the connection has processed, with its
	// lock held.
	received(c tcpConn)

	// changed is called when the connection's state may have changed. Whoever calls may
	// hold the connection's lock.
	changed(c tcpConn)
}

// tcpFollower tells what a connection does. The caller holds the connection's lock, but
// for Start and Stop.
type tcpFollower interface {
	// Start has p told of changes of state, until Stop. A changed of p's must not call
	// them, nor take a lock that is held while they are called.
	Start(p tcpProbe)
	Stop()

	// Cause returns why seg, which the connection is sending, is sent again: "" if it
	// is sent for the first time, or it is not known why; and the timer that fired for
	// it, or noTimer.
	Cause(seg sent) (why Cause, fired tcpTimer)

	// Look is called after each segment, in or out. It keeps what Cause needs to know.
	Look()

	// Sample returns how the connection stands, but for who it is; ok is false if that
	// is not known. seg is the segment that it is sending, if any, and counts as sent.
	Sample(seg sent) (s SampleEvent, ok bool)

	// Timers returns the timers as they stand.
	Timers() [tcpTimers]tcpTimerState
}

// tcpTimer is one of a connection's timers.
type tcpTimer int

const (
	timerRetransmission tcpTimer = iota // RFC 6298
	timerProbe                          // tail loss probe: RFC 8985 7
	timerReorder                        // RFC 8985 6.3
	timerZeroWindow                     // RFC 9293 3.8.6.1
	timerKeepalive                      // RFC 9293 3.8.4
	timerTimeWait                       // RFC 9293 3.6.1
	tcpTimers
	noTimer tcpTimer = -1
)

var tcpTimerNames = [tcpTimers]string{"retransmission", "tail-loss probe", "reorder", "zero-window probe", "keepalive", "time-wait"}

// tcpTimerState is a timer as it stands: it runs if At is not zero.
type tcpTimerState struct {
	At      tcpip.MonotonicTime
	Stopped bool // it was stopped, rather than that it fired
}

func (t tcpTimerState) on() bool { return t.At != tcpip.MonotonicTime{} }

// tcpState is a state of RFC 9293 3.3.2. CLOSED is told apart by what came before it,
// as a socket's calls answer by that.
type tcpState uint8

const (
	tcpClosed     tcpState = iota // a connection has been, and ended
	tcpFailed                     // the same, by an error
	tcpNew                        // nothing was asked for yet
	tcpBound                      // no more than bind was
	tcpConnecting                 // a connection was asked for, and no SYN has been sent yet
	tcpListen
	tcpSynSent
	tcpSynReceived
	tcpEstablished
	tcpFinWait1
	tcpFinWait2
	tcpCloseWait
	tcpClosing
	tcpLastAck
	tcpTimeWait
)

var tcpStateNames = [...]string{
	tcpClosed: "CLOSED", tcpFailed: "CLOSED", tcpNew: "CLOSED", tcpBound: "CLOSED", tcpConnecting: "CONNECTING",
	tcpListen: "LISTEN", tcpSynSent: "SYN-SENT", tcpSynReceived: "SYN-RECEIVED", tcpEstablished: "ESTABLISHED",
	tcpFinWait1: "FIN-WAIT-1", tcpFinWait2: "FIN-WAIT-2", tcpCloseWait: "CLOSE-WAIT", tcpClosing: "CLOSING",
	tcpLastAck: "LAST-ACK", tcpTimeWait: "TIME-WAIT",
}

// String is the state's name in RFC 9293; CONNECTING is none of those.
func (st tcpState) String() string { return tcpStateNames[st] }

// unconnected reports whether connect and listen are still possible.
func (st tcpState) unconnected() bool { return st == tcpNew || st == tcpBound }

// pending reports whether a connection is being opened.
func (st tcpState) pending() bool {
	return st == tcpConnecting || st == tcpSynSent || st == tcpSynReceived
}

// ended reports whether a connection has been and is no more.
func (st tcpState) ended() bool { return st == tcpClosed || st == tcpFailed }
