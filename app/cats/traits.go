package cats

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
)

// Poses, in the words of a cat's description.
const (
	poseSitting    = "sitting"
	poseLoaf       = "loafing"
	poseCurled     = "curled up asleep"
	poseStanding   = "standing"
	poseStretching = "stretching"
	poseBox        = "peeking out of a box"
	poseFlap       = "coming through a cat flap"
)

// Patterns of a coat.
const (
	patternSolid    = "solid"
	patternTabby    = "tabby"
	patternSpotted  = "spotted"
	patternBicolour = "bicolour"
	patternPatches  = "patched"
	patternSocks    = "white-socked"
	patternMask     = "colourpoint"
)

// Shapes of eyes and ears, kinds of tail and fur.
const (
	eyesRound   = "round"
	eyesAlmond  = "almond"
	eyesSleepy  = "sleepy"
	eyesWinking = "winking"

	earsPointed = "pointed"
	earsFolded  = "folded"
	earsTufted  = "tufted"

	tailSlim  = "slim"
	tailBushy = "bushy"
	tailBob   = "bobbed"

	furShort = "short-haired"
	furLong  = "long-haired"
)

// Things a cat may wear.
const (
	wearsNothing = "nothing"
	wearsBell    = "a collar with a bell"
	wearsTag     = "a collar with a tag"
	wearsBow     = "a bow tie"
	wearsScarf   = "a bandana"
	wearsFlower  = "a flower"
)

var (
	poses     = []string{poseSitting, poseLoaf, poseCurled, poseStanding, poseStretching, poseBox, poseFlap}
	eyeShapes = []string{eyesRound, eyesRound, eyesRound, eyesAlmond, eyesAlmond, eyesSleepy, eyesWinking}
	earShapes = []string{earsPointed, earsPointed, earsPointed, earsFolded, earsTufted}
	tails     = []string{tailSlim, tailSlim, tailBushy, tailBushy, tailBob}
	furs      = []string{furShort, furShort, furLong}
	wearables = []string{wearsNothing, wearsNothing, wearsBell, wearsTag, wearsBow, wearsScarf, wearsFlower}

	names = []string{
		"Miso", "Luna", "Pixel", "Mochi", "Socks", "Biscuit", "Nori", "Pepper", "Olive", "Ziggy",
		"Waffles", "Juno", "Tofu", "Marble", "Saffron", "Pickle", "Hazel", "Cosmo", "Dumpling", "Willow",
		"Ginger", "Figaro", "Poppy", "Sesame", "Clementine", "Otto", "Maple", "Inky", "Pumpkin", "Freya",
		"Noodle", "Basil", "Cleo", "Rascal", "Sushi", "Tigger", "Nimbus", "Duchess", "Turnip", "Chai",
	}
)

// Traits are what tells one cat from another, each in words.
type Traits struct {
	Name     string `json:"name"`
	Pose     string `json:"pose"`
	Coat     string `json:"coat"`
	Pattern  string `json:"pattern"`
	Fur      string `json:"fur"`
	EyeShape string `json:"eyeShape"`
	LeftEye  string `json:"leftEye"`  // colour, on the picture's left
	RightEye string `json:"rightEye"` // colour; another one in an odd-eyed cat
	Ears     string `json:"ears"`
	Tail     string `json:"tail"`
	Wears    string `json:"wears"`
	Backdrop string `json:"backdrop"`
}

// String describes the cat in a sentence without a full stop, for example
// "Miso, a short-haired ginger tabby cat with round green eyes, pointed ears
// and a slim tail, loafing, wearing a bow tie".
func (t Traits) String() string {
	eyes := t.EyeShape + " " + t.LeftEye
	switch {
	case t.Pose == poseCurled:
		eyes = "closed"
	case t.LeftEye != t.RightEye:
		eyes = t.EyeShape + " odd (" + t.LeftEye + " and " + t.RightEye + ")"
	}
	var b strings.Builder
	b.WriteString(t.Name + ", a " + t.Fur + " " + t.Coat)
	if t.Pattern != patternSolid && !coatNamed(t.Coat).only(t.Pattern) {
		b.WriteString(" " + t.Pattern)
	}
	b.WriteString(" cat with " + eyes + " eyes, " + t.Ears + " ears and a " + t.Tail + " tail, " + t.Pose)
	if t.Wears != wearsNothing {
		b.WriteString(", wearing " + t.Wears)
	}
	return b.String()
}

// Cat is one cat. The zero value is none; use [Meet].
type Cat struct {
	Traits
	jitter [2]uint64 // seeds the small irregularities of the drawing
}

// Meet returns the cat of a seed. The same seed is the same cat, on every
// machine.
func Meet(seed string) Cat {
	sum := sha256.Sum256([]byte("catflap cat 1\x00" + seed))
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(sum[8*i:]) }
	d := dice{rand.NewPCG(word(0), word(1))}

	var t Traits
	t.Name = pick(d, names)
	t.Pose = pick(d, poses)
	coat := pick(d, coats)
	t.Coat = coat.name
	t.Pattern = pick(d, coat.patterns)
	t.Fur = pick(d, furs)
	t.EyeShape = pick(d, eyeShapes)
	t.LeftEye = pick(d, coat.eyes)
	t.RightEye = t.LeftEye
	if d.chance(0.1) {
		t.LeftEye, t.RightEye = "blue", pick(d, []string{"amber", "green", "copper"})
	}
	t.Ears = pick(d, earShapes)
	t.Tail = pick(d, tails)
	t.Wears = pick(d, wearables)
	t.Backdrop = pick(d, slices.DeleteFunc(slices.Clone(backdrops), func(b backdrop) bool {
		return !b.suits(coat)
	})).name
	return Cat{t, [2]uint64{word(2), word(3)}}
}

// SVG returns the cat's picture as an SVG document of 512 by 512 units.
func (c Cat) SVG() []byte {
	return c.scene().svg(c.Name, c.String())
}

// PNG returns the cat's picture as a PNG of size by size pixels; size must be
// within MinSize and MaxSize.
func (c Cat) PNG(size int) ([]byte, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	return c.scene().png(size)
}

// dice are random numbers that are the same with every version of Go: only the
// PCG generator itself is specified, the methods of rand.Rand are not.
type dice struct{ src *rand.PCG }

// intn returns 0 to n-1; the bias of at most n/2^64 is of no concern.
func (d dice) intn(n int) int {
	hi, _ := bits.Mul64(d.src.Uint64(), uint64(n))
	return int(hi)
}

// between returns a number in [lo, hi).
func (d dice) between(lo, hi float64) float64 {
	return lo + (hi-lo)*float64(d.src.Uint64()>>11)/(1<<53)
}

func (d dice) chance(p float64) bool { return d.between(0, 1) < p }

func pick[T any](d dice, from []T) T { return from[d.intn(len(from))] }
