package cats

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// sameEverywhere is how far PNG and SVG may differ in the mean of all channels
// of all pixels, of 255: anti-aliasing at edges and a bit of rounding.
const sameEverywhere = 0.5

// TestPNGAgreesWithSVG renders SVGs with another program and compares pixels.
func TestPNGAgreesWithSVG(t *testing.T) {
	t.Parallel()
	const program = "rsvg-convert"
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CATFLAP_REQUIRE") == "all" {
			t.Fatalf("%v; install librsvg2-bin", err)
		}
		t.Skipf("%v; install librsvg2-bin", err)
	}
	seen := make(map[string]bool) // poses and patterns
	for i := 0; len(seen) < len(poses)+7; i++ {
		if i == 500 {
			t.Fatalf("500 seeds show only %v", seen)
		}
		c := Meet(strconv.Itoa(i))
		if seen[c.Pose] && seen[c.Pattern] {
			continue
		}
		seen[c.Pose], seen[c.Pattern] = true, true
		cmd := exec.Command(program, "--width=512", "--height=512")
		cmd.Stdin = bytes.NewReader(c.SVG())
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("seed %d: %v", i, err)
		}
		theirs, err := png.Decode(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := c.PNG(512)
		if err != nil {
			t.Fatal(err)
		}
		our, err := png.Decode(bytes.NewReader(ours))
		if err != nil {
			t.Fatal(err)
		}
		if d := meanDifference(our, theirs); d > sameEverywhere {
			t.Errorf("seed %d (%v): PNG and SVG differ by %.2f of 255 in the mean, more than %v", i, c, d, sameEverywhere)
		} else {
			t.Logf("seed %d: %.3f", i, d)
		}
	}
}

func meanDifference(a, b image.Image) float64 {
	sum, n := 0.0, 0
	diff := func(x, y uint32) {
		x, y = x>>8, y>>8
		sum += float64(max(x, y) - min(x, y))
		n++
	}
	for y := a.Bounds().Min.Y; y < a.Bounds().Max.Y; y++ {
		for x := a.Bounds().Min.X; x < a.Bounds().Max.X; x++ {
			ar, ag, ab, _ := a.At(x, y).RGBA()
			br, bg, bb, _ := b.At(x, y).RGBA()
			diff(ar, br)
			diff(ag, bg)
			diff(ab, bb)
		}
	}
	return sum / float64(n)
}
