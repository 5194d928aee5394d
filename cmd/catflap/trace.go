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
	faults  *faultLog
}

func startTrace(e *env, s *stack.Stack, link *impair.Link) *tracer {
	t := &tracer{
		faults: watchFaults(link),

		e: e, sub: s.Subscribe(context.Background(), traceBuffer), done: make(chan struct{}),
		w: bufio.NewWriter(e.stderr), paint: paletteFor(e), tracker: packet.NewTracker(),
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
	time.Sleep(5 * time.Millisecond) // the last change of state
}

// stop prints what is left and ends the trace.
func (t *tracer) stop() {
	t.faults.stop()
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
		t.printFaults(ev.Time)
		switch {
		case ev.Packet != nil:
			t.packet(ev)
		case ev.Call != nil:
			t.call(ev)
		case ev.State != nil:
			t.state(ev)
		}
		if len(t.sub.Events()) == 0 {
			t.w.Flush()
		}
	}
	t.printFaults(time.Now())
	t.w.Flush()
}

func (t *tracer) stamp(at time.Time) string {
	return fmt.Sprintf("%9.6f", at.Sub(t.start).Seconds())
}

// detail is where the second and later lines of an entry begin.
const detail = "                 "

func (t *tracer) packet(ev stack.Event) {
	p := ev.Packet
	arrow, colour := "-> in ", t.paint.in
	if p.Out {
		arrow, colour = "<- out", t.paint.out
	}
	text := fmt.Sprintf("%d bytes that are no IP packet", p.Len)
	if pk, err := packet.Parse(whole(p)); err == nil {
		text = t.tracker.Format(pk)
	}
	fmt.Fprintf(t.w, "%s %s %s%s%s\n", t.stamp(ev.Time), arrow, colour, text, t.paint.off)
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

// whole is the packet of an event, which carries only its start, at its full length:
// what is printed is read from the headers.
func whole(p *stack.PacketEvent) []byte {
	if len(p.Data) >= p.Len {
		return p.Data
	}
	b := make([]byte, p.Len)
	copy(b, p.Data)
	return b
}

func (t *tracer) call(ev stack.Event) {
	c := ev.Call
	fmt.Fprintf(t.w, "%s call   %s%s%s\n", t.stamp(c.Start), t.paint.call, c, t.paint.off)
}

func (t *tracer) state(ev stack.Event) {
	s := ev.State
	fd := "        "
	if s.FD >= 0 {
		fd = fmt.Sprintf("fd %-4d ", s.FD)
	}
	fmt.Fprintf(t.w, "%s state  %s%s%s -> %s%s  (%s <- %s)\n", t.stamp(ev.Time), fd, t.paint.state, s.From, s.To, t.paint.off, s.Local, s.Remote)
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
