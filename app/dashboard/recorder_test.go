package dashboard

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

// A whole connection: who is who, what the numbers are relative to, which calls are its own.
func TestConnection(t *testing.T) {
	s := newStory(t)
	s.call(stack.CallEvent{Name: "socket", FD: -1, Ret: 5, Domain: stack.AF_INET})
	s.call(stack.CallEvent{Name: "listen", FD: 5, Arg: 4096})
	s.add(stack.Event{State: &stack.StateEvent{FD: 5, Local: server, From: "CLOSED", To: "LISTEN"}})
	s.shake()
	s.in(found(7, "ESTABLISHED"), seg{flags: packet.PSH | packet.ACK, seq: 1001, ack: 5001, win: 500, payload: "GET / HTTP/1.1\r\n\r\n"})
	s.read(7, "GET / HTTP/1.1\r\n\r\n")
	s.out(7, "ESTABLISHED", seg{flags: packet.PSH | packet.ACK, seq: 5001, ack: 1019, win: 900, payload: "Hello kitty!"})
	s.in(found(7, "ESTABLISHED"), seg{flags: packet.FIN | packet.ACK, seq: 1019, ack: 5013, win: 500})
	s.state(7, "ESTABLISHED", "CLOSE-WAIT")
	s.out(7, "CLOSE-WAIT", seg{flags: packet.ACK, seq: 5013, ack: 1020, win: 900})
	s.connCall(stack.CallEvent{Name: "close", FD: 7})
	s.out(-1, "LAST-ACK", seg{flags: packet.FIN | packet.ACK, seq: 5013, ack: 1020, win: 900})
	s.state(-1, "CLOSE-WAIT", "LAST-ACK")
	s.in(found(-1, "LAST-ACK"), seg{flags: packet.ACK, seq: 1020, ack: 5014, win: 500})
	s.state(-1, "LAST-ACK", "CLOSED")

	c := s.only()
	closed := c.Closed
	if closed == nil {
		t.Fatal("not closed")
	}
	c.Closed = nil
	want := row{
		ID: 1, Local: "10.9.0.2:80", Remote: "10.9.0.1:40000", Role: "server", State: "CLOSED", Opened: 0.004,
		RX: 18, TX: 12, Packets: 9, FD: 7, Kept: 17,
	}
	if c != want {
		t.Errorf("row\n%+v, want\n%+v", c, want)
	}
	if *closed != 0.02 {
		t.Errorf("closed at %v, want 0.02", *closed)
	}
	if got := s.kinds(1); got != "pspps"+"cpcp"+"psp"+"cpsps" {
		t.Errorf("events %s", got)
	}
	if got := s.kinds(0); got != "cc" {
		t.Errorf("calls of no connection: %s, want socket and listen", got)
	}
	s.has(1, 0, "the SYN", `"k":"p","seq":4,"t":0.004,"out":false`, `"flags":"S"`, `"seqno":1000`, `"win":64000`, `"rel":{"seq":0,"ack":0}`, `"state":"LISTEN"`, `"call":"fd 5 LISTEN"`, `"opts":"mss 1460,nop,wscale 7"`)
	s.has(1, 2, "a SYN-ACK's window is not scaled", `"out":true`, `"flags":"S."`, `"win":60000`, `"rel":{"seq":0,"ack":1}`)
	s.has(1, 3, "the client's window, 500 << 7", `"win":64000,"rwin":500`, `"rel":{"seq":1,"ack":1}`)
	s.has(1, 7, "the read shows no payload", `"name":"read","text":"read(7, \"\"..., 4096)`, `"ret":18`)
	s.has(1, 8, "our window, 900 << 2", `"win":3600,"rwin":900`, `"plen":12`, `"rel":{"seq":1,"ack":19}`)
	for _, l := range append(s.kept(1), s.kept(0)...) {
		if strings.Contains(l, "GET") || strings.Contains(l, "kitty") {
			t.Errorf("payload is shown: %s", l)
		}
	}
	for e := s.r.oldest; e != nil; e = e.newer {
		if e.packet != nil && len(e.packet.ev.Data) > 48 {
			t.Errorf("event %d keeps %d bytes; headers have at most 48", e.seq, len(e.packet.ev.Data))
		}
	}
}

