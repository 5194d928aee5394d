package cats

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"strconv"
)

const (
	// galleryPage fills whole rows of two, three, four and six cats.
	galleryPage = 24

	// galleryLast is the last page's first number, so that all of them stay
	// short enough to read.
	galleryLast = 999_999_984
)

var (
	//go:embed gallery.html
	galleryHTML string

	//go:embed gallery.css
	galleryCSS string

	galleryTemplate = template.Must(template.New("gallery").Parse(galleryHTML))

	// galleryPolicy lets the page show this server's pictures and its own
	// style, named by its hash, and nothing else.
	galleryPolicy = func() string {
		sum := sha256.Sum256([]byte(galleryCSS))
		return "default-src 'none'; img-src 'self'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	}()
)

type galleryCat struct {
	Seed string
	Traits
}

type galleryView struct {
	Style          template.CSS
	Cats           []galleryCat
	First, Last    int
	Previous, Next int // -1: none
}

// gallery shows the cats of the seeds from, from+1, and so on.
func (s *Server) gallery(w http.ResponseWriter, r *http.Request) {
	from := 0
	if v := r.URL.Query().Get("from"); v != "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n > galleryLast {
			fail(w, http.StatusBadRequest, "from=%q is not the number of a cat; use one from 0 to %d, such as /cats?from=%d", v, galleryLast, galleryPage)
			return
		}
		from = int(n)
	}
	view := galleryView{
		Style: template.CSS(galleryCSS),
		First: from, Last: from + galleryPage - 1,
		Previous: max(from-galleryPage, 0), Next: min(from+galleryPage, galleryLast),
	}
	if from == 0 {
		view.Previous = -1
	}
	if from == galleryLast {
		view.Next = -1
	}
	for i := range galleryPage {
		seed := strconv.Itoa(from + i)
		view.Cats = append(view.Cats, galleryCat{seed, Meet(seed).Traits})
	}
	var page bytes.Buffer
	if err := galleryTemplate.Execute(&page, view); err != nil {
		fail(w, http.StatusInternalServerError, "the gallery cannot be shown: %v", err)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", galleryPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set(cacheControlKey, "public, max-age=300")
	answer(w, "text/html; charset=utf-8", page.Bytes())
}
