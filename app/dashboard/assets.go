package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// newAssets serves the page. What has not changed is not sent again.
func newAssets() http.Handler {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the name is embedded
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, refusef(http.StatusMethodNotAllowed, "", "%s %s: want GET", r.Method, r.URL.Path))
			return
		}
		name := strings.TrimPrefix(r.URL.Path, "/")
		if name == "" {
			name = "index.html"
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			refuse(w, refusef(http.StatusNotFound, "the page is at /", "there is no %s", r.URL.Path))
			return
		}
		sum := sha256.Sum256(b)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
		w.Header().Set("Cache-Control", "no-cache") // ask whether it is still the same
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout))
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(b))
	})
}
