package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var write = flag.Bool("write", false, "write the matrix's scripts and TABLE.md")

// TestMatrixIsCurrent holds the matrix's scripts against the rules that they are written from.
func TestMatrixIsCurrent(t *testing.T) {
	want := files()
	if *write {
		if err := os.RemoveAll("matrix"); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range want {
		if *write {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != text {
			t.Errorf("%s is not what matrix.go writes: make conformance", name)
		}
	}
	found, err := filepath.Glob("matrix/*/*/*.pkt")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(want) {
		t.Errorf("%d scripts in matrix, %d are written: make conformance", len(found), len(want))
	}
}