// A client of the stack's, whose story begins with its state.
func TestClient(t *testing.T) {
	s := newStory(t)
	s.local, s.remote = client, server
	s.call(stack.CallEvent{Name: "socket", FD: -1, Ret: 3, Domain: stack.AF_INET})
	s.state(3, "CLOSED", "SYN-SENT")
	s.out(3, "SYN-SENT", seg{flags: packet.SYN, seq: 9, win: 10})
	s.connCall(stack.CallEvent{Name: "connect", FD: 3, Ret: -1, Error: "EINPROGRESS", Addr: server})
	s.in(found(3, "SYN-SENT"), seg{flags: packet.SYN | packet.ACK, seq: 70, ack: 10, win: 10})
	if c := s.only(); c.Role != "client" || c.State != "SYN-SENT" || c.FD != 3 || c.Partial {
		t.Errorf("%+v, want a client in SYN-SENT", c)
	}
	if got := s.kinds(1); got != "spcp" {
		t.Errorf("events %s, want state, SYN, connect, SYN-ACK", got)
	}
	s.has(1, 3, "neither asked for scaling", `"win":10,"rwin":10`)
}

// Outbound losses name the packet, also when it was a super-packet; inbound ones stand alone.
func TestLosses(t *testing.T) {
	s := newStory(t)
	s.shake()
	s.mss = 4
	sent := s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001, payload: "0123456789"})
	s.link(true, "drop", "loss", seg{flags: packet.ACK, seq: 5005, ack: 1001, payload: "4567"})
	s.has(1, -2, "three segments of four bytes", `"segs":3`)
	s.has(1, -1, "the middle one was lost", `"k":"l"`, `"out":true`, `"action":"drop","why":"loss"`, fmt.Sprintf(`"of":%d`, sent), `"rel":{"seq":5,"ack":1}`)
	s.link(false, "drop", "drop tcp ack 2 from client", seg{flags: packet.ACK, seq: 1001, ack: 5011})
	s.has(1, -1, "what never came", `"out":false`, `"of":0`, `"why":"drop tcp ack 2 from client"`)
	ack := s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5011, ack: 1001})
	s.link(true, "delay", "delay", seg{flags: packet.ACK, seq: 5011, ack: 1001})
	s.has(1, -1, "a delay is no loss", fmt.Sprintf(`"of":%d`, ack))
	if c := s.only(); c.Lost != 2 || c.TX != 10 {
		t.Errorf("%+v, want 2 lost and 10 bytes sent", c)
	}
	drops, did := s.r.path[stepImpair].Drops, s.r.path[stepImpair].Did
	if drops["loss"] != 1 || drops["drop tcp ack 2 from client"] != 1 || did["delay"] != 1 {
		t.Errorf("drops %v, did %v", drops, did)
	}
	if in := s.r.path[stepImpair].In - s.r.path[stepRules].In; in != 1 {
		t.Errorf("%d packets were lost between impairment and rules, want 1", in)
	}
}

// A SYN that the link loses is the beginning of the connection that its retransmission opens.
func TestLostSYN(t *testing.T) {
	s := newStory(t)
	s.link(false, "drop", "loss", seg{flags: packet.SYN, seq: 1000, win: 64000, opts: wscale7})
	s.link(false, "delay", "delay", seg{flags: packet.SYN, seq: 1000, win: 64000, opts: wscale7})
	s.shake()
	if c := s.only(); c.State != "ESTABLISHED" || c.Role != "server" || c.Lost != 1 || c.Opened != 0.001 || c.Partial {
		t.Errorf("%+v", c)
	}
	if got := s.kinds(1); got != "llpsppsc" {
		t.Errorf("events %s", got)
	}
}

