package drill

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// icmpName is a name that scripts use, with its number in ICMP (RFC 792) and ICMPv6 (RFC 4443); -1 where there is none.
type icmpName struct{ v4, v6 int }

var icmpTypes = map[string]icmpName{
	"unreachable":    {3, 1},
	"source_quench":  {4, -1},
	"redirect":       {5, 137},
	"packet_too_big": {-1, 2},
	"time_exceeded":  {11, 3},
	"param_problem":  {12, 4},
	"echo_request":   {8, 128},
	"echo_reply":     {0, 129},
}

// icmpCodes are the codes of each type by name.
var icmpCodes = map[string]map[string]icmpName{
	"unreachable": {
		"net_unreachable":          {0, 0},
		"host_unreachable":         {1, 3},
		"protocol_unreachable":     {2, -1},
		"port_unreachable":         {3, 4},
		"frag_needed":              {4, -1},
		"source_route_failed":      {5, -1},
		"net_unknown":              {6, -1},
		"host_unknown":             {7, -1},
		"source_host_isolated":     {8, -1},
		"net_prohibited":           {9, 1},
		"host_prohibited":          {10, 1},
		"net_unreachable_for_tos":  {11, -1},
		"host_unreachable_for_tos": {12, -1},
		"packet_filtered":          {13, 1},
		"admin_prohibited":         {13, 1},
		"precedence_violation":     {14, -1},
		"precedence_cutoff":        {15, -1},
		"noroute":                  {0, 0},
		"no_route":                 {0, 0},
		"not_neighbour":            {-1, 2},
		"address_unreachable":      {1, 3},
		"addr_unreachable":         {1, 3},
	},
	"time_exceeded": {
		"exc_ttl":                 {0, 0},
		"exc_fragtime":            {1, 1},
		"ttl_exceeded":            {0, 0},
		"ttl_exceeded_in_transit": {0, 0},
		"exceeded_hop_limit":      {0, 0},
		"frag_reass_exceeded":     {1, 1},
		"exceeded_frag_time":      {1, 1},
		"fragment_time_exceeded":  {1, 1},
	},
	"param_problem": {
		"bad_header":          {0, 0},
		"missing_option":      {1, -1},
		"bad_length":          {2, -1},
		"unknown_next_header": {-1, 1},
		"unknown_option":      {-1, 2},
	},
}

// icmp reads "icmp TYPE [CODE] [mtu N] [id N] [QUOTED]".
func (p *parser) icmp(pk *Packet) {
	p.word("icmp")
	m := &ICMPSpec{}
	pk.ICMP = m
	p.skip()
	pos := p.here()
	m.TypeName = p.word("a type of ICMP message")
	if m.TypeName == "parameter_problem" { // FreeBSD's name of it
		m.TypeName = "param_problem"
	}
	if _, ok := icmpTypes[m.TypeName]; !ok {
		p.fail(pos, "%q is no type of ICMP message known here%s (known: unreachable, packet_too_big, time_exceeded, param_problem, echo_request, echo_reply, redirect, source_quench)", m.TypeName, didYouMean(m.TypeName, slices.Collect(maps.Keys(icmpTypes))))
	}
	p.skip()
	pos = p.here()
	switch w := p.peekWord(); {
	case w == "", w == "mtu", w == "id", w == "seq", w == "win", isDigit(w[0]):
	default:
		p.off += len(w)
		_, known := icmpCodes[m.TypeName][w]
		if !known && strings.ToUpper(w) != w { // an upper-case word may be given by --define
			p.fail(pos, "%q is no code of %q", w, m.TypeName)
		}
		m.CodeName = w
	}
	for {
		p.skip()
		// A time on the next line can look like nothing here, so only these words continue a message.
		switch w := p.peekWord(); w {
		case "mtu":
			p.off += len(w)
			m.MTU = p.uint32("an MTU")
			continue
		case "id":
			p.off += len(w)
			m.ID = uint16(p.number("an identifier", math.MaxUint16))
			continue
		case "seq":
			p.off += len(w)
			m.Seq = uint16(p.number("a sequence number", math.MaxUint16))
			continue
		}
		break
	}
	if strings.HasPrefix(m.TypeName, "echo_") {
		if p.accept("(") {
			m.Len = int(p.number("a length", math.MaxUint16-100))
			p.expect(")")
		}
		return
	}
	if p.accept("[") {
		m.Quote = p.quote()
		p.expect("]")
	}
}

// quote reads what stands between the brackets after an ICMP error.
func (p *parser) quote() *Quote {
	q := &Quote{UDP: p.keyword("udp")}
	if !q.UDP {
		q.Raw = p.keyword("raw")
	}
	if !q.UDP && !q.Raw {
		q.Seq, q.Len = p.seqRange()
		if p.accept("/") {
			inner := &Packet{}
			p.encap(inner)
			q.Encap = inner.IP.Encap
		}
		return q
	}
	p.expect("(")
	q.Len = int(p.number("a length", math.MaxUint16))
	p.expect(")")
	return q
}
