package ip

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
)

var addrVerbs = []words.Choice{
	{Word: "add", Abbrev: true}, {Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"},
	{Word: "show", Abbrev: true}, {Word: "lst", Abbrev: true, Means: "show"}, {Word: "list", Abbrev: true, Means: "show"},
}

var linkVerbs = []words.Choice{
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
	if verb == "add" {
		return ip.failed(ip.c.AddAddr(ip.ctx, dev, p))
	}
	return ip.failed(ip.c.DelAddr(ip.ctx, dev, p))
}

func (ip *command) link() error {
	if _, err := ip.verb("link", linkVerbs); err != nil {
		return err
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
	if ip.More() {
		word := ip.Next()
		if word == "dev" {
			var err error
			if word, err = ip.Value(word, "the name of a device"); err != nil {
				return err
			}
		}
		dev = word
	}
	if err := ip.End("nothing after the device"); err != nil {
		return err
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
		if t, o, ok := ip.linkText(l, addrs); ok {
			text.WriteString(t)
			objects = append(objects, o)
		}
	}
	return ip.print(text.String(), objects)
}

// linkText describes a link. Of the words that iproute2 has, it prints those that
// are true of the stack: there is no queueing discipline and no ARP, each link has
// one neighbour, and is up as long as the stack runs.
func (ip *command) linkText(l stack.LinkInfo, addrs bool) (string, object, bool) {
	flags := []string{"POINTOPOINT", "MULTICAST", "NOARP", "UP", "LOWER_UP"}
	kind := "none"
	if l.Loopback {
		flags, kind = []string{"LOOPBACK", "UP", "LOWER_UP"}, "loopback"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d: %s: <%s> mtu %d qdisc noqueue state UNKNOWN \n", l.Index, l.Name, strings.Join(flags, ","), l.MTU)
	if ip.Family == 0 || !addrs {
		fmt.Fprintf(&b, "    link/%s \n", kind)
	}
	o := object{{"ifindex", l.Index}, {"ifname", l.Name}, {"flags", flags}, {"mtu", l.MTU}, {"qdisc", "noqueue"}, {"operstate", "UNKNOWN"}, {"link_type", kind}}
	if !addrs {
		return b.String(), o, true
	}
	infos := []object{}
	for _, f := range ip.families(stack.IPv4, stack.IPv6) {
		for _, p := range l.Addrs {
			if route.FamilyOf(p.Addr()) == f {
				b.WriteString(addrText(l, p))
				infos = append(infos, addrObject(l, p))
			}
		}
	}
	o.add("addr_info", infos)
	return b.String(), o, ip.Family == 0 || len(infos) > 0
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
