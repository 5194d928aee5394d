package drill

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"
)

// Extension is how the names of scripts end.
const Extension = ".pkt"

// Options say which scripts [RunFiles] runs, and how.
type Options struct {
	// Paths are files, directories (all scripts below them), glob patterns, or DIR/... for all below DIR.
	Paths []string
	// Target is Stack if empty. If it is empty and Check is set, scripts are held against both targets, and are well if one
	// of them would run them.
	Target Target
	Environment
	// Parallel is how many scripts run at once; if zero, as many as there are processors.
	Parallel int
	// Check only reads the scripts, and says what a run of them would refuse.
	Check bool
	// Repeat is how often each script runs; if zero, once. Each run must give the same result, packet by packet. Only the
	// userspace stack can do that, for its time is virtual.
	Repeat int
	// PCAPNG, if not nil, receives a capture of all packets of all scripts, an interface each.
	PCAPNG io.Writer
}

// RunFiles runs scripts and reports on all of them. The error says why none, or not all, could run: a path that does not
// exist, or a cancelled context. Scripts that fail are in the report, and are no error.
func RunFiles(ctx context.Context, opts Options) (Report, error) {
	start := time.Now()
	targets := []Target{opts.Target}
	switch opts.Target {
	case "":
		if !opts.Check {
			targets = []Target{Stack}
		}
	case Both:
		targets = []Target{Stack, Kernel}
	case Stack, Kernel:
	default:
		return Report{}, fmt.Errorf("target %q: stack, kernel and both are known", opts.Target)
	}
	if opts.Repeat > 1 && (len(targets) > 1 || targets[0] != Stack) {
		return Report{}, fmt.Errorf("target %s runs in real time, where no two runs are the same: only %s can be repeated", opts.Target, Stack)
	}
	files, err := expand(opts.Paths)
	if err != nil {
		return Report{}, err
	}
	if !opts.Check && targets[len(targets)-1] == Kernel {
		defer punctual(opts.Parallel)()
	}
	results := make([]Result, len(files)*len(targets))
	ran := make([]bool, len(results))
	each(len(results), opts.Parallel, func(i int) {
		if ctx.Err() == nil {
			results[i], ran[i] = runOften(ctx, files[i/len(targets)], targets[i%len(targets)], opts)
		}
	})
	if err := ctx.Err(); err != nil {
		var done []Result
		for i, ok := range ran {
			if ok {
				done = append(done, results[i])
			}
		}
		return Report{Results: done, Wall: time.Since(start)}, err
	}
	r := Report{Results: results, Wall: time.Since(start)}
	if len(targets) == 2 {
		r.Differences = differences(results)
	}
	if opts.PCAPNG != nil {
		if err := writePCAPNG(opts.PCAPNG, results); err != nil {
			return r, fmt.Errorf("writing the capture: %w", err)
		}
	}
	return r, nil
}

// punctual keeps Go's runtime out of the way of scripts that run in real time, until what it returns is called: on a busy
// machine a thread of the runtime waits for a processor, and everything that waits for that thread is late.
func punctual(parallel int) func() {
	// A goroutine that comes back from a system call finds a place to run, whatever the collector is doing.
	procs := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(procs + 2*max(parallel, procs))
	// The collector, which stops all threads for a moment, is seldom needed: a script makes little garbage.
	percent := debug.SetGCPercent(1000)
	return func() {
		debug.SetGCPercent(percent)
		runtime.GOMAXPROCS(procs)
	}
}

