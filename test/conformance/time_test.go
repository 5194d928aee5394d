package conformance

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// timeCases take minutes or weeks, which is nothing in virtual time, and too long to measure Linux.
var timeCases = []goCase{
	{header{7323, "5.5", "MUST", "After 24 days of silence the stamp of the last segment says nothing more: an \"older\" one is taken.", ""}, "paws-after-24-days", "time_test.go", pawsAfter(25*24*time.Hour, true)},
	{header{7323, "5.3", "MUST", "After a day of silence it still does: a segment with an older stamp is dropped.", ""}, "paws-after-a-day", "time_test.go", pawsAfter(24*time.Hour, false)},
	{header{9293, "3.8.3", "MUST", "An attempt to connect is not given up within three minutes.", "it is given up after 127 s"}, "syn-three-minutes", "time_test.go", synThreeMinutes},
	{header{9293, "3.8.3", "SHOULD", "A connection is not given up within 100 s of the first retransmission.", ""}, "data-hundred-seconds", "time_test.go", dataHundredSeconds},
}

const (
	timePeer = "10.1.0.2:5000"
	timeHost = "10.1.0.1:80"
)

// stamped is a time stamp option.
func stamped(val, ecr uint32) []layers.TCPOption {
	data := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, val), ecr)
	return []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: data}}
}

// pawsAfter sends a byte whose time stamp is older than the last, after a silence.
func pawsAfter(silence time.Duration, taken bool) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, "10.1.0.1/24")
		y := h.s.Sys() // a socket of its own sends no keep-alives, as those of Listen do
		fd, err := y.Socket(stack.AF_INET, stack.SOCK_STREAM|stack.SOCK_NONBLOCK, 0)
		if err == nil {
			err = y.Bind(fd, netip.MustParseAddrPort(timeHost))
		}
		if err == nil {
			err = y.Listen(fd, 5)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := h.ask(segment(timePeer, timeHost, layers.TCP{SYN: true, Seq: 100, Window: 65535, Options: stamped(1000, 0)}))
		if len(got) != 1 || got[0].TCP == nil {
			t.Fatalf("the SYN was answered by %v", got)
		}
		o, ok := got[0].TCP.Option(packet.OptTimestamp)
		if !ok {
			t.Fatal("the SYN-ACK has no time stamp")
		}
		val, _, _ := o.Timestamp()
		isn := got[0].TCP.Seq
		h.send(segment(timePeer, timeHost, layers.TCP{ACK: true, Seq: 101, Ack: isn + 1, Window: 65535, Options: stamped(1001, val)}))
		if h.wires[0].Advance(silence) {
			t.Fatalf("in the silence the stack sent %v", h.sent())
		}
		// A byte of data, as a FIN: it needs no reader.
		got = h.ask(segment(timePeer, timeHost, layers.TCP{ACK: true, FIN: true, Seq: 101, Ack: isn + 1, Window: 65535, Options: stamped(500, val)}))
		want := uint32(101)
		if taken {
			want++
		}
		if len(got) != 1 || got[0].TCP == nil || got[0].TCP.Ack != want {
			t.Errorf("after %s a segment with an older time stamp is answered by %v, want an acknowledgment of %d", silence, got, want)
		}
	}
}

func synThreeMinutes(t testing.TB) {
	h := newHost(t, stack.Config{}, "10.1.0.1/24")
	y := h.s.Sys()
	fd, err := y.Socket(stack.AF_INET, stack.SOCK_STREAM|stack.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer y.Close(fd)
	_ = y.Connect(fd, netip.MustParseAddrPort(timePeer)) // in progress
	h.wires[0].Settle()
	syns := h.sent()
	if len(syns) != 1 || syns[0].TCP == nil {
		t.Fatalf("connecting sent %v", syns)
	}
	for h.wires[0].Clock().Elapsed() < 179*time.Second {
		h.wires[0].Advance(time.Second)
		h.sent()
	}
	syn := syns[0].TCP
	got := h.ask(segment(timePeer, netip.AddrPortFrom(syns[0].Src, syn.SrcPort).String(), layers.TCP{SYN: true, ACK: true, Seq: 700, Ack: syn.Seq + 1, Window: 65535}))
	if len(got) != 1 || got[0].TCP == nil || got[0].TCP.Flags != packet.ACK || got[0].TCP.Ack != 701 {
		t.Errorf("after three minutes a SYN-ACK is answered by %v", got)
	}
}

func dataHundredSeconds(t testing.TB) {
	s := newSender(t, 10*time.Millisecond)
	n := s.collect()
	start := s.wires[0].Clock().Elapsed()
	for s.wires[0].Clock().Elapsed() < start+101*time.Second {
		s.wires[0].Advance(time.Second)
		s.sent()
	}
	s.ack(s.nxt)
	if got := s.sent(); len(got) == 0 || got[0].TCP == nil || got[0].TCP.Flags&packet.RST != 0 || len(got[0].Payload) == 0 {
		t.Errorf("after 100 s an acknowledgment of %d segments is answered by %v", n, got)
	}
}
