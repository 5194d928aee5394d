package stack

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/catflap/catflap/internal/packet"
)

// followed is a stack on virtual time, all of whose events are kept.
type followed struct {
	*wire
	t     *testing.T
	clock *faketime.ManualClock
	sub   *Subscription
}

func follow(t *testing.T, cfg Config) *followed {
	clock := faketime.NewManualClock()
	cfg.Clock = clock
	f := &followed{t: t, wire: newWire(t, cfg), clock: clock}
	f.subscribe()
	return f
}

func (f *followed) subscribe() {
	f.sub = f.s.SubscribeWith(f.t.Context(), SubscribeConfig{Buffer: 10000, Kinds: AllEvents})
	f.t.Cleanup(f.sub.Close)
}

// events takes what has happened so far.
func (f *followed) events() (all []Event) {
	f.t.Helper()
	f.s.Quiesce()
	f.clock.RunImmediatelyScheduledJobs()
	f.s.events.lookAgain()
	for len(f.sub.Events()) > 0 {
		all = append(all, <-f.sub.Events())
	}
	return all
}

// send has a segment arrive, and waits until it is processed.
func (f *followed) send(t FourTuple, flags packet.Flags, seq, ack uint32, data string) {
	f.t.Helper()
	f.inject(segment(f.t, t, flags, seq, ack, data))
	f.s.Quiesce()
}

// in words what an event is, without what does not matter here.
func (f *followed) kind(ev Event) string {
	switch {
	case ev.Packet != nil:
		p, err := packet.ParseStart(ev.Packet.Data, ev.Packet.Len)
		must(f.t, err)
		way := "in "
		if ev.Packet.Out {
			way = "out "
		}
		if p.TCP == nil {
			return way + "no TCP"
		}
		return way + p.TCP.Flags.String()
	case ev.Call != nil:
		return ev.Call.Name
	case ev.State != nil:
		return ev.State.From + " → " + ev.State.To
	case ev.Sample != nil:
		return "sample"
	case ev.Timer != nil:
		return ev.Timer.Name + " " + ev.Timer.Action
	}
	return "link"
}

// one fails unless all events are about one connection, and returns its identity.
func (f *followed) one(why string, events []Event) uint64 {
	f.t.Helper()
	if len(events) == 0 {
		f.t.Fatalf("%s: there are no events", why)
	}
	for _, ev := range events {
		if ev.Conn == 0 || ev.Conn != events[0].Conn {
			f.t.Errorf("%s: %q is about connection %d, %q about %d", why, f.kind(events[0]), events[0].Conn, f.kind(ev), ev.Conn)
		}
	}
	return events[0].Conn
}

// states are the changes of state of a connection, in their order.
func states(events []Event, id uint64) string {
	var list []string
	for _, ev := range events {
		if ev.State != nil && ev.Conn == id {
			if len(list) == 0 {
				list = append(list, ev.State.From)
			}
			list = append(list, ev.State.To)
		}
	}
	return strings.Join(list, " ")
}

// has fails unless there are events of these kinds.
func (f *followed) has(events []Event, kinds ...string) {
	f.t.Helper()
	var there []string
	for _, ev := range events {
		there = append(there, f.kind(ev))
	}
	for _, k := range kinds {
		if !slices.Contains(there, k) {
			f.t.Errorf("there is no %q in %q", k, there)
		}
	}
}

