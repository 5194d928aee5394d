package toxiproxy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/catflap/catflap/app/relay"
	"github.com/catflap/catflap/app/relay/proxy"
	"github.com/catflap/catflap/tun/impair"
)

// APIVersion is the version of Toxiproxy whose API this is.
const APIVersion = "2.12.0"

// Limits of the server: its clients are test suites.
const (
	maxBody       = 1 << 20 // bytes; a list of proxies
	maxProxies    = 256     // each has two stacks, of some 2 MB
	maxToxics     = 64      // of a proxy
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
)

// Config says how proxies are started and stopped.
type Config struct {
	Start func(context.Context, proxy.Config) (*proxy.Proxy, error)
	Stop  func(*proxy.Proxy)
	Seed  uint64 // of toxicity and slices; 0: a random one

	Logger *slog.Logger // nil: no logs
}

// Server answers the API. Close ends it, and stops its proxies.
type Server struct {
	cfg  Config
	log  *slog.Logger
	l    net.Listener
	http *http.Server
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // one change at a time
	entries map[string]*entry
}

// entry is a proxy as the API has it.
type entry struct {
	name, listen, upstream string
	enabled                bool
	cfg                    proxy.Config
	proxy                  *proxy.Proxy   // nil: it was never enabled
	base, set              [2]impair.Spec // what others have set of the link, and what is set

	mu      sync.Mutex // guards what follows
	rng     *rand.Rand
	toxics  []*toxic
	conns   map[*conn]struct{}
	changed chan struct{} // closed when toxics change
}

// New returns a server that does not answer yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, log: cfg.Logger, entries: map[string]*entry{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for s.cfg.Seed == 0 {
		s.cfg.Seed = rand.Uint64()
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Serve answers on address, HOST:PORT.
func (s *Server) Serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.l = l
	s.http = &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	s.wg.Go(func() {
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("Toxiproxy's API", "err", err)
		}
	})
	return nil
}

// Addr is where it answers.
func (s *Server) Addr() net.Addr { return s.l.Addr() }

// Close ends the server and its proxies. It waits for every goroutine.
func (s *Server) Close() error {
	s.stop()
	var err error
	if s.http != nil {
		err = s.http.Close()
	}
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		s.halt(e)
	}
	clear(s.entries)
	return err
}

