package ip

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"syscall"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
)

var addrVerbs = []words.Choice{
	{Word: "add", Abbrev: true}, {Word: "change", Abbrev: true, Means: "replace"}, {Word: "chg", Means: "replace"}, {Word: "replace", Abbrev: true},
	{Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"}, {Word: "flush", Abbrev: true},
	{Word: "show", Abbrev: true}, {Word: "lst", Abbrev: true, Means: "show"}, {Word: "list", Abbrev: true, Means: "show"},
}

var linkVerbs = []words.Choice{
	{Word: "set", Abbrev: true}, {Word: "change"}, {Word: "add", Abbrev: true}, {Word: "delete", Abbrev: true},
	{Word: "show", Abbrev: true}, {Word: "lst", Abbrev: true, Means: "show"}, {Word: "list", Abbrev: true, Means: "show"},
}

func (ip *command) address() error {
	verb, err := ip.verb("addr", addrVerbs)
	if err != nil {
		return err
	}
	if verb == "show" {
		return ip.linksShow(true)
	}
	if verb == "flush" {
		return ip.addrFlush()
	}
	var p netip.Prefix
	var dev string
	keywords := []words.Choice{{Word: "dev"}, {Word: "local", Abbrev: true}}
	for ip.More() {
		word := ip.Next()
		switch words.Choose(word, keywords) {
		case "dev":
			dev, err = ip.Value(word, "the name of a device")
		case "local":
			if word, err = ip.Value(word, "an address with a prefix length"); err == nil {
				p, err = ip.parsePrefix("address", word)
			}
		default:
			if p.IsValid() {
				return ip.Unexpected(word, "dev")
			}
			p, err = ip.parsePrefix("address", word)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !p.IsValid():
		return ip.Errorf("no address; want for example: %s 10.9.0.3/24 dev cat0", ip.Command)
	case dev == "":
		return ip.Errorf("no device; want for example: %s %s dev cat0", ip.Command, p)
	}
	switch verb {
	case "add":
		return ip.failed(ip.c.AddAddr(ip.ctx, dev, p))
	case "replace":
		if err := ip.c.AddAddr(ip.ctx, dev, p); !errors.Is(err, syscall.EEXIST) {
			return ip.failed(err)
		}
		return nil // nothing of an address can change
	}
	return ip.failed(ip.c.DelAddr(ip.ctx, dev, p))
}

// addrFlush takes the addresses of a device, of the families that were asked for.
func (ip *command) addrFlush() error {
	if ip.More() && ip.Rest[0] == "dev" {
		ip.Next()
	}
	dev, err := ip.Value("dev", "the name of a device")
	if err != nil {
		return err
	}
	if err := ip.End("nothing after the device"); err != nil {
		return err
	}
	l, err := ip.findLink(dev)
	if err != nil {
		return err
	}
	for _, p := range l.Addrs {
		if ip.Family != 0 && route.FamilyOf(p.Addr()) != ip.Family {
			continue
		}
		if err := ip.c.DelAddr(ip.ctx, dev, p); err != nil {
			return ip.failed(err)
		}
	}
	return nil
}

// neighbor is about neighbours, of which a point-to-point link has one, without an address of its own layer: the list
// is empty.
func (ip *command) neighbor() error {
	verb, err := ip.verb("neigh", append([]words.Choice{{Word: "replace", Abbrev: true}, {Word: "flush", Abbrev: true}, {Word: "get", Abbrev: true}}, addrVerbs...))
	if err != nil {
		return err
	}
	if verb == "show" {
		return ip.print("", nil)
	}
	return &remedy.UsageError{Msg: ip.Command + ": the stack's links are point-to-point and have no neighbours to resolve", Remedy: "who is behind a link is a matter of routes: catflap ip route show"}
}

func (ip *command) link() error {
	verb, err := ip.verb("link", linkVerbs)
	if err != nil {
		return err
	}
	if verb != "show" {
		return &remedy.UsageError{Msg: ip.Command + ": the links of a stack are made when it starts, and are up", Remedy: "its MTU: catflap run --mtu N; a link that carries nothing: catflap netem set loss 100%"}
	}
	return ip.linksShow(false)
}

// findLink returns the link of a name.
func (ip *command) findLink(dev string) (stack.LinkInfo, error) {
	links, err := ip.c.Links(ip.ctx)
	if err != nil {
		return stack.LinkInfo{}, ip.failed(err)
	}
	var names []string
	for _, l := range links {
		if l.Name == dev {
			return l, nil
		}
		names = append(names, l.Name)
	}
	return stack.LinkInfo{}, remedy.With(ip.failed(fmt.Errorf("device %q does not exist", dev)), "the devices of this stack are "+strings.Join(names, ", "))
}

func (ip *command) linksShow(addrs bool) error {
	var dev string
	f := linkFilter{addrs: addrs}
	for ip.More() {
		word := ip.Next()
		var err error
		switch word {
		case "up", "primary", "permanent": // all are
		case "scope":
			if word, err = ip.Value(word, "global, link or host"); err != nil {
				return err
			}
			s, ok := route.ParseScope(word)
			if !ok {
				return ip.Bad("scope", word, "global, link or host")
			}
			f.scope = &s
		case "to":
			if word, err = ip.Value(word, "a prefix"); err == nil {
				f.to, err = ip.parsePrefix("to", word)
			}
		case "dev":
			dev, err = ip.Value(word, "the name of a device")
		default:
			if dev != "" {
				return ip.Unexpected(word, "nothing after the device")
			}
			dev = word
		}
		if err != nil {
			return err
		}
	}
	var links []stack.LinkInfo
	var err error
	if dev != "" {
		var l stack.LinkInfo
		l, err = ip.findLink(dev)
		links = []stack.LinkInfo{l}
	} else {
		links, err = ip.c.Links(ip.ctx)
	}
	if err != nil {
		return err
	}
	var text strings.Builder
	var objects []object
	for _, l := range links {
		if t, o, ok := ip.linkText(l, f); ok {
			text.WriteString(t)
			objects = append(objects, o)
		}
	}
	return ip.print(text.String(), objects)
}

// linkText describes a link. Of the words that iproute2 has, it prints those that
// are true of the stack: there is no queueing discipline and no ARP, each link has
// one neighbour, and is up as long as the stack runs.
func (ip *command) linkText(l stack.LinkInfo, f linkFilter) (string, object, bool) {
	flags := []string{"POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP"}
	kind := "none"
	if l.Loopback {
		flags, kind = []string{"LOOPBACK", "UP", "LOWER_UP"}, "loopback"
	}
	var b strings.Builder
	end := "\n"
	if ip.OneLine {
		end = "\\"
	}
	brief := fmt.Sprintf("%-16s %-14s ", l.Name, "UNKNOWN")
	fmt.Fprintf(&b, "%d: %s: <%s> mtu %d qdisc noqueue state UNKNOWN %s", l.Index, l.Name, strings.Join(flags, ","), l.MTU, end)
	if ip.Family == 0 || !f.addrs {
		fmt.Fprintf(&b, "    link/%s ", kind)
		if !ip.OneLine || ip.Stats {
			b.WriteString(end)
		}
	}
	if ip.Stats {
		c := l.Counters
		fmt.Fprintf(&b, "    RX:  bytes packets %s    %10d %7d %s    TX:  bytes packets %s    %10d %7d ", end, c.RxBytes, c.RxPackets, end, end, c.TxBytes, c.TxPackets)
		if !ip.OneLine {
			b.WriteString(end)
		}
	}
	if ip.OneLine {
		b.WriteString("\n")
	}
	o := object{{"ifindex", l.Index}, {"ifname", l.Name}, {"flags", flags}, {"mtu", l.MTU}, {"qdisc", "noqueue"}, {"operstate", "UNKNOWN"}, {"link_type", kind}}
	if ip.Stats {
		o.add("stats64", object{
			{"rx", object{{"bytes", l.Counters.RxBytes}, {"packets", l.Counters.RxPackets}}},
			{"tx", object{{"bytes", l.Counters.TxBytes}, {"packets", l.Counters.TxPackets}}},
		})
	}
	if !f.addrs {
		if ip.Brief {
			return brief + "<" + strings.Join(flags, ",") + "> \n", o, true
		}
		return b.String(), o, true
	}
	if ip.OneLine {
		b.Reset() // a line for each address, and none for the link
	}
	infos := []object{}
	for _, fam := range ip.families(stack.IPv4, stack.IPv6) {
		for _, p := range l.Addrs {
			if route.FamilyOf(p.Addr()) == fam && f.wants(p) {
				text := addrText(l, p)
				if ip.OneLine {
					first, rest, _ := strings.Cut(strings.TrimSuffix(text, "\n"), "\n")
					text = fmt.Sprintf("%d: %s%s\\%s\n", l.Index, l.Name, first, rest)
				}
				b.WriteString(text)
				brief += p.String() + " "
				infos = append(infos, addrObject(l, p))
			}
		}
	}
	o.add("addr_info", infos)
	shown := ip.Family == 0 && f.scope == nil && !f.to.IsValid() || len(infos) > 0
	if ip.Brief {
		return brief + "\n", o, shown
	}
	return b.String(), o, shown
}

// linkFilter is what a list shows of links.
type linkFilter struct {
	addrs bool // their addresses too, of which:
	scope *route.Scope
	to    netip.Prefix // those in it
}

func (f *linkFilter) wants(p netip.Prefix) bool {
	return (f.scope == nil || *f.scope == route.AddrScope(p.Addr())) && (!f.to.IsValid() || f.to.Contains(p.Addr()))
}

func addrText(l stack.LinkInfo, p netip.Prefix) string {
	s := fmt.Sprintf("    %s %s scope %s ", route.FamilyOf(p.Addr()), p, route.AddrScope(p.Addr()))
	if p.Addr().Is4() {
		s += l.Name // the label
	}
	return s + "\n       valid_lft forever preferred_lft forever\n"
}

func addrObject(l stack.LinkInfo, p netip.Prefix) object {
	o := object{
		{"family", route.FamilyOf(p.Addr()).String()}, {"local", p.Addr().String()}, {"prefixlen", p.Bits()}, {"scope", route.AddrScope(p.Addr()).String()},
	}
	if p.Addr().Is4() {
		o.add("label", l.Name)
	}
	o.add("valid_life_time", uint32(math.MaxUint32))
	o.add("preferred_life_time", uint32(math.MaxUint32))
	return o
}
