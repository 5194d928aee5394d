//go:build linux

package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
)

// ipStep is a change, in iproute2's words and in ours. The two must agree on
// whether it succeeds.
type ipStep struct {
	ip string
	do func(*Stack) error
}

func addrAdd(p, dev string) ipStep {
	return ipStep{"addr add " + p + " dev " + dev + nodad(p), func(s *Stack) error { return s.AddAddr(dev, netip.MustParsePrefix(p)) }}
}

func addrDel(p, dev string) ipStep {
	return ipStep{"addr del " + p + " dev " + dev, func(s *Stack) error { return s.DelAddr(dev, netip.MustParsePrefix(p)) }}
}

// nodad makes an IPv6 address usable at once.
func nodad(p string) string {
	if strings.Contains(p, ":") {
		return " nodad"
	}
	return ""
}

func routeAdd(ip string, rt Route) ipStep {
	return ipStep{"route add " + ip, func(s *Stack) error { return s.AddRoute(rt) }}
}

func routeReplace(ip string, rt Route) ipStep {
	return ipStep{"route replace " + ip, func(s *Stack) error { return s.ReplaceRoute(rt) }}
}

func routeAppend(ip string, rt Route) ipStep {
	return ipStep{"route append " + ip, func(s *Stack) error { return s.AppendRoute(rt) }}
}

func routeDel(ip string, m RouteMatch) ipStep {
	return ipStep{"route del " + ip, func(s *Stack) error { return s.DelRoute(m) }}
}

func ruleAdd(ip string, r Rule) ipStep {
	return ipStep{"rule add " + ip, func(s *Stack) error { return s.AddRule(r) }}
}

func ruleDel(ip string, m RuleMatch) ipStep {
	return ipStep{"rule del " + ip, func(s *Stack) error { return s.DelRule(m) }}
}

