package drill

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// system is what shell lines ask of a system under test.
type system interface {
	// counters are the totals of the protocols by nstat's names; only those that the system keeps.
	counters() (map[string]uint64, error)
	// connections are all TCP sockets, with half-open ones and those in TIME-WAIT.
	connections() ([]connection, error)
}

// shellSystem is a system on which commands can run, in its network namespace.
type shellSystem interface {
	system
	setSysctl(sysctl) error
	// program runs a program in a directory and returns what it wrote, both outputs, and its exit status.
	program(dir, name string, args ...string) (output string, status int, err error)
}

// connection is a TCP socket as sockstat lists it.
type connection struct {
	local, remote netip.AddrPort
	state         string // by RFC 9293, as stateNumbers has them
}

// runShell does what the commands of a backquoted text say. The text fails as in a shell: when its last command does.
func (r *runner) runShell(sh *Shell) error {
	commands, err := r.script.commands(sh, r.set.target, r.set.anyShell)
	if err != nil {
		return err
	}
	status, said := 0, ""
	var last command
	for _, c := range commands {
		if c.after == "&&" && status != 0 || c.after == "||" && status == 0 {
			continue
		}
		st, text, err := r.runCommand(c)
		if err != nil {
			return err
		}
		status, said, last = st, text, c
	}
	if status != 0 && !last.soft {
		if said = strings.TrimSpace(said); said != "" {
			said = ": " + said
		}
		return fail(last.pos, "shell line %q ended with status %d%s", last.text, status, said)
	}
	return nil
}

// runCommand does one command, and returns its exit status and what it wrote.
func (r *runner) runCommand(c command) (status int, output string, err error) {
	on, real := r.target.(shellSystem)
	switch {
	case c.nothing:
		return 0, "", nil
	case c.shell != "":
		if !real {
			return 0, "", c.refuse("this target has no shell")
		}
		output, status, err = on.program(filepath.Dir(r.script.Name), "/bin/sh", "-c", c.shell)
	case c.sysctls != nil && real:
		for _, y := range c.sysctls {
			if err := on.setSysctl(y); err != nil && !y.soft {
				status, output = 1, err.Error()
			}
		}
	case c.sysctls != nil:
		return 0, "", sysctlFixed(c, r.set)
	default:
		for _, words := range c.stages {
			if output, status, err = r.stage(words, output); err != nil {
				break
			}
		}
	}
	if err != nil {
		return 0, "", fail(c.pos, "shell line %q: %v", c.text, err)
	}
	return status, output, nil
}

// sysctlFixed holds settings in the middle of a script against those that the stack was started with: they are fixed then.
func sysctlFixed(c command, set settings) error {
	before := set.tcp
	for _, y := range c.sysctls {
		if err := set.sysctl(y); err != nil && !c.soft {
			return c.refuse("%v", err)
		}
	}
	if set.tcp != before && !c.soft {
		return c.refuse("this setting can only be made before the first event")
	}
	return nil
}

// stage does one command of a pipeline on what the one before wrote.
func (r *runner) stage(words []string, input string) (output string, status int, err error) {
	switch base := path.Base(words[0]); base {
	case "true", "sync":
		return "", 0, nil
	case "rm": // of the files that the script has made; others it does not see
		for _, name := range words[2:] {
			delete(r.files, name)
		}
		return "", 0, nil
	case "dd":
		name, size, err := ddFlags(words[1:])
		if err == nil {
			r.files[name] = make([]byte, size)
		}
		return "", 0, err
	case "nstat":
		f, err := nstatFlags(words[1:])
		if err != nil {
			return "", 0, err
		}
		output, err = r.nstat(f)
		return output, 0, err
	case "sockstat":
		f, err := sockstatFlags(words[1:])
		if err != nil {
			return "", 0, err
		}
		s, ok := r.target.(system)
		if !ok {
			return "", 0, fmt.Errorf("this target lists no sockets")
		}
		all, err := s.connections()
		return f.list(all), 0, err
	case "grep":
		g, err := grepFlags(words[1:])
		if err != nil {
			return "", 0, err
		}
		return g.run(input)
	default:
		if on, ok := r.target.(shellSystem); ok {
			return on.program(filepath.Dir(r.script.Name), words[0], words[1:]...)
		}
		return "", 0, fmt.Errorf("this target runs no programs")
	}
}

