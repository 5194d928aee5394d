package impair

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseError is a word that cannot stand where it stands.
type ParseError struct {
	Input  string
	Pos    int      // where the word starts, in bytes from the start of Input; len(Input) at its end
	Word   string   // "" at the end of Input
	Reason string   // why a word of the right kind will not do; "" if it is of the wrong kind
	Want   []string // what could stand there: words, and in capitals kinds of values

	whole bool // all words could stand where they stand; together they make no sense
}

// Error is one line: the word, its place, and what could stand there.
func (e *ParseError) Error() string {
	if len(e.Want) == 0 {
		return e.Problem()
	}
	return e.Problem() + "; " + e.Remedy()
}

// Problem is the word and its place.
func (e *ParseError) Problem() string {
	where := fmt.Sprintf("%q at column %d of %q", e.Word, e.Pos+1, e.Input)
	switch {
	case e.Input == "":
		where = "no words"
	case e.Word == "":
		where = fmt.Sprintf("at the end of %q", e.Input)
	}
	switch meant := e.meant(); {
	case e.Reason != "":
		where += ": " + e.Reason
	case meant != "":
		where += fmt.Sprintf(": did you mean %q?", meant)
	}
	return where
}

// meant is the word that could stand there of which Word looks like a slip of the pen; "" if there is none.
func (e *ParseError) meant() string {
	best, least := "", 3 // slips at most, less one
	for _, w := range e.Want {
		if w != strings.ToLower(w) {
			continue // a kind of value
		}
		if n := slips(strings.ToLower(e.Word), w); n < least && n < len(w)-1 {
			best, least = w, n
		}
	}
	return best
}

// slips is how many letters must be put in, left out or changed to make b of a: their Levenshtein distance.
func slips(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0]++
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// Remedy is what could stand there; "" if the word is of the right kind.
func (e *ParseError) Remedy() string {
	if len(e.Want) == 0 {
		return ""
	}
	return "here could stand: " + strings.Join(e.Want, ", ")
}

// Place shows the place: the input, and below it a mark under the word.
func (e *ParseError) Place() string {
	marks := max(1, len([]rune(e.Word)))
	return e.Input + "\n" + strings.Repeat(" ", len([]rune(e.Input[:e.Pos]))) + strings.Repeat("^", marks)
}

// words reads an input word by word. It remembers what has been asked for since the last word was taken:
// that is what could stand at the place of a word that nobody wants.
type words struct {
	input string
	list  []word
	next  int
	want  []string
}

type word struct {
	text string
	pos  int
}

// split cuts input at white space, and around comparisons so that they need none.
func split(input string) *words {
	w := &words{input: input}
	for pos := 0; pos < len(input); {
		switch {
		case isSpace(input[pos]):
			pos++
			continue
		case isOperator(input[pos]):
			w.cut(&pos, isOperator)
		default:
			w.cut(&pos, func(c byte) bool { return !isSpace(c) && !isOperator(c) })
		}
	}
	return w
}

func (w *words) cut(pos *int, in func(byte) bool) {
	start := *pos
	for *pos < len(w.input) && in(w.input[*pos]) {
		*pos++
	}
	w.list = append(w.list, word{w.input[start:*pos], start})
}

func isSpace(c byte) bool    { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
func isOperator(c byte) bool { return c == '<' || c == '>' || c == '=' }

func (w *words) done() bool { return w.next >= len(w.list) }

func (w *words) peek() string {
	if w.done() {
		return ""
	}
	return w.list[w.next].text
}

func (w *words) take() string {
	s := w.peek()
	w.next++
	w.want = nil
	return s
}

// is reports whether the next word is s, and takes it if so.
func (w *words) is(s string) bool {
	if w.peek() == s {
		w.take()
		return true
	}
	w.expect(s)
	return false
}

func (w *words) expect(s string) {
	if !slices.Contains(w.want, s) {
		w.want = append(w.want, s)
	}
}

// unexpected is the error of a word that nobody wanted.
func (w *words) unexpected() error { return w.refuse(w.next, "") }

// refuseLast is the error of the word that was taken last, which is of the right kind but will not do.
func (w *words) refuseLast(reason string) error {
	w.want = nil
	return w.refuse(w.next-1, reason)
}

// senseless is the error of words that are well but for what they say, beginning with the i-th.
func (w *words) senseless(i int, why *SpecError) error {
	w.want = nil
	e := w.refuse(i, why.Error())
	e.whole = true
	return e
}

func (w *words) refuse(i int, reason string) *ParseError {
	e := &ParseError{Input: w.input, Pos: len(w.input), Reason: reason, Want: w.want}
	if i < len(w.list) {
		e.Pos, e.Word = w.list[i].pos, w.list[i].text
	}
	return e
}

// numeric reports whether the next word starts like a number.
func (w *words) numeric(signed bool) bool {
	s := w.peek()
	if signed {
		s = strings.TrimPrefix(s, "-")
	}
	return s != "" && (s[0] >= '0' && s[0] <= '9' || s[0] == '.')
}

// value takes the next word if it is a number of the kind that read understands. If it is no number at all and
// must not be missing, or is one that read does not understand, err says so.
func value[T any](w *words, what string, must bool, read func(string) (T, bool)) (v T, ok bool, err error) {
	w.expect(what)
	if !w.numeric(true) {
		if must {
			return v, false, w.unexpected()
		}
		return v, false, nil
	}
	v, ok = read(w.peek())
	if !ok {
		return v, false, w.unexpected()
	}
	w.take()
	return v, true, nil
}

func readPercent(s string) (Percent, bool) {
	f, rest, ok := number(s)
	return Percent(f), ok && (rest == "" || rest == "%")
}

// readTime reads a time; a bare number is in microseconds, as for tc.
func readTime(s string) (time.Duration, bool) {
	f, ok := scaled(s, timeUnits, 1e3)
	if f > float64(maxTime) {
		f = float64(maxTime) + 1 // which Validate refuses
	}
	return time.Duration(f), ok
}

func readRate(s string) (uint64, bool) {
	f, ok := scaled(s, rateUnits, 1)
	return uint64(min(f, maxRate+1)), ok
}

func readSize(s string) (int, bool) {
	f, ok := scaled(s, sizeUnits, 1)
	return int(min(f, maxCount+1)), ok
}

func readInt(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return int(max(min(n, maxCount+1), -maxCount-1)), err == nil
}

// readLimit reads a number of packets. As tc does, it takes a size for one: 10k is 10240.
func readLimit(s string) (int, bool) {
	if n, ok := readInt(s); ok || strings.Trim(s, "0123456789") == "" {
		return n, ok
	}
	return readSize(s)
}

func readSeed(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}
