package sockets

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
)

// lsofStates are the spellings of lsof(8); TIME-WAIT and the like have no fd, and never are listed.
var lsofStates = map[string]string{
	"SYN-SENT": "SYN_SENT", "SYN-RECEIVED": "SYN_RECV", "FIN-WAIT-1": "FIN_WAIT1", "FIN-WAIT-2": "FIN_WAIT2",
	"TIME-WAIT": "TIME_WAIT", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK", "CONNECTING": "SYN_SENT", "UNCONN": "",
}

// Lsof is lsof(8). Several -i select what any of them selects.
type Lsof struct {
	Help    bool   // -h, --help
	JSON    bool   // --json
	Verbose bool   // --verbose
	Control string // --control; "" if it is not given

	terse    bool // -t: the PID alone
	numeric  bool // -P: numbers of ports, not their names
	and      bool // -a: what all of -i, -p, -u and -c select, not what any does
	internet []lsofInternet
	pids     lsofChoice // -p
	users    lsofChoice // -u
	commands lsofChoice // -c
	states   lsofChoice // -sTCP:…, in lsof's spelling
	width    int        // +c: how much of a command's name is shown; 0 is all
	fields   string     // -F: which fields, for programs; "" for the table
}

// lsofChoice is a list of what is wanted and, after ^, of what is not.
type lsofChoice struct {
	given     bool
	want, not []func(string) bool
}

// add takes another word, which is matched as match says.
func (c *lsofChoice) add(word string, match func(word string) (func(string) bool, error)) error {
	c.given = true
	w, not := strings.CutPrefix(word, "^")
	m, err := match(w)
	if not {
		c.not = append(c.not, m)
	} else {
		c.want = append(c.want, m)
	}
	return err
}

// selects reports whether s is wanted: it is one of those, if there are any, and none of the others.
func (c *lsofChoice) selects(s string) bool {
	is := func(m func(string) bool) bool { return m(s) }
	return (len(c.want) == 0 || slices.ContainsFunc(c.want, is)) && !slices.ContainsFunc(c.not, is)
}

func exactly(word string) (func(string) bool, error) {
	return func(s string) bool { return s == word }, nil
}

func lsofError(format string, args ...any) error {
	return &remedy.UsageError{Msg: "lsof: " + fmt.Sprintf(format, args...), Remedy: "see: catflap lsof --help"}
}

