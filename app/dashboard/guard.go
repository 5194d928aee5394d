package dashboard

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// tokenHeader carries the token of a change.
const tokenHeader = "X-Catflap-Token"

// newToken makes a secret of 128 bits.
func newToken() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// refusal is an answer that something cannot be done.
type refusal struct {
	status   int
	Message  string   `json:"error"`
	Remedy   string   `json:"remedy,omitempty"`
	Place    string   `json:"place,omitempty"`    // the input, and a mark below the word that cannot stand there
	Expected []string `json:"expected,omitempty"` // what could
}

func (e *refusal) Error() string { return e.Message }

func refusef(status int, remedy, format string, args ...any) error {
	return &refusal{status: status, Message: fmt.Sprintf(format, args...), Remedy: remedy}
}

func refuse(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{status: http.StatusInternalServerError, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(r.status)
	_ = json.NewEncoder(w).Encode(r) // the client may be gone
}

// csp lets the page use what this server serves, and nothing else.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; " +
	"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// guard lets through what comes from the page itself, or from no page at all.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", csp)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		if trustworthy(r.Host) {
			h.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if err := s.admits(r); err != nil {
			refuse(w, err)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r)
	})
}

// admits checks where a request comes from.
func (s *Server) admits(r *http.Request) error {
	if !s.ownHost(r) {
		return refusef(http.StatusMisdirectedRequest, "open the address that catflap has printed; a page under another name must not read this one",
			"this dashboard does not answer for the host %q", r.Host)
	}
	// A page's own requests say so, if its browser is not older than this rule.
	if site := r.Header.Get("Sec-Fetch-Site"); strings.HasPrefix(r.URL.Path, "/api/") && site != "" && site != "same-origin" && site != "none" {
		return refusef(http.StatusForbidden, "open the dashboard in a tab of its own", "requests from other sites are not answered")
	}
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return refusef(http.StatusForbidden, "open the dashboard in a tab of its own", "requests from pages of %q are not answered", origin)
	}
	return nil
}

// hostOf is the host of a Host header, without port and brackets.
func hostOf(authority string) string {
	if h, _, err := net.SplitHostPort(authority); err == nil {
		return h
	}
	return strings.TrimSuffix(strings.TrimPrefix(authority, "["), "]")
}

// trustworthy reports whether browsers hold an origin to be so without TLS; of others they complain that they ignore
// the opener's policy.
func trustworthy(authority string) bool {
	host := hostOf(authority)
	a, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && a.IsLoopback()
}

// ownHost reports whether a request names this server: by a loopback name or address, by the address it came to, or
// by the name that the user gave to listen on. None can be another site's name.
func (s *Server) ownHost(r *http.Request) bool {
	host := hostOf(r.Host)
	if strings.EqualFold(host, "localhost") {
		return true
	}
	for _, name := range s.names() {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	a = a.Unmap()
	if a.IsLoopback() {
		return true
	}
	if l, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if ap, err := netip.ParseAddrPort(l.String()); err == nil && ap.Addr().Unmap().WithZone("") == a.WithZone("") {
			return true
		}
	}
	if s.cfg.Stack != nil {
		for _, l := range s.cfg.Stack.Links() {
			for _, p := range l.Addrs {
				if p.Addr() == a {
					return true
				}
			}
		}
	}
	return false
}

// authorized checks the token of a change.
func (s *Server) authorized(r *http.Request) error {
	token := r.Header.Get(tokenHeader)
	const remedy = "catflap has printed the token beside the dashboard's address"
	switch {
	case token == "":
		return refusef(http.StatusUnauthorized, remedy, "a change needs the token, in the header %s", tokenHeader)
	case subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1:
		return refusef(http.StatusUnauthorized, remedy, "this is not the token")
	}
	return nil
}

// change is a request that changes something: with the token, and one T as its body.
func change[T any](s *Server, do func(*http.Request, T) (any, error)) http.HandlerFunc {
	return s.answer(func(w http.ResponseWriter, r *http.Request) (any, error) {
		var v T
		if err := s.authorized(r); err != nil {
			return nil, err
		}
		if r.Method != http.MethodDelete {
			if err := decode(w, r, &v); err != nil {
				return nil, err
			}
		}
		return do(r, v)
	})
}

// decode reads a request's body.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	const remedy = "send one JSON object with the documented fields"
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return refusef(http.StatusUnsupportedMediaType, "send it as application/json", "content type %q", r.Header.Get("Content-Type"))
	}
	rc := http.NewResponseController(w)
	rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	defer rc.SetReadDeadline(time.Time{})
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more than one value")
		}
	}
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		return refusef(http.StatusRequestEntityTooLarge, remedy, "the body has more than %d bytes", big.Limit)
	case err != nil:
		return refusef(http.StatusBadRequest, remedy, "body: %s", err)
	}
	return nil
}
