package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kinds of load: what the client does.
const (
	loadDown    = "down"    // N streams from the server
	loadUp      = "up"      // N streams to the server
	loadHTTP    = "http"    // GET / on N kept-alive connections, one request at a time on each
	loadConnect = "connect" // connect, GET /, the server closes; N at a time
	loadEcho    = "echo"    // 1 byte to and fro on N connections
	loadUDP     = "udp"     // 1 datagram to and fro on N sockets, one at a time on each
	loadOpen    = "open"    // N connections opened one after another
)

// Families of measures: how a sample is taken.
const (
	familyRate  = "rate"  // a load for a time, after a warm-up
	familyOpen  = "open"  // a number of connections
	familyIdle  = "idle"  // memory of connections that do nothing
	familyCalls = "calls" // a load under strace
)

// metric is one figure of a measure.
type metric struct {
	Key   string `json:"metric"`
	Unit  string `json:"unit"`
	Lower bool   `json:"lower_is_better"`
	Main  bool   `json:"main"`  // in the plot
	Count bool   `json:"count"` // a count that may be zero by right: its ratio says nothing
}

// measure is one thing to measure, in N of something.
type measure struct {
	name, what string
	family     string
	load       string
	n          int
	http       bool          // of familyIdle: with net/http
	awake      bool          // keep idle processors from halting
	quick      bool          // part of a quick run
	varied     bool          // measured in each variation of the setting of a full run
	only       []string      // contestants; nil: all
	rounds     int           // if not 0, instead of the usual number
	duration   time.Duration // if not 0, instead of the usual one
	metrics    []metric
}

// Stacks that a server runs on.
const (
	onKernel  = "kernel"
	onOffload = "offload"
	onWatched = "watched"
	onWater   = "water"
	onPair    = "pair"
)

// idleSteps are the numbers of connections at which memory is read.
var idleSteps = []int{1_000, 10_000, 50_000}

// Metrics that several measures share. Those of cost are of the server's side: for
// catflap that includes its stack, for a relay the relay; the kernel's work for a
// connection falls to whichever process it interrupts, so that only cpu-all
// compares like with like, on a machine that does nothing else.
var (
	costOfBulk = []metric{
		{Key: "cpu/GB", Unit: "s", Lower: true},
		{Key: "cpu-all/GB", Unit: "s", Lower: true},
		{Key: "allocs/packet", Lower: true, Count: true},
		{Key: "rw-calls/packet", Lower: true, Count: true},
		{Key: "drops", Lower: true, Count: true}, // by the client's interface
		others,
	}
	costOfRequests = []metric{
		{Key: "cpu/op", Unit: "us", Lower: true},
		{Key: "cpu-all/op", Unit: "us", Lower: true},
		{Key: "allocs/op", Lower: true, Count: true},
		{Key: "rw-calls/op", Lower: true, Count: true},
		{Key: "failures", Lower: true, Count: true},
		others,
	}
	latency = []metric{
		{Key: "p50", Unit: "us", Lower: true},
		{Key: "p99", Unit: "us", Lower: true},
		{Key: "p99.9", Unit: "us", Lower: true},
	}
)

// others is the share of the machine's processor time that went to neither server nor
// client: to other programs, and to what the kernel did on nobody's account. Where it
// is not small, a row says little.
var others = metric{Key: "others", Unit: "%", Lower: true, Count: true}

