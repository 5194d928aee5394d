package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/internal/testenv"
)

// TestRoutes fetches every route of the cat server with a real curl.
func TestRoutes(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	upload := filepath.Join(t.TempDir(), "upload")
	if err := os.WriteFile(upload, bytes.Repeat([]byte("meow"), 50_000), 0o644); err != nil {
		t.Fatal(err)
	}
	routes := []struct {
		name, args string // curl's arguments; URL stands for the server's
		code       string
		mediaType  string
		check      func(answer) error
	}{
		{"greeting", "URL/", "200", "text/plain; charset=utf-8", isText("Hello kitty!")},
		{"greeting-head", "-I URL/", "200", "text/plain; charset=utf-8", hasHead("content-length: 12")},
		{"cat-of-the-connection", "URL/cat", "200", "image/svg+xml", isSVG},
		{"cat-as-svg", "URL/cat.svg", "200", "image/svg+xml", isSVG},
		{"cat-as-png", "URL/cat.png", "200", "image/png", isPNG},
		{"cat-accept-png", "-H 'Accept: image/png' URL/cat", "200", "image/png", isPNG},
		{"cat-accept-none", "-H 'Accept: audio/ogg' URL/cat", "406", "", hasRemedy},
		{"felix", "URL/cat/felix", "200", "image/svg+xml", isSVG},
		{"felix-svg", "URL/cat/felix.svg", "200", "image/svg+xml", isSVG},
		{"felix-png", "URL/cat/felix.png", "200", "image/png", isPNG},
		{"gallery", "URL/cats", "200", "text/html; charset=utf-8", func(a answer) error {
			if n := bytes.Count(a.body, []byte("/cat/")); n < 4 {
				return fmt.Errorf("only %d cats in the gallery", n)
			}
			return nil
		}},
		{"bytes", "URL/bytes/300000", "200", "application/octet-stream", isPattern(0, 300_000)},
		{"bytes-none", "URL/bytes/0", "200", "application/octet-stream", isPattern(0, 0)},
		{"bytes-range", "-r 1000-262999 URL/bytes/300000", "206", "application/octet-stream", isPattern(1000, 262_000)},
		{"bytes-range-of-a-tebibyte", "-r 1099511627000- URL/bytes/1099511627776", "206", "application/octet-stream", isPattern(1099511627000, 776)},
		{"bytes-too-many", "URL/bytes/1099511627777", "400", "", hasRemedy},
		{"bytes-no-number", "URL/bytes/many", "400", "", hasRemedy},
		{"upload-post", "--data-binary @UPLOAD URL/upload", "200", "application/json", isUpload(200_000)},
		{"upload-put", "-T UPLOAD URL/upload", "200", "application/json", isUpload(200_000)},
		{"upload-chunked", "-H 'Transfer-Encoding: chunked' -T UPLOAD URL/upload", "200", "application/json", isUpload(200_000)},
		{"upload-nothing", "-d '' URL/upload", "200", "application/json", isUpload(0)},
		{"upload-get", "URL/upload", "405", "", hasHead("allow: post, put")},
		{"conn", "URL/conn", "200", "application/json", nil}, // checked below
		{"healthz", "URL/healthz", "200", "text/plain; charset=utf-8", isText("ok\n")},
		{"unknown", "URL/dog", "404", "", hasRemedy},
		{"delete", "-X DELETE URL/", "405", "", hasHead("allow: get, head")},
	}
	everyWay(t, func(t *testing.T, driver, url string) {
		dir := t.TempDir()
		var script strings.Builder
		for _, r := range routes {
			args := strings.NewReplacer("URL", "'"+url+"'", "UPLOAD", upload).Replace(r.args)
			fmt.Fprintf(&script, "curl -sS -g --max-time 100 -D %[1]s/%[2]s.head -o %[1]s/%[2]s.body -w '%%{http_code}' %[3]s >%[1]s/%[2]s.code || echo %[2]s: curl $?\n",
				dir, r.name, args)
		}
		// Two requests on one connection get the same cat, another connection another one.
		fmt.Fprintf(&script, "curl -sS -g -o %[1]s/kept1 -o %[1]s/kept2 '%[2]s/cat' '%[2]s/cat'\ncurl -sS -g -o %[1]s/other '%[2]s/cat'\n", dir, url)
		r := inside(t, driver, script.String()).want(t, 0)
		if r.stdout+r.stderr != "" {
			t.Errorf("curl complains: %s%s", r.stdout, r.stderr)
		}
		read := func(name string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			}
			return b
		}
		for _, r := range routes {
			a := answer{code: string(read(r.name + ".code")), head: strings.ToLower(string(read(r.name + ".head"))), body: read(r.name + ".body")}
			if a.code != r.code {
				t.Errorf("%s: status %s, want %s: %.200s", r.name, a.code, r.code, a.body)
				continue
			}
			if r.mediaType != "" && !strings.Contains(a.head, "content-type: "+r.mediaType+"\r\n") {
				t.Errorf("%s: want the type %s, got %s", r.name, r.mediaType, a.head)
			}
			check := r.check
			if r.name == "conn" {
				check = isConn(url)
			}
			if err := check(a); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
		kept1, kept2, other := read("kept1"), read("kept2"), read("other")
		if !bytes.Equal(kept1, kept2) {
			t.Error("two cats on one connection differ")
		}
		if bytes.Equal(kept1, other) {
			t.Error("two connections have the same cat")
		}
	})
}

// TestGreetingIsTwelveBytes is the promise of the first command.
func TestGreetingIsTwelveBytes(t *testing.T) {
	t.Parallel()
	testenv.Require(t, testenv.Root, testenv.Tun, "curl")
	everyWay(t, func(t *testing.T, driver, url string) {
		r := run(t, catflap(t), "run", "--driver", driver, "--", "curl", "-sg", url+"/").want(t, 0)
		if r.stdout != "Hello kitty!" {
			t.Errorf("stdout %q, want Hello kitty! and nothing else", r.stdout)
		}
		if r.stderr != "" {
			t.Errorf("stderr %q, want nothing", r.stderr)
		}
	})
}
