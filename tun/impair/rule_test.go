package impair

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseRule(t *testing.T) {
	tcp := func(k Kind) Match { return Match{Proto: "tcp", Kind: k} }
	from := func(m Match, s Side) Match { m.From = s; return m }
	for _, tt := range []struct {
		text, canonical string
		want            Rule
	}{
		{"drop tcp data 2 from server", "", Rule{Verb: VerbDrop, Match: from(tcp(KindData), Server), Which: Which{First: 2, Last: 2}}},
		{"drop tcp syn first", "drop tcp syn 1", Rule{Verb: VerbDrop, Match: tcp(KindSYN), Which: Which{First: 1, Last: 1}}},
		{"drop tcp ack every 3 from client", "", Rule{Verb: VerbDrop, Match: from(tcp(KindACK), Client), Which: Which{Every: 3}}},
		{"delay tcp fin 2s", "delay 2s tcp fin", Rule{Verb: VerbDelay, Time: 2 * time.Second, Match: tcp(KindFIN)}},
		{"delay tcp data 2 20ms", "delay 20ms tcp data 2", Rule{Verb: VerbDelay, Time: 20 * ms, Match: tcp(KindData), Which: Which{First: 2, Last: 2}}},
		{"hold 2s tcp fin", "", Rule{Verb: VerbHold, Time: 2 * time.Second, Match: tcp(KindFIN)}},
		{"corrupt tcp byte 1000 from server", "", Rule{Verb: VerbCorrupt, Match: Match{Proto: "tcp", Kind: KindByte, Byte: 1000, From: Server}, Which: Which{First: 1, Last: 1}}},
		{"drop tcp byte 1000 first 2", "drop tcp byte 1000 1..2", Rule{Verb: VerbDrop, Match: Match{Proto: "tcp", Kind: KindByte, Byte: 1000}, Which: Which{First: 1, Last: 2}}},
		{"drop tcp byte 0 all", "", Rule{Verb: VerbDrop, Match: tcp(KindByte)}},
		{"cut 5s at 1s", "", Rule{Verb: VerbCut, Time: 5 * time.Second, After: time.Second}},
		{"reset tcp data 3", "", Rule{Verb: VerbReset, Match: tcp(KindData), Which: Which{First: 3, Last: 3}}},
		{"window 0 from client", "", Rule{Verb: VerbWindow, Match: Match{From: Client}}},
		{"blackhole size>1400", "blackhole size > 1400", Rule{Verb: VerbBlackhole, Match: Match{Over: 1400}}},
		{"toobig 1280", "", Rule{Verb: VerbTooBig, N: 1280}},
		{"toobig 1280 out size > 1300 size < 1400", "", Rule{Verb: VerbTooBig, N: 1280, Match: Match{Way: "out", Over: 1300, Under: 1400}}},
		{"vanish client", "", Rule{Verb: VerbVanish, Who: Client}},
		{"vanish server tcp data 3.. port 80 connection 2", "", Rule{Verb: VerbVanish, Who: Server, Match: Match{Proto: "tcp", Kind: KindData, Port: 80, Connection: 2}, Which: Which{First: 3}}},
		{"duplicate udp 2..4 in host 10.9.0.1", "", Rule{Verb: VerbDuplicate, Match: Match{Proto: "udp", Way: "in", Host: netip.MustParsePrefix("10.9.0.1/32")}, Which: Which{First: 2, Last: 4}}},
		{"drop icmp host 10.9.0.7/24", "drop icmp host 10.9.0.0/24", Rule{Verb: VerbDrop, Match: Match{Proto: "icmp", Host: netip.MustParsePrefix("10.9.0.0/24")}}},
		{"drop udp to db", "", Rule{Verb: VerbDrop, Match: Match{Proto: "udp", Name: "db", To: true}}},
		{"drop host db-1.example port 53", "drop port 53 host db-1.example", Rule{Verb: VerbDrop, Match: Match{Name: "db-1.example", Port: 53}}},
		{"drop to fd00::7", "", Rule{Verb: VerbDrop, Match: Match{Host: netip.MustParsePrefix("fd00::7/128"), To: true}}},
	} {
		got, err := ParseRule(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("ParseRule(%q) = %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
		canonical := tt.canonical
		if canonical == "" {
			canonical = tt.text
		}
		if s := got.String(); s != canonical {
			t.Errorf("ParseRule(%q).String() = %q, want %q", tt.text, s, canonical)
		}
	}
}

func TestParseRuleErrors(t *testing.T) {
	for _, tt := range []struct {
		text, word string
		pos        int
		says       string
	}{
		{"", "", 0, "here could stand: drop, delay, hold, corrupt, duplicate, reset, window, toobig, blackhole, cut, vanish"},
		{"drip tcp", "drip", 0, "here could stand: drop, "},
		{"drip tcp", "drip", 0, `: did you mean "drop"?`},
		{"drop tcp data 2 from sever", "sever", 21, `: did you mean "server"?; here could stand: client, server`},
		{"drop tcp SYN", "SYN", 9, `: did you mean "syn"?`},
		{"drop tcp data second", "second", 14, "of \"drop tcp data second\"; here could stand: "}, // like nothing
		{"drop tpc data 2", "tpc", 5, "here could stand: tcp, udp, icmp, ip, first, every, all, N (2), N..M, from, in, out, size"},
		{"drop tcp dta 2", "dta", 9, "here could stand: syn, synack, ack, data, fin, rst, byte, first"},
		{"drop tcp data second", "second", 14, "here could stand: first, every, all, N (2), N..M, from"},
		{"drop tcp data 0", "0", 14, "N (2)"},
		{"drop tcp data 3..2", "3..2", 14, "N (2)"},
		{"drop tcp data every", "", 19, "at the end of \"drop tcp data every\"; here could stand: N (5)"},
		{"drop tcp data 2 from serv", "serv", 21, "here could stand: client, server"},
		{"drop tcp data 2 from server from client", "from", 28, "here could stand: in, out, size, port, host"},
		{"drop tcp byte", "", 13, "OFFSET (1000)"},
		{"delay tcp fin", "", 13, "TIME (20ms)"},
		{"delay tcp fin 2", "", 15, "TIME (20ms)"},
		{"cut 5", "5", 4, "TIME (20ms)"},
		{"cut 0s", "cut", 0, "want a TIME of more than 0"},
		{"window udp", "udp", 7, "N (0)"},
		{"window 70000", "window", 0, "want 0..65535"},
		{"window 0 udp", "udp", 9, "here could stand: tcp"},
		{"toobig 10", "toobig", 0, "want 68..65535"},
		{"blackhole size 1400", "1400", 15, "here could stand: >, <"},
		{"vanish peer", "peer", 7, "here could stand: client, server"},
		{"drop port 99999", "99999", 10, "PORT (80)"},
		{"drop host 10.9.0", "10.9.0", 10, "ADDRESS[/LEN]"},
		{"drop host -db", "-db", 10, "NAME, ADDRESS[/LEN]"},
		{"drop udp to db host web", "host", 15, "here could stand: from, in, out, size, port, connection"},
		{"drop connection 0", "0", 16, "want 1 or more"},
	} {
		_, err := ParseRule(tt.text)
		var pe *ParseError
		if !errors.As(err, &pe) {
			t.Errorf("ParseRule(%q): error %v, want a ParseError", tt.text, err)
			continue
		}
		if pe.Word != tt.word || pe.Pos != tt.pos || !strings.Contains(pe.Error(), tt.says) {
			t.Errorf("ParseRule(%q): word %q at %d: %v; want word %q at %d: … %s …", tt.text, pe.Word, pe.Pos, err, tt.word, tt.pos, tt.says)
		}
	}
}

func drawRule(t *rapid.T) (r Rule) {
	r.Verb = rapid.SampledFrom(verbs).Draw(t, "verb")
	switch r.Verb {
	case VerbDelay, VerbHold, VerbCut:
		r.Time = drawTime(t, "time", 1)
	case VerbWindow:
		r.N = rapid.IntRange(0, 65535).Draw(t, "window")
	case VerbTooBig:
		r.N = rapid.IntRange(68, 65535).Draw(t, "mtu")
	case VerbVanish:
		r.Who = Side(rapid.IntRange(1, 2).Draw(t, "who"))
	}
	m := &r.Match
	if r.Verb.needsTCP() {
		m.Proto = rapid.SampledFrom([]string{"", "tcp"}).Draw(t, "proto")
	} else {
		m.Proto = rapid.SampledFrom([]string{"", "tcp", "udp", "icmp", "ip"}).Draw(t, "proto")
	}
	if m.Proto == "tcp" {
		m.Kind = rapid.SampledFrom(append(kinds, AnyKind)).Draw(t, "kind")
		if m.Kind == KindByte {
			m.Byte = rapid.Uint32().Draw(t, "byte")
		}
	}
	m.From = Side(rapid.IntRange(0, 2).Draw(t, "from"))
	m.Way = rapid.SampledFrom([]string{"", "in", "out"}).Draw(t, "way")
	m.Over = rapid.IntRange(0, 65535).Draw(t, "over")
	m.Under = rapid.IntRange(0, 65535).Draw(t, "under")
	m.Port = rapid.Uint16().Draw(t, "port")
	if rapid.Bool().Draw(t, "with host") {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		addr := netip.AddrFrom16([16]byte(b))
		if rapid.Bool().Draw(t, "v4") {
			addr = netip.AddrFrom4([4]byte(b[:4]))
		}
		m.Host = netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "length")).Masked()
	} else if rapid.Bool().Draw(t, "with name") {
		m.Name = rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9._-]{0,20}`).Draw(t, "name")
	}
	m.To = m.named() && rapid.Bool().Draw(t, "to")
	m.Connection = rapid.IntRange(0, maxCount).Draw(t, "connection")
	switch rapid.IntRange(0, 2).Draw(t, "which") {
	case 1:
		r.Which.Every = rapid.IntRange(1, maxCount).Draw(t, "every")
	case 2:
		r.Which.First = rapid.IntRange(1, maxCount).Draw(t, "first")
		if rapid.Bool().Draw(t, "bounded") {
			r.Which.Last = rapid.IntRange(r.Which.First, maxCount).Draw(t, "last")
		}
	}
	if rapid.Bool().Draw(t, "with at") {
		r.After = drawTime(t, "at", 1)
	}
	return r
}

func TestRuleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRule(t)
		if err := want.Validate(); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		text := want.String()
		got, err := ParseRule(text)
		if err != nil {
			t.Fatalf("%+v is %q: %v", want, text, err)
		}
		if got != want {
			t.Fatalf("%+v is %q, which is %+v", want, text, got)
		}
	})
}

func FuzzParseRule(f *testing.F) {
	for _, s := range []string{
		"drop tcp data 2 from server", "delay tcp fin 2s", "hold 2s tcp byte 5 all at 1s", "cut 5s at 1s tcp data 1..",
		"toobig 1280 size>1280 size<1400 in", "vanish client host fe80::/10 connection 3", "window 0 port 80", "delay tcp 2..4 1ms",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRule(text)
		if err != nil {
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("ParseRule(%q): %T: %v", text, err, err)
			}
			_ = pe.Place()
			return
		}
		again, err := ParseRule(r.String())
		if err != nil || again != r {
			t.Fatalf("ParseRule(%q) is %q, which is %+v, %v", text, r, again, err)
		}
	})
}
