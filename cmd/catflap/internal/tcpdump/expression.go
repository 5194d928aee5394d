// Package tcpdump is the language of tcpdump(1): expressions that select packets, and packets as text.
package tcpdump

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// Expression selects packets, and says so of one that goes out of the stack, or in. A nil one selects all.
type Expression func(p *packet.Packet, out bool) bool

// ExpressionHelp is for the help of commands that take an expression.
const ExpressionHelp = `An EXPRESSION selects packets, in words of pcap-filter(7):
  host ADDRESS, net PREFIX, port N, portrange N-M, each also after src or dst, and after a protocol
  ip, ip6, tcp, udp, icmp, icmp6     inbound, outbound     less N, greater N (bytes)
  not, and, or, parentheses; and and or bind alike, from left to right`

// exprWord is a word of an expression and its place, in bytes from the start.
type exprWord struct {
	text string
	at   int
}

// exprParser reads an expression by recursive descent.
type exprParser struct {
	command string
	input   string
	words   []exprWord
	last    qualifiers // of the primitive before, for "port 80 or 443"
	want    []string   // what could stand where the next word stands
}

// qualifiers are what says what a value is.
type qualifiers struct{ proto, dir, kind string }

var (
	exprProtos = []string{"ip", "ip6", "tcp", "udp", "icmp", "icmp6"}
	exprDirs   = []string{"src", "dst"}
	exprKinds  = []string{"host", "net", "port", "portrange"}
)

// ParseExpression reads an expression, in one argument or several; of none it is nil. An error is a *remedy.UsageError:
// it names the command, shows the place, and says what could stand there.
func ParseExpression(command string, args []string) (Expression, error) {
	p := &exprParser{command: command, input: strings.Join(args, " ")}
	p.split()
	if len(p.words) == 0 {
		return nil, nil
	}
	e, err := p.expression()
	if err != nil {
		return nil, err
	}
	if len(p.words) > 0 {
		return nil, p.unexpected()
	}
	return e, nil
}

// split cuts the input at white space, and around parentheses and !.
func (p *exprParser) split() {
	start := -1
	end := func(at int) {
		if start >= 0 {
			p.words = append(p.words, exprWord{p.input[start:at], start})
		}
		start = -1
	}
	for i, c := range p.input {
		switch {
		case c == '(' || c == ')' || c == '!':
			end(i)
			p.words = append(p.words, exprWord{string(c), i})
		case c == ' ' || c == '\t' || c == '\n':
			end(i)
		case start < 0:
			start = i
		}
	}
	end(len(p.input))
}

// is takes the next word if it is one of those.
func (p *exprParser) is(words ...string) string {
	p.want = append(p.want, words...)
	if len(p.words) > 0 && slices.Contains(words, p.words[0].text) {
		return p.take()
	}
	return ""
}

func (p *exprParser) take() string {
	w := p.words[0].text
	p.words, p.want = p.words[1:], nil
	return w
}

// unexpected refuses the next word, shows its place, and says what could stand there.
func (p *exprParser) unexpected() error {
	msg := fmt.Sprintf("%s: at the end of %q", p.command, p.input)
	if len(p.words) > 0 {
		msg = fmt.Sprintf("%s: %q at column %d of %q", p.command, p.words[0].text, p.words[0].at+1, p.input)
	}
	return &remedy.UsageError{Msg: msg, Remedy: "here could stand: " + strings.Join(p.want, ", ")}
}

// expression = factor { ("and" | "or") factor }, from left to right: pcap-filter(7).
func (p *exprParser) expression() (Expression, error) {
	left, err := p.factor()
	for err == nil {
		and := p.is("and", "&&") != ""
		if !and && p.is("or", "||") == "" {
			return left, nil
		}
		var right Expression
		right, err = p.factor()
		a := left
		if and {
			left = func(k *packet.Packet, out bool) bool { return a(k, out) && right(k, out) }
		} else {
			left = func(k *packet.Packet, out bool) bool { return a(k, out) || right(k, out) }
		}
	}
	return nil, err
}

// factor = "not" factor | "(" expression ")" | primitive
func (p *exprParser) factor() (Expression, error) {
	if p.is("not", "!") != "" {
		e, err := p.factor()
		return func(k *packet.Packet, out bool) bool { return !e(k, out) }, err
	}
	if p.is("(") != "" {
		e, err := p.expression()
		if err == nil && p.is(")") == "" {
			err = p.unexpected()
		}
		return e, err
	}
	return p.primitive()
}

