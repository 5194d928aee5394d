package sockets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
)

// Filter selects sockets by state and address, in the language of ss(8).
type Filter struct {
	states map[string]bool // by RFC 9293; nil: those of the options
	want   func(k *stack.SocketInfo) bool
}

// ssFilterStates are the words for states; a socket of UDP is UNCONN or ESTABLISHED.
var ssFilterStates = map[string][]string{
	"established": {"ESTABLISHED"}, "syn-sent": {"SYN-SENT", "CONNECTING"}, "syn-recv": {"SYN-RECEIVED"}, "fin-wait-1": {"FIN-WAIT-1"}, "fin-wait-2": {"FIN-WAIT-2"},
	"time-wait": {"TIME-WAIT"}, "closed": {"CLOSED", "UNCONN"}, "close-wait": {"CLOSE-WAIT"}, "last-ack": {"LAST-ACK"}, "closing": {"CLOSING"},
	"listening": {"LISTEN"}, "listen": {"LISTEN"}, "unconnected": {"CLOSED", "UNCONN"},
	"bucket": {"TIME-WAIT", "SYN-RECEIVED"},
}

func init() {
	all := func(but ...string) (states []string) {
		for _, names := range ssFilterStates {
			for _, s := range names {
				if !slices.Contains(states, s) && !slices.Contains(but, s) {
					states = append(states, s)
				}
			}
		}
		return states
	}
	connected := []string{"LISTEN", "CLOSED", "UNCONN"}
	whole := all()
	big, conn, sync := all("TIME-WAIT", "SYN-RECEIVED"), all(connected...), all(append(connected, "SYN-SENT", "CONNECTING")...)
	ssFilterStates["all"], ssFilterStates["big"], ssFilterStates["connected"], ssFilterStates["synchronized"] = whole, big, conn, sync
}

// filterParser reads an expression by recursive descent.
type filterParser struct {
	input string
	words []string
}

// ParseFilter reads a filter, in one argument or several; of none it is nil. An error is a *remedy.UsageError.
func ParseFilter(args []string) (*Filter, error) {
	p := &filterParser{input: strings.Join(args, " ")}
	for _, field := range strings.Fields(p.input) {
		p.split(field)
	}
	if len(p.words) == 0 {
		return nil, nil
	}
	f := &Filter{}
	for len(p.words) > 0 && (p.words[0] == "state" || p.words[0] == "exclude") {
		if err := p.state(f); err != nil {
			return nil, err
		}
	}
	if len(p.words) == 0 {
		return f, nil
	}
	var err error
	if f.want, err = p.or(); err == nil && len(p.words) > 0 {
		err = p.wrong("end the filter there, or join with and, or")
	}
	return f, err
}

// split cuts parentheses, comparisons and ! off a word.
func (p *filterParser) split(s string) {
	for s != "" {
		n := 0
		switch {
		case strings.HasPrefix(s, "&&"), strings.HasPrefix(s, "||"), len(s) > 1 && s[1] == '=' && strings.IndexByte("=!<>", s[0]) >= 0:
			n = 2
		case strings.IndexByte("()!&|=<>", s[0]) >= 0:
			n = 1
		default:
			if n = strings.IndexAny(s, "()!&|=<>"); n < 0 {
				n = len(s)
			}
		}
		p.words = append(p.words, s[:n])
		s = s[n:]
	}
}

func (p *filterParser) wrong(want string) error {
	where := "at the end"
	if len(p.words) > 0 {
		where = fmt.Sprintf("at %q", p.words[0])
	}
	return &remedy.UsageError{Msg: fmt.Sprintf("ss: %s of the filter %q", where, p.input), Remedy: want}
}

func (p *filterParser) is(words ...string) string {
	if len(p.words) > 0 && slices.Contains(words, p.words[0]) {
		w := p.words[0]
		p.words = p.words[1:]
		return w
	}
	return ""
}

// state = ("state" | "exclude") NAME; several add up.
func (p *filterParser) state(f *Filter) error {
	exclude := p.is("state", "exclude") == "exclude"
	if len(p.words) == 0 || ssFilterStates[p.words[0]] == nil {
		var names []string
		for n := range ssFilterStates {
			names = append(names, n)
		}
		slices.Sort(names)
		return p.wrong("want a state: " + strings.Join(names, ", "))
	}
	if f.states == nil {
		f.states = map[string]bool{}
		if exclude {
			for _, s := range ssFilterStates["all"] {
				f.states[s] = true
			}
		}
	}
	for _, s := range ssFilterStates[p.words[0]] {
		f.states[s] = !exclude
	}
	p.words = p.words[1:]
	return nil
}

type socketTest = func(k *stack.SocketInfo) bool

// or = and { ("or" | "|" | "||") and }
func (p *filterParser) or() (socketTest, error) {
	left, err := p.and()
	for err == nil && p.is("or", "|", "||") != "" {
		var right socketTest
		right, err = p.and()
		a := left
		left = func(k *stack.SocketInfo) bool { return a(k) || right(k) }
	}
	return left, err
}

