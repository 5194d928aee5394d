package drill

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

type (
	codeValue struct{ v any }
	codeName  struct {
		pos  Pos
		name string
	}
	codeTuple struct{ items []codeExpr }
	codeUnary struct {
		pos Pos
		op  string
		x   codeExpr
	}
	codeBinary struct {
		pos  Pos
		op   string
		x, y codeExpr
	}
	codeCompare struct {
		pos      Pos
		operands []codeExpr
		ops      []string
	}
	codeCall struct {
		pos  Pos
		name string
		args []codeExpr
	}
)

func (e codeValue) eval(*codeEnv) any { return e.v }

func (e codeName) eval(env *codeEnv) any {
	v, ok := env.names[e.name]
	if !ok {
		if isInfo(e.name) {
			env.fail(e.pos, "%s is not known on this target", e.name)
		}
		env.fail(e.pos, "the name %s is not known here", e.name)
	}
	return v
}

func (e codeTuple) eval(env *codeEnv) any {
	vs := make([]any, len(e.items))
	for i, x := range e.items {
		vs[i] = x.eval(env)
	}
	return vs
}

func (e codeUnary) eval(env *codeEnv) any {
	v := e.x.eval(env)
	if e.op == "not" {
		return !truth(v)
	}
	switch v := number(v).(type) {
	case int64:
		switch e.op {
		case "-":
			return -v
		case "~":
			return ^v
		default:
			return v
		}
	case float64:
		switch e.op {
		case "-":
			return -v
		case "+":
			return v
		}
	}
	env.fail(e.pos, "%s cannot be applied to %s", e.op, format(v))
	return nil
}

func (e codeBinary) eval(env *codeEnv) any {
	x := e.x.eval(env)
	switch e.op {
	case "and":
		if !truth(x) {
			return x
		}
		return e.y.eval(env)
	case "or":
		if truth(x) {
			return x
		}
		return e.y.eval(env)
	}
	y := e.y.eval(env)
	if s, ok := x.(string); ok {
		switch e.op {
		case "%":
			return e.sprintf(env, s, y)
		case "+":
			if t, ok := y.(string); ok {
				return s + t
			}
		}
	}
	switch a := number(x).(type) {
	case int64:
		switch b := number(y).(type) {
		case int64:
			return e.integers(env, a, b)
		case float64:
			return e.floats(env, float64(a), b)
		}
	case float64:
		switch b := number(y).(type) {
		case int64:
			return e.floats(env, a, float64(b))
		case float64:
			return e.floats(env, a, b)
		}
	}
	env.fail(e.pos, "%s %s %s: these cannot be combined", format(x), e.op, format(y))
	return nil
}

func (e codeBinary) integers(env *codeEnv, a, b int64) any {
	switch e.op {
	case "|":
		return a | b
	case "^":
		return a ^ b
	case "&":
		return a & b
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "<<", ">>":
		if b < 0 || b > 63 {
			env.fail(e.pos, "a shift by %d bits", b)
		}
		if e.op == "<<" {
			return a << b
		}
		return a >> b
	}
	if b == 0 {
		env.fail(e.pos, "a division by zero")
	}
	switch e.op {
	case "/":
		return float64(a) / float64(b)
	case "//": // as Python: towards minus infinity
		q := a / b
		if a%b != 0 && (a < 0) != (b < 0) {
			q--
		}
		return q
	default: // "%": the sign of the divisor
		r := a % b
		if r != 0 && (r < 0) != (b < 0) {
			r += b
		}
		return r
	}
}

func (e codeBinary) floats(env *codeEnv, a, b float64) any {
	switch e.op {
	case "+":
		return a + b
	case "-":
		return a - b
	case "*":
		return a * b
	case "/", "//", "%":
		if b == 0 {
			env.fail(e.pos, "a division by zero")
		}
		switch e.op {
		case "/":
			return a / b
		case "//":
			return math.Floor(a / b)
		}
		return a - b*math.Floor(a/b)
	}
	env.fail(e.pos, "%s needs integers", e.op)
	return nil
}

// sprintf is Python's string % values, for the verbs d i u s x f and %%.
func (e codeBinary) sprintf(env *codeEnv, layout string, v any) string {
	args, ok := v.([]any)
	if !ok {
		args = []any{v}
	}
	var out strings.Builder
	for {
		text, rest, found := strings.Cut(layout, "%")
		out.WriteString(text)
		if !found {
			break
		}
		n := 0
		for n < len(rest) && strings.IndexByte("-+ #0123456789.l", rest[n]) >= 0 {
			n++
		}
		if n == len(rest) {
			env.fail(e.pos, "the format ends after a %%")
		}
		verb, flags := rest[n], strings.ReplaceAll(rest[:n], "l", "")
		layout = rest[n+1:]
		if verb == '%' {
			out.WriteByte('%')
			continue
		}
		if len(args) == 0 {
			env.fail(e.pos, "the format has more verbs than values")
		}
		if len(flags) > 6 {
			env.fail(e.pos, "the width in %%%s%c is not supported", flags, verb)
		}
		arg := args[0]
		args = args[1:]
		switch verb {
		case 'd', 'i', 'u', 'x':
			n, ok := number(arg).(int64)
			if f, isFloat := arg.(float64); isFloat {
				n, ok = int64(f), true
			}
			if !ok {
				env.fail(e.pos, "%%%c needs a number, not %s", verb, format(arg))
			}
			if verb != 'x' {
				verb = 'd'
			}
			fmt.Fprintf(&out, "%"+flags+string(verb), n)
		case 'f', 'g', 'e':
			var f float64
			switch n := number(arg).(type) {
			case int64:
				f = float64(n)
			case float64:
				f = n
			default:
				env.fail(e.pos, "%%%c needs a number, not %s", verb, format(arg))
			}
			fmt.Fprintf(&out, "%"+flags+string(verb), f)
		case 's', 'r':
			fmt.Fprintf(&out, "%"+flags+"s", format(arg))
		default:
			env.fail(e.pos, "the format verb %%%c is not supported", verb)
		}
	}
	if len(args) > 0 && !(len(args) == 1 && !ok && args[0] == nil) {
		env.fail(e.pos, "the format has fewer verbs than values")
	}
	return out.String()
}