// Start starts a proxy that the API shows too.
func (s *Server) Start(ctx context.Context, cfg proxy.Config) (*proxy.Proxy, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.add(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	return e.proxy, nil
}

// add takes a proxy in. Server.mu is held.
func (s *Server) add(ctx context.Context, cfg proxy.Config, enabled bool) (*entry, error) {
	switch {
	case s.entries[cfg.Name] != nil:
		return nil, errProxyExists
	case len(s.entries) >= maxProxies:
		return nil, &apiError{fmt.Sprintf("there are %d proxies, which is the most", maxProxies), http.StatusInsufficientStorage}
	}
	if err := cfg.Spec.Validate(); err != nil {
		return nil, badRequest("%s", err)
	}
	e := &entry{
		name: cfg.Name, listen: cfg.Listen, upstream: cfg.Target, cfg: cfg,
		rng: rand.New(rand.NewPCG(s.cfg.Seed, 0)), conns: map[*conn]struct{}{}, changed: make(chan struct{}),
	}
	e.cfg.Wrap = func(accepted bool, c relay.Conn) relay.Conn {
		if accepted {
			return newConn(e, upstream, c)
		}
		return newConn(e, downstream, c)
	}
	if enabled {
		if err := s.enable(ctx, e); err != nil {
			return nil, err
		}
	}
	s.entries[e.name] = e
	return e, nil
}

// enable starts a proxy, or has it listen again.
func (s *Server) enable(ctx context.Context, e *entry) error {
	if e.enabled {
		return nil
	}
	if e.proxy != nil {
		if err := e.proxy.Enable(); err != nil {
			return err
		}
		e.enabled = true
		return nil
	}
	e.cfg.Listen, e.cfg.Target = e.listen, e.upstream
	p, err := s.cfg.Start(ctx, e.cfg)
	if err != nil {
		return err
	}
	e.proxy, e.listen, e.enabled = p, p.Addr().String(), true
	e.base, e.set = [2]impair.Spec{}, [2]impair.Spec{}
	for _, t := range e.toxics {
		t.rule = 0
	}
	return e.apply()
}

// halt stops a proxy for good.
func (s *Server) halt(e *entry) {
	if e.proxy != nil {
		s.cfg.Stop(e.proxy)
	}
	e.proxy, e.enabled = nil, false
}

// apply has the link do what the toxics ask for, beside what others have set.
func (e *entry) apply() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.changed)
	e.changed = make(chan struct{})
	for c := range e.conns {
		c.retimeLocked()
	}
	if e.proxy == nil {
		return nil
	}
	link := e.proxy.Instance().Netem()
	for _, d := range []impair.Direction{impair.In, impair.Out} {
		if now := link.Spec(d); now != e.set[d] {
			e.base[d] = now // somebody else has set it
		}
		spec, err := e.base[d], error(nil)
		for _, t := range e.toxics {
			if _, ok := t.Attributes.(ofLink); ok && t.dir() == d && t.Toxicity == 1 {
				if spec, err = add(spec, t); err != nil {
					return err
				}
			}
		}
		if spec == link.Spec(d) {
			continue
		}
		if err := link.Set(d, spec); err != nil {
			return err
		}
		e.set[d] = link.Spec(d) // with seed and limit
	}
	for _, t := range e.toxics {
		if a, ok := t.Attributes.(*rule); ok && t.rule == 0 && t.Toxicity == 1 {
			r, err := impair.ParseRule(a.Rule)
			if err != nil {
				return badRequest("%s", err)
			}
			if r.Match.Way == "" && r.Match.From == impair.AnySide && r.Verb != impair.VerbVanish {
				r.Match.Way = t.dir().String()
			}
			if t.rule, err = link.AddRule(r); err != nil {
				return badRequest("%s", err)
			}
		}
	}
	return nil
}

// dropRule takes a toxic's rule from the link.
func (e *entry) dropRule(t *toxic) {
	if t.rule != 0 && e.proxy != nil {
		e.proxy.Instance().Netem().DelRule(t.rule)
	}
	t.rule = 0
}

// view is a proxy as the API shows it.
type view struct {
	Name     string   `json:"name"`
	Listen   string   `json:"listen"`
	Upstream string   `json:"upstream"`
	Enabled  bool     `json:"enabled"`
	Toxics   []*toxic `json:"toxics"`
}

func (e *entry) view() view {
	v := view{e.name, e.listen, e.upstream, e.enabled, []*toxic{}}
	for _, stream := range []string{upstream, downstream} { // as Toxiproxy orders them
		for _, t := range e.toxics {
			if t.Stream == stream {
				v.Toxics = append(v.Toxics, t)
			}
		}
	}
	return v
}

func (e *entry) toxic(name string) *toxic {
	if i := slices.IndexFunc(e.toxics, func(t *toxic) bool { return t.Name == name }); i >= 0 {
		return e.toxics[i]
	}
	return nil
}

