package conformance

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/catflap/catflap/test/drill"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestConformance runs all scripts against the userspace stack.
func TestConformance(t *testing.T) {
	drill.Dir(t, os.DirFS("."))
}
