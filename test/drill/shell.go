package drill

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Backquoted texts are read as a shell reads them, as far as scripts need it: commands one after another or joined by ;
// && || and |, words, quotes, comments, $((arithmetic)), and output thrown away. What a command means is decided here, and
// not by a shell: only what is understood is done, everything else is refused by name, or left to a shell that the user
// has allowed.

// command is one pipeline of a backquoted text. Exactly one of sysctls, stages, shell and nothing is set.
type command struct {
	script *Script
	pos    Pos
	text   string // as written, for messages
	after  string // how it is joined to the one before: "", ";", "&&" or "||"
	// soft is that the command stands in a file that scripts share: what the target does not have is passed over.
	soft bool

	sysctls []sysctl
	stages  [][]string // commands that are done here, or by the programs tc and ip; each reads what the one before wrote
	shell   string     // a text for a shell
	nothing bool       // needs nothing: each script has a system of its own
}

func (c command) refuse(format string, args ...any) error {
	return &refusal{c.script.errorf(c.pos, "shell line %q: %s", c.text, fmt.Sprintf(format, args...))}
}

// maxInclude bounds how deep the files that scripts call may call others.
const maxInclude = 3

// commands reads a backquoted text. The error is a *refusal: what the text asks for that target on cannot do. anyShell
// says that a shell may do what is not understood here.
func (s *Script) commands(sh *Shell, on Target, anyShell bool) ([]command, error) {
	b := &shellReader{script: s, on: on, sh: sh, dir: filepath.Dir(s.Name)}
	if err := b.read(sh.Text); err != nil {
		if anyShell && on == Kernel {
			return []command{{script: s, pos: sh.Pos, text: sh.Text, shell: sh.Text}}, nil
		}
		return nil, err
	}
	return b.out, nil
}

// shellReader collects the commands of a text.
type shellReader struct {
	script *Script
	on     Target
	sh     *Shell
	dir    string // of the script
	file   string // that is being read instead of the backquoted text
	depth  int
	out    []command
}

// read adds the commands of a text.
func (b *shellReader) read(text string) error {
	tokens, err := shellTokens(text)
	if err != nil {
		return b.refuse(text, "%v", err)
	}
	c := command{script: b.script, soft: b.file != ""}
	var words []string
	var stages [][]string
	end := func(joint string) error {
		if len(words) > 0 {
			stages = append(stages, words)
		}
		words = nil
		if joint == "|" {
			return nil
		}
		if len(stages) > 0 {
			c.text = pipelineText(stages)
			c.pos = b.script.commandPos(b.sh, stages[0])
			c.stages = stages
			if err := b.understand(&c); err != nil {
				return err
			}
		}
		stages = nil
		c = command{script: b.script, soft: b.file != "", after: joint}
		return nil
	}
	for _, t := range tokens {
		switch {
		case t.operator && (t.text == "|" || t.text == ";" || t.text == "&&" || t.text == "||"):
			if err := end(t.text); err != nil {
				return err
			}
		case t.operator: // output to a file
			return b.refuse(strings.Join(words, " "), "its output goes to %s; only /dev/null can be written to here", t.text)
		default:
			words = append(words, t.text)
		}
	}
	return end("")
}

func (b *shellReader) refuse(line, format string, args ...any) error {
	line = strings.TrimSpace(line)
	if w := strings.Fields(line); len(w) > 0 {
		c := command{script: b.script, pos: b.script.commandPos(b.sh, w), text: line}
		if b.file != "" {
			return c.refuse("in %s: %s", b.file, fmt.Sprintf(format, args...))
		}
		return c.refuse(format, args...)
	}
	return command{script: b.script, pos: b.sh.Pos, text: line}.refuse(format, args...)
}

func pipelineText(stages [][]string) string {
	var parts []string
	for _, w := range stages {
		parts = append(parts, strings.Join(w, " "))
	}
	return strings.Join(parts, " | ")
}

// understand decides what a command means, and adds it.
func (b *shellReader) understand(c *command) error {
	words := c.stages[0]
	name := words[0]
	base := path.Base(name)
	switch {
	case strings.HasPrefix(name, "/tmp/sysctl_restore_"):
		c.stages, c.nothing = nil, true
	case strings.HasSuffix(base, ".sh") && len(words) == 1 && len(c.stages) == 1:
		return b.include(name)
	case base == "set_sysctls.py", base == "sysctl":
		sysctls, err := sysctlCommand(words[1:])
		if err != nil {
			return b.refuse(c.text, "%v", err)
		}
		c.stages, c.sysctls = nil, sysctls
	case base == "tcpdrop", base == "setkey" && len(words) == 2 && words[1] == "-F":
		// Connections and keys of earlier scripts: there are none.
		c.stages, c.nothing = nil, true
	case b.on == Stack && (base == "ethtool" || base == "ip" || base == "tc"):
		// There is no offload to switch off, nothing that is remembered, and no queueing discipline to replace.
		line := strings.Join(words, " ")
		switch {
		case base == "ethtool" && strings.Contains(line, " -K ") && !strings.Contains(line, " on"),
			strings.HasPrefix(line, "ip tcp_metrics flush"),
			strings.HasPrefix(line, "tc qdisc add dev tun0 root pfifo") && len(words) == 7:
			c.stages, c.nothing = nil, true
		default:
			return b.refuse(c.text, "the stack has no counterpart to it")
		}
	default:
		for _, w := range c.stages {
			if err := understood(w, b.on); err != nil {
				return b.refuse(c.text, "%v", err)
			}
		}
	}
	b.out = append(b.out, *c)
	return nil
}

