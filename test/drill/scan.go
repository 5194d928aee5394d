package drill

import (
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// scanner reads a script from left to right. The language has no fixed tokens ("P." is two in an address and one as
// flags; ".1" is a time and "." a flag), so each rule of the parser asks for the form that it expects.
// A mistake is thrown as a *Error, which [Parse] catches.
type scanner struct {
	script *Script
	src    string
	off    int
	starts []int // offset of each line
}

func newScanner(script *Script, src string) *scanner {
	s := &scanner{script: script, src: src, starts: []int{0}}
	for i := range len(src) {
		if src[i] == '\n' {
			s.starts = append(s.starts, i+1)
		}
	}
	return s
}

// pos is the place of a byte offset.
func (s *scanner) pos(off int) Pos {
	line := sort.SearchInts(s.starts, off+1)
	return Pos{Line: line, Col: off - s.starts[line-1] + 1}
}

func (s *scanner) here() Pos { return s.pos(s.off) }

// fail throws an error at a place.
func (s *scanner) fail(pos Pos, format string, args ...any) {
	panic(s.script.errorf(pos, format, args...))
}

// expected throws an error at the next text: what is needed, and what stands there.
func (s *scanner) expected(what string) {
	s.skip()
	if s.off == len(s.src) { // show the last line with text, not the empty one after it
		s.fail(s.pos(len(strings.TrimRight(s.src, " \t\r\n"))), "expected %s, found the end of the script", what)
	}
	s.fail(s.here(), "expected %s, found %s", what, s.found())
}

// found names what stands at the current place.
func (s *scanner) found() string {
	rest := s.src[s.off:]
	if rest == "" {
		return "the end of the script"
	}
	if rest[0] == '\n' {
		return "the end of the line"
	}
	n := 0
	for n < len(rest) && isWord(rest[n]) {
		n++
	}
	if n == 0 {
		n = 1
		for n < len(rest) && rest[n]&0xc0 == 0x80 { // the rest of a UTF-8 sequence
			n++
		}
	}
	return strconv.Quote(rest[:n])
}

// skip passes white space and comments: //, #, and /* */.
func (s *scanner) skip() {
	for s.off < len(s.src) {
		rest := s.src[s.off:]
		switch {
		case strings.ContainsRune(" \t\r\n\f\v", rune(rest[0])):
			s.off++
		case strings.HasPrefix(rest, "//"), rest[0] == '#':
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			s.off += n
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				s.fail(s.here(), "this comment has no end: */ is missing")
			}
			s.off += 2 + n + 2
		default:
			return
		}
	}
}

// eof reports whether only white space and comments are left.
func (s *scanner) eof() bool {
	s.skip()
	return s.off == len(s.src)
}

// peek reports whether the text comes next.
func (s *scanner) peek(text string) bool {
	s.skip()
	return strings.HasPrefix(s.src[s.off:], text)
}

// accept passes the text if it comes next.
func (s *scanner) accept(text string) bool {
	if !s.peek(text) {
		return false
	}
	s.off += len(text)
	return true
}

