package dashboard

import (
	"container/list"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

// Recorder keeps the newest events of a stack, sorted by connection, and counts the steps of the packets' path. It
// is bounded in all that it keeps, and safe for concurrent use.
//
// It takes events one by one with Add, from a live stack or a recording.
type Recorder struct {
	payload bool
	max     struct{ events, connEvents, beginning, connections int }

	scratch []byte // of Add's caller: Add is called by one goroutine at a time

	mu      sync.Mutex
	start   time.Time
	last    uint64 // the stack's number of the newest event; 0: the next event begins a row
	seq     uint64 // our number of the newest event, which no other row has
	end     time.Duration
	lost    uint64 // events that are missing in the rows
	changes uint64 // counts events that changed a connection
	path    pathCounters

	ids    int
	byID   map[int]*connection
	byConn map[uint64]*connection // by the stack's identity
	byKey  map[tuple]*connection  // newest incarnations
	open   list.List              // of *connection, the one that was heard of last at the end
	done   list.List              // of *connection, in the order of their end

	hiddenPort uint16       // the dashboard's own on the stack, 0 if none
	hiddenFDs  map[int]bool // its listeners and what they accept
	hiddenIDs  int          // of its connections, counted down

	calls *connection // of no connection
	stray *connection // packets of no connection

	events         int // kept
	oldest, newest *entry
}

// NewRecorder returns a Recorder whose times count from start. It keeps payload, as far as events carry it, only if
// it is told so.
func NewRecorder(start time.Time, payload bool) *Recorder {
	r := &Recorder{
		payload: payload, start: start, scratch: make([]byte, 1<<16),
		byID: map[int]*connection{}, byConn: map[uint64]*connection{}, byKey: map[tuple]*connection{}, hiddenFDs: map[int]bool{},
		calls: &connection{fd: -1, limit: maxCalls}, stray: &connection{fd: -1, limit: maxStray},
	}
	r.max.events, r.max.connEvents, r.max.beginning, r.max.connections = maxEvents, maxConnEvents, keptBeginning, maxConnections
	r.path.init()
	return r
}

// hide keeps what happens on a port of the stack, whose listeners have these fds, out of the recording.
func (r *Recorder) hide(port uint16, fds []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hiddenPort = port
	for _, fd := range fds {
		r.hiddenFDs[fd] = true
	}
}

// follow records what a stack does until ctx ends or the stack closes. Connections that are there already are noted
// first, with the remark that their beginning was not seen; then ready is closed.
func (r *Recorder) follow(ctx context.Context, s *stack.Stack, ready chan<- struct{}) {
	cfg := stack.SubscribeConfig{Buffer: subscriptionBuffer, Kinds: stack.AllEvents, Snap: snapHeaders}
	if r.payload {
		cfg.Snap = snapPayload
	}
	sub := s.SubscribeWith(ctx, cfg)
	defer sub.Close()
	r.resume(s.Sockets(), time.Now())
	close(ready)
	for ev := range sub.Events() {
		r.mu.Lock()
		r.add(&ev)
		for n := len(sub.Events()); n > 0; n-- { // while the lock is held, so that it costs little
			ev, ok := <-sub.Events()
			if !ok {
				break
			}
			r.add(&ev)
		}
		r.mu.Unlock()
	}
}

// Add takes the next event. Its Seq tells whether events are missing before it.
func (r *Recorder) Add(ev *stack.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(ev)
}

// resume begins a new row of events: those since the last row were not followed, and do not count as lost.
func (r *Recorder) resume(sockets []stack.SocketInfo, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = 0
	r.path.init()
	at := max(now.Sub(r.start), r.end)
	r.end = at
	there := map[*connection]bool{}
	for _, k := range sockets {
		if k.Network != "tcp" || k.State == "LISTEN" || k.Remote.Port() == 0 {
			continue
		}
		key := tuple{plain(k.Local), plain(k.Remote)}
		c := r.of(k.ID, key)
		if c == nil || c.over {
			c = r.admit(k.ID, key, at, guessRole(key))
			c.partial = true
		}
		c.state = k.State
		c.attach(k.FD)
		there[c] = true
	}
	for el := r.open.Front(); el != nil; {
		c := el.Value.(*connection)
		el = el.Next()
		if !there[c] {
			r.finish(c, at)
		}
	}
}

// add is Add under mu.
func (r *Recorder) add(ev *stack.Event) {
	r.seq++
	if r.last != 0 && ev.Seq > r.last+1 {
		r.lost += ev.Seq - r.last - 1
		r.seq += ev.Seq - r.last - 1
	}
	r.last = ev.Seq
	at := ev.Time.Sub(r.start)
	r.end = max(r.end, at)
	r.changes++
	switch {
	case ev.Packet != nil:
		r.packet(ev, at)
	case ev.Link != nil:
		r.link(ev, at)
	case ev.State != nil:
		r.state(ev, at)
	case ev.Call != nil:
		r.call(ev, at)
	case ev.Sample != nil:
		s := ev.Sample
		if c := r.byConn[ev.Conn]; c != nil {
			c.attach(s.FD)
			if c.sample != nil && *c.sample == *s {
				return
			}
			c.sample = s
			r.keep(c, &entry{seq: r.seq, at: at, sample: s})
		}
	case ev.Timer != nil:
		t := ev.Timer
		if c := r.byConn[ev.Conn]; c != nil {
			r.keep(c, &entry{seq: r.seq, at: at, timer: t})
		}
	}
}

// of returns the connection that an event is about, nil if nothing has been heard of it. What has no identity goes by
// its addresses: what the link did, before or behind the stack, and the packets of other programs' files.
func (r *Recorder) of(conn uint64, key tuple) *connection {
	c := r.byKey[key]
	switch {
	case conn == 0:
		return c
	case r.byConn[conn] != nil:
		return r.byConn[conn]
	case c != nil && c.conn == 0 && !c.over:
		r.identify(c, conn) // so far only the link has told of it
		return c
	}
	return nil
}

// identify notes a connection's identity, if it has one.
func (r *Recorder) identify(c *connection, conn uint64) {
	if conn != 0 {
		c.conn, r.byConn[conn] = conn, c
	}
}

// errCut is a packet of which not even the headers were kept.
var errCut = errors.New("the headers are not all there")

// parse decodes a packet of which only the beginning is there. What comes of it is good until the next call.
func (r *Recorder) parse(data []byte, length int) (packet.Packet, error) {
	if length > len(r.scratch) {
		r.scratch = make([]byte, length)
	}
	copy(r.scratch, data)
	p, err := packet.Parse(r.scratch[:max(length, len(data))])
	if err == nil && headers(&p) > len(data) {
		err = errCut
	}
	return p, err
}

// headers is how many bytes of a packet are no payload.
func headers(p *packet.Packet) int {
	n := p.Length - len(p.Payload)
	if p.ICMP != nil {
		n += min(len(p.Payload), quoted) // an error quotes a packet
	}
	return n
}

// quoted is how much of the packet that an ICMP error quotes is no payload: an IPv4 header and eight bytes.
const quoted = 28

// cut is the part of a packet's bytes that may be kept.
func (r *Recorder) cut(data []byte, header int) []byte {
	if r.payload {
		return data
	}
	return slices.Clone(data[:min(len(data), header)])
}

func (r *Recorder) packet(ev *stack.Event, at time.Duration) {
	// One piece of memory for both: most events come this way.
	m := &struct {
		entry
		keptPacket
	}{keptPacket: keptPacket{ev: *ev.Packet, seen: len(ev.Packet.Data)}}
	m.entry = entry{seq: r.seq, at: at, packet: &m.keptPacket}
	p := &m.ev
	pk, err := r.parse(p.Data, p.Len)
	header := 0
	if err == nil {
		header = headers(&pk)
	}
	if pk.TCP == nil || err != nil {
		r.path.packet(p)
		p.Data = r.cut(p.Data, header)
		m.segment = segment{out: p.Out, len: p.Len, plen: len(pk.Payload)}
		r.keep(r.stray, &m.entry)
		return
	}
	key := keyOf(&pk, p.Out)
	c := r.of(ev.Conn, key)
	if t := pk.TCP; c == nil || ev.Conn == 0 && t.Flags&packet.SYN != 0 && c.begins(p.Out, t, p.Socket) {
		c = r.begin(ev.Conn, key, at, p.Out, t)
	}
	r.meets(c, p, at)
	m.dup = c.follow(p.Out, pk.TCP, len(pk.Payload))
	if p.Out || p.Socket != nil && p.Socket.State != "LISTEN" {
		c.attach(p.FD)
	}
	c.packets++
	if p.Retransmit != "" {
		c.retrans++
	}
	if c.hidden {
		return
	}
	r.path.packet(p)
	p.Data = r.cut(p.Data, header)
	p.Route = c.sharedRoute(p.Out, p.Route)
	p.Socket = c.sharedLookup(p.Socket)
	m.segment = c.segment(p.Out, p.Len, len(pk.Payload), pk.TCP, options(p.Data, header))
	r.keep(c, &m.entry)
}

// options are the bytes of the options of a TCP segment whose headers end at header.
func options(data []byte, header int) []byte {
	return data[min(transportAt(data)+tcpHeader, header):header]
}

// begin makes the connection that a segment belongs to, after the incarnation before.
func (r *Recorder) begin(conn uint64, key tuple, at time.Duration, out bool, t *packet.TCP) *connection {
	syn := t.Flags&(packet.SYN|packet.ACK) == packet.SYN
	role := guessRole(key)
	if syn {
		role = "server"
		if out {
			role = "client"
		}
	}
	c := r.admit(conn, key, at, role)
	c.partial = !syn
	return c
}

// meets notes what a connection's first packet tells of its state.
func (r *Recorder) meets(c *connection, p *stack.PacketEvent, at time.Duration) {
	switch l := p.Socket; {
	case c.state != "":
	case p.Out:
		c.state = p.State
	case l != nil && l.Found:
		c.state = l.State
	case l != nil:
		c.state = "CLOSED" // nobody listens: it ends as it begins
		r.finish(c, at)
	}
}

// admit makes a connection, which may forget another.
func (r *Recorder) admit(conn uint64, key tuple, at time.Duration, role string) *connection {
	c := &connection{key: key, role: role, fd: -1, opened: at, lostBefore: r.lost, limit: r.max.connEvents, kept: kept{beginning: r.max.beginning}}
	if r.hiddenPort != 0 && key.local.Port() == r.hiddenPort {
		c.hidden = true
		r.hiddenIDs--
		c.id = r.hiddenIDs
	} else {
		r.ids++
		c.id = r.ids
	}
	if before := r.byKey[key]; before != nil {
		r.finish(before, at)
	}
	r.byKey[key], r.byID[c.id] = c, c
	r.identify(c, conn)
	c.place = r.open.PushBack(c)
	if len(r.byID) > r.max.connections {
		el := r.done.Front()
		if el == nil {
			el = r.open.Front()
		}
		r.forget(el.Value.(*connection))
	}
	return c
}

// finish notes the end of a connection.
func (r *Recorder) finish(c *connection, at time.Duration) {
	if c.over {
		return
	}
	c.over, c.closed = true, at
	r.open.Remove(c.place)
	c.place = r.done.PushBack(c)
	if c.hidden {
		r.forget(c)
	}
}

// forget removes a connection and all that is kept of it.
func (r *Recorder) forget(c *connection) {
	for c.kept.Len() > 0 {
		r.drop(c)
	}
	if c.over {
		r.done.Remove(c.place)
	} else {
		r.open.Remove(c.place)
	}
	delete(r.byID, c.id)
	if r.byKey[c.key] == c {
		delete(r.byKey, c.key)
	}
	delete(r.byConn, c.conn)
	c.forgotten = true
}

// attach notes the fd of a connection, if it has one.
func (c *connection) attach(fd int) {
	if fd >= 0 {
		c.fd = fd
	}
}

// keep appends an entry to a connection, and forgets the oldest beyond the limits.
func (r *Recorder) keep(c *connection, e *entry) {
	if c.hidden || c.forgotten {
		return
	}
	e.conn, e.id, e.lost = c, c.conn, r.lost
	c.active = e.at
	if c.place != nil && !c.over {
		r.open.MoveToBack(c.place)
	}
	if c.kept.Len() >= c.limit {
		r.drop(c)
	}
	c.kept.Push(e)
	e.older = r.newest
	if r.newest != nil {
		r.newest.newer = e
	} else {
		r.oldest = e
	}
	r.newest = e
	r.events++
	if r.events > r.max.events {
		// The oldest of all is the oldest of its connection.
		r.drop(r.oldest.conn)
	}
}

// drop forgets the oldest entry of a connection, but for those of its beginning.
func (r *Recorder) drop(c *connection) {
	e := c.kept.Pop()
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		r.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		r.newest = e.older
	}
	e.older, e.newer = nil, nil
	r.events--
}