// each calls f with 0 to n-1, so many at once, and returns when all have returned.
func each(n, parallel int, f func(i int)) {
	if parallel <= 0 {
		parallel = runtime.NumCPU()
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(parallel, n) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// runOften runs, or only reads, a script as often as the options say. ok is false if the context ended first.
func runOften(ctx context.Context, name string, on Target, opts Options) (res Result, ok bool) {
	src, err := os.ReadFile(name)
	if err != nil {
		return Result{Script: name, Target: on, Status: Broken, Message: err.Error()}, true
	}
	if opts.Check {
		return checkSource(name, src, on, opts.Environment), true
	}
	res = runSource(name, src, on, opts.Environment)
	for n := 2; n <= opts.Repeat; n++ {
		if ctx.Err() != nil {
			return res, false
		}
		if d := res.differs(runSource(name, src, on, opts.Environment)); d != "" {
			res.Status = Unstable
			res.Message = fmt.Sprintf("%s: run %d of %d gave another result than the first: %s", name, n, opts.Repeat, d)
			return res, true
		}
	}
	return res, true
}

// differs says where two runs of a script differ, "" if nowhere.
func (res Result) differs(other Result) string {
	switch {
	case res.Status != other.Status:
		return fmt.Sprintf("%s, then %s\n%s", res.Status, other.Status, cmp.Or(other.Message, res.Message))
	case res.Message != other.Message:
		return fmt.Sprintf("two messages\n%s\n%s", res.Message, other.Message)
	case res.Elapsed != other.Elapsed:
		return fmt.Sprintf("it took %s, then %s", res.Elapsed, other.Elapsed)
	case !slices.Equal(res.Prints, other.Prints):
		return fmt.Sprintf("it printed %q, then %q", res.Prints, other.Prints)
	}
	for i := range min(len(res.wire), len(other.wire)) {
		if a, b := res.wire[i], other.wire[i]; a.at != b.at || !bytes.Equal(a.data, b.data) {
			return fmt.Sprintf("packet %d\n%s\n%s", i+1, a.text(), b.text())
		}
	}
	if len(res.wire) != len(other.wire) {
		return fmt.Sprintf("%d packets, then %d", len(res.wire), len(other.wire))
	}
	return ""
}

// mistaken is the result of a script that cannot be read.
func mistaken(name string, on Target, err error) Result {
	res := Result{Script: name, Target: on, Status: Broken, Message: err.Error()}
	var mistake *Error
	var refused *refusal
	if errors.As(err, &refused) {
		res.Status = Refused
	}
	if errors.As(err, &mistake) {
		res.Line = mistake.Pos.Line
	}
	return res
}

func runSource(name string, src []byte, on Target, env Environment) Result {
	s, err := parse(name, src, env.Defines)
	if err != nil {
		return mistaken(name, on, err)
	}
	return s.play(on, env)
}

// checkSource reads a script, and holds it against a target, or against both when none is given.
func checkSource(name string, src []byte, on Target, env Environment) Result {
	s, err := parse(name, src, env.Defines)
	if err != nil {
		return mistaken(name, on, err)
	}
	if on != "" {
		if err := s.Check(on, env); err != nil {
			return mistaken(name, on, err)
		}
		return Result{Script: name, Target: on, Status: Read}
	}
	anyShell := env
	anyShell.Shell = true
	onStack, onKernel := s.Check(Stack, env), s.Check(Kernel, anyShell)
	if onStack != nil && onKernel != nil {
		return mistaken(name, on, onKernel)
	}
	res := Result{Script: name, Target: on, Status: Read}
	note := func(where string, err error) {
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			res.Limits = append(res.Limits, where+": "+first)
		}
	}
	note("not on stack", onStack)
	note("not on kernel", onKernel)
	if onKernel == nil {
		note("on kernel with --shell only", s.Check(Kernel, env))
	}
	return res
}

// expand turns paths into the names of scripts, sorted within each path.
func expand(paths []string) ([]string, error) {
	if len(paths) == 0 {
		return nil, errors.New("no scripts: give files, directories or patterns")
	}
	var files []string
	for _, p := range paths {
		found, err := expandOne(p)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%s: no scripts (*%s) there", p, Extension)
		}
		files = append(files, found...)
	}
	return files, nil
}

func expandOne(p string) ([]string, error) {
	if dir, ok := strings.CutSuffix(filepath.ToSlash(p), "/..."); ok {
		p = filepath.FromSlash(dir)
	} else if p == "..." {
		p = "."
	}
	info, err := os.Stat(p)
	if errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(p, "*?[") {
		found, err := filepath.Glob(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		sort.Strings(found)
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{p}, nil
	}
	var found []string
	err = filepath.WalkDir(p, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(name) == Extension {
			found = append(found, name)
		}
		return err
	})
	return found, err
}

// differences says, script by script, where the two targets did not end alike. Results come in pairs.
func differences(results []Result) []string {
	var out []string
	for i := 0; i+1 < len(results); i += 2 {
		a, b := results[i], results[i+1]
		verdict := func(r Result) string {
			switch r.Status {
			case Passed, UnexpectedPass:
				return "passes"
			case Failed, ExpectedFailure:
				return fmt.Sprintf("fails at line %d", r.Line)
			}
			return "does not run (" + string(r.Status) + ")"
		}
		if va, vb := verdict(a), verdict(b); va != vb {
			out = append(out, fmt.Sprintf("differs %s: %s %s, %s %s", a.Script, a.Target, va, b.Target, vb))
		}
	}
	return out
}

// Run runs one script, given as text, against the userspace stack, and fails the test when it does not pass.
func Run(t testing.TB, script string) {
	t.Helper()
	check(t, runSource(t.Name(), []byte(script), Stack, Environment{}))
}

// Dir runs all scripts of a file system against the userspace stack, each as a parallel subtest. It fails when there are none.
func Dir(t *testing.T, fsys fs.FS) {
	t.Helper()
	n := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != Extension {
			return err
		}
		n++
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		t.Run(strings.TrimSuffix(name, Extension), func(t *testing.T) {
			t.Parallel()
			check(t, runSource(name, src, Stack, Environment{}))
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Fatalf("no scripts (*%s) in the directory", Extension)
	}
}

// check turns a result into that of a test.
func check(t testing.TB, res Result) {
	t.Helper()
	for _, p := range res.Prints {
		t.Log(p)
	}
	switch res.Status {
	case Passed:
	case ExpectedFailure:
		t.Logf("fails as expected: %s", res.Reason)
	default:
		t.Errorf("%s: %s", res.Status, res.Message)
	}
}