// ParseLsof reads options as lsof does: letters combine, and a value follows its
// letter at once or as the next argument. The value of -i may be missing.
// An error is a *remedy.UsageError.
func ParseLsof(args []string) (*Lsof, error) {
	o := &Lsof{width: lsofCommand}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			value, path := "", false
			if name, value, path = strings.Cut(name, "="); name == "control" && !path && len(args) > 0 {
				value, args, path = args[0], args[1:], true
			}
			switch {
			case name == "help":
				o.Help = true
			case name == "json":
				o.JSON = true
			case name == "verbose":
				o.Verbose = true
			case name == "control" && path:
				o.Control = value
			default:
				return nil, lsofError("unknown option %q", arg)
			}
			continue
		}
		if rest, ok := strings.CutPrefix(arg, "+c"); ok {
			if rest == "" && len(args) > 0 {
				rest, args = args[0], args[1:]
			}
			n, err := strconv.Atoi(rest)
			if err != nil || n < 0 {
				return nil, lsofError("+c %q: want a number of characters, or 0 for all", rest)
			}
			o.width = n
			continue
		}
		if len(arg) < 2 || arg[0] != '-' {
			return nil, lsofError("unexpected %q: names of files are not searched; want options", arg)
		}
		for letters := arg[1:]; letters != ""; {
			letter := letters[0]
			letters = letters[1:]
			value := letters
			if strings.IndexByte("ipsucF", letter) >= 0 {
				letters = ""
				if value == "" && len(args) > 0 && !strings.HasPrefix(args[0], "-") {
					value, args = args[0], args[1:]
				}
			}
			if err := o.option(letter, value); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

func (o *Lsof) option(letter byte, value string) error {
	switch letter {
	case 'n', 'l', 'w': // addresses are numbers always, and there is nothing to warn of
	case 'P':
		o.numeric = true
	case 'a':
		o.and = true
	case 't':
		o.terse = true
	case 'h', '?':
		o.Help = true
	case 'i':
		i, err := parseInternet(value)
		o.internet = append(o.internet, i)
		return err
	case 'F':
		o.fields = value
		if value == "" {
			o.fields = lsofFields
		}
		for _, f := range o.fields {
			if !strings.ContainsRune(lsofFields+"0", f) {
				return lsofError("-F %q: there is no field %q here; want some of %s, and 0 for NULs between them", value, f, lsofFields)
			}
		}
	case 'p':
		for s := range strings.SplitSeq(value, ",") {
			if pid, err := strconv.Atoi(strings.TrimPrefix(s, "^")); err != nil || pid <= 0 {
				return lsofError("-p %q: want process IDs, separated by commas", value)
			}
			o.pids.add(s, exactly)
		}
	case 'u':
		for s := range strings.SplitSeq(value, ",") {
			if err := o.users.add(s, lsofUser); err != nil {
				return err
			}
		}
	case 'c':
		return o.commands.add(value, lsofCommandName)
	case 's':
		proto, states, ok := strings.Cut(value, ":")
		if !ok || !strings.EqualFold(proto, "TCP") {
			return lsofError("-s %q: want TCP: and states, such as TCP:LISTEN,ESTABLISHED", value)
		}
		for s := range strings.SplitSeq(states, ",") {
			s = strings.ToUpper(s)
			if !slices.Contains(lsofStateNames, strings.TrimPrefix(s, "^")) {
				return lsofError("unknown TCP state name: %s; want %s, each also after ^ for all but it", s, strings.Join(lsofStateNames, ", "))
			}
			o.states.add(s, exactly)
		}
	default:
		return lsofError("unknown option -%c; want -n, -P, -i, -s, -p, -u, -c, -a, -t, -F, +c, --json, --control PATH, --help", letter)
	}
	return nil
}

// lsofStateNames are what may stand after -sTCP:.
var lsofStateNames = []string{"ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSED", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING"}

// lsofUser matches a user by name or number.
func lsofUser(word string) (func(string) bool, error) {
	name := word
	if _, err := strconv.Atoi(word); err == nil {
		if u, err := user.LookupId(word); err == nil {
			name = u.Username
		}
	} else if _, err := user.Lookup(word); err != nil {
		return nil, lsofError("-u: there is no user %q", word)
	}
	return func(s string) bool { return s == name || s == word }, nil
}

// lsofCommandName matches a command's name by its beginning, or by an expression between slashes.
func lsofCommandName(word string) (func(string) bool, error) {
	if expr, ok := strings.CutPrefix(word, "/"); ok {
		expr, flags, ok := cutLast(expr, "/")
		if ok && strings.Contains(flags, "i") {
			expr = "(?i)" + expr
		}
		re, err := regexp.Compile(expr)
		if err != nil || !ok {
			return nil, lsofError("-c %q: no regular expression between two slashes", word)
		}
		return re.MatchString, nil
	}
	if word == "" {
		return nil, lsofError("-c: want the beginning of a command's name, or /EXPRESSION/")
	}
	return func(s string) bool { return strings.HasPrefix(s, word) }, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// Select returns the sockets with an fd that the options select, of those of a process. The result is not nil.
func (o *Lsof) Select(all []stack.SocketInfo, of Process) []stack.SocketInfo {
	ks := make([]stack.SocketInfo, 0, len(all))
	for _, k := range all {
		if o.want(k, of) {
			ks = append(ks, k)
		}
	}
	return ks
}

// Print writes sockets of a process as a table, or with -t the process alone. It writes nothing for no sockets.
func (o *Lsof) Print(w io.Writer, ks []stack.SocketInfo, of Process) error {
	if len(ks) == 0 {
		return nil
	}
	if o.terse {
		_, err := fmt.Fprintln(w, of.PID)
		return err
	}
	t := lsofTable{process: of, width: o.width}
	if !o.numeric {
		t.names = loadServices()
	}
	if o.fields != "" {
		return t.printFields(w, ks, o.fields)
	}
	return t.print(w, ks)
}

func (o *Lsof) want(k stack.SocketInfo, of Process) bool {
	if k.FD < 0 || k.Network == "tcp" && !o.states.selects(spell(lsofStates, k.State)) {
		return false
	}
	any, all, given := false, true, false
	for _, by := range []struct{ given, selects bool }{
		{len(o.internet) > 0, slices.ContainsFunc(o.internet, func(i lsofInternet) bool { return i.want(k) })},
		{o.pids.given, o.pids.selects(strconv.Itoa(of.PID))},
		{o.users.given, o.users.selects(of.User)},
		{o.commands.given, o.commands.selects(of.Command)},
	} {
		if by.given {
			given, any, all = true, any || by.selects, all && by.selects
		}
	}
	if o.and {
		return all
	}
	return any || !given
}

// lsofInternet is one -i: [46][TCP|UDP][@ADDR][:PORTS]. Zero values select all.
type lsofInternet struct {
	family  stack.Family
	network string
	addr    netip.Addr
	ports   []portRange
}

type portRange struct{ lo, hi uint16 }

func parseInternet(s string) (i lsofInternet, err error) {
	rest := s
	if r, ok := strings.CutPrefix(rest, "4"); ok {
		i.family, rest = stack.IPv4, r
	} else if r, ok := strings.CutPrefix(rest, "6"); ok {
		i.family, rest = stack.IPv6, r
	}
	end := strings.IndexAny(rest, "@:")
	if end < 0 {
		end = len(rest)
	}
	switch proto := strings.ToLower(rest[:end]); proto {
	case "", "tcp", "udp":
		i.network = proto
	default:
		return i, lsofError("-i %q: unknown protocol %q; want TCP or UDP", s, rest[:end])
	}
	rest = rest[end:]
	if a, ok := strings.CutPrefix(rest, "@"); ok {
		host := a
		rest = ""
		if strings.HasPrefix(a, "[") {
			if n := strings.IndexByte(a, ']'); n > 0 {
				host, rest = a[1:n], a[n+1:]
			}
		} else if n := strings.IndexByte(a, ':'); n >= 0 {
			host, rest = a[:n], a[n:]
		}
		if i.addr, err = netip.ParseAddr(host); err != nil {
			return i, lsofError("-i %q: %q is no address; want 10.9.0.2 or [fd00:9::2]", s, host)
		}
	}
	if rest == "" {
		return i, nil
	}
	ports, ok := strings.CutPrefix(rest, ":")
	if !ok {
		return i, lsofError("-i %q: unexpected %q; want :PORT", s, rest)
	}
	for p := range strings.SplitSeq(ports, ",") {
		r, err := parsePorts(p)
		if err != nil {
			return i, lsofError("-i %q: port %s", s, err)
		}
		i.ports = append(i.ports, r)
	}
	return i, nil
}

// parsePorts reads a port, the name of one, or a range of numbers.
func parsePorts(s string) (portRange, error) {
	names := loadServices()
	if p, ok := names.number(s); ok {
		return portRange{p, p}, nil
	}
	lo, hi, ok := strings.Cut(s, "-")
	if ok {
		l, okl := names.number(lo)
		h, okh := names.number(hi)
		if okl && okh && l <= h {
			return portRange{l, h}, nil
		}
	}
	return portRange{}, fmt.Errorf("%q: want a number from 1 to 65535, a service in %s, or LOW-HIGH", s, ServicesFile)
}

func (i *lsofInternet) want(k stack.SocketInfo) bool {
	if i.family != 0 && i.family != k.Family || i.network != "" && i.network != k.Network {
		return false
	}
	if i.addr.IsValid() && k.Local.Addr().Unmap() != i.addr && k.Remote.Addr().Unmap() != i.addr {
		return false
	}
	if len(i.ports) == 0 {
		return true
	}
	return slices.ContainsFunc(i.ports, func(r portRange) bool {
		in := func(p uint16) bool { return r.lo <= p && p <= r.hi }
		return in(k.Local.Port()) || in(k.Remote.Port())
	})
}

// lsofTable is lsof's table: columns as wide as what is in them.
type lsofTable struct {
	process Process
	names   services
	width   int // of a command's name; 0 is all
}

// lsofCommand is how much of a command's name lsof shows, unless +c says more.
const lsofCommand = 9

// lsofFields are the fields of -F that there are here, in lsof's order: process, command, user, fd, access, lock, type,
// device, offset, protocol, name, and of TCP state and queues.
const lsofFields = "pcLfaltdoPnT"

// printFields writes the fields that programs ask for: those of the process, and then those of each socket.
func (t *lsofTable) printFields(w io.Writer, ks []stack.SocketInfo, fields string) error {
	b := bufio.NewWriter(w)
	nul := strings.Contains(fields, "0")
	set := func(values ...string) { // each begins with its field's letter
		n := 0
		for _, v := range values {
			if v[0] != 'p' && strings.IndexByte(fields, v[0]) < 0 {
				continue
			}
			n++
			b.WriteString(v)
			if nul {
				b.WriteByte(0)
			} else {
				b.WriteByte('\n')
			}
		}
		if nul && n > 0 {
			b.WriteByte('\n')
		}
	}
	set("p"+strconv.Itoa(t.process.PID), "c"+t.process.Command, "L"+t.process.User)
	for _, k := range ks {
		values := []string{"f" + strconv.Itoa(k.FD), "au", "l ", fmt.Sprintf("tIPv%d", k.Family), "d" + deviceOf(k), "o0t0", "P" + strings.ToUpper(k.Network), "n" + t.ends(k)}
		if k.Network == "tcp" {
			values = append(values, "TST="+spell(lsofStates, k.State), fmt.Sprintf("TQR=%d", k.RecvQ), fmt.Sprintf("TQS=%d", k.SendQ))
		}
		set(values...)
	}
	return b.Flush()
}

func (t *lsofTable) print(w io.Writer, ks []stack.SocketInfo) error {
	command := t.process.Command
	if t.width > 0 {
		command = command[:min(len(command), t.width)]
	}
	rows := [][]string{{"COMMAND", "PID", "USER", "FD", "TYPE", "DEVICE", "SIZE/OFF", "NODE", "NAME"}}
	for _, k := range ks {
		rows = append(rows, []string{
			command, strconv.Itoa(t.process.PID), t.process.User, strconv.Itoa(k.FD), "IP" + fmt.Sprintf("v%d", k.Family),
			deviceOf(k), "0t0", strings.ToUpper(k.Network), t.name(k),
		})
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, s := range r {
			width[i] = max(width[i], len(s))
		}
	}
	b := bufio.NewWriter(w)
	for n, r := range rows {
		access := "u " // open for reading and writing, no lock
		if n == 0 {
			access = "  "
		}
		// The FD column is four characters and these two.
		fmt.Fprintf(b, "%-*s %*s %*s %*s%s %*s %*s %*s %*s %s\n", width[0], r[0], width[1], r[1], width[2], r[2], max(width[3], 4), r[3], access,
			width[4], r[4], width[5], r[5], width[6], r[6], width[7], r[7], r[8])
	}
	return b.Flush()
}

// deviceOf is the socket's number; blank if it has none.
func deviceOf(k stack.SocketInfo) string {
	if k.ID == 0 {
		return ""
	}
	return strconv.FormatUint(k.ID, 10)
}

// name writes the addresses and the state: 10.9.0.2:80->10.9.0.1:55402 (ESTABLISHED).
func (t *lsofTable) name(k stack.SocketInfo) string {
	s := t.ends(k) + " "
	if st := spell(lsofStates, k.State); st != "" && k.Network == "tcp" {
		s += "(" + st + ")"
	}
	return s
}

func (t *lsofTable) ends(k stack.SocketInfo) string {
	s := t.addr(k.Network, k.Local)
	if k.Remote.IsValid() {
		s += "->" + t.addr(k.Network, k.Remote)
	}
	return s
}

func (t *lsofTable) addr(network string, ap netip.AddrPort) string {
	a := ap.Addr().Unmap()
	host := a.String()
	switch {
	case a.IsUnspecified():
		host = "*"
	case a.Is6():
		host = "[" + host + "]"
	}
	return host + ":" + t.names.port(network, ap.Port())
}
