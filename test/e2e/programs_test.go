package e2e

import (
	"os"
	"testing"
)

// programs are what this program is as well, in a process that a test may kill: "-program NAME ARG ARG".
var programs = map[string]func(string, string){}

const programFlag = "-program"

// program returns the start of a command line.
func program(t testing.TB, name string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{self, programFlag, name}
}

// runProgram ends this program, if it is to be another.
func runProgram() {
	if len(os.Args) == 5 && os.Args[1] == programFlag {
		programs[os.Args[2]](os.Args[3], os.Args[4])
		os.Exit(0)
	}
}
