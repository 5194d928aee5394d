package conformance

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the matrix's scripts and TABLE.md anew")

// writeMatrix writes the matrix's scripts in place of those that are there.
func writeMatrix(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll("matrix"); err != nil {
		t.Fatal(err)
	}
	for name, text := range files() {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMatrixIsCurrent holds the matrix's scripts against the rules that they are written from.
func TestMatrixIsCurrent(t *testing.T) {
	if *update {
		writeMatrix(t)
	}
	want := files()
	for name, text := range want {
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
