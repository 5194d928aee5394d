//go:build linux

package stack

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// inNetNS runs a shell script in a network namespace of its own (and a user
// namespace unless root), and returns what it printed.
func inNetNS(t *testing.T, script string) string {
	t.Helper()
	testenv.Require(t, "sh", "ip")
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		testenv.Skip(t, "no network namespace: "+err.Error(), "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return string(out)
}
