package conformance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/catflap/catflap/test/drill"
)

// runMutants measures all mutants; "make mutants" sets it. It takes as long as the scripts take, once for each.
var runMutants = flag.Bool("mutants", false, "run all scripts against each mutant and write "+mutantsFile)

const mutantsFile = "MUTANTS.md"

// killsNone are the scripts that may find no mutant, each with the reason.
var killsNone = map[string]string{}

// TestMutants shows that the scripts can fail: that each mutant is found by a script, and that each script finds one.
func TestMutants(t *testing.T) {
	if !*runMutants {
		text, err := os.ReadFile(mutantsFile)
		if err != nil {
			t.Fatalf("%v: make mutants", err)
		}
		for _, m := range mutants {
			if !strings.Contains(string(text), "| "+m.name+" | "+m.rule+" |") {
				t.Errorf("%s lacks %s: make mutants", mutantsFile, m.name)
			}
		}
		return
	}
	failing := map[string]string{} // scripts that fail anyway, and so find nothing
	run := func(between func() func(drill.Direction, []byte) [][]byte) map[string]bool {
		report, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{"..."}, Environment: drill.Environment{Between: between}})
		if err != nil {
			t.Fatal(err)
		}
		well := map[string]bool{}
		for _, res := range report.Results {
			well[res.Script] = res.Status.OK()
			if between == nil && res.Status == drill.ExpectedFailure {
				failing[res.Script] = "it fails on netstack as it is: " + res.Reason
			}
		}
		return well
	}
	killers := map[string]int{}
	for name, ok := range run(nil) {
		if !ok {
			t.Fatalf("%s fails without any mutant", name)
		}
		killers[name] = 0
	}
	var out strings.Builder
	out.WriteString("# Mutants\n\nWritten by `make mutants`; do not edit. Each is a stack that breaks one rule, made by changing the packets between it and the\n" +
		"scripts. The number is how many of the scripts fail then.\n\n| mutant | rule | found by | for example |\n|---|---|---|---|\n")
	var alive []string
	for _, m := range mutants {
		var found []string
		for name, ok := range run(func() func(drill.Direction, []byte) [][]byte { return m.tamper() }) {
			if !ok {
				killers[name]++
				found = append(found, name)
			}
		}
		slices.Sort(found)
		fmt.Fprintf(&out, "| %s | %s | %d | %s |\n", m.name, m.rule, len(found), example(found))
		switch {
		case len(found) == 0 && m.reason == "":
			t.Errorf("no script finds %s: %s", m.name, m.rule)
			alive = append(alive, m.name)
		case len(found) == 0:
			alive = append(alive, m.name+": "+m.reason)
		case m.reason != "":
			t.Errorf("%s is found by %s, although it is said that none can: %s", m.name, found[0], m.reason)
		}
	}
	var idle []string
	for name, n := range killers {
		reason := killsNone[name]
		if n == 0 && reason == "" {
			reason = failing[name]
		}
		if n == 0 {
			idle = append(idle, name+": "+reason)
			if reason == "" {
				t.Errorf("%s finds no mutant", name)
			}
		} else if reason != "" {
			t.Errorf("%s finds a mutant, although it is said that it cannot: %s", name, reason)
		}
	}
	section := func(title string, list []string) {
		slices.Sort(list)
		if len(list) == 0 {
			list = []string{"none"}
		}
		fmt.Fprintf(&out, "\n## %s\n\n- %s\n", title, strings.Join(list, "\n- "))
	}
	section("Mutants that no script finds", alive)
	section("Scripts that find no mutant", idle)
	if err := os.WriteFile(mutantsFile, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// example is a script that finds a mutant: the first that is not of the matrix, if there is one.
func example(found []string) string {
	for _, name := range found {
		if !strings.HasPrefix(name, "matrix/") {
			return name
		}
	}
	if len(found) > 0 {
		return found[0]
	}
	return "–"
}
