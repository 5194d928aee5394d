package tcpdump

import (
	"fmt"
	"time"

	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/cmd/catflap/internal/plural"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// Text writes packets as tcpdump(1) does, in the order in which they are given to it.
type Text struct {
	Absolute bool // -S: TCP sequence numbers as they are, not relative to the first
	Link     bool // -e: device, direction, length and segments; and packets that the link has lost
	Stamp    int  // how often -t is given, up to MaxStamp
	Quick    bool // -q: addresses, protocol and length
	Hex      bool // -x: the bytes of a packet, in hex
	HexASCII bool // -X: in hex and as text
	ASCII    bool // -A: as text

	tracker     *packet.Tracker
	first, last time.Time
}

// MaxStamp is how often -t can be given.
const MaxStamp = 5

// Shows reports whether an event is one that has a line: a packet, and with -e one that the link has lost.
func (t *Text) Shows(ev *stack.Event) bool {
	return ev.Packet != nil || t.Link && ev.Link != nil && record.NeverSeen(ev.Link)
}

// Bytes reports whether the bytes of packets are shown.
func (t *Text) Bytes() bool { return t.Hex || t.HexASCII || t.ASCII }

// Line is the line of an event that Shows, and the lines of its bytes, without the end of line.
func (t *Text) Line(ev *stack.Event) string {
	data, length := []byte(nil), 0
	link := ""
	if p := ev.Packet; p != nil {
		data, length = p.Data, p.Len
		link = linkText(p.Dev, p.Out, p.Len)
		if p.GSO > 0 {
			link += superText(p)
		}
	} else {
		data, length = ev.Link.Data, ev.Link.Len
		link = linkText(ev.Link.Dev, ev.Link.Out, ev.Link.Len) + ", lost by the link"
	}
	text := fmt.Sprintf("%d bytes that are no IP packet", length)
	if k, err := packet.ParseStart(data, length); err == nil {
		if t.tracker == nil {
			t.tracker = packet.NewTracker()
		}
		text = k.String()
		if !t.Absolute {
			text = t.tracker.Format(k)
		}
		if t.Quick {
			text = quick(&k)
		}
	}
	if t.Link {
		text = link + ": " + text
	}
	return t.stamp(ev.Time) + text + t.bytes(data)
}

// linkText is what -e says of a packet.
func linkText(dev string, out bool, length int) string {
	way := "In "
	if out {
		way = "Out"
	}
	return fmt.Sprintf("%s %s length %d", dev, way, length)
}

// superText says what becomes of a super-packet.
func superText(p *stack.PacketEvent) string {
	k, err := packet.ParseStart(p.Data, p.Len)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(", %s of %d bytes", plural.Of(uint64((len(k.Payload)+p.GSO-1)/p.GSO), "segment"), p.GSO)
}

// stamp is the time before a line, as tcpdump's -t has it.
func (t *Text) stamp(at time.Time) string {
	if t.first.IsZero() {
		t.first, t.last = at, at
	}
	since := t.last
	t.last = at
	switch t.Stamp {
	case 1:
		return ""
	case 2:
		return fmt.Sprintf("%d.%06d ", at.Unix(), at.Nanosecond()/1000)
	case 3:
		return elapsed(at.Sub(since))
	case 4:
		return at.Format("2006-01-02 15:04:05.000000 ")
	case 5:
		return elapsed(at.Sub(t.first))
	}
	return at.Format("15:04:05.000000 ")
}

// elapsed writes a time since another.
func elapsed(d time.Duration) string {
	sign := " "
	if d < 0 {
		sign, d = "-", -d
	}
	return fmt.Sprintf("%s%02d:%02d:%02d.%06d ", sign, d/time.Hour, d/time.Minute%60, d/time.Second%60, d/time.Microsecond%1e6)
}
