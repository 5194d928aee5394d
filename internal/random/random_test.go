package random

import (
	"encoding/hex"
	"testing"
)

// TestSequences holds what seeds give: whoever has noted one finds the same run again, also with a later catflap.
func TestSequences(t *testing.T) {
	seed, err := hex.DecodeString("065ef77fb049ec53a2cce96b341ab6d2760662c75735935c242a82939467fabf")
	if err != nil {
		t.Fatal(err)
	}
	b, got := NewBytes([32]byte(seed)), make([]byte, 12)
	b.Read(got[:5])
	b.Read(got[5:])
	if want := "fa598082865c935716d28f37"; hex.EncodeToString(got) != want {
		t.Errorf("bytes %x, want %s", got, want)
	}

	s := NewSource(7)
	if a, b := s.Uint64(), s.Int63(); a != 0x759e421e454dfff3 || b != 0x1da206eeaa152218 {
		t.Errorf("source: %#x, %#x", a, b)
	}

	for _, tt := range []struct{ seed, stream, first, second uint64 }{
		{1, 1<<32 | 1<<16 | 6, 0xf65cd7de45313782, 0x3b8b10fb86ba400a},
		{1, 1, 0xfd7ef8a991884a48, 0x88f5e0c3191b20fa},
		{2, 1<<32 | 1<<16 | 6, 0x5e11dea43a4ab23c, 0x982ed23dd974e5a4},
		{2, 1, 0x1a5e97d0a397a0e4, 0xe1533654b2ac8a5d},
	} {
		p := NewStream(tt.seed, tt.stream)
		if a, b := p.Uint64(), p.Uint64(); a != tt.first || b != tt.second {
			t.Errorf("stream %#x of seed %d: %#x, %#x; want %#x, %#x", tt.stream, tt.seed, a, b, tt.first, tt.second)
		}
	}
}
