package cats

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// PatternPeriod is the period of the pattern in bytes: the largest prime below
// 2^18. Being prime, it shares no factor with a segment size, a window or a
// buffer, so that data which is moved by less than a quarter of a MiB, or by
// any number of equal segments short of 262139 of them, does not match.
const PatternPeriod = 262139

// MaxBytes is the largest n of /bytes/{n}, 1 TiB.
const MaxBytes = 1 << 40

// patternChunk is how much is written at once: enough to make the cost of a
// system call vanish, and small enough that table and socket buffer share a
// processor's second-level cache.
const patternChunk = 256 << 10

// patternTable holds one period and, behind it, its beginning again, so that a
// full chunk can be taken from any offset without a seam.
var patternTable = newPatternTable()

// newPatternTable lays SplitMix64 with state 0 out in little-endian order:
// word i is mix((i+1) * 0x9e3779b97f4a7c15).
func newPatternTable() []byte {
	t := make([]byte, 0, PatternPeriod+8)
	var state uint64
	for len(t) < PatternPeriod {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		t = binary.LittleEndian.AppendUint64(t, z^z>>31)
	}
	t = t[:PatternPeriod:PatternPeriod]
	return append(t, append(t, t...)[:patternChunk]...)
}

// patternAt returns up to n bytes of the pattern from off, at most a chunk,
// straight from the table: the caller must not write to them.
func patternAt(off, n int64) []byte {
	i := off % PatternPeriod
	return patternTable[i : i+min(n, patternChunk)]
}

// CheckPattern returns the index of the first byte of p that differs from the
// pattern at offset off, or -1 if none does. off must not be negative.
func CheckPattern(p []byte, off int64) int {
	for done := 0; done < len(p); {
		want := patternAt(off+int64(done), int64(len(p)-done))
		got := p[done : done+len(want)]
		if !bytes.Equal(got, want) {
			for i := range got {
				if got[i] != want[i] {
					return done + i
				}
			}
		}
		done += len(want)
	}
	return -1
}

// Pattern is the content of /bytes/{n}: the first n bytes of a fixed sequence
// in which a byte depends on its offset alone. The byte at offset o is byte
// o mod [PatternPeriod] of the SplitMix64 generator's output from state 0, each
// 64-bit word in little-endian order.
//
// It is an io.ReadSeeker, io.ReaderAt and io.WriterTo that holds no data of
// its own. ReadAt may be called concurrently; the other methods share a
// position and may not.
type Pattern struct {
	size, pos int64
}

// NewPattern returns the first size bytes of the pattern. A negative size is
// taken as zero.
func NewPattern(size int64) *Pattern { return &Pattern{size: max(size, 0)} }

// Size returns the number of bytes in the pattern.
func (p *Pattern) Size() int64 { return p.size }

// Read implements io.Reader.
func (p *Pattern) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, err := p.ReadAt(b, p.pos)
	p.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (p *Pattern) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("cats: pattern read at offset %d: the offset must not be negative", off)
	}
	for n < len(b) && off < p.size {
		m := copy(b[n:], patternAt(off, p.size-off))
		n += m
		off += int64(m)
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}

// Seek implements io.Seeker. Seeking past the end is allowed; reading there
// returns io.EOF.
func (p *Pattern) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += p.pos
	case io.SeekEnd:
		offset += p.size
	default:
		return 0, fmt.Errorf("cats: pattern seek: whence %d is not one of io.SeekStart, io.SeekCurrent, io.SeekEnd", whence)
	}
	if offset < 0 {
		return 0, errors.New("cats: pattern seek: the position would be negative")
	}
	p.pos = offset
	return offset, nil
}

// WriteTo implements io.WriterTo: it writes what is left of the pattern without
// copying it first.
func (p *Pattern) WriteTo(w io.Writer) (int64, error) { return p.writeTo(w, p.size-p.pos) }

// writeTo writes the next n bytes, or what is left if that is less.
func (p *Pattern) writeTo(w io.Writer, n int64) (written int64, err error) {
	n = min(n, p.size-p.pos)
	for written < n && err == nil {
		var m int
		m, err = w.Write(patternAt(p.pos, n-written))
		written += int64(m)
		p.pos += int64(m)
	}
	return written, err
}
