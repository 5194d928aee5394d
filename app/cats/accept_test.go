package cats

import (
	"slices"
	"testing"
)

func TestNegotiate(t *testing.T) {
	for _, c := range []struct{ why, accept, want string }{
		{"nothing is said", "", typeSVG},
		{"curl", "*/*", typeSVG},
		{"Firefox, a page", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", typeSVG},
		{"Firefox, an image", "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", typeSVG},
		{"Chrome, an image", "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", typeSVG},
		{"any image", "image/*", typeSVG},
		{"only PNG", "image/png", typePNG},
		{"upper case", "IMAGE/PNG", typePNG},
		{"PNG named, the rest by a wildcard of the same quality", "image/png,*/*", typePNG},
		{"PNG preferred", "image/svg+xml;q=0.5, image/png;q=0.9", typePNG},
		{"SVG preferred", "image/png;q=0.5, image/svg+xml;q=0.501", typeSVG},
		{"SVG refused", "image/svg+xml;q=0, */*", typePNG},
		{"the precise range decides, not the better one", "image/png;q=0.1, image/*;q=0.9", typeSVG},
		{"images of a low quality are still images", "text/html, image/*;q=0.001", typeSVG},
		{"nothing we have", "text/html", ""},
		{"all refused", "*/*;q=0", ""},
		{"a quality above 1 is no quality", "image/png;q=2", ""},
		{"NaN is no quality", "image/png;q=NaN", ""},
		{"a parameter we cannot give", "image/png;profile=x", ""},
		{"broken parts are passed over", ";;,/,image/png", typePNG},
	} {
		if got := negotiate([]string{c.accept}, typeSVG, typePNG); got != c.want {
			t.Errorf("%s: Accept: %s gives %q, want %q", c.why, c.accept, got, c.want)
		}
	}
	if got := negotiate([]string{"text/html", "image/png"}, typeSVG, typePNG); got != typePNG {
		t.Errorf("two Accept lines give %q, want %q", got, typePNG)
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("image/png;q=0.5, */*")
	f.Add("image/*;q=0,,;")
	f.Fuzz(func(t *testing.T, accept string) {
		got := negotiate([]string{accept}, typeSVG, typePNG)
		if !slices.Contains([]string{"", typeSVG, typePNG}, got) {
			t.Errorf("%q gives %q, which was not offered", accept, got)
		}
	})
}
