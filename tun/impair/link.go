package impair

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/batching"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/segment"
)

var (
	_ stack.LinkEndpoint      = (*Link)(nil)
	_ stack.GSOEndpoint       = (*Link)(nil)
	_ stack.NetworkDispatcher = (*Link)(nil)
)

// Config describes a Link. Its zero value is useful.
type Config struct {
	Clock  tcpip.Clock // if nil, the system's
	Seed   uint64      // of a Spec without one, and of rules; if 0, a random one
	Logger *slog.Logger

	// Names has the addresses of the hosts that rules may name; nil knows none.
	Names func(name string) []netip.Addr

	// PeerVerifies says that who receives outbound packets verifies their checksums, as a kernel behind a
	// TUN device does. If it is false, as for an in-memory pipe to another stack that takes checksums for
	// granted, outbound packets that were corrupted are verified here in its stead. Inbound ones always are,
	// since a stack above an endpoint with CapabilityRXChecksumOffload does not.
	PeerVerifies bool
}

// Link impairs the packets between a link endpoint and a stack. It is safe for concurrent use.
//
// There is no goroutine while nothing waits: packets that need not wait are handed on by whoever brought
// them, others by a timer of the Clock, one for each direction. So with a manual clock all that a Link does is
// determined by the packets, the settings and the seed.
type Link struct {
	nested.Endpoint
	clock tcpip.Clock
	start tcpip.MonotonicTime
	cfg   Config
	log   *slog.Logger

	ways [2]way // by Direction

	// delivering is held for reading while a timer hands packets on, so that Wait and Close can tell when the
	// last one is done.
	delivering sync.RWMutex

	mu        sync.Mutex
	closed    bool
	flows     *flows
	rules     []*rule
	lastID    int     // of a rule
	bits      uniform // that rules flip
	replay    map[PacketID][]Fault
	observers map[*observer]struct{}

	above atomic.Pointer[batching.Dispatcher] // who the packets go to, if it takes batches
}

// observer is who wants to know of faults.
type observer struct{ see func(Fault, []byte) }

// way is one direction. All but on is guarded by Link.mu.
type way struct {
	dir Direction

	// on is true while packets must take the long way: there are settings, or rules, or packets still wait.
	on atomic.Bool

	spec     Spec // as set
	netem    *netem
	queue    queue
	stats    Stats
	scratch  []Fault
	draining bool // someone hands packets on, and will see to those that come meanwhile

	timer   tcpip.Timer
	armed   bool
	armedAt time.Duration
}

// New returns a Link on child, which carries bare IP packets, without a link layer's header. Both directions are
// off. The Link belongs to the stack that it is given to, as child would: closing it closes child.
func New(child stack.LinkEndpoint, cfg Config) *Link {
	l := &Link{clock: cfg.Clock, cfg: cfg, log: cfg.Logger, flows: newFlows(), observers: map[*observer]struct{}{}}
	if l.clock == nil {
		l.clock = tcpip.NewStdClock()
	}
	for l.cfg.Seed == 0 {
		l.cfg.Seed = rand.Uint64()
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.start = l.clock.NowMonotonic()
	l.bits = uniform{newStream(l.cfg.Seed, In, false, causeRule)}
	for i := range l.ways {
		w := &l.ways[i]
		w.dir = Direction(i)
		w.netem = newNetem(Spec{Seed: l.cfg.Seed}, w.dir, 0)
	}
	l.Endpoint.Init(child, l)
	return l
}

func (l *Link) now() time.Duration { return l.clock.NowMonotonic().Sub(l.start) }

// errClosed is what a Link that was closed answers to new settings.
var errClosed = errors.New("impair: the link is closed")

// Set changes the settings of one direction. Packets that wait go on waiting as long as they were to; all random
// sequences of the direction start anew from the seed. The error is a *SpecError, or says that the Link is closed.
func (l *Link) Set(dir Direction, spec Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	w := &l.ways[dir]
	w.spec = spec
	if spec.Seed == 0 {
		spec.Seed = l.cfg.Seed
	}
	w.netem = newNetem(spec, dir, l.now())
	l.update(w)
	l.log.Debug("impairment set", "direction", dir, "netem", spec)
	return nil
}

// Spec returns the settings of one direction. While it does anything, the seed and the limit in use are filled in.
func (l *Link) Spec(dir Direction) Spec {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &l.ways[dir]
	s := w.spec
	if s.active() {
		s.Seed, s.Limit = w.netem.spec.Seed, w.netem.limit()
	}
	return s
}

// LinkStats are the counts of both directions.
type LinkStats struct {
	In  Stats `json:"in"`
	Out Stats `json:"out"`
}

// Stats returns the counts since New.
func (l *Link) Stats() LinkStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	get := func(d Direction) Stats {
		s := l.ways[d].stats
		s.Queued = l.ways[d].queue.len()
		return s
	}
	return LinkStats{get(In), get(Out)}
}