// setToxics replaces the list.
func (e *entry) setToxics(ts []*toxic) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.toxics = ts
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	on := func(pattern string, status int, f func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			v, err := f(r)
			var b []byte
			if err == nil && status != http.StatusNoContent {
				b, err = json.Marshal(v)
			}
			s.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				refuse(w, v, err)
				return
			}
			w.WriteHeader(status)
			w.Write(b)
		})
	}
	onProxy := func(pattern string, status int, f func(*http.Request, *entry) (any, error)) {
		on(pattern, status, func(r *http.Request) (any, error) {
			e := s.entries[r.PathValue("proxy")]
			if e == nil {
				return nil, errProxyNotFound
			}
			return f(r, e)
		})
	}
	on("GET /version", http.StatusOK, func(*http.Request) (any, error) { return map[string]string{"version": APIVersion}, nil })
	on("GET /proxies", http.StatusOK, func(*http.Request) (any, error) {
		all := map[string]view{}
		for n, e := range s.entries {
			all[n] = e.view()
		}
		return all, nil
	})
	on("POST /proxies", http.StatusCreated, s.create)
	on("POST /populate", http.StatusCreated, s.populate)
	on("POST /reset", http.StatusNoContent, s.reset)
	onProxy("GET /proxies/{proxy}", http.StatusOK, func(_ *http.Request, e *entry) (any, error) { return e.view(), nil })
	onProxy("DELETE /proxies/{proxy}", http.StatusNoContent, func(_ *http.Request, e *entry) (any, error) {
		s.halt(e)
		delete(s.entries, e.name)
		return nil, nil
	})
	onProxy("GET /proxies/{proxy}/toxics", http.StatusOK, func(_ *http.Request, e *entry) (any, error) { return e.view().Toxics, nil })
	onProxy("POST /proxies/{proxy}/toxics", http.StatusOK, s.addToxic)
	onProxy("GET /proxies/{proxy}/toxics/{toxic}", http.StatusOK, func(r *http.Request, e *entry) (any, error) {
		if t := e.toxic(r.PathValue("toxic")); t != nil {
			return t, nil
		}
		return nil, errToxicNotFound
	})
	for _, method := range []string{"POST", "PATCH"} {
		onProxy(method+" /proxies/{proxy}", http.StatusOK, s.update)
		onProxy(method+" /proxies/{proxy}/toxics/{toxic}", http.StatusOK, s.updateToxic)
	}
	onProxy("DELETE /proxies/{proxy}/toxics/{toxic}", http.StatusNoContent, func(r *http.Request, e *entry) (any, error) {
		t := e.toxic(r.PathValue("toxic"))
		if t == nil {
			return nil, errToxicNotFound
		}
		e.dropRule(t)
		e.setToxics(slices.DeleteFunc(slices.Clone(e.toxics), func(o *toxic) bool { return o == t }))
		return nil, e.apply()
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.UserAgent(), "Mozilla/") { // a page that a browser shows must not reach it
			http.Error(w, "User agent not allowed", http.StatusForbidden)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		mux.ServeHTTP(w, r)
	})
}

// refuse writes an error; v is what was done nevertheless, if anything.
func refuse(w http.ResponseWriter, v any, err error) {
	var e *apiError
	if !errors.As(err, &e) {
		e = &apiError{err.Error(), http.StatusInternalServerError}
	}
	w.WriteHeader(e.Status)
	if some, ok := v.(populated); ok {
		json.NewEncoder(w).Encode(struct {
			*apiError
			populated
		}{e, some})
		return
	}
	json.NewEncoder(w).Encode(e)
}

func decode(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return badRequest("bad request body: %s", err)
	}
	return nil
}

// input is a proxy as a client sends it.
type input struct {
	Name     string  `json:"name"`
	Listen   *string `json:"listen"`
	Upstream *string `json:"upstream"`
	Enabled  *bool   `json:"enabled"`
}

func (in *input) missing(where string) error {
	switch {
	case in.Name == "":
		return badRequest("missing required field: name%s", where)
	case in.Upstream == nil || *in.Upstream == "":
		return badRequest("missing required field: upstream%s", where)
	}
	return nil
}

// config makes a proxy's configuration; where it is to listen may be left out, as port 0 is.
func (in *input) config() proxy.Config {
	listen := "localhost:0"
	if in.Listen != nil && *in.Listen != "" {
		listen = *in.Listen
	}
	return proxy.Config{Spec: proxy.Spec{Name: in.Name, Network: "tcp", Listen: listen, Target: *in.Upstream}}
}

func (s *Server) create(r *http.Request) (any, error) {
	var in input
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if err := in.missing(""); err != nil {
		return nil, err
	}
	e, err := s.add(s.ctx, in.config(), in.Enabled == nil || *in.Enabled)
	if err != nil {
		return nil, err
	}
	return e.view(), nil
}

