package dashboard

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

// story makes the events of a server at local and a client at remote, in virtual time, and records them.
type story struct {
	t   testing.TB
	r   *Recorder
	seq uint64 // the stack's
	now time.Time

	local, remote netip.AddrPort
	mss           int // of super-packets

	conns     map[[2]netip.AddrPort]uint64 // identities of the newest connections
	count     uint64                       // of the identities given
	anonymous bool                         // events come without identities
}

var (
	epoch  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	server = netip.MustParseAddrPort("10.9.0.2:80")
	client = netip.MustParseAddrPort("10.9.0.1:40000")
)

func newStory(t testing.TB) *story {
	return &story{t: t, r: NewRecorder(epoch, false), now: epoch, local: server, remote: client, conns: map[[2]netip.AddrPort]uint64{}}
}

// conn is the identity of the connection between local and remote.
func (s *story) conn() uint64 {
	if s.anonymous {
		return 0
	}
	key := [2]netip.AddrPort{s.local, s.remote}
	if s.conns[key] == 0 {
		s.again()
	}
	return s.conns[key]
}

// again makes what follows about another connection with the same addresses.
func (s *story) again() {
	s.count++
	s.conns[[2]netip.AddrPort{s.local, s.remote}] = s.count
}

func (s *story) add(ev stack.Event) uint64 {
	s.seq++
	s.now = s.now.Add(time.Millisecond)
	ev.Seq, ev.Time = s.seq, s.now
	s.r.Add(&ev)
	return s.r.seq
}

// seg describes a segment.
type seg struct {
	flags    packet.Flags
	seq, ack uint32
	win      uint16
	opts     []byte
	payload  string
}

var (
	wscale7 = []byte{packet.OptMSS, 4, 5, 180, packet.OptNOP, packet.OptWScale, 3, 7}
	wscale2 = []byte{packet.OptMSS, 4, 5, 180, packet.OptNOP, packet.OptWScale, 3, 2}
)

// bytes builds the segment's IPv4 packet. Nobody looks at its checksums.
func (g seg) bytes(src, dst netip.AddrPort) []byte {
	h := 20 + 20 + len(g.opts)
	b := make([]byte, h, h+len(g.payload))
	b[0], b[8], b[9] = 0x45, 64, packet.ProtoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(h+len(g.payload)))
	copy(b[12:], src.Addr().AsSlice())
	copy(b[16:], dst.Addr().AsSlice())
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], g.seq)
	binary.BigEndian.PutUint32(tcp[8:], g.ack)
	binary.BigEndian.PutUint16(tcp[12:], uint16((20+len(g.opts))/4)<<12|uint16(g.flags))
	binary.BigEndian.PutUint16(tcp[14:], g.win)
	copy(tcp[20:], g.opts)
	return append(b, g.payload...)
}

// found is a lookup that found the connection itself, or the listener.
func found(fd int, state string) *stack.SocketLookup {
	step := stack.StepExact
	if state == "LISTEN" {
		step = stack.StepPort
	}
	return &stack.SocketLookup{Found: true, FD: fd, State: state, Answer: "found", Tries: []stack.SocketTry{{Step: step, FD: fd, State: state, Match: true}}}
}

// in is a segment from the client, for the socket that l found.
func (s *story) in(l *stack.SocketLookup, g seg) uint64 {
	b := g.bytes(s.remote, s.local)
	p := &stack.PacketEvent{Dev: "cat0", Len: len(b), Data: b, FD: -1, Socket: l}
	if l != nil {
		p.FD = l.FD
		if !l.Found {
			p.Drop = "NO_SOCKET"
		}
	}
	return s.add(stack.Event{Conn: s.conn(), Packet: p})
}

// out is a segment to the client.
func (s *story) out(fd int, state string, g seg) uint64 {
	b := g.bytes(s.local, s.remote)
	return s.add(stack.Event{Conn: s.conn(), Packet: &stack.PacketEvent{Out: true, Dev: "cat0", Len: len(b), Data: b, FD: fd, State: state, GSO: s.mss}})
}

