// Package tcpdump is the language of tcpdump(1): expressions that select packets, and packets as text.
package tcpdump

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
)

// Expression selects packets, and says so of one that goes out of the stack, or in. A nil one selects all.
type Expression func(p *packet.Packet, out bool) bool

// ExpressionHelp is for the help of commands that take an expression.
const ExpressionHelp = `An EXPRESSION selects packets, in the language of pcap-filter(7):
  host ADDRESS, net PREFIX, port N, portrange N-M, each also after src, dst, src or dst, src and dst, and a protocol
  ip, ip6, tcp, udp, icmp, icmp6, proto N     ip multicast, ip6 multicast     inbound, outbound     less N, greater N
  tcp[tcpflags] & (tcp-syn|tcp-fin) != 0, ip[8] < 5, udp[4:2] > 100, len > 1000
  not, and, or, parentheses; and and or bind alike, from left to right
tcp[…], udp[…] and icmp[…] look into IPv6 packets too. What is of Ethernet alone (ether, vlan, arp) is refused.`

// examined is a packet that an expression is asked about.
type examined struct {
	*packet.Packet
	out bool

	// beyond is set when a byte was asked for that the packet does not have, or a division by zero: then no expression
	// selects it, as the kernel's filter ends there (bpf(4)).
	beyond bool
}

// node is an expression or a part of one.
type node func(k *examined) bool

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
	exprKinds  = []string{"host", "net", "port", "portrange", "proto"}

	// foreign are words of pcap-filter(7) for what no packet of ours has, and why not.
	foreign = map[string]string{}
)

func init() {
	for why, words := range map[string]string{
		"the device carries IP packets, with no link-layer header": "ether link fddi tr wlan ppp slip vlan mpls pppoed pppoes geneve vxlan llc broadcast multicast gateway type subtype dir radio",
		"the device carries IP packets, and no other protocol":     "arp rarp decnet lat sca moprc mopdl iso clnp esis isis atalk aarp stp ipx netbeui aoe lane oam oamf4",
		"that is of OpenBSD's pf":                                  "ifname on rnr rulenum reason rset ruleset srnr subrulenum action",
	} {
		for w := range strings.FieldsSeq(words) {
			foreign[w] = why
		}
	}
}

// ParseExpression reads an expression, in one argument or several; of none it is nil. An error is a *remedy.UsageError:
// it names the command, shows the place, and says what could stand there.
func ParseExpression(command string, args []string) (Expression, error) {
	p := &exprParser{command: command, input: strings.Join(args, " ")}
	p.words = splitExpression(p.input)
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
	return func(k *packet.Packet, out bool) bool {
		x := examined{Packet: k, out: out}
		return e(&x) && !x.beyond
	}, nil
}

// is takes the next word if it is one of those.
func (p *exprParser) is(words ...string) string {
	p.want = append(p.want, words...)
	if w := p.peek(0); slices.Contains(words, w) {
		return p.take()
	}
	return ""
}

