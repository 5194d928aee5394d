package record

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
	"github.com/catflap/catflap/tun/capture"
)

var epoch = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

// Flags of segment.
const (
	syn = 1 << iota
	ack
	out
)

// segment builds a TCP segment with gopacket, from the client at port 40000 or, with out, from the server.
func segment(t testing.TB, flags int, seq uint32, size int) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 9, 0, 1}, DstIP: net.IP{10, 9, 0, 2}}
	h := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: seq, SYN: flags&syn != 0, ACK: flags&ack != 0, Window: 500}
	if flags&out != 0 {
		ip.SrcIP, ip.DstIP = ip.DstIP, ip.SrcIP
		h.SrcPort, h.DstPort = h.DstPort, h.SrcPort
	}
	if err := h.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, ip, h, gopacket.Payload(bytes.Repeat([]byte("purr"), size/4))); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var (
	local  = netip.MustParseAddrPort("10.9.0.2:80")
	remote = netip.MustParseAddrPort("10.9.0.1:40000")
)

// story is a short life of a connection, with every kind of event.
func story(t testing.TB) (events []stack.Event) {
	rule := stack.Rule{Family: stack.IPv4, Table: stack.TableLocal}
	route := stack.Route{Type: stack.Local, Dst: netip.MustParsePrefix("10.9.0.2/32"), Dev: "cat0", Table: stack.TableLocal}
	lookup := &stack.RouteLookup{
		Query: stack.RouteQuery{Dst: local.Addr(), Src: remote.Addr(), IIF: "cat0"},
		Tries: []stack.RouteTry{{Rule: rule, Route: &route, Why: "matched", Match: true}}, Rule: &rule, Route: &route,
	}
	listener := &stack.SocketLookup{
		Tuple: stack.FourTuple{Network: "tcp", Src: remote, Dst: local},
		Tries: []stack.SocketTry{
			{Step: stack.StepExact, Candidate: "10.9.0.1:40000 → 10.9.0.2:80", FD: -1, Why: "no such connection"},
			{Step: stack.StepPort, Candidate: "*:80", FD: 3, Local: netip.MustParseAddrPort("0.0.0.0:80"), State: "LISTEN", Match: true, Why: "it listens"},
		},
		Found: true, FD: 3, State: "LISTEN", Answer: "listener *:80",
	}
	in := func(flags int, seq uint32, size int) *stack.PacketEvent {
		b := segment(t, flags, seq, size)
		return &stack.PacketEvent{Dev: "cat0", Len: len(b), Data: b, Route: lookup, Socket: listener, FD: 3}
	}
	sent := func(flags int, seq uint32, size int) *stack.PacketEvent {
		b := segment(t, flags|out, seq, size)
		return &stack.PacketEvent{Out: true, Dev: "cat0", Len: len(b), Data: b, FD: 5, State: "ESTABLISHED"}
	}
	lost := segment(t, ack, 101, 0)
	again := sent(ack, 501, 1000)
	again.Retransmit = stack.CauseRACK
	refused := in(syn, 1, 0)
	refused.Socket, refused.Drop, refused.FD = &stack.SocketLookup{Tuple: listener.Tuple, FD: -1, Answer: "none: RST"}, "NO_SOCKET", -1
	super := sent(ack, 501, 4000)
	super.GSO = 1400
	snapped := sent(ack, 4501, 4000)
	snapped.Data = snapped.Data[:100]
	for _, ev := range []stack.Event{
		{Call: &stack.CallEvent{Name: "listen", FD: 3, Arg: 128, Start: epoch, Duration: time.Microsecond}},
		{Packet: in(syn, 100, 0)},
		{State: &stack.StateEvent{FD: -1, Local: local, Remote: remote, From: "LISTEN", To: "SYN-RECEIVED"}},
		{Packet: sent(syn|ack, 500, 0)},
		{Timer: &stack.TimerEvent{FD: -1, Local: local, Remote: remote, Name: "retransmission", Action: "set", After: time.Second}},
		{Link: &stack.LinkEvent{Dev: "cat0", Action: "drop", Why: "loss", Len: len(lost), Data: lost}},
		{Link: &stack.LinkEvent{Dev: "cat0", Action: "drop", Why: "drop tcp data 2", Rule: true, Out: true, Len: len(lost), Data: lost}},
		{Link: &stack.LinkEvent{Dev: "cat0", Action: "delay", Why: "delay", Delay: 20 * time.Millisecond, Len: len(lost), Data: lost}},
		{Packet: in(ack, 101, 0)},
		{Sample: &stack.SampleEvent{FD: 5, Local: local, Remote: remote, SRTT: 20 * time.Millisecond, RTTVar: time.Millisecond, RTO: 220 * time.Millisecond,
			Cwnd: 10, Ssthresh: 7, MSS: 1448, InFlight: 1448, Unsent: 9, SndWnd: 64240, RcvWnd: 65535, SndUna: 501, SndNxt: 1949, RcvNxt: 101, Recovery: "SACK", Limit: "receive window"}},
		{Packet: again},
		{Packet: super},
		{Packet: snapped},
		{Packet: refused},
		{Call: &stack.CallEvent{Name: "read", FD: 5, Buffer: &event.Buffer{Size: 4096, Len: 7, Data: []byte("GET /\r\n")}, Ret: 7, Start: epoch}},
		{Call: &stack.CallEvent{Name: "accept4", FD: 3, Addr: remote, Flags: stack.SOCK_CLOEXEC, Ret: 5, Start: epoch}},
		{Call: &stack.CallEvent{Name: "setsockopt", FD: 5, Option: &event.Option{Level: stack.SOL_TCP, Name: stack.TCP_NODELAY, Int: new(1)}, Start: epoch}},
		{Call: &stack.CallEvent{Name: "setsockopt", FD: 5, Option: &event.Option{Level: stack.SOL_SOCKET, Name: stack.SO_LINGER, Linger: &event.Linger{OnOff: 1}}, Start: epoch}},
		{Call: &stack.CallEvent{Name: "getsockopt", FD: 5, Option: &event.Option{Level: stack.SOL_TCP, Name: stack.TCP_CONGESTION, Text: new("")}, Start: epoch}},
		{Call: &stack.CallEvent{Name: "getsockopt", FD: 5, Option: &event.Option{Level: stack.SOL_TCP, Name: stack.TCP_INFO, Info: &event.TCPInfo{State: "ESTABLISHED", SndCwnd: 10, RTT: time.Second}}, Start: epoch}},
		{Call: &stack.CallEvent{Name: "recvmsg", FD: 6, Message: &event.Message{Name: remote, Buffers: []event.Buffer{{Size: 2, Len: 2, Data: []byte("ab")}, {Size: 4}}, Flags: stack.MSG_TRUNC}, Ret: 2, Start: epoch}},
		{Call: &stack.CallEvent{Name: "poll", FD: -1, Poll: []stack.PollFD{{FD: 5, Events: stack.POLLIN, Revents: stack.POLLIN}}, Timeout: -1, Ret: 1, Start: epoch}},
		{Call: &stack.CallEvent{Name: "epoll_wait", FD: 4, Epoll: []stack.EpollEvent{{Events: stack.EPOLLET | stack.POLLIN, Data: 1 << 63}}, Arg: 8, Timeout: time.Second, Ret: 1, Start: epoch}},
		{Call: &stack.CallEvent{Name: "epoll_wait", FD: 4, Buffer: &event.Buffer{Addr: 0xc000000000, Len: -1}, Arg: 8, Ret: -1, Error: "EBADF", Start: epoch}},
		{Call: &stack.CallEvent{Name: "bind", FD: 6, Addr: netip.MustParseAddrPort("[::ffff:10.9.0.2]:80"), Ret: -1, Error: "EADDRINUSE", Start: epoch}},
	} {
		ev.Seq, ev.Time = uint64(len(events)+1), epoch.Add(time.Duration(len(events))*time.Millisecond)
		events = append(events, ev)
	}
	return events
}

