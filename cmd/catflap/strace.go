package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
)

// The calls of the stack's socket layer by strace's classes: %network are those of
// sockets alone, %desc those of any file descriptor.
var (
	networkCalls = []string{
		"accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom", "recvmsg",
		"sendmsg", "sendto", "setsockopt", "shutdown", "socket",
	}
	descCalls = []string{"close", "epoll_create1", "epoll_ctl", "epoll_wait", "fcntl", "ioctl", "poll", "read", "write"}
)

type straceOptions struct {
	stamp       int // how often -t was given
	relative    bool
	durations   bool
	size        int
	expressions []string
	output      string
	count       bool
}

// straceDrain is how long after a signal calls are still printed that were made
// before it: far longer than they take through the control socket.
const straceDrain = 100 * time.Millisecond

func newStrace(e *env) *cobra.Command {
	o := straceOptions{}
	c := &cobra.Command{
		Use:   "strace [-f] [-t|-tt|-ttt] [-r] [-T] [-s N] [-e trace=…] [-o FILE] [-c]",
		Short: "Follow the socket calls of the applications on the stack, live, as strace(1) prints them",
		Long: `strace prints each call that the applications on the stack make to its socket layer, when it returns,
until SIGINT or SIGTERM, or until the stack ends. If the stack makes calls faster than they can be printed,
some are lost, and their number is told at the end. A call's buffers are shown up to 512 bytes.

-e trace= takes the names of calls, or the classes %net (%network) and %desc, separated by commas; a ! before
them turns the choice round. -c counts calls instead of printing them; its seconds are those from call to
return, as with strace -w. -f changes nothing: all applications on a stack are in one process.`,
		Example: `  catflap strace -f -tt -T
  catflap strace -e trace=%net -s 100
  catflap strace -e '!read,write'`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return straceCalls(c.Context(), e, o) },
	}
	fs := c.Flags()
	fs.BoolP("follow-forks", "f", false, "accepted, as with strace; all calls are followed anyway")
	fs.CountVarP(&o.stamp, "absolute-timestamps", "t", "the time of day before each line; -tt with microseconds, -ttt in seconds since 1970")
	fs.BoolVarP(&o.relative, "relative-timestamps", "r", false, "the time since the call before")
	fs.BoolVarP(&o.durations, "syscall-times", "T", false, "how long each call took")
	fs.IntVarP(&o.size, "string-limit", "s", 32, "print up to `N` bytes of a buffer")
	fs.StringArrayVarP(&o.expressions, "expr", "e", nil, "which calls: trace=`CALL[,CALL…]`")
	fs.StringVarP(&o.output, "output", "o", "", "write to `FILE`")
	fs.BoolVarP(&o.count, "summary-only", "c", false, "count calls, errors and time, and print a table at the end")
	return c
}

func straceCalls(ctx context.Context, e *env, o straceOptions) (err error) {
	if o.size < 0 {
		return remedy.Usagef("strace: -s %d: want 0 or more", o.size)
	}
	if o.stamp > 3 {
		return remedy.Usagef("strace: -t: want it once, twice or three times")
	}
	filter, err := parseTraceFilter(o.expressions)
	if err != nil {
		return err
	}
	c, err := e.client()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// What happened before the signal is on its way: it is still printed.
	streaming, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(straceDrain, end) })()
	stream, err := c.Events(streaming, control.Kinds{Calls: true})
	if err != nil {
		return fmt.Errorf("strace: %w", err)
	}
	defer stream.Close()

	out := e.stdout
	if o.output != "" {
		f, ferr := os.Create(o.output)
		if ferr != nil {
			return fmt.Errorf("strace: %w", ferr)
		}
		defer func() {
			if cerr := f.Close(); err == nil && cerr != nil {
				err = fmt.Errorf("strace: %w", cerr)
			}
		}()
		out = f
	}
	s := &straceWriter{o: o, w: bufio.NewWriter(out), calls: map[string]*callCount{}}
	fmt.Fprintln(e.stderr, "catflap: strace: following")
	for {
		ev, err := stream.Next()
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("strace: %w", err)
			}
			break // interrupted, or the stack has ended
		}
		if filter.want(ev.Call.Name) {
			if e.json {
				err = e.printJSON(ev.Call)
			} else {
				err = s.call(ev.Call)
			}
		}
		if err == nil && !stream.Buffered() {
			err = s.w.Flush()
		}
		if err != nil {
			return fmt.Errorf("strace: %w", err)
		}
	}
	if o.count && !e.json {
		s.summary()
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("strace: %w", err)
	}
	if n := stream.Dropped(); n > 0 {
		fmt.Fprintf(e.stderr, "catflap: strace: %d events were lost: they came faster than they could be printed\n", n)
	}
	return nil
}

// traceFilter selects calls by name.
type traceFilter struct {
	names  map[string]bool // nil: all
	invert bool
}

func (f traceFilter) want(name string) bool { return f.names == nil || f.names[name] != f.invert }

