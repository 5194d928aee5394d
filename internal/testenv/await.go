package testenv

import (
	"testing"
	"time"
)

// Patience is how long a test waits for what takes no time to speak of. A busy machine takes seconds for it; only
// what hangs takes longer.
const Patience = 2 * time.Minute

// Await waits until something is so, for at most Patience, and fails the test if it never is. It asks again and
// again, and is for what has no event to wait for: another process, the kernel, a counter. It must be called from
// the test's own goroutine.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	await(t, Patience, what, so)
}

func await(t testing.TB, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}
