package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"
	"unicode/utf8"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Config describes a Writer. Its zero value keeps packets whole and as they are.
type Config struct {
	// SnapLen is how many bytes of each packet are kept; if zero, all.
	SnapLen int

	// Segments cuts TCP super-packets into the segments that they become on a wire, and completes checksums
	// that were left to a device, so that whoever reads the capture finds right numbers and checksums.
	Segments bool

	// PacketBuffered has each packet leave when it is written, for a reader that follows live. Otherwise
	// packets leave by Flush, and when buffers are full.
	PacketBuffered bool

	// MaxBytes bounds what is written in all; packets that do not fit any more are counted and left out. If
	// zero, there is no bound.
	MaxBytes int64

	// Clock stamps packets that come without a time; if nil, the system's.
	Clock tcpip.Clock

	// Application is the program's name, for the file's header.
	Application string
}

// Stats count what a Writer has done.
type Stats struct {
	Packets uint64 // written; each segment counts
	Bytes   uint64 // of files
	Skipped uint64 // packets that did not fit Config.MaxBytes, or came after an error
	Lost    uint64 // packets that were lost before they came here, as Packet.Lost and Lost told
	Files   int    // begun
}

// Writer writes packets to a pcapng stream. It is safe for concurrent use. It holds no goroutine and no queue:
// whoever writes waits for the io.Writer below, so a capture of a live link goes to something that takes it at
// once, such as a file. The first error of the io.Writer ends the capture; every later call returns it.
type Writer struct {
	cfg    Config
	rotate *rotation // nil: one stream

	mu     sync.Mutex
	headed bool   // the file in hand has its header
	blocks blocks // reused; emptied into out after each block
	out    output
	ifaces []ifaceState
	stats  Stats
	began  time.Time // of the file: the time of its first packet
	err    error
	closed bool
}

// ifaceState is an interface and the counts of the file in hand.
type ifaceState struct {
	Interface
	packets, lost uint64
}

// output buffers a file, and counts what goes into it.
type output struct {
	*bufio.Writer
	file, all int64 // bytes
}

// outputBuffer holds a few dozen packets of 1500 bytes, or one super-packet.
const outputBuffer = 64 << 10

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Writer.Write(b)
	o.file += int64(n)
	o.all += int64(n)
	return n, err
}

// NewWriter returns a Writer on w, which it never closes. The file's header is written with the first interface.
func NewWriter(w io.Writer, cfg Config) *Writer {
	if cfg.Clock == nil {
		cfg.Clock = tcpip.NewStdClock()
	}
	return &Writer{cfg: cfg, out: output{Writer: bufio.NewWriterSize(w, outputBuffer)}, stats: Stats{Files: 1}}
}

var errClosed = errors.New("capture: the writer is closed")

// AddInterface adds an interface and returns its number, for Packet.Interface.
func (w *Writer) AddInterface(i Interface) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return 0, err
	}
	w.ifaces = append(w.ifaces, ifaceState{Interface: i})
	err := w.describe(len(w.ifaces) - 1)
	return len(w.ifaces) - 1, w.done(err)
}

func (w *Writer) usable() error {
	if w.err == nil && w.closed {
		return errClosed
	}
	return w.err
}

// fail keeps the first error.
func (w *Writer) fail(err error) error {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("capture: %w", err)
	}
	return w.err
}

// done ends what writes blocks.
func (w *Writer) done(err error) error {
	if err == nil && w.cfg.PacketBuffered {
		err = w.out.Flush()
	}
	return w.fail(err)
}

// describe writes an interface's description, and before the first one the file's header.
func (w *Writer) describe(i int) error {
	if !w.headed {
		w.headed = true
		w.blocks.section(runtime.GOARCH, runtime.GOOS, w.cfg.Application)
	}
	w.blocks.begin(blockInterface, uint32(linkRaw), uint32(max(w.cfg.SnapLen, 0)))
	w.blocks.text(optionName, w.ifaces[i].Name)
	w.blocks.text(optionDescription, w.ifaces[i].Description)
	w.blocks.text(optionSystem, runtime.GOOS)
	w.blocks.option(optionResolution, []byte{9}) // nanoseconds
	w.blocks.end()
	return w.emit()
}

// emit writes the blocks in hand.
func (w *Writer) emit() error {
	_, err := w.out.Write(w.blocks.b)
	w.blocks.b = w.blocks.b[:0]
	return err
}

// WritePacket writes a packet, which it does not keep. With Config.Segments it writes what the packet is on a wire.
func (w *Writer) WritePacket(p Packet) error {
	if w.cfg.Segments {
		return w.writeAll(p.Wire())
	}
	p.mark(p.gso())
	return w.writeAll([]Packet{p})
}

