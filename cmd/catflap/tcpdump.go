package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/plural"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/tcpdump"
	"github.com/catflap/catflap/stack"
)

type tcpdumpOptions struct {
	text       tcpdump.Text
	count      int
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

` + tcpdump.ExpressionHelp,
		Example: `  catflap tcpdump tcp port 80
  catflap tcpdump -e -c 10 'host 10.9.0.1 and not icmp'
  catflap tcpdump -tttt -S -r trace.pcapng`,
		RunE: func(c *cobra.Command, args []string) error {
			o.expression = args
			return runTcpdump(c.Context(), e, &o)
		},
	}
	fs := c.Flags()
	fs.BoolP("numeric", "n", false, "accepted, as with tcpdump; nothing is ever resolved to a name")
	fs.BoolP("line-buffered", "l", false, "accepted, as with tcpdump; no line waits while no packet comes")
	fs.BoolVarP(&o.text.Absolute, "absolute-tcp-sequence-numbers", "S", false, "TCP sequence numbers as they are, not relative to the first")
	fs.BoolVarP(&o.text.Link, "link", "e", false, "the device, the direction, the length and the segments of each packet")
	fs.IntVarP(&o.count, "count", "c", 0, "end after `N` packets")
	fs.CountVarP(&o.text.Stamp, "time", "t", "no time; -tt seconds since 1970, -ttt since the packet before, -tttt with the date, -ttttt since the first packet")
	fs.StringVarP(&o.read, "read", "r", "", "print the packets of `FILE`, or of stdin for -")
	return c
}

func runTcpdump(ctx context.Context, e *env, o *tcpdumpOptions) error {
	if o.count < 0 {
		return remedy.Usagef("tcpdump: -c %d: want 0 or more", o.count)
	}
	if o.text.Stamp > tcpdump.MaxStamp {
		return remedy.Usagef("tcpdump: -t: want it %d times at most", tcpdump.MaxStamp)
	}
	want, err := tcpdump.ParseExpression("tcpdump", o.expression)
	if err != nil {
		return err
	}
	d := &dumper{o: o, e: e, w: bufio.NewWriter(e.stdout), want: want}
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
	o       *tcpdumpOptions
	e       *env
	w       *bufio.Writer
	want    tcpdump.Expression
	packets uint64
}

func (d *dumper) live(ctx context.Context) error {
	cl, err := d.e.client()
	if err != nil {
		return err
	}
	lost, err := follow(ctx, cl, control.Kinds{Packets: true, Links: d.o.text.Link},
		func() { fmt.Fprintln(d.e.stderr, "catflap: tcpdump: listening") },
		func(ev *stack.Event, _ uint64) error { return d.event(ev) },
		d.w.Flush)
	if err = errors.Join(err, d.w.Flush()); err != nil {
		return err
	}
	fmt.Fprintf(d.e.stderr, "catflap: tcpdump: %s, %s missed\n", plural.Of(d.packets, "packet"), plural.Of(lost, "event"))
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
	err = tcpdump.Read(f, d.event)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, d.w.Flush())
}

// event prints an event, if it is one to show.
func (d *dumper) event(ev *stack.Event) error {
	if !d.o.text.Shows(ev) || !d.want.Selects(ev) {
		return nil
	}
	var err error
	if d.e.json {
		err = d.e.printJSON(ev)
	} else {
		_, err = d.w.WriteString(d.o.text.Line(ev) + "\n")
	}
	if err != nil {
		return err
	}
	if d.packets++; d.o.count > 0 && d.packets == uint64(d.o.count) {
		return errEnough
	}
	return nil
}
