package tcpdump

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/catflap/catflap/cmd/catflap/internal/clitest"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

// events are packets of clitest's, as on a device.
func events(t *testing.T) (evs []*stack.Event) {
	for _, p := range clitest.Packets(t) {
		evs = append(evs, &stack.Event{Time: p.Time, Packet: &stack.PacketEvent{Dev: "cat0", Out: p.Direction == capture.Out, Len: len(p.Data), Data: p.Data}})
	}
	return evs
}

// TestLink: -e tells what only the link knows of a packet. How tcpdump prints the rest is held against the real one.
func TestLink(t *testing.T) {
	evs := events(t)
	super, data := *evs[2].Packet, evs[2].Packet.Data
	super.GSO = 100
	for _, tt := range []struct {
		ev   stack.Event
		want string // "" if it has no line
	}{
		{stack.Event{Packet: evs[2].Packet}, "cat0 In  length 340: IP 10.9.0.1.40000 > 10.9.0.2.5100: Flags [P.], seq 101:401, ack 901, win 500, length 300"},
		{stack.Event{Packet: &super}, "cat0 In  length 340, 3 segments of 100 bytes: IP 10.9.0.1.40000 > 10.9.0.2.5100: Flags [P.], seq 101:401, ack 901, win 500, length 300"},
		{stack.Event{Packet: &stack.PacketEvent{Dev: "cat0", Out: true, Len: 3, Data: []byte("cat")}}, "cat0 Out length 3: 3 bytes that are no IP packet"},
		{stack.Event{Link: &stack.LinkEvent{Dev: "cat0", Action: "drop", Len: 340, Data: data}}, "cat0 In  length 340, lost by the link: IP 10.9.0.1.40000 > 10.9.0.2.5100: Flags [P.], seq 101:401, ack 901, win 500, length 300"},
		{stack.Event{Link: &stack.LinkEvent{Dev: "cat0", Action: "delay", Len: 340, Data: data}}, ""},
		{stack.Event{Link: &stack.LinkEvent{Dev: "cat0", Action: "drop", Out: true, Len: 340, Data: data}}, ""},
		{stack.Event{State: &stack.StateEvent{}}, ""},
	} {
		text := &Text{Link: true, Absolute: true, Stamp: 1}
		got := ""
		if text.Shows(&tt.ev) {
			got = text.Line(&tt.ev)
		}
		if got != tt.want {
			t.Errorf("%+v:\n got %s\nwant %s", tt.ev, got, tt.want)
		}
		if plain := (&Text{}); plain.Shows(&tt.ev) != (tt.ev.Packet != nil) {
			t.Errorf("without -e, %+v is shown: %v", tt.ev, plain.Shows(&tt.ev))
		}
	}
}

// TestStamps: the times before lines that are 1.7 s apart, and one that is earlier than the one before.
func TestStamps(t *testing.T) {
	evs := events(t)[:2]
	evs = append(evs, &stack.Event{Time: evs[0].Time, Packet: evs[0].Packet})
	for stamp, want := range map[int]string{
		0: "23:59:58.123456|23:59:59.823456|23:59:58.123456",
		1: "IP|IP|IP",
		2: "1782950398.123456|1782950399.823456|1782950398.123456",
		3: " 00:00:00.000000| 00:00:01.700000|-00:00:01.700000",
		4: "2026-07-01 23:59:58.123456|2026-07-01 23:59:59.823456|2026-07-01 23:59:58.123456",
		5: " 00:00:00.000000| 00:00:01.700000| 00:00:00.000000",
	} {
		text := &Text{Stamp: stamp}
		for i, w := range strings.Split(want, "|") {
			if line := text.Line(evs[i]); !strings.HasPrefix(line, w+" ") {
				t.Errorf("-t %d times, line %d: %q; want it to begin with %q", stamp, i+1, line, w)
			}
		}
	}
}

// TestRead: a file's packets are events again; an error of the reader of events ends reading.
func TestRead(t *testing.T) {
	var file bytes.Buffer
	w := capture.NewWriter(&file, capture.Config{})
	if _, err := w.AddInterface(capture.Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	want := clitest.Packets(t)
	for _, p := range want {
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	lost := want[0]
	lost.Comments = []string{"link: lost, the stack never saw it: dropped"}
	if err := w.WritePacket(lost); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var got []stack.Event
	if err := Read(bytes.NewReader(file.Bytes()), func(ev *stack.Event) error {
		got = append(got, *ev)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want)+1 {
		t.Fatalf("%d events of %d packets", len(got), len(want)+1)
	}
	for i, p := range want {
		ev := got[i]
		if ev.Packet == nil || ev.Packet.Dev != "cat0" || ev.Packet.Out != (p.Direction == capture.Out) || !bytes.Equal(ev.Packet.Data, p.Data) || !ev.Time.Equal(p.Time) {
			t.Errorf("packet %d of %v is %+v", i, p, ev)
		}
	}
	if ev := got[len(want)]; ev.Link == nil || ev.Packet != nil || ev.Link.Action != "drop" || !bytes.Equal(ev.Link.Data, lost.Data) {
		t.Errorf("a packet that the link has lost is %+v", ev)
	}

	enough, n := errors.New("enough"), 0
	if err := Read(bytes.NewReader(file.Bytes()), func(*stack.Event) error { n++; return enough }); err != enough || n != 1 {
		t.Errorf("error %v after %d events; want the first one's", err, n)
	}
	if err := Read(strings.NewReader("meow"), func(*stack.Event) error { return nil }); err == nil {
		t.Error("what is no capture is read")
	}
}
