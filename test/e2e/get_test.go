package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/catflap/catflap/app/cats"
)

// TestGet: the embedded default, one process and no privilege.
func TestGet(t *testing.T) {
	t.Parallel()
	bin := catflap(t)
	for _, url := range []string{"http://10.9.0.2/", "http://[fd00:9::2]/", "http://10.9.0.2:80"} {
		if r := run(t, bin, "get", url).want(t, 0); r.stdout != "Hello kitty!" || r.stderr != "" {
			t.Errorf("get %s: stdout %q, stderr %q, want Hello kitty! alone", url, r.stdout, r.stderr)
		}
	}
	t.Run("other addresses", func(t *testing.T) {
		r := run(t, bin, "get", "--addr", "192.0.2.7/24", "--host-addr", "192.0.2.1/24", "--port", "8080", "http://192.0.2.7:8080/").want(t, 0)
		if r.stdout != "Hello kitty!" {
			t.Errorf("stdout %q", r.stdout)
		}
	})
	t.Run("-i", func(t *testing.T) {
		r := run(t, bin, "get", "-i", "http://10.9.0.2/").want(t, 0)
		if !strings.HasPrefix(r.stdout, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(r.stdout, "\r\n\r\nHello kitty!") || !strings.Contains(r.stdout, "\r\nContent-Length: 12\r\n") {
			t.Errorf("stdout %q, want header, empty line and body", r.stdout)
		}
	})
	t.Run("-o", func(t *testing.T) {
		dir := t.TempDir()
		name := filepath.Join(dir, "cat.png")
		if r := run(t, bin, "get", "-o", name, "http://10.9.0.2/cat/felix.png").want(t, 0); r.stdout+r.stderr != "" {
			t.Errorf("with -o it prints %q %q", r.stdout, r.stderr)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := isPNG(answer{body: b}); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o644&info.Mode().Perm() {
			t.Errorf("the file's mode is %v, %v", info.Mode(), err)
		}
		if left, _ := os.ReadDir(dir); len(left) != 1 {
			t.Errorf("%d files beside it", len(left)-1)
		}
	})
	t.Run("much", func(t *testing.T) {
		const size = 64 << 20
		name := filepath.Join(t.TempDir(), "bytes")
		run(t, bin, "get", "-o", name, "http://10.9.0.2/bytes/67108864").want(t, 0)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if i := cats.CheckPattern(b, 0); len(b) != size || i >= 0 {
			t.Errorf("%d bytes, want %d; the first wrong one is at %d", len(b), size, i)
		}
	})
	t.Run("a small MTU", func(t *testing.T) {
		r := run(t, bin, "get", "--mtu", "68", "--addr", "10.9.0.2/24", "--host-addr", "10.9.0.1/24", "http://10.9.0.2/").want(t, 0)
		if r.stdout != "Hello kitty!" {
			t.Errorf("stdout %q", r.stdout)
		}
	})
	t.Run("no file at full disk", func(t *testing.T) {
		if _, err := os.Stat("/dev/full"); err != nil {
			t.Skip("there is no /dev/full on this system")
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		p := start(t, command{args: []string{"sh", "-c", `exec "$0" get http://10.9.0.2/ >/dev/full`, bin}})
		r := p.wait().want(t, 1)
		wantError(t, r.stderr, "no space left")
	})
	t.Run("an error's body", func(t *testing.T) {
		r := run(t, bin, "get", "http://10.9.0.2/dog")
		if r.status != 0 || !strings.Contains(r.stdout, "nothing at") {
			t.Errorf("status %d, stdout %q", r.status, r.stdout)
		}
	})
}
