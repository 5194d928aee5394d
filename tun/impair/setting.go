package impair

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Setting is what one --netem flag, or one line of a script, asks for: settings for one direction or both, or a rule.
type Setting struct {
	Dirs []Direction // that Spec is for
	Spec Spec
	Rule *Rule // if not nil, a rule, and nothing else
}

// ParseDirections reads in, out or both.
func ParseDirections(word string) ([]Direction, bool) {
	switch word {
	case "in":
		return []Direction{In}, true
	case "out":
		return []Direction{Out}, true
	case "both":
		return []Direction{In, Out}, true
	}
	return nil, false
}

// ParseSetting reads [in|out|both] and what Parse reads, or what ParseRule reads. Text that is both, such as "delay
// 20ms" or "corrupt 2", is tc's. The error is that of the reading that got further.
func ParseSetting(text string) (Setting, error) {
	rest := strings.TrimLeft(text, " \t\r\n")
	word, after, _ := strings.Cut(rest, " ")
	dirs, given := ParseDirections(word)
	if given {
		rest = after
	} else {
		dirs = []Direction{In, Out}
	}
	skipped := len(text) - len(rest)

	spec, specErr := Parse(rest)
	if specErr == nil && spec != (Spec{}) {
		return Setting{Dirs: dirs, Spec: spec}, nil
	}
	if given {
		if specErr == nil {
			specErr = &ParseError{Input: rest, Pos: len(rest), Want: optionNames()}
		}
		return Setting{}, shifted(specErr, text, skipped)
	}
	rule, ruleErr := ParseRule(rest)
	if ruleErr == nil {
		return Setting{Rule: &rule}, nil
	}
	var s, r *ParseError
	if !errors.As(specErr, &s) {
		s = &ParseError{Want: optionNames()}
	}
	if !errors.As(ruleErr, &r) {
		return Setting{}, ruleErr
	}
	best := *s
	switch {
	case s.whole:
	case r.whole || r.Pos > s.Pos:
		best = *r
	case r.Pos == s.Pos && s.Reason == "" && r.Reason == "":
		best.Want = nil
		if s.Pos == 0 {
			best.Want = []string{"in", "out", "both"}
		}
		for _, w := range slices.Concat(s.Want, r.Want) {
			if !slices.Contains(best.Want, w) {
				best.Want = append(best.Want, w)
			}
		}
	}
	return Setting{}, shifted(&best, text, skipped)
}

func optionNames() (names []string) {
	for _, o := range options {
		names = append(names, o.name)
	}
	return names
}

// shifted moves an error's place to where it is in text.
func shifted(err error, text string, by int) error {
	var pe *ParseError
	if !errors.As(err, &pe) {
		return err
	}
	moved := *pe
	moved.Input, moved.Pos = text, pe.Pos+by
	return &moved
}

// String is the setting as ParseSetting reads it.
func (s Setting) String() string {
	switch {
	case s.Rule != nil:
		return s.Rule.String()
	case len(s.Dirs) == 1:
		return fmt.Sprintf("%s %s", s.Dirs[0], s.Spec)
	}
	return s.Spec.String()
}

// Apply does what the setting asks for.
func (s Setting) Apply(l *Link) error {
	if s.Rule != nil {
		_, err := l.AddRule(*s.Rule)
		return err
	}
	for _, d := range s.Dirs {
		if err := l.Set(d, s.Spec); err != nil {
			return err
		}
	}
	return nil
}
