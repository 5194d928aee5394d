package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
)

type topOptions struct {
	delay float64 // seconds
	sort  string
	once  bool
}

func newTop(e *env) *cobra.Command {
	o := topOptions{}
	c := &cobra.Command{
		Use:   "top [-d SECONDS] [-s rate|cwnd|srtt|retrans|remote] [--once]",
		Short: "The connections, live: rates, congestion window, round-trip time, retransmissions, what limits them",
		Long: `top shows the TCP connections of the running stack and redraws them each second. OUT and IN are what the peer has
acknowledged and what has arrived in order, in bits a second. SRTT is the smoothed round-trip time, with its course.
RETR counts segments sent again. LIMIT is what keeps the sender from sending more: the application, the receive
window or the congestion window.

Keys: b c t r a sort by rate, congestion window, round-trip time, retransmissions, address; arrows scroll;
p or space pauses; q or Ctrl-C quits.

Where stdout is no terminal, and with --once, one table is printed after one interval. NO_COLOR is honoured.`,
		Example: `  catflap top
  catflap top -d 0.5 -s retrans
  catflap top --once`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return top(c.Context(), e, o) },
	}
	fs := c.Flags()
	fs.Float64VarP(&o.delay, "delay", "d", 1, "redraw each `SECONDS`")
	fs.StringVarP(&o.sort, "sort", "s", "rate", "sort by `KEY`: rate, cwnd, srtt, retrans, remote")
	fs.BoolVar(&o.once, "once", false, "print one table and end")
	return c
}

// Limits of the interval between two looks, in seconds.
const (
	topMinDelay = 0.1
	topMaxDelay = 3600
)

func top(ctx context.Context, e *env, o topOptions) error {
	if math.IsNaN(o.delay) || o.delay < topMinDelay || o.delay > topMaxDelay {
		return remedy.Usagef("top: -d %v: want %v to %v seconds", o.delay, topMinDelay, topMaxDelay)
	}
	if !slices.Contains(topSorts, o.sort) {
		return remedy.Usagef("top: -s %q: want %s", o.sort, strings.Join(topSorts, ", "))
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := startTopFeed(ctx, cl, time.Duration(o.delay*float64(time.Second)))
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	defer f.stop()
	in, out := e.stdin, e.stdout
	tty, ok := out.(*os.File)
	if o.once || e.json || !ok || in == nil || !term.IsTerminal(int(tty.Fd())) || !term.IsTerminal(int(in.Fd())) {
		err = topOnce(ctx, e, f, o)
	} else {
		err = topScreen(ctx, e, f, o, in, tty)
	}
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	return nil
}

// topFeed asks the instance for its connections, and follows their samples.
type topFeed struct {
	end     context.CancelFunc
	running sync.WaitGroup
	ready   chan struct{} // capacity 1: there is a new look at the table
	failed  chan error    // capacity 2: why there will be no more; io.EOF when the instance has ended
	dev     string

	mu    sync.Mutex
	table topTable
}

// startTopFeed starts following; the first look is taken when it returns.
func startTopFeed(ctx context.Context, cl *control.Client, delay time.Duration) (*topFeed, error) {
	ctx, end := context.WithCancel(ctx)
	f := &topFeed{end: end, ready: make(chan struct{}, 1), failed: make(chan error, 2)}
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

func (f *topFeed) look(ctx context.Context, cl *control.Client) error {
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
func (f *topFeed) rows(by string) ([]topRow, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.table.rows(by), f.table.at
}

// stop ends both goroutines.
func (f *topFeed) stop() {
	f.end()
	f.running.Wait()
}

// ended turns the reason for the end of the feed into an error, or nil for an instance that has ended.
func (f *topFeed) ended(ctx context.Context, e *env, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, control.ErrNotRunning) {
		fmt.Fprintln(e.stderr, "catflap: top: the instance has ended")
		return nil
	}
	return err
}

// topOnce prints one table, after one interval.
func topOnce(ctx context.Context, e *env, f *topFeed, o topOptions) error {
	select {
	case <-f.ready:
	case err := <-f.failed:
		return f.ended(ctx, e, err)
	case <-ctx.Done():
		return nil
	}
	rows, _ := f.rows(o.sort)
	if e.json {
		if rows == nil {
			rows = []topRow{}
		}
		return e.printJSON(rows)
	}
	for _, line := range topLines(rows, math.MaxInt) {
		if _, err := fmt.Fprintln(e.stdout, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

// topSorts are what rows can be sorted by.
var topSorts = []string{"rate", "cwnd", "srtt", "retrans", "remote"}

// sortRows sorts rows, the largest first.
func sortRows(rows []topRow, by string) {
	slices.SortFunc(rows, func(a, b topRow) int {
		c := 0
		switch by {
		case "rate":
			c = cmp.Compare(b.Out+b.In, a.Out+a.In)
		case "cwnd":
			c = cmp.Compare(b.Cwnd, a.Cwnd)
		case "srtt":
			c = cmp.Compare(b.SRTT, a.SRTT)
		case "retrans":
			c = cmp.Compare(b.Retransmits, a.Retransmits)
		}
		return cmp.Or(c, a.Remote.Compare(b.Remote), a.Local.Compare(b.Local))
	})
}