// writeAll writes packets that were one, and have its interface and time.
func (w *Writer) writeAll(packets []Packet) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		w.stats.Skipped += uint64(len(packets))
		return err
	}
	var now time.Time
	for _, p := range packets {
		if p.Interface < 0 || p.Interface >= len(w.ifaces) {
			return fmt.Errorf("capture: interface %d: there are %d", p.Interface, len(w.ifaces))
		}
		if p.Time.IsZero() {
			if now.IsZero() {
				now = w.cfg.Clock.Now()
			}
			p.Time = now
		}
		if err := w.write(p); err != nil {
			return w.fail(err)
		}
	}
	return w.done(nil)
}

// write writes one packet, in a new file where it is time for one.
func (w *Writer) write(p Packet) error {
	data := p.Data
	if w.cfg.SnapLen > 0 {
		data = data[:min(len(data), w.cfg.SnapLen)]
	}
	size := packetSize(p, len(data))
	if w.cfg.MaxBytes > 0 && w.out.all+size > w.cfg.MaxBytes {
		w.stats.Skipped++
		return nil
	}
	if w.rotate != nil && w.rotate.due(w.out.file+size, p.Time.Sub(w.began), w.began.IsZero()) {
		if err := w.next(); err != nil {
			return err
		}
	}
	if w.began.IsZero() {
		w.began = p.Time
	}
	i := &w.ifaces[p.Interface]
	i.packets++
	i.lost += p.Lost
	w.stats.Packets++
	w.stats.Lost += p.Lost
	high, low := stamp(p.Time)
	w.blocks.begin(blockEnhanced, uint32(p.Interface), high, low, uint32(len(data)), uint32(max(p.Length, len(p.Data))))
	w.blocks.bytes(data)
	for _, c := range p.Comments {
		w.blocks.option(optionComment, []byte(cutText(c, MaxComment)))
	}
	if flags := p.flags(); flags != 0 {
		w.blocks.option(optionFlags, binary.LittleEndian.AppendUint32(nil, flags))
	}
	if p.Lost > 0 {
		w.blocks.option(optionDropCount, binary.LittleEndian.AppendUint64(nil, p.Lost))
	}
	w.blocks.end()
	return w.emit()
}

// flags are the packet's flags in a file.
func (p *Packet) flags() (f uint32) {
	switch p.Direction {
	case In:
		f = flagInbound
	case Out:
		f = flagOutbound
	}
	if p.NoChecksum {
		f |= flagNoChecksum
	}
	if p.Super {
		f |= flagSegmentable
	}
	return f
}

// packetSize is an upper bound of the bytes of a packet in a file.
func packetSize(p Packet, data int) int64 {
	n := 32 + 4 + 8 + 12 + 4 + data // block, padding, flags, drop count, end of options
	for _, c := range p.Comments {
		n += 8 + min(len(c), MaxComment)
	}
	return int64(n)
}

// cutText shortens s to n bytes, and not amid a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Comment writes text that belongs to no packet: a block of interface statistics with the counts so far, and a
// comment. The text is cut to MaxComment bytes.
func (w *Writer) Comment(at time.Time, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	if !w.headed {
		return errors.New("capture: a comment needs an interface")
	}
	return w.done(w.statistics(0, at, text))
}

// Lost adds to the count of packets that were lost before they came here; it is told at the end of the file.
func (w *Writer) Lost(n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ifaces) > 0 {
		w.ifaces[0].lost += n
	}
	w.stats.Lost += n
}

// statistics writes an interface statistics block.
func (w *Writer) statistics(i int, at time.Time, comment string) error {
	high, low := stamp(at)
	w.blocks.begin(blockStatistics, uint32(i), high, low)
	w.blocks.text(optionComment, comment)
	w.blocks.option(optionReceived, binary.LittleEndian.AppendUint64(nil, w.ifaces[i].packets+w.ifaces[i].lost))
	w.blocks.option(optionDroppedHere, binary.LittleEndian.AppendUint64(nil, w.ifaces[i].lost))
	w.blocks.end()
	return w.emit()
}

// Flush hands on what is buffered.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.usable(); err != nil {
		return err
	}
	return w.fail(w.out.Flush())
}

// Stats returns the counts so far.
func (w *Writer) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Bytes = uint64(w.out.all)
	return s
}

// Close writes the statistics of each interface and what is buffered, and closes the files that it has opened
// itself. It returns the first error of the capture. A second call does nothing.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return w.err
	}
	w.closed = true
	return w.fail(w.finish())
}

// finish ends the file in hand.
func (w *Writer) finish() error {
	var errs []error
	if w.err == nil && w.headed {
		now := w.cfg.Clock.Now()
		for i := range w.ifaces {
			errs = append(errs, w.statistics(i, now, ""))
			w.ifaces[i].packets, w.ifaces[i].lost = 0, 0
		}
		errs = append(errs, w.out.Flush())
	}
	if w.rotate != nil {
		errs = append(errs, w.rotate.close())
	}
	return errors.Join(errs...)
}
