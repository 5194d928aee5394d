package cats

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

func TestUpload(t *testing.T) {
	s := start(t, Config{})
	for _, method := range []string{"POST", "PUT"} {
		for _, size := range []int64{0, 1, 256 << 10, 5<<20 + 3} {
			for _, chunked := range []bool{false, true} {
				sum := sha256.New()
				NewPattern(size).WriteTo(sum)
				var body io.Reader = NewPattern(size)
				if !chunked {
					b, _ := io.ReadAll(body)
					body = bytes.NewReader(b) // of a length the client knows
				}
				resp, got := s.do(method, "/upload", body, "Expect", "100-continue")
				var answer struct {
					Bytes  int64
					SHA256 string
				}
				if err := json.Unmarshal(got, &answer); err != nil {
					t.Fatalf("%s of %d bytes: %q: %v", method, size, got, err)
				}
				if resp.StatusCode != 200 || answer.Bytes != size || answer.SHA256 != fmt.Sprintf("%x", sum.Sum(nil)) {
					t.Errorf("%s of %d bytes (chunked %v): status %d, %s", method, size, chunked, resp.StatusCode, got)
				}
			}
		}
	}
}

func TestUploadLimit(t *testing.T) {
	s := start(t, Config{MaxUpload: 1000})
	resp, body := s.do("POST", "/upload", strings.NewReader(strings.Repeat("x", 1000)))
	if resp.StatusCode != 200 {
		t.Errorf("1000 bytes of 1000: status %d %s", resp.StatusCode, body)
	}
	for _, r := range []io.Reader{strings.NewReader(strings.Repeat("x", 1001)), NewPattern(1001)} {
		resp, body := s.do("POST", "/upload", r)
		if resp.StatusCode != 413 || !strings.Contains(string(body), "1000 bytes") {
			t.Errorf("1001 bytes of 1000 (%T): status %d %s", r, resp.StatusCode, body)
		}
	}
}

func TestUploadStallsAndSlowUploads(t *testing.T) {
	t.Parallel()                  // it waits
	const stall = 2 * time.Second // a busy machine must not keep the slow upload for so long
	s := start(t, Config{StallTimeout: stall})
	head := "POST /upload HTTP/1.1\r\nHost: cat\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"

	stuck := s.dial()
	io.WriteString(stuck, head+"four")
	all, _ := io.ReadAll(stuck)
	if !bytes.HasPrefix(all, []byte("HTTP/1.1 408 ")) || !bytes.Contains(all, []byte("after the first 4")) {
		t.Errorf("an upload that stalls is answered %q", all)
	}

	slow := s.dial()
	io.WriteString(slow, head)
	for range 10 { // twice the stall time in all, a byte each fifth
		time.Sleep(stall / 5)
		io.WriteString(slow, "x")
	}
	all, _ = io.ReadAll(slow)
	if !bytes.Contains(all, []byte(`{"bytes":10,`)) {
		t.Errorf("a slow upload is answered %q", all)
	}
}

func TestUploadCutShort(t *testing.T) {
	s := start(t, Config{})
	c := s.dial()
	io.WriteString(c, "POST /upload HTTP/1.1\r\nHost: cat\r\nContent-Length: 10\r\n\r\nfour")
	c.(interface{ CloseWrite() error }).CloseWrite()
	all, _ := io.ReadAll(c)
	if !bytes.HasPrefix(all, []byte("HTTP/1.1 400 ")) {
		t.Errorf("an upload without its end is answered %q", all)
	}
}
