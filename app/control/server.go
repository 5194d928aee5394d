package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/catflap/catflap/app/internal/httpd"
	"github.com/catflap/catflap/app/relay/bridge"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/route"
	"github.com/catflap/catflap/tun/impair"
)

// Parts are the parts of an instance that the API is about.
type Parts struct {
	Stack  *stack.Stack
	Netem  *impair.Link   // if nil, the link cannot be impaired
	Bridge *bridge.Bridge // if nil, nothing of the host can be put on the stack
}

// Server answers on a control socket. Close ends it.
type Server struct {
	path   string
	info   Info
	stack  *stack.Stack
	netem  *impair.Link
	bridge *bridge.Bridge
	http   *httpd.Server
	log    *slog.Logger

	changes sync.Mutex    // one change that takes several steps at a time
	streams chan struct{} // a token for each open event stream
}

// Serve makes the control socket at path, with mode 0600, and answers on it. A
// stale file at path gives way; if another process answers there, the error is an
// *InUseError. log may be nil.
func Serve(path string, p Parts, info Info, log *slog.Logger) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &Server{path: path, info: info, stack: p.Stack, netem: p.Netem, bridge: p.Bridge, log: log, streams: make(chan struct{}, maxStreams)}
	srv.http = httpd.New(httpd.Config{
		Name: "control socket", Handler: srv.handler(), HeaderTimeout: headerTimeout, IdleTimeout: idleTimeout,
		MaxHeader: maxHeader, MaxConns: maxConns, Logger: log,
	})
	srv.http.Serve(l)
	return srv, nil
}

// Path returns the socket's path.
func (s *Server) Path() string { return s.path }

// Close ends every request and stream, removes the socket, and waits for every
// goroutine. It may be called more than once.
func (s *Server) Close() error { return s.http.Close() }

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	answer := func(pattern string, f func(*http.Request) (any, error)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(fmt.Sprintf("%s /v%d%s", method, Version, path), func(w http.ResponseWriter, r *http.Request) {
			v, err := f(r)
			if err != nil {
				refuse(w, err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				s.log.Debug("control socket: answer", "path", r.URL.Path, "err", err)
			}
		})
	}
	answer("GET /info", func(*http.Request) (any, error) { return s.info, nil })
	answer("GET /rules", s.rules)
	answer("POST /rules", change(func(r Rule) error { return s.stack.AddRule(r.unwrap()) }))
	answer("DELETE /rules", change(s.stack.DelRule))
	answer("GET /routes", s.routes)
	answer("POST /routes", change(s.stack.AddRoute))
	answer("PUT /routes", change(s.stack.ReplaceRoute))
	answer("POST /routes/append", change(s.stack.AppendRoute))
	answer("DELETE /routes", change(s.stack.DelRoute))
	answer("GET /links", func(*http.Request) (any, error) { return s.stack.Links(), nil })
	answer("POST /addrs", change(func(a Addr) error { return s.stack.AddAddr(a.Dev, a.Prefix) }))
	answer("DELETE /addrs", change(func(a Addr) error { return s.stack.DelAddr(a.Dev, a.Prefix) }))
	answer("GET /sockets", func(*http.Request) (any, error) { return list(s.stack.Sockets()), nil })
	answer("DELETE /sockets", change(s.stack.Destroy))
	answer("GET /lookup/route", s.lookupRoute)
	answer("GET /lookup/socket", s.lookupSocket)
	answer("GET /lookup/packet", s.lookupPacket)
	answer("GET /steering", func(*http.Request) (any, error) { return list(s.stack.Steering()), nil })
	answer("POST /steering", change(s.stack.AddSteering))
	answer("DELETE /steering", change(s.stack.DelSteering))
	answer("GET /netem", s.netemState)
	answer("PUT /netem", change(s.setNetem))
	answer("DELETE /netem", change(s.clearNetem))
	answer("POST /netem/rules", s.addNetemRule)
	answer("DELETE /netem/rules", change(s.delNetemRule))
	answer("GET /forwards", s.forwards)
	answer("POST /forwards", s.forwardChange(func(f bridge.Forward) error { return s.bridge.AddForward(f) }))
	answer("DELETE /forwards", s.forwardChange(func(f bridge.Forward) error { return s.bridge.DelForward(f) }))
	answer("GET /counters", func(*http.Request) (any, error) { return s.stack.Counters(), nil })
	answer("GET /sysctl", func(*http.Request) (any, error) { return s.stack.Sysctls() })
	answer("PUT /sysctl", change(s.stack.SetSysctl))
	answer("POST /echo", change(s.stack.SendEcho))
	answer("GET /drops", func(*http.Request) (any, error) { return s.stack.Drops(), nil })
	mux.HandleFunc(fmt.Sprintf("GET /v%d/events", Version), s.events)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &httpError{http.StatusNotFound, fmt.Sprintf("%s %s: this catflap speaks version %d of the control API, which has no such request", r.Method, r.URL.Path, Version)})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(versionHeader, strconv.Itoa(Version))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