// write writes events to a file in memory.
func write(t testing.TB, cfg Config, events []stack.Event) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(capture.NewWriter(&buf, capture.Config{Application: "catflap test"}), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, ev := range events {
		if err := w.WriteEvent(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func read(t testing.TB, file []byte) Recording {
	t.Helper()
	r, err := Read(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var described = Config{Interfaces: []capture.Interface{{Name: "cat0", Description: "driver offload"}}, Comments: true}

// comparable are types that are compared as values.
var comparable = cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}, netip.Addr{})

// TestRoundTrip: what a stack tells is what is read back.
func TestRoundTrip(t *testing.T) {
	want := Recording{Interfaces: described.Interfaces, Events: story(t)}
	got := read(t, write(t, described, story(t)))
	if d := cmp.Diff(want, got, comparable); d != "" {
		t.Error(d)
	}
}

// TestWithoutComments: packets only, and only those that the stack has seen.
func TestWithoutComments(t *testing.T) {
	got := read(t, write(t, Config{}, story(t)))
	var want []stack.Event
	for _, ev := range story(t) {
		if p := ev.Packet; p != nil {
			want = append(want, stack.Event{Seq: uint64(len(want) + 1), Time: ev.Time,
				Packet: &stack.PacketEvent{Out: p.Out, Dev: p.Dev, Len: p.Len, Data: p.Data, FD: -1}})
		}
	}
	if d := cmp.Diff(Recording{Foreign: true, Interfaces: []capture.Interface{{Name: "cat0"}}, Events: want}, got, comparable); d != "" {
		t.Error(d)
	}
}

// TestSegments: a super-packet is in the file as its segments, each with the decision and a right checksum.
func TestSegments(t *testing.T) {
	cfg := described
	cfg.Segments = true
	n, next := 0, uint32(501)
	for _, ev := range read(t, write(t, cfg, story(t))).Events {
		if ev.Seq != 12 {
			continue
		}
		n++
		p, err := packet.Parse(ev.Packet.Data)
		if err != nil || p.Verify() != nil || p.TCP.Seq != next || ev.Packet.Len != len(ev.Packet.Data) || ev.Packet.GSO != 0 || ev.Packet.FD != 5 {
			t.Errorf("segment %d: %v, %v, %s, %+v", n, err, p.Verify(), p, ev.Packet)
		}
		next += uint32(len(p.Payload))
	}
	if n != 3 || next != 4501 {
		t.Errorf("%d segments up to %d, want 3 up to 4501", n, next)
	}
}

// TestWords: tshark finds packets by what their comments say in words.
func TestWords(t *testing.T) {
	testenv.Require(t, "tshark")
	file := filepath.Join(t.TempDir(), "story.pcapng")
	if err := os.WriteFile(file, write(t, described, story(t)), 0o644); err != nil {
		t.Fatal(err)
	}
	frames := testenv.Tshark(t, file, "frame", "frame.number", "frame.comment")
	for _, tt := range []struct{ text, frames string }{
		{"call: listen(3, 128)", "[1]"},
		{"route: rule 0 → table local → local 10.9.0.2 dev cat0", "[1 4 8]"},
		{"socket: exact 4-tuple ✗, listener *:80 ✓ fd 3 LISTEN", "[1 4]"},
		{"state: no fd 10.9.0.1:40000: LISTEN → SYN-RECEIVED", "[2]"},
		{"sender: fd 5 ESTABLISHED", "[2 5 6 7]"},
		{"timer: no fd 10.9.0.1:40000: retransmission set, fires in 1s", "[3]"},
		{"link: lost, the stack never saw it: drop by loss", "[3]"},
		{"link: out: drop by rule drop tcp data 2: IP 10.9.0.1.40000 > 10.9.0.2.80: Flags [.]", "[4]"},
		{"link: in: delay 20ms by delay", "[4]"},
		{"cwnd 10 ssthresh 7 srtt 20ms", "[5]"},
		{"limited by receive window", "[5]"},
		{"retransmission: RACK", "[5]"},
		{"super-packet: segments of 1400 bytes", "[6]"},
		{"dropped: NO_SOCKET", "[8]"},
		{"no packet says this", "[]"},
	} {
		var in []string
		for _, f := range frames {
			if strings.Contains(f[1], tt.text) {
				in = append(in, f[0])
			}
		}
		if got := fmt.Sprint(in); got != tt.frames {
			t.Errorf("%q is in frames %s, want %s", tt.text, got, tt.frames)
		}
	}
}

// TestManyCalls: between two packets an application may make more calls than a comment holds.
func TestManyCalls(t *testing.T) {
	var events []stack.Event
	for i := range 5000 {
		events = append(events, stack.Event{Seq: uint64(i + 1), Time: epoch, Call: &stack.CallEvent{Name: "epoll_wait", Epoll: []stack.EpollEvent{{Events: stack.POLLIN, Data: 1 << 40}}}})
	}
	b := segment(t, ack, 1, 0)
	events = append(events, stack.Event{Seq: 5001, Time: epoch, Packet: &stack.PacketEvent{Dev: "cat0", Len: len(b), Data: b, FD: -1}})
	for _, order := range []string{"before a packet", "after it"} {
		if order == "after it" {
			events[0], events[5000] = events[5000], events[0]
			events[0].Seq, events[5000].Seq = 1, 5001
		}
		if d := cmp.Diff(events, read(t, write(t, described, events)).Events, comparable); d != "" {
			t.Errorf("%s: %s", order, d)
		}
	}
}

// TestNoPacketAtAll: events without any packet are kept too.
func TestNoPacketAtAll(t *testing.T) {
	events := story(t)[:1]
	if d := cmp.Diff(events, read(t, write(t, Config{Comments: true}, events)).Events, comparable); d != "" {
		t.Error(d)
	}
}

// TestLongDecision: a decision that no comment holds loses the steps on its way, and stays.
func TestLongDecision(t *testing.T) {
	events := story(t)[1:2]
	l := *events[0].Packet.Route
	l.Tries = slices.Repeat(l.Tries, 1000)
	events[0].Packet.Route = &l
	got := read(t, write(t, described, events))
	if p := got.Events[0].Packet; p.Route.Short() != l.Short() || len(p.Route.Tries) != 0 {
		t.Errorf("the route is %s with %d tries", p.Route.Short(), len(p.Route.Tries))
	}
	long := stack.Event{Seq: 1, Time: epoch, Call: &stack.CallEvent{Name: strings.Repeat("x", 1<<16)}}
	w, err := NewWriter(capture.NewWriter(new(bytes.Buffer), capture.Config{}), described)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteEvent(long); err == nil {
		t.Error("an event that no comment holds was taken")
	}
}

// TestLost: losses are told where they happened, and in all.
func TestLost(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(capture.NewWriter(&buf, capture.Config{}), described)
	if err != nil {
		t.Fatal(err)
	}
	w.Lost(3)
	if err := w.WriteEvent(story(t)[1]); err != nil {
		t.Fatal(err)
	}
	w.Lost(4)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if r := read(t, buf.Bytes()); r.Lost != 7 {
		t.Errorf("%d events were lost, want 7", r.Lost)
	}
	c, err := capture.NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := c.Next(); err != nil || p.Lost != 3 || !strings.Contains(p.Comments[0], "3 events were lost here") {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestForeign: in another program's file the side that listens is taken for the stack.
func TestForeign(t *testing.T) {
	var buf bytes.Buffer
	w := pcapgo.NewWriter(&buf)
	frames := [][]byte{
		segment(t, syn, 100, 0), segment(t, syn|ack|out, 500, 0), segment(t, ack, 101, 0), // a server's port is the lower one
		{0x45, 0},
	}
	if err := w.WriteFileHeader(65535, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for _, b := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: epoch, CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
	r := read(t, buf.Bytes())
	if !r.Foreign || len(r.Events) != 4 {
		t.Fatalf("%+v", r)
	}
	for i, want := range []bool{false, true, false, false} {
		if ev := r.Events[i]; ev.Packet.Out != want || ev.Seq != uint64(i+1) {
			t.Errorf("packet %d: %+v", i, ev)
		}
	}
	// A SYN says more than the ports do.
	d := decoder{sides: map[[2]string]bool{}}
	for i, p := range []struct {
		flags int
		out   bool
	}{{syn | out, false}, {syn | ack, true}, {out | ack, false}, {ack, true}} {
		b := segment(t, p.flags, 1, 0)
		if got := d.outbound(&stack.PacketEvent{Data: b, Len: len(b)}); got != p.out {
			t.Errorf("packet %d goes out: %v, want %v", i, got, p.out)
		}
	}
}

// TestDamaged: what is wrong with a file is told, and what is right with it is read.
func TestDamaged(t *testing.T) {
	file := write(t, described, story(t))
	r := read(t, file[:len(file)-700])
	if r.Cut == "" || len(r.Events) < 5 {
		t.Errorf("%d events, cut: %q", len(r.Events), r.Cut)
	}
	for _, text := range []string{`[{"seq":1}]`, `[{"packet":`, `[{"packet":{"route":{"query":{"dst":"10.9.0.2"},"rule":{"action":"lookup"}}}}]`, `{}`} {
		var buf bytes.Buffer
		w := capture.NewWriter(&buf, capture.Config{})
		if _, err := w.AddInterface(capture.Interface{Name: "cat0"}); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.WritePacket(capture.Packet{Data: segment(t, ack, 1, 0), Comments: []string{prefix + text}}), w.Close()); err != nil {
			t.Fatal(err)
		}
		if r := read(t, buf.Bytes()); r.Damaged != 1 || len(r.Events) != 1 || r.Events[0].Packet == nil {
			t.Errorf("%s: %+v", text, r)
		}
	}
	if _, err := Read(strings.NewReader("kitty")); err == nil {
		t.Error("text was read")
	}
}

// FuzzRead: whatever a file says, it is read, and what is read can be shown.
func FuzzRead(f *testing.F) {
	f.Add(write(f, described, story(f)))
	f.Add(write(f, Config{Segments: true}, story(f)))
	f.Add(write(f, described, story(f)[:2]))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		for _, ev := range r.Events {
			switch {
			case ev.Packet != nil:
				_ = decision(ev.Packet)
				if ev.Packet.Route != nil {
					_ = ev.Packet.Route.Text()
				}
				if ev.Packet.Socket != nil {
					_ = ev.Packet.Socket.Text()
				}
			case describe(&ev) == "nothing":
				t.Fatalf("event of no kind: %+v", ev)
			}
		}
		w, err := NewWriter(capture.NewWriter(new(bytes.Buffer), capture.Config{}), described)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range r.Events {
			_ = w.WriteEvent(ev) // events of a made-up file may not fit
		}
		_ = w.Close()
	})
}