// ddFlags reads the arguments of a dd that makes a file of zeros.
func ddFlags(args []string) (name string, size int, err error) {
	block, count := 512, 1
	zeros := false
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "bs":
			block, err = strconv.Atoi(value)
		case "count":
			count, err = strconv.Atoi(value)
		case "of":
			name = value
		case "if":
			zeros = value == "/dev/zero"
		case "status":
		default:
			err = fmt.Errorf("it is not understood here")
		}
		if err != nil {
			return "", 0, fmt.Errorf("dd %s: %v", a, err)
		}
	}
	if !zeros || name == "" || block < 0 || count < 0 || block > maxBuffer || count > maxBuffer || block*count > maxBuffer {
		return "", 0, fmt.Errorf("dd is understood only as a way to make a file of at most %d zeros: bs=, count=, if=/dev/zero, of=", maxBuffer)
	}
	return name, block * count, nil
}

// nstatOptions are the flags of nstat that scripts use.
type nstatOptions struct {
	noOutput, noUpdate, absolute, zeros bool
	names                               []string // patterns with "*"; none is all
}

func nstatFlags(args []string) (o nstatOptions, err error) {
	for _, a := range args {
		if !strings.HasPrefix(a, "-") {
			if _, err := path.Match(a, ""); err != nil {
				return o, fmt.Errorf("nstat: the pattern %q: %v", a, err)
			}
			o.names = append(o.names, a)
			continue
		}
		for _, f := range a[1:] {
			switch f {
			case 'n':
				o.noOutput = true
			case 's':
				o.noUpdate = true
			case 'a':
				o.absolute = true
			case 'z':
				o.zeros = true
			default:
				return o, fmt.Errorf("nstat -%c is not understood here; -n, -s, -a and -z are", f)
			}
		}
	}
	return o, nil
}

// nstat lists what the counters have grown by since they were last looked at, as nstat does, in the form NAME COUNT RATE.
func (r *runner) nstat(o nstatOptions) (string, error) {
	s, ok := r.target.(system)
	if !ok {
		return "", fmt.Errorf("this target has no counters")
	}
	now, err := s.counters()
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(now))
	for n := range now {
		names = append(names, n)
	}
	sort.Strings(names)
	var out strings.Builder
	out.WriteString("#kernel\n")
	for _, n := range names {
		v := now[n]
		if !o.absolute {
			v -= r.counted[n]
		}
		if v == 0 && !o.zeros || len(o.names) > 0 && !slices.ContainsFunc(o.names, func(p string) bool { ok, _ := path.Match(p, n); return ok }) {
			continue
		}
		fmt.Fprintf(&out, "%-32s%-16d%6.1f\n", n, v, 0.0)
	}
	if !o.noUpdate {
		r.counted = now
	}
	if o.noOutput {
		return "", nil
	}
	return out.String(), nil
}

// sockstatOptions are the flags of FreeBSD's sockstat that scripts use.
type sockstatOptions struct {
	four, six, states bool
	port              uint16
}

func sockstatFlags(args []string) (o sockstatOptions, err error) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-4":
			o.four = true
		case a == "-6":
			o.six = true
		case a == "-s":
			o.states = true
		case a == "-P" && i+1 < len(args) && args[i+1] == "tcp":
			i++
		case a == "-p" && i+1 < len(args):
			n, err := strconv.ParseUint(args[i+1], 10, 16)
			if err != nil {
				return o, fmt.Errorf("sockstat -p %s: not a port", args[i+1])
			}
			o.port = uint16(n)
			i++
		default:
			return o, fmt.Errorf("sockstat %s is not understood here; -4, -6, -P tcp, -p PORT and -s are", a)
		}
	}
	return o, nil
}

