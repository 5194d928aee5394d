package impair

import (
	"errors"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	verbs = []Verb{VerbDrop, VerbDelay, VerbHold, VerbCorrupt, VerbDuplicate, VerbReset, VerbWindow, VerbTooBig, VerbBlackhole, VerbCut, VerbVanish}
	kinds = []Kind{KindSYN, KindSYNACK, KindACK, KindData, KindFIN, KindRST, KindByte}
)

func hasVerb(v Verb) bool { return slices.Contains(verbs, v) }
func hasKind(k Kind) bool { return slices.Contains(kinds, k) }

// ParseRule reads a rule:
//
//	RULE  = VERB [MATCH] [WHICH] [WHERE]...
//	VERB  = drop | blackhole | delay TIME | hold TIME | corrupt | duplicate | reset
//	      | window N | toobig MTU | cut TIME | vanish client|server
//	MATCH = ip | icmp | udp | tcp [syn | synack | ack | data | fin | rst | byte OFFSET]
//	WHICH = N | N..M | N.. | first [N] | every N | all
//	WHERE = from client|server | in | out | size > N | size < N | port N | connection N | at TIME
//	      | host NAME|ADDRESS[/LEN] | to NAME|ADDRESS[/LEN]
//
// TIME has a unit (2s, 20ms); that of delay and hold may also follow MATCH and WHICH, as in "delay tcp fin 2s".
// "drop tcp data 2 from server" loses the second data segment from the server of each connection, "drop tcp
// data 2 from server connection 1" that of the first connection alone. Packets are counted for each flow by
// itself, in both directions together unless from, in or out says otherwise, and a retransmission counts as one
// more; but "byte OFFSET" without WHICH is the first segment that carries the byte, and only that. The client is
// the side that sent the SYN; of a connection whose start was not seen, the side with the higher port. "at TIME"
// counts from when the rule was added. "host" is either address of a packet, "to" its destination; a NAME is
// one of Config.Names, whose addresses are looked up when the rule is added. An IPv4 packet without DF, which a router would fragment, is none of
// toobig's: it goes on, whole. A word that cannot stand where it does is a *ParseError.
func ParseRule(text string) (Rule, error) {
	p := ruleParser{words: split(text)}
	if err := p.parse(); err != nil {
		return Rule{}, err
	}
	if err := p.rule.Validate(); err != nil {
		var se *SpecError
		if errors.As(err, &se) {
			return Rule{}, p.senseless(0, se)
		}
		return Rule{}, err
	}
	return p.rule, nil
}

type ruleParser struct {
	*words
	rule Rule
}

func (p *ruleParser) parse() (err error) {
	if err := p.verb(); err != nil {
		return err
	}
	if err := p.match(); err != nil {
		return err
	}
	if err := p.which(); err != nil {
		return err
	}
	if (p.rule.Verb == VerbDelay || p.rule.Verb == VerbHold) && p.rule.Time == 0 {
		if p.rule.Time, err = p.time(); err != nil {
			return err
		}
	}
	for !p.done() {
		if err := p.where(); err != nil {
			return err
		}
	}
	return nil
}

func (p *ruleParser) verb() (err error) {
	r := &p.rule
	for _, v := range verbs {
		if !p.is(string(v)) {
			continue
		}
		r.Verb = v
		switch v {
		case VerbDelay, VerbHold:
			if p.hasTime() {
				r.Time, err = p.time()
			} else {
				p.expect(wantTime)
			}
		case VerbCut:
			r.Time, err = p.time()
		case VerbWindow:
			r.N, _, err = value(p.words, "N (0)", true, readInt)
		case VerbTooBig:
			r.N, _, err = value(p.words, "MTU (1280)", true, readInt)
		case VerbVanish:
			r.Who, err = p.side()
		}
		return err
	}
	return p.unexpected()
}

// hasTime reports whether the next word is a number with a unit.
func (p *ruleParser) hasTime() bool {
	_, unit, ok := number(p.peek())
	return ok && unit != "" && !strings.HasPrefix(unit, "%")
}

func (p *ruleParser) time() (time.Duration, error) {
	d, _, err := value(p.words, wantTime, true, func(s string) (time.Duration, bool) {
		d, ok := readTime(s)
		return d, ok && p.hasTime()
	})
	return d, err
}

func (p *ruleParser) side() (Side, error) {
	switch {
	case p.is("client"):
		return Client, nil
	case p.is("server"):
		return Server, nil
	}
	return AnySide, p.unexpected()
}

