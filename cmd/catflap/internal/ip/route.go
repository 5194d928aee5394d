package ip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/words"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
)

// routeVerbs are in iproute2's order: "s" is show, "a" is add, "d" is delete.
var routeVerbs = []words.Choice{
	{Word: "list", Abbrev: true, Means: "show"}, {Word: "show", Abbrev: true}, {Word: "lst", Abbrev: true, Means: "show"},
	{Word: "get", Abbrev: true}, {Word: "add", Abbrev: true}, {Word: "change", Abbrev: true}, {Word: "chg", Means: "change"}, {Word: "replace", Abbrev: true}, {Word: "append", Abbrev: true},
	{Word: "flush", Abbrev: true},
	{Word: "delete", Abbrev: true, Means: "del"}, {Word: "del"},
}

func (ip *command) route() error {
	verb, err := ip.verb("route", routeVerbs)
	if err != nil {
		return err
	}
	switch verb {
	case "show":
		return ip.routeShow()
	case "get":
		return ip.routeGet()
	case "del":
		return ip.routeDel()
	case "flush":
		return ip.routeFlush()
	}
	rt, _, err := ip.parseRoute()
	if err != nil {
		return err
	}
	switch verb {
	case "change":
		return ip.routeChange(rt)
	case "replace":
		return ip.failed(ip.c.ReplaceRoute(ip.ctx, rt))
	case "append":
		return ip.failed(ip.c.AppendRoute(ip.ctx, rt))
	}
	err = ip.c.AddRoute(ip.ctx, rt)
	if errors.Is(err, syscall.EEXIST) {
		return remedy.With(ip.failed(err), "give it another metric, or use: catflap ip route replace")
	}
	return ip.failed(err)
}

var routeWords = []words.Choice{
	{Word: "via"}, {Word: "dev"}, {Word: "oif", Means: "dev"}, {Word: "src"},
	{Word: "metric", Abbrev: true}, {Word: "priority", Abbrev: true, Means: "metric"}, {Word: "preference", Abbrev: true, Means: "metric"},
	{Word: "scope"}, {Word: "protocol", Abbrev: true}, {Word: "table", Abbrev: true}, {Word: "to"},
}

// routeGiven says which features of a route the command line gave, of those whose zero
// value means something.
type routeGiven struct{ kind, scope bool }

// parseRoute reads [TYPE] PREFIX and the keywords of a route.
func (ip *command) parseRoute() (rt stack.Route, given routeGiven, err error) {
	var dst string // read at the end, when the family is known
	for ip.More() {
		word := ip.Next()
		switch key := words.Choose(word, routeWords); key {
		case "":
			if t, ok := route.ParseType(word); ok && !given.kind && dst == "" {
				rt.Type, given.kind = t, true
				break
			}
			if dst != "" {
				return rt, given, ip.Unexpected(word, words.OneOf(routeWords))
			}
			dst = word
		case "to":
			if dst, err = ip.Value(word, "a prefix"); err != nil {
				return rt, given, err
			}
		default:
			if err := ip.routeWord(key, word, &rt); err != nil {
				return rt, given, err
			}
			given.scope = given.scope || key == "scope"
		}
	}
	if dst == "" {
		return rt, given, ip.Errorf("no prefix; want for example: %s local 192.0.2.0/24 dev cat0", ip.Command)
	}
	if rt.Dst, err = ip.network("prefix", dst); err != nil {
		return rt, given, err
	}
	return rt, given, nil
}

// routeWord reads the value of a keyword into rt.
func (ip *command) routeWord(key, word string, rt *stack.Route) (err error) {
	address := func(to *netip.Addr) error {
		if *to, err = ip.addr(word); err == nil {
			ip.Family = route.FamilyOf(*to)
		}
		return err
	}
	switch key {
	case "via":
		return address(&rt.Gateway)
	case "src":
		return address(&rt.PrefSrc)
	case "table":
		rt.Table, err = ip.tableID(word)
		return err
	}
	want := map[string]string{
		"dev": "the name of a device", "metric": "a number from 0 to 4294967295",
		"scope": "global, site, link, host, nowhere or a number", "protocol": "kernel, boot, static or a number",
	}[key]
	s, err := ip.Value(word, want)
	if err != nil {
		return err
	}
	ok := true
	switch key {
	case "dev":
		rt.Dev = s
	case "metric":
		var n uint64
		n, err = strconv.ParseUint(s, 0, 32)
		rt.Metric, ok = uint32(n), err == nil
	case "scope":
		rt.Scope, ok = route.ParseScope(s)
	case "protocol":
		rt.Protocol, ok = route.ParseProtocol(s)
	}
	if !ok {
		return ip.Bad(word, s, want)
	}
	return nil
}

