package conformance

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/catflap/catflap/test/drill"
)

const tableFile = "TABLE.md"

// minScripts is how many scripts the package promises.
const minScripts = 600

// TestTable holds TABLE.md against the scripts: each has its row, with the result on netstack that the script announces
// and that TestConformance checks. With -update it measures all results anew; Linux's need root.
func TestTable(t *testing.T) {
	if *update {
		writeMatrix(t)
	}
	all, err := rows(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < minScripts {
		t.Errorf("%d scripts, at least %d are promised", len(all), minScripts)
	}
	if *update {
		writeTable(t, all)
		return
	}
	all = append(all, goRows()...)
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatalf("%v: make conformance", err)
	}
	for _, r := range all {
		if strings.HasPrefix(r.name, "matrix/") {
			continue
		}
		if line := r.line(r.expected()); !strings.Contains(string(text), line) {
			t.Errorf("%s lacks this row: make conformance\n%s", tableFile, line)
		}
	}
}

// goRows are the rows of the cases in Go.
func goRows() (all []row) {
	for _, c := range goCases() {
		all = append(all, row{header: c.header, name: c.name, link: c.file})
	}
	return all
}

func writeTable(t *testing.T, all []row) {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.name
	}
	report, err := drill.RunFiles(context.Background(), drill.Options{Paths: names})
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range report.Results {
		all[i].stack = res.Status
		if !res.Status.OK() {
			t.Errorf("%s: %s", res.Status, res.Message)
		}
	}
	linux := ""
	if os.Geteuid() == 0 {
		linux = kernelRelease(t)
		measureKernel(t, all, names)
	} else {
		t.Log("Linux is not measured: that needs root")
	}
	inGo := goRows()
	for i, c := range goCases() {
		status, text := c.measure(t)
		if inGo[i].stack = status; !status.OK() {
			t.Errorf("%s: %s: %s", c.name, status, text)
		}
	}
	all = append(all, inGo...)
	if err := os.WriteFile(tableFile, []byte(table(all, linux)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// attempts is how often a script may run on Linux before it counts as failed there.
const attempts = 5

func measureKernel(t *testing.T, all []row, names []string) {
	index := map[string]int{}
	for i, n := range names {
		index[n] = i
	}
	left := names
	for attempt := range attempts {
		if len(left) == 0 {
			return
		}
		opts := drill.Options{Paths: left, Target: drill.Kernel}
		if attempt > 0 {
			opts.Parallel = 1 // the less beside it, the truer the times
		}
		report, err := drill.RunFiles(context.Background(), opts)
		if err != nil {
			t.Fatal(err)
		}
		left = nil
		for _, res := range report.Results {
			all[index[res.Script]].kernel = res.Status
			if res.Status != drill.Passed {
				left = append(left, res.Script)
			}
			if res.Status == drill.Broken || res.Status == drill.Refused {
				t.Errorf("%s: %s", res.Status, res.Message)
			}
		}
	}
}

// kernelRelease is the kernel's version without what its builder appended.
func kernelRelease(t *testing.T) string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`^[0-9.]*[0-9]`).FindString(string(b))
}

// TestHeaders holds each script to the form that the table is made from.
func TestHeaders(t *testing.T) {
	for _, bad := range []string{"", "// no RFC\n// rule\n", "// RFC 9293 section 3.1: MUST\n0 < R 0:0(0)\n"} {
		if h, err := parseHeader(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, h)
		}
	}
	h, err := parseHeader("// RFC 9293 section 3.1: MUST NOT\n// The rule.\n// expected-fail: it does\n0 < R 0:0(0)\n")
	if err != nil || h.rfc != 9293 || h.section != "3.1" || h.level != "MUST NOT" || h.says != "The rule." || h.reason != "it does" {
		t.Errorf("header %+v, error %v", h, err)
	}
}
