// Package e2e runs the real catflap, and has real programs talk to it.
//
// Tests that need Linux's namespaces are in files named for it; they run in network namespaces that they
// make themselves, and touch nothing outside of them.
package e2e

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/refs"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun/netns"
)

// buildDir holds the binaries under test; other users may read it.
var buildDir string

func TestMain(m *testing.M) {
	netns.Init()
	runProgram()
	refs.SetLeakMode(refs.LeaksPanic)
	var err error
	if buildDir, err = os.MkdirTemp("", "catflap-e2e-"); err == nil {
		err = os.Chmod(buildDir, 0o755)
	}
	if err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		os.RemoveAll(buildDir)
		if status == 0 {
			refs.DoLeakCheck()
		}
		os.Exit(status)
	}))
}

// builds are the two binaries, each made once: as users build it, and with the race detector if the tests have it.
var builds = [2]func() (string, error){
	sync.OnceValues(func() (string, error) { return build("fast") }),
	sync.OnceValues(func() (string, error) {
		if raceEnabled {
			return build("checked", "-race")
		}
		return build("checked")
	}),
}

func build(dir string, flags ...string) (string, error) {
	bin := filepath.Join(buildDir, dir, "catflap")
	out, err := exec.Command("go", append(append([]string{"build", "-o", bin}, flags...), "../../cmd/catflap")...).CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return bin, nil
}

func binary(t testing.TB, i int) string {
	t.Helper()
	bin, err := builds[i]()
	if err != nil {
		t.Fatalf("catflap does not build: %v", err)
	}
	return bin
}

// fast is the catflap for tests that move much data, catflap the one for all others.
func fast(t testing.TB) string    { t.Helper(); return binary(t, 0) }
func catflap(t testing.TB) string { t.Helper(); return binary(t, 1) }

// patience is how long a program may run that takes no time to speak of: only what hangs takes longer.
const patience = testenv.Patience

// bulkPatience is the same for what moves a gibibyte, or opens thousands of connections.
const bulkPatience = 8 * patience

// command is a program to run.
type command struct {
	args  []string
	env   []string      // added to a small environment
	stdin io.Reader     // if nil, the null device
	limit time.Duration // how long it may run; if zero, patience
}

// process is a program that runs.
type process struct {
	t              testing.TB
	cmd            *exec.Cmd
	args           []string
	stdout, stderr output
	exited         chan struct{}
	limit          time.Duration
}

// output is a file that a program writes to. Nothing stands between the two, and nobody waits for orphans that have it
// open still, as with a pipe.
type output string

func (o output) String() string {
	b, err := os.ReadFile(string(o))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// start starts a program, which is killed with the test at the latest.
func start(t testing.TB, c command) *process {
	t.Helper()
	files := t.TempDir()
	p := &process{
		t: t, args: c.args, cmd: exec.Command(c.args[0], c.args[1:]...), exited: make(chan struct{}), limit: c.limit,
		stdout: output(filepath.Join(files, "stdout")), stderr: output(filepath.Join(files, "stderr")),
	}
	if p.limit == 0 {
		p.limit = patience
	}
	dir := sharedDir(t)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C",
		"XDG_RUNTIME_DIR=" + dir, "CATFLAP_CONTROL=" + filepath.Join(dir, "control.sock"),
		"GORACE=atexit_sleep_ms=0"}, c.env...) // by default a program under the race detector sleeps a second at its end
	stdout, err := os.Create(string(p.stdout))
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(string(p.stderr))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.stdin, stdout, stderr
	p.cmd.WaitDelay = time.Second // for a program that does not read all of its input
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		killed := p.cmd.Process.Kill() == nil
		<-p.exited
		if strings.Contains(p.stderr.String(), "DATA RACE") {
			t.Errorf("%q: %s", p.args, p.stderr.String())
		}
		if !killed && p.cmd.ProcessState.Exited() {
			wantNoFiles(t, dir)
		}
	})
	return p
}

// wantNoFiles fails the test if there is anything below dir but directories.
func wantNoFiles(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			t.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// sharedDir is a directory that every user may write to. Its path is short enough for a unix socket's.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cf")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// result is how a program ended and what it printed.
type result struct {
	stdout, stderr string
	status         int // its exit status; -1 if a signal ended it
}

// wait waits for the program's end.
func (p *process) wait() result {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(p.limit):
		p.t.Fatalf("%q still runs after %v; stdout %.2000q, stderr:\n%.4000s", p.args, p.limit, p.stdout.String(), p.stderr.String())
	}
	return result{p.stdout.String(), p.stderr.String(), p.cmd.ProcessState.ExitCode()}
}

// await waits until the program has printed something that matches to stderr.
func (p *process) await(pattern string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	testenv.Await(p.t, "output of "+p.args[0]+" that matches "+pattern, func() bool {
		select {
		case <-p.exited:
			if !re.MatchString(p.stderr.String()) {
				p.t.Fatalf("%q ended without printing %q: %s", p.args, pattern, p.stderr.String())
			}
		default:
		}
		return re.MatchString(p.stderr.String())
	})
}

// awaitOutput waits for a line on the standard output.
func (p *process) awaitOutput(line string) {
	p.t.Helper()
	testenv.Await(p.t, strconv.Quote(line)+" of "+p.args[0], func() bool {
		said := p.stdout.String()
		select {
		case <-p.exited:
			if !strings.Contains(said, line) && !strings.Contains(p.stdout.String(), line) {
				p.t.Fatalf("%q ended without printing %q: %s%s", p.args, line, said, p.stderr.String())
			}
		default:
		}
		return strings.Contains(said, line)
	})
}

// run runs a program to its end.
func run(t testing.TB, args ...string) result {
	t.Helper()
	return start(t, command{args: args}).wait()
}

// want fails the test unless a program ended with a status; it prints what the program said.
func (r result) want(t testing.TB, status int) result {
	t.Helper()
	if r.status != status {
		t.Fatalf("exit status %d, want %d; stdout %.2000q, stderr:\n%.4000s", r.status, status, r.stdout, r.stderr)
	}
	return r
}