// update turns a way on or off after a change, and has its timer look at what waits.
func (l *Link) update(w *way) {
	switch {
	case l.wanted(w):
		w.on.Store(true)
	case w.queue.len() == 0 && !w.draining:
		w.on.Store(false)
	}
	if w.queue.len() > 0 {
		l.arm(w, l.now(), l.now())
	}
}

// wanted reports whether there is a reason for a way to be on, other than what waits in it.
func (l *Link) wanted(w *way) bool { return w.spec.active() || len(l.rules) > 0 || l.replay != nil }

// maxRules bounds how many rules each packet is held against.
const maxRules = 1000

// AddRule adds a rule, which holds for both directions and from the next packet on, and returns its number. Rules
// are asked in the order in which they were added; the first that loses a packet is the last that sees it. The
// error is a *SpecError, or says that there are too many, or that the Link is closed.
func (l *Link) AddRule(r Rule) (id int, err error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, errClosed
	}
	if len(l.rules) >= maxRules {
		return 0, fmt.Errorf("impair: there are %d rules already, which is the most", maxRules)
	}
	hosts, err := l.hosts(&r.Match)
	if err != nil {
		return 0, err
	}
	l.lastID++
	l.rules = append(l.rules, &rule{Rule: r, hosts: hosts, id: l.lastID, text: r.String(), added: l.now()})
	l.updateAll()
	return l.lastID, nil
}

// hosts are the addresses that m names.
func (l *Link) hosts(m *Match) (hosts []netip.Prefix, err error) {
	if m.Host.IsValid() {
		return []netip.Prefix{m.Host}, nil
	}
	if m.Name == "" {
		return nil, nil
	}
	if l.cfg.Names != nil {
		for _, a := range l.cfg.Names(m.Name) {
			hosts = append(hosts, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	if len(hosts) == 0 {
		return nil, &SpecError{Setting: "host", Value: m.Name, Reason: "is no address, and no name of this instance (--dns NAME=ADDR gives it one)"}
	}
	return hosts, nil
}

// DelRule removes the rule of that number. It reports false if there is none.
func (l *Link) DelRule(id int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.rules, func(r *rule) bool { return r.id == id })
	if i < 0 {
		return false
	}
	l.flows.dropRule(l.rules[i])
	l.rules = slices.Delete(l.rules, i, i+1)
	l.updateAll()
	return true
}

// RuleInfo is a rule and what came of it.
type RuleInfo struct {
	ID      int    `json:"id"`
	Rule    Rule   `json:"rule"`
	Matched uint64 `json:"matched"` // packets of the kind it names
	Applied uint64 `json:"applied"` // packets it did something to
}

// Rules returns the rules in their order.
func (l *Link) Rules() []RuleInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	infos := []RuleInfo{}
	for _, r := range l.rules {
		infos = append(infos, RuleInfo{r.id, r.Rule, r.matched, r.applied})
	}
	return infos
}

// Observe has see called with each fault, in the order in which they are decided, and with the packet as it is before
// the fault, from its IP header on. See must be quick, must not keep or change the packet, and must not call the
// Link. After stop has returned it is not called again.
func (l *Link) Observe(see func(f Fault, packet []byte)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &observer{see}
	l.observers[o] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.observers, o)
	}
}