// populated is the answer to populate.
type populated struct {
	Proxies []view `json:"proxies"`
}

func (s *Server) populate(r *http.Request) (any, error) {
	var ins []input
	if err := decode(r, &ins); err != nil {
		return populated{}, err
	}
	for i := range ins {
		if err := ins[i].missing(fmt.Sprintf(" at proxy %d", i+1)); err != nil {
			return populated{}, err
		}
	}
	done := populated{Proxies: []view{}}
	for i := range ins {
		cfg := ins[i].config()
		if e := s.entries[cfg.Name]; e != nil {
			if e.listen == cfg.Listen && e.upstream == cfg.Target {
				done.Proxies = append(done.Proxies, e.view())
				continue
			}
			s.halt(e)
			delete(s.entries, e.name)
		}
		e, err := s.add(s.ctx, cfg, ins[i].Enabled == nil || *ins[i].Enabled)
		if err != nil {
			return done, err
		}
		done.Proxies = append(done.Proxies, e.view())
	}
	return done, nil
}

func (s *Server) reset(*http.Request) (any, error) {
	for _, e := range s.entries {
		for _, t := range e.toxics {
			e.dropRule(t)
		}
		e.setToxics(nil)
		if err := s.enable(s.ctx, e); err != nil {
			return nil, err
		}
		if err := e.apply(); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (s *Server) update(r *http.Request, e *entry) (any, error) {
	in := input{Listen: &e.listen, Upstream: &e.upstream}
	listen, upstream, enabled := e.listen, e.upstream, e.enabled
	in.Listen, in.Upstream, in.Enabled = &listen, &upstream, &enabled
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	if err := (proxy.Spec{Name: e.name, Network: "tcp", Listen: listen, Target: upstream}).Validate(); err != nil {
		return nil, badRequest("%s", err)
	}
	if listen != e.listen || upstream != e.upstream {
		s.halt(e)
		e.listen, e.upstream = listen, upstream
	}
	switch {
	case enabled:
		if err := s.enable(s.ctx, e); err != nil {
			return nil, err
		}
	case e.enabled:
		e.proxy.Disable()
		e.enabled = false
	}
	return e.view(), nil
}

func (s *Server) addToxic(r *http.Request, e *entry) (any, error) {
	var in request
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	t, err := newToxic(in)
	switch {
	case err != nil:
		return nil, err
	case e.toxic(t.Name) != nil:
		return nil, errToxicExists
	case len(e.toxics) >= maxToxics:
		return nil, &apiError{fmt.Sprintf("there are %d toxics, which is the most", maxToxics), http.StatusInsufficientStorage}
	}
	old := e.toxics
	e.setToxics(append(slices.Clone(old), t))
	return t, e.keep(old)
}

// keep applies the toxics, or has the old ones back.
func (e *entry) keep(old []*toxic) error {
	err := e.apply()
	if err != nil {
		for _, t := range e.toxics {
			if !slices.Contains(old, t) {
				e.dropRule(t)
			}
		}
		e.setToxics(old)
		return cmp.Or(err, e.apply())
	}
	return nil
}

func (s *Server) updateToxic(r *http.Request, e *entry) (any, error) {
	var in request
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	was := e.toxic(r.PathValue("toxic"))
	if was == nil {
		return nil, errToxicNotFound
	}
	b, err := json.Marshal(was.Attributes)
	if err != nil {
		return nil, err
	}
	now := *was
	now.rule = 0
	now.Attributes = attributesOf(was.Type)
	if err := json.Unmarshal(b, now.Attributes); err != nil {
		return nil, err
	}
	if err := now.change(in); err != nil {
		return nil, err
	}
	old, list := e.toxics, slices.Clone(e.toxics)
	list[slices.Index(list, was)] = &now
	e.dropRule(was)
	e.setToxics(list)
	return &now, e.keep(old)
}
