package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// story is all that happened in a run: each packet at each end of each link with its time, and each fault.
type story struct {
	packets, faults string
	lost            uint64
}

// tell runs a transfer over two bad links and a router.
func tell(t *testing.T, seed uint64) story {
	t.Helper()
	var s story
	t.Run("", func(t *testing.T) {
		clock := NewClock()
		l := New(t, Options{Clock: clock, Seed: seed})
		client, server, r := l.Host("client"), l.Host("server"), l.Router("r")
		links := []*Link{
			l.Link(client, r, Netem("delay 5ms 2ms distribution normal loss 5% duplicate 2%")),
			l.Link(server, r, Netem("delay 10ms reorder 10% corrupt 2% rate 50mbit"), Netem("drop tcp data every 20")),
		}
		var faults [2]bytes.Buffer
		var stop [2]func() error
		for i, link := range links {
			stop[i] = link.Impair().Record(&faults[i]).Close
		}
		b := newBulk(t, clock, server, client)
		const size = 64 << 10
		if got, _ := b.run(size, time.Hour); got != size {
			t.Errorf("%d of %d bytes arrived", got, size)
		}
		for i, link := range links {
			if err := stop[i](); err != nil {
				t.Error(err)
			}
			s.faults += faults[i].String()
			st := link.Stats()
			s.lost += st.In.Lost + st.Out.Lost + st.In.Faulted + st.Out.Faulted
		}
		for _, c := range l.record.captures {
			for p := range c.packets.All() {
				s.packets += fmt.Sprintf("%s@%s %s %v %x %q\n", c.link, c.node, p.at, p.out, p.data, p.comments)
			}
		}
	})
	return s
}

// TestDeterminism holds that the same seed gives the same faults and the same packets at the same times, to the byte, and
// another seed others.
func TestDeterminism(t *testing.T) {
	runs := 100
	if raceEnabled || testing.Short() {
		runs = 20
	}
	first := tell(t, 7)
	if first.lost == 0 || first.faults == "" || first.packets == "" {
		t.Fatalf("%d packets were lost, and %d bytes of faults and %d bytes of packets were recorded: this test shows nothing",
			first.lost, len(first.faults), len(first.packets))
	}
	for i := 1; i < runs; i++ {
		next := tell(t, 7)
		if next.faults != first.faults {
			t.Fatalf("run %d has other faults than the first: %s", i+1, firstDifference(first.faults, next.faults))
		}
		if next.packets != first.packets {
			t.Fatalf("run %d has other packets than the first: %s", i+1, firstDifference(first.packets, next.packets))
		}
	}
	if other := tell(t, 8); other.faults == first.faults || other.packets == first.packets {
		t.Error("another seed gives the same run")
	}
}

// firstDifference shows the lines where two stories part.
func firstDifference(a, b string) string {
	x, y := bytes.Split([]byte(a), []byte("\n")), bytes.Split([]byte(b), []byte("\n"))
	for i := range x {
		if i >= len(y) || !bytes.Equal(x[i], y[i]) {
			return fmt.Sprintf("line %d:\n%s\n%s", i+1, x[i], bytes.Join(y[min(i, len(y)):min(i+1, len(y))], nil))
		}
	}
	return fmt.Sprintf("the second goes on: %s", y[len(x)])
}

// TestSeedFromEnvironment holds that the seed a failure prints is one that repeats it.
func TestSeedFromEnvironment(t *testing.T) {
	t.Setenv(SeedEnv, "18446744073709551615")
	if got := New(t, Options{}).Seed(); got != 1<<64-1 {
		t.Errorf("seed %d", got)
	}
	if got := New(t, Options{Seed: 3}).Seed(); got != 3 {
		t.Errorf("seed %d, want the one of the Options", got)
	}
	for _, bad := range []string{"0", "-1", "x", "18446744073709551616"} {
		t.Setenv(SeedEnv, bad)
		if _, err := chooseSeed(0); err == nil {
			t.Errorf("%s=%s was taken", SeedEnv, bad)
		}
	}
	t.Setenv(SeedEnv, "")
	a, _ := chooseSeed(0)
	b, _ := chooseSeed(0)
	if a == b {
		t.Error("two labs without a seed have the same")
	}
}

// TestNothingOnSuccess holds that a test that passes leaves nothing behind.
func TestNothingOnSuccess(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(ArtifactsEnv, dir)
	tell(t, 1)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
