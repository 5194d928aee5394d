// Package clitest is what the tests of several commands and of their languages share.
package clitest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Equal fails a test unless what was printed is what is wanted; it shows the lines that differ.
func Equal(t testing.TB, what, got, want string) {
	t.Helper()
	if d := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
