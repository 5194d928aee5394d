package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/catflap/catflap/stack/internal/clock"
	"github.com/catflap/catflap/stack/internal/mend"
	"github.com/catflap/catflap/stack/internal/peek"
)

// Here, in netstackcause.go and in what they call of peek and mend is all that knows
// that TCP is netstack's. To the rest of the stack it is tcpConn.

// queuer is what netstack's demultiplexer calls with the endpoint it chose.
type queuer interface {
	QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer)
}

// tcpProtocol is netstack's TCP with our place between the demultiplexer and the
// endpoint: here the socket of a packet is known, and steering may change it.
type tcpProtocol struct {
	stack.TransportProtocol
	stack.SendBufSizeProto // netstack asks its TCP for it
	queue                  queuer
	s                      *Stack
	pause                  sync.Mutex // one quiesce at a time

	muting sync.Mutex // one EndTimeWait at a time
	muted  atomic.Pointer[tcp.Endpoint]
}

func (s *Stack) newTCP(processors int) stack.TransportProtocolFactory {
	return func(ns *stack.Stack) stack.TransportProtocol {
		p := tcp.NewProtocol(ns)
		if err := peek.LimitProcessors(p, processors); err != nil {
			s.log.Warn("TCP runs on as many processors as GOMAXPROCS", "want", processors, "error", err)
		}
		s.tcp = &tcpProtocol{TransportProtocol: p, SendBufSizeProto: p.(stack.SendBufSizeProto), queue: p.(queuer), s: s}
		return s.tcp
	}
}

// QueuePacket is called by netstack's demultiplexer with its choice, ep.
func (p *tcpProtocol) QueuePacket(ep stack.TransportEndpoint, id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	in := pkt
	if e, ok := ep.(*tcp.Endpoint); ok && p.s.guards != nil {
		if sub := p.s.guard(e, pkt); sub != nil {
			defer sub.DecRef()
			in = sub
		}
	}
	if p.s.forwarders.Load() != nil {
		p.s.reset(id, pkt)
	}
	if p.s.steer.Load() != nil || p.s.events.on(segmentEvents) || p.s.mayReopen(ep) {
		switch c := p.s.chooseTCP(ep, id, pkt); {
		case c.ep != nil:
			ep = c.ep
		case c.forwarder != nil && c.forwarder.segment(id, pkt):
			return
		}
	}
	p.queue.QueuePacket(ep, id, in)
}

// guard asks the guards about a segment for a connection. If it is to be dropped, guard
// counts it, and returns what netstack is to be given in its place, to be released by
// the caller; if not, nil.
func (s *Stack) guard(e *tcp.Endpoint, pkt *stack.PacketBuffer) *stack.PacketBuffer {
	sub, reason := s.guards.Segment(e, pkt)
	switch reason {
	case "":
		return sub
	case mend.DropPAWS:
		s.drops.paws.Add(1)
	case mend.DropAckTooOld:
		s.drops.ackTooOld.Add(1)
	case mend.DropAckUnsent:
		s.drops.ackUnsent.Add(1)
	}
	if t, ok := pkt.Owner.(*tag); ok { // someone follows
		s.events.mu.Lock()
		t.ev.Drop = reason
		s.events.mu.Unlock()
	}
	return sub
}

// HandleUnknownDestinationPacket is called when no endpoint matches: steering
// may still name a listener, or a forwarder take a SYN, else netstack answers with RST.
func (p *tcpProtocol) HandleUnknownDestinationPacket(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	if p.s.chooses(segmentEvents) {
		c := p.s.chooseTCP(nil, id, pkt)
		if c.ep != nil {
			p.queue.QueuePacket(c.ep, id, pkt)
			return stack.UnknownDestinationPacketHandled
		}
		if c.forwarder != nil && c.forwarder.segment(id, pkt) {
			return stack.UnknownDestinationPacketHandled
		}
	}
	return p.refuse(id, pkt)
}

// refuse answers a segment that nobody takes: with an RST, unless it is one.
func (p *tcpProtocol) refuse(id stack.TransportEndpointID, pkt *stack.PacketBuffer) stack.UnknownDestinationPacketDisposition {
	return p.TransportProtocol.HandleUnknownDestinationPacket(id, pkt)
}

// quiesce waits until each TCP processor has emptied its queue.
func (p *tcpProtocol) quiesce() {
	p.pause.Lock()
	defer p.pause.Unlock()
	p.Pause()
	p.Resume()
}

// netstackConn is netstack's tcpConn.
type netstackConn struct{ e *tcp.Endpoint }