// include reads the file that a script calls, as "../common/defaults.sh".
func (b *shellReader) include(name string) error {
	if b.depth >= maxInclude {
		return b.refuse(name, "files call each other more than %d deep", maxInclude)
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(b.dir, filepath.FromSlash(name))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return b.refuse(name, "%v", err)
	}
	if len(text) > maxScript {
		return b.refuse(name, "the file has %d bytes; at most %d are read", len(text), maxScript)
	}
	outer, depth := b.file, b.depth
	b.file, b.depth = name, depth+1
	err = b.read(string(text))
	b.file, b.depth = outer, depth
	return err
}

// ipObjects are what ip may show and change: they lie in the network namespace of the script.
var ipObjects = []string{"route", "link", "addr", "address", "neigh", "tcp_metrics", "rule"}

// understood says why a command of a pipeline cannot be done here.
func understood(words []string, on Target) error {
	switch base := path.Base(words[0]); base {
	case "true", "sync":
		return nil
	case "nstat":
		_, err := nstatFlags(words[1:])
		return err
	case "rm":
		if len(words) > 2 && words[1] == "-f" {
			return nil
		}
	case "dd":
		_, _, err := ddFlags(words[1:])
		return err
	case "sockstat":
		_, err := sockstatFlags(words[1:])
		return err
	case "grep":
		g, err := grepFlags(words[1:])
		if err != nil {
			return err
		}
		for _, f := range g.files {
			if on != Kernel || !strings.HasPrefix(path.Clean(f), "/proc/net/") {
				return fmt.Errorf("grep reads only what is piped to it, and on the kernel files in /proc/net")
			}
		}
		return nil
	case "tc", "ip":
		if on != Kernel {
			return fmt.Errorf("the stack has no counterpart to it")
		}
		// Nothing that leads out of the namespace, and nothing that runs other commands.
		for _, w := range words {
			if slices.Contains([]string{"netns", "vrf", "exec", "-n", "-netns", "-b", "-batch", "bpf", "-B"}, w) {
				return fmt.Errorf("%s with %q is not run", base, w)
			}
		}
		args := slices.DeleteFunc(slices.Clone(words[1:]), func(w string) bool { return strings.HasPrefix(w, "-") })
		if base == "ip" && len(args) > 0 && slices.Contains(ipObjects, args[0]) || base == "tc" && len(args) > 0 && args[0] == "qdisc" {
			return nil
		}
		return fmt.Errorf("of %s only %s are run", base, map[string]string{"ip": strings.Join(ipObjects, ", "), "tc": "qdisc"}[base])
	case "ethtool":
		if on == Kernel && len(words) > 2 && words[1] == "-K" && words[2] == deviceName {
			return nil
		}
	}
	const known = "sysctl, set_sysctls.py, files that end in .sh, nstat, sockstat, grep, dd of zeros, rm -f, tc qdisc, ip route|link|…, sysctl_restore, tcpdrop, true, sync"
	if on == Kernel {
		return fmt.Errorf("this command is not run; understood are %s. With --shell a shell runs it, as you, in the script's namespace", known)
	}
	return fmt.Errorf("this command is not run; understood are %s", known)
}

// commandPos is where in a backquoted text a command stands: on a line with its first word, and with its last one if
// there is such a line.
func (s *Script) commandPos(sh *Shell, words []string) Pos {
	found := sh.Pos
	for n := range strings.Count(sh.Text, "\n") + 1 {
		line, from := s.line(sh.Pos.Line+n), 0
		if n == 0 {
			from = sh.Pos.Col // behind the backquote
		}
		line = line[min(from, len(line)):]
		i := indexWord(line, words[0])
		if i < 0 {
			continue
		}
		at := Pos{Line: sh.Pos.Line + n, Col: from + i + 1}
		if strings.Contains(line[i:], words[len(words)-1]) {
			return at
		}
		if found == sh.Pos {
			found = at
		}
	}
	return found
}

// indexWord is where in a line a word stands by itself, -1 if nowhere.
func indexWord(line, word string) int {
	for from := 0; ; {
		i := strings.Index(line[from:], word)
		if i < 0 {
			return -1
		}
		i += from
		end := i + len(word)
		if (i == 0 || !isWord(line[i-1])) && (end == len(line) || !isWord(line[end])) {
			return i
		}
		from = end
	}
}

// shellToken is a word, or an operator: | ; && || or the name of a file that output goes to.
type shellToken struct {
	text     string
	operator bool
}

