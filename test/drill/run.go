package drill

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/catflap/catflap/internal/packet"
)

// target is a system under test.
type target interface {
	medium
	sockets
	// begin starts the script's time.
	begin()
	// stop ends the system and frees what it holds.
	stop()
}

// maxRun bounds how much time a script may take on the target's clock: a week. A keep-alive each second through such a
// week is half a million timers, which takes seconds.
const maxRun = 7 * 24 * time.Hour

// maxWait is how long a packet with the time "*" is waited for. TIME-WAIT and the longest retransmission timeout of Linux
// are 120 s at most, and so is this.
const maxWait = 120 * time.Second

// runner plays one script against one target. It is used by one goroutine.
type runner struct {
	script *Script
	set    settings
	target target

	flows      []*flow
	current    *flow // what packets without ports belong to
	fds        map[int]*descriptor
	subject    *descriptor // newest connection, whose TCP_INFO code blocks see
	connecting *connecting
	adopt      bool   // any SYN of the stack starts a flow, not only that of a connect
	listening  bool   // a listen has happened since the newest passive flow
	bound      uint16 // port of the last bind
	ports      uint16 // remote ports given out

	pending []*call
	queue   []*seen           // packets of the stack that no event has taken yet
	last    time.Duration     // when the last event was due
	slack   time.Duration     // by how much the current event may be off
	files   map[string][]byte // that the script has made, by name
	counted map[string]uint64 // what nstat has shown
	sent    bool              // the last event was a packet of the script
	names   map[string]any    // variables of code blocks
	cookie  []byte            // of Fast Open, that the system has sent last

	log    []*seen // all packets, both ways, in order
	prints []string
	err    error // of a call that ended while time went on
}

// connecting is a connect whose SYN has not been seen yet.
type connecting struct {
	d      *descriptor
	remote netip.AddrPort
}

// seen is a packet that crossed the wire.
type seen struct {
	at   time.Duration
	dir  Direction
	data []byte
	p    packet.Packet
	bad  error // why it could not be read
	flow *flow
	// segment is the size of the segments that a super-packet of the system stands for, 0 if it is none.
	segment int
	// decision is what the target said of an inbound packet.
	decision string
}

// Failure is a script's expectation that was not met.
type Failure struct {
	Pos    Pos
	Msg    string
	Detail string // expected beside actual, if it was a packet
	Source string // the script's line
	Before []string
	Socket string
}

func (f *Failure) Error() string { return f.Msg }

