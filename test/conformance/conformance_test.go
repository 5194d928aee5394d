package conformance

import (
	"context"
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/catflap/catflap/test/drill"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repeat is small for the sake of every run of the tests. "catflap drill --repeat 1000 test/conformance/..." does the same
// for a thousand.
var repeat = flag.Int("repeat", 2, "how often TestRepeat runs each script")

// TestConformance runs all scripts against the userspace stack.
func TestConformance(t *testing.T) {
	drill.Dir(t, os.DirFS("."))
}

// TestRepeat holds that all scripts give the same result each time, packet by packet.
func TestRepeat(t *testing.T) {
	report, err := drill.RunFiles(context.Background(), drill.Options{Paths: []string{"..."}, Repeat: *repeat})
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range report.Results {
		if !res.Status.OK() {
			t.Errorf("%s: %s", res.Status, res.Message)
		}
	}
}
