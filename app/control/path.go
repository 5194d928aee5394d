package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// maxPath is how many bytes of a path fit into a unix socket address everywhere:
// sun_path has 108 on Linux and 104 on macOS, with a zero byte at the end.
const maxPath = 103

// runPrefix begins the names of sockets that belong to one process (RunPath).
const runPrefix = "run-"

// dirs are the directories for sockets, best first: root's, the session's, and one
// under the temporary directory for systems and users that have neither.
func dirs() []string {
	uid := os.Getuid()
	var ds []string
	if uid == 0 {
		ds = append(ds, "/run/catflap")
	} else if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		ds = append(ds, filepath.Join(d, "catflap"))
	}
	tmp := "catflap"
	if uid >= 0 {
		tmp += "-" + strconv.Itoa(uid)
	}
	return append(ds, filepath.Join(os.TempDir(), tmp))
}

// DefaultPath is where an instance on device dev makes its socket: under
// $XDG_RUNTIME_DIR/catflap, /run/catflap for root, or catflap-UID in the temporary
// directory where those are missing.
func DefaultPath(dev string) string { return filepath.Join(usableDir(), dev+".sock") }

// Find is where the socket of the instance on device dev is, or would be.
func Find(dev string) string {
	ds := dirs()
	for _, d := range ds {
		path := filepath.Join(d, dev+".sock")
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return filepath.Join(ds[0], dev+".sock")
}

// Instances are the names of this user's instances that have a socket, as Find takes them.
func Instances() (names []string) {
	for _, d := range dirs() {
		sockets, _ := filepath.Glob(filepath.Join(d, "*.sock"))
		for _, s := range sockets {
			names = append(names, strings.TrimSuffix(filepath.Base(s), ".sock"))
		}
	}
	return names
}

// RunPath is a path for the socket of this process alone, so that many instances
// can run at once with devices of the same name in namespaces of their own.
func RunPath() string {
	return filepath.Join(usableDir(), runPrefix+strconv.Itoa(os.Getpid())+".sock")
}

// usableDir is the first directory that this user has or can have.
func usableDir() string {
	ds := dirs()
	for _, d := range ds {
		if makeDir(d) == nil {
			return d
		}
	}
	return ds[0] // listening there says what is wrong with it
}

// makeDir makes a directory that only its owner can enter, or checks that it is one.
func makeDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir():
		return fmt.Errorf("%s: not a directory", dir)
	case !private(fi):
		return fmt.Errorf("%s: others can enter it, or it belongs to somebody else", dir)
	}
	return writable(dir)
}

// writable reports why no file can be made in dir.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("no path")
	case strings.ContainsRune(path, 0):
		return fmt.Errorf("%q: a path has no zero byte", path)
	case len(path) > maxPath:
		return fmt.Errorf("%s: %d bytes are too long for a unix socket; at most %d fit", path, len(path), maxPath)
	}
	return nil
}
