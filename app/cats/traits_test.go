package cats

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"runtime"
	"strconv"
	"testing"
	"unicode/utf8"
)

// TestMeet holds cats to their seeds: whoever has a link to a cat finds the
// same one tomorrow. If a change here is meant, raise drawingVersion too.
func TestMeet(t *testing.T) {
	for _, c := range []struct{ seed, want, svg string }{
		{"luna", "Tofu, a short-haired cream cat with round odd (blue and copper) eyes, tufted ears and a bobbed tail, standing", "11f4f6e8884f16f0"},
		{"0", "Tofu, a short-haired golden bengal cat with round hazel eyes, pointed ears and a bushy tail, peeking out of a box, wearing a collar with a bell", "99ea627cbe5528fa"},
		{"Müller", "Inky, a short-haired silver tabby cat with round amber eyes, pointed ears and a bushy tail, standing, wearing a flower", "0464b45350cf609c"},
		{"", "Basil, a long-haired ginger tabby cat with round green eyes, tufted ears and a bobbed tail, sitting, wearing a bow tie", "7076b20802553a91"},
	} {
		cat := Meet(c.seed)
		if got := cat.String(); got != c.want {
			t.Errorf("%q is %s\nwant %s", c.seed, got, c.want)
		}
		// Other processors may round a coordinate's last digit differently.
		sum := sha256.Sum256(cat.SVG())
		if got := hex.EncodeToString(sum[:8]); runtime.GOARCH == "amd64" && got != c.svg {
			t.Errorf("%q has a picture with hash %s, want %s", c.seed, got, c.svg)
		}
	}
}

// TestEveryTraitAppears meets 200 cats.
func TestEveryTraitAppears(t *testing.T) {
	seen := make(map[string]map[string]int)
	count := func(trait, value string) {
		if seen[trait] == nil {
			seen[trait] = make(map[string]int)
		}
		seen[trait][value]++
	}
	pictures := make(map[string]string)
	for i := range 200 {
		seed := "cat " + strconv.Itoa(i)
		c := Meet(seed)
		count("pose", c.Pose)
		count("coat", c.Coat)
		count("pattern", c.Pattern)
		count("fur", c.Fur)
		count("eye shape", c.EyeShape)
		count("eye colour", c.LeftEye)
		count("ears", c.Ears)
		count("tail", c.Tail)
		count("wears", c.Wears)
		count("backdrop", c.Backdrop)
		if c.LeftEye != c.RightEye {
			count("eye colour", "odd")
		}
		svg := string(c.SVG())
		if other, ok := pictures[svg]; ok {
			t.Errorf("seeds %q and %q have the same picture", seed, other)
		}
		pictures[svg] = seed
	}
	want := map[string][]string{
		"pose": poses, "fur": furs, "eye shape": eyeShapes, "ears": earShapes, "tail": tails, "wears": wearables,
		"eye colour": {"odd"},
	}
	for _, c := range coats {
		want["coat"] = append(want["coat"], c.name)
		want["pattern"] = append(want["pattern"], c.patterns...)
	}
	for _, b := range backdrops {
		want["backdrop"] = append(want["backdrop"], b.name)
	}
	for name := range eyeColours {
		want["eye colour"] = append(want["eye colour"], name)
	}
	for trait, values := range want {
		for _, v := range values {
			if seen[trait][v] == 0 {
				t.Errorf("no cat of 200 has the %s %q", trait, v)
			}
		}
	}
	if n := len(seen["pattern"]); n != 7 {
		t.Errorf("%d patterns, want 7", n)
	}
}

func TestCoatsAreComplete(t *testing.T) {
	for _, c := range coats {
		for _, e := range c.eyes {
			if _, ok := eyeColours[e]; !ok {
				t.Errorf("%s: no eye colour %q", c.name, e)
			}
		}
		n := 0
		for _, b := range backdrops {
			if b.suits(c) {
				n++
			}
		}
		if n < 4 {
			t.Errorf("%s: only %d backdrops suit it", c.name, n)
		}
	}
}

func TestPNGSizes(t *testing.T) {
	c := Meet("luna")
	for _, size := range []int{MinSize, MaxSize} {
		if b, err := c.PNG(size); err != nil || len(b) == 0 {
			t.Errorf("PNG(%d): %d bytes, %v", size, len(b), err)
		}
	}
	for _, size := range []int{-1, 0, MinSize - 1, MaxSize + 1, math.MaxInt} {
		if _, err := c.PNG(size); err == nil {
			t.Errorf("PNG(%d) was drawn", size)
		}
	}
}

// FuzzMeet: any seed is a cat whose picture is well-formed XML.
func FuzzMeet(f *testing.F) {
	f.Add("luna")
	f.Add("\x00<&\xff")
	f.Fuzz(func(t *testing.T, seed string) {
		svg := Meet(seed).SVG()
		if !utf8.Valid(svg) || bytes.Contains(svg, []byte("NaN")) || bytes.Contains(svg, []byte("Inf")) {
			t.Errorf("the picture of %q holds something else than text and numbers", seed)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("the picture of %q: %v", seed, err)
			}
		}
	})
}