// and = term { ["and" | "&" | "&&"] term }
func (p *filterParser) and() (socketTest, error) {
	left, err := p.term()
	for err == nil {
		joined := p.is("and", "&", "&&") != ""
		if !joined && (len(p.words) == 0 || slices.Contains([]string{"or", "|", "||", ")"}, p.words[0])) {
			return left, nil
		}
		var right socketTest
		right, err = p.term()
		a := left
		left = func(k *stack.SocketInfo) bool { return a(k) && right(k) }
	}
	return nil, err
}

const wantTerm = "want src HOST, dst HOST, sport OP PORT, dport OP PORT, dev DEV, not, or a parenthesis; HOST is as 10.9.0.0/24:80, [fd00:9::2]:80 or *:80"

// term = "not" term | "(" or ")" | ("src" | "dst") [OP] HOST | ("sport" | "dport") OP PORT | "dev" [OP] DEV
func (p *filterParser) term() (socketTest, error) {
	if p.is("not", "!") != "" {
		t, err := p.term()
		return func(k *stack.SocketInfo) bool { return !t(k) }, err
	}
	if p.is("(") != "" {
		t, err := p.or()
		if err == nil && p.is(")") == "" {
			err = p.wrong("want a closing parenthesis")
		}
		return t, err
	}
	what := p.is("src", "dst", "sport", "dport", "dev", "autobound", "fwmark", "cgroup")
	switch what {
	case "":
		return nil, p.wrong(wantTerm)
	case "autobound", "fwmark", "cgroup":
		p.words = append([]string{what}, p.words...)
		return nil, p.wrong("the stack does not have " + what + "; " + wantTerm)
	}
	op := p.operator()
	if what == "sport" || what == "dport" {
		return p.port(what, op)
	}
	if op == "" {
		op = "="
	}
	if op != "=" && op != "!=" || len(p.words) == 0 {
		return nil, p.wrong(wantTerm)
	}
	var t socketTest
	var err error
	if what == "dev" {
		dev := p.words[0]
		p.words = p.words[1:]
		t = func(k *stack.SocketInfo) bool { return k.Device == dev }
	} else {
		t, err = p.host(what)
	}
	if op == "!=" {
		return func(k *stack.SocketInfo) bool { return !t(k) }, err
	}
	return t, err
}

// operator reads a comparison; "" if there is none.
func (p *filterParser) operator() string {
	for op, words := range map[string][]string{"=": {"=", "==", "eq"}, "!=": {"!=", "ne", "neq"}, "<=": {"<=", "le", "leq"}, ">=": {">=", "ge", "geq"}, "<": {"<", "lt"}, ">": {">", "gt"}} {
		if p.is(words...) != "" {
			return op
		}
	}
	return ""
}

func (p *filterParser) port(what, op string) (socketTest, error) {
	if op == "" || len(p.words) == 0 {
		return nil, p.wrong("want a comparison and a port, as in: " + what + " = :80")
	}
	want, ok := loadServices().number(strings.TrimPrefix(p.words[0], ":"))
	if !ok {
		return nil, p.wrong("want a port: a number from 1 to 65535, or a service in " + ServicesFile)
	}
	p.words = p.words[1:]
	return func(k *stack.SocketInfo) bool {
		n := k.Local.Port()
		if what == "dport" {
			n = k.Remote.Port()
		}
		switch op {
		case "!=":
			return n != want
		case "<":
			return n < want
		case "<=":
			return n <= want
		case ">":
			return n > want
		case ">=":
			return n >= want
		}
		return n == want
	}, nil
}

// host reads an address or a prefix, and a port: either may be left out.
func (p *filterParser) host(what string) (socketTest, error) {
	prefix, port, ok := parseHost(p.words[0])
	if !ok {
		return nil, p.wrong(wantTerm)
	}
	p.words = p.words[1:]
	return func(k *stack.SocketInfo) bool {
		end := k.Local
		if what == "dst" {
			end = k.Remote
		}
		return (!prefix.IsValid() || prefix.Contains(end.Addr().Unmap())) && (port == 0 || end.Port() == port)
	}, nil
}

// parseHost reads "ADDR[/LEN][:PORT]", with an IPv6 address in brackets where a port follows; * is any address, and no
// port is any.
func parseHost(s string) (prefix netip.Prefix, port uint16, ok bool) {
	host, after := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		inner, rest, closed := strings.Cut(s[1:], "]")
		if !closed {
			return prefix, 0, false
		}
		length, _, _ := strings.Cut(rest, ":")
		host, after = inner+length, rest[len(length):]
	case strings.Count(s, ":") == 1:
		i := strings.IndexByte(s, ':')
		host, after = s[:i], s[i:]
	}
	if after != "" && after != ":*" && after != ":" {
		if port, ok = loadServices().number(after[1:]); !ok {
			return prefix, 0, false
		}
	}
	if host == "" || host == "*" {
		return prefix, port, host != "" || after != ""
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), port, true
	}
	prefix, err := netip.ParsePrefix(host)
	return prefix.Masked(), port, err == nil
}

// selects reports whether the filter selects a socket. Its states stand for those of the options.
func (f *Filter) selects(k *stack.SocketInfo) bool {
	return (f.states == nil || f.states[k.State]) && (f.want == nil || f.want(k))
}

// oneState reports whether the filter's states are one alone.
func (f *Filter) oneState() bool {
	n := 0
	for s, want := range f.states {
		if want && s != "CONNECTING" { // which is SYN-SENT to ss
			n++
		}
	}
	return n == 1
}