// expect passes the text, which must come next.
func (s *scanner) expect(text string) {
	if !s.accept(text) {
		s.expected(strconv.Quote(text))
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWord(c byte) bool {
	return c == '_' || isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// peekWord returns the word that comes next, or "".
func (s *scanner) peekWord() string {
	s.skip()
	n := s.off
	for n < len(s.src) && isWord(s.src[n]) {
		n++
	}
	return s.src[s.off:n]
}

// word passes a word: letters, digits and underscores.
func (s *scanner) word(what string) string {
	w := s.peekWord()
	if w == "" {
		s.expected(what)
	}
	s.off += len(w)
	return w
}

// keyword passes the word if it comes next, in any case of letters.
func (s *scanner) keyword(word string) bool {
	if w := s.peekWord(); !strings.EqualFold(w, word) {
		return false
	}
	s.off += len(word)
	return true
}

// peekKeyword reports whether the word comes next, in any case of letters.
func (s *scanner) peekKeyword(word string) bool { return strings.EqualFold(s.peekWord(), word) }

// number passes a decimal or 0x hexadecimal number of at most the given value.
func (s *scanner) number(what string, limit uint64) uint64 {
	w := s.peekWord()
	if w == "" || !isDigit(w[0]) {
		s.expected(what)
	}
	pos := s.here()
	base, digits := 10, w
	if len(w) > 2 && (w[:2] == "0x" || w[:2] == "0X") {
		base, digits = 16, w[2:]
	}
	n, err := strconv.ParseUint(digits, base, 64)
	if err != nil {
		if numErr, ok := err.(*strconv.NumError); !ok || numErr.Err != strconv.ErrRange {
			s.fail(pos, "expected %s, found %q", what, w)
		}
		n = math.MaxUint64
	}
	if n > limit || err != nil {
		s.fail(pos, "%s %s is too large: at most %d", what, w, limit)
	}
	s.off += len(w)
	return n
}

// quoted passes a string in double quotes with the escapes of C.
func (s *scanner) quoted() string {
	s.skip()
	start := s.here()
	s.expect(`"`)
	var out []byte
	for {
		if s.off >= len(s.src) || s.src[s.off] == '\n' {
			s.fail(start, `this string has no end: " is missing`)
		}
		c := s.src[s.off]
		s.off++
		switch c {
		case '"':
			return string(out)
		case '\\':
			out = append(out, s.escape())
		default:
			out = append(out, c)
		}
	}
}

func (s *scanner) escape() byte {
	if s.off >= len(s.src) {
		s.fail(s.here(), "the script ends inside a string")
	}
	c := s.src[s.off]
	s.off++
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case '0':
		return 0
	case 'x':
		if s.off+2 <= len(s.src) {
			if n, err := strconv.ParseUint(s.src[s.off:s.off+2], 16, 8); err == nil {
				s.off += 2
				return byte(n)
			}
		}
		s.fail(s.here(), `expected two hexadecimal digits after \x`)
	}
	return c
}

// until passes everything up to and with the closing text, and returns what stands before it.
func (s *scanner) until(end, what string, start Pos) string {
	n := strings.Index(s.src[s.off:], end)
	if n < 0 {
		s.fail(start, "this %s has no end: %s is missing", what, end)
	}
	text := s.src[s.off : s.off+n]
	s.off += n + len(end)
	return text
}

// maxTime bounds a time in a script: a day. TCP's longest default, the idle time before a keep-alive, is two hours.
const maxTime = 24 * time.Hour

// seconds passes a time in decimal seconds: "1", "0.25", ".1".
func (s *scanner) seconds() time.Duration {
	s.skip()
	pos := s.here()
	n := s.off
	for n < len(s.src) && isDigit(s.src[n]) {
		n++
	}
	// A point belongs to the number only when a digit follows: "0...0.1" is 0, an ellipsis, and 0.1.
	if n+1 < len(s.src) && s.src[n] == '.' && isDigit(s.src[n+1]) {
		n++
		for n < len(s.src) && isDigit(s.src[n]) {
			n++
		}
	}
	text := s.src[s.off:n]
	if text == "" {
		s.expected("a time in seconds, as 0.1 or +.1")
	}
	d, err := parseSeconds(text)
	if err != nil {
		s.fail(pos, "time %s: %v", text, err)
	}
	s.off = n
	return d
}

// parseSeconds reads decimal seconds without a float's rounding; digits beyond nanoseconds are cut.
func parseSeconds(text string) (time.Duration, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if whole == "" {
		whole = "0"
	}
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || sec > int64(maxTime/time.Second) {
		return 0, fmt.Errorf("more than a day")
	}
	frac = (frac + "000000000")[:9]
	nano, err := strconv.ParseInt(frac, 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(sec)*time.Second + time.Duration(nano), nil
}