// tcpOf returns the TCP connection or listener that ep, an endpoint of netstack's, is;
// nil if it is none.
func tcpOf(ep any) tcpConn {
	if e, ok := ep.(*tcp.Endpoint); ok {
		return netstackConn{e}
	}
	return nil
}

// tcpConns returns all connections and listeners.
func (s *Stack) tcpConns() (conns []tcpConn) {
	for _, eps := range [][]stack.TransportEndpoint{s.ns.RegisteredEndpoints(), s.ns.CleanupEndpoints()} {
		for _, ep := range eps {
			if c := tcpOf(ep); c != nil {
				conns = append(conns, c)
			}
		}
	}
	return conns
}

// Endpoint implements tcpConn.
func (c netstackConn) Endpoint() tcpip.Endpoint { return c.e }

// netstackStates are netstack's states.
var netstackStates = [...]tcpState{
	tcp.StateEstablished: tcpEstablished, tcp.StateSynSent: tcpSynSent, tcp.StateSynRecv: tcpSynReceived,
	tcp.StateFinWait1: tcpFinWait1, tcp.StateFinWait2: tcpFinWait2, tcp.StateTimeWait: tcpTimeWait,
	tcp.StateClose: tcpClosed, tcp.StateCloseWait: tcpCloseWait, tcp.StateLastAck: tcpLastAck,
	tcp.StateListen: tcpListen, tcp.StateClosing: tcpClosing, tcp.StateInitial: tcpNew, tcp.StateBound: tcpBound,
	tcp.StateConnecting: tcpConnecting, tcp.StateError: tcpFailed,
}

// State implements tcpConn.
func (c netstackConn) State() tcpState {
	if st := int(c.e.EndpointState()); st < len(netstackStates) {
		return netstackStates[st]
	}
	return tcpClosed
}

// Ends implements tcpConn.
func (c netstackConn) Ends() (local, remote netip.AddrPort) {
	id, f := &c.e.TransportEndpointInfo.ID, IPv6
	if c.e.NetProto == ipv4.ProtocolNumber {
		f = IPv4
	}
	local = netip.AddrPortFrom(fromTCPIPOr(id.LocalAddress, f), id.LocalPort)
	if id.RemoteAddress.Len() != 0 {
		remote = netip.AddrPortFrom(fromTCPIP(id.RemoteAddress), id.RemotePort)
	}
	return local, remote
}

// Unsent implements tcpConn.
func (c netstackConn) Unsent() (n int, ok bool) { return peek.Unsent(c.e) }

// AcceptQueue implements tcpConn.
func (c netstackConn) AcceptQueue() (n int, ok bool) { return peek.AcceptQueue(c.e) }

// Newer implements tcpConn.
func (c netstackConn) Newer(seq seqnum.Value) bool {
	return peek.CanLook() && peek.LookReceiver(c.e).RcvNxt.LessThan(seq)
}

// Abort implements tcpConn.
func (c netstackConn) Abort() { c.e.Abort() }

// endTimeWait ends a connection in TIME-WAIT in silence. netstack would send an RST with
// its numbers: the link keeps that back.
func (p *tcpProtocol) endTimeWait(c tcpConn) {
	e := c.(netstackConn).e
	p.muting.Lock()
	defer p.muting.Unlock()
	p.muted.Store(e)
	defer p.muted.Store(nil)
	e.Abort()
}

// mutes reports whether a packet on its way out is what endTimeWait keeps back.
func (p *tcpProtocol) mutes(pkt *stack.PacketBuffer) bool {
	e := p.muted.Load()
	if e == nil || pkt.TransportProtocolNumber != tcp.ProtocolNumber {
		return false
	}
	seg, ip, id := header.TCP(pkt.TransportHeader().Slice()), pkt.Network(), &e.TransportEndpointInfo.ID
	return len(seg) >= header.TCPMinimumSize && seg.Flags()&header.TCPFlagRst != 0 &&
		seg.SourcePort() == id.LocalPort && seg.DestinationPort() == id.RemotePort &&
		ip.SourceAddress() == id.LocalAddress && ip.DestinationAddress() == id.RemoteAddress
}

// Lock implements tcpConn.
func (c netstackConn) Lock() { c.e.LockUser() }

// Unlock implements tcpConn.
func (c netstackConn) Unlock() { c.e.UnlockUser() }

// infiniteSsthresh is how netstack says that slow start has no threshold yet.
const infiniteSsthresh = 1 << 30

