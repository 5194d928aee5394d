package drill

import (
	"maps"
	"slices"
	"strings"

	"github.com/catflap/catflap/internal/packet"
)

// maxScript bounds a script's size: a megabyte is fifty times the largest public one.
const maxScript = 1 << 20

// maxDepth bounds how deep expressions nest, and with it the parser's stack.
const maxDepth = 100

// Parse reads a script; name is what error messages call it. The error is an [*Error].
func Parse(name string, src []byte) (*Script, error) { return parse(name, src, nil) }

// parse reads a script; defines are names that whoever runs it gives a meaning, as -D does.
func parse(name string, src []byte, defines map[string]string) (*Script, error) {
	text := string(src)
	script := &Script{Name: name, source: strings.Split(text, "\n"), defines: defines}
	if len(src) > maxScript {
		return nil, script.errorf(Pos{1, 1}, "the script has %d bytes; at most %d are read", len(src), maxScript)
	}
	if err := guard(func() { (&parser{scanner: newScanner(script, text)}).file() }); err != nil {
		return nil, err
	}
	return script, nil
}

// guard runs a part of the parser, and returns the mistake that it throws.
func guard(f func()) (err error) {
	defer func() {
		if r := recover(); r != nil {
			mistake, ok := r.(*Error)
			if !ok {
				panic(r)
			}
			err = mistake
		}
	}()
	f()
	return nil
}

// parser builds the tree; one method for each rule of the language.
type parser struct {
	*scanner
	depth int
}

// define is what a name stands for: what the script's own header says, then what whoever runs it says, then what the
// runners of public suites say.
func (p *parser) define(name string) (string, bool) { return p.script.define(name) }

func (s *Script) define(name string) (string, bool) {
	for _, o := range s.Options {
		if n, value, ok := strings.Cut(o.Value, "="); ok && n == name && isDefine(o.Name) {
			return strings.Trim(value, `"`), true
		}
	}
	if v, ok := s.defines[name]; ok {
		return v, true
	}
	v, ok := runnersDefines[name]
	return v, ok
}

// isDefine reports whether an option defines a name.
func isDefine(option string) bool { return option == "define" || option == "D" }

// nest guards against expressions that nest too deep; the caller defers what it returns.
func (p *parser) nest() func() {
	p.depth++
	if p.depth > maxDepth {
		p.fail(p.here(), "this nests more than %d deep", maxDepth)
	}
	return func() { p.depth-- }
}

func (p *parser) file() {
	for p.peek("--") {
		p.script.Options = append(p.script.Options, p.option())
	}
	for p.peek("`") {
		p.script.Init = append(p.script.Init, p.shell())
	}
	for !p.eof() {
		if p.peek("`") {
			// Without a time: only at the end.
			p.script.Cleanup = append(p.script.Cleanup, p.shell())
			continue
		}
		if p.peek("--") {
			p.fail(p.here(), "options stand at the start of a script, before its first event")
		}
		e := p.event()
		if len(p.script.Cleanup) > 0 {
			p.fail(p.script.Cleanup[0].Pos, "a shell line between events needs a time, as +0")
		}
		p.script.Events = append(p.script.Events, e)
	}
	if len(p.script.Events) == 0 {
		p.fail(p.here(), "the script has no events")
	}
}

// option reads "--name", "--name=value" or "--name=X=value"; a value is a word without blanks or a quoted string.
func (p *parser) option() Option {
	o := Option{Pos: p.here()}
	p.expect("--")
	o.Name = p.word("the name of an option")
	if p.off == len(p.src) || p.src[p.off] != '=' {
		return o
	}
	p.off++
	start := p.off
	for p.off < len(p.src) && !strings.ContainsRune(" \t\r\n", rune(p.src[p.off])) {
		switch p.src[p.off] {
		case '"':
			o.Value += p.src[start:p.off] + p.quoted()
			start = p.off
		case '`':
			pos := p.here()
			p.off++
			p.until("`", "shell line", pos)
			p.fail(pos, "a shell line cannot give an option its value: no commands are run")
		default:
			p.off++
		}
	}
	o.Value += p.src[start:p.off]
	if o.Value == "" {
		p.expected("a value for --" + o.Name)
	}
	return o
}

func (p *parser) shell() *Shell {
	p.skip()
	s := &Shell{Pos: p.here()}
	p.expect("`")
	s.Text = p.until("`", "shell line", s.Pos)
	return s
}

func (p *parser) event() *Event {
	p.skip()
	e := &Event{Pos: p.here(), Time: p.time()}
	p.skip()
	switch {
	case p.peek("<"), p.peek(">"):
		e.Packet = p.packet()
	case p.peek("`"):
		e.Shell = p.shell()
	case p.peek("%{"):
		e.Code = p.code()
	default:
		w := p.peekWord()
		if w == "" || isDigit(w[0]) {
			p.expected("a packet (< or >), a socket call, a `shell line` or %{ code }%")
		}
		e.Call = p.call()
	}
	if e.Time.Blocking && e.Call == nil {
		p.fail(e.Pos, "only a socket call can have an end time")
	}
	if (e.Time.Any || e.Time.From != e.Time.To) && (e.Packet == nil || e.Packet.Dir == In) {
		p.fail(e.Pos, "only a packet that the stack sends (>) can have a time of * or a range: all else happens when the script says")
	}
	return e
}