var (
	redirection = regexp.MustCompile(`^(?:[0-9]*>>?&[0-9]|[0-9&]*>>?[ \t]*([^\s;|&]+))`)
	expansion   = regexp.MustCompile(`^\$(?:\{[A-Za-z_][A-Za-z0-9_]*\}|[A-Za-z_][A-Za-z0-9_]*)`)
)

// shellTokens splits a text as a shell does.
func shellTokens(text string) ([]shellToken, error) {
	text = strings.ReplaceAll(text, "\\\r\n", " ")
	text = strings.ReplaceAll(text, "\\\n", " ")
	var out []shellToken
	var word strings.Builder
	inWord := false
	flush := func() {
		if inWord {
			out = append(out, shellToken{text: word.String()})
		}
		word.Reset()
		inWord = false
	}
	operator := func(s string) { flush(); out = append(out, shellToken{text: s, operator: true}) }
	for i := 0; i < len(text); {
		rest := text[i:]
		c := rest[0]
		switch {
		case c == '\n' || c == ';':
			operator(";")
			i++
		case strings.HasPrefix(rest, "&&"), strings.HasPrefix(rest, "||"):
			operator(rest[:2])
			i += 2
		case c == '|':
			operator("|")
			i++
		case c == ' ' || c == '\t' || c == '\r':
			flush()
			i++
		case c == '#' && !inWord:
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			i += n
		case redirection.MatchString(rest) && (!inWord || c == '>'):
			m := redirection.FindStringSubmatch(rest)
			if m[1] != "" && m[1] != "/dev/null" {
				operator(m[1])
			}
			flush()
			i += len(m[0])
		case c == '\'':
			n := strings.IndexByte(rest[1:], '\'')
			if n < 0 {
				return nil, fmt.Errorf("a quote ' has no end")
			}
			word.WriteString(rest[1 : 1+n])
			inWord = true
			i += n + 2
		case c == '"':
			n, err := doubleQuoted(rest, &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n
		case c == '$':
			n, err := expandWord(rest, &word)
			if err != nil {
				return nil, err
			}
			inWord = true
			i += n
		case c == '\\' && len(rest) > 1:
			word.WriteByte(rest[1])
			inWord = true
			i += 2
		case strings.ContainsRune("&<>(){}`", rune(c)) && !(c == '{' || c == '}'):
			return nil, fmt.Errorf("%q is not understood here", string(c))
		default:
			word.WriteByte(c)
			inWord = true
			i++
		}
	}
	flush()
	return out, nil
}

// doubleQuoted adds what stands between double quotes, and returns its length with them.
func doubleQuoted(rest string, word *strings.Builder) (int, error) {
	for i := 1; i < len(rest); {
		switch c := rest[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\' && i+1 < len(rest) && strings.IndexByte("\"\\$`", rest[i+1]) >= 0:
			word.WriteByte(rest[i+1])
			i += 2
		case c == '$':
			n, err := expandWord(rest[i:], word)
			if err != nil {
				return 0, err
			}
			i += n
		default:
			word.WriteByte(c)
			i++
		}
	}
	return 0, fmt.Errorf("a quote \" has no end")
}

// expandWord adds what a text that starts with "$" stands for, and returns how much of it that is: $((arithmetic)), or a
// variable, which stays as it is written.
func expandWord(rest string, word *strings.Builder) (int, error) {
	if strings.HasPrefix(rest, "$((") {
		n := strings.Index(rest, "))")
		if n < 0 {
			return 0, fmt.Errorf("$(( has no end")
		}
		v, err := arithmetic(rest[3:n])
		if err != nil {
			return 0, err
		}
		word.WriteString(strconv.FormatInt(v, 10))
		return n + 2, nil
	}
	m := expansion.FindString(rest)
	if m == "" {
		return 0, fmt.Errorf("%q is not understood here", "$")
	}
	word.WriteString(m)
	return len(m), nil
}

// arithmetic evaluates an expression of integers with the operators that code blocks have.
func arithmetic(text string) (v int64, err error) {
	script := &Script{Name: "arithmetic", source: []string{text}}
	err = guard(func() {
		b := &codeParser{scanner: newScanner(script, text)}
		x := b.expr()
		if !b.eof() {
			b.fail(b.here(), "expected the end of the expression")
		}
		switch n := evaluate(x, script).(type) {
		case int64:
			v = n
		case float64:
			v = int64(n)
		default:
			b.fail(Pos{1, 1}, "not a number")
		}
	})
	if err != nil {
		return 0, fmt.Errorf("$((%s)) is no expression of integers that is understood here", text)
	}
	return v, nil
}

// evaluate runs an expression without names; a mistake in it is thrown as a *Error.
func evaluate(x codeExpr, script *Script) any {
	defer func() {
		if r := recover(); r != nil {
			if mistake, ok := r.(codeError); ok {
				panic(mistake.Error)
			}
			panic(r)
		}
	}()
	return x.eval(&codeEnv{script: script, names: map[string]any{}})
}
