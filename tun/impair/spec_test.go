package impair

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		text, canonical string
		want            Spec
	}{
		{"", "", Spec{}},
		{"delay 20ms", "", Spec{Delay: Delay{Time: 20 * ms}}},
		{"delay 100", "delay 100us", Spec{Delay: Delay{Time: 100 * time.Microsecond}}},
		{"delay 1.5sec 250msec 25% distribution normal", "delay 1.5s 250ms 25% distribution normal",
			Spec{Delay: Delay{1500 * ms, 250 * ms, 25, Normal}}},
		{"delay 100ms 10ms distribution uniform", "delay 100ms 10ms", Spec{Delay: Delay{Time: 100 * ms, Jitter: 10 * ms}}},
		{"loss 10", "loss 10%", Spec{Loss: RandomLoss{Percent: 10}}},
		{"loss random 0.3% 25%", "loss 0.3% 25%", Spec{Loss: RandomLoss{0.3, 25}}},
		{"loss state 5%", "loss state 5% 95% 0% 100% 0%", Spec{Loss: StateLoss{5, 95, 0, 100, 0}}},
		{"loss state 5% 40% 10% 30% 2%", "", Spec{Loss: StateLoss{5, 40, 10, 30, 2}}},
		{"loss gemodel 1%", "loss gemodel 1% 99% 100% 0%", Spec{Loss: GELoss{1, 99, 100, 0}}},
		{"loss gemodel 1% 10% 70% 0.1%", "", Spec{Loss: GELoss{1, 10, 70, 0.1}}},
		{"duplicate 1% 50%", "", Spec{Duplicate: Chance{1, 50}}},
		{"corrupt 0.1%", "", Spec{Corrupt: Chance{Percent: 0.1}}},
		{"delay 10ms reorder 25% 50% gap 5", "", Spec{Delay: Delay{Time: 10 * ms}, Reorder: Reorder{Chance{25, 50}, 5}}},
		{"rate 1mbit", "", Spec{Rate: Rate{Bits: 1e6}}},
		{"rate 125kBps", "rate 1mbit", Spec{Rate: Rate{Bits: 1e6}}},
		{"rate 1mibit", "rate 1.048576mbit", Spec{Rate: Rate{Bits: 1 << 20}}},
		{"rate 5000 -14 48 5", "rate 5kbit -14 48 5", Spec{Rate: Rate{5000, -14, 48, 5}}},
		{"slot 800us 10ms bytes 64k packets 42", "slot 800us 10ms packets 42 bytes 65536", Spec{Slot: Slot{800 * time.Microsecond, 10 * ms, 42, 65536}}},
		{"slot 5ms", "", Spec{Slot: Slot{Min: 5 * ms, Max: 5 * ms}}},
		{"  seed 7\tloss 10% limit 99 ", "loss 10% limit 99 seed 7", Spec{Loss: RandomLoss{Percent: 10}, Limit: 99, Seed: 7}},
	} {
		got, err := Parse(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
		canonical := tt.canonical
		if canonical == "" {
			canonical = tt.text
		}
		if s := got.String(); s != canonical {
			t.Errorf("Parse(%q).String() = %q, want %q", tt.text, s, canonical)
		}
	}
}

