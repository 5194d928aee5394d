package main

import (
	"fmt"
	"os"
	"time"
)

// progress tells on stderr what is going on, and how much is left.
type progress struct {
	total, done int
	began       time.Time
	terminal    bool
}

func newProgress(total int) *progress {
	fi, err := os.Stderr.Stat()
	return &progress{total: total, began: time.Now(), terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

// step begins the next sample.
func (p *progress) step(what string) {
	if p.terminal {
		left := ""
		if p.done > 0 {
			d := time.Since(p.began) / time.Duration(p.done) * time.Duration(p.total-p.done)
			left = fmt.Sprintf(", %v left", d.Round(time.Second))
		}
		fmt.Fprintf(os.Stderr, "\r\x1b[K[%d/%d%s] %s", p.done+1, p.total, left, what)
	}
	p.done++
}

// note tells what came out.
func (p *progress) note(text string) {
	if p.terminal {
		fmt.Fprintf(os.Stderr, "\r\x1b[K%s\n", text)
		return
	}
	fmt.Fprintf(os.Stderr, "[%d/%d %v] %s\n", p.done, p.total, time.Since(p.began).Round(time.Second), text)
}

// end clears the line of the terminal.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
