package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/catflap/catflap/app/control"
	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/cmd/catflap/internal/plural"
	"github.com/catflap/catflap/cmd/catflap/internal/remedy"
	"github.com/catflap/catflap/cmd/catflap/internal/tcpdump"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

type captureOptions struct {
	command    string // whose options these are
	file       string
	dev        string
	comments   bool
	segments   bool
	snapLen    int
	count      int
	megabytes  int
	seconds    int
	files      int
	expression []string
}

func newCapture(e *env) *cobra.Command {
	o := captureOptions{command: "capture"}
	c := &cobra.Command{
		Use:   "capture -w FILE|- [-i DEV|any] [--comments] [--segments] [-s SNAPLEN] [-c COUNT] [-C MB] [-G SECONDS] [-W FILES] [EXPRESSION]",
		Short: "Capture packets to a pcapng file, with the stack's decisions as comments",
		Long: `capture writes what the stack receives and sends to a pcapng file, until SIGINT or SIGTERM, or until the stack
ends: nanosecond stamps, directions, and with --comments what the stack decided about each packet: the route, the
socket lookup, why it was dropped or sent again; what happened before it: socket calls, changes of state, samples of
the congestion window and the round-trip time, timers; and the packets that the link lost before the stack could see
them. In Wireshark: frame.comment contains "retransmission". catflap view shows all of it again.

As they cross the device, packets may be TCP super-packets of up to 64 KiB, with checksums still to be completed by
the host's kernel. --segments writes what becomes of them on a wire.

If packets come faster than they can be written, some are missed, and their number is told at the end; -s 128 keeps
the headers, and misses fewer.

-C, -G and -W number the files: of -w trace.pcapng they are trace_00001.pcapng and so on.

` + tcpdump.ExpressionHelp,
		Example: `  catflap capture -w trace.pcapng --comments
  catflap capture -w - --comments tcp port 80 | wireshark -k -i -
  catflap capture -w trace.pcapng -C 100 -W 10`,
		RunE: func(c *cobra.Command, args []string) error {
			o.expression = args
			return runCapture(c.Context(), e, o)
		},
	}
	fs := c.Flags()
	fs.StringVarP(&o.dev, "interface", "i", tcpdump.AnyDevice, "packets of the device `DEV` only; any is of all")
	fs.StringVarP(&o.file, "write", "w", "", "write to `FILE`, or to stdout for -")
	fs.BoolVar(&o.comments, "comments", false, "add the stack's decisions as comments, and the packets that the link lost")
	fs.BoolVar(&o.segments, "segments", false, "cut TCP super-packets into the segments that they become, and complete checksums")
	fs.IntVarP(&o.snapLen, "snapshot-length", "s", 0, "keep the first `N` bytes of each packet; 0 keeps all")
	fs.IntVarP(&o.count, "count", "c", 0, "end after `N` packets; a super-packet is one")
	fs.IntVarP(&o.megabytes, "file-size", "C", 0, "begin a new file before one gets larger than `N` million bytes")
	fs.IntVarP(&o.seconds, "rotate-seconds", "G", 0, "begin a new file `N` seconds after the first packet of one")
	fs.IntVarP(&o.files, "files", "W", 0, "keep the newest `N` files")
	return c
}

func (o *captureOptions) check() error {
	for _, n := range []struct {
		name  string
		value int
		max   int
	}{{"-s", o.snapLen, math.MaxInt32}, {"-c", o.count, math.MaxInt}, {"-C", o.megabytes, 1_000_000}, {"-G", o.seconds, 1 << 30}, {"-W", o.files, 99_999}} {
		if n.value < 0 || n.value > n.max {
			return remedy.Usagef("%s: %s %d: want a number from 0 to %d", o.command, n.name, n.value, n.max)
		}
	}
	rotates := o.megabytes > 0 || o.seconds > 0
	switch {
	case o.file == "":
		return &remedy.UsageError{Msg: "capture: no file", Remedy: "for example: catflap capture -w trace.pcapng; text on the terminal: catflap tcpdump"}
	case o.file == "-" && rotates:
		return remedy.Usagef("capture: -C and -G begin new files, and -w - is none")
	case o.files > 0 && !rotates:
		return remedy.Usagef("capture: -W is how many files to keep; want -C or -G with it")
	}
	return nil
}

