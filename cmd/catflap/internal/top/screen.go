package top

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/catflap/catflap/cmd/catflap/internal/plural"
)

// pollInterval is how often a change of the screen's size is looked for, and so how late a resize, a signal or the end of
// the instance shows.
const pollInterval = 50 * time.Millisecond

// Control sequences of a terminal: ECMA-48, and xterm's alternate screen.
const (
	screenEnter = "\x1b[?1049h\x1b[?25l"
	screenLeave = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	eraseLine   = "\x1b[K"
	reverse     = "\x1b[7m"
	plain       = "\x1b[0m"
)

// screen is the state of the display.
type screen struct {
	dev    string
	color  bool
	sort   string
	paused bool
	scroll int
	rows   []Row
	at     time.Time
}

// Show shows the table on a terminal until the user quits, and leaves the terminal as it found it. The error is
// ErrEnded if the instance has ended, and that of ctx if it is done.
func (f *Feed) Show(ctx context.Context, by string, color bool, in, out *os.File) error {
	if err := canWaitForInput(); err != nil {
		return err
	}
	was, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return err
	}
	defer func() { _ = term.Restore(int(in.Fd()), was) }()
	if _, err := out.WriteString(screenEnter); err != nil {
		return err
	}
	defer func() { _, _ = out.WriteString(screenLeave) }()

	s := &screen{dev: f.dev, color: color, sort: by}
	s.rows, s.at = f.rows(s.sort)
	var width, height int
	var keys [64]byte
	stale := true
	for {
		w, h, err := term.GetSize(int(out.Fd()))
		if err != nil {
			return err
		}
		if w != width || h != height || stale {
			width, height, stale = w, h, false
			if _, err := out.WriteString(s.draw(width, height)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-f.failed:
			return f.reason(ctx, err)
		case <-f.ready:
			if !s.paused {
				s.rows, s.at = f.rows(s.sort)
				stale = true
			}
		default:
		}
		here, err := waitForInput(in, pollInterval)
		if err != nil {
			return err
		}
		if !here {
			continue
		}
		n, err := in.Read(keys[:])
		if err != nil || n == 0 {
			return nil // the terminal is gone
		}
		if s.key(string(keys[:n]), height) {
			return nil
		}
		stale = true
	}
}

// key does what keys ask for; they may come several at once. It reports whether to quit.
func (s *screen) key(keys string, height int) (quit bool) {
	for keys != "" {
		switch {
		case strings.HasPrefix(keys, "\x1b[A"):
			s.scroll--
			keys = keys[3:]
			continue
		case strings.HasPrefix(keys, "\x1b[B"):
			s.scroll++
			keys = keys[3:]
			continue
		case strings.HasPrefix(keys, "\x1b[5~"):
			s.scroll -= max(1, height-chrome)
			keys = keys[4:]
			continue
		case strings.HasPrefix(keys, "\x1b[6~"):
			s.scroll += max(1, height-chrome)
			keys = keys[4:]
			continue
		}
		switch keys[0] {
		case 'q', 'Q', 3, 4: // Ctrl-C, Ctrl-D
			return true
		case 'p', ' ':
			s.paused = !s.paused
		case 'b':
			s.sort = "rate"
		case 'c':
			s.sort = "cwnd"
		case 't':
			s.sort = "srtt"
		case 'r':
			s.sort = "retrans"
		case 'a':
			s.sort = "remote"
		}
		keys = keys[1:]
	}
	sortRows(s.rows, s.sort)
	return false
}

// chrome is how many lines are not connections: the summary, the names of the columns, and the keys.
const chrome = 3

// draw writes the whole screen: as many lines as it is high, and none longer than it is wide.
func (s *screen) draw(width, height int) string {
	if width <= 0 || height <= 0 {
		return ""
	}
	table := Lines(s.rows, width)
	visible := max(0, height-chrome)
	s.scroll = max(0, min(s.scroll, len(s.rows)-visible))
	head, rows := table[0], table[1:]
	rows = rows[min(s.scroll, len(rows)):]
	rows = rows[:min(visible, len(rows))]

	lines := []string{s.summary(), head}
	lines = append(lines, rows...)
	if height >= chrome {
		for len(lines) < height-1 {
			lines = append(lines, "")
		}
		lines = append(lines, "q quit  p pause  sort: b rate  c cwnd  t srtt  r retrans  a address")
	}
	lines = lines[:min(height, len(lines))]
	var b strings.Builder
	b.WriteString(screenHome)
	for i, line := range lines {
		line = fit(line, width)
		if i == 1 && s.color {
			line = reverse + line + strings.Repeat(" ", width-utf8.RuneCountInString(line)) + plain
		}
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line)
		if utf8.RuneCountInString(line) < width { // a full line has nothing behind it, and the cursor on its last character
			b.WriteString(eraseLine)
		}
	}
	return b.String()
}

// summary is the first line.
func (s *screen) summary() string {
	var out, in float64
	var again uint64
	for _, r := range s.rows {
		out, in, again = out+r.Out, in+r.In, again+r.Retransmits
	}
	text := fmt.Sprintf("%s %s  %s  out %sbit/s  in %sbit/s  retransmitted %d  by %s",
		s.at.Format("15:04:05"), s.dev, plural.Of(uint64(len(s.rows)), "connection"), bitRate(out), bitRate(in), again, s.sort)
	if s.paused {
		text = "PAUSED " + text
	}
	return text
}

// fit cuts a line to a width.
func fit(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}