// Each use of a 4-tuple is a connection of its own; what only looks like a new one is not.
func TestIncarnations(t *testing.T) {
	s := newStory(t)
	s.shake()
	s.in(found(5, "LISTEN"), seg{flags: packet.SYN, seq: 1000, win: 64000, opts: wscale7})
	s.in(found(7, "ESTABLISHED"), seg{flags: packet.SYN, seq: 777}) // answered with a challenge ACK (RFC 5961)
	if c := s.only(); c.State != "ESTABLISHED" {
		t.Fatalf("%+v, want the connection to stand", c)
	}
	s.state(7, "ESTABLISHED", "FIN-WAIT-1")
	s.state(7, "FIN-WAIT-1", "TIME-WAIT")
	// The port is used again, before the end of TIME-WAIT is told.
	first := s.conn()
	s.again()
	s.in(found(-1, "TIME-WAIT"), seg{flags: packet.SYN, seq: 90000, win: 64000, opts: wscale7})
	s.add(stack.Event{Conn: first, State: &stack.StateEvent{FD: -1, Local: s.local, Remote: s.remote, From: "TIME-WAIT", To: "CLOSED"}})
	s.state(-1, "LISTEN", "SYN-RECEIVED")
	s.out(-1, "SYN-RECEIVED", seg{flags: packet.SYN | packet.ACK, seq: 7000, ack: 90001, win: 1, opts: wscale2})
	rows := s.r.rows(true)
	if len(rows) != 2 || rows[0].State != "CLOSED" || rows[1].State != "SYN-RECEIVED" || rows[0].Closed == nil || rows[1].Closed != nil {
		t.Fatalf("%+v", rows)
	}
	s.has(2, -1, "numbers count from the new ones", `"rel":{"seq":0,"ack":1}`)
	if len(s.r.rows(false)) != 1 {
		t.Error("the closed one is listed among the open")
	}
	// A third, begun by the state this time.
	s.again()
	s.state(-1, "LISTEN", "SYN-RECEIVED")
	if rows := s.r.rows(true); len(rows) != 3 || rows[2].ID != 3 || rows[2].Role != "server" || rows[2].Partial || rows[1].Closed == nil {
		t.Errorf("%+v, want a third", rows)
	}
}

// Packets without an identity, of another program's file, tell connections apart by their SYNs.
func TestIncarnationsWithoutIdentity(t *testing.T) {
	s := newStory(t)
	s.anonymous = true
	syn := func(seq uint32) { s.in(nil, seg{flags: packet.SYN, seq: seq, win: 64000, opts: wscale7}) }
	syn(1000)
	syn(1000)
	s.out(-1, "", seg{flags: packet.SYN | packet.ACK, seq: 5000, ack: 1001, win: 60000, opts: wscale2})
	s.in(nil, seg{flags: packet.ACK, seq: 1001, ack: 5001, win: 500})
	if c := s.only(); c.Role != "server" || c.Packets != 4 || c.Partial {
		t.Fatalf("%+v, want one connection", c)
	}
	s.in(&stack.SocketLookup{FD: -1, Answer: "no socket: RST"}, seg{flags: packet.SYN, seq: 7777})
	if c := s.only(); c.Packets != 5 {
		t.Fatalf("%+v, want a SYN that nobody took to begin nothing while the connection stands", c)
	}
	s.in(found(5, "LISTEN"), seg{flags: packet.SYN, seq: 9000})
	if rows := s.r.rows(true); len(rows) != 2 || rows[0].Closed == nil || rows[1].Packets != 1 {
		t.Errorf("%+v, want a second", rows)
	}
}

// Nobody listens: the connection begins and ends with its SYN, and the RST is part of it.
func TestRefused(t *testing.T) {
	s := newStory(t)
	s.in(&stack.SocketLookup{FD: -1, Answer: "no socket: RST"}, seg{flags: packet.SYN, seq: 1})
	s.out(-1, "", seg{flags: packet.RST | packet.ACK, ack: 2})
	if c := s.only(); c.State != "CLOSED" || c.Closed == nil || c.Packets != 2 {
		t.Errorf("%+v", c)
	}
	s.has(1, 0, "why", `"drop":"NO_SOCKET"`, `"call":"no socket: RST"`)
	if s.r.path[stepLookup].Drops["NO_SOCKET"] != 1 {
		t.Errorf("lookup: %+v", s.r.path[stepLookup])
	}
	s.again()
	s.in(&stack.SocketLookup{FD: -1}, seg{flags: packet.SYN, seq: 2})
	if n := len(s.r.rows(true)); n != 2 {
		t.Errorf("%d connections, want a second try to be another", n)
	}
}

func TestDuplicateACK(t *testing.T) {
	s := newStory(t)
	s.shake()
	ack := func(g seg) string {
		s.in(found(7, "ESTABLISHED"), g)
		l := s.kept(1)
		if strings.Contains(l[len(l)-1], `"dup":true`) {
			return "dup"
		}
		return ""
	}
	pure := seg{flags: packet.ACK, seq: 1001, ack: 5001, win: 500}
	if ack(pure) != "" {
		t.Error("nothing is outstanding: a window probe's answer or a keepalive, no duplicate ACK")
	}
	s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001, payload: "0123456789"})
	if ack(pure) != "dup" {
		t.Error("data is outstanding, and the ACK says the same again")
	}
	moved := pure
	moved.win = 600
	if ack(moved) != "" {
		t.Error("a window update is no duplicate (RFC 5681 section 2)")
	}
	sack := moved
	sack.win, sack.opts = 700, []byte{1, 1, packet.OptSACK, 10, 0, 0, 0x13, 0x8d, 0, 0, 0x13, 0x8f}
	if ack(sack) != "dup" {
		t.Error("with SACK blocks it is one, whatever the window does")
	}
	s.has(1, -1, "the blocks", `"sack":[[5005,5007]]`, `"opts":"nop,nop,sack 1 {5005:5007}"`)
	data := pure
	data.payload = "x"
	if ack(data) != "" {
		t.Error("a segment with data is no duplicate ACK")
	}
}

