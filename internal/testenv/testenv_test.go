package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recorder is a test that notes how it ended.
type recorder struct {
	testing.TB
	skipped, failed string
}

type ended struct{}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, args ...any) { r.skipped = format; panic(ended{}) }

func (r *recorder) Fatalf(format string, args ...any) { r.failed = format; panic(ended{}) }

// ending runs f to where it ends the test, and returns how that was.
func ending(f func(*recorder)) (r recorder) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(ended); !ok {
				panic(e)
			}
		}
	}()
	f(&r)
	return r
}

func require(needs ...string) recorder {
	return ending(func(r *recorder) { Require(r, needs...) })
}

func TestRequire(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "meow"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, all := range []bool{false, true} {
		t.Setenv("CATFLAP_REQUIRE", map[bool]string{true: "all"}[all])
		if r := require("meow"); r.skipped+r.failed != "" {
			t.Errorf("all=%v: what is there is missed: %+v", all, r)
		}
		r := require("meow", "bark")
		if (r.skipped != "") == all || (r.failed != "") != all {
			t.Errorf("all=%v: a missing program: skipped %q, failed %q", all, r.skipped, r.failed)
		}
		if !strings.Contains(r.skipped+r.failed, "remedy") {
			t.Errorf("all=%v: no remedy in %q", all, r.skipped+r.failed)
		}
	}
}

func TestAwait(t *testing.T) {
	asked := 0
	Await(t, "the third time", func() bool { asked++; return asked == 3 })
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
	r := ending(func(r *recorder) { await(r, time.Nanosecond, "what never is", func() bool { return false }) })
	if !strings.HasPrefix(r.failed, "waited") || r.skipped != "" {
		t.Errorf("what never is: skipped %q, failed %q", r.skipped, r.failed)
	}
}
