package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

// Limits of Read. A file that reaches one is read up to there.
const (
	MaxFile   = 2 << 30   // bytes of a file
	MaxEvents = 1_000_000 // some five minutes of 3,000 packets a second
	MaxMemory = 512 << 20 // bytes that events take, about

	maxPacket = 65535 + 40 // bytes of an IP packet, jumbograms aside
	maxFlows  = 1 << 16    // conversations whose sides are remembered, in files without directions
	eventCost = 800        // bytes that an event takes beside its packet
	stepCost  = 250        // bytes that a step of a decision takes, or an element of a call's list
)

// Recording is what a file holds.
type Recording struct {
	Interfaces []capture.Interface
	Events     []stack.Event
	Lost       uint64 // events that were lost when the file was written
	NotIP      int    // frames passed over, such as ARP
	Damaged    int    // comments of ours that could not be read; their packets are there without decisions
	Foreign    bool   // no packet carries decisions: another program's file, or a capture without comments
	Cut        string // why not all of the file was read; "" if it was
}

// Read reads a pcapng or pcap file, of ours or of another program. In a file without decisions each packet is an
// event with a direction and no more; where the file has no direction, the side that listens is taken for the
// stack. The error says why nothing could be read; of a file that ends early, Recording.Cut does.
func Read(r io.Reader) (Recording, error) {
	limited := &io.LimitedReader{R: r, N: MaxFile}
	c, err := capture.NewReader(limited)
	if err != nil {
		return Recording{}, fmt.Errorf("record: %w", err)
	}
	d := decoder{rec: Recording{Foreign: true}, sides: map[[2]string]bool{}}
	for d.rec.Cut == "" {
		p, err := c.Next()
		if err != nil {
			switch {
			case limited.N <= 0:
				d.rec.Cut = fmt.Sprintf("the file is longer than %d bytes", int64(MaxFile))
			case errors.Is(err, io.ErrUnexpectedEOF):
				d.rec.Cut = "the file ends in the midst of a packet"
			case !errors.Is(err, io.EOF):
				d.rec.Cut = err.Error()
			}
			break
		}
		d.add(p, c.Interfaces())
	}
	d.rec.Interfaces, d.rec.NotIP, d.rec.Lost = c.Interfaces(), c.NotIP(), c.Lost()
	return d.rec, nil
}

type decoder struct {
	rec    Recording
	memory int
	seq    uint64
	sides  map[[2]string]bool // which side of a conversation is the stack: see outbound
}

// add adds the events of a packet, or of a comment without one.
func (d *decoder) add(p capture.Packet, ifaces []capture.Interface) {
	var events []stack.Event
	for _, c := range p.Comments {
		if text, ok := strings.CutPrefix(c, prefix); ok {
			more, err := decode(text)
			if err != nil {
				d.rec.Damaged++
				continue
			}
			events = append(events, more...)
			d.rec.Foreign = false
		}
	}
	if len(p.Data) > 0 {
		data := p.Data[:min(len(p.Data), maxPacket)]
		if own := last(events); own != nil && own.Packet != nil {
			own.Packet.Data, own.Packet.Len = data, p.Length
		} else if own != nil && own.Link != nil && len(own.Link.Data) == 0 {
			own.Link.Data, own.Link.Len = data, p.Length
		} else {
			ev := stack.Event{Time: p.Time, Packet: &stack.PacketEvent{
				Dev: ifaces[p.Interface].Name, Len: p.Length, Data: data, FD: -1, Out: p.Direction == capture.Out,
			}}
			if p.Direction == capture.Unknown {
				ev.Packet.Out = d.outbound(ev.Packet)
			}
			events = append(events, ev)
		}
	}
	for _, ev := range events {
		if ev.Seq == 0 {
			ev.Seq = d.seq + 1
		}
		d.seq = max(d.seq, ev.Seq)
		d.rec.Events = append(d.rec.Events, ev)
		d.memory += eventCost + stepCost*steps(&ev)
	}
	d.memory += len(p.Data)
	for _, c := range p.Comments {
		d.memory += len(c)
	}
	switch {
	case len(d.rec.Events) >= MaxEvents:
		d.rec.Cut = fmt.Sprintf("there are more than %d events", MaxEvents)
	case d.memory >= MaxMemory:
		d.rec.Cut = fmt.Sprintf("its events take more than %d bytes", MaxMemory)
	}
}

// steps counts the parts of an event that there can be many of.
func steps(ev *stack.Event) (n int) {
	if ev.Call != nil {
		n = len(ev.Call.Poll) + len(ev.Call.Epoll)
		if m := ev.Call.Message; m != nil {
			n += len(m.Buffers)
		}
	}
	if ev.Packet != nil && ev.Packet.Route != nil {
		n += len(ev.Packet.Route.Tries)
	}
	if ev.Packet != nil && ev.Packet.Socket != nil {
		n += len(ev.Packet.Socket.Tries)
	}
	return n
}

func last(events []stack.Event) *stack.Event {
	if len(events) == 0 {
		return nil
	}
	return &events[len(events)-1]
}

// decode reads the JSON of a comment. What Short and Text of a decision rely on is made sure of.
func decode(text string) (events []stack.Event, err error) {
	if err := json.Unmarshal([]byte(text), &events); err != nil {
		return nil, err
	}
	for _, ev := range events {
		kinds := 0
		for _, is := range []bool{ev.Packet != nil, ev.Call != nil, ev.State != nil, ev.Sample != nil, ev.Timer != nil, ev.Link != nil} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			return nil, fmt.Errorf("event %d is of %d kinds", ev.Seq, kinds)
		}
		if ev.Packet == nil || ev.Packet.Route == nil {
			continue
		}
		l := ev.Packet.Route
		if l.Rule != nil && l.Rule.Action == stack.ActionLookup && l.Route == nil {
			return nil, fmt.Errorf("event %d: a rule without a route", ev.Seq)
		}
		family := stack.IPv4
		if l.Query.Dst.Is6() {
			family = stack.IPv6
		}
		if l.Rule != nil {
			l.Rule.Family = family
		}
		for i := range l.Tries {
			l.Tries[i].Rule.Family = family
		}
	}
	return events, nil
}

// outbound guesses the direction of a packet in a file that has none: the stack is the side that listens. That is
// whom a SYN is for, and before one is seen, who has the lower port.
func (d *decoder) outbound(ev *stack.PacketEvent) bool {
	p, err := packet.ParseStart(ev.Data, ev.Len)
	if err != nil {
		return false
	}
	src, dst := p.Src.String(), p.Dst.String()
	var sport, dport uint16
	var syn, ack bool
	switch {
	case p.TCP != nil:
		sport, dport = p.TCP.SrcPort, p.TCP.DstPort
		syn, ack = p.TCP.Flags&packet.SYN != 0, p.TCP.Flags&packet.ACK != 0
	case p.UDP != nil:
		sport, dport = p.UDP.SrcPort, p.UDP.DstPort
	}
	out := [2]string{fmt.Sprint(src, " ", sport), fmt.Sprint(dst, " ", dport)}
	back := [2]string{out[1], out[0]}
	is, known := d.sides[out]
	if known && !syn {
		return is
	}
	is = sport < dport || sport == dport && src < dst
	if syn {
		is = ack
	}
	if len(d.sides) >= maxFlows {
		clear(d.sides)
	}
	d.sides[out], d.sides[back] = is, !is
	return is
}
