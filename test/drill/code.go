package drill

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A %{ … }% block is a small program: assertions, assignments and prints, one a line or separated by semicolons, in the
// expressions that Python and C share. Other statements of Python are refused when the script is read.

// stmt is one statement of a block.
type stmt struct {
	pos  Pos
	kind stmtKind
	name string   // assign
	x    codeExpr // assert, assign, evaluate
	msg  codeExpr // assert: nil, or what to say when it fails
}

type stmtKind int

const (
	stmtAssert stmtKind = iota
	stmtAssign
	stmtEvaluate
)

// codeExpr is an expression of a block: a value of type int64, float64, string, bool or []any, or nil for none.
type codeExpr interface {
	eval(*codeEnv) any
}

// codeEnv are the names that a block knows.
type codeEnv struct {
	script *Script
	names  map[string]any
	prints []string
}

// codeError is thrown by eval; [Code.run] catches it.
type codeError struct{ *Error }

func (env *codeEnv) fail(pos Pos, format string, args ...any) {
	panic(codeError{env.script.errorf(pos, format, args...)})
}

// run executes the block. The error is an assertion that does not hold, or a mistake as an unknown name.
func (c *Code) run(env *codeEnv) (err error) {
	defer func() {
		if r := recover(); r != nil {
			mistake, ok := r.(codeError)
			if !ok {
				panic(r)
			}
			err = mistake.Error
		}
	}()
	for _, s := range c.Statements {
		v := s.x.eval(env)
		switch s.kind {
		case stmtAssign:
			env.names[s.name] = v
		case stmtAssert:
			if truth(v) {
				continue
			}
			said := explain(s.x, env)
			if s.msg != nil {
				said += ": " + format(s.msg.eval(env))
			}
			env.fail(s.pos, "assertion failed%s", said)
		}
	}
	return nil
}