func (l *Link) updateAll() {
	for i := range l.ways {
		l.update(&l.ways[i])
	}
}

// WritePackets implements stack.LinkWriter. A packet that is lost counts as sent.
func (l *Link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	w := &l.ways[Out]
	if !w.on.Load() {
		return l.Endpoint.WritePackets(pkts)
	}
	for _, pkt := range pkts.AsSlice() {
		view := pkt.ToView()
		l.enter(w, view.ToSlice(), pkt.GSOOptions, wirePacket{
			proto: pkt.NetworkProtocolNumber,
			l3:    len(pkt.NetworkHeader().Slice()),
			l4:    len(pkt.TransportHeader().Slice()),
			hash:  pkt.Hash,
			route: pkt.EgressRoute,
		})
		view.Release()
	}
	l.drain(w)
	return pkts.Len(), nil
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (l *Link) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	w := &l.ways[In]
	if !w.on.Load() {
		l.Endpoint.DeliverNetworkPacket(proto, pkt)
		return
	}
	view := pkt.ToView()
	l.enter(w, view.ToSlice(), pkt.GSOOptions, wirePacket{proto: proto})
	view.Release()
	l.drain(w)
}

// Attach implements stack.LinkEndpoint.
func (l *Link) Attach(d stack.NetworkDispatcher) {
	l.above.Store(nil)
	if b, ok := d.(batching.Dispatcher); ok {
		l.above.Store(&b)
	}
	l.Endpoint.Attach(d)
}

// DeliverBatched implements batching.Dispatcher. Packets that are impaired come one by one.
func (l *Link) DeliverBatched(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if above := l.above.Load(); above != nil && !l.ways[In].on.Load() {
		(*above).DeliverBatched(proto, pkt)
		return
	}
	l.DeliverNetworkPacket(proto, pkt)
}

// EndBatch implements batching.Dispatcher.
func (l *Link) EndBatch() {
	if above := l.above.Load(); above != nil {
		(*above).EndBatch()
	}
}

// enter takes a frame in, which it owns.
func (l *Link) enter(w *way, frame []byte, gso stack.GSO, p wirePacket) {
	packets := segment.Packets(frame, gso)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(packets) > 1 {
		w.stats.Cut++
	}
	now := l.now()
	for _, b := range packets {
		p := p
		p.bytes = b
		w.stats.Packets++
		w.stats.Bytes += uint64(len(b))
		l.identify(w, &p)
		l.judge(w, &p, now)
	}
}

// identify gives a packet its name.
func (l *Link) identify(w *way, p *wirePacket) {
	p.id = PacketID{Dir: w.dir, Flow: "raw", Index: w.stats.Packets}
	decoded, err := packet.Parse(p.bytes)
	if err != nil {
		return
	}
	p.decoded, p.transport = decoded, headerLen(p.bytes)
	p.flow, p.id.From = l.flows.find(&p.decoded)
	p.id.Flow, p.id.Index = p.flow.name, p.flow.end(p.id.From).packets
}

// judge decides what becomes of a packet, and does it.
func (l *Link) judge(w *way, p *wirePacket, now time.Duration) {
	faults := w.scratch[:0]
	if l.replay != nil {
		for _, f := range l.replay[p.id] {
			f.Time = now
			faults = append(faults, f)
		}
	} else {
		lost := false
		if p.id.Copy == 0 {
			faults, lost = l.judgeByRules(faults, p, now)
		}
		if w.spec.active() {
			faults = w.netem.judge(faults, p.id, len(p.bytes), w.queue.len(), now, lost)
		}
	}
	w.scratch = faults
	l.apply(w, p, faults, now)
}

func (l *Link) judgeByRules(faults []Fault, p *wirePacket, now time.Duration) (all []Fault, lost bool) {
	for _, r := range l.rules {
		f, ok := r.judge(p, now, l.bits)
		if !ok {
			continue
		}
		r.applied++
		faults = append(faults, f)
		if f.Action.loses() {
			return faults, true
		}
	}
	return faults, false
}