// parseTraceFilter reads the values of -e; the last one counts, as with strace.
func parseTraceFilter(expressions []string) (f traceFilter, err error) {
	for _, expr := range expressions {
		set := expr
		if key, value, ok := strings.Cut(expr, "="); ok {
			if key != "trace" && key != "t" {
				return f, &remedy.UsageError{Msg: fmt.Sprintf("strace: -e %q: want trace=CALLS", expr), Remedy: "for example: -e trace=%net"}
			}
			set = value
		}
		f = traceFilter{names: map[string]bool{}}
		set, f.invert = strings.CutPrefix(set, "!")
		for name := range strings.SplitSeq(set, ",") {
			var of []string
			switch name {
			case "%net", "%network", "network":
				of = networkCalls
			case "%desc", "desc":
				of = descCalls
			case "all", "%all":
				of = slices.Concat(networkCalls, descCalls)
			case "none":
			default:
				if !slices.Contains(networkCalls, name) && !slices.Contains(descCalls, name) {
					return f, &remedy.UsageError{
						Msg:    fmt.Sprintf("strace: -e %q: invalid system call %q", expr, name),
						Remedy: "want %net, %desc, all, none, or of the stack's calls: " + strings.Join(slices.Concat(networkCalls, descCalls), ", "),
					}
				}
				of = []string{name}
			}
			for _, n := range of {
				f.names[n] = true
			}
		}
	}
	return f, nil
}

// callCount is a line of the summary.
type callCount struct {
	calls, errors int
	time          time.Duration
}

func (c *callCount) add(o callCount) {
	c.calls, c.errors, c.time = c.calls+o.calls, c.errors+o.errors, c.time+o.time
}

type straceWriter struct {
	o     straceOptions
	w     *bufio.Writer
	last  time.Time // when the call before began
	calls map[string]*callCount
}

func (s *straceWriter) call(c *stack.CallEvent) error {
	if s.o.count {
		n := callCount{calls: 1, time: c.Duration}
		if c.Error != "" {
			n.errors = 1
		}
		if s.calls[c.Name] == nil {
			s.calls[c.Name] = &callCount{}
		}
		s.calls[c.Name].add(n)
		return nil
	}
	_, err := s.w.WriteString(s.line(c))
	return err
}

// resultColumn is where strace puts " = " and the result, if there is room.
const resultColumn = 39

// line writes a call on a line of its own.
func (s *straceWriter) line(c *stack.CallEvent) string {
	prefix := s.stamp(c.Start)
	text := strace.Format(c, s.o.size)
	// The results stay in their column behind the prefix.
	if i := strings.LastIndex(text, " = "); i >= 0 {
		text = fmt.Sprintf("%-*s%s", max(resultColumn-len(prefix), 0), strings.TrimRight(text[:i], " "), text[i:])
	}
	if s.o.durations {
		text += fmt.Sprintf(" <%.6f>", c.Duration.Seconds())
	}
	return prefix + text + "\n"
}

// stamp is what -t and -r put before a line.
func (s *straceWriter) stamp(at time.Time) string {
	p := ""
	switch s.o.stamp {
	case 1:
		p = at.Local().Format("15:04:05 ")
	case 2:
		p = at.Local().Format("15:04:05.000000 ")
	case 3:
		p = fmt.Sprintf("%d.%06d ", at.Unix(), at.Nanosecond()/1000)
	}
	if s.o.relative {
		var d time.Duration
		if !s.last.IsZero() {
			d = max(at.Sub(s.last), 0)
		}
		s.last = at
		r := fmt.Sprintf("%6d.%06d", d/time.Second, d%time.Second/time.Microsecond)
		if p != "" {
			return p + "(+" + r + ") "
		}
		return r + " "
	}
	return p
}

// summary prints the table of strace -c, the calls that took longest first.
func (s *straceWriter) summary() {
	var total callCount
	for _, c := range s.calls {
		total.add(*c)
	}
	rule := strings.Repeat("-", 6) + " " + strings.Repeat("-", 11) + " " + strings.Repeat("-", 11) + " " +
		strings.Repeat("-", 9) + " " + strings.Repeat("-", 9) + " " + strings.Repeat("-", 16)
	fmt.Fprintf(s.w, "%6s %11s %11s %9s %9s %s\n%s\n", "% time", "seconds", "usecs/call", "calls", "errors", "syscall", rule)
	row := func(name string, c callCount) {
		share := 100.0
		if total.time > 0 {
			share = 100 * c.time.Seconds() / total.time.Seconds()
		}
		each, failed := time.Duration(0), ""
		if c.calls > 0 {
			each = c.time / time.Duration(c.calls)
		}
		if c.errors > 0 {
			failed = fmt.Sprint(c.errors)
		}
		fmt.Fprintf(s.w, "%6.2f %11.6f %11d %9d %9s %s\n", share, c.time.Seconds(), each.Microseconds(), c.calls, failed, name)
	}
	names := slices.SortedFunc(maps.Keys(s.calls), func(a, b string) int {
		return cmp.Or(cmp.Compare(s.calls[b].time, s.calls[a].time), cmp.Compare(a, b))
	})
	for _, n := range names {
		row(n, *s.calls[n])
	}
	fmt.Fprintln(s.w, rule)
	row("total", total)
}