// routeChange puts a route in the place of one that there is.
func (ip *command) routeChange(rt stack.Route) error {
	table := rt.Table
	if table == 0 {
		table = stack.TableMain
		if rt.Type == stack.Local || rt.Type == stack.Broadcast {
			table = stack.TableLocal
		}
	}
	routes, err := ip.c.Routes(ip.ctx, route.FamilyOf(rt.Dst.Addr()), table)
	if err != nil {
		return ip.failed(err)
	}
	for _, r := range routes {
		if r.Dst == rt.Dst && (r.Metric == rt.Metric || rt.Metric == 0 && rt.Dst.Addr().Is6()) {
			return ip.failed(ip.c.ReplaceRoute(ip.ctx, rt))
		}
	}
	return remedy.With(ip.failed(fmt.Errorf("%s: No such file or directory", rt.Dst)), "use: catflap ip route replace, which adds it")
}

// routeFlush removes the routes that a list with the same words would show.
func (ip *command) routeFlush() error {
	if !ip.More() {
		return ip.Errorf("want which routes to remove, such as table 100, or a prefix")
	}
	if ip.Rest[0] == "cache" {
		ip.Next()
		return ip.End("nothing after cache") // there is none, as in Linux
	}
	f := routeFilter{table: stack.TableMain}
	for ip.More() {
		if err := ip.routeFilterWord(&f); err != nil {
			return err
		}
	}
	for _, fam := range ip.families(stack.IPv4) {
		routes, err := ip.c.Routes(ip.ctx, fam, f.table)
		if err != nil {
			return ip.failed(err)
		}
		for _, r := range routes {
			if !f.want(r) {
				continue
			}
			if err := ip.c.DelRoute(ip.ctx, r.Match()); err != nil {
				return ip.failed(err)
			}
		}
	}
	return nil
}

// routeDel removes the first route that has the features given. Without a type on the
// command line a route of any type goes.
func (ip *command) routeDel() error {
	rt, given, err := ip.parseRoute()
	if err != nil {
		return err
	}
	m := rt.Match()
	if m.Type, m.Scope = nil, nil; given.kind {
		m.Type = &rt.Type
	}
	if given.scope {
		m.Scope = &rt.Scope
	}
	return ip.failed(ip.c.DelRoute(ip.ctx, m))
}

// routeFilter is which routes a list shows. What it fixes to one value, the lines
// do not repeat.
type routeFilter struct {
	table    stack.TableID // 0: all
	dev      string
	kind     *stack.RouteType
	protocol *stack.RouteProtocol
	scope    *stack.Scope
	via, src netip.Addr
	match    string // how prefix filters: root, match or exact
	prefix   netip.Prefix
}

func (f *routeFilter) want(r stack.Route) bool {
	if f.prefix.IsValid() {
		switch p := f.prefix; f.match {
		case "root":
			if r.Dst.Bits() < p.Bits() || !p.Contains(r.Dst.Addr()) {
				return false
			}
		case "match":
			if r.Dst.Bits() > p.Bits() || !r.Dst.Contains(p.Addr()) {
				return false
			}
		default:
			if r.Dst != p.Masked() {
				return false
			}
		}
	}
	return (f.dev == "" || f.dev == r.Dev) && (f.kind == nil || *f.kind == r.Type) &&
		(f.protocol == nil || *f.protocol == r.Protocol) && (f.scope == nil || *f.scope == r.Scope) &&
		(!f.via.IsValid() || f.via == r.Gateway) && (!f.src.IsValid() || f.src == r.PrefSrc)
}

var routeFilterWords = []words.Choice{
	{Word: "table", Abbrev: true}, {Word: "protocol", Abbrev: true}, {Word: "scope", Abbrev: true}, {Word: "type", Abbrev: true},
	{Word: "dev"}, {Word: "oif", Means: "dev"}, {Word: "via"}, {Word: "src"}, {Word: "root", Abbrev: true}, {Word: "match", Abbrev: true}, {Word: "exact", Abbrev: true},
	{Word: "to", Abbrev: true},
}