func (p *exprParser) primitive() (Expression, error) {
	switch p.is("inbound", "outbound", "less", "greater") {
	case "inbound":
		return func(_ *packet.Packet, out bool) bool { return !out }, nil
	case "outbound":
		return func(_ *packet.Packet, out bool) bool { return out }, nil
	case "less":
		n, err := p.number("a number of bytes")
		return func(k *packet.Packet, _ bool) bool { return k.Length <= n }, err
	case "greater":
		n, err := p.number("a number of bytes")
		return func(k *packet.Packet, _ bool) bool { return k.Length >= n }, err
	}
	q := qualifiers{proto: p.is(exprProtos...)}
	q.dir = p.is(exprDirs...)
	q.kind = p.is(exprKinds...)
	switch {
	case q == qualifiers{}: // a value alone is of the kind of the one before
		q = p.last
		if q.kind == "" {
			return nil, p.unexpected()
		}
	case q.dir == "" && q.kind == "":
		return func(k *packet.Packet, _ bool) bool { return isProto(k, q.proto) }, nil
	case q.kind == "":
		q.kind = "host"
	}
	p.last = q
	match, err := p.value(q)
	if err != nil {
		return nil, err
	}
	return func(k *packet.Packet, out bool) bool {
		return isProto(k, q.proto) && (q.dir != "dst" && match(k, true) || q.dir != "src" && match(k, false))
	}, nil
}

// isProto reports whether a packet is of a protocol; any is of "".
func isProto(k *packet.Packet, proto string) bool {
	switch proto {
	case "ip":
		return k.Version == 4
	case "ip6":
		return k.Version == 6
	case "tcp":
		return k.Proto == packet.ProtoTCP
	case "udp":
		return k.Proto == packet.ProtoUDP
	case "icmp":
		return k.Version == 4 && k.Proto == packet.ProtoICMP
	case "icmp6":
		return k.Version == 6 && k.Proto == packet.ProtoICMPv6
	}
	return true
}

// value reads a value of a kind; the result says whether a packet's source, or destination, has it.
func (p *exprParser) value(q qualifiers) (func(k *packet.Packet, src bool) bool, error) {
	switch q.kind {
	case "host", "net":
		p.want = append(p.want, "ADDRESS")
		if q.kind == "net" {
			p.want[len(p.want)-1] = "ADDRESS/LEN"
		}
		prefix, ok := netip.Prefix{}, false
		if len(p.words) > 0 {
			prefix, ok = parseNet(p.words[0].text, q.kind == "net")
		}
		if !ok {
			return nil, p.unexpected()
		}
		p.take()
		return func(k *packet.Packet, src bool) bool {
			if src {
				return prefix.Contains(k.Src)
			}
			return prefix.Contains(k.Dst)
		}, nil
	}
	low, high, ok := 0, 0, false
	if q.kind == "port" {
		p.want = append(p.want, "PORT")
		if len(p.words) > 0 {
			low, ok = parsePort(p.words[0].text)
			high = low
		}
	} else {
		p.want = append(p.want, "PORT-PORT")
		if len(p.words) > 0 {
			a, b, dash := strings.Cut(p.words[0].text, "-")
			var okLow, okHigh bool
			low, okLow = parsePort(a)
			high, okHigh = parsePort(b)
			ok = dash && okLow && okHigh && low <= high
		}
	}
	if !ok {
		return nil, p.unexpected()
	}
	p.take()
	return func(k *packet.Packet, src bool) bool {
		n := -1
		switch {
		case k.TCP != nil && src:
			n = int(k.TCP.SrcPort)
		case k.TCP != nil:
			n = int(k.TCP.DstPort)
		case k.UDP != nil && src:
			n = int(k.UDP.SrcPort)
		case k.UDP != nil:
			n = int(k.UDP.DstPort)
		}
		return low <= n && n <= high
	}, nil
}

func (p *exprParser) number(what string) (int, error) {
	p.want = append(p.want, what)
	if len(p.words) > 0 {
		if n, err := strconv.ParseUint(p.words[0].text, 10, 31); err == nil {
			p.take()
			return int(n), nil
		}
	}
	return 0, p.unexpected()
}

func parsePort(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}

// parseNet reads an address, or a prefix where one is asked for.
func parseNet(s string, net bool) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(s)
	return prefix, net && err == nil
}

// Selects reports whether an expression selects an event. A change of state, a sample and a timer go with the packets
// of their connection; a socket call goes with all.
func (e Expression) Selects(ev *stack.Event) bool {
	if e == nil {
		return true
	}
	connection := func(local, remote netip.AddrPort) bool {
		k := &packet.Packet{Version: 4, Src: remote.Addr(), Dst: local.Addr(), Proto: packet.ProtoTCP, TCP: &packet.TCP{SrcPort: remote.Port(), DstPort: local.Port()}}
		if remote.Addr().Is6() {
			k.Version = 6
		}
		if e(k, false) {
			return true
		}
		k.Src, k.Dst, k.TCP.SrcPort, k.TCP.DstPort = k.Dst, k.Src, k.TCP.DstPort, k.TCP.SrcPort
		return e(k, true)
	}
	data := func(b []byte, length int, out bool) bool {
		k, err := packet.ParseStart(b, length)
		return err == nil && e(&k, out)
	}
	switch {
	case ev.Packet != nil:
		return data(ev.Packet.Data, ev.Packet.Len, ev.Packet.Out)
	case ev.Link != nil:
		return data(ev.Link.Data, ev.Link.Len, ev.Link.Out)
	case ev.State != nil:
		return connection(ev.State.Local, ev.State.Remote)
	case ev.Sample != nil:
		return connection(ev.Sample.Local, ev.Sample.Remote)
	case ev.Timer != nil:
		return connection(ev.Timer.Local, ev.Timer.Remote)
	}
	return true
}
