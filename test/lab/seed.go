package lab

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
)

// SeedEnv is the environment variable from which a Lab without a seed takes it: a decimal number other than 0.
const SeedEnv = "CATFLAP_SEED"

// chooseSeed returns the seed of a Lab whose Options have want.
func chooseSeed(want uint64) (uint64, error) {
	text := os.Getenv(SeedEnv)
	if want != 0 || text == "" {
		for want == 0 {
			want = rand.Uint64()
		}
		return want, nil
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil || seed == 0 {
		return 0, fmt.Errorf("%s=%q is no seed: give a number from 1 to 18446744073709551615, or unset it", SeedEnv, text)
	}
	return seed, nil
}

// derive makes a seed for one part of a Lab. It depends on the part's name and not on what else there is, so that a host added
// to a test does not change the others.
func derive(seed uint64, kind, name string) [32]byte {
	h := sha256.New()
	binary.Write(h, binary.BigEndian, seed)
	io.WriteString(h, kind+"\x00"+name)
	return [32]byte(h.Sum(nil))
}

// seed64 is a seed for what takes no longer one. It is not 0, which means none.
func seed64(seed [32]byte) uint64 { return binary.BigEndian.Uint64(seed[:]) | 1 }
