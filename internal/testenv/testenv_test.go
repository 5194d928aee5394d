package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
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

func require(needs ...string) (r recorder) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(ended); !ok {
				panic(e)
			}
		}
	}()
	Require(&r, needs...)
	return r
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