func (r *Recorder) link(ev *stack.Event, at time.Duration) {
	l := *ev.Link
	pk, err := r.parse(l.Data, l.Len)
	lost := loses(l.Action)
	if err != nil || pk.TCP == nil {
		r.path.link(&l, lost)
		return
	}
	key := keyOf(&pk, l.Out)
	c := r.byKey[key]
	if t := pk.TCP; c == nil || t.Flags&packet.SYN != 0 && c.begins(l.Out, t, nil) {
		c = r.begin(0, key, at, l.Out, t)
	}
	if c.hidden {
		return
	}
	r.path.link(&l, lost)
	if lost {
		c.dropped++
	}
	header, seen := headers(&pk), len(l.Data)
	l.Data = r.cut(l.Data, header)
	k := &keptLink{ev: &l, seen: seen, segment: c.segment(l.Out, l.Len, len(pk.Payload), pk.TCP, options(l.Data, header))}
	if l.Out {
		k.of = c.sender(&k.segment)
	}
	r.keep(c, &entry{seq: r.seq, at: at, link: k})
}

// loses reports whether a packet goes no further after a link's action.
func loses(action string) bool { return action == "drop" || action == "reset" || action == "toobig" }

// senderSearch is how many entries back the packet is looked for that a link did something to: it comes at once.
const senderSearch = 256