func (e codeCompare) eval(env *codeEnv) any {
	x := e.operands[0].eval(env)
	for i, op := range e.ops {
		y := e.operands[i+1].eval(env)
		if !e.holds(env, op, x, y) {
			return false
		}
		x = y
	}
	return true
}

func (e codeCompare) holds(env *codeEnv, op string, x, y any) bool {
	order := 0
	switch a := number(x).(type) {
	case string:
		b, ok := y.(string)
		if !ok {
			return e.unlike(env, op, x, y)
		}
		order = strings.Compare(a, b)
	case int64:
		switch b := number(y).(type) {
		case int64:
			order = compare(a, b)
		case float64:
			order = compare(float64(a), b)
		default:
			return e.unlike(env, op, x, y)
		}
	case float64:
		switch b := number(y).(type) {
		case int64:
			order = compare(a, float64(b))
		case float64:
			order = compare(a, b)
		default:
			return e.unlike(env, op, x, y)
		}
	default:
		return e.unlike(env, op, x, y)
	}
	switch op {
	case "==":
		return order == 0
	case "!=":
		return order != 0
	case "<":
		return order < 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	default:
		return order >= 0
	}
}

// unlike compares values of different kinds: never equal, and without an order.
func (e codeCompare) unlike(env *codeEnv, op string, x, y any) bool {
	switch op {
	case "==":
		return x == nil && y == nil
	case "!=":
		return x != nil || y != nil
	}
	env.fail(e.pos, "%s %s %s: these cannot be compared", format(x), op, format(y))
	return false
}

func compare[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// codeFuncs are the functions of a block; each gets values and its place.
var codeFuncs = map[string]func(env *codeEnv, pos Pos, args []any) any{
	"print": func(env *codeEnv, _ Pos, args []any) any {
		words := make([]string, len(args))
		for i, v := range args {
			words[i] = format(v)
		}
		env.prints = append(env.prints, strings.Join(words, " "))
		return nil
	},
	"str": func(env *codeEnv, pos Pos, args []any) any { return format(one(env, pos, args)) },
	"len": func(env *codeEnv, pos Pos, args []any) any {
		switch v := one(env, pos, args).(type) {
		case string:
			return int64(len(v))
		case []any:
			return int64(len(v))
		}
		env.fail(pos, "len needs a string")
		return nil
	},
	"int": func(env *codeEnv, pos Pos, args []any) any {
		switch v := number(one(env, pos, args)).(type) {
		case int64:
			return v
		case float64:
			return int64(v)
		case string:
			if n, err := strconv.ParseInt(v, 0, 64); err == nil {
				return n
			}
		}
		env.fail(pos, "int needs a number")
		return nil
	},
	"abs": func(env *codeEnv, pos Pos, args []any) any {
		switch v := number(one(env, pos, args)).(type) {
		case int64:
			return max(v, -v)
		case float64:
			return math.Abs(v)
		}
		env.fail(pos, "abs needs a number")
		return nil
	},
	"min": func(env *codeEnv, pos Pos, args []any) any { return extreme(env, pos, args, "<") },
	"max": func(env *codeEnv, pos Pos, args []any) any { return extreme(env, pos, args, ">") },
}

func one(env *codeEnv, pos Pos, args []any) any {
	if len(args) != 1 {
		env.fail(pos, "this function takes one value, not %d", len(args))
	}
	return args[0]
}

func extreme(env *codeEnv, pos Pos, args []any, op string) any {
	if len(args) == 0 {
		env.fail(pos, "this function needs a value")
	}
	best := args[0]
	for _, v := range args[1:] {
		if (codeCompare{pos: pos}).holds(env, op, v, best) {
			best = v
		}
	}
	return best
}

func (e codeCall) eval(env *codeEnv) any {
	args := make([]any, len(e.args))
	for i, x := range e.args {
		args[i] = x.eval(env)
	}
	return codeFuncs[e.name](env, e.pos, args)
}

// number turns a truth value into 0 or 1, as Python does, and leaves all else.
func number(v any) any {
	if b, ok := v.(bool); ok {
		if b {
			return int64(1)
		}
		return int64(0)
	}
	return v
}

func truth(v any) bool {
	switch v := v.(type) {
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	}
	return false
}

// format writes a value as Python's str does.
func format(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		if v {
			return "True"
		}
		return "False"
	case []any:
		words := make([]string, len(v))
		for i, x := range v {
			words[i] = format(x)
		}
		return "(" + strings.Join(words, ", ") + ")"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}
