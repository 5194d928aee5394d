package lab

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

var update = flag.Bool("update", false, "write testdata/goodput.txt instead of holding the stack against it")

// What the golden table is made of. The link has a rate, since without one the goodput of a path without loss would be that of
// nothing but buffers; its queue is netem's of 1000 packets, beside which the largest buffers are large.
var (
	lossPercents = []string{"0", "0.1", "1", "5", "10"}
	rtts         = []time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond}
	buffers      = []int{64 << 10, 256 << 10, 1 << 20, 4 << 20}
)

const (
	goodputSeed  = 1
	goodputRate  = "100mbit"
	goodputBytes = 2 << 20
	goodputTime  = 60 * time.Second      // of virtual time, at most, for a transfer
	raceRTT      = 50 * time.Millisecond // the one measured with the race detector, by which all takes ten times as long
)

// goodput measures one transfer, in Mbit/s.
func goodput(t *testing.T, loss string, rtt time.Duration, buffer int) (mbit float64) {
	clock := NewClock()
	l := New(t, Options{Clock: clock, Seed: goodputSeed, NoRecord: true, TCP: stack.TCPConfig{
		SendBuffer: buffer, SendBufferMax: buffer, ReceiveBuffer: buffer, ReceiveBufferMax: buffer,
	}})
	client, server := l.Host("client"), l.Host("server")
	l.Link(client, server, Netem(fmt.Sprintf("delay %dus loss %s%% rate %s", rtt.Microseconds()/2, loss, goodputRate)))
	b := newBulk(t, clock, server, client)
	start := clock.Elapsed()
	got, at := b.run(goodputBytes, start+goodputTime)
	if got < goodputBytes {
		at = start + goodputTime
	}
	return float64(got) * 8 / (at - start).Seconds() / 1e6
}

// TestGoodput holds the goodput of TCP by loss, round-trip time and buffer size against the committed table: a change of
// netstack, of its settings or of the links shows as a diff.
func TestGoodput(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 160 MiB; run without -short")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("cubic's floating point arithmetic is rounded in other places elsewhere; run on amd64")
	}
	var s strings.Builder
	fmt.Fprintf(&s, "Goodput of one TCP connection in Mbit/s: %d MiB, or what of it arrives in %s, over a link of %s with a\n", goodputBytes>>20, goodputTime, goodputRate)
	fmt.Fprintf(&s, "queue of 1000 packets, in virtual time, seed %d. Loss is each direction's. Made by go test ./test/lab -run TestGoodput -update\n\n", goodputSeed)
	fmt.Fprintf(&s, "%6s %6s |", "loss", "RTT")
	for _, b := range buffers {
		fmt.Fprintf(&s, " %7d KiB", b>>10)
	}
	s.WriteString("\n" + strings.Repeat("-", 14) + "+" + strings.Repeat("-", 12*len(buffers)) + "\n")
	for _, loss := range lossPercents {
		for _, rtt := range rtts {
			if raceEnabled && !(rtt == raceRTT && loss == "1") {
				s.WriteString("\n")
				continue
			}
			fmt.Fprintf(&s, "%5s%% %6s |", loss, rtt)
			for _, buffer := range buffers {
				t.Run(fmt.Sprintf("loss=%s,rtt=%s,buffer=%d", loss, rtt, buffer), func(t *testing.T) {
					fmt.Fprintf(&s, " %11.3f", goodput(t, loss, rtt, buffer))
				})
			}
			s.WriteString("\n")
		}
	}
	const file = "testdata/goodput.txt"
	if *update {
		if err := os.WriteFile(file, []byte(s.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(s.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if now := got[min(i, len(got)-1)]; now != line && (now != "" || !raceEnabled) {
			t.Errorf("%s, line %d:\n\t%s, and now:\n\t%s\nif that should be so, run with -update", file, i+1, line, now)
		}
	}
}
