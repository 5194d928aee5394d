package capture

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

var epoch = time.Date(2026, 7, 1, 12, 0, 0, 123456789, time.UTC)

// TestRoundTrip: what is written is read back, to the nanosecond.
func TestRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{SnapLen: 100, Application: "catflap test"})
	cat0, err := w.AddInterface(Interface{"cat0", "rx-checksum rx-tso4"})
	if err != nil {
		t.Fatal(err)
	}
	lo, err := w.AddInterface(Interface{Name: "lo"})
	if err != nil {
		t.Fatal(err)
	}
	long := tcpPacket(t, false, 1, 1000)
	want := []Packet{
		{Time: epoch, Interface: cat0, Direction: In, Length: 44, Data: tcpPacket(t, false, 1, 4)},
		{Time: epoch.Add(1), Interface: lo, Direction: Out, Length: 64, Data: tcpPacket(t, true, 1, 4), Comments: []string{"route: rule 0 → table local", "two\nlines"}, Lost: 3},
		{Time: epoch.Add(2), Interface: cat0, Length: 1040, Data: long[:100], NoChecksum: true, Super: true},
		{Time: epoch.Add(3), Interface: cat0, Comments: []string{"no packet follows"}},
	}
	for _, p := range want[:2] {
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.WritePacket(Packet{Time: epoch.Add(2), Data: long, MSS: 500}); err != nil {
		t.Fatal(err)
	}
	if err := w.Comment(epoch.Add(3), "no packet follows"); err != nil {
		t.Fatal(err)
	}
	w.Lost(4)
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if s := w.Stats(); s != (Stats{Packets: 3, Bytes: uint64(buf.Len()), Lost: 7, Files: 1}) {
		t.Errorf("counted %+v", s)
	}
	if err := w.WritePacket(want[0]); err == nil {
		t.Error("a closed Writer takes packets")
	}
	got, r := readAll(t, &buf)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Interface{{"cat0", "rx-checksum rx-tso4"}, {Name: "lo"}}, r.Interfaces()); d != "" {
		t.Error(d)
	}
	if r.Lost() != 7 {
		t.Errorf("%d packets were lost, want 7", r.Lost())
	}
}

