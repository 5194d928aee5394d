package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/catflap/catflap/tun/netns"
)

// noExitSleep is GORACE for the programs that tests run: by default each sleeps a second at its end, if it has the race
// detector.
const noExitSleep = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	netns.Init()
	os.Setenv("GORACE", noExitSleep)
	testscript.Main(leakChecked{m}, map[string]func(){"catflap": main, socketsHelper: runSocketsHelper})
}

// leakChecked fails the run if a goroutine outlives the tests.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
