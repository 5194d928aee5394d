//go:build unix

package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestSocketIsTheOwnersAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	path := filepath.Join(t.TempDir(), "c.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if m := fi.Mode(); m.Type() != os.ModeSocket || m.Perm() != 0o600 {
		t.Errorf("mode %v; want a socket with 0600", m)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is left after Close: %v", err)
	}
}

// stale leaves a socket file behind as a killed process does.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestStaleSocketGivesWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	stale(t, path)
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if live, err := answers(path); !live || err != nil {
		t.Errorf("answers: %v, %v", live, err)
	}
}

func TestLiveSocketIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = listen(path)
	var in *InUseError
	if !errors.As(err, &in) || in.Path != path || in.Remedy() == "" {
		t.Errorf("second listener: %v; want *InUseError", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the first one's file: %v", err)
	}
}

func TestBadPaths(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                                       "no path",
		file:                                     "no socket",
		filepath.Join(dir, "no", "c.sock"):       "no such file",
		filepath.Join(file, "c.sock"):            "not a directory",
		dir + "/" + strings.Repeat("x", maxPath): "too long",
		"a\x00b":                                 "zero byte",
	} {
		if l, err := listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen %q: %v, %v; want %q", path, l, err, want)
		}
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file that stood in the way: %q, %v", b, err)
	}
	if _, err := NewClient(""); err == nil {
		t.Error("a client without a path")
	}
}

// TestOneWins starts many listeners at one stale path: one gets it.
func TestOneWins(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	stale(t, path)
	var wg sync.WaitGroup
	won := make(chan *listener, 16)
	for range cap(won) {
		wg.Go(func() {
			l, err := listen(path)
			var in *InUseError
			if err == nil {
				won <- l
			} else if !errors.As(err, &in) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d listeners have the path", len(won))
	}
	for range len(won) {
		(<-won).Close()
	}
}

// TestDirectories checks the places for sockets without root's.
func TestDirectories(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(tmp, "xdg"))
	if err := os.Mkdir(filepath.Join(tmp, "xdg"), 0o700); err != nil {
		t.Fatal(err)
	}
	ds := dirs()
	if os.Getuid() != 0 {
		if ds[0] != filepath.Join(tmp, "xdg", "catflap") {
			t.Errorf("dirs: %v", ds)
		}
		if got := DefaultPath("cat7"); got != filepath.Join(ds[0], "cat7.sock") || Find("cat7") != got {
			t.Errorf("DefaultPath: %s, Find: %s", got, Find("cat7"))
		}
	}
	last := ds[len(ds)-1]
	if filepath.Dir(last) != tmp {
		t.Errorf("the last resort is %s; want one in %s", last, tmp)
	}
	if err := makeDir(last); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(last); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", last, fi.Mode(), err)
	}
	// A directory that others can enter is not used.
	if err := os.Chmod(last, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(last); err == nil {
		t.Error("a directory open to others is taken")
	}
	// Nor is a link to somewhere else.
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), last); err != nil {
		t.Fatal(err)
	}
	if err := makeDir(last); err == nil {
		t.Error("a symbolic link is taken for the directory")
	}
}

// TestSweep removes what killed runs have left, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	stale(t, filepath.Join(dir, "run-1.sock"))
	stale(t, filepath.Join(dir, "cat0.sock"))
	l, err := listen(filepath.Join(dir, "run-2.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.WriteFile(filepath.Join(dir, "run-3.sock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep(dir)
	var left []string
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		left = append(left, e.Name())
	}
	if got, want := strings.Join(left, " "), "cat0.sock run-2.sock run-3.sock"; got != want {
		t.Errorf("left: %s; want %s", got, want)
	}
}
