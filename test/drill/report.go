package drill

import (
	"cmp"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report are the results of many scripts, in the order in which the scripts were given.
type Report struct {
	Results []Result      `json:"results"`
	Wall    time.Duration `json:"wall_ns"` // real time that the run took
	// Differences are the scripts that did not end alike on both targets, when both were asked for.
	Differences []string `json:"differences,omitempty"`
}

// OK reports whether no result needs anybody's attention.
func (r Report) OK() bool {
	for _, res := range r.Results {
		if !res.Status.OK() {
			return false
		}
	}
	return true
}

// Count is how many results have a status.
func (r Report) Count(s Status) int {
	n := 0
	for _, res := range r.Results {
		if res.Status == s {
			n++
		}
	}
	return n
}

// Summary is one line with the counts: "250 passed, 3 failed as expected, 1 failed; 254 scripts in 2.1s".
func (r Report) Summary() string {
	var parts []string
	for _, s := range []struct {
		status Status
		text   string
	}{
		{Passed, "passed"}, {ExpectedFailure, "failed as expected"}, {Failed, "failed"},
		{UnexpectedPass, "passed unexpectedly"}, {Refused, "refused"}, {Broken, "broken"}, {Unstable, "unstable"}, {Read, "read"},
	} {
		if n := r.Count(s.status); n > 0 || s.status == Passed && r.Count(Read) == 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.text))
		}
	}
	scripts := "scripts"
	if len(r.Results) == 1 {
		scripts = "script"
	}
	return fmt.Sprintf("%s; %d %s in %s", strings.Join(parts, ", "), len(r.Results), scripts, r.Wall.Round(time.Millisecond))
}

// WriteText writes a line for each result, failures with all that is known of them, and the summary. Results that need
// nobody's attention are left out unless verbose.
func (r Report) WriteText(w io.Writer, verbose bool) error {
	for _, res := range r.Results {
		if res.Status.OK() && len(res.Limits) == 0 && !verbose {
			continue
		}
		if err := res.writeText(w); err != nil {
			return err
		}
	}
	for _, d := range r.Differences {
		if _, err := fmt.Fprintln(w, d); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, r.Summary())
	return err
}

// WriteSuite writes how many scripts of each folder ended how, a line for each folder and target, and their sums.
func (r Report) WriteSuite(w io.Writer) error {
	type key struct {
		folder string
		on     Target
	}
	type row struct{ scripts, good, failed, refused, broken int }
	rows := map[key]*row{}
	var order []key
	for _, res := range r.Results {
		for _, k := range []key{{path.Dir(filepath.ToSlash(res.Script)), res.Target}, {"", res.Target}} {
			n := rows[k]
			if n == nil {
				n = &row{}
				rows[k] = n
				order = append(order, k)
			}
			n.scripts++
			switch {
			case res.Status.OK():
				n.good++
			case res.Status == Refused:
				n.refused++
			case res.Status == Broken:
				n.broken++
			default:
				n.failed++
			}
		}
	}
	slices.SortStableFunc(order, func(a, b key) int { // the sums, whose folder is "", last
		return cmp.Or(cmp.Compare(len(b.folder[:min(1, len(b.folder))]), len(a.folder[:min(1, len(a.folder))])), cmp.Compare(a.folder, b.folder))
	})
	good := "passed"
	if r.Count(Read) > 0 {
		good = "accepted"
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "scripts\t%s\tfailed\trefused\tbroken\t  folder\n", good)
	for _, k := range order {
		n, folder := rows[k], k.folder
		if folder == "" {
			folder = "all"
		}
		if k.on == Kernel {
			folder += " on " + string(k.on)
		}
		fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t  %s\n", n.scripts, n.good, n.failed, n.refused, n.broken, folder)
	}
	return t.Flush()
}

// labels are how each status reads in the text report.
var labels = map[Status]string{
	Passed: "ok", ExpectedFailure: "xfail", Failed: "FAIL", UnexpectedPass: "XPASS", Refused: "REFUSED", Broken: "BROKEN",
	Unstable: "UNSTABLE", Read: "ok",
}

func (res Result) writeText(w io.Writer) error {
	line := fmt.Sprintf("%-7s %s", labels[res.Status], res.Script)
	if res.Target == Kernel {
		line += " on " + string(res.Target)
	}
	switch res.Status {
	case Passed:
		line += fmt.Sprintf(" (%d packets, %s)", res.Packets, res.Elapsed)
	case ExpectedFailure:
		line += ": " + res.Reason
	}
	var s strings.Builder
	s.WriteString(line + "\n")
	for _, l := range res.Limits {
		s.WriteString("  " + l + "\n")
	}
	for _, p := range res.Prints {
		s.WriteString("  printed: " + p + "\n")
	}
	if res.Status != ExpectedFailure && res.Message != "" {
		indent(&s, "  ", res.Message)
	}
	_, err := io.WriteString(w, s.String())
	return err
}

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// The elements of JUnit's XML that continuous integration reads.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string     `xml:"classname,attr"`
		Name    string     `xml:"name,attr"`
		Time    string     `xml:"time,attr"`
		Failure *junitText `xml:"failure,omitempty"`
		Error   *junitText `xml:"error,omitempty"`
		Skipped *junitText `xml:"skipped,omitempty"`
		Output  string     `xml:"system-out,omitempty"`
	}
	junitText struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes the report as JUnit XML, one suite a target. An expected failure counts as skipped, a refused or
// broken script as an error.
func (r Report) WriteJUnit(w io.Writer) error {
	var out junitSuites
	for _, on := range []Target{Stack, Kernel} {
		suite := junitSuite{Name: "drill/" + string(on)}
		var total time.Duration
		for _, res := range r.Results {
			if res.Target != on {
				continue
			}
			c := junitCase{Class: path.Dir(res.Script), Name: path.Base(res.Script), Time: junitTime(res.Elapsed), Output: strings.Join(res.Prints, "\n")}
			first, _, _ := strings.Cut(res.Message, "\n")
			text := &junitText{Message: first, Text: res.Message}
			switch res.Status {
			case Failed, UnexpectedPass, Unstable:
				c.Failure = text
				suite.Failures++
			case Refused, Broken:
				c.Error = text
				suite.Errors++
			case ExpectedFailure:
				c.Skipped = &junitText{Message: "expected failure: " + res.Reason}
				suite.Skipped++
			}
			total += res.Elapsed
			suite.Tests++
			suite.Cases = append(suite.Cases, c)
		}
		suite.Time = junitTime(total)
		if suite.Tests > 0 {
			out.Suites = append(out.Suites, suite)
		}
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func junitTime(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
