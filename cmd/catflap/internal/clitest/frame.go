package clitest

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Control sequences of a terminal that catflap top uses: ECMA-48, and xterm's alternate screen.
const (
	Home        = "\x1b[H" // begins a frame
	Reverse     = "\x1b[7m"
	ScreenLeave = "\x1b[?25h\x1b[?1049l"

	eraseLine = "\x1b[K"
	plain     = "\x1b[0m"
)

// Frame takes a frame of catflap top apart. The error says why it does not fit a screen of width and height.
func Frame(drawn string, width, height int) (lines []string, err error) {
	text, ok := strings.CutPrefix(drawn, Home)
	if !ok {
		return nil, fmt.Errorf("%dx%d: no frame: %q", width, height, drawn)
	}
	for _, code := range []string{eraseLine, Reverse, plain} {
		text = strings.ReplaceAll(text, code, "")
	}
	lines = strings.Split(text, "\r\n")
	if len(lines) != height {
		return nil, fmt.Errorf("%dx%d: %d lines", width, height, len(lines))
	}
	for _, line := range lines {
		if n := utf8.RuneCountInString(line); n > width || strings.ContainsAny(line, "\x1b\n") {
			return nil, fmt.Errorf("%dx%d: a line of %d: %q", width, height, n, line)
		}
	}
	return lines, nil
}