// However long a connection lasts, its handshake is kept, and what is missing after it is a gap at its place.
func TestBeginningIsKept(t *testing.T) {
	s := newStory(t)
	s.r.max.connEvents, s.r.max.beginning = 10, 4
	s.shake()
	for range 20 {
		s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001})
		s.check()
	}
	if got := s.kinds(1); got != "pspp(gap 16)pppppp" {
		t.Errorf("events %s", got)
	}
	if s.r.entry(1) == nil || s.r.entry(10) != nil {
		t.Error("the first event is not found, or one that is not kept is")
	}
}

// Events that the stack lost, and those that were forgotten, are gaps at their place.
func TestGaps(t *testing.T) {
	s := newStory(t)
	s.r.max.connEvents, s.r.max.beginning = 6, 0
	s.shake()
	if got := s.kinds(1); got != "psppsc" {
		t.Fatalf("events %s", got)
	}
	s.seq += 10
	s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001})
	if got := s.kinds(1); got != "(gap 1)sppsc(gap 10)p" {
		t.Errorf("events %s", got)
	}
	if s.r.lost != 10 {
		t.Errorf("%d events lost, want 10", s.r.lost)
	}
	// A reader that was there is told no more than it missed.
	cur := s.r.cursor(s.r.find(1))
	for {
		if b, _ := s.r.read(&cur, nil, 2); len(b) == 0 {
			break
		}
	}
	for range 9 {
		s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001})
	}
	batch, gap := s.r.read(&cur, nil, maxBatch)
	if gap != 3 || len(batch) != 6 {
		t.Errorf("%d events after a gap of %d, want 6 after 3", len(batch), gap)
	}
	// A connection that began after a loss does not tell of it.
	s.remote = netip.MustParseAddrPort("10.9.0.1:40001")
	s.shake()
	if got := s.kinds(2); got != "psppsc" {
		t.Errorf("events %s", got)
	}
}

// check compares the recorder's lists with each other.
func (s *story) check() {
	s.t.Helper()
	r := s.r
	n := 0
	for e := r.oldest; e != nil; e = e.newer {
		n++
		if e.newer == nil && e != r.newest {
			s.t.Fatal("the list does not end with the newest entry")
		}
	}
	sum := r.calls.kept.Len() + r.stray.kept.Len()
	for _, c := range r.byID {
		sum += c.kept.Len()
	}
	if n != r.events || n != sum {
		s.t.Fatalf("%d entries in the list, %d counted, %d in the connections", n, r.events, sum)
	}
	if len(r.byID) != r.open.Len()+r.done.Len() || len(r.byKey) > len(r.byID) || len(r.byConn) > len(r.byID) {
		s.t.Fatalf("%d connections, %d open, %d done, %d keys, %d identities", len(r.byID), r.open.Len(), r.done.Len(), len(r.byKey), len(r.byConn))
	}
	if len(r.byID) > r.max.connections || n > r.max.events {
		s.t.Fatalf("%d connections and %d events are beyond the limits", len(r.byID), n)
	}
}

// Limits hold, closed connections go first, and of open ones the oldest.
func TestLimits(t *testing.T) {
	s := newStory(t)
	s.r.max.events, s.r.max.connections = 50, 4
	conn := func(port uint16) {
		s.remote = netip.AddrPortFrom(client.Addr(), port)
		s.shake()
		s.check()
	}
	ids := func() (list []int) {
		for _, c := range s.r.rows(true) {
			list = append(list, c.ID)
		}
		return list
	}
	for port := range uint16(4) {
		conn(40000 + port)
	}
	s.state(7, "ESTABLISHED", "CLOSED") // the fourth
	conn(50000)
	if got := ids(); !slices.Equal(got, []int{1, 2, 3, 5}) {
		t.Errorf("connections %v are kept, want the closed one to be gone", got)
	}
	conn(50001)
	if got := ids(); !slices.Equal(got, []int{2, 3, 5, 6}) {
		t.Errorf("connections %v are kept, want the oldest to be gone", got)
	}
	for range 200 {
		s.out(7, "ESTABLISHED", seg{flags: packet.ACK, seq: 5001, ack: 1001})
		s.check()
	}
	if n := s.r.find(2).kept.Len(); n != 0 || s.r.events != 50 {
		t.Errorf("%d events, %d of the oldest connection; want the newest 50 of all", s.r.events, n)
	}
	for i := range 300 {
		s.call(stack.CallEvent{Name: "socket", FD: -1, Ret: int64(i), Domain: stack.AF_INET})
		s.check()
	}
}