func (p *ruleParser) match() (err error) {
	m := &p.rule.Match
	for _, proto := range []string{"tcp", "udp", "icmp", "ip"} {
		if p.rule.Verb.needsTCP() && proto != "tcp" || !p.is(proto) {
			continue
		}
		m.Proto = proto
		if proto != "tcp" {
			return nil
		}
		for _, k := range kinds {
			if !p.is(string(k)) {
				continue
			}
			m.Kind = k
			if k == KindByte {
				m.Byte, _, err = value(p.words, "OFFSET (1000)", true, readOffset)
			}
			return err
		}
		return nil
	}
	return nil
}

func readOffset(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

// readRange reads N, N..M or N.. .
func readRange(s string) (w Which, ok bool) {
	first, last, isRange := strings.Cut(s, "..")
	n, err := strconv.Atoi(first)
	if err != nil || n < 1 || n > math.MaxInt32 {
		return w, false
	}
	w = Which{First: n, Last: n}
	if isRange {
		w.Last = 0
		if last != "" {
			if w.Last, err = strconv.Atoi(last); err != nil || w.Last < n || w.Last > math.MaxInt32 {
				return w, false
			}
		}
	}
	return w, true
}

func (p *ruleParser) which() (err error) {
	w := &p.rule.Which
	if p.rule.Match.Kind == KindByte {
		*w = Which{First: 1, Last: 1}
	}
	switch {
	case p.is("first"):
		n, ok, err := value(p.words, wantN, false, readInt)
		if err == nil && ok && n < 1 {
			return p.refuseLast("want 1 or more")
		}
		*w = Which{First: 1, Last: max(n, 1)}
		return err
	case p.is("every"):
		n, _, err := value(p.words, wantN, true, readInt)
		if err == nil && n < 1 {
			return p.refuseLast("want 1 or more")
		}
		*w = Which{Every: n}
		return err
	case p.is("all"):
		*w = Which{}
		return nil
	}
	if p.hasTime() && p.rule.Time == 0 && (p.rule.Verb == VerbDelay || p.rule.Verb == VerbHold) {
		if !strings.Contains(p.peek(), "..") {
			p.expect("N (2)")
			return nil
		}
	}
	got, ok, err := value(p.words, "N (2)", false, readRange)
	if err == nil && !ok {
		p.expect("N..M")
	}
	if ok {
		*w = got
	}
	return err
}

func (p *ruleParser) where() (err error) {
	m := &p.rule.Match
	free := func(name string, unset bool) bool { return unset && p.is(name) }
	switch {
	case free("from", m.From == AnySide):
		m.From, err = p.side()
	case free("in", m.Way == ""):
		m.Way = "in"
	case free("out", m.Way == ""):
		m.Way = "out"
	case p.is("size"):
		return p.size()
	case free("port", m.Port == 0):
		m.Port, _, err = value(p.words, "PORT (80)", true, func(s string) (uint16, bool) {
			n, err := strconv.ParseUint(s, 10, 16)
			return uint16(n), err == nil && n > 0
		})
	case free("host", !m.named()):
		return p.host()
	case free("to", !m.named()):
		m.To = true
		return p.host()
	case free("connection", m.Connection == 0):
		m.Connection, _, err = value(p.words, wantN, true, readInt)
		if err == nil && m.Connection < 1 {
			return p.refuseLast("want 1 or more")
		}
	case free("at", p.rule.After == 0):
		p.rule.After, err = p.time()
	default:
		return p.unexpected()
	}
	return err
}

func (p *ruleParser) size() (err error) {
	m := &p.rule.Match
	bound := &m.Over
	switch {
	case m.Over == 0 && p.is(">"):
	case m.Under == 0 && p.is("<"):
		bound = &m.Under
	default:
		return p.unexpected()
	}
	*bound, _, err = value(p.words, "BYTES (1400)", true, readInt)
	if err == nil && *bound < 1 {
		return p.refuseLast("want 1 or more")
	}
	return err
}

func (p *ruleParser) host() error {
	p.expect("NAME")
	p.expect("ADDRESS[/LEN] (10.9.0.1)")
	text := p.peek()
	if validName(text) {
		p.rule.Match.Name = p.take()
		return nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return p.unexpected()
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	p.take()
	p.rule.Match.Host = prefix.Masked()
	return nil
}
