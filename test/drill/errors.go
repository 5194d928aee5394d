package drill

import (
	"fmt"
	"strings"
)

// Error is a mistake at one place of a script. Its text is FILE:LINE:COLUMN and what is wrong, then the line itself with
// a caret below the place.
type Error struct {
	File   string
	Pos    Pos
	Msg    string
	Source string // the line at Pos
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s\n%s", e.File, e.Pos.Line, e.Pos.Col, e.Msg, caret(e.Source, e.Pos.Col, 1))
}

// caret returns the line and below it a caret under the column, n wide; both are indented. A tab stays a tab, so that
// the caret keeps its place whatever a tab's width is.
func caret(line string, col, n int) string {
	var pad strings.Builder
	for i := range min(col-1, len(line)) {
		if line[i] == '\t' {
			pad.WriteByte('\t')
		} else {
			pad.WriteByte(' ')
		}
	}
	return "    " + line + "\n    " + pad.String() + strings.Repeat("^", max(1, n))
}

// line returns the text of a line of the script, "" where there is none.
func (s *Script) line(n int) string {
	if n < 1 || n > len(s.source) {
		return ""
	}
	return strings.TrimRight(s.source[n-1], "\r")
}

// errorf returns an Error at a place of the script.
func (s *Script) errorf(pos Pos, format string, args ...any) *Error {
	return &Error{File: s.Name, Pos: pos, Msg: fmt.Sprintf(format, args...), Source: s.line(pos.Line)}
}
