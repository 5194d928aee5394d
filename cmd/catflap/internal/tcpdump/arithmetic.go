package tcpdump

import (
	"slices"
	"strconv"
)

// value is a number that an expression computes of a packet.
type value func(k *examined) uint32

// constants are the numbers that have names: pcap-filter(7).
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13, "icmp-tstampreply": 14,
	"icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationrunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130, "icmp6-multicastlistenerreportv1": 131,
	"icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133, "icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135,
	"icmp6-neighboradvert": 136, "icmp6-redirect": 137, "icmp6-multicastlistenerreportv2": 143,
}

// operators bind the tighter the later they stand.
var operators = [][]string{{"|", "^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "/", "%"}}

var relations = []string{">", "<", ">=", "<=", "=", "==", "!="}

// relation = value (">" | "<" | ">=" | "<=" | "=" | "==" | "!=") value. Without an error it is nil, and nothing is taken,
// if no such thing stands here: what begins with a parenthesis or a number may be something else.
func (p *exprParser) relation() (node, error) {
	words, want := p.words, p.want
	left, protos, err := p.arithmetic(0)
	how := ""
	if err == nil {
		if how = p.peek(0); !slices.Contains(relations, how) {
			how = ""
		}
	}
	if how == "" {
		if err != nil && len(words) > 1 && words[1].text == "[" { // nothing else begins so
			return nil, err
		}
		p.words, p.want = words, want
		return nil, nil
	}
	p.take()
	right, more, err := p.arithmetic(0)
	if err != nil {
		return nil, err
	}
	protos = append(protos, more...)
	return func(k *examined) bool {
		for _, proto := range protos { // a byte of a protocol is of its packets only, and not of later fragments
			if !isProto(k, proto) || proto != "ip" && proto != "ip6" && k.Frag.Offset != 0 {
				return false
			}
		}
		a, b := left(k), right(k)
		switch how {
		case ">":
			return a > b
		case "<":
			return a < b
		case ">=":
			return a >= b
		case "<=":
			return a <= b
		case "!=":
			return a != b
		}
		return a == b
	}, nil
}

// arithmetic = term { operator term }, by the operators' precedence from level on. protos are those whose bytes are
// asked for.
func (p *exprParser) arithmetic(level int) (v value, protos []string, err error) {
	if level == len(operators) {
		return p.term()
	}
	v, protos, err = p.arithmetic(level + 1)
	for err == nil {
		how := p.is(operators[level]...)
		if how == "" {
			return v, protos, nil
		}
		var right value
		var more []string
		right, more, err = p.arithmetic(level + 1)
		left := v
		v, protos = func(k *examined) uint32 { return compute(k, how, left(k), right(k)) }, append(protos, more...)
	}
	return nil, nil, err
}

// compute works on 32 bits without sign, as the kernel's filter does.
func compute(k *examined, how string, a, b uint32) uint32 {
	switch how {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "|":
		return a | b
	case "^":
		return a ^ b
	case "&":
		return a & b
	case "<<":
		return a << b
	case ">>":
		return a >> b
	}
	if b == 0 {
		k.beyond = true
		return 0
	}
	if how == "/" {
		return a / b
	}
	return a % b
}

// term = number | name | "len" | "-" term | "(" arithmetic ")" | protocol "[" arithmetic [":" size] "]"
func (p *exprParser) term() (value, []string, error) {
	p.want = append(p.want, "NUMBER", "len")
	w := p.peek(0)
	if n, err := strconv.ParseUint(w, 0, 32); err == nil {
		p.take()
		return func(*examined) uint32 { return uint32(n) }, nil, nil
	}
	if n, ok := constants[w]; ok {
		p.take()
		return func(*examined) uint32 { return n }, nil, nil
	}
	switch {
	case w == "len":
		p.take()
		return func(k *examined) uint32 { return uint32(k.Length) }, nil, nil
	case w == "-":
		p.take()
		v, protos, err := p.term()
		return func(k *examined) uint32 { return -v(k) }, protos, err
	case w == "(":
		p.take()
		v, protos, err := p.arithmetic(0)
		if err == nil && p.is(")") == "" {
			err = p.unexpected()
		}
		return v, protos, err
	case slices.Contains(exprProtos, w) && p.peek(1) == "[":
		p.take()
		p.take()
		return p.bytes(w)
	}
	return nil, nil, p.unexpected()
}

// bytes reads the place, and the number, of bytes of a protocol's header and what follows it.
func (p *exprParser) bytes(proto string) (value, []string, error) {
	at, protos, err := p.arithmetic(0)
	if err != nil {
		return nil, nil, err
	}
	size := 1
	if p.is(":") != "" {
		p.want = append(p.want, "1", "2", "4")
		w := p.peek(0)
		if w != "1" && w != "2" && w != "4" {
			return nil, nil, p.unexpected()
		}
		p.take()
		size = int(w[0] - '0')
	}
	if p.is("]") == "" {
		return nil, nil, p.unexpected()
	}
	return func(k *examined) uint32 {
		b := k.Transport()
		if proto == "ip" || proto == "ip6" {
			b = k.Bytes()
		}
		i := uint64(at(k))
		if i+uint64(size) > uint64(len(b)) {
			k.beyond = true
			return 0
		}
		var v uint32
		for _, c := range b[i : i+uint64(size)] {
			v = v<<8 | uint32(c)
		}
		return v
	}, append(protos, proto), nil
}