// What the dashboard itself does on the stack is not recorded.
func TestHidden(t *testing.T) {
	s := newStory(t)
	s.r.hide(8098, []int{5})
	s.local = netip.MustParseAddrPort("10.9.0.2:8098")
	s.call(stack.CallEvent{Name: "accept4", FD: 5, Ret: -1, Error: "EAGAIN"})
	s.shake()
	s.read(7, "GET")
	s.link(true, "drop", "loss", seg{flags: packet.ACK, seq: 5001, ack: 1001})
	s.connCall(stack.CallEvent{Name: "close", FD: 7})
	s.state(-1, "ESTABLISHED", "CLOSED")
	s.check()
	if n := len(s.r.rows(true)); n != 0 || s.r.events != 0 || len(s.r.byID) != 0 {
		t.Errorf("%d rows, %d events, %d connections", n, s.r.events, len(s.r.byID))
	}
	for _, st := range s.r.path {
		if st.In+st.Out+uint64(len(st.Drops)+len(st.Did)) != 0 {
			t.Errorf("counted: %+v", st)
		}
	}
	// The next user of the fd is not hidden.
	s.local = server
	s.remote = netip.MustParseAddrPort("10.9.0.1:40002")
	s.in(found(6, "LISTEN"), seg{flags: packet.SYN, seq: 1})
	s.accept(6, 7)
	s.read(7, "GET")
	if got := s.kinds(1); got != "pcc" {
		t.Errorf("events %s", got)
	}
}

// Payload is kept when it is asked for, and else no part of it.
func TestPayload(t *testing.T) {
	for _, shown := range []bool{false, true} {
		s := newStory(t)
		s.r = NewRecorder(epoch, shown)
		s.shake()
		s.in(found(7, "ESTABLISHED"), seg{flags: packet.ACK, seq: 1001, ack: 5001, payload: "secret"})
		s.link(false, "delay", "delay", seg{flags: packet.ACK, seq: 1001, ack: 5001, payload: "secret"})
		s.read(7, "secret")
		s.connCall(stack.CallEvent{Name: "recvmsg", FD: 7, Ret: 6, Message: &event.Message{Buffers: []event.Buffer{*buffer("secret")}}})
		var all strings.Builder
		for e := s.r.oldest; e != nil; e = e.newer {
			fmt.Fprintf(&all, "%+v\n", e.json())
			if e.packet != nil {
				fmt.Fprintf(&all, "%s\n", e.packet.ev.Data)
			}
			if e.link != nil {
				fmt.Fprintf(&all, "%s\n", e.link.ev.Data)
			}
			if e.call != nil {
				for _, b := range buffers(e.call) {
					fmt.Fprintf(&all, "%s\n", b.Data)
				}
			}
		}
		want := 0
		if shown {
			want = 6 // two packets; the read and the recvmsg, with their texts
		}
		if got := strings.Count(all.String(), "secret"); (got > 0) != shown || got < want {
			t.Errorf("payload shown %v: %d times, want at least %d", shown, got, want)
		}
	}
}

// buffers are those of a call.
func buffers(k *stack.CallEvent) (all []event.Buffer) {
	if k.Buffer != nil {
		all = append(all, *k.Buffer)
	}
	if k.Message != nil {
		all = append(all, k.Message.Buffers...)
	}
	return all
}

