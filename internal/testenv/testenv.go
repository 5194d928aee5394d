// Package testenv says what a test needs of the machine. A test whose needs are not met is skipped with a
// remedy, and fails instead where the environment variable CATFLAP_REQUIRE is "all", as in continuous
// integration: there a skipped test is a test that silently does not exist.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
)

// Root and Tun are needs beside the programs, which go by their names.
const (
	Root = "root" // uid 0
	Tun  = "tun"  // Linux, with a TUN device file that can be opened
)

// Require skips the test unless all needs are met: Root, Tun, or the name of a program in PATH.
func Require(t testing.TB, needs ...string) {
	t.Helper()
	for _, need := range needs {
		if why, remedy := missing(need); why != "" {
			Skip(t, why, remedy)
		}
	}
}

// Skip skips the test, or fails it where nothing may be skipped.
func Skip(t testing.TB, why, remedy string) {
	t.Helper()
	if os.Getenv("CATFLAP_REQUIRE") == "all" {
		t.Fatalf("%s, and CATFLAP_REQUIRE=all; remedy: %s", why, remedy)
	}
	t.Skipf("%s; remedy: %s", why, remedy)
}

func missing(need string) (why, remedy string) {
	switch need {
	case Root:
		if os.Geteuid() != 0 {
			return "this test makes namespaces and other users' processes", "run the tests as root"
		}
	case Tun:
		if runtime.GOOS != "linux" {
			return "this test needs Linux", "run the tests on Linux"
		}
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			return fmt.Sprintf("no TUN device: %v", err), "catflap doctor says what is missing"
		}
		f.Close()
	default:
		if _, err := exec.LookPath(need); err != nil {
			return need + " is not installed", "as root: make deps"
		}
	}
	return "", ""
}