// measures are all there are, in the order in which they run.
func measures() (all []measure) {
	add := func(m measure, metrics ...[]metric) {
		m.metrics = slices.Concat(metrics...)
		all = append(all, m)
	}
	for _, dir := range []string{loadDown, loadUp} {
		for _, n := range []int{1, 8, 64} {
			add(measure{
				name: fmt.Sprintf("bulk-%s-%d", dir, n), family: familyRate, load: dir, n: n, quick: n < 64, varied: n == 1,
				what: fmt.Sprintf("%d TCP stream(s) %s", n, map[string]string{loadDown: "from the server", loadUp: "to the server"}[dir]),
			}, []metric{{Key: "rate", Unit: "Gbit/s", Main: true}}, costOfBulk)
		}
	}
	for _, n := range []int{1, 16, 256} {
		add(measure{
			name: fmt.Sprintf("http-%d", n), family: familyRate, load: loadHTTP, n: n, quick: n > 1, varied: n == 16,
			what: fmt.Sprintf("GET / on %d kept-alive connection(s)", n),
		}, []metric{{Key: "rate", Unit: "req/s", Main: true}}, mainKey(latency, "p99"), costOfRequests)
	}
	// Where an idle processor halts, as in most virtual machines, a round trip of the
	// kernel takes 10 us when client and server share a processor and 60 us when they
	// do not, by the scheduler's whim. So there are two: as it comes, and with
	// processors that do not halt.
	for _, x := range []struct {
		name, what string
		awake      bool
	}{{"ping-pong", "", false}, {"ping-pong-awake", ", idle processors kept from halting", true}} {
		add(measure{
			name: x.name, family: familyRate, load: loadEcho, n: 1, awake: x.awake, quick: true,
			what: "1 byte to the server and back on 1 connection" + x.what,
		}, mainKey(latency, "p50"), []metric{{Key: "rate", Unit: "/s"}}, costOfRequests)
	}
	add(measure{
		name: "udp", family: familyRate, load: loadUDP, n: 16,
		what: "64-byte datagrams to the server and back on 16 sockets; failures are lost ones",
	}, []metric{{Key: "rate", Unit: "/s", Main: true}}, latency, costOfRequests)
	add(measure{
		name: "open", family: familyOpen, load: loadOpen, n: 2000, quick: true,
		what: "2,000 connections opened one after another: time of each",
	}, []metric{{Key: "open", Unit: "us", Lower: true, Main: true}})
	add(measure{
		name: "connect", family: familyRate, load: loadConnect, n: 16, quick: true, varied: true,
		what: "connect, GET /, close by the server, 16 at a time",
	}, []metric{{Key: "rate", Unit: "conn/s", Main: true}}, latency, costOfRequests)
	add(measure{
		name: "connect-60s", family: familyRate, load: loadConnect, n: 16, rounds: 1, duration: time.Minute,
		only: []string{onKernel, onOffload},
		what: "the same for 60 s: TIME-WAIT and ports",
	}, []metric{{Key: "rate", Unit: "conn/s"}}, latency, costOfRequests)
	for _, x := range []struct {
		name, what string
		http       bool
	}{{"idle", "the stack alone", false}, {"idle-http", "with net/http after one request", true}} {
		var m []metric
		for _, n := range idleSteps {
			m = append(m,
				metric{Key: fmt.Sprintf("live@%d", n), Unit: "B", Lower: true},
				metric{Key: fmt.Sprintf("rss@%d", n), Unit: "B", Lower: true},
				metric{Key: fmt.Sprintf("slab@%d", n), Unit: "B", Lower: true})
		}
		add(measure{
			name: x.name, family: familyIdle, load: loadOpen, http: x.http, rounds: 1,
			what: fmt.Sprintf("memory of an idle connection (%s): the server's heap and stacks, its resident set, the kernel's slabs at both ends; opening the first and the last 1,000 of %d", x.what, idleSteps[len(idleSteps)-1]),
		}, m, []metric{{Key: "first", Unit: "us", Lower: true}, {Key: "last", Unit: "us", Lower: true}, {Key: "last/first", Lower: true}})
	}
	for _, x := range []struct {
		load string
		n    int
	}{{loadDown, 1}, {loadUp, 1}, {loadHTTP, 16}, {loadEcho, 1}} {
		add(measure{
			name: fmt.Sprintf("calls-%s", x.load), family: familyCalls, load: x.load, n: x.n, rounds: 1,
			what: fmt.Sprintf("system calls of the server under strace, which slows it: %s, %d at a time", x.load, x.n),
		}, callMetrics(x.load))
	}
	return all
}

// callMetrics are system calls by name, for each packet or exchange of a load.
func callMetrics(load string) (ms []metric) {
	for _, name := range append([]string{"calls"}, callNames...) {
		ms = append(ms, metric{Key: name + per(load), Lower: true, Count: true})
	}
	return ms
}

// callNames are the system calls told apart, callsOther the name of all others.
var callNames = []string{"read", "readv", "write", "writev", "epoll_pwait", "futex", "nanosleep", callsOther}

const callsOther = "other"

// per is what costs of a load are divided by.
func per(load string) string {
	if load == loadDown || load == loadUp {
		return "/packet"
	}
	return "/op"
}

// mainKey returns metrics with one of them marked for the plot.
func mainKey(ms []metric, key string) []metric {
	ms = slices.Clone(ms)
	for i := range ms {
		ms[i].Main = ms[i].Key == key
	}
	return ms
}

// pickMeasures returns the measures that names, separated by commas, stand for: a
// measure's name, or else what comes before a hyphen in the names of several.
func pickMeasures(all []measure, names string) (picked []measure, err error) {
	chosen := make([]bool, len(all))
	for name := range strings.SplitSeq(names, ",") {
		exact := slices.ContainsFunc(all, func(m measure) bool { return m.name == name })
		found := exact
		for i, m := range all {
			if m.name == name || !exact && strings.HasPrefix(m.name, name+"-") {
				chosen[i], found = true, true
			}
		}
		if !found {
			return nil, fmt.Errorf("measure %q: there is none; -list shows them", name)
		}
	}
	for i, m := range all {
		if chosen[i] {
			picked = append(picked, m)
		}
	}
	return picked, nil
}