func runCapture(ctx context.Context, e *env, o captureOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	want, err := tcpdump.ParseExpression(o.command, o.expression)
	if err != nil {
		return err
	}
	if o.file == "-" && isTerminal(e.stdout) {
		return &remedy.UsageError{Msg: o.command + ": -w -: stdout is a terminal", Remedy: "pipe it on: catflap capture -w - | wireshark -k -i -"}
	}
	cl, err := e.client()
	if err != nil {
		return err
	}
	if err := hasDevice(ctx, cl, o.command, o.dev); err != nil {
		return err
	}
	info, err := cl.Info(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", o.command, err)
	}
	cfg := capture.Config{SnapLen: o.snapLen, Application: "catflap " + buildInfo().Version}
	var file *capture.Writer
	if o.file == "-" {
		file = capture.NewWriter(e.stdout, cfg)
	} else {
		file, err = capture.Create(o.file, cfg, capture.Rotation{
			MaxBytes: int64(o.megabytes) * 1e6, MaxAge: time.Duration(o.seconds) * time.Second, Keep: o.files,
		})
		if err != nil {
			return fmt.Errorf("%s: %w", o.command, err)
		}
	}
	defer func() {
		if cerr := file.Close(); err == nil {
			err = cerr
		}
	}()
	on := capture.Interface{Name: info.Dev, Description: describeDevice(info)}
	if o.dev != tcpdump.AnyDevice && o.dev != info.Dev {
		on = capture.Interface{Name: o.dev}
	}
	w, err := record.NewWriter(file, record.Config{
		Interfaces: []capture.Interface{on},
		Comments:   o.comments, Segments: o.segments,
	})
	if err != nil {
		return err
	}
	kinds := control.Kinds{Packets: true, Snap: o.streamSnap()}
	if o.comments {
		kinds.Calls, kinds.States, kinds.Links, kinds.Samples, kinds.Timers = true, true, true, true, true
	}
	packets, missing := uint64(0), uint64(0)
	lost, err := follow(ctx, cl, kinds,
		func() { fmt.Fprintln(e.stderr, "catflap: "+o.command+": capturing on "+on.Name) },
		func(ev *stack.Event, lost uint64) error {
			w.Lost(lost)
			if !tcpdump.OnDevice(ev, o.dev) || !want.Selects(ev) {
				return nil
			}
			if err := w.WriteEvent(*ev); err != nil {
				return err
			}
			switch {
			case ev.Link != nil && record.NeverSeen(ev.Link):
				missing++
			case ev.Packet == nil:
				return nil
			}
			if packets++; o.count > 0 && packets == uint64(o.count) {
				return errEnough
			}
			return nil
		}, w.Flush)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("%s: %w", o.command, err)
	}
	text := plural.Of(packets, "packet") + " captured"
	if n := file.Stats(); n.Packets > packets && o.segments {
		text += fmt.Sprintf(" as %d", n.Packets)
	}
	if missing > 0 {
		text += fmt.Sprintf(", %d of them lost by the link", missing)
	}
	fmt.Fprintf(e.stderr, "catflap: %s: %s, %s missed\n", o.command, text, plural.Of(lost, "event"))
	return nil
}

// streamSnap is how much of each packet is needed: what is cut into segments must be whole.
func (o *captureOptions) streamSnap() int {
	const whole = 65535
	if o.snapLen == 0 || o.segments {
		return whole
	}
	return min(o.snapLen, whole)
}

// describeDevice says what a capture's packets look like.
func describeDevice(info control.Info) string {
	if info.Dev == "" {
		return ""
	}
	s := fmt.Sprintf("TUN device, driver %s, MTU %d", info.Driver, info.MTU)
	if info.Offloads != "" {
		s += ", offloads: " + info.Offloads
	}
	return s
}

// openCapture opens a capture file, or stdin for -.
func openCapture(e *env, name string) (*os.File, error) {
	if name == "-" {
		return e.stdin, nil
	}
	return os.Open(name)
}