// sender finds the packet event of a segment that went out, 0 if it is not kept.
func (c *connection) sender(s *segment) uint64 {
	for n, i := c.kept.Next(), 0; n > c.kept.Seek(n-1) && i < senderSearch; n, i = n-1, i+1 {
		e := c.kept.At(n - 1)
		p := e.packet
		if p == nil || !p.out {
			continue
		}
		// A super-packet is cut before the link sees it.
		if off := s.seq - p.seq; off == 0 && s.plen == p.plen && s.flags == p.flags || p.plen > 0 && s.plen > 0 && off < uint32(p.plen) {
			return e.seq
		}
	}
	return 0
}

func (r *Recorder) state(ev *stack.Event, at time.Duration) {
	s := ev.State
	if ev.Conn == 0 {
		return // a listener's
	}
	key := tuple{plain(s.Local), plain(s.Remote)}
	c := r.of(ev.Conn, key)
	if c == nil {
		c = r.admit(ev.Conn, key, at, guessRole(key))
		c.partial = true
	}
	switch s.To {
	case "SYN-SENT":
		c.role, c.partial = "client", false
	case "SYN-RECEIVED":
		if s.From == "LISTEN" {
			c.role, c.partial = "server", false
		}
	}
	c.state = s.To
	if s.To != "CLOSED" {
		c.attach(s.FD)
	}
	r.keep(c, &entry{seq: r.seq, at: at, state: s})
	if s.To == "CLOSED" {
		r.finish(c, at)
	}
}