// TestParseErrors holds that a wrong word is named with its place and what could stand there.
func TestParseErrors(t *testing.T) {
	for _, tt := range []struct {
		text, word string
		pos        int
		says       string // part of the error
	}{
		{"dely 20ms", "dely", 0, "here could stand: delay, loss, duplicate, corrupt, reorder, rate, slot, limit, seed"},
		{"delay", "", 5, "at the end of \"delay\"; here could stand: TIME (20ms)"},
		{"delay fast", "fast", 6, "here could stand: TIME (20ms)"},
		{"delay 20ms jitter 5ms", "jitter", 11, "here could stand: JITTER (5ms), distribution, loss, duplicate"},
		{"delay 20mm", "20mm", 6, "here could stand: TIME"},
		{"delay -1ms", "-1ms", 6, "here could stand: TIME"},
		{"delay 20ms 5ms distribution gauss", "gauss", 28, "here could stand: uniform, normal, pareto, paretonormal"},
		{"delay 20ms distribution normal", "delay", 0, "give a JITTER too"},
		{"delay 61m", "61m", 6, "could stand"},
		{"delay 3601s", "delay", 0, "want 0s..3600s"},
		{"loss", "", 4, "here could stand: state, gemodel, random, PERCENT (10%)"},
		{"loss 110%", "loss", 0, "want 0%..100%"},
		{"loss ten", "ten", 5, "state, gemodel, random, PERCENT"},
		{"loss 10% loss 5%", "loss", 9, "loss is given twice"},
		{"loss state 60% 10% 0% 100% 50%", "loss", 0, "want at most 100%"},
		{"loss gemodel", "", 12, "P (10%)"},
		{"loss 1% 2% 3%", "3%", 11, "delay, duplicate"},
		{"reorder 25%", "reorder", 0, "give a delay or a rate too"},
		{"delay 1ms reorder 25% gap x", "x", 26, "N (5)"},
		{"delay 1ms reorder 0% gap 3", "reorder", 10, "PERCENT of more than 0"},
		{"rate 0", "0", 5, "want more than 0"},
		{"rate 10mbits", "10mbits", 5, "RATE (10mbit)"},
		{"slot 5ms 1ms", "slot", 0, "is less than MIN"},
		{"slot 1ms packets -2", "-2", 17, "want 1 or more"},
		{"limit 0", "0", 6, "want 1 packet"},
		{"limit 9999999999999999999999", "9999999999999999999999", 6, "N (5)"},
		{"seed 0", "0", 5, "want 1 or more"},
		{"loss 1e1%", "1e1%", 5, "PERCENT"},
		{"loss NaN", "NaN", 5, "PERCENT"},
		{"loss 1..2%", "1..2%", 5, "PERCENT"},
	} {
		_, err := Parse(tt.text)
		var pe *ParseError
		if !errors.As(err, &pe) {
			t.Errorf("Parse(%q): error %v, want a ParseError", tt.text, err)
			continue
		}
		if pe.Word != tt.word || pe.Pos != tt.pos || !strings.Contains(pe.Error(), tt.says) {
			t.Errorf("Parse(%q): word %q at %d: %v; want word %q at %d: … %s …", tt.text, pe.Word, pe.Pos, err, tt.word, tt.pos, tt.says)
		}
		if strings.Contains(pe.Error(), "\n") {
			t.Errorf("Parse(%q): the error has several lines: %v", tt.text, err)
		}
		if got, want := pe.Place(), tt.text+"\n"+strings.Repeat(" ", tt.pos)+strings.Repeat("^", max(1, len(tt.word))); got != want {
			t.Errorf("Parse(%q): place\n%s\nwant\n%s", tt.text, got, want)
		}
	}
}

// percents with as many digits as anyone would write, and some that no one would.
func drawPercent(t *rapid.T, label string) Percent {
	if rapid.Bool().Draw(t, label+" whole") {
		return Percent(rapid.IntRange(0, 100).Draw(t, label))
	}
	return Percent(rapid.Float64Range(0, 100).Draw(t, label))
}

func drawChance(t *rapid.T, label string) (c Chance) {
	if c.Percent = drawPercent(t, label); c.Percent != 0 {
		c.Correlation = drawPercent(t, label+" correlation")
	}
	return c
}

func drawTime(t *rapid.T, label string, least time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(int64(least), int64(maxTime)).Draw(t, label))
}

