package main

import (
	"slices"
	"testing"
)

func names(ms []measure) (n []string) {
	for _, m := range ms {
		n = append(n, m.name)
	}
	return n
}

func TestPickMeasures(t *testing.T) {
	all := measures()
	for _, c := range []struct {
		in   string
		want []string
	}{
		{"connect", []string{"connect"}},                                           // not connect-60s
		{"ping-pong,http", []string{"http-1", "http-16", "http-256", "ping-pong"}}, // in their own order
		{"bulk-up", []string{"bulk-up-1", "bulk-up-8", "bulk-up-64"}},
		{"http-1", []string{"http-1"}},
	} {
		got, err := pickMeasures(all, c.in)
		if err != nil || !slices.Equal(names(got), c.want) {
			t.Errorf("pickMeasures(%q) = %v, %v, want %v", c.in, names(got), err, c.want)
		}
	}
	for _, bad := range []string{"", "bulk-", "htt", "http-16,nope"} {
		if got, err := pickMeasures(all, bad); err == nil {
			t.Errorf("pickMeasures(%q) = %v, want an error", bad, names(got))
		}
	}
}

func TestMeasuresAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range measures() {
		if seen[m.name] {
			t.Errorf("two measures are named %s", m.name)
		}
		seen[m.name] = true
		if m.what == "" || len(m.metrics) == 0 {
			t.Errorf("%s says nothing, or measures nothing", m.name)
		}
	}
}
