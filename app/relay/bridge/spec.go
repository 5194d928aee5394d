package bridge

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/catflap/catflap/stack"
)

// SpecError is a text that is no egress, port to publish, or forward.
type SpecError struct {
	Text   string // what was given
	Why    string
	Remedy string
}

func (e *SpecError) Error() string { return e.Text + ": " + e.Why }

// Words that stand for destinations, and for ports.
const (
	All  = "all"
	None = "none"
	Auto = "auto"
)

// everywhere is the destinations of All.
var everywhere = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}

// ParseEgress reads all, none, or CIDR[:PORTS],…: prefixes or addresses, and of each the
// port or the range LO-HI, which is of TCP and UDP. IPv6 with ports stands in brackets.
// No rules: none. The error is a *SpecError.
func ParseEgress(text string) (rules []stack.ForwardRule, err error) {
	switch text {
	case None:
		return nil, nil
	case All:
		for _, p := range everywhere {
			rules = append(rules, stack.ForwardRule{Prefix: p})
		}
		return rules, nil
	}
	for _, word := range strings.Split(text, ",") {
		rs, err := parseDestination(word)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rs...)
	}
	return rules, nil
}

func parseDestination(word string) ([]stack.ForwardRule, error) {
	fail := func(why string) ([]stack.ForwardRule, error) {
		return nil, &SpecError{word, why, "want all, none, or prefixes, such as 192.0.2.0/24:80-443,[2001:db8::/32]:53,198.51.100.7"}
	}
	dst, ports := word, ""
	switch i := strings.LastIndexByte(word, ':'); {
	case strings.HasPrefix(word, "["):
		end := strings.IndexByte(word, ']')
		if end < 0 {
			return fail("no ] after [")
		}
		dst, ports = word[1:end], word[end+1:]
		if ports != "" && ports[0] != ':' {
			return fail("want : and ports after ]")
		}
	case i >= 0 && strings.IndexByte(word, ':') == i:
		dst, ports = word[:i], word[i:]
	}
	p, err := netip.ParsePrefix(dst)
	if err != nil {
		a, aerr := netip.ParseAddr(dst)
		if aerr != nil || a.Zone() != "" {
			return fail("want a prefix or an address")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case p.Addr().Is4In6():
		return fail("IPv4 in IPv6: write it as IPv4")
	case p != p.Masked():
		return fail(fmt.Sprintf("it has bits of a host; the prefix is %s", p.Masked()))
	case ports == "":
		return []stack.ForwardRule{{Prefix: p}}, nil
	}
	lo, hi, isRange := strings.Cut(ports[1:], "-")
	if !isRange {
		hi = lo
	}
	l, lerr := ParsePort(lo)
	h, herr := ParsePort(hi)
	if cmp.Or(lerr, herr) != nil || l > h {
		return fail(fmt.Sprintf("ports %q: want a port or a range from 1 to 65535", ports[1:]))
	}
	return []stack.ForwardRule{{Network: "tcp", Prefix: p, PortLo: l, PortHi: h}, {Network: "udp", Prefix: p, PortLo: l, PortHi: h}}, nil
}

// ParsePort reads a port from 1 to 65535.
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err == nil && n == 0 {
		err = strconv.ErrRange
	}
	return uint16(n), err
}

// Published is a port of the host that leads to one at the other end of the link.
type Published struct {
	Network string     // "tcp" or "udp"
	Host    netip.Addr // of this machine; not valid: all, of both families
	From    uint16     // the host's
	To      uint16     // the program's
}

// ParsePublished reads [HOSTADDR:]HOSTPORT:PORT[/tcp|/udp]; IPv6 stands in brackets. The
// error is a *SpecError.
func ParsePublished(text string) (p Published, err error) {
	fail := func(why string) (Published, error) {
		return p, &SpecError{text, why, "want [HOSTADDR:]HOSTPORT:PORT[/udp], such as 8080:80, 127.0.0.1:8080:80 or 5353:53/udp, or auto"}
	}
	rest, network, err := cutNetwork(text)
	if err != nil {
		return fail(err.Error())
	}
	p.Network = network
	rest, to, ok := cutLast(rest)
	if !ok {
		return fail("there is one port")
	}
	host, from, ok := cutLast(rest)
	if !ok {
		host, from = "", rest
	}
	if ok {
		if p.Host, err = netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")); err != nil {
			return fail(fmt.Sprintf("%q is no address", host))
		}
		p.Host = p.Host.Unmap()
	}
	if p.From, err = ParsePort(from); err != nil {
		return fail(fmt.Sprintf("%q is no port from 1 to 65535", from))
	}
	if p.To, err = ParsePort(to); err != nil {
		return fail(fmt.Sprintf("%q is no port from 1 to 65535", to))
	}
	return p, nil
}

