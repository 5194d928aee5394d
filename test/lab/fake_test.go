package lab

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// fakeT is a test that may fail without the one that runs it. It is done with finish.
type fakeT struct {
	testing.TB
	name string

	mu       sync.Mutex
	failed   bool
	log      strings.Builder
	cleanups []func()
}

func newFakeT(t testing.TB, name string) *fakeT { return &fakeT{TB: t, name: name} }

// run calls f as a test would be, and ends the test. It returns what was logged.
func (f *fakeT) run(test func(t testing.TB)) string {
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	for len(f.cleanups) > 0 {
		last := f.cleanups[len(f.cleanups)-1]
		f.cleanups = f.cleanups[:len(f.cleanups)-1]
		last()
	}
	return f.log.String()
}

func (f *fakeT) Name() string        { return f.name }
func (f *fakeT) Helper()             {}
func (f *fakeT) Cleanup(c func())    { f.cleanups = append(f.cleanups, c) }
func (f *fakeT) Log(args ...any)     { f.Logf("%s", fmt.Sprint(args...)) }
func (f *fakeT) Error(args ...any)   { f.Errorf("%s", fmt.Sprint(args...)) }
func (f *fakeT) Fatal(args ...any)   { f.Fatalf("%s", fmt.Sprint(args...)) }
func (f *fakeT) Skipped() bool       { return false }
func (f *fakeT) ArtifactDir() string { return f.TB.ArtifactDir() }

func (f *fakeT) Logf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fmt.Fprintf(&f.log, format+"\n", args...)
}

func (f *fakeT) Errorf(format string, args ...any) {
	f.Logf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = true
}

func (f *fakeT) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *fakeT) Failed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}
