package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

// writeTable prints a run: for each setting a table with a row for each metric. A
// contestant's cell is its median, its median ratio to base, and the least and the
// greatest ratio of a round; base has the least and the greatest value instead.
func writeTable(w io.Writer, r *report, names []string, base string) error {
	fmt.Fprintf(w, "%s\n%s\n%s; %d rounds of %s after %s; %.0f s\n", r.Command, r.Machine, r.Started.Format(time.DateTime), r.Rounds, r.Duration, r.Warmup, r.Seconds)
	fmt.Fprintf(w, "cells: median, then x ratio to %s (median of the rounds' ratios) [least..greatest]; ^ more is better, v less is\n", base)
	for _, set := range settingsOf(r) {
		fmt.Fprintf(w, "\n%s\n", set)
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintf(t, "measure\tmetric\tunit\t%s\n", strings.Join(names, "\t"))
		for _, res := range r.Results {
			if res.Setting != set {
				continue
			}
			name := res.Measure
			for _, f := range res.Figures {
				arrow := "^"
				if f.Lower {
					arrow = "v"
				}
				fmt.Fprintf(t, "%s\t%s\t%s %s", name, f.Key, arrow, f.Unit)
				for _, c := range names {
					fmt.Fprintf(t, "\t%s", cell(f.of(c)))
				}
				fmt.Fprintln(t)
				name = ""
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	for i, m := range r.Missing {
		if i == 0 {
			fmt.Fprintln(w, "\nnot measured:")
		}
		round := ""
		if m.Round > 0 {
			round = fmt.Sprintf(", round %d", m.Round)
		}
		fmt.Fprintf(w, "  %s: %s: %s%s: %s\n", m.Setting, m.Contestant, m.Measure, round, m.Why)
	}
	return nil
}

func settingsOf(r *report) (sets []setting) {
	seen := map[setting]bool{}
	for _, res := range r.Results {
		if !seen[res.Setting] {
			seen[res.Setting] = true
			sets = append(sets, res.Setting)
		}
	}
	return sets
}

func cell(s *series) string {
	switch {
	case s == nil:
		return "-"
	case s.Ratio != nil:
		return fmt.Sprintf("%s x%.2f [%.2f..%.2f]", human(s.Value.Median), s.Ratio.Median, s.Ratio.Min, s.Ratio.Max)
	case s.Value.Min == s.Value.Max:
		return human(s.Value.Median)
	}
	return fmt.Sprintf("%s [%s..%s]", human(s.Value.Median), human(s.Value.Min), human(s.Value.Max))
}

// human writes a number with three significant digits.
func human(x float64) string {
	switch a := math.Abs(x); {
	case a == 0:
		return "0"
	case a >= 1e6:
		return digits(x/1e6) + "M"
	case a >= 1e3:
		return digits(x/1e3) + "k"
	}
	return digits(x)
}

func digits(x float64) string {
	switch a := math.Abs(x); {
	case a >= 99.95:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case a >= 9.995:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case a >= 0.0995:
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'g', 2, 64)
}