// time reads TIME, +TIME, *, TIME~TIME, +TIME~+TIME, and the end of a blocking call, TIME...TIME.
func (p *parser) time() Time {
	if p.accept("*") {
		return Time{Any: true}
	}
	t := Time{Relative: p.accept("+")}
	t.From = p.seconds()
	t.To = t.From
	p.skip()
	pos := p.here()
	switch {
	case p.accept("~"):
		if relative := p.accept("+"); relative != t.Relative {
			p.fail(pos, "both ends of a range are written alike: FROM~TO or +FROM~+TO")
		}
		t.To = p.seconds()
		if t.To < t.From {
			p.fail(pos, "the range ends before it starts")
		}
	case p.accept("..."):
		p.accept("+")
		t.Blocking, t.End = true, p.seconds()
		if t.End < t.From && t.End != 0 {
			p.fail(pos, "the call ends before it starts")
		}
	}
	return t
}

// call reads "name(arguments) = result ERRNO (note)".
func (p *parser) call() *Call {
	c := &Call{Pos: p.here(), Name: p.word("the name of a socket call")}
	p.expect("(")
	c.Args = p.exprs(")")
	p.expect("=")
	c.Result = p.expr()
	if w := p.peekWord(); w != "" && w[0] == 'E' {
		pos := p.here()
		c.Errno = p.word("an errno")
		if _, ok := errnos[c.Errno]; !ok {
			p.fail(pos, "%s is no errno known here%s", c.Errno, didYouMean(c.Errno, slices.Collect(maps.Keys(errnos))))
		}
	}
	if p.peek("(") {
		pos := p.here()
		p.expect("(")
		c.Note = strings.TrimSpace(p.until(")", "note", pos))
		if strings.Contains(c.Note, "\n") {
			p.fail(pos, "this note has no end on its line: ) is missing")
		}
	}
	return c
}

// exprs reads a list separated by commas, up to and with the closing text.
func (p *parser) exprs(end string) []Expr {
	var list []Expr
	if p.accept(end) {
		return nil
	}
	for {
		list = append(list, p.expr())
		if p.accept(end) {
			return list
		}
		if !p.accept(",") {
			p.expected(`"," or "` + end + `"`)
		}
	}
}

// expr reads one value, or several joined by "|".
func (p *parser) expr() Expr {
	defer p.nest()()
	p.skip()
	pos := p.here()
	x := p.primary()
	for p.accept("|") {
		x = Or{Pos: pos, X: x, Y: p.primary()}
	}
	return x
}

func (p *parser) primary() Expr {
	p.skip()
	pos := p.here()
	switch {
	case p.accept("..."):
		return Ellipsis{pos}
	case p.peek(`"`):
		s := String{Pos: pos, Value: p.quoted()}
		s.More = p.accept("...")
		return s
	case p.accept("["):
		return List{pos, p.exprs("]")}
	case p.accept("{"):
		return p.structure(pos)
	case p.accept("-"):
		if w := p.peekWord(); w == "" || !isDigit(w[0]) {
			p.expected("a number")
		}
		n := p.number("a number", 1<<63-1)
		return Int{Pos: pos, Value: -int64(n)}
	}
	w := p.peekWord()
	if w == "" {
		p.expected("a value")
	}
	if isDigit(w[0]) {
		return Int{Pos: pos, Value: int64(p.number("a number", 1<<63-1)), Hex: len(w) > 1 && w[1]|0x20 == 'x'}
	}
	p.off += len(w)
	if p.accept("(") {
		return Apply{pos, w, p.exprs(")")}
	}
	return Ident{pos, w}
}

// structure reads what follows "{".
func (p *parser) structure(pos Pos) Expr {
	s := Struct{Pos: pos}
	if p.accept("}") {
		return s
	}
	for {
		s.Fields = append(s.Fields, p.field())
		if p.accept("}") {
			return s
		}
		if !p.accept(",") {
			p.expected(`"," or "}"`)
		}
	}
}

// field reads "name = value", "name(arg) = value" or a bare value.
func (p *parser) field() Field {
	v := p.expr()
	var f Field
	switch x := v.(type) {
	case Ident:
		f.Name = x.Name
	case Apply:
		if len(x.Args) == 1 {
			f.Name, f.Arg = x.Name, x.Args[0]
		}
	}
	if f.Name == "" || !p.accept("=") {
		return Field{Value: v}
	}
	f.Value = p.expr()
	return f
}

// flags of a TCP segment; "." is ACK and "-" none.
var flagLetters = map[byte]packet.Flags{
	'F': packet.FIN, 'S': packet.SYN, 'R': packet.RST, 'P': packet.PSH, '.': packet.ACK,
	'U': packet.URG, 'E': packet.ECE, 'W': packet.CWR, 'C': packet.CWR, 'A': packet.AE, 'N': packet.AE,
}