// list writes sockets as sockstat does. All belong to packetdrill there, whose name is cut at ten letters.
func (o sockstatOptions) list(all []connection) string {
	var out strings.Builder
	out.WriteString("USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS       STATE\n")
	for _, c := range all {
		six := c.local.Addr().Is6() && !c.local.Addr().Is4In6()
		if o.four != o.six && six != o.six || o.port != 0 && c.local.Port() != o.port && c.remote.Port() != o.port {
			continue
		}
		proto := "tcp4"
		if six {
			proto = "tcp6"
		}
		fmt.Fprintf(&out, "root     packetdril %-5d 3   %s   %-21s %-21s", os.Getpid(), proto, c.local, c.remote)
		if o.states {
			fmt.Fprintf(&out, " %s", bsdState(c.state))
		}
		out.WriteString("\n")
	}
	return out.String()
}

// bsdState is a state of TCP as FreeBSD writes it.
func bsdState(s string) string {
	if s == "SYN-RECEIVED" {
		return "SYN_RCVD"
	}
	return strings.ReplaceAll(s, "-", "_")
}

// grepOptions are a grep.
type grepOptions struct {
	pattern              *regexp.Regexp
	count, quiet, invert bool
	files                []string
}

func grepFlags(args []string) (g grepOptions, err error) {
	extended, fixed, fold := false, false, false
	var rest []string
	for i, a := range args {
		if !strings.HasPrefix(a, "-") || a == "-" {
			rest = args[i:]
			break
		}
		for _, f := range a[1:] {
			switch f {
			case 'c':
				g.count = true
			case 'q':
				g.quiet = true
			case 'v':
				g.invert = true
			case 'i':
				fold = true
			case 'E':
				extended = true
			case 'F':
				fixed = true
			default:
				return g, fmt.Errorf("grep -%c is not understood here; -c, -q, -v, -i, -E and -F are", f)
			}
		}
	}
	if len(rest) == 0 {
		return g, fmt.Errorf("grep without a pattern")
	}
	p := rest[0]
	switch {
	case fixed:
		p = regexp.QuoteMeta(p)
	case !extended:
		// In a basic expression these are letters as any other.
		p = regexp.MustCompile(`[+?|(){}]`).ReplaceAllString(p, `\$0`)
	}
	if fold {
		p = "(?i)" + p
	}
	if g.pattern, err = regexp.Compile(p); err != nil {
		return g, fmt.Errorf("grep: the pattern %q is not understood here: %v", rest[0], err)
	}
	g.files = rest[1:]
	return g, nil
}

// run searches the input, or the files if there are any. Its status is 1 when nothing matches.
func (g grepOptions) run(input string) (output string, status int, err error) {
	var lines []string
	if len(g.files) == 0 {
		lines = strings.Split(strings.TrimSuffix(input, "\n"), "\n")
	}
	for _, f := range g.files {
		// /proc/net is that of the program's first thread, which is in another namespace.
		b, err := os.ReadFile(strings.Replace(path.Clean(f), "/proc/net/", "/proc/thread-self/net/", 1))
		if err != nil {
			return "", 0, err
		}
		for _, l := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
			if len(g.files) > 1 {
				l = f + ":" + l
			}
			lines = append(lines, l)
		}
	}
	n := 0
	var out strings.Builder
	for _, l := range lines {
		if g.pattern.MatchString(l) == g.invert {
			continue
		}
		n++
		if !g.count && !g.quiet {
			out.WriteString(l + "\n")
		}
	}
	if g.count && !g.quiet {
		fmt.Fprintf(&out, "%d\n", n)
	}
	if n == 0 {
		status = 1
	}
	return out.String(), status, nil
}
