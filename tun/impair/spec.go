package impair

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of a Spec. A longer delay than an hour, or a faster link than a petabit, is a slip of the pen; 2^20
// packets of 1500 bytes are 1.5 GB of queue.
const (
	maxTime     = time.Hour
	maxRate     = 1e15
	maxLimit    = 1 << 20
	maxOverhead = 1 << 16 // bytes a packet or a cell
	maxCount    = math.MaxInt32
)

// DefaultLimit is netem's: how many packets a direction holds at a time.
const DefaultLimit = 1000

// Spec is what is done to the packets of one direction. The zero value leaves them alone. Its fields mean
// what the options of tc-netem(8) mean, and its text is theirs: see [Parse] and [Spec.String].
type Spec struct {
	Delay     Delay
	Loss      LossModel // if nil, none
	Duplicate Chance
	Corrupt   Chance // flips one bit
	Reorder   Reorder
	Rate      Rate
	Slot      Slot
	Limit     int    // packets held at a time; more are lost. If 0, DefaultLimit
	Seed      uint64 // of all that is random. If 0, the Link's
}

// Percent is a probability or a correlation, from 0 to 100.
type Percent float64

// Chance is how often something happens to a packet.
type Chance struct {
	Percent     Percent
	Correlation Percent // how much each packet's number depends on the one before
}

// Delay is how long each packet takes.
type Delay struct {
	Time         time.Duration
	Jitter       time.Duration // half the width of Uniform; about one standard deviation of the others
	Correlation  Percent
	Distribution Distribution
}

// Reorder sends packets at once, ahead of those that are delayed: the last of each Gap packets, with
// probability Percent; the Gap-1 before it are delayed. Gap 0 is 1.
type Reorder struct {
	Chance
	Gap int
}

// Rate is the speed of the link: each packet follows the one before it at that distance.
type Rate struct {
	Bits           uint64 // a second; if 0, unlimited
	PacketOverhead int    // bytes, may be negative
	CellSize       int    // bytes; if not 0, a packet takes whole cells
	CellOverhead   int    // bytes added to each cell, may be negative
}

// Slot gathers packets and lets them out together, as cable and radio links do: each slot starts a time
// between Min and Max after the one before.
type Slot struct {
	Min, Max time.Duration
	Packets  int // that pass in one slot; if 0, all
	Bytes    int // that pass in one slot; if 0, all
}

// active reports whether s does anything to packets.
func (s Spec) active() bool {
	s.Limit, s.Seed = 0, 0
	return s != Spec{}
}

// delays reports whether a packet may have to wait.
func (s *Spec) delays() bool { return s.Delay.Time != 0 || s.Delay.Jitter != 0 || s.Rate.Bits != 0 }

// SpecError says which setting of a Spec makes no sense.
type SpecError struct {
	Setting string // the option and, where it has several, the value: "delay JITTER"
	Value   string
	Reason  string
}

func (e *SpecError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Setting, e.Value, e.Reason)
}

// Validate returns a *SpecError for the first setting that makes no sense.
func (s Spec) Validate() error {
	c := checker{}
	c.time("delay TIME", s.Delay.Time)
	c.time("delay JITTER", s.Delay.Jitter)
	c.percent("delay CORRELATION", s.Delay.Correlation)
	c.check(s.Delay.Distribution <= ParetoNormal, "delay distribution", s.Delay.Distribution, "want uniform, normal, pareto or paretonormal")
	c.check(s.Delay.Distribution == Uniform || s.Delay.Jitter != 0, "delay distribution", s.Delay.Distribution, "says how jitter is distributed: give a JITTER too, as in delay 100ms 10ms distribution normal")
	c.check(s.Delay.Correlation == 0 || s.Delay.Jitter != 0, "delay CORRELATION", formatPercent(s.Delay.Correlation), "says how jitter follows jitter: give a JITTER too, as in delay 100ms 10ms 25%")
	if s.Loss != nil {
		s.Loss.check(&c)
	}
	c.chance("duplicate", s.Duplicate)
	c.chance("corrupt", s.Corrupt)
	c.chance("reorder", s.Reorder.Chance)
	c.count("reorder gap", s.Reorder.Gap, maxCount)
	c.check(s.Reorder.Gap == 0 || s.Reorder.Percent != 0, "reorder gap", s.Reorder.Gap, "needs a PERCENT of more than 0, as in reorder 25% gap 5")
	c.check(s.Reorder.Percent == 0 || s.delays(), "reorder", formatPercent(s.Reorder.Percent), "lets packets overtake delayed ones: give a delay or a rate too, as in delay 10ms reorder 25%")
	c.check(s.Rate.Bits <= maxRate, "rate", formatRate(s.Rate.Bits), "want at most "+formatRate(maxRate))
	c.check(s.Rate.Bits != 0 || s.Rate == Rate{}, "rate", "0bit", "has overheads: give a RATE of more than 0")
	c.check(s.Rate.PacketOverhead <= maxOverhead && s.Rate.PacketOverhead >= -maxOverhead, "rate PACKETOVERHEAD", s.Rate.PacketOverhead, "want -65536..65536")
	c.count("rate CELLSIZE", s.Rate.CellSize, maxOverhead)
	c.check(s.Rate.CellOverhead <= maxOverhead && s.Rate.CellOverhead >= -maxOverhead, "rate CELLOVERHEAD", s.Rate.CellOverhead, "want -65536..65536")
	c.check(s.Rate.CellOverhead == 0 || s.Rate.CellSize != 0, "rate CELLOVERHEAD", s.Rate.CellOverhead, "needs a CELLSIZE of more than 0")
	c.time("slot MIN", s.Slot.Min)
	c.time("slot MAX", s.Slot.Max)
	c.check(s.Slot.Max >= s.Slot.Min, "slot MAX", formatTime(s.Slot.Max), "is less than MIN "+formatTime(s.Slot.Min))
	c.check(s.Slot.Max != 0 || s.Slot == Slot{}, "slot MAX", "0s", "want more than 0")
	c.count("slot packets", s.Slot.Packets, maxCount)
	c.count("slot bytes", s.Slot.Bytes, maxCount)
	c.count("limit", s.Limit, maxLimit)
	if c.err != nil {
		return c.err
	}
	return nil
}