func drawSpec(t *rapid.T) (s Spec) {
	with := func(what string) bool { return rapid.Bool().Draw(t, "with "+what) }
	if with("delay") {
		s.Delay.Time = drawTime(t, "delay", 0)
		if with("jitter") {
			s.Delay.Jitter = drawTime(t, "jitter", 1)
			s.Delay.Correlation = drawPercent(t, "delay correlation")
			s.Delay.Distribution = Distribution(rapid.IntRange(0, int(ParetoNormal)).Draw(t, "distribution"))
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "loss model") {
	case 1:
		s.Loss = RandomLoss(drawChance(t, "loss"))
	case 2:
		half := func(label string) Percent { return drawPercent(t, label) / 2 }
		s.Loss = StateLoss{half("p13"), half("p31"), half("p32"), drawPercent(t, "p23"), half("p14")}
	case 3:
		s.Loss = GELoss{drawPercent(t, "p"), drawPercent(t, "r"), drawPercent(t, "1-h"), drawPercent(t, "1-k")}
	}
	s.Duplicate = drawChance(t, "duplicate")
	s.Corrupt = drawChance(t, "corrupt")
	if with("rate") {
		s.Rate.Bits = rapid.Uint64Range(1, maxRate).Draw(t, "rate")
		s.Rate.PacketOverhead = rapid.IntRange(-maxOverhead, maxOverhead).Draw(t, "overhead")
		if s.Rate.CellSize = rapid.IntRange(0, maxOverhead).Draw(t, "cell"); s.Rate.CellSize != 0 {
			s.Rate.CellOverhead = rapid.IntRange(-maxOverhead, maxOverhead).Draw(t, "cell overhead")
		}
	}
	if s.delays() {
		if s.Reorder.Chance = drawChance(t, "reorder"); s.Reorder.Percent != 0 {
			s.Reorder.Gap = rapid.IntRange(0, maxCount).Draw(t, "gap")
		}
	}
	if with("slot") {
		s.Slot.Min = drawTime(t, "slot min", 0)
		s.Slot.Max = max(1, drawTime(t, "slot max", s.Slot.Min))
		s.Slot.Packets = rapid.IntRange(0, maxCount).Draw(t, "packets")
		s.Slot.Bytes = rapid.IntRange(0, maxCount).Draw(t, "bytes")
	}
	s.Limit = rapid.IntRange(0, maxLimit).Draw(t, "limit")
	s.Seed = rapid.Uint64().Draw(t, "seed")
	return s
}

func TestSpecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawSpec(t)
		if err := want.Validate(); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		text := want.String()
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%+v is %q: %v", want, text, err)
		}
		if got != want {
			t.Fatalf("%+v is %q, which is %+v", want, text, got)
		}
	})
}

// TestValidate holds that settings which come from Go are held to the same bounds as those from text.
func TestValidate(t *testing.T) {
	for _, s := range []Spec{
		{Delay: Delay{Time: -1}},
		{Delay: Delay{Time: maxTime + 1}},
		{Delay: Delay{Time: 1, Jitter: 1, Distribution: 9}},
		{Loss: RandomLoss{Percent: Percent(math.NaN())}},
		{Loss: RandomLoss{Percent: 101}},
		{Loss: StateLoss{P13: 60, P14: 60}},
		{Loss: GELoss{Bad: -1}},
		{Duplicate: Chance{Correlation: 5}},
		{Rate: Rate{PacketOverhead: 5}},
		{Rate: Rate{Bits: 1, CellSize: -1}},
		{Slot: Slot{Packets: 5}},
		{Limit: maxLimit + 1},
		{Limit: -1},
	} {
		var se *SpecError
		if err := s.Validate(); !errors.As(err, &se) {
			t.Errorf("%+v: error %v, want a SpecError", s, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"delay 100ms 10ms 25% distribution normal loss gemodel 1% 10% 70% 0.1%",
		"loss state 1% 2% 3% 4% 5% duplicate 1% corrupt 1% 2% delay 1 reorder 25% gap 5",
		"rate 10mbit -14 48 5 slot 1ms 2ms packets 3 bytes 4k limit 5 seed 6", "loss >5", "delay \xff", "rate .kbit",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("Parse(%q): %T: %v", text, err, err)
			}
			_ = pe.Place()
			return
		}
		again, err := Parse(s.String())
		if err != nil || again != s {
			t.Fatalf("Parse(%q) is %q, which is %+v, %v", text, s, again, err)
		}
	})
}