// One identity is in every event of a connection, from the first SYN to the end of
// TIME-WAIT; the next connection of the same addresses has another.
func TestIdentityPassive(t *testing.T) {
	for _, addrs := range [][2]string{{"10.9.0.1:5000", "10.9.0.2:80"}, {"[fd00:9::1]:5000", "[fd00:9::2]:80"}} {
		f := follow(t, Config{TCP: TCPConfig{TimeWait: time.Minute}})
		tu := tuple("tcp", addrs[0], addrs[1])
		l, err := f.s.ListenTCP("tcp", tu.Dst.String(), 5)
		must(t, err)
		for _, ev := range f.events() {
			if ev.Conn != 0 {
				t.Errorf("%q of the listener is about connection %d", f.kind(ev), ev.Conn)
			}
		}

		var ids []uint64
		seq := uint32(1000)
		for round := range 3 {
			// The second begins when the first's TIME-WAIT is over, the third within the second's.
			var all []Event
			f.send(tu, packet.SYN, seq, 0, "")
			f.send(tu, packet.SYN, seq, 0, "") // sent again
			ack := f.read(t)[0].TCP.Seq + 1
			f.clock.Advance(time.Second) // the SYN-ACK is sent again
			f.send(tu, packet.ACK, seq+1, ack, "")
			c, err := l.AcceptTCP()
			must(t, err)
			all = append(all, f.events()...)
			all = slices.DeleteFunc(all, func(ev Event) bool {
				if ev.State != nil && ev.State.From == "TIME-WAIT" && len(ids) > 0 && ev.Conn == ids[len(ids)-1] {
					return true // the end of the one before
				}
				return ev.Call != nil && ev.Conn == 0 && ev.Call.Error == "EAGAIN" || ev.Timer != nil && len(ids) > 0 && ev.Conn == ids[len(ids)-1]
			})
			id := f.one("handshake", all)
			f.has(all, "in S", "out S.", "LISTEN → SYN-RECEIVED", "retransmission fired", "in .", "SYN-RECEIVED → ESTABLISHED", "accept4", "setsockopt", "sample")
			if info := c.Info(); info.ID != id {
				t.Errorf("the socket has number %d, its connection %d", info.ID, id)
			}
			f.send(tu, packet.ACK|packet.PSH, seq+1, ack, "meow")
			_, err = io.ReadFull(c, make([]byte, 4))
			must(t, err)
			_, err = io.WriteString(c, "purr")
			must(t, err)
			conn := tcpOf(c.fd.k.ep)
			must(t, c.Close())
			f.read(t)
			// The ACK of the FIN and the other FIN are processed together, in three ways.
			conn.Lock()
			between := "FIN-WAIT-2"
			switch round {
			case 0:
				f.inject(segment(t, tu, packet.ACK, seq+5, ack+5, ""))
				f.inject(segment(t, tu, packet.ACK|packet.FIN, seq+5, ack+5, ""))
			case 1:
				f.inject(segment(t, tu, packet.ACK|packet.FIN, seq+5, ack+5, ""))
			case 2:
				f.inject(segment(t, tu, packet.ACK|packet.FIN, seq+5, ack+4, ""))
				f.inject(segment(t, tu, packet.ACK, seq+6, ack+5, ""))
				between = "CLOSING"
			}
			conn.Unlock()
			f.s.Quiesce()
			for _, k := range f.s.Sockets() {
				if k.State == "TIME-WAIT" && k.ID != id {
					t.Errorf("TIME-WAIT has number %d, its connection %d", k.ID, id)
				}
			}
			life := f.events()
			if got := f.one("life", life); got != id {
				t.Errorf("after the handshake the connection is %d, in it %d", got, id)
			}
			f.has(life, "in P.", "read", "out P.", "write", "close", "out F.", "in F.", "time-wait set")
			if got, want := states(append(all, life...), id), "LISTEN SYN-RECEIVED ESTABLISHED FIN-WAIT-1 "+between+" TIME-WAIT"; got != want {
				t.Errorf("states %s, want %s", got, want)
			}
			if round == 0 {
				f.clock.Advance(time.Minute)
				end := f.events()
				if got := f.one("end", end); got != id {
					t.Errorf("the end is of connection %d, want %d", got, id)
				}
				f.has(end, "TIME-WAIT → CLOSED", "time-wait fired")
				f.send(tu, packet.ACK, seq+6, ack+5, "")
				for _, ev := range f.events() {
					if ev.Conn != 0 {
						t.Errorf("after the end %q is about connection %d", f.kind(ev), ev.Conn)
					}
				}
			}
			if slices.Contains(ids, id) {
				t.Errorf("identity %d is used again: %v", id, ids)
			}
			ids = append(ids, id)
			f.raw()
			seq += 100000
		}
		must(t, l.Close())
	}
}

