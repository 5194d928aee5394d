package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/ring"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
	"github.com/catflap/catflap/tun/impair"
)

// Limits of what is kept for a failure. Of each the newest is kept, and what was left out is said.
const (
	// maxTimeline is how many entries are kept: some 10 MB, or the last seconds of a busy test.
	maxTimeline = 8192
	// maxCapture is how many bytes of packets are kept at each end of a link: a thousand times what is looked at.
	maxCapture = 8 << 20
	// maxEvents is how many events of one stack may wait to be kept.
	maxEvents = 4096
	// maxLog is how many lines of the timeline are logged: the first quarter and the rest from the end.
	maxLog = 160
)

// recorder keeps what happens in a Lab, for the case that the test fails. A nil recorder keeps nothing.
type recorder struct {
	lab       *Lab
	cancel    context.CancelFunc
	ctx       context.Context
	followers sync.WaitGroup // one for each stack

	mu       sync.Mutex
	entries  ring.Queue[entry] // guarded by mu, as are the fields below
	captures []*capture
	subs     []subscription
}

// subscription is a follower's.
type subscription struct {
	node string
	sub  *stack.Subscription
}

// entry is one thing that happened.
type entry struct {
	at    time.Duration // since the lab was made
	where string        // a node or link
	event *stack.Event  // of a stack, or nil
	data  []byte        // a packet that a link did something to
	text  string        // what, if it was not an event
}

func newRecorder(l *Lab) *recorder {
	r := &recorder{lab: l}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// stop ends recording.
func (r *recorder) stop() {
	if r == nil {
		return
	}
	r.cancel()
	r.followers.Wait()
}

// follow keeps what happens in a node's stack.
func (r *recorder) follow(n *stackNode) {
	if r == nil {
		return
	}
	sub := n.stack.Subscribe(r.ctx, maxEvents)
	zero := n.lab.clock.Now().Add(-n.lab.now())
	r.mu.Lock()
	r.subs = append(r.subs, subscription{n.name, sub})
	r.mu.Unlock()
	r.followers.Go(func() {
		for ev := range sub.Events() {
			at := ev.Time
			if ev.Call != nil {
				at = ev.Call.Start
			}
			if !mechanical(ev.Call) {
				r.add(entry{at: at.Sub(zero), where: n.name, event: &ev})
			}
		}
	})
}

// mechanical reports whether a call says nothing of what the program does: package net's options of every connection, and
// tries that found nothing to do.
func mechanical(c *stack.CallEvent) bool {
	return c != nil && (c.Errno == syscall.EAGAIN || strings.HasSuffix(c.Name, "sockopt"))
}

func (r *recorder) add(e entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries.Push(e)
	if r.entries.Len() > maxTimeline {
		r.entries.Pop()
	}
}

// note keeps a remark.
func (r *recorder) note(where, text string) {
	if r != nil {
		r.add(entry{at: r.lab.now(), where: where, text: text})
	}
}

// link prepares for a link's packets.
func (r *recorder) link(l *Link) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range l.ports {
		if p != nil {
			p.capture = newCapture(l.name, l.nodes[i].Name())
			r.captures = append(r.captures, p.capture)
		}
	}
}

// packet keeps a packet that a node sends or receives.
func (r *recorder) packet(p *port, out bool, data []byte) {
	if r != nil {
		p.capture.add(r.lab.clock.Now(), out, data)
	}
}

// lost keeps that a packet went no further.
func (r *recorder) lost(p *port, out bool, data []byte, why string) {
	if r == nil {
		return
	}
	r.add(entry{at: r.lab.now(), where: p.link.name, data: slices.Clone(data), text: "lost: " + why})
	if out {
		p.capture.comment(data, "lost: "+why)
	}
}

// fault keeps what a link did to a packet.
func (r *recorder) fault(l *Link, f impair.Fault, data []byte) {
	why := f.Reason
	if f.Rule != "" {
		why = "rule " + f.Rule
	}
	text := f.Action.String()
	switch f.Action {
	case impair.ActionDelay, impair.ActionHold:
		text += " " + f.Delay.String()
	case impair.ActionCorrupt:
		text += fmt.Sprintf(" bit %d", f.N)
	case impair.ActionTooBig, impair.ActionWindow:
		text += fmt.Sprintf(" %d", f.N)
	}
	text += " by " + why
	from := l.wrapped()
	if f.Packet.Dir == impair.In {
		from = 1 - from
	}
	if p := l.ports[from]; p != nil {
		p.capture.comment(data, text)
	}
	if f.Action == impair.ActionDelay && f.Rule == "" {
		return // of each packet, where there is any: its arrival shows it
	}
	r.add(entry{at: r.lab.now(), where: l.name, data: slices.Clone(data), text: fmt.Sprintf("%s (%s)", text, f.Packet)})
}

