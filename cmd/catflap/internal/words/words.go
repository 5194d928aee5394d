// Package words reads command lines with iproute2's grammar: keywords, some of which may be shortened, and values.
package words

import (
	"fmt"
	"strings"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

// Words are the arguments of a command. The methods that return an error return a *remedy.UsageError, which names the
// command.
type Words struct {
	Command string   // for messages, such as "ip route add"; not empty
	Rest    []string // the words that are not read yet
}

// More reports whether a word is left.
func (w *Words) More() bool { return len(w.Rest) > 0 }

// Next takes a word. There must be one: see More.
func (w *Words) Next() string {
	s := w.Rest[0]
	w.Rest = w.Rest[1:]
	return s
}

// Value takes the word after the keyword key; want says what that word can be.
func (w *Words) Value(key, want string) (string, error) {
	if !w.More() {
		return "", w.Errorf("%q: a value is missing; want %s", key, want)
	}
	return w.Next(), nil
}

// End refuses words that are left over; want says what could stand there.
func (w *Words) End(want string) error {
	if w.More() {
		return w.Unexpected(w.Rest[0], want)
	}
	return nil
}

// Unexpected refuses a word; want says what could stand in its place.
func (w *Words) Unexpected(word, want string) error {
	return w.Errorf("unexpected %q; want %s", word, want)
}

// Bad refuses the value of the keyword key; want says what it can be.
func (w *Words) Bad(key, value, want string) error {
	return w.Errorf("%s %q: want %s", key, value, want)
}

// Errorf makes a usage error of this command, whose remedy is the command's help.
func (w *Words) Errorf(format string, args ...any) error {
	return &remedy.UsageError{
		Msg:    w.Command + ": " + fmt.Sprintf(format, args...),
		Remedy: "see: catflap " + strings.Fields(w.Command)[0] + " --help",
	}
}

// Choice is a keyword. iproute2 takes some by any prefix, others only in full.
type Choice struct {
	Word   string
	Abbrev bool   // whether any prefix of Word will do
	Means  string // the keyword that this is another spelling of; "" for itself
}

// Choose finds the first of the choices that word stands for, as iproute2 does; "" if none.
func Choose(word string, from []Choice) string {
	for _, c := range from {
		if word == c.Word || c.Abbrev && word != "" && strings.HasPrefix(c.Word, word) {
			if c.Means != "" {
				return c.Means
			}
			return c.Word
		}
	}
	return ""
}

// OneOf lists the choices for a message.
func OneOf(from []Choice) string {
	var names []string
	for _, c := range from {
		if c.Means == "" {
			names = append(names, c.Word)
		}
	}
	return strings.Join(names, ", ")
}
