package stack

import (
	"runtime"
	"strings"
	"testing"
)

// processorsNow counts the goroutines of netstack's TCP processors in this process.
func processorsNow() int {
	buf := make([]byte, 1<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "tcp.(*processor).start(")
}

func TestProcessors(t *testing.T) {
	most := runtime.GOMAXPROCS(4)
	defer runtime.GOMAXPROCS(most)
	for _, c := range []struct{ ask, want int }{{0, 2}, {1, 1}, {3, 3}, {100, 4}} {
		before := processorsNow()
		s, err := New(Config{TCP: TCPConfig{Processors: c.ask}})
		if err != nil {
			t.Fatal(err)
		}
		got := waitFor(func() int { return processorsNow() - before }, c.want)
		if got != c.want {
			t.Errorf("Processors: %d: %d processors run, want %d; has netstack moved them?", c.ask, got, c.want)
		}
		s.Close() // hangs if one of them has not ended
		if n := waitFor(func() int { return processorsNow() - before }, 0); n != 0 {
			t.Errorf("Processors: %d: %d processors are left after Close", c.ask, n)
		}
	}
}

func TestProcessorsNegative(t *testing.T) {
	if s, err := New(Config{TCP: TCPConfig{Processors: -1}}); err == nil {
		s.Close()
		t.Error("-1 processors were taken")
	} else if !strings.Contains(err.Error(), "Processors is -1") {
		t.Errorf("the error does not name what is wrong: %v", err)
	}
}

// waitFor looks until f gives want, or a while has passed, and returns what f gave.
func waitFor(f func() int, want int) (got int) {
	for range 1000 {
		if got = f(); got == want {
			return got
		}
		runtime.Gosched()
	}
	return got
}
