package main

import (
	"fmt"
	"strings"
)

// words are the arguments of a command with iproute2's grammar: keywords and values.
type words struct {
	command string // for messages, such as "ip route add"
	rest    []string
}

func (w *words) more() bool { return len(w.rest) > 0 }

// next takes a word.
func (w *words) next() string {
	s := w.rest[0]
	w.rest = w.rest[1:]
	return s
}

// value takes the word after the keyword key.
func (w *words) value(key, want string) (string, error) {
	if !w.more() {
		return "", w.errorf("%q: a value is missing; want %s", key, want)
	}
	return w.next(), nil
}

// end refuses words that are left over; want says what could stand there.
func (w *words) end(want string) error {
	if w.more() {
		return w.unexpected(w.rest[0], want)
	}
	return nil
}

func (w *words) unexpected(word, want string) error {
	return w.errorf("unexpected %q; want %s", word, want)
}

func (w *words) bad(key, value, want string) error {
	return w.errorf("%s %q: want %s", key, value, want)
}

// errorf makes a usage error of this command.
func (w *words) errorf(format string, args ...any) error {
	return &usageError{
		msg:    w.command + ": " + fmt.Sprintf(format, args...),
		remedy: "see: catflap " + strings.Fields(w.command)[0] + " --help",
	}
}

// choice is a keyword; iproute2 takes some by any prefix, others only in full.
type choice struct {
	word   string
	abbrev bool
	means  string // the keyword that this is another spelling of; "" for itself
}

// choose finds the first of the choices that word stands for, as iproute2 does;
// "" if none.
func choose(word string, from []choice) string {
	for _, c := range from {
		if word == c.word || c.abbrev && word != "" && strings.HasPrefix(c.word, word) {
			if c.means != "" {
				return c.means
			}
			return c.word
		}
	}
	return ""
}

// oneOf lists the choices for a message.
func oneOf(from []choice) string {
	var names []string
	for _, c := range from {
		if c.means == "" {
			names = append(names, c.word)
		}
	}
	return strings.Join(names, ", ")
}