// link is what the link does to a segment.
func (s *story) link(out bool, action, why string, g seg) uint64 {
	b := g.bytes(s.remote, s.local)
	if out {
		b = g.bytes(s.local, s.remote)
	}
	return s.add(stack.Event{Link: &stack.LinkEvent{Dev: "cat0", Out: out, Action: action, Why: why, Len: len(b), Data: b}})
}

func (s *story) state(fd int, from, to string) uint64 {
	return s.add(stack.Event{Conn: s.conn(), State: &stack.StateEvent{FD: fd, Local: s.local, Remote: s.remote, From: from, To: to}})
}

// call is a call of no connection.
func (s *story) call(k stack.CallEvent) uint64 { return s.add(stack.Event{Call: &k}) }

// connCall is a call of the connection.
func (s *story) connCall(k stack.CallEvent) uint64 {
	return s.add(stack.Event{Conn: s.conn(), Call: &k})
}

// read is read(2) of all of b.
func (s *story) read(fd int, b string) uint64 {
	return s.connCall(stack.CallEvent{Name: "read", FD: fd, Ret: int64(len(b)), Buffer: buffer(b)})
}

// buffer is a buffer of 4096 bytes with the bytes of b.
func buffer(b string) *event.Buffer { return &event.Buffer{Size: 4096, Len: len(b), Data: []byte(b)} }

// accept is accept4(2) of the client's connection on listener.
func (s *story) accept(listener, fd int) uint64 {
	return s.connCall(stack.CallEvent{Name: "accept4", FD: listener, Ret: int64(fd), Addr: s.remote, Flags: stack.SOCK_CLOEXEC})
}

// shake opens a connection whose first sequence numbers are 1000 (client) and 5000.
func (s *story) shake() {
	s.in(found(5, "LISTEN"), seg{flags: packet.SYN, seq: 1000, win: 64000, opts: wscale7})
	s.state(-1, "LISTEN", "SYN-RECEIVED")
	s.out(-1, "SYN-RECEIVED", seg{flags: packet.SYN | packet.ACK, seq: 5000, ack: 1001, win: 60000, opts: wscale2})
	s.in(found(-1, "SYN-RECEIVED"), seg{flags: packet.ACK, seq: 1001, ack: 5001, win: 500})
	s.state(-1, "SYN-RECEIVED", "ESTABLISHED")
	s.accept(5, 7)
}

// only returns the one connection that there is.
func (s *story) only() row {
	s.t.Helper()
	rows := s.r.rows(true)
	if len(rows) != 1 {
		s.t.Fatalf("%d connections, want 1: %+v", len(rows), rows)
	}
	return rows[0]
}

// kept returns what is kept of a connection, as a page gets it, one line of JSON each.
func (s *story) kept(id int) (lines []string) {
	c := s.r.find(id)
	if id == 0 {
		c = s.r.calls
	}
	cur := s.r.cursor(c)
	for {
		batch, gap := s.r.read(&cur, nil, maxBatch)
		if gap > 0 {
			lines = append(lines, fmt.Sprint("gap ", gap))
		}
		if len(batch) == 0 {
			return lines
		}
		for _, e := range batch {
			b, err := json.Marshal(e.json())
			if err != nil {
				s.t.Fatal(err)
			}
			lines = append(lines, string(b))
		}
	}
}

// has fails unless the n-th line of kept (from the end if negative) contains all of want.
func (s *story) has(id, n int, reason string, want ...string) {
	s.t.Helper()
	lines := s.kept(id)
	if n < 0 {
		n += len(lines)
	}
	if n < 0 || n >= len(lines) {
		s.t.Fatalf("%s: there are %d events", reason, len(lines))
	}
	for _, w := range want {
		if !strings.Contains(lines[n], w) {
			s.t.Errorf("%s: want %s in\n%s", reason, w, lines[n])
		}
	}
}

// kinds is the row of the kinds of a connection's events.
func (s *story) kinds(id int) string {
	var b strings.Builder
	for _, l := range s.kept(id) {
		if strings.HasPrefix(l, "gap") {
			b.WriteString("(" + l + ")")
			continue
		}
		var c common
		if err := json.Unmarshal([]byte(l), &c); err != nil {
			s.t.Fatal(err)
		}
		b.WriteString(c.Kind)
	}
	return b.String()
}
