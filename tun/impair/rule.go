package impair

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Rule is a fault that is applied to the packets it names. Its text is what a person would say: see ParseRule.
type Rule struct {
	Verb  Verb
	Time  time.Duration // of Delay and Hold: how long; of cut: for how long
	N     int           // of window: the window field; of toobig: the MTU
	Who   Side          // of vanish
	Match Match
	Which Which
	After time.Duration // the rule sleeps so long after it was added
}

// Verb is what a Rule does.
type Verb string

// Verbs.
const (
	VerbDrop      Verb = "drop"      // lose the packet
	VerbBlackhole Verb = "blackhole" // the same; said of what never comes through
	VerbDelay     Verb = "delay"     // others overtake it
	VerbHold      Verb = "hold"      // what follows it in its flow waits behind it
	VerbCorrupt   Verb = "corrupt"   // flip one bit: of the byte that Match names, else of the payload, else of the header
	VerbDuplicate Verb = "duplicate" // one copy more
	VerbReset     Verb = "reset"     // lose the segment and answer it with an RST
	VerbWindow    Verb = "window"    // change the window field
	VerbTooBig    Verb = "toobig"    // lose the packet and answer with ICMP "too big" (RFC 8201) or "fragmentation needed" (RFC 1191)
	VerbCut       Verb = "cut"       // lose everything for a time, from the packet on that is named, if one is
	VerbVanish    Verb = "vanish"    // lose everything that a side sends, from the packet on that is named, if one is
)

// Match says which packets a Rule is about. The zero value matches all.
type Match struct {
	Proto string // "tcp", "udp", "icmp" (ICMPv6 too), "ip"; "" is "ip"
	Kind  Kind   // of TCP segments
	Byte  uint32 // of KindByte: the offset in the stream, from 0

	From       Side
	Way        string       // "in", "out", "" for both
	Over       int          // IP packets of more bytes; 0: any
	Under      int          // IP packets of fewer bytes; 0: any
	Port       uint16       // either port
	Host       netip.Prefix // either address
	Name       string       // instead of Host: either address is one that Config.Names has for it when the rule is added
	To         bool         // Host and Name are of the destination alone
	Connection int          // the n-th flow that the rule sees; 0: each
}

// Kind is a kind of TCP segment.
type Kind string

// Kinds of segments. One may be of several.
const (
	AnyKind    Kind = ""
	KindSYN    Kind = "syn"    // SYN without ACK
	KindSYNACK Kind = "synack" // SYN and ACK
	KindACK    Kind = "ack"    // nothing but an acknowledgment: no payload, no SYN, FIN or RST
	KindData   Kind = "data"   // with payload
	KindFIN    Kind = "fin"
	KindRST    Kind = "rst"
	KindByte   Kind = "byte" // whose payload carries the byte at an offset of its side's stream
)

// Which says to which of the packets that match in one flow a Rule applies; they are counted from 1, and a
// retransmission counts as one more. The zero value is all of them.
type Which struct {
	First, Last int // from First to Last; Last 0 is without end
	Every       int // each so many-th
}

func (w Which) includes(n uint64) bool {
	switch {
	case w.Every > 0:
		return n%uint64(w.Every) == 0
	case w.First > 0:
		return n >= uint64(w.First) && (w.Last == 0 || n <= uint64(w.Last))
	}
	return true
}

// named reports whether the rule is about the packets of some hosts only.
func (m *Match) named() bool { return m.Host.IsValid() || m.Name != "" }

// validName reports whether s can be the name of a host: letters, digits, hyphens, underscores and dots, with a
// letter among them, so that it is no address that went wrong.
func validName(s string) bool {
	letter := false
	for i := range len(s) {
		switch b := s[i]; {
		case 'a' <= b|0x20 && b|0x20 <= 'z':
			letter = true
		case '0' <= b && b <= '9':
		case (b == '-' || b == '_' || b == '.') && i > 0:
		default:
			return false
		}
	}
	return letter && len(s) <= 253 // RFC 1035 2.3.4, without the root's dot and the lengths
}

// needsTCP reports whether the verb makes sense for TCP only.
func (v Verb) needsTCP() bool { return v == VerbReset || v == VerbWindow }