func (r *Recorder) call(ev *stack.Event, at time.Duration) {
	k := ev.Call
	hidden := r.hiddenFDs[k.FD]
	switch made := int(k.Ret); {
	case k.Name == "close":
		delete(r.hiddenFDs, k.FD)
	case k.Name == "accept4" && made >= 0 && hidden:
		r.hiddenFDs[made] = true
	case k.Name == "accept4" || k.Name == "socket":
		delete(r.hiddenFDs, made) // its close was missed
	}
	if hidden {
		return
	}
	r.path.call(k)
	c := r.byConn[ev.Conn]
	switch {
	case c == nil:
		c = r.calls
	case k.Name == "accept4":
		c.attach(int(k.Ret))
	default:
		c.attach(k.FD)
	}
	r.keep(c, &entry{seq: r.seq, at: at, call: r.keptCall(k)})
}

// keptCall is a call whose buffers are cut to what its text shows, and empty unless payload is to be shown.
func (r *Recorder) keptCall(k *stack.CallEvent) *stack.CallEvent {
	c := *k
	if k.Buffer != nil {
		b := r.keptBuffer(*k.Buffer)
		c.Buffer = &b
	}
	if k.Message != nil {
		m := *k.Message
		m.Buffers = slices.Clone(m.Buffers)
		for i, b := range m.Buffers {
			m.Buffers[i] = r.keptBuffer(b)
		}
		c.Message = &m
	}
	return &c
}

