package browser

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// atEnd ends what tests share.
var atEnd []func()

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	status := m.Run()
	for _, end := range atEnd {
		end()
	}
	if err := goleak.Find(); err != nil && status == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return status
}