// peek is the word after n others, "" at the end.
func (p *exprParser) peek(n int) string {
	if n < len(p.words) {
		return p.words[n].text
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
	if len(p.words) == 0 {
		return &remedy.UsageError{Msg: fmt.Sprintf("%s: at the end of %q", p.command, p.input), Remedy: "here could stand: " + strings.Join(p.want, ", ")}
	}
	why := "here could stand: " + strings.Join(p.want, ", ")
	if not := foreign[p.words[0].text]; not != "" {
		why = p.words[0].text + " selects nothing here: " + not
	}
	return p.wrong(p.words[0], why)
}

// wrong refuses a word, shows its place, and says why.
func (p *exprParser) wrong(w exprWord, why string) error {
	return &remedy.UsageError{Msg: fmt.Sprintf("%s: %q at column %d of %q", p.command, w.text, w.at+1, p.input), Remedy: why}
}

// expression = factor { ("and" | "or") factor }, from left to right: pcap-filter(7).
func (p *exprParser) expression() (node, error) {
	left, err := p.factor()
	for err == nil {
		and := p.is("and", "&&") != ""
		if !and && p.is("or", "||") == "" {
			return left, nil
		}
		var right node
		right, err = p.factor()
		a := left
		if and {
			left = func(k *examined) bool { return a(k) && right(k) }
		} else {
			left = func(k *examined) bool { return a(k) || right(k) }
		}
	}
	return nil, err
}

// factor = "not" factor | relation | "(" expression ")" | primitive
func (p *exprParser) factor() (node, error) {
	if p.is("not", "!") != "" {
		e, err := p.factor()
		return func(k *examined) bool { return !e(k) }, err
	}
	if e, err := p.relation(); e != nil || err != nil {
		return e, err
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

func (p *exprParser) primitive() (node, error) {
	switch p.is("inbound", "outbound", "less", "greater") {
	case "inbound":
		return func(k *examined) bool { return !k.out }, nil
	case "outbound":
		return func(k *examined) bool { return k.out }, nil
	case "less":
		n, err := p.number("a number of bytes")
		return func(k *examined) bool { return k.Length <= n }, err
	case "greater":
		n, err := p.number("a number of bytes")
		return func(k *examined) bool { return k.Length >= n }, err
	}
	q := qualifiers{proto: p.is(exprProtos...)}
	if (q.proto == "ip" || q.proto == "ip6") && p.is("multicast") != "" {
		return func(k *examined) bool { return isProto(k, q.proto) && k.Dst.IsMulticast() }, nil
	}
	q.dir = p.direction()
	q.kind = p.is(exprKinds...)
	switch {
	case q == qualifiers{}: // a value alone is of the kind of the one before
		q = p.last
		if q.kind == "" {
			return nil, p.unexpected()
		}
	case q.dir == "" && q.kind == "":
		return func(k *examined) bool { return isProto(k, q.proto) }, nil
	case q.kind == "":
		q.kind = "host"
	}
	p.last = q
	match, err := p.value(q)
	if err != nil {
		return nil, err
	}
	return func(k *examined) bool {
		if !isProto(k, q.proto) {
			return false
		}
		switch q.dir {
		case "src":
			return match(k, true)
		case "dst":
			return match(k, false)
		case "src and dst":
			return match(k, true) && match(k, false)
		}
		return match(k, true) || match(k, false)
	}, nil
}

// direction = "src" | "dst" | "src" ("or" | "and") "dst", the two also the other way round. Either is "".
func (p *exprParser) direction() string {
	first := p.is(exprDirs...)
	if first == "" {
		return ""
	}
	how, second := p.peek(0), p.peek(1)
	switch how {
	case "&&":
		how = "and"
	case "||":
		how = "or"
	}
	if how != "and" && how != "or" || !slices.Contains(exprDirs, second) || second == first {
		return first
	}
	// "src and dst host …" rather than "src and dst port …" of which src is a host: nothing can be a value between.
	p.take()
	p.take()
	if how == "or" {
		return "src or dst"
	}
	return "src and dst"
}

// isProto reports whether a packet is of a protocol; any is of "".
func isProto(k *examined, proto string) bool {
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
func (p *exprParser) value(q qualifiers) (func(k *examined, src bool) bool, error) {
	switch q.kind {
	case "host", "net":
		prefixes, err := p.prefixes(q.kind == "net")
		return func(k *examined, src bool) bool {
			a := k.Dst
			if src {
				a = k.Src
			}
			return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
		}, err
	case "proto":
		n, err := p.protocol()
		return func(k *examined, _ bool) bool { return k.Proto == n }, err
	}
	var low, high uint16
	if q.kind == "port" {
		p.want = append(p.want, "PORT")
		if len(p.words) == 0 {
			return nil, p.unexpected()
		}
		n, ok := parsePort(q.proto, p.words[0].text)
		if !ok {
			return nil, p.unexpected()
		}
		low, high = n, n
	} else {
		p.want = append(p.want, "PORT-PORT")
		a, b, dash := strings.Cut(p.peek(0), "-")
		var okLow, okHigh bool
		low, okLow = parsePort(q.proto, a)
		high, okHigh = parsePort(q.proto, b)
		if !dash || !okLow || !okHigh || low > high {
			return nil, p.unexpected()
		}
	}
	p.take()
	return func(k *examined, src bool) bool {
		var ports [2]uint16
		switch {
		case k.TCP != nil:
			ports = [2]uint16{k.TCP.SrcPort, k.TCP.DstPort}
		case k.UDP != nil:
			ports = [2]uint16{k.UDP.SrcPort, k.UDP.DstPort}
		default:
			return false
		}
		n := ports[1]
		if src {
			n = ports[0]
		}
		return low <= n && n <= high
	}, nil
}

func (p *exprParser) number(what string) (int, error) {
	p.want = append(p.want, what)
	if n, err := strconv.ParseUint(p.peek(0), 0, 31); err == nil {
		p.take()
		return int(n), nil
	}
	return 0, p.unexpected()
}

// protocol reads an IP protocol's number or name; a backslash before it keeps it from being a word of the language.
func (p *exprParser) protocol() (uint8, error) {
	p.want = append(p.want, "PROTOCOL")
	w := strings.TrimPrefix(p.peek(0), "\\")
	for name, n := range map[string]uint8{"icmp": packet.ProtoICMP, "icmp6": packet.ProtoICMPv6, "ipv6-icmp": packet.ProtoICMPv6, "tcp": packet.ProtoTCP, "udp": packet.ProtoUDP,
		"igmp": 2, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "sctp": 132} {
		if w == name {
			p.take()
			return n, nil
		}
	}
	n, err := strconv.ParseUint(w, 0, 8)
	if err != nil {
		return 0, p.unexpected()
	}
	p.take()
	return uint8(n), nil
}

// parsePort reads a port or the name of a service, as /etc/services and the Go library know them.
func parsePort(proto, s string) (uint16, bool) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n), true
	}
	if s == "" || s[0] >= '0' && s[0] <= '9' {
		return 0, false
	}
	if proto != "udp" {
		proto = "tcp"
	}
	n, err := net.DefaultResolver.LookupPort(context.Background(), proto, s)
	return uint16(n), err == nil
}

// lookupTime bounds the wait for a host's name.
const lookupTime = 10 * time.Second

// prefixes reads an address or a host's name, or what names a network: 10.9.0.0/24, 10.9, 10.9.0.0 mask 255.255.255.0,
// fd00::/16. A name may have several addresses.
func (p *exprParser) prefixes(network bool) ([]netip.Prefix, error) {
	p.want = append(p.want, map[bool]string{false: "ADDRESS", true: "ADDRESS/LEN"}[network])
	if len(p.words) == 0 {
		return nil, p.unexpected()
	}
	w := p.words[0]
	if network {
		prefix, ok := parseNet(w.text)
		if !ok {
			return nil, p.unexpected()
		}
		p.take()
		if p.is("mask") != "" {
			mask, err := netip.ParseAddr(p.peek(0))
			ones, _ := net.IPMask(mask.AsSlice()).Size()
			if err != nil || !mask.Is4() || ones == 0 && !mask.IsUnspecified() || !prefix.Addr().Is4() {
				p.want = append(p.want, "MASK, such as 255.255.255.0")
				return nil, p.unexpected()
			}
			p.take()
			prefix = netip.PrefixFrom(prefix.Addr(), ones)
		}
		if prefix != prefix.Masked() {
			return nil, p.wrong(w, fmt.Sprintf("there are bits behind the prefix: want net %s, or host %s", prefix.Masked(), prefix.Addr()))
		}
		return []netip.Prefix{prefix}, nil
	}
	if a, err := netip.ParseAddr(w.text); err == nil && a.Zone() == "" {
		p.take()
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	if strings.ContainsAny(w.text, "/:()[]&|!=<>+*%^") || strings.Trim(w.text, "0123456789.") == "" {
		return nil, p.unexpected()
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", w.text)
	if err != nil {
		return nil, p.wrong(w, fmt.Sprintf("it is no ADDRESS, and no host's name: %v", err))
	}
	p.take()
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap()
		prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
	}
	return prefixes, nil
}

// parseNet reads a prefix, or the leading bytes of an IPv4 one.
func parseNet(s string) (netip.Prefix, bool) {
	addr, length, slash := strings.Cut(s, "/")
	a, err := netip.ParseAddr(addr)
	bits := a.BitLen()
	if dots := strings.Count(addr, "."); err != nil && dots < 3 {
		a, err = netip.ParseAddr(addr + strings.Repeat(".0", 3-dots))
		bits = 8 * (dots + 1)
	}
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	if slash {
		n, err := strconv.Atoi(length)
		if err != nil {
			return netip.Prefix{}, false
		}
		bits = n
	}
	prefix := netip.PrefixFrom(a, bits)
	return prefix, prefix.IsValid()
}

// exprWord is a word of an expression and its place, in bytes from the start.
type exprWord struct {
	text string
	at   int
}

// signs are words without letters, the longest of each beginning first.
var signs = []string{"&&", "||", "<<", ">>", ">=", "<=", "==", "!=", "(", ")", "[", "]", "!", "&", "|", "^", "<", ">", "=", "+", "-", "*", "/", "%"}

// splitExpression cuts an expression into words. A colon is part of an address, but in brackets, where it separates.
func splitExpression(s string) (words []exprWord) {
	depth := 0
	inWord := func(c byte) bool {
		return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c == '.' || c == '\\' || c >= 0x80
	}
	for i := 0; i < len(s); {
		if s[i] == ' ' || s[i] == '\t' || s[i] == '\n' {
			i++
			continue
		}
		n := 0
		for ; i+n < len(s); n++ {
			c := s[i+n]
			next := i+n+1 < len(s) && inWord(s[i+n+1])
			if !inWord(c) && !(c == ':' && depth == 0) && !(c == '-' && n > 0 && next) && !(c == '/' && n > 0 && next && depth == 0 && strings.ContainsAny(s[i:i+n], ".:")) {
				break
			}
		}
		if n == 0 {
			n = 1
			for _, sign := range signs {
				if strings.HasPrefix(s[i:], sign) {
					n = len(sign)
					break
				}
			}
			switch s[i] {
			case '[':
				depth++
			case ']':
				depth = max(0, depth-1)
			}
		}
		words = append(words, exprWord{s[i : i+n], i})
		i += n
	}
	return words
}
