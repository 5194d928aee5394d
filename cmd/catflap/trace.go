package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
	"github.com/catflap/catflap/tun/impair"
)

// traceBuffer is how many events may wait for the terminal: a few megabytes, and
// more than a second of a fast transfer's packets.
const traceBuffer = 1 << 14

// tracer prints a stack's events as one story, in the order in which they happened.
type tracer struct {
	e       *env
	sub     *stack.Subscription
	done    chan struct{}
	w       *bufio.Writer
	paint   palette
	tracker *packet.Tracker
	start   time.Time
}

func startTrace(e *env, s *stack.Stack) *tracer {
	t := &tracer{
		e: e, done: make(chan struct{}),
		sub: s.SubscribeWith(context.Background(), stack.SubscribeConfig{Buffer: traceBuffer, Kinds: stack.DefaultEvents | stack.TimerEvents}),
		w:   bufio.NewWriter(e.stderr), paint: paletteFor(e), tracker: packet.NewTracker(),
	}
	t.tracker.RelativeSYN = true
	go t.print()
	return t
}

// settleTime bounds the wait for the end of connections: a FIN and its ACK.
const settleTime = 300 * time.Millisecond

// settle waits until no connection is open, so that the story has its end.
func (t *tracer) settle(s *stack.Stack) {
	deadline := time.Now().Add(settleTime)
	for time.Now().Before(deadline) {
		open := false
		for _, k := range s.Sockets() {
			open = open || k.Network == "tcp" && k.State != "LISTEN" && k.State != "TIME-WAIT" && k.State != "CLOSED"
		}
		if !open {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(5 * time.Millisecond) // netstack forgets a connection just before it calls it closed
}

// stop prints what is left and ends the trace.
func (t *tracer) stop() {
	t.sub.Close()
	<-t.done
	if n := t.sub.Dropped(); n > 0 {
		fmt.Fprintf(t.e.stderr, "catflap: trace: %d events were lost: the terminal is slower than the stack\n", n)
	}
}

func (t *tracer) print() {
	defer close(t.done)
	for ev := range t.sub.Events() {
		if t.start.IsZero() {
			t.start = ev.Time
			if ev.Call != nil {
				t.start = ev.Call.Start
			}
		}
		switch {
		case ev.Packet != nil:
			t.packet(ev)
		case ev.Call != nil:
			t.call(ev)
		case ev.State != nil:
			t.state(ev)
		case ev.Link != nil:
			t.link(ev)
		case ev.Timer != nil:
			t.timer(ev)
		}
		if len(t.sub.Events()) == 0 {
			t.w.Flush()
		}
	}
	t.w.Flush()
}

func (t *tracer) stamp(at time.Time) string {
	return fmt.Sprintf("%9.6f", at.Sub(t.start).Seconds())
}

// detail is where the second and later lines of an entry begin.
const detail = "                 "

func (t *tracer) packet(ev stack.Event) {
	p := ev.Packet
	colour := t.paint.in
	if p.Out {
		colour = t.paint.out
	}
	fmt.Fprintf(t.w, "%s %s %s%s%s\n", t.stamp(ev.Time), arrow(p.Out), colour, t.text(p.Data, p.Len), t.paint.off)
	if p.Retransmit != "" {
		fmt.Fprintf(t.w, "%s%s%s%s\n", detail, t.paint.bad, p.Retransmit.Explain(), t.paint.off)
	}
	if p.Route != nil && !p.Out {
		fmt.Fprintf(t.w, "%sroute   %s\n", detail, p.Route.Short())
	}
	if p.Socket != nil {
		fmt.Fprintf(t.w, "%ssocket  %s\n", detail, p.Socket.Short())
	}
	if p.Drop != "" {
		fmt.Fprintf(t.w, "%s%sdropped %s%s\n", detail, t.paint.bad, p.Drop, t.paint.off)
	}
}

func arrow(out bool) string {
	if out {
		return "<- out"
	}
	return "-> in "
}

// text is a packet of n bytes of which b is the start, which is made up to its full
// length: what is printed is read from the headers.
func (t *tracer) text(b []byte, n int) string {
	if len(b) < n {
		b = append(b[:len(b):len(b)], make([]byte, n-len(b))...)
	}
	p, err := packet.Parse(b)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no IP packet", n)
	}
	return t.tracker.Format(p)
}

// link prints what was done to a packet on the link: the packet, what was done, and who asked for it.
func (t *tracer) link(ev stack.Event) {
	l := ev.Link
	if l.Action == impair.ActionDelay.String() && !l.Rule {
		return // each packet of a slow link; the times show it
	}
	why := "netem " + l.Why
	if l.Rule {
		why = "rule " + l.Why
	}
	value := ""
	switch {
	case l.Delay != 0:
		value = " " + l.Delay.String()
	case l.N != 0:
		value = fmt.Sprintf(" %d", l.N)
	}
	fmt.Fprintf(t.w, "%s %s %s\n", t.stamp(ev.Time), arrow(l.Out), t.text(l.Data, l.Len))
	fmt.Fprintf(t.w, "%s%snetem   %s%s: %s%s\n", detail, t.paint.bad, l.Action, value, why, t.paint.off)
}

// timer prints a timer that fired.
func (t *tracer) timer(ev stack.Event) {
	if m := ev.Timer; m.Action == "fired" {
		fmt.Fprintf(t.w, "%s timer  %s%s%s fired%s  (%s <- %s)\n", t.stamp(ev.Time), fdColumn(m.FD), t.paint.bad, m.Name, t.paint.off, m.Local, m.Remote)
	}
}

func (t *tracer) call(ev stack.Event) {
	c := ev.Call
	fmt.Fprintf(t.w, "%s call   %s%s%s\n", t.stamp(c.Start), t.paint.call, strace.Format(c, strace.DefaultSize), t.paint.off)
}

func (t *tracer) state(ev stack.Event) {
	s := ev.State
	fmt.Fprintf(t.w, "%s state  %s%s%s -> %s%s  (%s <- %s)\n", t.stamp(ev.Time), fdColumn(s.FD), t.paint.state, s.From, s.To, t.paint.off, s.Local, s.Remote)
}

// fdColumn is an fd, or room for one.
func fdColumn(fd int) string {
	if fd < 0 {
		return "        "
	}
	return fmt.Sprintf("fd %-4d ", fd)
}

// palette is the colours of a trace; empty strings where there are none.
type palette struct{ in, out, call, state, bad, off string }

func paletteFor(e *env) palette {
	if !isTerminal(e.stderr) || e.getenv("NO_COLOR") != "" || e.getenv("TERM") == "dumb" {
		return palette{}
	}
	return palette{in: "\x1b[36m", out: "\x1b[32m", call: "\x1b[33m", state: "\x1b[35m", bad: "\x1b[31m", off: "\x1b[0m"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