// Info implements tcpConn.
func (c netstackConn) Info() *TCPInfo {
	i := &TCPInfo{State: c.State().String()}
	var o tcpip.TCPInfoOption
	if c.e.GetSockOpt(&o) == nil {
		i.RTT, i.RTTVar, i.RTO = o.RTT, o.RTTVar, o.RTO
		i.SndCwnd, i.ReorderSeen = o.SndCwnd, o.ReorderSeen
		if o.SndSsthresh < infiniteSsthresh {
			i.SndSsthresh = o.SndSsthresh
		}
		i.CAState = caStateName(o.CcState)
	}
	var cc tcpip.CongestionControlOption
	if c.e.GetSockOpt(&cc) == nil {
		i.Congestion = string(cc)
	}
	c.Lock()
	if v := peek.Sender(c.e); v != nil {
		i.SndMSS, i.SndWnd, i.Unacked, i.Sacked = v.MaxPayloadSize, int(v.SndWnd), v.Outstanding, v.SackedOut
	}
	c.Unlock()
	if st, ok := c.e.Stats().(*tcp.Stats); ok {
		i.SegsIn, i.SegsOut = st.SegmentsReceived.Value(), st.SegmentsSent.Value()
		i.Retransmits = st.SendErrors.Retransmits.Value()
		i.FastRetrans = st.SendErrors.FastRetransmit.Value()
		i.Timeouts = st.SendErrors.Timeouts.Value()
	}
	return i
}

func caStateName(s tcpip.CongestionControlState) string {
	switch s {
	case tcpip.RTORecovery:
		return "Loss"
	case tcpip.FastRecovery:
		return "FastRecovery"
	case tcpip.SACKRecovery:
		return "SACKRecovery"
	case tcpip.Disorder:
		return "Disorder"
	}
	return "Open"
}

// Timer implements tcpConn.
func (c netstackConn) Timer(now tcpip.MonotonicTime) *Timer {
	c.Lock()
	defer c.Unlock()
	if c.State() == tcpTimeWait {
		if t := netstackTimer(peek.TimeWaitTimer(c.e)); t.on() {
			return &Timer{Name: "timewait", Expires: max(0, t.At.Sub(now))}
		}
		return nil
	}
	t := peek.ReadTimers(c.e)
	switch resend, keep := tcpTimerState(t.Resend), tcpTimerState(t.Keepalive); {
	case resend.on():
		return &Timer{Name: "on", Expires: max(0, resend.At.Sub(now))}
	case keep.on() && t.KeepaliveUnacked >= 0 && c.e.SocketOptions().GetKeepAlive():
		return &Timer{Name: "keepalive", Expires: max(0, keep.At.Sub(now)), Retrans: t.KeepaliveUnacked}
	}
	return nil
}

// netstackTimer reads a timer that netstack has from the stack's clock.
func netstackTimer(t tcpip.Timer) tcpTimerState {
	if t, ok := t.(clock.Timer); ok {
		return tcpTimerState{At: t.At()}
	}
	return tcpTimerState{}
}

// Sending implements tcpConn. netstack holds an endpoint's lock while the endpoint
// sends, and there is no queue between it and the link. Not every TCP segment is an
// endpoint's own. A RST for a segment that belongs to nobody carries no hash, and a SYN
// cookie carries its listener's, which may meanwhile be different from what a lookup of
// its addresses finds.
func (c netstackConn) Sending(pkt *stack.PacketBuffer) (seg sent, ok bool) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if pkt.Hash == 0 || pkt.Hash != peek.TxHash(c.e) || len(h) < header.TCPMinimumSize {
		return seg, false
	}
	seg = sent{conn: c, flags: h.Flags(), seq: seqnum.Value(h.SequenceNumber())}
	seg.end = seg.seq.Add(seqnum.Size(pkt.Data().Size()))
	if seg.flags.Intersects(header.TCPFlagSyn | header.TCPFlagFin) {
		seg.end++
	}
	return seg, true
}

// Probe implements tcpConn.
func (c netstackConn) Probe(p tcpProbe) {
	switch at := peek.Probe(c.e); {
	case at == nil:
	case p == nil:
		*at = nil
	case *at == nil:
		*at = func(*tcp.TCPEndpointState) { p.received(c) }
	}
}

// Follow implements tcpConn.
func (c netstackConn) Follow() tcpFollower { return &netstackFollower{conn: c} }

// netstackFollower is netstack's tcpFollower.
type netstackFollower struct {
	conn netstackConn
	past

	mu      sync.Mutex // comes before the lock of the endpoint's waiter.Queue
	probe   tcpProbe   // nil: not started, or stopped
	stopped bool
	entry   waiter.Entry
}

// Start implements tcpFollower. netstack notifies those who wait for an endpoint after
// each change of its state but those that a segment brings to a connected one, which the
// probe sees.
func (f *netstackFollower) Start(p tcpProbe) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := peek.WaiterQueue(f.conn.e)
	if q == nil || f.stopped || f.probe != nil {
		return
	}
	f.probe = p
	f.entry.Init(f, waiter.AllEvents)
	q.EventRegister(&f.entry)
}

