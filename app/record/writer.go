package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
	"github.com/catflap/catflap/tun/capture"
)

// Limits of a Writer.
const (
	// maxPending is how many bytes of events may wait for a packet to ride on: a few thousand socket calls.
	// More are written by themselves.
	maxPending = 256 << 10

	// maxLines is how many lines of a comment tell what happened before a packet; what else did is counted.
	maxLines = 40

	// maxLinkData is how many bytes of a packet are kept of what the link did to it: its headers.
	maxLinkData = 128

	// maxEvent is how long the JSON of an event may be, so that it fits into a comment.
	maxEvent = capture.MaxComment - len(prefix) - len("[]")
)

// Config describes a Writer.
type Config struct {
	Interfaces []capture.Interface // known beforehand; others are added when a packet names them
	Comments   bool                // record decisions, and events other than packets; without, only packets the stack saw
	Segments   bool                // cut TCP super-packets into segments, and complete checksums; for events that carry whole packets
}

// Writer writes events to a capture. It is for one goroutine.
type Writer struct {
	w      *capture.Writer
	cfg    Config
	ifaces map[string]int

	pending [][]byte // events that wait for a packet, as JSON
	size    int      // of pending, in bytes
	lines   []string // the same in words
	more    int      // events that there was no room for in lines
	lost    uint64   // events lost since the last packet
	last    time.Time
}

