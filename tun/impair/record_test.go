package impair

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"
)

// TestReplay: what was done to a run's packets by chance and by rules is done again to those of a second run, with
// other ports, no settings and no rules; a recording of the second run is the same but for the clock.
func TestReplay(t *testing.T) {
	record := func(b *bench, port uint16) (arrived string, text string) {
		var buf bytes.Buffer
		r := b.Record(&buf)
		for i := range uint16(20) {
			arrived += talk(t, b, false, port+i, conversation) + "\n"
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		return arrived, buf.String()
	}
	first := newBench(t, Config{Seed: 7, PeerVerifies: true})
	first.set(t, Out, "delay 20ms 10ms loss 10% corrupt 5% duplicate 10% reorder 10% limit 3")
	first.set(t, In, "rate 1mbit loss gemodel 5% 50%")
	first.rule(t, "hold 100ms tcp fin from server")
	first.rule(t, "window 100 tcp data from client")
	first.rule(t, "reset tcp syn connection 3")
	arrived, text := record(first, 40000)
	for _, a := range []string{"drop", "delay", "corrupt", "duplicate", "reorder", "hold", "window", "reset"} {
		if !strings.Contains(text, " "+a+" ") {
			t.Errorf("the run has no %s; it shows nothing of how that is replayed", a)
		}
	}

	rec, err := ReadRecording(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	second := newBench(t, Config{Seed: 8, PeerVerifies: true})
	if err := second.Replay(rec); err != nil {
		t.Fatal(err)
	}
	again, text2 := record(second, 50000)
	if got, want := answers.ReplaceAllString(again, "answer"), answers.ReplaceAllString(arrived, "answer"); got != want {
		t.Errorf("replayed:\n%s\nrecorded:\n%s", got, want)
	}
	if text2 != text {
		t.Errorf("the replay was recorded as\n%s\nthe run as\n%s", text2, text)
	}
	if a, b := first.Stats(), second.Stats(); a != b {
		t.Errorf("counted %+v\nwant    %+v", b, a)
	}

	if err := second.Replay(nil); err != nil {
		t.Fatal(err)
	}
	if second.ways[Out].on.Load() {
		t.Error("the Link is on after the replay")
	}
}

// answers are what talk writes for them; they show ports and acknowledgment numbers.
var answers = regexp.MustCompile(`\[10\.9\..*? length \d+\]`)

func drawFault(t *rapid.T) (f Fault) {
	f.Time = drawTime(t, "time", 0)
	f.Packet = PacketID{
		Dir: Direction(rapid.IntRange(0, 1).Draw(t, "dir")), From: Side(rapid.IntRange(0, 2).Draw(t, "from")),
		Flow:  rapid.SampledFrom([]string{"raw", "tcp/10.9.0.2:80#1", "udp/[fd00:9::2]:53#12", "ip47/10.0.0.1#3"}).Draw(t, "flow"),
		Index: rapid.Uint64().Draw(t, "index"), Copy: rapid.Uint64Range(0, 3).Draw(t, "copy"),
	}
	f.Action = Action(rapid.IntRange(int(ActionDrop), int(ActionWindow)).Draw(t, "action"))
	switch f.Action.value() {
	case timeValue:
		f.Delay = drawTime(t, "delay", 0)
	case numberValue:
		f.N = rapid.IntRange(0, 1<<19).Draw(t, "n")
	}
	if rapid.Bool().Draw(t, "by rule") {
		f.Rule = drawRule(t).String()
	} else {
		f.Reason = rapid.SampledFrom([]string{"loss", "delay", "rate", "limit"}).Draw(t, "reason")
	}
	return f
}

func TestRecordingRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Recording(rapid.SliceOfN(rapid.Custom(drawFault), 0, 5).Draw(t, "recording"))
		var buf bytes.Buffer
		if n, err := want.WriteTo(&buf); err != nil || n != int64(buf.Len()) {
			t.Fatalf("wrote %d bytes, said %d, %v", buf.Len(), n, err)
		}
		got, err := ReadRecording(&buf)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
	})
}

func TestRecordingErrors(t *testing.T) {
	const good = "0.000000000 out tcp/10.9.0.2:80#1 server 2 drop by loss"
	for _, tt := range []struct{ line, says string }{
		{"hello", "want TIME DIR"},
		{strings.Replace(good, "0.000000000", "1ms", 1), "nine decimals"},
		{strings.Replace(good, "out", "up", 1), "direction"},
		{strings.Replace(good, "server", "peer", 1), "side"},
		{strings.Replace(good, " 2 ", " two ", 1), "packet"},
		{strings.Replace(good, " 2 ", " 2+ ", 1), "packet"},
		{strings.Replace(good, "drop", "lose", 1), "no action"},
		{strings.Replace(good, "drop", "delay", 1), "missing"},
		{strings.Replace(good, "drop", "drop 5", 1), "too much"},
		{strings.Replace(good, "drop", "delay soon", 1), "want a time"},
		{strings.Replace(good, "drop", "corrupt -1", 1), "want a number"},
		{strings.Repeat("x", maxRecordLine), "after 0 faults"},
	} {
		_, err := ReadRecording(strings.NewReader(recordHeader + "\n# a comment\n\n" + tt.line + "\n"))
		if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "line 4") && !strings.Contains(err.Error(), "after 0 faults") {
			t.Errorf("%.80q: error %v, want line 4 and %q", tt.line, err, tt.says)
		}
	}
	if _, err := ReadRecording(strings.NewReader("# catflap netem record 2\n")); err == nil {
		t.Error("a recording of another version was read")
	}
	if _, err := ReadRecording(strings.NewReader("")); err == nil {
		t.Error("an empty file was read as a recording")
	}
}

