package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

// testReport has a rate, a time and a count for three contestants, of which one
// failed in the second round and one has nothing at all.
func testReport() (*report, []string) {
	names := []string{"kernel", "offload", "absent"}
	m := measure{name: "http-16", metrics: []metric{
		{Key: "rate", Unit: "req/s", Main: true},
		{Key: "p50", Unit: "us", Lower: true, Main: true},
		{Key: "failures", Lower: true, Count: true},
	}}
	rounds := []round{
		{"kernel": {"rate": 50_000, "p50": 200, "failures": 0}, "offload": {"rate": 30_000, "p50": 300, "failures": 0}},
		{"kernel": {"rate": 60_000, "p50": 100, "failures": 0}},
		{"kernel": {"rate": 40_000, "p50": 400, "failures": 0}, "offload": {"rate": 20_000, "p50": 1000, "failures": 2}},
	}
	set := setting{MTU: 1500, Family: 4, Queues: 1}
	return &report{
		Command: "bench -quick", Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Rounds: 3, Warmup: "1s", Duration: "2s",
		Machine: machine{System: "a <system> & more", Cores: 2},
		Results: []*result{makeResult(set, m, names, "kernel", rounds)},
		Missing: []missing{{Setting: set, Measure: "http-16", Contestant: "offload", Round: 2, Why: "it fell over", Failed: true}},
	}, names
}

func TestResultPairsRoundsAndSkipsFailures(t *testing.T) {
	r, _ := testReport()
	figures := r.Results[0].Figures
	if len(figures) != 3 {
		t.Fatalf("%d figures, want 3", len(figures))
	}
	rate := figures[0].of("offload")
	if rate == nil || rate.Ratio == nil || math.Abs(rate.Ratio.Median-0.55) > 1e-12 || rate.Ratio.Min != 0.5 || rate.Ratio.Max != 0.6 {
		t.Errorf("rate of offload = %+v, want ratios 0.5 and 0.6, median 0.55", rate)
	}
	if rate != nil && rate.Value != (summary{25_000, 20_000, 30_000}) {
		t.Errorf("value of offload = %+v, want the two rounds that worked", rate.Value)
	}
	if s := figures[0].of("kernel"); s == nil || s.Ratio != nil {
		t.Errorf("kernel = %+v, want a series without a ratio to itself", s)
	}
	if s := figures[0].of("absent"); s != nil {
		t.Errorf("a contestant that never ran has a series: %+v", s)
	}
	if s := figures[2].of("offload"); s == nil || s.Ratio != nil || s.Value.Max != 2 {
		t.Errorf("failures of offload = %+v, want the count and no ratio", s)
	}
}

func TestTable(t *testing.T) {
	r, names := testReport()
	var b bytes.Buffer
	if err := writeTable(&b, r, names, "kernel"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"MTU 1500, IPv4, 1 TUN queue",
		`http-16 +rate +\^ req/s +50\.0k \[40\.0k\.\.60\.0k\] +25\.0k x0\.55 \[0\.50\.\.0\.60\] +-`,
		`p50 +v us +200 \[100\.\.400\] +650 x2\.00 \[1\.50\.\.2\.50\]`,
		`failures +v +0 +1\.00 \[0\.\.2\.00\]`,
		`offload: http-16, round 2: it fell over`,
	} {
		if !regexp.MustCompile(want).MatchString(b.String()) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestHumanNumbers(t *testing.T) {
	for x, want := range map[float64]string{
		0: "0", 0.004: "0.004", 0.4567: "0.46", 9.994: "9.99", 9.996: "10.0", 99.96: "100", 123.4: "123",
		1234: "1.23k", 58_123: "58.1k", 123_456: "123k", 2_500_000: "2.50M", -12: "-12.0",
	} {
		if got := human(x); got != want {
			t.Errorf("human(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	r, names := testReport()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"values":[30000,null,20000]`) {
		t.Errorf("a failed round is not null: %s", b)
	}
	var back report
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	var before, after bytes.Buffer
	writeTable(&before, r, names, "kernel")
	writeTable(&after, &back, names, "kernel")
	if before.String() != after.String() {
		t.Errorf("the table of the JSON differs:\n%s\nwant:\n%s", &after, &before)
	}
	if v := back.Results[0].Figures[0].of("offload").Values; len(v) != 3 || !math.IsNaN(v[1]) {
		t.Errorf("values came back as %v", v)
	}
}

func TestPlot(t *testing.T) {
	r, names := testReport()
	var b bytes.Buffer
	if err := writePlot(&b, r, names, "kernel"); err != nil {
		t.Fatal(err)
	}
	svg := b.String()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v\n%s", err, svg)
		}
	}
	// The bars: 0.55 of the kernel's rate, and half its speed in time.
	widths := regexp.MustCompile(`<rect x="170" y="\d+" width="([\d.]+)" height="11"`).FindAllStringSubmatch(svg, -1)
	full := float64(plotWidth-plotLeft-plotRight) / plotMinAxis
	if len(widths) != 2 {
		t.Fatalf("%d bars, want 2:\n%s", len(widths), svg)
	}
	for i, want := range []string{digitsOf(0.55 * full), digitsOf(0.5 * full)} {
		if widths[i][1] != want {
			t.Errorf("bar %d is %s wide, want %s", i, widths[i][1], want)
		}
	}
	for _, want := range []string{"http-16 p50", "offload", "&lt;system&gt; &amp; more"} {
		if !strings.Contains(svg, want) {
			t.Errorf("the plot lacks %q", want)
		}
	}
	if strings.Contains(svg, "absent") {
		t.Error("the legend names a contestant without a bar")
	}
}

func digitsOf(x float64) string {
	b, _ := json.Marshal(math.Round(x*10) / 10)
	s := string(b)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func TestMachineDescribesItself(t *testing.T) {
	m := describeMachine()
	if m.Cores < 1 || !strings.HasPrefix(m.Go, "go") && !strings.HasPrefix(m.Go, "devel") {
		t.Errorf("machine = %+v", m)
	}
	if s := m.String(); !strings.Contains(s, m.Go) {
		t.Errorf("%q does not name %s", s, m.Go)
	}
	if got := colonField("a: 1\nmodel name\t: X : Y\nmodel name: Z\n", "model name"); got != "X : Y" {
		t.Errorf("colonField = %q, want the first value, whole", got)
	}
}
