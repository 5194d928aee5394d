package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/stack"
)

// followDrain is how long after a signal events are still taken that happened before it: far longer than they take
// through the control socket.
const followDrain = 100 * time.Millisecond

// errEnough ends following without an error.
var errEnough = errors.New("enough")

// follow has see called with each event of the running instance, and idle when there is none at the moment, until
// SIGINT or SIGTERM, until the instance ends, or until see returns errEnough. Lost tells see how many events are
// missing before this one.
func follow(ctx context.Context, cl *control.Client, k control.Kinds, started func(), see func(ev *stack.Event, lost uint64) error, idle func() error) (lost uint64, err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What happened before the signal is on its way: it is still taken.
	streaming, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(followDrain, end) })()
	stream, err := cl.Events(streaming, k)
	if err != nil {
		return 0, err
	}
	defer stream.Close()
	started()
	for {
		ev, err := stream.Next()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) {
				return stream.Dropped(), err
			}
			return stream.Dropped(), nil // interrupted, or the stack has ended
		}
		missing := stream.Dropped() - lost
		lost += missing
		err = see(&ev, missing)
		if err == nil && !stream.Buffered() {
			err = idle()
		}
		if errors.Is(err, errEnough) {
			return stream.Dropped(), nil
		}
		if err != nil {
			return stream.Dropped(), err
		}
	}
}
