package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/cmd/catflap/internal/plural"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/tcpdump"
	"github.com/catflap/catflap/stack"
)

type tcpdumpOptions struct {
	text       tcpdump.Text
	dev        string
	count      int
	snap       int
	read       string
	write      string
	expression []string
}

func newTcpdump(e *env) *cobra.Command {
	o := tcpdumpOptions{}
	c := &cobra.Command{
		Use:   "tcpdump [-i DEV|any] [-n] [-S] [-e] [-q] [-x|-X|-A] [-c COUNT] [-s SNAPLEN] [-t…] [-r FILE] [-w FILE] [EXPRESSION]",
		Short: "Print packets, live, as tcpdump(1) prints them",
		Long: `tcpdump prints each packet that the stack receives and sends, until SIGINT or SIGTERM, or until the stack ends;
with -r those of a pcapng or pcap file. Addresses and ports are always numbers, as with tcpdump -n.

-e says before each packet on which device it went which way, its length, and for a TCP super-packet the segments
that it becomes. It also shows packets that the link lost before the stack could see them.

-q prints less, -x, -X and -A the bytes of each packet too. -w writes a pcapng file instead of text, as catflap capture
does.

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
	fs.StringVarP(&o.dev, "interface", "i", tcpdump.AnyDevice, "packets of the device `DEV` only; any is of all")
	fs.BoolVarP(&o.text.Quick, "quick", "q", false, "less of each packet: addresses, protocol, length")
	fs.BoolVarP(&o.text.Hex, "hex", "x", false, "the bytes of each packet, in hex")
	fs.BoolVarP(&o.text.HexASCII, "hex-ascii", "X", false, "the bytes of each packet, in hex and as text")
	fs.BoolVarP(&o.text.ASCII, "ascii", "A", false, "the bytes of each packet as text")
	fs.IntVarP(&o.snap, "snapshot-length", "s", 0, "the first `N` bytes of each packet; 0 is all")
	fs.IntVarP(&o.count, "count", "c", 0, "end after `N` packets")
	fs.StringVarP(&o.write, "write", "w", "", "write to the pcapng file `FILE`, or to stdout for -, instead of text")
	fs.BoolP("packet-buffered", "U", false, "accepted, as with tcpdump; no packet waits while no other comes")
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
	if o.snap < 0 || o.snap > tcpdump.MaxSnap {
		return remedy.Usagef("tcpdump: -s %d: want 0..%d", o.snap, tcpdump.MaxSnap)
	}
	if o.write != "" && o.read != "" {
		return &remedy.UsageError{Msg: "tcpdump: -r and -w are not for the same packets", Remedy: "to take packets out of a capture file: tcpdump -r FILE -w FILE of tcpdump itself, or Wireshark's tshark"}
	}
	if o.write != "" {
		return runCapture(ctx, e, captureOptions{command: "tcpdump", file: o.write, dev: o.dev, snapLen: o.snap, count: o.count, expression: o.expression})
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
	if err := hasDevice(ctx, cl, "tcpdump", d.o.dev); err != nil {
		return err
	}
	kinds := control.Kinds{Packets: true, Links: d.o.text.Link}
	if d.o.text.Bytes() {
		kinds.Snap = cmp.Or(d.o.snap, tcpdump.MaxSnap)
	}
	lost, err := follow(ctx, cl, kinds,
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
	if !d.o.text.Shows(ev) || !tcpdump.OnDevice(ev, d.o.dev) || !d.want.Selects(ev) {
		return nil
	}
	d.o.text.Cut(ev, d.o.snap)
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

// hasDevice refuses a device that the instance does not have.
func hasDevice(ctx context.Context, cl *control.Client, command, dev string) error {
	if dev == tcpdump.AnyDevice {
		return nil
	}
	links, err := cl.Links(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	var names []string
	for _, l := range links {
		if l.Name == dev {
			return nil
		}
		names = append(names, l.Name)
	}
	return &remedy.UsageError{Msg: fmt.Sprintf("%s: -i %s: no such device on the stack", command, dev), Remedy: "there are: " + strings.Join(append(names, tcpdump.AnyDevice), ", ")}
}