func (s *Server) forwards(*http.Request) (any, error) {
	if s.bridge == nil {
		return []bridge.Forward{}, nil
	}
	return s.bridge.Forwards(), nil
}

// forwardChange is a change of the forwards.
func (s *Server) forwardChange(do func(bridge.Forward) error) func(*http.Request) (any, error) {
	return change(func(f bridge.Forward) error {
		if s.bridge == nil {
			return fmt.Errorf("nothing of the host can be put on this stack: %w", syscall.EOPNOTSUPP)
		}
		return do(f)
	})
}

// httpError is a request that makes no sense.
type httpError struct {
	status int
	msg    string
}

func (e *httpError) Error() string { return e.msg }

func badRequest(format string, args ...any) error {
	return &httpError{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func refuse(w http.ResponseWriter, err error) {
	e, status := &Error{Message: err.Error()}, http.StatusUnprocessableEntity
	var he *httpError
	if errors.As(err, &he) {
		status = he.status
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		e.Errno = errnoName(errno)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(e) // the client may be gone
}

// change is a request whose body is one T and which answers with {}.
func change[T any](do func(T) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var v T
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			return nil, badRequest("%s %s: body: %s", r.Method, r.URL.Path, err)
		}
		return struct{}{}, do(v)
	}
}

// list makes JSON's [] of an empty list.
func list[T any](v []T) []T {
	if v == nil {
		return []T{}
	}
	return v
}

func family(q url.Values) (stack.Family, error) {
	switch v := q.Get("family"); v {
	case "", stack.IPv4.String():
		return stack.IPv4, nil
	case stack.IPv6.String():
		return stack.IPv6, nil
	default:
		return 0, badRequest("family %q: want inet or inet6", v)
	}
}

func (s *Server) rules(r *http.Request) (any, error) {
	f, err := family(r.URL.Query())
	if err != nil {
		return nil, err
	}
	out := []Rule{}
	for _, rule := range s.stack.Rules(f) {
		out = append(out, Rule{Rule: rule, Family: f})
	}
	return out, nil
}

func (s *Server) routes(r *http.Request) (any, error) {
	q := r.URL.Query()
	f, err := family(q)
	if err != nil {
		return nil, err
	}
	var t stack.TableID // 0: all
	if v := q.Get("table"); v != "" {
		if t, err = route.ParseTable(v); err != nil {
			return nil, badRequest("%s", err)
		}
	}
	return list(s.stack.Routes(f, t)), nil
}

func addr(q url.Values, name string, needed bool) (netip.Addr, error) {
	v := q.Get(name)
	if v == "" && !needed {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(v)
	if err != nil {
		return a, badRequest("%s %q: want an IP address", name, v)
	}
	return a, nil
}

func (s *Server) lookupRoute(r *http.Request) (any, error) {
	q := r.URL.Query()
	dst, err := addr(q, "dst", true)
	if err != nil {
		return nil, err
	}
	src, err := addr(q, "src", false)
	if err != nil {
		return nil, err
	}
	if src.IsValid() && src.Unmap().Is4() != dst.Unmap().Is4() {
		return nil, badRequest("from %s to %s: of different families", src, dst)
	}
	return s.stack.LookupRoute(stack.RouteQuery{Dst: dst, Src: src, IIF: q.Get("iif"), OIF: q.Get("oif")}), nil
}

func (s *Server) lookupSocket(r *http.Request) (any, error) {
	t, err := fourTuple(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return s.stack.LookupSocket(t), nil
}

func (s *Server) lookupPacket(r *http.Request) (any, error) {
	q := r.URL.Query()
	t, err := fourTuple(q)
	if err != nil {
		return nil, err
	}
	return s.stack.LookupPacket(t, q.Get("iif")), nil
}

func fourTuple(q url.Values) (t stack.FourTuple, err error) {
	if t.Network = q.Get("network"); t.Network != "tcp" && t.Network != "udp" {
		return t, badRequest("network %q: want tcp or udp", t.Network)
	}
	for _, a := range []struct {
		name string
		to   *netip.AddrPort
	}{{"src", &t.Src}, {"dst", &t.Dst}} {
		ap, err := netip.ParseAddrPort(q.Get(a.name))
		if err != nil {
			return t, badRequest("%s %q: want ADDRESS:PORT", a.name, q.Get(a.name))
		}
		*a.to = ap
	}
	if t.Src.Addr().Unmap().Is4() != t.Dst.Addr().Unmap().Is4() {
		return t, badRequest("from %s to %s: of different families", t.Src, t.Dst)
	}
	return t, nil
}
