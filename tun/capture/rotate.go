package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Rotation says when a capture goes on in a new file. Its zero value is: never.
type Rotation struct {
	MaxBytes int64         // before a file would become larger; if zero, no matter how large
	MaxAge   time.Duration // when a packet comes so much later than a file's first; if zero, never
	Keep     int           // files that are kept, the newest; if zero, all
}

func (r Rotation) rotates() bool { return r.MaxBytes > 0 || r.MaxAge > 0 }

// rotation is a row of files.
type rotation struct {
	Rotation
	path string
	file *os.File
	n    int // of the file in hand, from 1
}

// Create returns a Writer on the file path. With a Rotation its files are numbered: of trace.pcapng they are
// trace_00001.pcapng, trace_00002.pcapng and so on. Each is a capture of its own, with all interfaces. Files that
// exist are overwritten.
func Create(path string, cfg Config, r Rotation) (*Writer, error) {
	w := NewWriter(nil, cfg)
	w.rotate = &rotation{Rotation: r, path: path}
	w.stats.Files = 0
	if err := w.open(); err != nil {
		return nil, err
	}
	return w, nil
}

// name is the name of the n-th file.
func (r *rotation) name(n int) string {
	if !r.rotates() {
		return r.path
	}
	ext := filepath.Ext(r.path)
	return fmt.Sprintf("%s_%05d%s", strings.TrimSuffix(r.path, ext), n, ext)
}

// due reports whether it is time for a new file; a file that has no packet yet is kept.
func (r *rotation) due(size int64, age time.Duration, empty bool) bool {
	return !empty && (r.MaxBytes > 0 && size > r.MaxBytes || r.MaxAge > 0 && age >= r.MaxAge)
}

func (r *rotation) close() error { return r.file.Close() }

// open begins the next file, and removes the one that is too many.
func (w *Writer) open() error {
	r := w.rotate
	f, err := os.Create(r.name(r.n + 1))
	if err != nil {
		return err
	}
	r.n++
	r.file = f
	w.out.Reset(f)
	w.out.file = 0
	w.stats.Files++
	w.began = time.Time{}
	if r.Keep > 0 && r.n > r.Keep {
		if err := os.Remove(r.name(r.n - r.Keep)); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// next ends the file in hand and begins another.
func (w *Writer) next() error {
	if err := w.finish(); err != nil {
		return err
	}
	w.headed = false
	if err := w.open(); err != nil {
		return err
	}
	for i := range w.ifaces {
		if err := w.describe(i); err != nil {
			return err
		}
	}
	return nil
}