// apply does what was decided, and queues what is left of the packet.
func (l *Link) apply(w *way, p *wirePacket, faults []Fault, now time.Duration) {
	s := &w.stats
	delay, lost, ahead := time.Duration(0), false, false
	var copies []*wirePacket
	for _, f := range faults {
		for o := range l.observers {
			o.see(f, p.bytes)
		}
		if f.Rule != "" {
			s.Faults++
		}
		if f.Action.loses() {
			lost = true
			switch {
			case f.Rule != "":
				s.Faulted++
			case f.Reason == "limit":
				s.OverLimit++
			default:
				s.Lost++
			}
		}
		switch f.Action {
		case ActionReset:
			l.answer(w, resetFor(&p.decoded), now)
		case ActionTooBig:
			l.answer(w, tooBigFor(&p.decoded, p.bytes, f.N), now)
		case ActionDelay:
			delay += f.Delay
		case ActionHold:
			if p.flow != nil {
				e := p.flow.end(p.id.From)
				e.held = max(e.held, now+f.Delay)
			} else {
				delay += f.Delay
			}
		case ActionCorrupt:
			s.Corrupted++
			if at := f.N / 8; at < len(p.bytes) {
				p.bytes[at] ^= 0x80 >> (f.N % 8)
			}
			p.corrupted = true
		case ActionWindow:
			if p.flow != nil && p.decoded.TCP != nil {
				setWindow(p.bytes, p.transport, uint16(f.N))
			}
		case ActionDuplicate:
			s.Duplicated++
			c := *p
			c.bytes = slices.Clone(p.bytes)
			c.id.Copy = uint64(len(copies)) + 1
			copies = append(copies, &c)
		case ActionReorder:
			s.Reordered++
			ahead = true
		}
	}
	switch {
	case lost:
	case ahead:
		w.queue.ahead = append(w.queue.ahead, p)
	default:
		p.due = now + delay
		if p.flow != nil {
			p.due = max(p.due, p.flow.end(p.id.From).held)
		}
		if p.due > now {
			s.Delayed++
		}
		w.queue.push(p)
	}
	for _, c := range copies {
		l.judge(w, c, now)
	}
}

// answer queues a packet that goes back to where one of this way came from. A timer hands it on, since whoever
// brought that one may be in the midst of sending it. A nil answer is none.
func (l *Link) answer(w *way, b []byte, now time.Duration) {
	if b == nil {
		return
	}
	w.stats.Answered++
	back := &l.ways[w.dir.opposite()]
	back.on.Store(true)
	back.queue.push(&wirePacket{bytes: b, proto: ipProtocol(b), id: PacketID{Dir: back.dir, Flow: "answer"}, due: now})
	l.arm(back, now, now)
}

// batch bounds how many packets are handed on without looking at the queue again.
const batch = 64

// drain hands on what is due. If another goroutine is at it, that one sees to all.
func (l *Link) drain(w *way) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.draining || l.closed {
		return
	}
	w.draining = true
	var room [batch]*wirePacket
	for !l.closed {
		due, again := l.due(w, room[:0])
		if len(due) == 0 {
			if again >= 0 {
				l.arm(w, again, l.now())
			}
			break
		}
		l.mu.Unlock()
		refused := l.hand(w, due)
		l.mu.Lock()
		w.stats.Refused += uint64(refused)
		w.stats.Passed += uint64(len(due) - refused)
	}
	w.draining = false
	if w.queue.len() == 0 && !l.wanted(w) {
		w.on.Store(false)
	}
}

// due takes packets from the queue whose time has come. If it finds none, again is when to look next, or negative
// if nothing waits.
func (l *Link) due(w *way, room []*wirePacket) (due []*wirePacket, again time.Duration) {
	now := l.now()
	for len(room) < cap(room) {
		p, ahead := w.queue.next()
		if p == nil {
			return room, -1
		}
		if !ahead {
			ok, again := w.netem.release(p.due, len(p.bytes), now)
			if !ok {
				return room, again
			}
		}
		w.queue.pop()
		if p.corrupted && !(w.dir == Out && l.cfg.PeerVerifies) && !p.sound() {
			w.stats.Caught++
			continue
		}
		w.stats.PassedBytes += uint64(len(p.bytes))
		room = append(room, p)
	}
	return room, 0
}

