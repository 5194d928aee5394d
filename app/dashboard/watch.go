package dashboard

import (
	"context"
	"sync"
	"time"

	"github.com/catflap/catflap/tun"
)

// watch follows the stack: always, or only at first and while somebody looks.
type watch struct {
	mu      sync.Mutex
	s       *Server
	viewers int
	cancel  context.CancelFunc // nil: the stack is not followed
	ended   chan struct{}      // closed once it is not
	began   time.Duration
	base    tun.Stats   // of the device, when it began
	rest    *time.Timer // ends it a while after the last viewer
}

func (w *watch) start(s *Server) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s = s
	w.follow()
}

// enter notes a viewer; leave is to be called when it goes.
func (w *watch) enter() (leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.s == nil {
		return func() {}
	}
	w.viewers++
	if w.rest != nil {
		w.rest.Stop()
		w.rest = nil
	}
	w.follow()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.viewers--
		if w.viewers == 0 && w.s.cfg.OnDemand {
			w.rest = time.AfterFunc(watchedFor, w.stop)
		}
	}
}

// follow starts to follow the stack, if nobody does.
func (w *watch) follow() {
	if w.cancel != nil || w.s.http.Context().Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(w.s.http.Context())
	w.cancel, w.began = cancel, time.Since(w.s.rec.start)
	if w.s.cfg.Wire != nil {
		w.base = w.s.cfg.Wire()
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	w.ended = ended
	w.s.http.Go(func() {
		defer close(ended)
		w.s.rec.follow(ctx, w.s.cfg.Stack, ready)
	})
	<-ready // who looks next sees what is there
}

// stop ends it, unless somebody looks again.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.viewers == 0 && w.cancel != nil {
		w.cancel()
		w.cancel = nil
		<-w.ended // before another begins
	}
}

// wire is what the device's counters were when the stack began to be followed.
func (w *watch) wire() tun.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.base
}

// since is when the stack began to be followed, in seconds; nil: it is not.
func (w *watch) since() *float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil {
		return nil
	}
	t := seconds(w.began)
	return &t
}

func (w *watch) following() bool { return w.since() != nil }
