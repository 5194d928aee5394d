package cats

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

const (
	typeSVG = "image/svg+xml"
	typePNG = "image/png"

	// MaxSeed is the length limit of a seed in bytes.
	MaxSeed = 128

	// Bounds of a PNG's size, in pixels. A PNG of the largest size takes 4 MiB
	// while it is drawn; anyone who wants more detail takes the SVG.
	MinSize, DefaultSize, MaxSize = 16, 512, 1024

	// drawingVersion is part of each picture's ETag. A change that makes any
	// seed's picture another one raises it.
	drawingVersion = "1"
)

// cat answers /cat, /cat.svg, /cat.png and /cat/{seed} with its extensions.
func (s *Server) cat(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	name, seeded := strings.CutPrefix(r.URL.Path, "/cat/")
	if !seeded {
		name = strings.TrimPrefix(r.URL.Path, "/cat")
	}
	seed, mediaType := splitExtension(name)
	if mediaType == "" {
		h.Set("Vary", "Accept")
		mediaType = negotiate(r.Header.Values("Accept"), typeSVG, typePNG)
		if mediaType == "" {
			fail(w, http.StatusNotAcceptable, "a cat comes as %s or %s, and the request accepts neither; ask for one of them, or for /cat.svg or /cat.png", typeSVG, typePNG)
			return
		}
	}
	if seeded {
		if err := checkSeed(seed); err != nil {
			fail(w, http.StatusBadRequest, "%v", err)
			return
		}
	} else {
		seed = connSeed(r)
	}
	size, err := parseSize(r.URL.Query().Get("size"))
	if err != nil {
		fail(w, http.StatusBadRequest, "%v", err)
		return
	}

	if seeded {
		etag := pictureTag(seed, mediaType, size)
		h.Set("Etag", etag)
		h.Set(cacheControlKey, "public, max-age=31536000, immutable")
		if tagMatches(r.Header.Values("If-None-Match"), etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	} else {
		h.Set(cacheControlKey, "no-store")
	}

	cat := Meet(seed)
	if mediaType == typeSVG {
		// An SVG opened by itself is a document: it needs nothing from anywhere.
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		answer(w, typeSVG, cat.SVG())
		return
	}
	select {
	case s.rendering <- struct{}{}:
		defer func() { <-s.rendering }()
	case <-r.Context().Done():
		return
	}
	png, err := cat.PNG(size)
	if err != nil {
		fail(w, http.StatusInternalServerError, "%v", err)
		return
	}
	answer(w, typePNG, png)
}

// splitExtension takes .svg or .png off a seed and returns its media type.
func splitExtension(name string) (seed, mediaType string) {
	if seed, ok := strings.CutSuffix(name, ".svg"); ok {
		return seed, typeSVG
	}
	if seed, ok := strings.CutSuffix(name, ".png"); ok {
		return seed, typePNG
	}
	return name, ""
}

func checkSeed(seed string) error {
	switch {
	case seed == "":
		return fmt.Errorf("the seed is empty; use any text, such as /cat/luna")
	case len(seed) > MaxSeed:
		return fmt.Errorf("the seed has %d bytes, more than %d; use a shorter one", len(seed), MaxSeed)
	}
	return nil
}

// connSeed is the seed of a connection: its 4-tuple.
func connSeed(r *http.Request) string {
	network, local, remote := endpoints(r)
	return network + " " + remote + " " + local
}

func parseSize(s string) (int, error) {
	if s == "" {
		return DefaultSize, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("the size %q is not a number of pixels; use one from %d to %d", s, MinSize, MaxSize)
	}
	return n, checkSize(n)
}

func checkSize(n int) error {
	if n < MinSize || n > MaxSize {
		return fmt.Errorf("a picture of %d pixels is not drawn; use a size from %d to %d", n, MinSize, MaxSize)
	}
	return nil
}

// pictureTag is a strong validator: the same tag means the same bytes.
func pictureTag(seed, mediaType string, size int) string {
	if mediaType == typeSVG {
		size = 0 // scales by itself
	}
	sum := sha256.Sum256([]byte(drawingVersion + " " + mediaType + " " + strconv.Itoa(size) + " " + seed))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// tagMatches evaluates If-None-Match (RFC 9110, section 13.1.2), with its weak
// comparison. Our tags hold no comma, so that splitting at commas finds them.
func tagMatches(header []string, etag string) bool {
	for _, t := range strings.Split(strings.Join(header, ","), ",") {
		t = strings.TrimPrefix(strings.TrimSpace(t), "W/")
		if t == etag || t == "*" {
			return true
		}
	}
	return false
}