// String is the port as ParsePublished reads it.
func (p Published) String() string {
	s := fmt.Sprintf("%d:%d", p.From, p.To)
	if p.Host.IsValid() {
		s = net.JoinHostPort(p.Host.String(), s)
		if p.Host.Is6() {
			s = fmt.Sprintf("[%s]:%d:%d", p.Host, p.From, p.To)
		}
	}
	return s + suffixOf(p.Network)
}

func (p Published) listen() string {
	host := ""
	if p.Host.IsValid() {
		host = p.Host.String()
	}
	return net.JoinHostPort(host, strconv.Itoa(int(p.From)))
}

// Forward is an address and a port inside that lead to a service of the host.
type Forward struct {
	Network string         `json:"network"` // "tcp" or "udp"
	At      netip.AddrPort `json:"at"`
	Target  string         `json:"target"` // HOST:PORT; a name is looked up for each connection
}

// ParseForward reads ADDR:PORT=HOST:PORT[/tcp|/udp]. The error is a *SpecError.
func ParseForward(text string) (f Forward, err error) {
	at, target, ok := strings.Cut(text, "=")
	if !ok {
		return f, f.bad(text, "there is no =")
	}
	target, network, err := cutNetwork(target)
	if err != nil {
		return f, f.bad(text, err.Error())
	}
	f = Forward{Network: network, Target: target}
	if f.At, err = netip.ParseAddrPort(at); err != nil {
		return f, f.bad(text, fmt.Sprintf("%q is no address and port", at))
	}
	f.At = netip.AddrPortFrom(f.At.Addr().Unmap(), f.At.Port())
	return f, f.Validate()
}

// ParseForwardPlace is ParseForward where the target may be left out.
func ParseForwardPlace(text string) (f Forward, err error) {
	if strings.Contains(text, "=") {
		return ParseForward(text)
	}
	at, network, err := cutNetwork(text)
	if err != nil {
		return f, f.bad(text, err.Error())
	}
	if f.At, err = netip.ParseAddrPort(at); err != nil {
		return f, f.bad(text, fmt.Sprintf("%q is no address and port", at))
	}
	f.Network = network
	f.At = netip.AddrPortFrom(f.At.Addr().Unmap(), f.At.Port())
	return f, nil
}

// Validate checks a forward. The error is a *SpecError.
func (f Forward) Validate() error {
	host, port, err := net.SplitHostPort(f.Target)
	_, perr := ParsePort(port)
	a := f.At.Addr()
	switch {
	case f.Network != "tcp" && f.Network != "udp":
		return f.bad(f.String(), fmt.Sprintf("%q: want tcp or udp", f.Network))
	case !f.At.IsValid() || f.At.Port() == 0:
		return f.bad(f.String(), "the address inside needs a port from 1 to 65535")
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Zone() != "":
		return f.bad(f.String(), fmt.Sprintf("%s is no unicast address of a link", a))
	case err != nil || host == "" || perr != nil:
		return f.bad(f.String(), fmt.Sprintf("the target %q is not HOST:PORT", f.Target))
	}
	return nil
}

func (f Forward) bad(text, why string) error {
	return &SpecError{text, why, "want ADDR:PORT=HOST:PORT[/udp], such as 10.9.0.2:5432=127.0.0.1:5432"}
}

// String is the forward as ParseForward reads it.
func (f Forward) String() string {
	s := f.At.String()
	if f.Target != "" {
		s += "=" + f.Target
	}
	return s + suffixOf(f.Network)
}

func suffixOf(network string) string {
	if network == "tcp" {
		return ""
	}
	return "/" + network
}

func cutNetwork(s string) (rest, network string, err error) {
	rest, network, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return s, "tcp", nil
	case network != "tcp" && network != "udp":
		return s, "", fmt.Errorf("%q: want /tcp or /udp", "/"+network)
	}
	return rest, network, nil
}

// cutLast cuts at the last colon.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
