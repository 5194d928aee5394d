package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/catflap/catflap/internal/testenv"
)

// scripts runs the sessions of a directory.
func scripts(t *testing.T, dir string) {
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			// No instance of this machine is in sight.
			e.Setenv(controlEnv, filepath.Join(e.WorkDir, "none.sock"))
			e.Setenv("GORACE", noExitSleep)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"status": status,
		},
	})
}

// status runs a command and checks its exit status: status N COMMAND ARG…
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND ARG…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ee *exec.ExitError
		if !errors.As(err, &ee) {
			ts.Fatalf("%v", err)
		}
		got = ee.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d; want %d", got, want)
	}
}

// TestScripts are sessions that need no privilege.
func TestScripts(t *testing.T) { scripts(t, "testdata/script") }

// TestSessions are sessions inside catflap run.
func TestSessions(t *testing.T) {
	testenv.Require(t, testenv.Root, testenv.Tun, "ip", "nc", "curl", "sh")
	scripts(t, "testdata/session")
}
