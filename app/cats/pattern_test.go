package cats

import (
	"bytes"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
)

// slowPattern computes the byte at offset o from the documentation alone.
func slowPattern(o int64) byte {
	i := uint64(o) % PatternPeriod
	z := (i/8 + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return byte((z ^ z>>31) >> (8 * (i % 8)))
}

func TestPatternIsAsDocumented(t *testing.T) {
	if !big.NewInt(PatternPeriod).ProbablyPrime(20) {
		t.Errorf("the period %d is not prime", PatternPeriod)
	}
	p := NewPattern(MaxBytes)
	for _, off := range []int64{0, 1, 7, 1459, PatternPeriod - 3, PatternPeriod, patternChunk - 1, 3*PatternPeriod - 1, 1<<32 - 2, MaxBytes - 8} {
		b := make([]byte, 8)
		if _, err := p.ReadAt(b, off); err != nil {
			t.Fatalf("ReadAt(%d): %v", off, err)
		}
		for i := range b {
			if want := slowPattern(off + int64(i)); b[i] != want {
				t.Errorf("the byte at offset %d is %#x, want %#x", off+int64(i), b[i], want)
			}
		}
	}
}

func TestPatternReader(t *testing.T) {
	const size = 2*PatternPeriod + 77
	want := make([]byte, size)
	for i := range want {
		want[i] = slowPattern(int64(i))
	}
	if err := iotest.TestReader(NewPattern(size), want); err != nil {
		t.Error(err)
	}
	if err := iotest.TestReader(NewPattern(-1), nil); err != nil {
		t.Error(err)
	}
	p := NewPattern(size)
	p.Seek(-PatternPeriod, io.SeekEnd)
	var b bytes.Buffer
	if n, err := p.WriteTo(&b); n != PatternPeriod || err != nil || !bytes.Equal(b.Bytes(), want[size-PatternPeriod:]) {
		t.Errorf("WriteTo after a seek wrote %d bytes, %v", n, err)
	}
	for _, seek := range []struct {
		offset int64
		whence int
	}{{-1, io.SeekStart}, {0, 9}} {
		if _, err := p.Seek(seek.offset, seek.whence); err == nil {
			t.Errorf("Seek(%d, %d) succeeded", seek.offset, seek.whence)
		}
	}
	if _, err := p.ReadAt(b.Bytes(), -1); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("ReadAt(-1): %v", err)
	}
}

func TestCheckPatternFindsMoves(t *testing.T) {
	b := make([]byte, 1<<20)
	NewPattern(MaxBytes).ReadAt(b, 12345)
	if i := CheckPattern(b, 12345); i != -1 {
		t.Errorf("right data is wrong at %d", i)
	}
	b[700000] ^= 1
	if i := CheckPattern(b, 12345); i != 700000 {
		t.Errorf("the wrong byte is at %d, want 700000", i)
	}
	// Two segments that changed places, in the sizes that occur.
	for _, mss := range []int{8, 536, 1024, 1220, 1440, 1448, 1460, 4096, 8960, 16384, 65483, 65536} {
		NewPattern(MaxBytes).ReadAt(b, 0)
		for i := range mss {
			b[i], b[i+mss] = b[i+mss], b[i]
		}
		if i := CheckPattern(b, 0); i < 0 || i > 8 {
			t.Errorf("segments of %d bytes that changed places are noticed at %d, want in the first 8 bytes", mss, i)
		}
	}
}

func FuzzPatternReadAt(f *testing.F) {
	f.Add(int64(100), int64(50), 60)
	f.Add(int64(MaxBytes), int64(MaxBytes-1), 2)
	f.Fuzz(func(t *testing.T, size, off int64, n int) {
		if n < 0 || n > 1<<16 {
			return
		}
		b := make([]byte, n)
		m, err := NewPattern(size).ReadAt(b, off)
		if m < n && err == nil {
			t.Errorf("%d of %d bytes and no error", m, n)
		}
		if off >= 0 && int64(m) != min(int64(n), max(size-off, 0)) {
			t.Errorf("size %d: ReadAt of %d at %d read %d", size, n, off, m)
		}
		if m > 0 && CheckPattern(b[:m], off) != -1 {
			t.Error("wrong bytes")
		}
	})
}
