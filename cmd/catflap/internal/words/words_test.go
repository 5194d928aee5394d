package words

import (
	"errors"
	"testing"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

func TestChoose(t *testing.T) {
	verbs := []Choice{
		{Word: "add", Abbrev: true}, {Word: "append", Abbrev: true}, {Word: "show", Abbrev: true}, {Word: "list", Abbrev: true, Means: "show"}, {Word: "from"},
	}
	for word, want := range map[string]string{
		"add": "add", "a": "add", "ap": "append", "s": "show", "li": "show", "list": "show", "from": "from", // the first that fits
		"fr": "", "adder": "", "": "", "x": "",
	} {
		if got := Choose(word, verbs); got != want {
			t.Errorf("%q means %q; want %q", word, got, want)
		}
	}
	if got, want := OneOf(verbs), "add, append, show, from"; got != want {
		t.Errorf("the choices are %q; want %q", got, want)
	}
}

// TestWords: words are taken one by one, and an error names the command, the word and what could stand there.
func TestWords(t *testing.T) {
	w := &Words{Command: "steer add", Rest: []string{"dev", "cat0", "more"}}
	if !w.More() || w.Next() != "dev" {
		t.Error("the first word is not dev")
	}
	if v, err := w.Value("dev", "a device"); v != "cat0" || err != nil {
		t.Errorf("dev is %q, %v", v, err)
	}
	_, missing := (&Words{Command: "steer add"}).Value("dev", "a device")
	for want, err := range map[string]error{
		`steer add: unexpected "more"; want nothing`:          w.End("nothing"),
		`steer add: dev "x": want a device`:                   w.Bad("dev", "x", "a device"),
		`steer add: "dev": a value is missing; want a device`: missing,
		`steer add: 7 devices`:                                w.Errorf("%d devices", 7),
	} {
		var u *remedy.UsageError
		if !errors.As(err, &u) || u.Msg != want || u.Remedy != "see: catflap steer --help" {
			t.Errorf("%+v; want %s", err, want)
		}
	}
	w.Next()
	if err := w.End("nothing"); w.More() || err != nil {
		t.Errorf("nothing is left, and yet %v", err)
	}
}
