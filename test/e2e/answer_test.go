package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"image/png"
	"io"
	"strings"

	"github.com/catflap/catflap/app/cats"
)

// answer is what curl received.
type answer struct {
	code string
	head string // in lower case
	body []byte
}

func isText(want string) func(answer) error {
	return func(a answer) error {
		if string(a.body) != want {
			return fmt.Errorf("body %q, want %q", a.body, want)
		}
		return nil
	}
}

func hasHead(line string) func(answer) error {
	return func(a answer) error {
		if !strings.Contains(a.head, line+"\r\n") {
			return fmt.Errorf("no %q in %s", line, a.head)
		}
		return nil
	}
}

func isSVG(a answer) error {
	var root struct{ XMLName xml.Name }
	if err := xml.Unmarshal(a.body, &root); err != nil {
		return err
	}
	if root.XMLName.Local != "svg" {
		return fmt.Errorf("the root element is %s", root.XMLName.Local)
	}
	return nil
}

func isPNG(a answer) error {
	img, err := png.Decode(bytes.NewReader(a.body))
	if err != nil {
		return err
	}
	if size := img.Bounds().Size(); size.X < 100 || size.Y < 100 {
		return fmt.Errorf("the picture is %v", size)
	}
	return nil
}

func isPattern(off int64, n int) func(answer) error {
	return func(a answer) error {
		if len(a.body) != n {
			return fmt.Errorf("%d bytes, want %d", len(a.body), n)
		}
		if i := cats.CheckPattern(a.body, off); i >= 0 {
			return fmt.Errorf("byte %d is wrong", i)
		}
		return nil
	}
}

// uploaded is the answer to an upload.
type uploaded struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func isUpload(n int) func(answer) error {
	return func(a answer) error {
		var got uploaded
		if err := json.Unmarshal(a.body, &got); err != nil {
			return err
		}
		want := uploaded{int64(n), sum(bytes.NewReader(bytes.Repeat([]byte("meow"), n/4)))}
		if got != want {
			return fmt.Errorf("got %+v, want %+v", got, want)
		}
		return nil
	}
}

// hasRemedy: an error says in one line what was wrong, and what to do.
func hasRemedy(a answer) error {
	text := string(a.body)
	if !strings.Contains(text, ";") || strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		return fmt.Errorf("not one line with a reason and a remedy: %q", text)
	}
	return nil
}

// isConn: /conn describes the very connection that asks.
func isConn(url string) func(answer) error {
	return func(a answer) error {
		var got struct {
			FD            int
			Network       string
			Local, Remote string
			State         string
			TCP           *struct {
				RTT     int64
				SndCwnd int `json:"snd_cwnd"`
			}
		}
		if err := json.Unmarshal(a.body, &got); err != nil {
			return err
		}
		host := strings.TrimPrefix(url, "http://")
		peer := strings.Replace(host, "::2]", "::1]", 1)
		peer = strings.Replace(peer, "10.9.0.2", "10.9.0.1", 1)
		if got.Local != host+":80" || !strings.HasPrefix(got.Remote, peer+":") {
			return fmt.Errorf("the 4-tuple is %s <- %s, want %s:80 <- %s:…", got.Local, got.Remote, host, peer)
		}
		if got.FD < 3 || got.Network != "tcp" || got.State != "ESTABLISHED" || got.TCP == nil || got.TCP.SndCwnd < 1 {
			return fmt.Errorf("want a connected TCP socket with its TCP_INFO, got %s", a.body)
		}
		return nil
	}
}

func sum(r io.Reader) string {
	h := sha256.New()
	io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil))
}
