package stack

import (
	"net/netip"
	"testing"
)

// tuple is a FourTuple from src to dst.
func tuple(network, src, dst string) FourTuple {
	return FourTuple{Network: network, Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst)}
}

func TestRouteLookupText(t *testing.T) {
	s := newStack(t, Config{})
	must(t, s.AddRoute(Route{Type: Prohibit, Dst: pfx("198.51.100.0/24")}))
	must(t, s.AddRule(Rule{Priority: 100, From: pfx("10.0.0.0/8"), Action: ActionBlackhole}))
	for _, c := range []struct{ dst, src, short, text string }{
		{"127.0.0.1", "", "rule 0 → table local → local 127.0.0.1 dev lo", `route lookup: to 127.0.0.1
  rule 0:  from all lookup local  ✓ longest prefix in this table: local 127.0.0.1 dev lo
  => local 127.0.0.1 dev lo proto kernel scope host src 127.0.0.1: delivered to this stack
`},
		{"192.0.2.1", "", "no rule leads to a route", `route lookup: to 192.0.2.1
  rule 0:      from all lookup local      ✗ no route in this table
  rule 100:    from 10.0.0.0/8 blackhole  ✗ source is not in the rule's prefix
  rule 32766:  from all lookup main       ✗ no route in this table
  rule 32767:  from all lookup default    ✗ no route in this table
  => no route: dropped; a local sender gets ENETUNREACH
`},
		{"198.51.100.9", "", "rule 32766 → table main → prohibit 198.51.100.0/24", `route lookup: to 198.51.100.9
  rule 0:      from all lookup local      ✗ no route in this table
  rule 100:    from 10.0.0.0/8 blackhole  ✗ source is not in the rule's prefix
  rule 32766:  from all lookup main       ✓ longest prefix in this table: prohibit 198.51.100.0/24
  => prohibit 198.51.100.0/24: dropped, the sender is told: administratively prohibited
`},
		{"198.51.100.9", "10.0.0.1", "rule 100 → blackhole", `route lookup: to 198.51.100.9 from 10.0.0.1
  rule 0:    from all lookup local      ✗ no route in this table
  rule 100:  from 10.0.0.0/8 blackhole  ✓ the rule itself decides
  => the rule: dropped silently
`},
	} {
		q := RouteQuery{Dst: netip.MustParseAddr(c.dst)}
		if c.src != "" {
			q.Src = netip.MustParseAddr(c.src)
		}
		l := s.LookupRoute(q)
		if got := l.Short(); got != c.short {
			t.Errorf("Short: %q, want %q", got, c.short)
		}
		if got := l.Text(); got != c.text {
			t.Errorf("Text:\n%swant:\n%s", got, c.text)
		}
	}
}

func TestSocketLookupText(t *testing.T) {
	s := newStack(t, Config{})
	l, err := s.Listen("tcp4", ":80")
	must(t, err)
	defer l.Close()
	for _, c := range []struct {
		tuple       FourTuple
		short, text string
	}{
		{tuple("tcp", "127.0.0.1:55402", "127.0.0.1:80"), "exact 4-tuple ✗, listener 127.0.0.1:80 ✗, listener *:80 ✓ fd 3 LISTEN",
			`socket lookup: tcp 127.0.0.1:55402 → 127.0.0.1:80
  1. exact 4-tuple                 tcp 127.0.0.1:80 <- 127.0.0.1:55402  ✗ no socket with this 4-tuple
  2. steering rules                                                     ✗ there are no steering rules
  3. listener on address:port      127.0.0.1:80                         ✗ nobody listens on exactly this address and port
  4. listener on any address:port  *:80                                 ✓ fd 3 LISTEN
  => fd 3: the listener on any address
`},
		{tuple("udp", "127.0.0.1:55402", "127.0.0.1:53"), "exact 4-tuple ✗, socket 127.0.0.1:53 ✗, socket *:53 ✗, no socket: ICMP port unreachable",
			`socket lookup: udp 127.0.0.1:55402 → 127.0.0.1:53
  1. exact 4-tuple               udp 127.0.0.1:53 <- 127.0.0.1:55402  ✗ no socket with this 4-tuple
  2. steering rules                                                   ✗ there are no steering rules
  3. socket on address:port      127.0.0.1:53                         ✗ no socket is bound to exactly this address and port
  4. socket on any address:port  *:53                                 ✗ no socket is bound to this port
  => no socket: ICMP port unreachable
`},
	} {
		got := s.LookupSocket(c.tuple)
		if s := got.Short(); s != c.short {
			t.Errorf("Short: %q, want %q", s, c.short)
		}
		if s := got.Text(); s != c.text {
			t.Errorf("Text:\n%swant:\n%s", s, c.text)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
