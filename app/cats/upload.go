package cats

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// uploadBuffers holds read buffers, large enough that a GSO super-packet or
// several fit in one read.
var uploadBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// upload counts and hashes the body as it comes.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	limit := s.cfg.MaxUpload
	if limit > 0 {
		if r.ContentLength > limit {
			s.uploadTooLarge(w)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
	}
	body := stallReader{r: r.Body, rc: http.NewResponseController(w), stall: s.cfg.StallTimeout}

	buf := uploadBuffers.Get().(*[256 << 10]byte)
	defer uploadBuffers.Put(buf)
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, body, buf[:])

	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.uploadTooLarge(w)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		fail(w, http.StatusRequestTimeout, "the upload stalled: no byte came for %v after the first %d; send the rest without such a pause", s.cfg.StallTimeout, n)
	case err != nil:
		w.Header().Set("Connection", "close")
		fail(w, http.StatusBadRequest, "the upload ended early, after %d bytes: %v", n, err)
	default:
		body := append([]byte(`{"bytes":`), strconv.FormatInt(n, 10)...)
		body = append(body, `,"sha256":"`...)
		body = hex.AppendEncode(body, sum.Sum(nil))
		body = append(body, "\"}\n"...)
		answer(w, "application/json", body)
	}
}

func (s *Server) uploadTooLarge(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	fail(w, http.StatusRequestEntityTooLarge, "the upload is larger than %d bytes, which is this server's limit; send it in parts", s.cfg.MaxUpload)
}

// stallReader reads a request's body and gives each read StallTimeout, so that
// a body may take as long as it likes while bytes keep coming. It hides the
// body's other methods, so that io.CopyBuffer uses the large buffer.
type stallReader struct {
	r     io.Reader
	rc    *http.ResponseController
	stall time.Duration // 0: no limit
}

func (b stallReader) Read(p []byte) (int, error) {
	deadline := time.Time{}
	if b.stall > 0 {
		deadline = time.Now().Add(b.stall)
	}
	// A ResponseWriter without deadlines, as of a foreign server, has limits
	// of its own.
	if err := b.rc.SetReadDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return b.r.Read(p)
}