// explain says what the names in a failed assertion were: " (tcpi_rto = 200000)".
func explain(x codeExpr, env *codeEnv) string {
	var names []string
	walkNames(x, func(x codeName) {
		if said := fmt.Sprintf("%s = %s", x.name, format(env.names[x.name])); !slices.Contains(names, said) {
			names = append(names, said)
		}
	})
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// code reads a block.
func (p *parser) code() *Code {
	p.skip()
	c := &Code{Pos: p.here()}
	p.expect("%{")
	start := p.off
	end := strings.Index(p.src[start:], "}%")
	if end < 0 {
		p.fail(c.Pos, "this code block has no end: }%% is missing")
	}
	// A scanner of its own that sees the script only up to the block's end.
	inner := *p.scanner
	inner.src = p.src[:start+end]
	b := &codeParser{scanner: &inner}
	for b.next() {
		c.Statements = append(c.Statements, b.statement())
	}
	p.off = start + end + len("}%")
	return c
}

// codeParser reads the inside of a block. Unlike elsewhere, the end of a line means something here.
type codeParser struct {
	*scanner
	brackets int // open ones: inside them, lines go on
	depth    int
}

func (b *codeParser) enter() func() {
	b.depth++
	if b.depth > maxDepth {
		b.fail(b.here(), "this nests more than %d deep", maxDepth)
	}
	return func() { b.depth-- }
}

// blank passes white space and comments within a line.
func (b *codeParser) blank() {
	for b.off < len(b.src) {
		rest := b.src[b.off:]
		switch {
		case rest[0] == ' ', rest[0] == '\t', rest[0] == '\r', rest[0] == '\n' && b.brackets > 0:
			b.off++
		case strings.HasPrefix(rest, "\\\n"):
			b.off += 2
		case strings.HasPrefix(rest, "\\\r\n"):
			b.off += 3
		case rest[0] == '#':
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			b.off += n
		default:
			return
		}
	}
}

// next passes what separates statements, and reports whether one follows.
func (b *codeParser) next() bool {
	for {
		b.blank()
		if b.off == len(b.src) {
			return false
		}
		if c := b.src[b.off]; c != '\n' && c != ';' {
			return true
		}
		b.off++
	}
}

// op passes the operator if it comes next and no longer one does.
func (b *codeParser) op(text string) bool {
	b.blank()
	rest := b.src[b.off:]
	if !strings.HasPrefix(rest, text) {
		return false
	}
	if isWord(text[0]) {
		if len(rest) > len(text) && isWord(rest[len(text)]) {
			return false
		}
	} else if len(rest) > len(text) {
		switch two := rest[:len(text)+1]; two {
		case "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "//", "**":
			return false
		}
	}
	b.off += len(text)
	return true
}

func (b *codeParser) want(what string) {
	b.blank()
	b.fail(b.here(), "expected %s in this code block, found %s", what, b.foundInCode())
}

func (b *codeParser) foundInCode() string {
	if b.off == len(b.src) {
		return "its end"
	}
	return b.found()
}

func (b *codeParser) statement() stmt {
	s := stmt{pos: b.here(), kind: stmtEvaluate}
	word := b.peekWordHere()
	switch word {
	case "import", "from", "def", "if", "elif", "else", "for", "while", "class", "try", "with", "return", "lambda", "del", "raise":
		b.fail(s.pos, "%q is not supported in a code block: it can assert, assign and print", word)
	case "pass":
		b.off += len(word)
		s.x = codeValue{nil}
		return s
	}
	if b.op("assert") {
		s.kind = stmtAssert
		s.x = b.expr()
		if b.op(",") {
			s.msg = b.expr()
		}
		b.endStatement()
		return s
	}
	if word != "" && !isDigit(word[0]) {
		start := b.off
		b.off += len(word)
		s.kind, s.name = stmtAssign, word
		if op := b.augmented(); op != "" {
			s.x = codeBinary{pos: s.pos, op: op, x: codeName{s.pos, word}, y: b.expr()}
			b.endStatement()
			return s
		}
		if !b.op("=") {
			s.kind, s.name = stmtEvaluate, ""
			b.off = start
		}
	}
	s.x = b.expr()
	b.endStatement()
	return s
}

// augmented passes "+=" and its like, and returns the operator: "" when none comes next.
func (b *codeParser) augmented() string {
	b.blank()
	for _, op := range []string{"+", "-", "*", "|", "&", "^", "%"} {
		if strings.HasPrefix(b.src[b.off:], op+"=") {
			b.off += 2
			return op
		}
	}
	return ""
}

func (b *codeParser) endStatement() {
	b.blank()
	if b.off < len(b.src) && b.src[b.off] != '\n' && b.src[b.off] != ';' {
		b.want("the end of the statement")
	}
}

func (b *codeParser) peekWordHere() string {
	b.blank()
	n := b.off
	for n < len(b.src) && isWord(b.src[n]) {
		n++
	}
	return b.src[b.off:n]
}

// expr reads the loosest form, X or Y; the others follow in the order of Python's precedence.
func (b *codeParser) expr() codeExpr {
	defer b.enter()()
	x := b.and()
	for b.op("or") || b.op("||") {
		x = codeBinary{op: "or", x: x, y: b.and()}
	}
	return x
}

func (b *codeParser) and() codeExpr {
	x := b.not()
	for b.op("and") || b.op("&&") {
		x = codeBinary{op: "and", x: x, y: b.not()}
	}
	return x
}

func (b *codeParser) not() codeExpr {
	defer b.enter()()
	b.blank()
	pos := b.here()
	if b.op("not") || b.op("!") {
		return codeUnary{pos: pos, op: "not", x: b.not()}
	}
	return b.comparison()
}

var comparisons = []string{"==", "!=", "<=", ">=", "<", ">"}

// comparison reads X < Y <= Z, which holds when each neighbouring pair does.
func (b *codeParser) comparison() codeExpr {
	b.blank()
	c := codeCompare{pos: b.here(), operands: []codeExpr{b.binary(0)}}
next:
	for {
		for _, op := range comparisons {
			if b.op(op) {
				c.ops = append(c.ops, op)
				c.operands = append(c.operands, b.binary(0))
				continue next
			}
		}
		break
	}
	if len(c.ops) == 0 {
		return c.operands[0]
	}
	return c
}

// binaryLevels are the arithmetic operators from the loosest to the tightest.
var binaryLevels = [][]string{{"|"}, {"^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "//", "/", "%"}}

func (b *codeParser) binary(level int) codeExpr {
	if level == len(binaryLevels) {
		return b.unary()
	}
	x := b.binary(level + 1)
next:
	for {
		b.blank()
		pos := b.here()
		for _, op := range binaryLevels[level] {
			if b.op(op) {
				x = codeBinary{pos: pos, op: op, x: x, y: b.binary(level + 1)}
				continue next
			}
		}
		return x
	}
}

func (b *codeParser) unary() codeExpr {
	defer b.enter()()
	b.blank()
	pos := b.here()
	for _, op := range []string{"-", "+", "~"} {
		if b.op(op) {
			return codeUnary{pos: pos, op: op, x: b.unary()}
		}
	}
	return b.operand()
}

func (b *codeParser) operand() codeExpr {
	b.blank()
	pos := b.here()
	if b.off == len(b.src) {
		b.want("a value")
	}
	switch c := b.src[b.off]; {
	case c == '(':
		b.off++
		b.brackets++
		items, tuple := b.items(")")
		if len(items) == 1 && !tuple {
			return items[0]
		}
		return codeTuple{items}
	case c == '\'' || c == '"':
		return codeValue{b.codeString(c)}
	case isDigit(c) || c == '.':
		return b.codeNumber()
	}
	w := b.peekWordHere()
	if w == "" {
		b.want("a value")
	}
	b.off += len(w)
	switch w {
	case "True", "true":
		return codeValue{true}
	case "False", "false":
		return codeValue{false}
	case "None":
		return codeValue{nil}
	}
	if b.op("(") {
		b.brackets++
		args, _ := b.items(")")
		if _, ok := codeFuncs[w]; !ok {
			b.fail(pos, "the function %s is not known in a code block: abs, int, len, max, min, print, str", w)
		}
		return codeCall{pos, w, args}
	}
	return codeName{pos, w}
}

// items reads a list up to and with the closing text; comma says whether a comma stood in it.
func (b *codeParser) items(end string) (list []codeExpr, comma bool) {
	defer func() { b.brackets-- }()
	for !b.op(end) {
		list = append(list, b.expr())
		if b.op(",") {
			comma = true
			continue
		}
		if !b.op(end) {
			b.want(`"," or "` + end + `"`)
		}
		break
	}
	return list, comma
}

func (b *codeParser) codeString(quote byte) string {
	start := b.here()
	b.off++
	var out []byte
	for {
		if b.off >= len(b.src) || b.src[b.off] == '\n' {
			b.fail(start, "this string has no end: %c is missing", quote)
		}
		c := b.src[b.off]
		b.off++
		switch c {
		case quote:
			return string(out)
		case '\\':
			out = append(out, b.escape())
		default:
			out = append(out, c)
		}
	}
}

func (b *codeParser) codeNumber() codeExpr {
	n := b.off
	for n < len(b.src) && (isWord(b.src[n]) || b.src[n] == '.') {
		n++
	}
	text := b.src[b.off:n]
	pos := b.here()
	b.off = n
	if v, err := strconv.ParseInt(text, 0, 64); err == nil {
		return codeValue{v}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		b.fail(pos, "%q is not a number", text)
	}
	return codeValue{v}
}