// NewWriter returns a Writer on w, which is closed by Close.
func NewWriter(w *capture.Writer, cfg Config) (*Writer, error) {
	r := &Writer{w: w, cfg: cfg, ifaces: map[string]int{}}
	for _, i := range cfg.Interfaces {
		if err := r.add(i); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (w *Writer) add(i capture.Interface) (err error) {
	w.ifaces[i.Name], err = w.w.AddInterface(i)
	return err
}

func (w *Writer) iface(dev string) (int, error) {
	if _, ok := w.ifaces[dev]; !ok {
		if err := w.add(capture.Interface{Name: dev}); err != nil {
			return 0, err
		}
	}
	return w.ifaces[dev], nil
}

// Lost tells that n events before the next one were lost.
func (w *Writer) Lost(n uint64) { w.lost += n }

// WriteEvent writes an event. One that is no packet waits for the next packet.
func (w *Writer) WriteEvent(ev stack.Event) error {
	if ev.Packet != nil {
		return w.packet(ev)
	}
	if !w.cfg.Comments {
		return nil
	}
	if ev.Link != nil && NeverSeen(ev.Link) {
		return w.missing(ev)
	}
	return w.keep(ev)
}

// NeverSeen reports whether the link has lost a packet on its way in, so that the stack does not get to see it.
func NeverSeen(l *stack.LinkEvent) bool {
	return !l.Out && len(l.Data) > 0 && (l.Action == "drop" || l.Action == "reset" || l.Action == "toobig")
}

// keep keeps an event until a packet comes.
func (w *Writer) keep(ev stack.Event) error {
	if l := ev.Link; l != nil && len(l.Data) > maxLinkData {
		short := *l
		short.Data = l.Data[:maxLinkData]
		ev.Link = &short
	}
	b, err := encode(ev)
	if err != nil {
		return err
	}
	if w.size+len(b) > maxPending {
		if err := w.writePending(); err != nil {
			return err
		}
	}
	w.pending = append(w.pending, b)
	w.size += len(b)
	w.last = ev.Time
	if len(w.lines) < maxLines {
		w.lines = append(w.lines, describe(&ev))
	} else {
		w.more++
	}
	return nil
}

// encode writes an event as JSON. A decision that is too long for a comment loses what was tried on the way.
func encode(ev stack.Event) ([]byte, error) {
	b, err := marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("record: event %d: %w", ev.Seq, err)
	}
	if len(b) <= maxEvent {
		return b, nil
	}
	if p := ev.Packet; p != nil && (p.Route != nil || p.Socket != nil) {
		short := *p
		if p.Route != nil {
			route := *p.Route
			route.Tries = nil
			short.Route = &route
		}
		if p.Socket != nil {
			socket := *p.Socket
			socket.Tries = nil
			short.Socket = &socket
		}
		if b, err = marshal(stack.Event{Seq: ev.Seq, Time: ev.Time, Conn: ev.Conn, Packet: &short}); err == nil && len(b) <= maxEvent {
			return b, nil
		}
	}
	return nil, fmt.Errorf("record: event %d: its %d bytes do not fit into a comment", ev.Seq, len(b))
}

// marshal is json.Marshal for readers of comments, not of HTML.
func marshal(ev stack.Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(ev)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// comments packs events into as few comments as hold them, in their order.
func comments(events [][]byte) (all []string) {
	var b strings.Builder
	for _, ev := range events {
		if b.Len() > 0 && b.Len()+len(",")+len(ev)+len("]") > capture.MaxComment {
			all = append(all, b.String()+"]")
			b.Reset()
		}
		if b.Len() == 0 {
			b.WriteString(prefix + "[")
		} else {
			b.WriteByte(',')
		}
		b.Write(ev)
	}
	if b.Len() > 0 {
		all = append(all, b.String()+"]")
	}
	return all
}

// take takes what waits for a packet.
func (w *Writer) take() (events [][]byte, lines []string) {
	events, lines = w.pending, w.lines
	if w.more > 0 {
		lines = append(lines, fmt.Sprintf("… and %d events more", w.more))
	}
	w.pending, w.lines, w.size, w.more = nil, nil, 0, 0
	return events, lines
}

// writePending writes what waits for a packet by itself.
func (w *Writer) writePending() error {
	events, _ := w.take()
	if len(events) == 0 {
		return nil
	}
	if len(w.ifaces) == 0 {
		if err := w.add(capture.Interface{Name: "none"}); err != nil {
			return err
		}
	}
	for _, c := range comments(events) {
		if err := w.w.Comment(w.last, c); err != nil {
			return err
		}
	}
	return nil
}

// packet writes a packet that the stack got or sent.
func (w *Writer) packet(ev stack.Event) error {
	p := *ev.Packet
	out := capture.Packet{Time: ev.Time, Direction: capture.In, Length: p.Len, Data: p.Data}
	if p.Out {
		out.Direction = capture.Out
	}
	out.MSS = p.GSO
	packets := []capture.Packet{out}
	if w.cfg.Segments {
		packets = out.Wire()
	}
	for i, out := range packets {
		ev.Packet = &p
		words := decision(&p)
		if len(packets) > 1 {
			segment := p
			segment.GSO, segment.Len = 0, out.Length
			ev.Packet = &segment
			words = append(words, fmt.Sprintf("segment: %d of %d", i+1, len(packets)))
		}
		if err := w.write(out, p.Dev, ev, words); err != nil {
			return err
		}
	}
	return nil
}

// lostPacket begins the comment of a packet that the link lost before the stack could see it.
const lostPacket = "link: lost, the stack never saw it: "

// Lost reports whether a packet of a file is one that the link has lost, as NeverSeen has it.
func Lost(p capture.Packet) bool {
	return len(p.Comments) > 0 && strings.HasPrefix(p.Comments[0], lostPacket)
}

// missing writes a packet that the link has lost.
func (w *Writer) missing(ev stack.Event) error {
	l := ev.Link
	out := capture.Packet{Time: ev.Time, Direction: capture.In, Length: l.Len, Data: l.Data}
	return w.write(out, l.Dev, ev, []string{lostPacket + doing(l)})
}

// write writes a packet with its own event, and with those that waited for it.
func (w *Writer) write(p capture.Packet, dev string, ev stack.Event, words []string) (err error) {
	if p.Interface, err = w.iface(dev); err != nil {
		return err
	}
	p.Lost, w.lost = w.lost, 0
	if w.cfg.Comments {
		events, before := w.take()
		b, err := encode(withoutData(ev))
		if err != nil {
			return err
		}
		text := strings.Join(words, "\n")
		if p.Lost > 0 {
			before = append([]string{fmt.Sprintf("%d events were lost here", p.Lost)}, before...)
		}
		if len(before) > 0 {
			text += "\nbefore:\n  " + strings.Join(before, "\n  ")
		}
		p.Comments = append([]string{strings.TrimPrefix(text, "\n")}, comments(append(events, b))...)
	}
	return w.w.WritePacket(p)
}

// withoutData is an event whose packet is kept beside it.
func withoutData(ev stack.Event) stack.Event {
	if ev.Packet != nil {
		p := *ev.Packet
		p.Data = nil
		ev.Packet = &p
	}
	if ev.Link != nil {
		l := *ev.Link
		l.Data = nil
		ev.Link = &l
	}
	return ev
}

// Flush hands on what is written, for a reader that follows live. Events that wait for a packet go on waiting.
func (w *Writer) Flush() error { return w.w.Flush() }

// Close writes what still waits for a packet, and closes the capture.
func (w *Writer) Close() error {
	err := w.writePending()
	if w.lost > 0 {
		w.w.Lost(w.lost)
	}
	if cerr := w.w.Close(); err == nil {
		err = cerr
	}
	return err
}

// describe tells an event other than a packet on one line.
func describe(ev *stack.Event) string {
	switch {
	case ev.Call != nil:
		return "call: " + strace.Format(ev.Call, strace.DefaultSize)
	case ev.State != nil:
		s := ev.State
		return fmt.Sprintf("state: %s: %s → %s", conn(s.FD, s.Remote), s.From, s.To)
	case ev.Sample != nil:
		return "sample: " + sample(ev.Sample)
	case ev.Timer != nil:
		t := ev.Timer
		text := fmt.Sprintf("timer: %s: %s %s", conn(t.FD, t.Remote), t.Name, t.Action)
		if t.Action == "set" {
			text += fmt.Sprintf(", fires in %v", t.After)
		}
		return text
	case ev.Link != nil:
		l := ev.Link
		text := fmt.Sprintf("%d bytes", l.Len)
		if p, err := packet.ParseStart(l.Data, l.Len); err == nil {
			text = p.String()
		}
		way := "in"
		if l.Out {
			way = "out"
		}
		return fmt.Sprintf("link: %s: %s: %s", way, doing(l), text)
	}
	return "nothing"
}