// sound verifies a corrupted packet in its receiver's stead. One whose headers make no sense any more is no
// loss: any receiver drops it. Nor is one of another IP version than the link has announced.
func (p *wirePacket) sound() bool {
	decoded, err := packet.Parse(p.bytes)
	return err == nil && ipProtocol(p.bytes) == p.proto && decoded.Verify() == nil
}

// hand hands packets on and returns how many were refused. It gives up the processor after each: on a wire packets
// come one after another, while netstack sends one acknowledgment for all that it finds queued. Of a burst handed
// on at once it would make a single one, where RFC 9293 section 3.8.6.3 asks for one every second segment; on a
// lossy link, where windows are small, that one's loss is a timeout, and a transfer takes three times as long.
func (l *Link) hand(w *way, packets []*wirePacket) (refused int) {
	if w.dir == In {
		for _, p := range packets {
			pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.bytes)})
			pkt.NetworkProtocolNumber = p.proto
			l.Endpoint.DeliverNetworkPacket(p.proto, pkt)
			pkt.DecRef()
			runtime.Gosched()
		}
		return 0
	}
	for _, p := range packets {
		var list stack.PacketBufferList
		list.PushBack(p.outbound())
		if _, err := l.Endpoint.WritePackets(list); err != nil {
			refused++
		}
		list.DecRef()
		runtime.Gosched()
	}
	return refused
}

// outbound is the packet as netstack would have written it, with its headers set apart.
func (p *wirePacket) outbound() *stack.PacketBuffer {
	headers := p.l3 + p.l4
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: headers,
		Payload:            buffer.MakeWithData(p.bytes[headers:]),
	})
	if p.l4 > 0 {
		copy(pkt.TransportHeader().Push(p.l4), p.bytes[p.l3:])
	}
	if p.l3 > 0 {
		copy(pkt.NetworkHeader().Push(p.l3), p.bytes)
	}
	pkt.NetworkProtocolNumber = p.proto
	if p.flow != nil {
		pkt.TransportProtocolNumber = tcpip.TransportProtocolNumber(p.decoded.Proto)
	}
	pkt.Hash = p.hash
	pkt.EgressRoute = p.route
	return pkt
}

// arm has the timer look at the queue at a time, unless it is to look earlier.
func (l *Link) arm(w *way, at, now time.Duration) {
	if l.closed || w.armed && w.armedAt <= at {
		return
	}
	w.armed, w.armedAt = true, at
	if w.timer == nil {
		w.timer = l.clock.AfterFunc(at-now, func() { l.fire(w) })
		return
	}
	w.timer.Reset(at - now)
}

// fire is the timer's function.
func (l *Link) fire(w *way) {
	l.delivering.RLock()
	defer l.delivering.RUnlock()
	l.mu.Lock()
	w.armed = false
	l.mu.Unlock()
	l.drain(w)
}

// Wait implements stack.LinkEndpoint: it returns when no packet is being delivered.
func (l *Link) Wait() {
	l.settle()
	l.Endpoint.Wait()
}

// settle returns when no timer is handing packets on.
func (l *Link) settle() {
	l.delivering.Lock()
	//lint:ignore SA2001 the lock is a barrier
	l.delivering.Unlock()
}

// Close implements stack.LinkEndpoint: it stops both timers, waits for what they were at, drops and counts what
// waits, and closes the endpoint below. It must not be called from within a packet's delivery.
func (l *Link) Close() {
	l.mu.Lock()
	first := !l.closed
	l.closed = true
	for i := range l.ways {
		w := &l.ways[i]
		if first && w.timer != nil {
			w.timer.Stop()
		}
		w.stats.Dropped += uint64(w.queue.len())
		w.queue = queue{}
	}
	l.mu.Unlock()
	if first {
		l.settle()
	}
	l.Endpoint.Close()
}

// ipProtocol is the network protocol of a packet that is made here.
func ipProtocol(b []byte) tcpip.NetworkProtocolNumber {
	if b[0]>>4 == header.IPv4Version {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