func (r *Recorder) keptBuffer(b event.Buffer) event.Buffer {
	switch {
	case !r.payload:
		b.Data = nil
	case len(b.Data) > callBytes:
		b.Data = slices.Clone(b.Data[:callBytes])
	}
	return b
}

// sharedRoute returns the lookup of the packet before, if this one is equal: most of a connection's are.
func (c *connection) sharedRoute(out bool, l *stack.RouteLookup) *stack.RouteLookup {
	if l == nil {
		return nil
	}
	last := &c.routes[0]
	if !out {
		last = &c.routes[1]
	}
	if o := *last; o == nil || !sameRoute(o, l) {
		*last = l
	}
	return *last
}

func sameRoute(a, b *stack.RouteLookup) bool {
	if a.Query != b.Query || a.Martian != b.Martian || len(a.Tries) != len(b.Tries) {
		return false
	}
	for i := range a.Tries {
		x, y := &a.Tries[i], &b.Tries[i]
		if x.Rule != y.Rule || x.Match != y.Match || x.Why != y.Why || !samePointed(x.Route, y.Route) {
			return false
		}
	}
	return samePointed(a.Rule, b.Rule) && samePointed(a.Route, b.Route)
}

func samePointed[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (c *connection) sharedLookup(l *stack.SocketLookup) *stack.SocketLookup {
	if l == nil {
		return nil
	}
	if o := c.lookup; o == nil || o.Tuple != l.Tuple || o.Found != l.Found || o.FD != l.FD || o.State != l.State || o.Answer != l.Answer ||
		!slices.Equal(o.Tries, l.Tries) {
		c.lookup = l
	}
	return c.lookup
}

// keyOf is the 4-tuple of a packet.
func keyOf(p *packet.Packet, out bool) tuple {
	src, dst := netip.AddrPortFrom(p.Src, p.TCP.SrcPort), netip.AddrPortFrom(p.Dst, p.TCP.DstPort)
	if out {
		return tuple{src, dst}
	}
	return tuple{dst, src}
}

// plain is an address as packets carry it.
func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// guessRole says who has the lower port: of a connection whose beginning was not seen, that is the server.
func guessRole(key tuple) string {
	if key.local.Port() <= key.remote.Port() {
		return "server"
	}
	return "client"
}

// staleAfter is how long nothing has been heard of a connection that the stack does not know any more, when its end
// is taken to have been missed; unheardAfter is the same of one that the stack may never have known, since the link
// lost its SYN: the next comes within this time.
const (
	staleAfter   = 2 * time.Second
	unheardAfter = time.Minute
)

// sweep ends the connections whose end was missed: that are none of the stack's sockets. The caller holds mu.
func (r *Recorder) sweep(sockets []stack.SocketInfo, now time.Duration) {
	if r.open.Len() == 0 {
		return
	}
	there, unknown := map[uint64]bool{}, map[tuple]bool{} // by identity, and by addresses where the stack knows none
	for _, k := range sockets {
		switch {
		case k.Network != "tcp":
		case k.ID != 0:
			there[k.ID] = true
		default:
			unknown[tuple{plain(k.Local), plain(k.Remote)}] = true
		}
	}
	for el := r.open.Front(); el != nil; {
		c := el.Value.(*connection)
		el = el.Next()
		after := staleAfter
		if c.state == "" {
			after = unheardAfter
		}
		if !there[c.conn] && !unknown[c.key] && now-c.active > after {
			r.finish(c, c.active)
		}
	}
}

func seconds(d time.Duration) float64 { return float64(d) / 1e9 }
func itoa(n int) string               { return strconv.Itoa(n) }