func FuzzReadRecording(f *testing.F) {
	f.Add("0.000000000 out tcp/10.9.0.2:80#1 server 2+1 delay 1.5ms by rule delay 1.5ms tcp")
	f.Add("1.000000001 in raw any 7 corrupt 12 by corrupt")
	f.Fuzz(func(t *testing.T, line string) {
		rec, err := ReadRecording(strings.NewReader(recordHeader + "\n" + line))
		if err != nil {
			return
		}
		var buf bytes.Buffer
		rec.WriteTo(&buf)
		again, err := ReadRecording(&buf)
		if err != nil || !slices.Equal(again, rec) {
			t.Fatalf("%q is %+v, which became %+v, %v", line, rec, again, err)
		}
	})
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("no room") }

// TestRecordError: a recording that could not be written says so.
func TestRecordError(t *testing.T) {
	b := newBench(t, Config{})
	r := b.Record(failingWriter{})
	b.rule(t, "drop")
	b.send(Out, datagram(1, 100), stack.GSO{})
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("Close: %v", err)
	}
}

// TestShrink finds, among the faults of a random run, the two that matter together.
func TestShrink(t *testing.T) {
	rec := Recording{}
	for i := range 200 {
		rec = append(rec, Fault{Packet: PacketID{Index: uint64(i)}, Action: ActionDrop, Reason: "loss"})
	}
	runs := 0
	needs := func(indexes ...uint64) func(Recording) bool {
		return func(r Recording) bool {
			runs++
			for _, i := range indexes {
				if !slices.ContainsFunc(r, func(f Fault) bool { return f.Packet.Index == i }) {
					return false
				}
			}
			return true
		}
	}
	for _, tt := range [][]uint64{{}, {0}, {199}, {42}, {42, 43}, {3, 199}, {1, 2, 3, 100, 150}} {
		runs = 0
		got, ok := Shrink(rec, needs(tt...))
		var indexes []uint64
		for _, f := range got {
			indexes = append(indexes, f.Packet.Index)
		}
		if !ok || !slices.Equal(indexes, tt) && len(tt)+len(indexes) > 0 {
			t.Errorf("%v of 200 faults matter, Shrink found %v", tt, indexes)
		}
		if runs > 300 {
			t.Errorf("%d runs to find %v", runs, tt)
		}
	}
	if _, ok := Shrink(rec, func(Recording) bool { return false }); ok {
		t.Error("a failure that cannot be reproduced was shrunk")
	}
}

// TestShrinkIsMinimal: whatever matters, without any one of what is left the run does not fail.
func TestShrinkIsMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "faults")
		rec := Recording{}
		for i := range n {
			rec = append(rec, Fault{Packet: PacketID{Index: uint64(i)}, Action: ActionDrop})
		}
		// The run fails if one of some groups of faults is there whole: not monotone in what ddmin removes, yet sound.
		var groups [][]uint64
		for range rapid.IntRange(1, 3).Draw(t, "groups") {
			groups = append(groups, rapid.SliceOfN(rapid.Uint64Range(0, 45), 1, 4).Draw(t, "group"))
		}
		fails := func(r Recording) bool {
			for _, g := range groups {
				whole := true
				for _, i := range g {
					whole = whole && slices.ContainsFunc(r, func(f Fault) bool { return f.Packet.Index == i })
				}
				if whole {
					return true
				}
			}
			return false
		}
		got, ok := Shrink(rec, fails)
		if ok != fails(rec) {
			t.Fatalf("found %t", ok)
		}
		if !ok {
			return
		}
		if !fails(got) {
			t.Fatal("what is left does not fail")
		}
		for i := range got {
			if fails(slices.Delete(slices.Clone(got), i, i+1)) {
				t.Fatalf("%v is not minimal", got)
			}
		}
	})
}

// TestShrinkRun does all of it: a random run in which the client never hears of the SYN-ACK fails; of its many
// faults the one loss is left.
func TestShrinkRun(t *testing.T) {
	run := func(setup func(*bench)) (failed bool, rec Recording) {
		b := newBench(t, Config{Seed: 2})
		setup(b)
		stop := b.Observe(func(f Fault, _ []byte) { rec = append(rec, f) })
		defer stop()
		for i := range uint16(5) {
			if arrived := strings.Fields(talk(t, b, false, 40000+i, conversation)); !slices.Contains(arrived, "1") {
				failed = true
			}
		}
		return failed, rec
	}
	failed, rec := run(func(b *bench) {
		b.set(t, Out, "loss 20% duplicate 10%")
		b.rule(t, "drop tcp synack connection 4")
	})
	if !failed || len(rec) < 10 {
		t.Fatalf("the run did not fail, or has few faults: %d", len(rec))
	}
	got, ok := Shrink(rec, func(r Recording) bool {
		failed, _ := run(func(b *bench) { b.Replay(r) })
		return failed
	})
	if !ok || len(got) != 1 || got[0].Packet.From != Server || got[0].Packet.Index != 1 {
		t.Errorf("shrunk to %v", got)
	}
}
