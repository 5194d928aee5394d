package top

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/catflap/catflap/app/control"
)

// ErrEnded is that the instance has ended.
var ErrEnded = errors.New("the instance has ended")

// Feed asks an instance for its connections, and follows their samples.
type Feed struct {
	end     context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{} // capacity 1: there is a new look at the table
	failed  chan error    // capacity 2: why there will be no more; io.EOF when the instance has ended
	dev     string

	mu    sync.Mutex
	table table // guarded by mu
}

// Start follows an instance: it looks at the connections once before it returns, and then each delay, until ctx is done
// or Stop is called.
func Start(ctx context.Context, cl *control.Client, delay time.Duration) (*Feed, error) {
	ctx, end := context.WithCancel(ctx)
	f := &Feed{end: end, ready: make(chan struct{}, 1), failed: make(chan error, 2)}
	info, err := cl.Info(ctx)
	if err == nil {
		f.dev = info.Dev
		err = f.look(ctx, cl)
	}
	if err != nil {
		end()
		return nil, err
	}
	stream, err := cl.Events(ctx, control.Kinds{Samples: true})
	if err != nil {
		end()
		return nil, err
	}
	f.running.Go(func() {
		defer stream.Close()
		for {
			ev, err := stream.Next()
			if err != nil {
				f.failed <- err
				return
			}
			if ev.Sample != nil {
				f.mu.Lock()
				f.table.sample(ev.Sample)
				f.mu.Unlock()
			}
		}
	})
	f.running.Go(func() {
		tick := time.NewTicker(delay)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := f.look(ctx, cl); err != nil {
				f.failed <- err
				return
			}
			select {
			case f.ready <- struct{}{}:
			default:
			}
		}
	})
	return f, nil
}

func (f *Feed) look(ctx context.Context, cl *control.Client) error {
	sockets, err := cl.Sockets(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.update(sockets, time.Now())
	return nil
}

// rows returns the table, sorted.
func (f *Feed) rows(by string) ([]Row, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.rows(by), f.table.at
}

// Stop ends the feed, and waits for both of its goroutines.
func (f *Feed) Stop() {
	f.end()
	f.running.Wait()
}

// Next waits for the next look, and returns the connections, sorted. The error is ErrEnded if the instance has ended,
// and that of ctx if it is done.
func (f *Feed) Next(ctx context.Context, by string) ([]Row, error) {
	select {
	case <-f.ready:
	case err := <-f.failed:
		return nil, f.reason(ctx, err)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	rows, _ := f.rows(by)
	return rows, nil
}

// reason is why there will be no more looks.
func (f *Feed) reason(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, control.ErrNotRunning):
		return ErrEnded
	}
	return err
}
