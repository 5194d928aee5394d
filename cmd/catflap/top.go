package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/top"
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
		RunE: func(c *cobra.Command, _ []string) error { return runTop(c.Context(), e, o) },
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

func runTop(ctx context.Context, e *env, o topOptions) error {
	if math.IsNaN(o.delay) || o.delay < topMinDelay || o.delay > topMaxDelay {
		return remedy.Usagef("top: -d %v: want %v to %v seconds", o.delay, topMinDelay, topMaxDelay)
	}
	if !slices.Contains(top.Sorts, o.sort) {
		return remedy.Usagef("top: -s %q: want %s", o.sort, strings.Join(top.Sorts, ", "))
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	f, err := top.Start(ctx, cl, time.Duration(o.delay*float64(time.Second)))
	if err != nil {
		return fmt.Errorf("top: %w", err)
	}
	defer f.Stop()
	out, ok := e.stdout.(*os.File)
	if o.once || e.json || !ok || e.stdin == nil || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(e.stdin.Fd())) {
		err = topOnce(ctx, e, f, o.sort)
	} else {
		err = f.Show(ctx, o.sort, e.getenv("NO_COLOR") == "", e.stdin, out)
	}
	switch {
	case err == nil, errors.Is(err, context.Canceled): // a key, or a signal
		return nil
	case errors.Is(err, top.ErrEnded):
		fmt.Fprintf(e.stderr, "catflap: top: %s\n", err)
		return nil
	}
	return fmt.Errorf("top: %w", err)
}

// topOnce prints one table, after one interval.
func topOnce(ctx context.Context, e *env, f *top.Feed, by string) error {
	rows, err := f.Next(ctx, by)
	if err != nil {
		return err
	}
	if e.json {
		return e.printJSON(rows)
	}
	for _, line := range top.Lines(rows, math.MaxInt) {
		if _, err := fmt.Fprintln(e.stdout, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}
