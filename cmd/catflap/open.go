package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/catflap/catflap/app/instance"
	"github.com/catflap/catflap/tun"
)

// running is an instance, and what prints its trace.
type running struct {
	*instance.Instance
	trace *tracer // nil: none
}

// opening is what run, serve and attach do not have in common when they start an instance.
type opening struct {
	trace   bool
	control string // path of the control socket
	board   instance.Dashboard
}

// open starts what the flags say on a device, which is the instance's from here on. The caller closes it.
func (s *setup) open(e *env, f *instanceFlags, dev *tun.Device, o opening) (r *running, err error) {
	s.instance.AdaptProcs = true
	i, err := instance.Start(s.instance, dev)
	if err != nil {
		return nil, err
	}
	r = &running{Instance: i}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if o.trace {
		r.trace = startTrace(e, i.Stack())
	}
	if err := i.Control(o.control, buildInfo().Version); err != nil {
		return nil, err
	}
	if err := f.board.open(e, i, s.port, o.board); err != nil {
		return nil, err
	}
	if s.noCats {
		i.Ready()
	} else if err := i.Serve(s.port); err != nil {
		return nil, err
	}
	return r, s.ways.open(i.Bridge())
}

// drain lets what a program has sent that has ended arrive, as a kernel would: for at most limit, and until a signal.
func (r *running) drain(ctx context.Context, e *env, limit time.Duration, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-signals:
			cancel()
		case <-done:
		}
	}()
	if err := r.Bridge().Drain(ctx); err != nil {
		fmt.Fprintln(e.stderr, "catflap: ended before all connections through the stack did; --drain is how long they may take")
	}
	if r.trace != nil {
		r.trace.settle(r.Stack())
	}
}

func (r *running) close() {
	if r.trace != nil {
		r.trace.stop()
	}
	r.Close()
}
