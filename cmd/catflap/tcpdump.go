package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

type tcpdumpOptions struct {
	absolute   bool
	link       bool
	count      int
	stamp      int // how often -t was given
	read       string
	expression []string
}

func newTcpdump(e *env) *cobra.Command {
	o := tcpdumpOptions{}
	c := &cobra.Command{
		Use:   "tcpdump [-n] [-S] [-e] [-c COUNT] [-t…] [-r FILE] [EXPRESSION]",
		Short: "Print packets, live, as tcpdump(1) prints them",
		Long: `tcpdump prints each packet that the stack receives and sends, until SIGINT or SIGTERM, or until the stack ends;
with -r those of a pcapng or pcap file. Addresses and ports are always numbers, as with tcpdump -n.

-e says before each packet on which device it went which way, its length, and for a TCP super-packet the segments
that it becomes. It also shows packets that the link lost before the stack could see them.

If packets come faster than they can be printed, some are missed, and their number is told at the end.

` + exprHelp,
		Example: `  catflap tcpdump tcp port 80
  catflap tcpdump -e -c 10 'host 10.9.0.1 and not icmp'
  catflap tcpdump -tttt -S -r trace.pcapng`,
		RunE: func(c *cobra.Command, args []string) error {
			o.expression = args
			return tcpdump(c.Context(), e, o)
		},
	}
	fs := c.Flags()
	fs.BoolP("numeric", "n", false, "accepted, as with tcpdump; nothing is ever resolved to a name")
	fs.BoolP("line-buffered", "l", false, "accepted, as with tcpdump; no line waits while no packet comes")
	fs.BoolVarP(&o.absolute, "absolute-tcp-sequence-numbers", "S", false, "TCP sequence numbers as they are, not relative to the first")
	fs.BoolVarP(&o.link, "link", "e", false, "the device, the direction, the length and the segments of each packet")
	fs.IntVarP(&o.count, "count", "c", 0, "end after `N` packets")
	fs.CountVarP(&o.stamp, "time", "t", "no time; -tt seconds since 1970, -ttt since the packet before, -tttt with the date, -ttttt since the first packet")
	fs.StringVarP(&o.read, "read", "r", "", "print the packets of `FILE`, or of stdin for -")
	return c
}

func tcpdump(ctx context.Context, e *env, o tcpdumpOptions) error {
	if o.count < 0 {
		return remedy.Usagef("tcpdump: -c %d: want 0 or more", o.count)
	}
	if o.stamp > 5 {
		return remedy.Usagef("tcpdump: -t: want it five times at most")
	}
	want, err := parseExpression("tcpdump", o.expression)
	if err != nil {
		return err
	}
	d := &dumper{o: o, e: e, w: bufio.NewWriter(e.stdout), want: want, tracker: packet.NewTracker()}
	if o.read != "" {
		err = d.file()
	} else {
		err = d.live(ctx)
	}
	if err != nil {
		return fmt.Errorf("tcpdump: %w", err)
	}
	return nil
}

// dumper prints packets.
type dumper struct {
	o           tcpdumpOptions
	e           *env
	w           *bufio.Writer
	want        expression
	tracker     *packet.Tracker
	first, last time.Time
	packets     uint64
}

func (d *dumper) live(ctx context.Context) error {
	cl, err := d.e.client()
	if err != nil {
		return err
	}
	lost, err := follow(ctx, cl, control.Kinds{Packets: true, Links: d.o.link},
		func() { fmt.Fprintln(d.e.stderr, "catflap: tcpdump: listening") },
		func(ev *stack.Event, _ uint64) error { return d.event(ev) },
		d.w.Flush)
	if err = errors.Join(err, d.w.Flush()); err != nil {
		return err
	}
	fmt.Fprintf(d.e.stderr, "catflap: tcpdump: %s, %s missed\n", plural(d.packets, "packet"), plural(lost, "event"))
	return nil
}

func (d *dumper) file() error {
	f, err := openCapture(d.e, d.o.read)
	if err != nil {
		return err
	}
	if f != d.e.stdin {
		defer f.Close()
	}
	r, err := capture.NewReader(f)
	if err != nil {
		return err
	}
	for {
		p, err := r.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, d.w.Flush())
		}
		ev := stack.Event{Time: p.Time.Local()}
		name, out := r.Interfaces()[p.Interface].Name, p.Direction == capture.Out
		switch {
		case len(p.Data) == 0:
			continue
		case record.Lost(p):
			ev.Link = &stack.LinkEvent{Dev: name, Action: "drop", Len: p.Length, Data: p.Data}
		default:
			ev.Packet = &stack.PacketEvent{Dev: name, Out: out, Len: p.Length, Data: p.Data, FD: -1}
		}
		if err := d.event(&ev); err != nil {
			if errors.Is(err, errEnough) {
				err = nil
			}
			return errors.Join(err, d.w.Flush())
		}
	}
}

// event prints a packet, and with -e one that the link has lost.
func (d *dumper) event(ev *stack.Event) error {
	lost := ev.Link != nil && record.NeverSeen(ev.Link)
	if ev.Packet == nil && !(lost && d.o.link) || !d.want.want(ev) {
		return nil
	}
	if err := d.print(ev); err != nil {
		return err
	}
	if d.packets++; d.o.count > 0 && d.packets == uint64(d.o.count) {
		return errEnough
	}
	return nil
}

func (d *dumper) print(ev *stack.Event) error {
	if d.e.json {
		return d.e.printJSON(ev)
	}
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
		text = k.String()
		if !d.o.absolute {
			text = d.tracker.Format(k)
		}
	}
	if d.o.link {
		text = link + ": " + text
	}
	_, err := d.w.WriteString(d.stamp(ev.Time) + text + "\n")
	return err
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
	return fmt.Sprintf(", %s of %d bytes", plural(uint64((len(k.Payload)+p.GSO-1)/p.GSO), "segment"), p.GSO)
}

// stamp is the time before a line, as tcpdump's -t has it.
func (d *dumper) stamp(at time.Time) string {
	if d.first.IsZero() {
		d.first, d.last = at, at
	}
	since := d.last
	d.last = at
	switch d.o.stamp {
	case 1:
		return ""
	case 2:
		return fmt.Sprintf("%d.%06d ", at.Unix(), at.Nanosecond()/1000)
	case 3:
		return elapsed(at.Sub(since))
	case 4:
		return at.Format("2006-01-02 15:04:05.000000 ")
	case 5:
		return elapsed(at.Sub(d.first))
	}
	return at.Format("15:04:05.000000 ")
}

// elapsed writes a time since another.
func elapsed(t time.Duration) string {
	sign := " "
	if t < 0 {
		sign, t = "-", -t
	}
	return fmt.Sprintf("%s%02d:%02d:%02d.%06d ", sign, t/time.Hour, t/time.Minute%60, t/time.Second%60, t/time.Microsecond%1e6)
}