// Validate returns a *SpecError for the first part that makes no sense.
func (r Rule) Validate() error {
	c := checker{}
	verb := string(r.Verb)
	c.check(hasVerb(r.Verb), "rule", r.Verb, "no such verb")
	switch r.Verb {
	case VerbDelay, VerbHold, VerbCut:
		c.time(verb+" TIME", r.Time)
		c.check(r.Time != 0, verb, "", "want a TIME of more than 0")
	default:
		c.check(r.Time == 0, verb+" TIME", formatTime(r.Time), "it takes none")
	}
	switch r.Verb {
	case VerbWindow:
		c.count(verb+" N", r.N, 65535)
	case VerbTooBig:
		c.check(r.N >= 68 && r.N <= 65535, verb+" MTU", r.N, "want 68..65535 (RFC 791)")
	default:
		c.check(r.N == 0, verb+" N", r.N, "it takes none")
	}
	c.check((r.Verb == VerbVanish) == (r.Who != AnySide) && r.Who <= Server, verb, r.Who, "say client or server of vanish, and of nothing else")
	m := r.Match
	switch m.Proto {
	case "", "ip", "udp", "icmp":
		c.check(m.Kind == AnyKind, verb+" "+m.Proto, m.Kind, "only TCP segments are of kinds")
		c.check(!r.Verb.needsTCP() || m.Proto == "", verb, m.Proto, "is for tcp only")
	case "tcp":
	default:
		c.check(false, verb, m.Proto, "want ip, tcp, udp or icmp")
	}
	c.check(m.Kind == AnyKind || hasKind(m.Kind), verb, m.Kind, "no such kind of segment")
	c.check(m.Kind == KindByte || m.Byte == 0, verb+" byte", m.Byte, "is for tcp byte only")
	c.check(m.From <= Server, verb+" from", m.From, "want client or server")
	c.check(m.Way == "" || m.Way == "in" || m.Way == "out", verb, m.Way, "want in or out")
	c.check(m.Name == "" || !m.Host.IsValid() && validName(m.Name), verb+" host", m.Name, "want a name or an address")
	c.check(!m.To || m.named(), verb, "to", "want a name or an address after it")
	c.count(verb+" size >", m.Over, 65535)
	c.count(verb+" size <", m.Under, 65536)
	c.count(verb+" connection", m.Connection, maxCount)
	w := r.Which
	c.count(verb+" every", w.Every, maxCount)
	c.count(verb+" N", w.First, maxCount)
	c.check(w.Last == 0 || w.Last >= w.First && w.Last <= maxCount && w.First > 0, verb, fmt.Sprintf("%d..%d", w.First, w.Last), "want 1 <= N <= M")
	c.check(w.Every == 0 || w.First == 0 && w.Last == 0, verb+" every", w.Every, "cannot be combined with a number")
	c.time(verb+" at", r.After)
	if c.err != nil {
		return c.err
	}
	return nil
}

// triggered reports whether a VerbCut or a VerbVanish waits for a packet.
func (r *Rule) triggered() bool {
	m := r.Match
	m.Way, m.Port, m.Host, m.Name, m.To = "", 0, netip.Prefix{}, "", false // where, not when
	if m.Proto != "" && m.Kind == AnyKind {
		m.Proto = ""
	}
	return m != Match{} || r.Which != Which{}
}

// String is the rule as ParseRule reads it. What ParseRule makes of it equals r.
func (r Rule) String() string {
	w := []string{string(r.Verb)}
	add := func(words ...string) { w = append(w, words...) }
	switch r.Verb {
	case VerbDelay, VerbHold, VerbCut:
		add(formatTime(r.Time))
	case VerbWindow, VerbTooBig:
		add(strconv.Itoa(r.N))
	case VerbVanish:
		add(r.Who.String())
	}
	m := r.Match
	if m.Proto != "" {
		add(m.Proto)
	}
	if m.Kind != AnyKind {
		add(string(m.Kind))
	}
	if m.Kind == KindByte {
		add(strconv.FormatUint(uint64(m.Byte), 10))
	}
	switch wh := r.Which; {
	case wh.Every > 0:
		add("every", strconv.Itoa(wh.Every))
	case m.Kind == KindByte && wh == (Which{}):
		add("all")
	case m.Kind == KindByte && wh == (Which{First: 1, Last: 1}), wh == (Which{}):
	case wh.Last == 0:
		add(strconv.Itoa(wh.First) + "..")
	case wh.Last == wh.First:
		add(strconv.Itoa(wh.First))
	default:
		add(fmt.Sprintf("%d..%d", wh.First, wh.Last))
	}
	if m.From != AnySide {
		add("from", m.From.String())
	}
	if m.Way != "" {
		add(m.Way)
	}
	if m.Over != 0 {
		add("size", ">", strconv.Itoa(m.Over))
	}
	if m.Under != 0 {
		add("size", "<", strconv.Itoa(m.Under))
	}
	if m.Port != 0 {
		add("port", strconv.Itoa(int(m.Port)))
	}
	if m.named() {
		which := "host"
		if m.To {
			which = "to"
		}
		switch {
		case m.Name != "":
			add(which, m.Name)
		case m.Host.IsSingleIP():
			add(which, m.Host.Addr().String())
		default:
			add(which, m.Host.String())
		}
	}
	if m.Connection != 0 {
		add("connection", strconv.Itoa(m.Connection))
	}
	if r.After != 0 {
		add("at", formatTime(r.After))
	}
	return strings.Join(w, " ")
}

// MarshalText implements encoding.TextMarshaler: it is String.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler: it is ParseRule.
func (r *Rule) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRule(string(text))
	return err
}