// TestTshark: tshark reads everything that a capture has.
func TestTshark(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "tshark")
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{})
	if _, err := w.AddInterface(Interface{"cat0", "MTU 1500"}); err != nil {
		t.Fatal(err)
	}
	comment := "socket: listener *:80 ✓ fd 3"
	for i, d := range []Direction{In, Out, Unknown} {
		p := Packet{Time: epoch.Add(time.Duration(i)), Direction: d, Data: tcpPacket(t, i == 1, uint32(i), 8), Comments: []string{comment, strings.Repeat("✗", MaxComment)}[:i], Lost: uint64(i)}
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Comment(epoch, "at the end"), w.Close()); err != nil {
		t.Fatal(err)
	}
	packets := tshark(t, buf.Bytes(), "tcp", "frame.interface_name", "frame.interface_description", "frame.time_epoch", "frame.packet_flags_direction", "tcp.checksum.status", "frame.drop_count", "frame.comment")
	var got []string
	for i, p := range packets {
		got = append(got, strings.Join(p[:6], "|"))
		if has := strings.Contains(p[6], comment); has != (i > 0) {
			t.Errorf("packet %d: its comments are %.100q", i, p[6])
		}
	}
	want := []string{
		"cat0|MTU 1500|1782907200.123456789|0x00000001|1|",
		"cat0|MTU 1500|1782907200.123456790|0x00000002|1|1",
		"cat0|MTU 1500|1782907200.123456791||1|2",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestLeftToDevice: what was left to a device is in the flags of the packet, and nothing is of one that is complete.
func TestLeftToDevice(t *testing.T) {
	t.Parallel()
	testenv.Require(t, "tshark")
	whole := tcpPacket(t, true, 1, 3000)
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{})
	if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Packet{
		{Data: whole},
		{Data: begun(whole)},
		{Data: begun(whole), MSS: 1400},
		{Data: begun(whole)[:100], Length: len(whole), MSS: 1400},
		{Data: begun(whole), MSS: 3000}, // it is one segment
		{Data: wrong(whole)},
	} {
		p.Time, p.Direction = epoch, Out
		if err := w.WritePacket(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got := tshark(t, buf.Bytes(), "tcp", "frame.packet_flags")
	want := [][]string{{"0x00000002"}, {"0x00000202"}, {"0x00000a02"}, {"0x00000a02"}, {"0x00000202"}, {"0x00000002"}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestWire: a super-packet is captured as the segments that it becomes, and a checksum that was left open is closed.
func TestWire(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		whole := tcpPacket(t, v6, 1000, 4000)
		p := Packet{Time: epoch, Data: begun(whole), MSS: 1400, Comments: []string{"one"}, Lost: 5}
		segments := p.Wire()
		if len(segments) != 3 {
			t.Fatalf("%d segments, want 3", len(segments))
		}
		seq, lost, payload := uint32(1000), uint64(0), []byte(nil)
		for i, s := range segments {
			d, err := packet.Parse(s.Data)
			if err != nil || d.Verify() != nil || d.TCP.Seq != seq || s.Length != len(s.Data) || len(s.Comments) != 1 {
				t.Errorf("segment %d: %v %v %s", i, err, d.Verify(), d)
			}
			if !v6 && d.Frag.ID != uint32(9+i) {
				t.Errorf("segment %d has identification %d", i, d.Frag.ID)
			}
			seq += uint32(len(d.Payload))
			payload = append(payload, d.Payload...)
			lost += s.Lost
		}
		if want, _ := packet.Parse(whole); !bytes.Equal(payload, want.Payload) {
			t.Error("the segments carry other bytes")
		}
		if lost != 5 {
			t.Errorf("%d packets were lost before the segments, want 5", lost)
		}
		for _, tt := range []struct {
			name     string
			in, want []byte
		}{
			{"open checksum", begun(whole), whole},
			{"complete", whole, whole},
			{"wrong checksum", wrong(whole), wrong(whole)},
			{"no IP", []byte("miau"), []byte("miau")},
			{"nothing", nil, nil},
		} {
			in := bytes.Clone(tt.in)
			if got := (Packet{Data: in}).Wire(); len(got) != 1 || !bytes.Equal(got[0].Data, tt.want) {
				t.Errorf("%s: %+v, want %x", tt.name, got, tt.want)
			}
			if !bytes.Equal(in, tt.in) {
				t.Errorf("%s: the packet itself was changed", tt.name)
			}
		}
		if got := (Packet{Data: whole[:100], Length: len(whole), MSS: 1400}).Wire(); len(got) != 1 || len(got[0].Data) != 100 {
			t.Errorf("a packet that is not whole became %d", len(got))
		}
	}
}

func wrong(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// TestPacketBuffered: each packet leaves at once, or only by Flush.
func TestPacketBuffered(t *testing.T) {
	for _, live := range []bool{false, true} {
		var buf bytes.Buffer
		w := NewWriter(&buf, Config{PacketBuffered: live})
		if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
			t.Fatal(err)
		}
		if (buf.Len() > 0) != live {
			t.Errorf("live %v: %d bytes left with the interface", live, buf.Len())
		}
		if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 4)}); err != nil {
			t.Fatal(err)
		}
		if live {
			if _, err := NewReader(bytes.NewReader(buf.Bytes())); err != nil {
				t.Error(err)
			}
		} else if buf.Len() > 0 {
			t.Errorf("%d bytes left without a Flush", buf.Len())
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if got, _ := readAll(t, bytes.NewReader(buf.Bytes())); len(got) != 1 {
			t.Errorf("%d packets left, want 1", len(got))
		}
	}
}

// TestMaxBytes: a capture ends where it has to, is whole, and tells how much it left out.
func TestMaxBytes(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{MaxBytes: 2000})
	if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 400)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := readAll(t, &buf)
	if s := w.Stats(); len(got) < 2 || len(got) > 4 || s.Skipped != uint64(10-len(got)) || s.Packets != uint64(len(got)) {
		t.Errorf("%d packets of 440 bytes in 2000, counted %+v", len(got), s)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestErrorEndsCapture: the first error is what every later call returns.
func TestErrorEndsCapture(t *testing.T) {
	full := errors.New("disk full")
	w := NewWriter(failingWriter{full}, Config{PacketBuffered: true})
	if _, err := w.AddInterface(Interface{Name: "cat0"}); !errors.Is(err, full) {
		t.Errorf("AddInterface: %v", err)
	}
	for range 2 {
		if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 4)}); !errors.Is(err, full) {
			t.Errorf("WritePacket: %v", err)
		}
	}
	if err := w.Flush(); !errors.Is(err, full) {
		t.Errorf("Flush: %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close: %v", err)
	}
	if s := w.Stats(); s.Skipped != 2 || s.Packets != 0 {
		t.Errorf("counted %+v", s)
	}
}

// TestMisuse: numbers that nobody gave are refused.
func TestMisuse(t *testing.T) {
	w := NewWriter(new(bytes.Buffer), Config{})
	if err := w.WritePacket(Packet{Data: tcpPacket(t, false, 1, 4)}); err == nil {
		t.Error("a packet of no interface was taken")
	}
	if err := w.Comment(epoch, "text"); err == nil {
		t.Error("a comment of no interface was taken")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// TestConcurrentUse: packets of many writers are all there, in the order of their stamps.
func TestConcurrentUse(t *testing.T) {
	var buf bytes.Buffer
	w := NewWriter(&buf, Config{Segments: true})
	if _, err := w.AddInterface(Interface{Name: "cat0"}); err != nil {
		t.Fatal(err)
	}
	data := begun(tcpPacket(t, false, 1, 3000))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				if err := w.WritePacket(Packet{Data: data, MSS: 1000}); err != nil {
					t.Error(err)
				}
				w.Stats()
			}
		})
	}
	all.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, _ := readAll(t, &buf)
	if len(got) != 8*50*3 {
		t.Errorf("%d packets, want %d", len(got), 8*50*3)
	}
	for i := 1; i < len(got); i++ {
		if got[i].Time.Before(got[i-1].Time) {
			t.Fatalf("packet %d is older than the one before", i)
		}
	}
}
