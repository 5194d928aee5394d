package e2e

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// TestNetemAsKernel sends echo requests through a link that catflap impairs, and through one that the kernel's netem
// impairs in the same words, and holds both against what the words mean. Most kernels of virtual machines have no netem;
// then catflap is held against the words alone, and the log says so.
func TestNetemAsKernel(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "ping", "tc", "ip", "unshare")
	const pings = 500
	const ping = "ping -n -c 500 -i 0.002 -W 0.5 "
	bin := catflap(t)
	both := func(p float64) float64 { return 1 - (1-p)*(1-p) }
	for _, c := range []struct {
		words string
		loss  float64 // of requests without an answer
		burst float64 // losses in a row, on average
		more  float64 // duplicate answers for each answer
		rtt   float64 // ms
	}{
		{words: "loss 20%", loss: both(0.2), burst: 1},
		{words: "loss gemodel 5% 20%", loss: both(0.05 / (0.05 + 0.2)), burst: 5},
		// A duplicate request gets an answer of its own, which may be duplicated too.
		{words: "duplicate 20%", more: 1.2*1.2 - 1},
		{words: "delay 10ms", rtt: 20},
		{words: "delay 10ms 4ms distribution normal", rtt: 20},
	} {
		t.Run(c.words, func(t *testing.T) {
			check := func(who, summary string) {
				t.Helper()
				p := readPing(t, summary)
				// Bursts widen the spread.
				within(t, who+": loss", p.lost/pings, c.loss, 6*math.Sqrt(c.loss*(1-c.loss)/pings*c.burst))
				within(t, who+": duplicates for each answer", p.duplicates/max(1, pings-p.lost), c.more, 6*math.Sqrt(c.more/pings)+1e-9)
				// A busy machine delays some, and brings none in before its time: it moves the average, and hardly the median.
				if c.rtt != 0 && (p.median < c.rtt-1 || p.median > c.rtt+10) {
					t.Errorf("%s: half of the round trips are longer than %v ms, want %v", who, p.median, c.rtt)
				}
			}
			check("catflap", run(t, runArgs(bin, "offload", ping+"10.9.0.2 || true", "--netem", c.words+" seed 1")...).want(t, 0).stdout)
			r := run(t, "unshare", "--net", "--", "sh", "-c",
				"ip link set lo up && tc qdisc add dev lo root netem limit 100000 "+c.words+" && { "+ping+"127.0.0.1 || true; }")
			if r.status != 0 && strings.Contains(r.stderr, "qdisc kind is unknown") {
				t.Log("this kernel has no netem to compare with: modprobe sch_netem, where the module is installed")
				return
			}
			check("the kernel", r.want(t, 0).stdout)
		})
	}
}

func within(t *testing.T, what string, got, want, by float64) {
	t.Helper()
	if math.Abs(got-want) > by {
		t.Errorf("%s: %.4f, want %.4f ± %.4f", what, got, want, by)
	}
}

// pingSummary is what ping says.
type pingSummary struct{ lost, duplicates, median float64 }

var (
	pingCounts = regexp.MustCompile(`(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?`)
	pingTime   = regexp.MustCompile(`time=([0-9.]+) ms`)
)

func readPing(t *testing.T, s string) (p pingSummary) {
	t.Helper()
	m, answers := pingCounts.FindStringSubmatch(s), pingTime.FindAllStringSubmatch(s, -1)
	if m == nil || len(answers) == 0 {
		t.Fatalf("ping said %q", s)
	}
	number := func(s string) float64 { v, _ := strconv.ParseFloat(s, 64); return v }
	var times []float64
	for _, a := range answers {
		times = append(times, number(a[1]))
	}
	slices.Sort(times)
	return pingSummary{lost: number(m[1]) - number(m[2]), duplicates: number(m[3]), median: times[len(times)/2]}
}
