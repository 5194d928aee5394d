package tun_test

import (
	"os"
	"testing"

	"github.com/catflap/catflap/tun/netns"
	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"
)

func TestMain(m *testing.M) {
	netns.Init()
	if len(os.Args) > 2 && os.Args[1] == testCommand {
		os.Exit(runTestCommand(os.Args[2:]))
	}
	refs.SetLeakMode(refs.LeaksPanic)
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		refs.DoLeakCheck()
		os.Exit(code)
	}))
}
