package impair

import (
	"errors"
	"strings"
)

// The kinds of values, as errors name them.
const (
	wantTime        = "TIME (20ms)"
	wantJitter      = "JITTER (5ms)"
	wantPercent     = "PERCENT (10%)"
	wantCorrelation = "CORRELATION (25%)"
	wantRate        = "RATE (10mbit)"
	wantN           = "N (5)"
)

// Parse reads settings in tc's words: see the package documentation for the grammar. A word that cannot
// stand where it does is a *ParseError. The empty string is the zero Spec.
func Parse(text string) (Spec, error) {
	p := specParser{words: split(text), given: map[string]int{}}
	for !p.done() {
		if err := p.option(); err != nil {
			return Spec{}, err
		}
	}
	if err := p.spec.Validate(); err != nil {
		return Spec{}, p.locate(err)
	}
	return p.spec, nil
}

type specParser struct {
	*words
	spec  Spec
	given map[string]int // options that have been read, and the word each started at
}

// options in the order in which String writes them and errors list them.
var options = []struct {
	name string
	read func(*specParser) error
}{
	{"delay", (*specParser).delay},
	{"loss", (*specParser).loss},
	{"duplicate", func(p *specParser) error { return p.chance(&p.spec.Duplicate) }},
	{"corrupt", func(p *specParser) error { return p.chance(&p.spec.Corrupt) }},
	{"reorder", (*specParser).reorder},
	{"rate", (*specParser).rate},
	{"slot", (*specParser).slot},
	{"limit", func(p *specParser) error {
		n, _, err := value(p.words, wantN, true, readLimit)
		p.spec.Limit = n
		if err == nil && n < 1 {
			return p.refuseLast("want 1 packet or more")
		}
		return err
	}},
	{"seed", func(p *specParser) error {
		n, _, err := value(p.words, wantN, true, readSeed)
		p.spec.Seed = n
		if err == nil && n == 0 {
			return p.refuseLast("want 1 or more")
		}
		return err
	}},
}

func (p *specParser) option() error {
	for _, o := range options {
		start := p.next
		if _, twice := p.given[o.name]; twice {
			if p.peek() == o.name {
				p.take()
				return p.refuseLast(o.name + " is given twice")
			}
			continue
		}
		if !p.is(o.name) {
			continue
		}
		p.given[o.name] = start
		return o.read(p)
	}
	return p.unexpected()
}

// locate gives an error of Validate the place of the option that it is about.
func (p *specParser) locate(err error) error {
	var se *SpecError
	if errors.As(err, &se) {
		name, _, _ := strings.Cut(se.Setting, " ")
		if at, ok := p.given[name]; ok {
			return p.senseless(at, se)
		}
	}
	return err
}

func (p *specParser) delay() (err error) {
	d := &p.spec.Delay
	ok := false
	if d.Time, _, err = value(p.words, wantTime, true, readTime); err != nil {
		return err
	}
	if d.Jitter, ok, err = value(p.words, wantJitter, false, readTime); err != nil {
		return err
	}
	if ok {
		if d.Correlation, _, err = value(p.words, wantCorrelation, false, readPercent); err != nil {
			return err
		}
	}
	if !p.is("distribution") {
		return nil
	}
	for dist := Uniform; dist <= ParetoNormal; dist++ {
		if p.is(dist.String()) {
			d.Distribution = dist
			return nil
		}
	}
	return p.unexpected()
}

func (p *specParser) chance(c *Chance) (err error) {
	if c.Percent, _, err = value(p.words, wantPercent, true, readPercent); err != nil {
		return err
	}
	c.Correlation, _, err = value(p.words, wantCorrelation, false, readPercent)
	return err
}

func (p *specParser) loss() error {
	switch {
	case p.is("state"):
		return p.lossState()
	case p.is("gemodel"):
		return p.lossGE()
	}
	p.is("random")
	var c Chance
	err := p.chance(&c)
	p.spec.Loss = RandomLoss(c)
	return err
}

// percents reads up to len(names) values, of which the first must be there, and returns how many there were.
func (p *specParser) percents(names []string, to ...*Percent) (n int, err error) {
	for i := range to {
		v, ok, err := value(p.words, names[i]+" (10%)", i == 0, readPercent)
		if err != nil || !ok {
			return i, err
		}
		*to[i] = v
	}
	return len(to), nil
}

func (p *specParser) lossState() error {
	var l StateLoss
	n, err := p.percents([]string{"P13", "P31", "P32", "P23", "P14"}, &l.P13, &l.P31, &l.P32, &l.P23, &l.P14)
	if n < 2 {
		l.P31 = 100 - l.P13
	}
	if n < 4 {
		l.P23 = 100
	}
	p.spec.Loss = l
	return err
}

func (p *specParser) lossGE() error {
	var l GELoss
	n, err := p.percents([]string{"P", "R", "1-H", "1-K"}, &l.P, &l.R, &l.Bad, &l.Good)
	if n < 2 {
		l.R = 100 - l.P
	}
	if n < 3 {
		l.Bad = 100
	}
	p.spec.Loss = l
	return err
}

func (p *specParser) reorder() (err error) {
	r := &p.spec.Reorder
	if err := p.chance(&r.Chance); err != nil || !p.is("gap") {
		return err
	}
	r.Gap, _, err = value(p.words, wantN, true, readInt)
	return err
}

func (p *specParser) rate() (err error) {
	r := &p.spec.Rate
	if r.Bits, _, err = value(p.words, wantRate, true, readRate); err != nil {
		return err
	}
	if r.Bits == 0 {
		return p.refuseLast("want more than 0")
	}
	for _, o := range []struct {
		name string
		to   *int
	}{{"PACKETOVERHEAD (14)", &r.PacketOverhead}, {"CELLSIZE (48)", &r.CellSize}, {"CELLOVERHEAD (5)", &r.CellOverhead}} {
		ok := false
		if *o.to, ok, err = value(p.words, o.name, false, readInt); err != nil || !ok {
			return err
		}
	}
	return nil
}

func (p *specParser) slot() (err error) {
	s := &p.spec.Slot
	ok := false
	if s.Min, _, err = value(p.words, "MIN (10ms)", true, readTime); err != nil {
		return err
	}
	if s.Max, ok, err = value(p.words, "MAX (20ms)", false, readTime); err != nil {
		return err
	}
	if !ok {
		s.Max = s.Min
	}
	for {
		switch {
		case s.Packets == 0 && p.is("packets"):
			s.Packets, _, err = value(p.words, wantN, true, readInt)
		case s.Bytes == 0 && p.is("bytes"):
			s.Bytes, _, err = value(p.words, "N (64k)", true, readSize)
		default:
			return nil
		}
		if err != nil {
			return err
		}
		if s.Packets < 0 || s.Bytes < 0 {
			return p.refuseLast("want 1 or more")
		}
	}
}