func (ip *command) routeShow() error {
	f := routeFilter{table: stack.TableMain}
	for ip.More() {
		if err := ip.routeFilterWord(&f); err != nil {
			return err
		}
	}
	if f.dev != "" {
		if _, err := ip.findLink(f.dev); err != nil {
			return err
		}
	}
	families := ip.families(stack.IPv4)
	if f.table == 0 {
		families = ip.families(stack.IPv4, stack.IPv6)
	}
	var text strings.Builder
	var objects []object
	for _, fam := range families {
		routes, err := ip.c.Routes(ip.ctx, fam, f.table)
		if err != nil {
			return ip.failed(err)
		}
		for _, r := range routes {
			if !f.want(r) {
				continue
			}
			l := f.line(r)
			text.WriteString(l.text(fam) + "\n")
			objects = append(objects, l.object())
		}
	}
	return ip.print(text.String(), objects)
}

func (ip *command) routeFilterWord(f *routeFilter) (err error) {
	word := ip.Next()
	key := words.Choose(word, routeFilterWords)
	switch key {
	case "table":
		if ip.More() && ip.Rest[0] == "all" {
			ip.Next()
			f.table = 0
			return nil
		}
		f.table, err = ip.tableID(word)
		return err
	case "via":
		f.via, err = ip.addr(word)
		return err
	case "src":
		f.src, err = ip.addr(word)
		return err
	case "":
		if f.prefix, err = ip.parsePrefix("prefix", word); err != nil {
			return ip.Unexpected(word, words.OneOf(routeFilterWords)+" or a prefix")
		}
		return nil
	}
	want := map[string]string{
		"dev": "the name of a device", "type": "unicast, local, broadcast, multicast, unreachable, prohibit, blackhole or throw",
		"scope": "global, site, link, host, nowhere or a number", "protocol": "kernel, boot, static or a number",
	}[key]
	if want == "" {
		want = "a prefix"
	}
	s, err := ip.Value(word, want)
	if err != nil {
		return err
	}
	ok := true
	switch key {
	case "dev":
		f.dev = s
	case "type":
		f.kind = new(stack.RouteType)
		*f.kind, ok = route.ParseType(s)
	case "scope":
		f.scope = new(stack.Scope)
		*f.scope, ok = route.ParseScope(s)
	case "protocol":
		f.protocol = new(stack.RouteProtocol)
		*f.protocol, ok = route.ParseProtocol(s)
	default: // to, root, match, exact
		f.match = key
		f.prefix, err = ip.parsePrefix(word, s)
		return err
	}
	if !ok {
		return ip.Bad(word, s, want)
	}
	return nil
}

// routeLine is what a line shows of a route: keys and values in iproute2's order.
type routeLine struct {
	kind, dst, from, via, dev, table, proto, scope, src, iif string
	metric                                                   *uint32
	pref                                                     string
}

// line says what to show of r: what is not its family's default and not fixed by
// the filter.
func (f *routeFilter) line(r stack.Route) (l routeLine) {
	v6 := r.Dst.Addr().Is6()
	if r.Type != stack.Unicast {
		l.kind = r.Type.String()
	}
	switch {
	case r.Dst.Bits() == 0:
		l.dst = "default"
	case r.Dst.IsSingleIP():
		l.dst = r.Dst.Addr().String()
	default:
		l.dst = r.Dst.String()
	}
	if r.Gateway.IsValid() && !f.via.IsValid() {
		l.via = r.Gateway.String()
	}
	if f.dev == "" {
		l.dev = r.Dev
	}
	if f.table == 0 && r.Table != stack.TableMain {
		l.table = r.Table.String()
	}
	if r.Protocol != stack.ProtoBoot && f.protocol == nil {
		l.proto = r.Protocol.String()
	}
	if r.Scope != stack.ScopeGlobal && f.scope == nil {
		l.scope = r.Scope.String()
	}
	if r.PrefSrc.IsValid() && !f.src.IsValid() {
		l.src = r.PrefSrc.String()
	}
	if v6 || r.Metric != 0 {
		l.metric = &r.Metric
	}
	if v6 {
		l.pref = "medium"
	}
	return l
}

// fields are the words of the line after its destination, with the keys that JSON
// gives them.
func (l *routeLine) fields() [][3]string { // word, JSON key, value
	metric := ""
	if l.metric != nil {
		metric = strconv.FormatUint(uint64(*l.metric), 10)
	}
	all := [][3]string{
		{"from", "from", l.from}, {"via", "gateway", l.via}, {"dev", "dev", l.dev}, {"table", "table", l.table}, {"proto", "protocol", l.proto},
		{"scope", "scope", l.scope}, {"src", "prefsrc", l.src}, {"metric", "metric", metric}, {"iif", "iif", l.iif}, {"pref", "pref", l.pref},
	}
	return slices.DeleteFunc(all, func(f [3]string) bool { return f[2] == "" })
}