// After a pause, or when it begins late, the recorder knows what is there, and what is there no more.
func TestResume(t *testing.T) {
	s := newStory(t)
	s.shake()
	s.remote = netip.MustParseAddrPort("10.9.0.1:40001")
	s.shake()
	sock := func(id uint64, remote string) stack.SocketInfo {
		return stack.SocketInfo{ID: id, FD: int(id), Network: "tcp", Local: server, Remote: netip.MustParseAddrPort(remote), State: "ESTABLISHED"}
	}
	resume := func(k ...stack.SocketInfo) string {
		s.seq = 0 // another subscription
		s.now = s.now.Add(time.Second)
		s.r.resume(append(k, stack.SocketInfo{Network: "tcp", State: "LISTEN", Local: server}), s.now)
		var b strings.Builder
		for _, c := range s.r.rows(true) {
			fmt.Fprintf(&b, "%d %s closed=%v partial=%v\n", c.ID, c.Remote, c.Closed != nil, c.Partial)
		}
		s.check()
		return b.String()
	}
	if got, want := resume(sock(s.conn(), "10.9.0.1:40001"), sock(11, "10.9.0.1:40002")), `1 10.9.0.1:40000 closed=true partial=false
2 10.9.0.1:40001 closed=false partial=false
3 10.9.0.1:40002 closed=false partial=true
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// The socket is another one: the connection was over, and its addresses are used again.
	if got, want := resume(sock(12, "10.9.0.1:40001")), `1 10.9.0.1:40000 closed=true partial=false
2 10.9.0.1:40001 closed=true partial=false
3 10.9.0.1:40002 closed=true partial=true
4 10.9.0.1:40001 closed=false partial=true
`; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	s.conns[[2]netip.AddrPort{s.local, s.remote}] = 12
	before := s.r.seq
	s.read(12, "x")
	if s.kinds(4) != "c" || s.r.lost != 0 || s.r.seq != before+1 {
		t.Errorf("events %q, lost %d, number %d after %d", s.kinds(4), s.r.lost, s.r.seq, before)
	}
}

// A connection whose end was missed ends when the stack does not know it any more.
func TestSweep(t *testing.T) {
	s := newStory(t)
	s.shake()
	s.r.sweep(nil, s.now.Sub(epoch))
	if s.only().Closed != nil {
		t.Error("it was heard of a moment ago")
	}
	s.r.sweep([]stack.SocketInfo{{Network: "tcp", Local: server, Remote: client}}, s.now.Sub(epoch)+time.Hour)
	if s.only().Closed != nil {
		t.Error("the stack knows it")
	}
	s.r.sweep(nil, s.now.Sub(epoch)+2*staleAfter)
	if s.only().Closed == nil {
		t.Error("the stack does not know it, and nothing was heard of it")
	}
}

// What is no TCP, or no packet, is kept beside the connections.
func TestStray(t *testing.T) {
	s := newStory(t)
	udp := []byte{0x45, 0, 0, 32, 0, 0, 0, 0, 64, packet.ProtoUDP, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2, 0, 9, 0, 53, 0, 12, 0, 0, 's', 'e', 'c', 'r'}
	for _, b := range [][]byte{udp, {0x45}, {0xff, 1, 2, 3}, {}} {
		s.add(stack.Event{Packet: &stack.PacketEvent{Dev: "cat0", Len: len(b), Data: b, FD: -1}})
		s.add(stack.Event{Link: &stack.LinkEvent{Dev: "cat0", Action: "drop", Why: "loss", Len: len(b), Data: b}})
	}
	// TCP of which not even the header was kept.
	whole := seg{flags: packet.ACK, seq: 1}.bytes(client, server)
	s.add(stack.Event{Packet: &stack.PacketEvent{Dev: "cat0", Len: len(whole), Data: whole[:30], FD: -1}})
	s.check()
	if n := s.r.stray.kept.Len(); n != 5 || len(s.r.rows(true)) != 0 {
		t.Errorf("%d packets kept, %d connections; want 5 and none", n, len(s.r.rows(true)))
	}
	if d := s.r.stray.kept.At(0).packet.ev.Data; len(d) != 28 {
		t.Errorf("%d bytes of the datagram are kept, want its headers' 28", len(d))
	}
}

func BenchmarkRecorder(b *testing.B) {
	s := newStory(b)
	s.shake()
	g := seg{flags: packet.ACK, seq: 5001, ack: 1001, win: 500, opts: []byte{1, 1, packet.OptTimestamp, 10, 0, 0, 0, 1, 0, 0, 0, 2}}
	data := g.bytes(server, client)
	route := &stack.RouteLookup{Tries: make([]stack.RouteTry, 2)}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r := *route
		s.seq++
		s.r.Add(&stack.Event{Seq: s.seq, Time: epoch.Add(time.Duration(i)), Conn: s.conn(), Packet: &stack.PacketEvent{
			Out: true, Dev: "cat0", Len: len(data), Data: data, FD: 7, State: "ESTABLISHED", Route: &r,
		}})
	}
}
