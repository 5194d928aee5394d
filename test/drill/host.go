package drill

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// HostConfig says who talks to whom.
type HostConfig struct {
	// Local is the address of the stack under test, and the port that packets without ports are sent to. If the port is
	// zero, 8080.
	Local netip.AddrPort
	// Remote is the address that the test plays; its ports follow from the connection.
	Remote netip.Addr
}

// Host is the peer of a stack under test: it sends packets and says which ones it expects back, in the notation of
// packetdrill ("S. 0:0(0) ack 1 <mss 1460>"). Sequence numbers count from the initial ones, a field left out of an expected
// packet is not looked at, and <...> stands for any options. Time is the wire's and stands still except in
// [Host.Advance] and [Host.ExpectNothing].
//
// A packet that differs, or does not come, fails the test at once. A packet that nobody expects is found by the next
// Expect or ExpectNothing. A Host is used by one goroutine.
type Host struct {
	t testing.TB
	w *Wire
	r *runner
}

// wireTarget is a target without socket calls: a Host has none to make.
type wireTarget struct {
	*Wire
	sockets
}

func (t wireTarget) elapsed() time.Duration { return t.clock.Elapsed() }
func (t wireTarget) inject(b []byte) error  { t.Inject(b); return nil }
func (t wireTarget) sent() (Frame, bool)    { return t.Sent() }
func (t wireTarget) begin()                 {}
func (t wireTarget) stop()                  {}
func (t wireTarget) advance(until time.Duration, stop func() bool) bool {
	return t.advanceTo(until, stop)
}

// NewHost returns a host at the far end of a wire.
func NewHost(t testing.TB, w *Wire, cfg HostConfig) *Host {
	t.Helper()
	if !cfg.Local.Addr().IsValid() || cfg.Local.Addr().Is4() != cfg.Remote.Is4() {
		t.Fatalf("drill: local address %s and remote address %s must be of one family", cfg.Local.Addr(), cfg.Remote)
	}
	set := defaultSettings()
	set.local, set.remote = netip.PrefixFrom(cfg.Local.Addr(), cfg.Local.Addr().BitLen()), cfg.Remote
	set.mtu = int(w.endpoint.MTU())
	set.strict = true
	set.tolerance, set.percent = 0, 0
	if cfg.Remote.Is6() {
		set.ipVersion = "ipv6"
	}
	if p := cfg.Local.Port(); p != 0 {
		set.bindPort = p
	}
	h := &Host{t: t, w: w, r: newRunner(&Script{Name: "packet"}, set, wireTarget{Wire: w})}
	// A test may dial from the stack at any time; its SYN starts the conversation.
	h.r.adopt = true
	return h
}

// parse reads one packet; a mistake in it ends the test.
func (h *Host) parse(dir Direction, text string) *Packet {
	h.t.Helper()
	s := &Script{Name: "packet", source: strings.Split(text, "\n")}
	h.r.script = s
	var pk *Packet
	err := guard(func() {
		p := &parser{scanner: newScanner(s, text)}
		pk = &Packet{Pos: p.here(), Dir: dir}
		p.packetBody(pk)
		if !p.eof() {
			p.expected("the end of the packet")
		}
	})
	if err != nil {
		h.t.Fatalf("drill: %v", err)
	}
	return pk
}

// Send sends a packet to the stack and waits until the stack has dealt with it. A SYN without ports starts a new
// connection from the next port.
func (h *Host) Send(packet string) {
	h.t.Helper()
	pk := h.parse(In, packet)
	if pk.TCP != nil && pk.TCP.AnyOptions {
		h.t.Fatalf("drill: %q: a packet to the stack needs its options written out", packet)
	}
	if err := h.r.inject(pk); err != nil {
		h.t.Fatalf("drill: %v", err)
	}
}

// SendRaw sends bytes, an IP packet or what a broken host takes for one.
func (h *Host) SendRaw(data []byte) {
	h.w.Inject(data)
	h.r.collect()
}

// NewConnection makes the next SYN that is sent without ports start a connection of its own.
func (h *Host) NewConnection() { h.r.listening = true }

// Advance lets time go on. Packets that the stack sends meanwhile are kept for Expect.
func (h *Host) Advance(d time.Duration) {
	h.t.Helper()
	if err := h.r.advance(h.r.target.elapsed()+d, func() bool { return false }); err != nil {
		h.t.Fatal(err)
	}
}

// Sent reports whether the stack has sent a packet that nobody has expected yet.
func (h *Host) Sent() bool {
	h.w.Settle()
	h.r.collect()
	return len(h.r.queue) > 0
}

// Expect takes packets that the stack has sent by now, and holds them against the given ones, in order. why says what they
// show: "the SYN is answered".
func (h *Host) Expect(why string, packets ...string) {
	h.t.Helper()
	h.w.Settle()
	h.r.collect()
	for _, text := range packets {
		pk := h.parse(Out, text)
		if len(h.r.queue) == 0 {
			h.fail(why, "the stack sent nothing", "expected: > "+pk.text())
		}
		s := h.r.queue[0]
		h.r.queue = h.r.queue[1:]
		if pk.ICMP != nil {
			if err := h.r.resolveICMP(pk); err != nil {
				h.t.Fatalf("drill: %v", err)
			}
		}
		if _, err := h.r.match(&Event{Pos: pk.Pos, Packet: pk}, pk, s); err != nil {
			f := err.(*Failure)
			h.fail(why, f.Msg, f.Detail)
		}
	}
}

// ExpectNothing lets time go on and fails if the stack sends anything. why says what the silence shows.
func (h *Host) ExpectNothing(why string, d time.Duration) {
	h.t.Helper()
	if err := h.r.advance(h.r.target.elapsed()+d, func() bool { return len(h.r.queue) > 0 }); err != nil {
		h.t.Fatal(err)
	}
	if len(h.r.queue) > 0 {
		h.fail(why, "the stack sent a packet", "actual:   "+h.r.queue[0].text())
	}
}

func (h *Host) fail(why, what, detail string) {
	h.t.Helper()
	var s strings.Builder
	s.WriteString(why + ": " + what + "\n")
	indent(&s, "  ", detail)
	if before := h.r.before(); len(before) > 0 {
		s.WriteString("  packets so far:\n")
		indent(&s, "    ", strings.Join(before, "\n"))
	}
	h.t.Fatal(strings.TrimRight(s.String(), "\n"))
}