// text is the line as `ip route` prints it: each word is followed by a space, but
// for the last word of an IPv6 route.
func (l *routeLine) text(f stack.Family) string {
	var b strings.Builder
	if l.kind != "" {
		b.WriteString(l.kind + " ")
	}
	b.WriteString(l.dst + " ")
	for _, f := range l.fields() {
		b.WriteString(f[0] + " " + f[2] + " ")
	}
	if f == stack.IPv6 {
		return strings.TrimSuffix(b.String(), " ")
	}
	return b.String()
}

func (l *routeLine) object() (o object) {
	if l.kind != "" {
		o.add("type", l.kind)
	}
	o.add("dst", l.dst)
	for _, f := range l.fields() {
		switch f[0] {
		case "metric":
			o.add("metric", *l.metric)
		case "iif", "pref": // iproute2 has the flags before them
		default:
			o.add(f[1], f[2])
		}
	}
	o.add("flags", []string{})
	if l.iif != "" {
		o.add("iif", l.iif)
	}
	if l.pref != "" {
		o.add("pref", l.pref)
	}
	return o
}

var routeGetWords = []words.Choice{
	{Word: "to", Abbrev: true}, {Word: "from", Abbrev: true}, {Word: "iif"}, {Word: "oif"}, {Word: "dev", Means: "oif"},
}

// routeGet asks for one packet's route.
func (ip *command) routeGet() error {
	var q stack.RouteQuery
	for ip.More() {
		word := ip.Next()
		var err error
		switch words.Choose(word, routeGetWords) {
		case "from":
			q.Src, err = ip.addr(word)
		case "iif":
			q.IIF, err = ip.Value(word, "the name of a device")
		case "oif":
			q.OIF, err = ip.Value(word, "the name of a device")
		case "to":
			q.Dst, err = ip.addr(word)
		default:
			if q.Dst.IsValid() {
				return ip.Unexpected(word, words.OneOf(routeGetWords))
			}
			q.Dst, err = ip.parseAddr("address", word)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !q.Dst.IsValid():
		return ip.Errorf("no address; want for example: ip route get 192.0.2.77")
	case q.Src.IsValid() && q.Src.Is4() != q.Dst.Is4():
		return ip.Bad("from", q.Src.String(), "an address of the same family as "+q.Dst.String())
	}
	for _, dev := range []string{q.IIF, q.OIF} {
		if dev != "" {
			if _, err := ip.findLink(dev); err != nil {
				return err
			}
		}
	}
	l, err := ip.c.LookupRoute(ip.ctx, q)
	if err != nil {
		return ip.failed(err)
	}
	if err := l.Err(); err != nil {
		return remedy.With(ip.failed(fmt.Errorf("%s: %s", q.Dst, refusals[err])), "what was tried: catflap lookup tcp SRC:PORT "+netip.AddrPortFrom(q.Dst, 80).String())
	}
	line := answer(l)
	return ip.print(line.text(route.FamilyOf(q.Dst))+"\n", []object{line.object()})
}

// refusals are the kernel's words for what a sender is told.
var refusals = map[error]string{
	syscall.ENETUNREACH:  "Network is unreachable",
	syscall.EHOSTUNREACH: "No route to host",
	syscall.EACCES:       "Permission denied",
	syscall.EINVAL:       "Invalid argument",
}

// answer is the line for a packet's route: the destination itself, through which
// device, and from which address.
func answer(a *stack.RouteLookup) routeLine {
	all := routeFilter{}
	l := all.line(*a.Route)
	l.dst, l.scope, l.dev, l.iif, l.src = a.Query.Dst.String(), "", a.Dev, a.Query.IIF, ""
	v4 := a.Query.Dst.Is4()
	if v4 {
		l.proto, l.metric = "", nil
	}
	switch {
	case a.Query.Src.IsValid():
		l.from = a.Query.Src.String()
	case !v4:
		l.from = netip.IPv6Unspecified().String()
	}
	if a.Src.IsValid() && !(v4 && a.Query.Src.IsValid()) { // as it was given
		l.src = a.Src.String()
	}
	return l
}
