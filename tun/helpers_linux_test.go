package tun_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/netns"
)

var hostAddrs = []netip.Prefix{netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("fd00:9::1/64")}

// startNS makes a namespace with a device in it, and closes it with the test.
func startNS(t testing.TB, cfg tun.Config) *netns.Namespace {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ns, err := netns.Start(ctx, netns.Config{Device: cfg, HostAddrs: hostAddrs})
	if err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
			testenv.Skip(t, err.Error(), tun.Diagnose(err))
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Errorf("close namespace: %v", err)
		}
	})
	return ns
}

// run runs a command inside ns and fails the test unless it succeeds. It returns its standard output.
func run(t testing.TB, ns *netns.Namespace, args ...string) string {
	t.Helper()
	out, err := output(ns, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func output(ns *netns.Namespace, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	env := append(os.Environ(), "GORACE=atexit_sleep_ms=0") // by default a program under the race detector sleeps a second at its end
	status, err := ns.Run(ctx, netns.Command{Args: args, Env: env, Stdout: &stdout, Stderr: &stderr})
	if err == nil && status != 0 {
		err = fmt.Errorf("%q: exit status %d: %s", args, status, stderr.String())
	}
	return stdout.String(), err
}

// runSelf runs one of this program's own test commands inside ns: see testCommands.
func runSelf(t testing.TB, ns *netns.Namespace, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return run(t, ns, append([]string{exe, testCommand}, args...)...)
}