// What this stack opens has its identity from its own SYN on.
func TestIdentityActive(t *testing.T) {
	f := follow(t, Config{})
	y := f.s.Sys()
	var ids []uint64
	for range 2 {
		fd, err := y.Socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK, 0)
		must(t, err)
		must(t, y.Bind(fd, netip.MustParseAddrPort("10.9.0.2:6000")))
		for _, ev := range f.events() {
			if ev.Conn != 0 {
				t.Errorf("%q is about connection %d before there is one", f.kind(ev), ev.Conn)
			}
		}
		y.Connect(fd, netip.MustParseAddrPort("10.9.0.1:80"))
		f.clock.Advance(time.Second) // the SYN is sent again
		syn := f.read(t)[0].TCP
		tu := tuple("tcp", "10.9.0.1:80", "10.9.0.2:6000")
		f.send(tu, packet.SYN|packet.ACK, 500, syn.Seq+1, "")
		f.send(tu, packet.RST|packet.ACK, 501, syn.Seq+1, "")
		y.Read(fd, make([]byte, 1))
		must(t, y.Close(fd))
		all := f.events()
		id := f.one("life", all)
		f.has(all, "CLOSED → SYN-SENT", "out S", "connect", "retransmission fired", "in S.", "SYN-SENT → ESTABLISHED", "out .", "in R.", "ESTABLISHED → CLOSED", "read", "close")
		if slices.Contains(ids, id) {
			t.Errorf("identity %d is used again", id)
		}
		ids = append(ids, id)
		f.raw()
	}
}

// A SYN that nobody takes and the RST that refuses it are about one attempt; the next
// attempt is another.
func TestIdentityRefused(t *testing.T) {
	f := follow(t, Config{})
	tu := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:81")
	f.send(tu, packet.SYN, 7, 0, "")
	first := f.events()
	f.has(first, "in S", "out R.")
	f.send(tu, packet.SYN, 7, 0, "")
	second := f.events()
	if a, b := f.one("first", first), f.one("second", second); a == b {
		t.Errorf("two attempts are connection %d", a)
	}
}

// With SYN cookies there is no connection between the SYN and the ACK; they are about
// one all the same.
func TestIdentityWithCookies(t *testing.T) {
	f := follow(t, Config{})
	tu := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	l, err := f.s.ListenTCP("tcp", tu.Dst.String(), 0)
	must(t, err)
	defer l.Close()
	f.events()
	f.send(tu, packet.SYN, 7, 0, "")
	f.send(tu, packet.ACK, 8, f.read(t)[0].TCP.Seq+1, "")
	c, err := l.AcceptTCP()
	must(t, err)
	defer c.Close()
	all := slices.DeleteFunc(f.events(), func(ev Event) bool { return ev.Call != nil && ev.Call.Error == "EAGAIN" })
	id := f.one("all", all)
	if got, want := states(all, id), "LISTEN ESTABLISHED"; got != want {
		t.Errorf("states %s, want %s", got, want)
	}
}

// A connection that has a socket keeps its identity when nobody listens for a while.
func TestIdentityStays(t *testing.T) {
	f := follow(t, Config{})
	tu := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	l, err := f.s.ListenTCP("tcp", tu.Dst.String(), 5)
	must(t, err)
	defer l.Close()
	f.sub.Close()
	f.send(tu, packet.SYN, 7, 0, "")
	ack := f.read(t)[0].TCP.Seq + 1
	f.send(tu, packet.ACK, 8, ack, "")
	c, err := l.AcceptTCP()
	must(t, err)
	defer c.Close()
	seq := uint32(8)
	for range 2 {
		f.subscribe()
		f.send(tu, packet.ACK|packet.PSH, seq, ack, "x")
		seq++
		if got, want := f.one("a segment", f.events()), c.Info().ID; got != want {
			t.Errorf("connection %d, its socket has number %d", got, want)
		}
		f.sub.Close()
	}
	if n := len(f.s.events.watched) + len(f.s.events.pairs) + len(f.s.events.due); n != 0 {
		t.Errorf("nobody listens, and %d connections are followed", n)
	}
}

// SYNs that lead nowhere are forgotten, the oldest first.
func TestAskedIsBounded(t *testing.T) {
	s := newStack(t, Config{})
	h := &s.events
	defer s.Subscribe(t.Context(), 1).Close()
	at := func(i int) pair {
		return pair{netip.MustParseAddrPort("10.9.0.2:80"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	first := h.askedLocked(at(0), 1)
	for i := range maxAsked {
		h.askedLocked(at(i), 1)
	}
	if again := h.askedLocked(at(0), 1); again != first || len(h.pairs) != maxAsked {
		t.Errorf("%d SYNs are remembered, want %d; the first is connection %d, then %d", len(h.pairs), maxAsked, first, again)
	}
	h.askedLocked(at(maxAsked), 1)
	if again := h.askedLocked(at(0), 1); again == first || len(h.pairs) != maxAsked || len(h.asked) != maxAsked {
		t.Errorf("%d and %d SYNs are remembered, want %d; the first is still connection %d", len(h.pairs), len(h.asked), maxAsked, again)
	}
}