// lines writes the timeline in the order of time, and says what it lacks.
func (r *recorder) lines() (lines, lacks []string) {
	r.mu.Lock()
	entries := slices.Collect(r.entries.All())
	if n := r.entries.First(); n > 0 {
		lacks = append(lacks, fmt.Sprintf("the first %d entries of the timeline were not kept: it has the last %d", n, maxTimeline))
	}
	subs := slices.Clone(r.subs)
	r.mu.Unlock()
	for _, s := range subs {
		if n := s.sub.Dropped(); n > 0 {
			lacks = append(lacks, fmt.Sprintf("%d events of %s came too fast to be kept", n, s.node))
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(a.at - b.at) })
	width := 0
	for _, e := range entries {
		width = max(width, len(e.where))
	}
	tracker := packet.NewTracker()
	tracker.RelativeSYN = true
	for _, e := range entries {
		for i, text := range e.describe(tracker) {
			if i == 0 {
				lines = append(lines, fmt.Sprintf("%12.6f  %-*s  %s", e.at.Seconds(), width, e.where, text))
			} else {
				lines = append(lines, fmt.Sprintf("%12s  %-*s         %s", "", width, "", text))
			}
		}
	}
	return lines, lacks
}

// describe writes an entry, with details on lines of their own.
func (e entry) describe(tracker *packet.Tracker) []string {
	switch {
	case e.data != nil:
		return []string{"link   " + e.text, packetText(tracker, e.data)}
	case e.event == nil:
		return []string{"link   " + e.text}
	case e.event.Packet != nil:
		return describePacket(tracker, e.event.Packet)
	case e.event.Call != nil:
		return []string{"call   " + strace.Format(e.event.Call, strace.DefaultSize)}
	case e.event.State != nil:
		s := e.event.State
		return []string{fmt.Sprintf("state  %s > %s  %s -> %s", end(s.Local), end(s.Remote), s.From, s.To)}
	}
	return nil
}

// end names an end of a connection, and the other end of what has none, such as a listener.
func end(a netip.AddrPort) string {
	if !a.IsValid() {
		return "*:*"
	}
	return a.String()
}

func describePacket(tracker *packet.Tracker, p *stack.PacketEvent) []string {
	way := "in     "
	if p.Out {
		way = "out    "
	}
	data := p.Data
	if len(data) < p.Len {
		data = append(slices.Clone(data), make([]byte, p.Len-len(data))...) // what is written is read from the headers
	}
	lines := []string{way + packetText(tracker, data)}
	if p.Retransmit != "" {
		lines = append(lines, "sent again: "+string(p.Retransmit))
	}
	if p.Route != nil && !p.Out {
		lines = append(lines, "route   "+p.Route.Short())
	}
	if p.Socket != nil {
		lines = append(lines, "socket  "+p.Socket.Short())
	}
	if p.Drop != "" {
		lines = append(lines, "dropped "+p.Drop)
	}
	return lines
}

func packetText(tracker *packet.Tracker, data []byte) string {
	p, err := packet.Parse(data)
	if err != nil {
		return fmt.Sprintf("%d bytes that are no IP packet: %v", len(data), err)
	}
	return tracker.Format(p)
}

// report writes what was kept to files, and logs the timeline, shortened.
func (r *recorder) report() {
	if r == nil {
		return
	}
	t := r.lab.t
	t.Helper()
	r.settle()
	lines, lacks := r.lines()
	dir, err := r.lab.artifacts()
	if err == nil {
		var written []string
		if written, err = r.write(dir, lines, lacks); err == nil {
			t.Logf("lab: written to %s: %s", dir, strings.Join(written, ", "))
		}
	}
	if err != nil {
		t.Logf("lab: what happened could not be written to files: %v", err)
	}
	shown := lines
	if len(lines) > maxLog {
		first, last := maxLog/4, maxLog-maxLog/4
		shown = slices.Clone(lines[:first])
		shown = append(shown, fmt.Sprintf("%12s  %d lines left out, which %s has", "…", len(lines)-maxLog, timelineFile))
		shown = append(shown, lines[len(lines)-last:]...)
	}
	shown = append(shown, lacks...)
	t.Logf("lab: what happened, in seconds:\n%s", strings.Join(shown, "\n"))
}

// settleTime bounds the wait for events that are on their way to the timeline.
const settleTime = 100 * time.Millisecond

// settle waits until the followers have kept all events that have happened.
func (r *recorder) settle() {
	r.mu.Lock()
	subs := slices.Clone(r.subs)
	r.mu.Unlock()
	for deadline := time.Now().Add(settleTime); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !slices.ContainsFunc(subs, func(s subscription) bool { return len(s.sub.Events()) > 0 }) {
			time.Sleep(time.Millisecond) // the one that was taken
			return
		}
	}
}