// refusal is a script that asks for something that does not exist here.
type refusal struct{ err *Error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func (r *runner) refuse(pos Pos, format string, args ...any) error {
	return &refusal{r.script.errorf(pos, format, args...)}
}

func newRunner(s *Script, set settings, t target) *runner {
	r := &runner{script: s, set: set, target: t, fds: map[int]*descriptor{}, names: map[string]any{}, files: map[string][]byte{}}
	for k, v := range infoSymbols {
		r.names[k] = v
	}
	return r
}

// run plays the script from its first event to its last. Shell lines that carry no time run before and after.
func (r *runner) run() error {
	for _, sh := range r.script.Init {
		if err := r.runShell(sh); err != nil {
			return err
		}
	}
	r.target.begin()
	for i, e := range r.script.Events {
		next := r.next(i)
		if e.Call != nil && e.Call.Name == "socket" {
			next = nil
		}
		if err := r.event(e, next); err != nil {
			return r.explain(err)
		}
	}
	if err := r.end(); err != nil {
		return r.explain(err)
	}
	return nil
}

// explain adds to a failure what led to it.
func (r *runner) explain(err error) error {
	f, ok := err.(*Failure)
	if !ok {
		return err
	}
	if f.Source == "" {
		f.Source = r.script.line(f.Pos.Line)
		f.Before = r.before()
		f.Socket = r.sockets()
	}
	return f
}

// maxBefore is how many packets a failure shows: what fits on a screen above it.
const maxBefore = 12

// before are the newest packets, as a script would write them.
func (r *runner) before() []string {
	log := r.log[max(0, len(r.log)-maxBefore):]
	var lines []string
	for _, s := range log {
		lines = append(lines, s.text())
		if s.decision != "" {
			lines = append(lines, "         "+s.decision)
		}
	}
	return lines
}

func (s *seen) text() string {
	text := "unreadable: " + fmt.Sprint(s.bad)
	if s.bad == nil {
		f := s.flow
		if f == nil {
			f = &flow{}
		}
		if s.dir == Out && !f.haveLocal {
			f.learn(&s.p, 0) // a SYN that nobody expected is still what numbers count from
		}
		text = f.text(&s.p)
	}
	return fmt.Sprintf("%s %s %s", clock(s.at), s.dir, text)
}

// clock writes a time as scripts do, to the microsecond.
func clock(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// sockets describes the fds of the script.
func (r *runner) sockets() string {
	var lines []string
	for fd := range 1024 {
		if d, ok := r.fds[fd]; ok && !d.epoll {
			lines = append(lines, fmt.Sprintf("fd %d: %s", fd, r.target.describe(d.fd)))
		}
	}
	return strings.Join(lines, "\n")
}

// next is the first packet that the script expects after event i, or nil. It is nil, too, when the script opens a socket
// before: what the connections until then still send is passed over.
func (r *runner) next(i int) *Event {
	for _, e := range r.script.Events[i+1:] {
		if e.Call != nil && e.Call.Name == "socket" {
			return nil
		}
		if e.Packet != nil && e.Packet.Dir == Out {
			return e
		}
	}
	return nil
}

// fail makes a failure at an event.
func fail(pos Pos, format string, args ...any) *Failure {
	return &Failure{Pos: pos, Msg: fmt.Sprintf(format, args...)}
}

// event plays one event. next is the packet that the script expects next after it.
func (r *runner) event(e *Event, next *Event) error {
	// A relative time counts from when this event's turn comes, so that what the system under test was early or late by
	// is not added up. Only packets of the script that follow each other keep their distance.
	base := r.target.elapsed()
	ours := e.Packet != nil && e.Packet.Dir == In
	if r.sent && ours {
		base = r.last
	}
	r.sent = ours
	from, to := e.Time.From, e.Time.To
	if e.Time.Relative {
		from, to = from+base, to+base
	}
	r.slack = max(r.set.tolerance, time.Duration(r.set.percent/100*float64(from-r.last)))
	if to > maxRun {
		return r.script.errorf(e.Pos, "this event is %s after the start; a script may take %s", to, maxRun)
	}
	if e.Packet != nil && e.Packet.Dir == Out {
		r.last = from
		return r.expect(e, from, to)
	}
	r.last = from
	if err := r.advance(from, func() bool { return false }); err != nil {
		return err
	}
	if err := r.extra(next); err != nil {
		return err
	}
	switch {
	case e.Packet != nil:
		// In real time the script itself can be late. What follows then shows nothing.
		if late := r.target.elapsed() - from; late > r.slack && r.set.target == Kernel {
			return fail(e.Pos, "time off: this packet would be sent %s late: the machine is too busy for real time (tolerance %s)", clock(late), r.slack)
		}
		return r.inject(e.Packet)
	case e.Call != nil:
		due := from
		if e.Time.Blocking {
			due = e.Time.End
			if e.Time.Relative {
				due += base
			}
		}
		return r.call(e, due)
	case e.Code != nil:
		return r.code(e.Code)
	default:
		return r.runShell(e.Shell)
	}
}

// extra fails when a packet has been waiting so long that no later event can take it. Packets after the last that a
// script expects are left alone, as packetdrill leaves them.
func (r *runner) extra(next *Event) error {
	if next == nil || next.Time.Any || next.Time.From != next.Time.To {
		return nil
	}
	for len(r.queue) > 0 && r.passedOver(next.Packet, r.queue[0]) {
		r.queue = r.queue[1:]
	}
	if len(r.queue) == 0 {
		return nil
	}
	s := r.queue[0]
	if r.target.elapsed() <= s.at+r.slack {
		return nil
	}
	f := fail(next.Pos, "extra packet: the stack sent one at %s that the script does not expect", clock(s.at))
	f.Detail = "actual:   " + s.text()
	return f
}

// advance lets time go on until the given one, or until stop. Blocked calls go on meanwhile.
func (r *runner) advance(until time.Duration, stop func() bool) error {
	for {
		end := until
		for _, c := range r.pending {
			if wake := c.began + c.timeout; c.timeout > 0 && wake > r.target.elapsed() && wake < end {
				end = wake
			}
		}
		stopped := r.target.advance(end, func() bool {
			r.collect()
			if r.retry() {
				r.collect()
			}
			return r.err != nil || stop()
		})
		if r.err != nil {
			err := r.err
			r.err = nil
			return err
		}
		if stopped {
			return nil
		}
		if end == until {
			// The last look: what happened at the very end.
			r.collect()
			if r.retry() {
				r.collect()
			}
			err := r.err
			r.err = nil
			return err
		}
	}
}

// collect takes what the stack has sent.
func (r *runner) collect() {
	for {
		f, ok := r.target.sent()
		if !ok {
			return
		}
		s := &seen{at: f.At, dir: Out, data: f.Data, segment: f.segment}
		s.p, s.bad = packet.Parse(f.Data)
		if s.bad == nil && !f.noSum {
			s.bad = s.p.Verify()
		}
		if s.bad == nil && isNoise(&s.p) {
			continue
		}
		if s.bad == nil {
			s.flow = r.flowOf(&s.p)
			if s.flow != nil && s.p.ICMP == nil {
				s.flow.lastSent = s.data
			}
		}
		r.queue = append(r.queue, s)
		r.log = append(r.log, s)
	}
}

// isNoise tells packets that any host sends by itself, about its link and not to a peer: neighbour and router discovery,
// multicast membership.
func isNoise(p *packet.Packet) bool {
	const igmp = 2
	if p.Proto == igmp {
		return true
	}
	if p.Version != 6 || p.ICMP == nil {
		return false
	}
	t := p.ICMP.Type
	return t >= 130 && t <= 136 || t == 143
}

// flowOf finds the flow of a packet from the stack. The SYN of a connect starts one.
func (r *runner) flowOf(p *packet.Packet) *flow {
	for i := len(r.flows) - 1; i >= 0; i-- {
		if r.flows[i].carries(p) {
			return r.flows[i]
		}
	}
	if p.ICMP != nil {
		return r.current
	}
	if c := r.connecting; c != nil && p.TCP != nil && p.TCP.Flags&packet.SYN != 0 && p.Dst == c.remote.Addr() && p.TCP.DstPort == c.remote.Port() {
		r.connecting = nil
		c.d.flow = r.addFlow(&flow{local: netip.AddrPortFrom(p.Src, p.TCP.SrcPort), remote: c.remote})
		return c.d.flow
	}
	if r.adopt && p.TCP != nil && p.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN {
		return r.addFlow(&flow{
			local:  netip.AddrPortFrom(p.Src, p.TCP.SrcPort),
			remote: netip.AddrPortFrom(p.Dst, p.TCP.DstPort),
		})
	}
	return nil
}

func (r *runner) addFlow(f *flow) *flow {
	r.flows = append(r.flows, f)
	r.current = f
	return f
}

// firstPort is where the remote side's ports start; any above the well-known would do.
const firstPort = 33000

// nextPort is the remote port of the next connection to the stack.
func (r *runner) nextPort() uint16 {
	r.ports++
	return firstPort + r.ports - 1
}

// inboundFlow finds or makes the flow of a packet that the script sends.
func (r *runner) inboundFlow(pk *Packet) *flow {
	udp := pk.UDP != nil
	if pk.SrcPort != 0 {
		local := netip.AddrPortFrom(r.set.local.Addr(), pk.DstPort)
		remote := netip.AddrPortFrom(r.set.remote, pk.SrcPort)
		for i := len(r.flows) - 1; i >= 0; i-- {
			if f := r.flows[i]; f.udp == udp && f.local == local && f.remote == remote {
				r.current = f
				return f
			}
		}
		return r.addFlow(&flow{udp: udp, local: local, remote: remote})
	}
	if pk.ICMP != nil && r.current != nil {
		return r.current
	}
	syn := pk.TCP != nil && pk.TCP.Flags&(packet.SYN|packet.ACK|packet.RST) == packet.SYN
	if f := r.current; f != nil && f.udp == udp && !(syn && r.listening) {
		return f
	}
	if syn && r.listening {
		r.listening = false
	} else {
		for i := len(r.flows) - 1; i >= 0; i-- {
			if r.flows[i].udp == udp {
				r.current = r.flows[i]
				return r.current
			}
		}
	}
	port := r.set.bindPort
	if r.bound != 0 && !udp {
		port = r.bound
	}
	return r.addFlow(&flow{
		udp:    udp,
		local:  netip.AddrPortFrom(r.set.local.Addr(), port),
		remote: netip.AddrPortFrom(r.set.remote, r.nextPort()),
	})
}

// inject sends a packet of the script to the stack.
func (r *runner) inject(pk *Packet) error {
	f := r.inboundFlow(pk)
	f.left = false
	r.learnUnseen(f)
	var data []byte
	switch {
	case pk.TCP != nil:
		known, err := r.withCookie(pk)
		if err != nil {
			return err
		}
		data = f.segment(known)
		if pk.TCP.Ack != nil {
			f.acked = max(f.acked, *pk.TCP.Ack)
		}
	case pk.UDP != nil:
		data = f.datagram(pk)
	default:
		if err := r.resolveICMP(pk); err != nil {
			return err
		}
		data = f.message(pk)
	}
	if len(data) > r.set.mtu && len(data) > maxInject {
		return r.script.errorf(pk.Pos, "this packet has %d bytes; at most %d can be sent", len(data), maxInject)
	}
	s := &seen{at: r.target.elapsed(), dir: In, data: data, flow: f}
	s.p, s.bad = packet.Parse(data)
	r.log = append(r.log, s)
	if err := r.target.inject(data); err != nil {
		return fmt.Errorf("sending a packet to the system under test: %w", err)
	}
	if d, ok := r.target.(interface{ decisions() string }); ok {
		s.decision = d.decisions()
	}
	r.collect()
	if r.retry() {
		r.collect()
	}
	err := r.err
	r.err = nil
	return err
}

// withCookie is a segment of the script with the cookie that the system has sent last where the script says "FO *".
func (r *runner) withCookie(pk *Packet) (*Packet, error) {
	i := slices.IndexFunc(pk.TCP.Options, func(o TCPOption) bool { return o.AnyCookie })
	if i < 0 {
		return pk, nil
	}
	if r.cookie == nil {
		return nil, fail(pk.TCP.Options[i].Pos, "FO *: the stack has sent no cookie that could be given back")
	}
	known, t := *pk, *pk.TCP
	t.Options = slices.Clone(t.Options)
	t.Options[i].Data = r.cookie
	known.TCP = &t
	return &known, nil
}

// learnCookie notes the Fast Open cookie in a segment of the system.
func (r *runner) learnCookie(t *packet.TCP) {
	if o, ok := t.Option(packet.OptFastOpen); ok && isCookie(o) {
		r.cookie = o.Data
	}
}

// maxInject is the longest packet that a script may send, whatever the MTU: what an IP header can say.
const maxInject = 65535

// learnUnseen takes the initial sequence number from a segment that the stack has sent and the script passes over.
func (r *runner) learnUnseen(f *flow) {
	if f.haveLocal {
		return
	}
	for _, s := range r.queue {
		if s.flow == f && s.bad == nil && s.p.TCP != nil && s.p.TCP.Flags&packet.SYN != 0 {
			f.learn(&s.p, 0)
			return
		}
	}
}

// resolveICMP puts numbers to the names of an ICMP message, which depend on the IP version.
func (r *runner) resolveICMP(pk *Packet) error {
	m := pk.ICMP
	pick := func(n icmpName) int {
		if r.set.remote.Is6() {
			return n.v6
		}
		return n.v4
	}
	n := pick(icmpTypes[m.TypeName])
	code := icmpName{}
	name := m.CodeName
	if def, ok := r.script.define(name); ok {
		name = def
	}
	if name != "" {
		var ok bool
		if code, ok = icmpCodes[m.TypeName][name]; !ok {
			return r.script.errorf(pk.Pos, "%q is no code of %q; --define=%s=CODE gives it a meaning", name, m.TypeName, name)
		}
	}
	if name == "frag_needed" && r.set.remote.Is6() {
		n, code = icmpTypes["packet_too_big"].v6, icmpName{0, 0} // what it is in IPv6
	}
	c := pick(code)
	if n < 0 || c < 0 {
		return r.script.errorf(pk.Pos, "%s %s does not exist in --ip_version=%s", m.TypeName, m.CodeName, r.set.ipVersion)
	}
	m.Type, m.Code = uint8(n), uint8(c)
	return nil
}

// expect waits for a packet of the stack and compares it.
func (r *runner) expect(e *Event, from, to time.Duration) error {
	pk := *e.Packet
	if pk.ICMP != nil {
		m := *pk.ICMP
		pk.ICMP = &m
		if err := r.resolveICMP(&pk); err != nil {
			return err
		}
	}
	limit := to + r.slack
	if e.Time.Any {
		from, limit = 0, r.target.elapsed()+maxWait
	}
	var rest *TCPSpec // what is left of a segment that the stack sends in parts
	for {
		if len(r.queue) == 0 {
			if err := r.advance(limit, func() bool { return len(r.queue) > 0 }); err != nil {
				return err
			}
		}
		if len(r.queue) == 0 {
			return r.missing(e, &pk, rest, from, to)
		}
		s := r.queue[0]
		r.queue = r.queue[1:]
		if r.passedOver(&pk, s) {
			continue
		}
		if pk.TCP != nil {
			if left := s.cut(pk.TCP.Len); left != nil && !r.set.strict {
				r.queue = append([]*seen{left}, r.queue...)
			}
		}
		partial, err := r.match(e, &pk, s)
		if err != nil {
			return err
		}
		if !e.Time.Any && (s.at < from-r.slack || s.at > limit) {
			return r.offTime(e, s, from, to)
		}
		if partial == 0 {
			return nil
		}
		t := *pk.TCP
		t.Seq += uint32(partial)
		t.Len -= partial
		pk.TCP, rest = &t, &t
	}
}

// passedOver reports whether a packet belongs to a connection that the script has left: since then it has opened a
// socket, and it does not name the ports. What it expects is of the newest connection.
func (r *runner) passedOver(pk *Packet, s *seen) bool {
	if pk.SrcPort != 0 || s.flow == nil || !s.flow.left {
		return false
	}
	return s.flow != r.current || r.connecting != nil || pk.TCP != nil && pk.TCP.Flags&packet.SYN != 0
}

// reset ends what connections are left at the end of a run, so that no call in another thread still waits for one.
func (r *runner) reset() {
	r.collect()
	for _, f := range r.flows {
		p, err := packet.Parse(f.lastSent)
		if err != nil || p.TCP == nil {
			continue
		}
		h := tcpHeader{src: p.TCP.DstPort, dst: p.TCP.SrcPort, flags: packet.RST, seq: p.TCP.Ack}
		if p.TCP.Flags&packet.ACK == 0 { // a SYN: RFC 9293 section 3.10.7.3 asks for its acknowledgment
			h.flags, h.ack = packet.RST|packet.ACK, p.TCP.Seq+uint32(len(p.Payload))+1
		}
		ip := ipHeader{src: p.Dst, dst: p.Src, proto: packet.ProtoTCP}
		_ = r.target.inject(ip.ip(h.bytes(nil), tcpSumAt))
	}
}

// cut takes the first n bytes of a super-packet, if that is where one of its segments ends, and returns the rest: the
// system hands over as one what leaves as several segments. It returns nil when there is nothing to cut.
func (s *seen) cut(n int) *seen {
	if s.segment == 0 || s.bad != nil || n == 0 || n >= len(s.p.Payload) || n%s.segment != 0 {
		return nil
	}
	rest := *s
	head, tail := *s.p.TCP, *s.p.TCP
	head.Flags &^= packet.PSH | packet.FIN
	tail.Flags &^= packet.CWR // only in the first segment (RFC 3168 section 6.1.2)
	tail.Seq += uint32(n)
	s.p.TCP, rest.p.TCP = &head, &tail
	s.p.Payload, rest.p.Payload = s.p.Payload[:n], rest.p.Payload[n:]
	return &rest
}

// missing says that a packet, or the rest of it, has not come in its time. In virtual time it costs nothing to see whether
// it comes later, or what comes in its place.
func (r *runner) missing(e *Event, pk *Packet, rest *TCPSpec, from, to time.Duration) error {
	now := clock(r.target.elapsed())
	f := fail(e.Pos, "missing packet: the stack sent nothing until %s", now)
	f.Detail = "expected: > " + pk.text()
	if rest != nil {
		f.Msg = fmt.Sprintf("missing packet: the stack sent only the first %d of %d bytes until %s", e.Packet.TCP.Len-rest.Len, e.Packet.TCP.Len, now)
	}
	if _, virtual := r.target.(*stackTarget); !virtual || e.Time.Any {
		return f
	}
	r.explain(f) // as it is now
	if err := r.advance(r.target.elapsed()+maxWait, func() bool { return len(r.queue) > 0 }); err != nil {
		return f // a call ended in its own wrong way
	}
	if len(r.queue) == 0 {
		f.Detail += fmt.Sprintf("\nlater:    nothing, in the next %s", maxWait)
		return f
	}
	s := r.queue[0]
	if _, err := r.match(e, pk, s); err == nil && rest == nil {
		return r.offTime(e, s, from, to)
	}
	f.Detail += "\nlater:    " + s.text()
	return f
}

func (r *runner) offTime(e *Event, s *seen, from, to time.Duration) error {
	when := clock(from)
	if from != to {
		when = "between " + when + " and " + clock(to)
	}
	off := s.at - from
	word := "late"
	if s.at < from {
		off, word = from-s.at, "early"
	} else if s.at > to {
		off = s.at - to
	}
	f := fail(e.Pos, "time off: the packet was sent at %s, expected %s: %s too %s (tolerance %s)", clock(s.at), when, clock(off), word, r.slack)
	f.Detail = "expected: " + when + " > " + e.Packet.text() + "\nactual:   " + s.text()
	return f
}

// match compares a packet of the stack with the expected one. A segment that holds only the beginning of the expected
// data matches unless the script is strict; partial is then the number of its bytes, else 0.
func (r *runner) match(e *Event, pk *Packet, s *seen) (partial int, err error) {
	if s.bad != nil {
		return 0, fail(e.Pos, "wrong packet: the stack sent one that is not well-formed: %v", s.bad)
	}
	f := r.outboundFlow(pk, s)
	rl := rules{stampTick: r.set.stampTick, ignorePush: r.set.ignorePush}
	if r.set.stampTick > 0 {
		// A tick to either side, for where in its tick each event falls.
		// The share that grows with time counts from the script's start, since the stamps do.
		slack := max(r.set.tolerance, time.Duration(r.set.percent/100*float64(s.at)))
		rl.stampSlack = int(slack.Microseconds())/r.set.stampTick + 1
	}
	if n := len(s.p.Payload); pk.TCP != nil && s.p.TCP != nil && !r.set.strict && n > 0 && n < pk.TCP.Len {
		rl.partial = true
		partial = n
	}
	c := f.compare(pk, &s.p, rl)
	if !c.ok() {
		fl := fail(e.Pos, "wrong packet: different %s", c.differs())
		fl.Detail = c.String()
		return 0, fl
	}
	if pk.TCP != nil {
		f.learn(&s.p, pk.TCP.Seq)
		f.learnStamp(pk.TCP, s.p.TCP)
		r.learnCookie(s.p.TCP)
	}
	return partial, nil
}

// outboundFlow finds the flow that an expected packet must belong to.
func (r *runner) outboundFlow(pk *Packet, s *seen) *flow {
	if pk.SrcPort != 0 {
		local := netip.AddrPortFrom(r.set.local.Addr(), pk.SrcPort)
		remote := netip.AddrPortFrom(r.set.remote, pk.DstPort)
		for i := len(r.flows) - 1; i >= 0; i-- {
			if f := r.flows[i]; f.udp == (pk.UDP != nil) && f.local == local && f.remote == remote {
				return f
			}
		}
		return r.addFlow(&flow{udp: pk.UDP != nil, local: local, remote: remote})
	}
	if f := r.current; f != nil && (pk.ICMP != nil || f.udp == (pk.UDP != nil)) {
		return f
	}
	for i := len(r.flows) - 1; i >= 0; i-- {
		if f := r.flows[i]; f.udp == (pk.UDP != nil) {
			return f
		}
	}
	if s.flow != nil {
		return s.flow
	}
	return &flow{udp: pk.UDP != nil, local: netip.AddrPortFrom(r.set.local.Addr(), r.set.bindPort), remote: netip.AddrPortFrom(r.set.remote, defaultPort)}
}

// call starts a socket call, and waits for its result unless the script gives it an end time.
func (r *runner) call(e *Event, due time.Duration) error {
	c, err := r.begin(e.Call, e.Time.Blocking)
	if err != nil {
		return err
	}
	c.began, c.due = r.target.elapsed(), due
	c.slack = max(r.slack, time.Duration(r.set.percent/100*float64(due-c.began)))
	if c.prepare != nil {
		c.prepare()
	}
	r.pending = append(r.pending, c)
	r.retry()
	r.collect()
	if r.err == nil && !e.Time.Blocking && r.isPending(c) {
		until := due + c.slack
		if c.timeout > 0 {
			until += c.timeout
			c.due += c.timeout
		}
		if err := r.advance(until, func() bool { return !r.isPending(c) }); err != nil {
			return err
		}
		if r.isPending(c) {
			return fail(e.Pos, "%s blocks: a call that waits is written with the time of its end, START...END", e.Call.Name)
		}
	}
	err = r.err
	r.err = nil
	return err
}

func (r *runner) isPending(c *call) bool {
	for _, p := range r.pending {
		if p == c {
			return true
		}
	}
	return false
}

// retry tries each pending call again, and reports whether one has ended. The first that ended wrongly is left in err.
func (r *runner) retry() (ended bool) {
	for i := 0; i < len(r.pending); {
		c := r.pending[i]
		v, err := c.attempt()
		if err == errPending || err == syscall.EAGAIN && c.blocks && !c.real {
			if now := r.target.elapsed(); now > c.due+c.slack && c.due > c.began && r.err == nil {
				r.err = fail(c.spec.Pos, "%s still blocks at %s; it should have returned at %s", c.spec.Name, clock(now), clock(c.due))
			}
			i++
			continue
		}
		r.pending = append(r.pending[:i], r.pending[i+1:]...)
		ended = true
		if err := r.complete(c, v, err); err != nil && r.err == nil {
			r.err = err
		}
	}
	return ended
}

// complete holds a call's result against the script's.
func (r *runner) complete(c *call, v int64, err error) error {
	now := r.target.elapsed()
	if off := now - c.due; off.Abs() > c.slack {
		return fail(c.spec.Pos, "time off: %s returned at %s, expected %s (tolerance %s)", c.spec.Name, clock(now), clock(c.due), c.slack)
	}
	if e := r.checkResult(c, v, err); e != nil {
		return e
	}
	if err != nil {
		return nil
	}
	if c.finish != nil {
		c.finish(v)
	}
	if c.verify != nil {
		if e := c.verify(); e != nil {
			return fail(c.spec.Pos, "%v", e)
		}
	}
	return nil
}

// makesFD names the calls whose result is a new fd. The script numbers fds for itself.
var makesFD = map[string]bool{"socket": true, "accept": true, "accept4": true, "epoll_create": true, "epoll_create1": true, "open": true}

func (r *runner) checkResult(c *call, v int64, err error) error {
	spec := c.spec
	if _, any := spec.Result.(Ellipsis); any {
		return nil
	}
	a := &args{r: r, call: spec}
	want := a.number(spec.Result)
	if a.err != nil {
		return a.err
	}
	expected := fmt.Sprint(want)
	if spec.Errno != "" {
		en := errnos[spec.Errno]
		if err == en.errno {
			return nil
		}
		expected = fmt.Sprintf("-1 %s (%s)", spec.Errno, en.text)
	} else if err != nil && want == -1 {
		return nil
	}
	if err == nil && spec.Errno == "" && (v == want || makesFD[spec.Name] && want >= 0) {
		return nil
	}
	return fail(spec.Pos, "wrong result: %s, expected %s", resultText(spec.Name, v, err), expected)
}

// open gives a new descriptor the number that the script expects.
func (r *runner) open(c *call, d *descriptor) {
	n, ok := c.spec.Result.(Int)
	if !ok {
		return
	}
	r.fds[int(n.Value)] = d
	if r.subject == nil && !d.epoll {
		r.subject = d
	}
}

// code runs a code block with the TCP_INFO of the newest connection.
func (r *runner) code(c *Code) error {
	for k := range r.names {
		if isInfo(k) {
			delete(r.names, k)
		}
	}
	if r.subject != nil {
		info, err := r.target.tcpInfo(r.subject.fd)
		if err != nil {
			return fail(c.Pos, "TCP_INFO cannot be read: %s", errnoText(err))
		}
		for k, v := range info {
			r.names[k] = v
		}
	}
	env := &codeEnv{script: r.script, names: r.names}
	err := c.run(env)
	r.prints = append(r.prints, env.prints...)
	if mistake, ok := err.(*Error); ok {
		if strings.HasPrefix(mistake.Msg, "assertion failed") {
			return fail(mistake.Pos, "%s", mistake.Msg)
		}
		if strings.Contains(mistake.Msg, "is not known on this target") {
			return &refusal{mistake}
		}
	}
	return err
}

// end waits for calls that still block and, if the script says so, for silence.
func (r *runner) end() error {
	for len(r.pending) > 0 {
		c := r.pending[0]
		if err := r.advance(c.due+c.slack, func() bool { return !r.isPending(c) }); err != nil {
			return err
		}
		if r.isPending(c) {
			return fail(c.spec.Pos, "%s still blocks at %s; it should have returned at %s", c.spec.Name, clock(r.target.elapsed()), clock(c.due))
		}
	}
	for _, sh := range r.script.Cleanup {
		if err := r.runShell(sh); err != nil {
			return err
		}
	}
	if !r.set.hasQuiet {
		return nil
	}
	err := r.advance(r.target.elapsed()+r.set.quietEnd, func() bool { return len(r.queue) > 0 })
	if err != nil || len(r.queue) == 0 {
		return err
	}
	last := r.script.Events[len(r.script.Events)-1]
	f := fail(last.Pos, "extra packet: the stack sent one at %s, after the last event", clock(r.queue[0].at))
	f.Detail = "actual:   " + r.queue[0].text()
	return f
}
