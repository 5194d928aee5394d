package netns

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Init()
	runHelper()
	goleak.VerifyTestMain(m)
}