// NotifyEvent implements waiter.EventListener.
func (f *netstackFollower) NotifyEvent(waiter.EventMask) { f.probe.changed(f.conn) }

// Stop implements tcpFollower.
func (f *netstackFollower) Stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	if f.probe != nil {
		peek.WaiterQueue(f.conn.e).EventUnregister(&f.entry)
	}
}

// Look implements tcpFollower.
func (f *netstackFollower) Look() {
	if v := peek.Sender(f.conn.e); v != nil {
		f.remember(v)
	}
}

// Sample implements tcpFollower.
func (f *netstackFollower) Sample(g sent) (ev SampleEvent, ok bool) {
	v := peek.Sender(f.conn.e)
	state, known := peek.Congestion(f.conn.e)
	if v == nil || !known {
		return ev, false
	}
	ev = SampleEvent{
		SRTT: v.RTTState.SRTT, RTTVar: v.RTTState.RTTVar, RTO: v.RTO,
		Cwnd: v.SndCwnd, MSS: v.MaxPayloadSize, SndWnd: int(v.SndWnd), SndUna: uint32(v.SndUna),
		Recovery: recovery(state, v.FastRecovery.Active),
	}
	if v.Ssthresh < infiniteSsthresh {
		ev.Ssthresh = v.Ssthresh
	}
	// netstack counts a segment in SND.NXT and what is in flight when it has sent it.
	nxt, segments := v.SndNxt, v.Outstanding
	if g.conn != nil && nxt.LessThan(g.end) {
		segments += (int(nxt.Size(g.end)) + v.MaxPayloadSize - 1) / v.MaxPayloadSize
		nxt = g.end
	}
	ev.SndNxt = uint32(nxt)
	ev.InFlight = int(v.SndUna.Size(nxt))
	if queued, ok := peek.Unsent(f.conn.e); ok {
		ev.Unsent = max(0, queued-ev.InFlight) // a FIN in flight was never queued
	}
	if r := peek.Receiver(f.conn.e); r != nil {
		ev.RcvNxt = uint32(r.RcvNxt)
		if r.RcvNxt.LessThan(r.RcvAcc) {
			ev.RcvWnd = int(r.RcvNxt.Size(r.RcvAcc))
		}
	}
	ev.Limit = limit(ev.Unsent, v, nxt, segments)
	return ev, true
}

func recovery(st tcpip.CongestionControlState, active bool) string {
	switch {
	case st == tcpip.RTORecovery:
		return "RTO"
	case !active:
		return ""
	case st == tcpip.FastRecovery:
		return "fast"
	}
	return "SACK"
}

// limit says what keeps a sender from sending more.
func limit(unsent int, v *tcp.TCPSenderState, nxt seqnum.Value, segments int) string {
	end := v.SndUna.Add(v.SndWnd)
	room := 0
	if nxt.LessThan(end) {
		room = int(nxt.Size(end))
	}
	switch {
	case unsent == 0:
		return "application"
	case room < min(unsent, v.MaxPayloadSize):
		return "receive window"
	case segments >= v.SndCwnd:
		return "congestion window"
	}
	return "" // it is about to send, or waits to fill a segment
}

// Timers implements tcpFollower.
func (f *netstackFollower) Timers() (t [tcpTimers]tcpTimerState) {
	e := f.conn.e
	switch f.conn.State() {
	case tcpClosed, tcpFailed:
		return t // what they were is no matter any more
	case tcpTimeWait:
		t[timerTimeWait] = netstackTimer(peek.TimeWaitTimer(e))
	case tcpSynSent, tcpSynReceived:
		t[timerRetransmission] = netstackTimer(peek.HandshakeTimer(e))
		return t
	}
	if peek.Sender(e) == nil {
		return t
	}
	r := peek.ReadTimers(e)
	resend := timerRetransmission
	if r.ZeroWindowProbing {
		resend = timerZeroWindow
	}
	t[resend], t[timerProbe], t[timerReorder] = tcpTimerState(r.Resend), tcpTimerState(r.Probe), tcpTimerState(r.Reorder)
	if e.SocketOptions().GetKeepAlive() {
		t[timerKeepalive] = tcpTimerState(r.Keepalive)
	}
	return t
}

// The constants of tcp.go are netstack's too.
var (
	_ = [1]struct{}{}[minTCPBuffer-tcp.MinBufferSize]
	_ = [1]struct{}{}[timeWait-tcp.DefaultTCPTimeWaitTimeout]
)