// TestTablesAsLinux makes the same changes here and in a fresh namespace of the
// running kernel, and compares what ip shows with what we show.
func TestTablesAsLinux(t *testing.T) {
	addrs := []ipStep{
		addrAdd("10.9.0.2/24", "cat0"), addrAdd("10.9.0.3/24", "cat0"), addrAdd("10.9.0.4/25", "cat0"),
		addrAdd("192.168.7.1/31", "cat0"), addrAdd("192.168.8.1/32", "cat0"), addrAdd("10.9.0.200/24", "cat1"),
		addrAdd("127.0.5.1/16", "lo"), addrAdd("192.168.9.1/32", "lo"), addrAdd("192.168.10.1/24", "lo"),
		addrAdd("fd00:9::2/64", "cat0"), addrAdd("fd00:9::3/64", "cat0"), addrAdd("fd00:a::1/128", "cat0"),
		addrAdd("fd00:9::4/64", "cat1"), addrAdd("fd00:b::1/128", "lo"),
	}
	for _, c := range []struct {
		name  string
		steps []ipStep
	}{
		{"fresh namespace", nil},
		{"addresses", addrs},
		{"an address twice", []ipStep{addrAdd("10.9.0.2/24", "cat0"), addrAdd("10.9.0.2/24", "cat0")}},
		{"deletion of addresses", append(addrs[:len(addrs):len(addrs)],
			addrDel("10.9.0.2/24", "cat0"), addrDel("10.9.0.9/24", "cat0"), addrDel("192.168.7.1/31", "cat0"),
			addrDel("127.0.5.1/16", "lo"), addrDel("fd00:9::2/64", "cat0"), addrDel("fd00:a::1/128", "cat0"))},
		{"routes of an address go with it", []ipStep{
			addrAdd("10.9.0.2/24", "cat0"), addrAdd("10.9.1.2/24", "cat0"),
			routeAdd("198.51.100.0/24 dev cat0 src 10.9.1.2", Route{Dst: pfx("198.51.100.0/24"), Dev: "cat0", PrefSrc: ip("10.9.1.2")}),
			addrDel("10.9.1.2/24", "cat0"),
		}},
		{"routes", []ipStep{
			addrAdd("10.9.0.2/24", "cat0"), addrAdd("fd00:9::2/64", "cat0"),
			routeAdd("default via 10.9.0.1", Route{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.9.0.1")}),
			routeAdd("default via 10.9.0.7", Route{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.9.0.7")}),
			routeAdd("default via 10.9.0.7 metric 9", Route{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.9.0.7"), Metric: 9}),
			routeAdd("203.0.113.0/24 via 10.77.0.7", Route{Dst: pfx("203.0.113.0/24"), Gateway: ip("10.77.0.7")}),
			routeAdd("local 192.0.2.0/24 dev cat0", Route{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}),
			routeAdd("198.18.0.0/15 dev nocat", Route{Dst: pfx("198.18.0.0/15"), Dev: "nocat"}),
			routeAdd("198.18.0.1/15 dev cat0", Route{Dst: pfx("198.18.0.1/15"), Dev: "cat0"}),
			routeAdd("unreachable 198.51.100.0/24", Route{Type: Unreachable, Dst: pfx("198.51.100.0/24")}),
			routeAdd("blackhole 198.51.101.0/24 metric 5", Route{Type: Blackhole, Dst: pfx("198.51.101.0/24"), Metric: 5}),
			routeAdd("prohibit 198.51.102.7", Route{Type: Prohibit, Dst: pfx("198.51.102.7/32")}),
			routeAdd("throw 1.0.0.0/8 table 100", Route{Type: Throw, Dst: pfx("1.0.0.0/8"), Table: 100}),
			routeAdd("broadcast 4.4.4.4 dev cat0", Route{Type: Broadcast, Dst: pfx("4.4.4.4/32"), Dev: "cat0"}),
			routeAdd("multicast 225.0.0.0/8 dev cat0", Route{Type: Multicast, Dst: pfx("225.0.0.0/8"), Dev: "cat0"}),
			routeAdd("198.20.0.0/16 dev cat0 scope host", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat0", Scope: ScopeHost}),
			routeAdd("198.21.0.0/16 dev cat0 proto static", Route{Dst: pfx("198.21.0.0/16"), Dev: "cat0", Protocol: ProtoStatic}),
			routeAdd("198.21.0.0/16 dev cat1", Route{Dst: pfx("198.21.0.0/16"), Dev: "cat1"}),
			routeAdd("198.21.0.0/17 dev cat1", Route{Dst: pfx("198.21.0.0/17"), Dev: "cat1"}),
			routeDel("198.20.0.0/16", RouteMatch{Dst: pfx("198.20.0.0/16")}),
			routeDel("198.20.0.0/16", RouteMatch{Dst: pfx("198.20.0.0/16")}),
			routeDel("blackhole 198.51.101.0/24", RouteMatch{Type: new(Blackhole), Dst: pfx("198.51.101.0/24")}),
			routeDel("198.21.0.0/16 dev cat1", RouteMatch{Dst: pfx("198.21.0.0/16"), Dev: "cat1"}),

			routeAdd("default via fd00:9::1", Route{Dst: pfx("::/0"), Gateway: ip("fd00:9::1")}),
			routeAdd("local 2001:db8:4::/48 dev cat0", Route{Type: Local, Dst: pfx("2001:db8:4::/48"), Dev: "cat0"}),
			routeAdd("2001:db8:6::/48 dev cat0", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat0"}),
			routeAdd("2001:db8:6::/48 dev cat1", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat1"}),
			routeAdd("2001:db8:6::/48 dev cat1 metric 2000", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat1", Metric: 2000}),
			routeAdd("2001:db8::/32 dev cat1", Route{Dst: pfx("2001:db8::/32"), Dev: "cat1"}),
			routeAdd("2001:db8::/48 dev cat1", Route{Dst: pfx("2001:db8::/48"), Dev: "cat1"}),
			routeAdd("unreachable 2001:db8:1::/48", Route{Type: Unreachable, Dst: pfx("2001:db8:1::/48")}),
			routeAdd("blackhole 2001:db8:2::/48 metric 5", Route{Type: Blackhole, Dst: pfx("2001:db8:2::/48"), Metric: 5}),
			routeAdd("throw 2001:db8:3::/48 table 100", Route{Type: Throw, Dst: pfx("2001:db8:3::/48"), Table: 100}),
			routeAdd("prohibit 2001:db8:5::/48", Route{Type: Prohibit, Dst: pfx("2001:db8:5::/48")}),
			routeDel("2001:db8:6::/48 dev cat1", RouteMatch{Dst: pfx("2001:db8:6::/48"), Dev: "cat1"}),
			routeDel("prohibit 2001:db8:5::/48", RouteMatch{Type: new(Prohibit), Dst: pfx("2001:db8:5::/48")}),
		}},
		{"replacement", []ipStep{
			addrAdd("10.9.0.2/24", "cat0"), addrAdd("fd00:9::2/64", "cat0"),
			routeReplace("multicast 239.0.0.0/8 dev cat0", Route{Type: Multicast, Dst: pfx("239.0.0.0/8"), Dev: "cat0"}),
			routeReplace("multicast 239.0.0.0/8 dev cat0", Route{Type: Multicast, Dst: pfx("239.0.0.0/8"), Dev: "cat0"}),
			routeReplace("multicast ff05::/16 dev cat0", Route{Type: Multicast, Dst: pfx("ff05::/16"), Dev: "cat0"}),
			routeReplace("multicast ff05::/16 dev cat0", Route{Type: Multicast, Dst: pfx("ff05::/16"), Dev: "cat0"}),
			routeReplace("198.18.0.0/15 dev nocat", Route{Dst: pfx("198.18.0.0/15"), Dev: "nocat"}),
			routeAdd("198.20.0.0/16 dev cat0", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat0"}),
			routeAdd("198.20.0.0/16 dev cat0 metric 7", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat0", Metric: 7}),
			routeReplace("198.20.0.0/16 dev cat1 metric 7", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat1", Metric: 7}),
			routeAppend("198.20.0.0/16 dev cat1", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat1"}),
			routeAppend("198.20.0.0/16 dev cat1", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat1"}),
			routeReplace("unreachable 198.20.0.0/16", Route{Type: Unreachable, Dst: pfx("198.20.0.0/16")}),
			routeReplace("198.20.0.0/16 dev cat1", Route{Dst: pfx("198.20.0.0/16"), Dev: "cat1"}), // it is second
			routeAdd("2001:db8:6::/48 dev cat0", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat0"}),
			routeAppend("2001:db8:6::/48 dev cat1", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat1"}),
			routeAppend("2001:db8:6::/48 dev cat1", Route{Dst: pfx("2001:db8:6::/48"), Dev: "cat1"}),
			routeReplace("2001:db8:6::/48 via fd00:9::1", Route{Dst: pfx("2001:db8:6::/48"), Gateway: ip("fd00:9::1")}),
		}},
		{"deletion by some features", []ipStep{
			addrAdd("10.9.0.2/24", "cat0"), addrAdd("fd00:9::2/64", "cat0"),
			routeAdd("blackhole 198.20.0.0/16", Route{Type: Blackhole, Dst: pfx("198.20.0.0/16")}),
			routeDel("unicast 198.20.0.0/16", RouteMatch{Type: new(Unicast), Dst: pfx("198.20.0.0/16")}),
			routeDel("198.20.0.0/16", RouteMatch{Dst: pfx("198.20.0.0/16")}),
			routeAdd("198.21.0.0/16 dev cat0 proto static src 10.9.0.2", Route{Dst: pfx("198.21.0.0/16"), Dev: "cat0", Protocol: ProtoStatic, PrefSrc: ip("10.9.0.2")}),
			routeDel("198.21.0.0/16 proto boot", RouteMatch{Dst: pfx("198.21.0.0/16"), Protocol: ProtoBoot}),
			routeDel("198.21.0.0/16 scope host", RouteMatch{Dst: pfx("198.21.0.0/16"), Scope: new(ScopeHost)}),
			routeDel("198.21.0.0/16 dev cat1", RouteMatch{Dst: pfx("198.21.0.0/16"), Dev: "cat1"}),
			routeDel("198.21.0.0/16 src 10.9.0.2 proto static scope link", RouteMatch{Dst: pfx("198.21.0.0/16"), PrefSrc: ip("10.9.0.2"), Protocol: ProtoStatic, Scope: new(ScopeLink)}),
			routeAdd("local 192.0.2.0/24 dev cat0", Route{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"}),
			routeDel("192.0.2.0/24", RouteMatch{Dst: pfx("192.0.2.0/24")}), // it is not in table main
			routeDel("local 192.0.2.0/24", RouteMatch{Type: new(Local), Dst: pfx("192.0.2.0/24")}),
			routeAdd("broadcast 4.4.4.4 dev cat0 scope host", Route{Type: Broadcast, Dst: pfx("4.4.4.4/32"), Dev: "cat0", Scope: ScopeHost}),
			routeDel("broadcast 4.4.4.4", RouteMatch{Type: new(Broadcast), Dst: pfx("4.4.4.4/32")}), // its scope is another
			routeAdd("multicast 239.0.0.0/8 dev cat0", Route{Type: Multicast, Dst: pfx("239.0.0.0/8"), Dev: "cat0"}),
			routeDel("multicast 239.0.0.0/8", RouteMatch{Type: new(Multicast), Dst: pfx("239.0.0.0/8")}),

			// IPv6 does not ask for the type, the scope and the preferred source.
			routeAdd("2001:db8:1::/48 dev cat0", Route{Dst: pfx("2001:db8:1::/48"), Dev: "cat0"}),
			routeDel("2001:db8:1::/48 proto static", RouteMatch{Dst: pfx("2001:db8:1::/48"), Protocol: ProtoStatic}),
			routeDel("unreachable 2001:db8:1::/48 src fd00:9::2", RouteMatch{Type: new(Unreachable), Dst: pfx("2001:db8:1::/48"), PrefSrc: ip("fd00:9::2")}),
			routeAdd("unreachable 2001:db8:2::/48", Route{Type: Unreachable, Dst: pfx("2001:db8:2::/48")}),
			routeDel("2001:db8:2::/48 metric 5", RouteMatch{Dst: pfx("2001:db8:2::/48"), Metric: 5}),
			routeDel("unicast 2001:db8:2::/48", RouteMatch{Type: new(Unicast), Dst: pfx("2001:db8:2::/48")}),
			routeAdd("multicast ff05::/16 dev cat0", Route{Type: Multicast, Dst: pfx("ff05::/16"), Dev: "cat0"}),
			routeDel("multicast ff05::/16", RouteMatch{Type: new(Multicast), Dst: pfx("ff05::/16")}),

			ruleAdd("not from 10.0.0.0/8 prio 70 lookup 100", Rule{Priority: 70, Not: true, From: pfx("10.0.0.0/8"), Table: 100}),
			ruleAdd("from 10.0.0.0/8 prio 80 prohibit", Rule{Priority: 80, From: pfx("10.0.0.0/8"), Action: ActionProhibit}),
			ruleDel("from 10.0.0.0/8", RuleMatch{From: pfx("10.0.0.0/8")}),
			ruleDel("prio 80 table 254", RuleMatch{Priority: new(uint32(80)), Table: TableMain}),
			ruleDel("iif cat0", RuleMatch{IIF: "cat0"}),
			ruleDel("table 253", RuleMatch{Table: TableDefault}),
		}},
		{"rules", []ipStep{
			ruleAdd("from 10.0.0.0/8 lookup 100", Rule{From: pfx("10.0.0.0/8"), Table: 100}),
			ruleAdd("not to 10.0.0.0/8 iif cat0 prio 77 prohibit", Rule{Priority: 77, Not: true, To: pfx("10.0.0.0/8"), IIF: "cat0", Action: ActionProhibit}),
			ruleAdd("oif cat0 blackhole", Rule{OIF: "cat0", Action: ActionBlackhole}),
			ruleAdd("from 0/0 to 0/0 table 44", Rule{From: pfx("0.0.0.0/0"), To: pfx("0.0.0.0/0"), Table: 44}),
			ruleAdd("from 192.0.2.7 prio 77 unreachable", Rule{Priority: 77, From: pfx("192.0.2.7/32"), Action: ActionUnreachable}),
			ruleAdd("from 192.0.2.7 prio 77 unreachable", Rule{Priority: 77, From: pfx("192.0.2.7/32"), Action: ActionUnreachable}),
			ruleAdd("from fd00::/8 prio 50 lookup 100", Rule{Priority: 50, From: pfx("fd00::/8"), Table: 100}),
			ruleDel("prio 77 prohibit", RuleMatch{Priority: new(uint32(77)), Action: new(ActionProhibit)}),
			ruleDel("prio 5", RuleMatch{Priority: new(uint32(5))}),
			ruleDel("from 10.0.0.0/8", RuleMatch{From: pfx("10.0.0.0/8")}),
			ruleDel("prio 0", RuleMatch{Priority: new(uint32(0))}),
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStack(t, Config{Links: []Link{{Name: "cat0", Endpoint: channel.New(1, 1500, "")}, {Name: "cat1", Endpoint: channel.New(1, 1500, "")}}})
			script := `exec 2>&1
				sysctl -q -w net.ipv4.conf.all.promote_secondaries=1
				ip link set lo up
				for d in cat0 cat1; do
					ip link add $d type veth peer name p$d
					ip link set $d addrgenmode none; ip link set $d up; ip link set p$d up
				done
				`
			for _, st := range c.steps {
				family := "-4"
				if strings.Contains(st.ip, ":") {
					family = "-6"
				}
				script += fmt.Sprintf("ip %s %s && echo ok %s || echo failed %s\n", family, st.ip, st.ip, st.ip)
			}
			var ours []string
			for _, st := range c.steps {
				if err := st.do(s); err == nil {
					ours = append(ours, "ok "+st.ip)
				} else {
					ours = append(ours, "failed "+st.ip)
				}
			}
			// The kernel adds the routes of IPv6 addresses and links from work queues.
			script += `for i in $(seq 250); do
					[ $(ip -6 route show table local | grep -v fe80 | grep -c ^local) -ge $(ip -6 -o addr show | grep -vc fe80) ] &&
					[ $(ip -6 route show table local | grep -c '^multicast .*dev cat') -eq 2 ] && break
					sleep 0.02
				done
				`
			for i, f := range []Family{IPv4, IPv6} {
				n := []string{"-4", "-6"}[i]
				script += fmt.Sprintf("echo == rules %s; ip %s rule show\n", n, n)
				ours = append(ours, "== rules "+n)
				for _, r := range s.Rules(f) {
					ours = append(ours, r.String())
				}
				for _, id := range []TableID{TableLocal, TableMain, 100} {
					script += fmt.Sprintf("echo == table %s %s; ip %s route show table %s; true\n", id, n, n, id)
					ours = append(ours, fmt.Sprintf("== table %s %s", id, n))
					for _, r := range s.Routes(f, id) {
						ours = append(ours, r.String())
					}
				}
			}
			theirs := []string{}
			for line := range strings.Lines(inNetNS(t, script)) {
				line = strings.TrimRight(strings.TrimSuffix(strings.TrimSpace(line), "linkdown"), " ")
				if strings.Contains(line, " dev pcat") || strings.HasPrefix(line, "RTNETLINK") || strings.HasPrefix(line, "Error: ") || strings.HasPrefix(line, "Cannot find") || strings.HasPrefix(line, "Dump terminated") {
					continue // why a step failed; that it did is compared
				}
				theirs = append(theirs, line)
			}
			if d := cmp.Diff(theirs, ours); d != "" {
				t.Errorf("kernel (-) and stack (+) differ:\n%s", d)
			}
		})
	}
}

func TestTableErrors(t *testing.T) {
	s := newStack(t, Config{})
	for _, c := range []struct {
		what string
		err  error
		want syscall.Errno
	}{
		{"route to an unknown device", s.AddRoute(Route{Dst: pfx("10.0.0.0/8"), Dev: "cat9"}), syscall.ENODEV},
		{"route through an unreachable gateway", s.AddRoute(Route{Dst: pfx("10.0.0.0/8"), Gateway: ip("192.0.2.1")}), syscall.ENETUNREACH},
		{"no such route", s.DelRoute(RouteMatch{Dst: pfx("10.0.0.0/8")}), syscall.ESRCH},
		{"no such rule", s.DelRule(RuleMatch{Priority: new(uint32(7))}), syscall.ENOENT},
		{"no such address", s.DelAddr("lo", pfx("10.0.0.1/8")), syscall.EADDRNOTAVAIL},
		{"no such device", s.AddAddr("cat9", pfx("10.0.0.1/8")), syscall.ENODEV},
		{"rule without a table", s.AddRule(Rule{Priority: 7}), syscall.EINVAL},
		{"rule of two families", s.AddRule(Rule{Priority: 7, From: pfx("10.0.0.0/8"), To: pfx("fd00::/8"), Table: 1}), syscall.EINVAL},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
}