// checker keeps the first thing that is wrong.
type checker struct{ err *SpecError }

func (c *checker) check(ok bool, setting string, value any, reason string) {
	if !ok && c.err == nil {
		c.err = &SpecError{setting, fmt.Sprint(value), reason}
	}
}

func (c *checker) time(setting string, d time.Duration) {
	c.check(d >= 0 && d <= maxTime, setting, formatTime(d), "want 0s.."+formatTime(maxTime))
}

func (c *checker) percent(setting string, p Percent) {
	c.check(p >= 0 && p <= 100, setting, formatPercent(p), "want 0%..100%") // false for NaN too
}

func (c *checker) chance(setting string, ch Chance) {
	c.percent(setting+" PERCENT", ch.Percent)
	c.percent(setting+" CORRELATION", ch.Correlation)
	c.check(ch.Percent != 0 || ch.Correlation == 0, setting+" CORRELATION", formatPercent(ch.Correlation), "needs a PERCENT of more than 0")
}

func (c *checker) count(setting string, n, most int) {
	c.check(n >= 0 && n <= most, setting, n, "want 0.."+strconv.Itoa(most))
}

// String is s in tc's words, as Parse reads them; "" for the zero value. What Parse makes of it equals s.
func (s Spec) String() string {
	var w []string
	add := func(words ...string) { w = append(w, words...) }
	if d := s.Delay; d != (Delay{}) {
		add("delay", formatTime(d.Time))
		if d.Jitter != 0 {
			add(formatTime(d.Jitter))
		}
		if d.Correlation != 0 {
			add(formatPercent(d.Correlation))
		}
		if d.Distribution != Uniform {
			add("distribution", d.Distribution.String())
		}
	}
	if s.Loss != nil {
		add("loss", s.Loss.String())
	}
	addChance := func(name string, c Chance) {
		if c == (Chance{}) {
			return
		}
		add(name, formatPercent(c.Percent))
		if c.Correlation != 0 {
			add(formatPercent(c.Correlation))
		}
	}
	addChance("duplicate", s.Duplicate)
	addChance("corrupt", s.Corrupt)
	addChance("reorder", s.Reorder.Chance)
	if s.Reorder.Gap != 0 {
		add("gap", strconv.Itoa(s.Reorder.Gap))
	}
	if r := s.Rate; r.Bits != 0 {
		add("rate", formatRate(r.Bits))
		overheads := []int{r.PacketOverhead, r.CellSize, r.CellOverhead}
		for len(overheads) > 0 && overheads[len(overheads)-1] == 0 {
			overheads = overheads[:len(overheads)-1]
		}
		for _, n := range overheads {
			add(strconv.Itoa(n))
		}
	}
	if sl := s.Slot; sl != (Slot{}) {
		add("slot", formatTime(sl.Min))
		if sl.Max != sl.Min {
			add(formatTime(sl.Max))
		}
		if sl.Packets != 0 {
			add("packets", strconv.Itoa(sl.Packets))
		}
		if sl.Bytes != 0 {
			add("bytes", strconv.Itoa(sl.Bytes))
		}
	}
	if s.Limit != 0 {
		add("limit", strconv.Itoa(s.Limit))
	}
	if s.Seed != 0 {
		add("seed", strconv.FormatUint(s.Seed, 10))
	}
	return strings.Join(w, " ")
}

// MarshalText implements encoding.TextMarshaler: it is String.
func (s Spec) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it is Parse.
func (s *Spec) UnmarshalText(text []byte) (err error) {
	*s, err = Parse(string(text))
	return err
}
