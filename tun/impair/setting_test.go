package impair

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseSetting(t *testing.T) {
	for _, tt := range []struct {
		text, canonical string
		dirs            []Direction
		rule            bool
	}{
		{"loss 10% delay 20ms seed 7", "delay 20ms loss 10% seed 7", []Direction{In, Out}, false},
		{"both loss 10%", "loss 10%", []Direction{In, Out}, false},
		{"in delay 20ms", "in delay 20ms", []Direction{In}, false},
		{" out  rate 1mbit ", "out rate 1mbit", []Direction{Out}, false},
		{"drop tcp data 2 from server", "drop tcp data 2 from server", nil, true},
		{"delay 20ms", "delay 20ms", []Direction{In, Out}, false}, // tc's
		{"delay 20ms tcp", "delay 20ms tcp", nil, true},
		{"delay tcp fin 2s", "delay 2s tcp fin", nil, true},
		{"corrupt 2", "corrupt 2%", []Direction{In, Out}, false},
		{"corrupt tcp data 2", "corrupt tcp data 2", nil, true},
	} {
		s, err := ParseSetting(tt.text)
		if err != nil || s.String() != tt.canonical || (s.Rule != nil) != tt.rule || !slices.Equal(s.Dirs, tt.dirs) {
			t.Errorf("ParseSetting(%q) = %+v, %q, %v", tt.text, s, s, err)
		}
	}
	for _, tt := range []struct {
		text, word, says string
		pos              int
	}{
		{"", "", "in, out, both, delay", 0},
		{"dely 20ms", "dely", "in, out, both, delay, loss", 0},
		{"loss 10% dely 20ms", "dely", "delay, duplicate", 9},
		{"out loss 10% dely 20ms", "dely", "delay, duplicate", 13},
		{"in", "", "delay, loss", 2},
		{"in drop tcp", "drop", "delay, loss", 3},
		{"drop tcp dta", "dta", "syn, synack", 9},
		{"delay tcp fin", "", "TIME", 13},
		{"corrupt 101%", "corrupt", "want 0%..100%", 0},
		{"loss 110%", "loss", "want 0%..100%", 0},
	} {
		_, err := ParseSetting(tt.text)
		var pe *ParseError
		if !errors.As(err, &pe) || pe.Word != tt.word || pe.Pos != tt.pos || !strings.Contains(err.Error(), tt.says) || pe.Input != tt.text {
			t.Errorf("ParseSetting(%q): %v at %+v, want %q at %d, %q", tt.text, err, pe, tt.word, tt.pos, tt.says)
		}
	}
}

func TestApply(t *testing.T) {
	b := newBench(t, Config{Seed: 7})
	for _, text := range []string{"loss 10%", "out delay 1ms", "drop tcp syn"} {
		s, err := ParseSetting(text)
		if err == nil {
			err = s.Apply(b.Link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if in, out := b.Spec(In).String(), b.Spec(Out).String(); in != "loss 10% limit 1000 seed 7" || out != "delay 1ms limit 1000 seed 7" {
		t.Errorf("in %s, out %s", in, out)
	}
	if len(b.Rules()) != 1 {
		t.Errorf("rules %v", b.Rules())
	}
}
