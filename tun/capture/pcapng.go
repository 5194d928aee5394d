package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"
)

// Blocks of pcapng (draft-ietf-opsawg-pcapng section 4). Both directions are here: pcapgo's reader refuses
// version 1.2, miscounts binary time stamps and those in seconds, and reads the options of big-endian sections in
// the wrong order; its writer has no flags for what is left to a device.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockPacket     = 2 // obsolete
	blockSimple     = 3
	blockStatistics = 5
	blockEnhanced   = 6

	byteOrderMagic = 0x1a2b3c4d
)

// Options of blocks.
const (
	optionEnd     = 0
	optionComment = 1

	optionHardware    = 2 // of a section
	optionOS          = 3
	optionApplication = 4

	optionName        = 2 // of an interface
	optionDescription = 3
	optionResolution  = 9
	optionSystem      = 12
	optionOffset      = 14

	optionFlags     = 2 // of a packet
	optionDropCount = 4

	optionReceived    = 4 // of statistics
	optionDroppedHere = 5
)

// Bits of a packet's flags (draft-ietf-opsawg-pcapng section 4.3.1).
const (
	flagInbound     = 1
	flagOutbound    = 2
	flagDirection   = 3
	flagNoChecksum  = 1 << 9
	flagSegmentable = 1 << 11
)

// Bounds of what is believed: Wireshark's.
const (
	maxBlock  = 16 << 20 // bytes
	maxPacket = 256 << 10
)

// blocks encodes blocks in little endian, with nanosecond stamps.
type blocks struct {
	b       []byte
	start   int // of the block in hand
	options bool
}

func (e *blocks) begin(kind uint32, fields ...uint32) {
	e.start, e.options = len(e.b), false
	e.uint32(kind, 0) // the length comes with end
	e.uint32(fields...)
}

func (e *blocks) uint32(values ...uint32) {
	for _, v := range values {
		e.b = binary.LittleEndian.AppendUint32(e.b, v)
	}
}

// bytes appends b and pads it to a multiple of four.
func (e *blocks) bytes(b []byte) {
	e.b = append(e.b, b...)
	e.b = append(e.b, make([]byte, -len(b)&3)...)
}

func (e *blocks) option(code uint16, value []byte) {
	e.options = true
	e.b = binary.LittleEndian.AppendUint16(e.b, code)
	e.b = binary.LittleEndian.AppendUint16(e.b, uint16(len(value)))
	e.bytes(value)
}

// text appends an option unless it is empty.
func (e *blocks) text(code uint16, s string) {
	if s != "" {
		e.option(code, []byte(cutText(s, MaxComment)))
	}
}

func (e *blocks) end() {
	if e.options {
		e.uint32(optionEnd)
	}
	size := uint32(len(e.b) + 4 - e.start)
	binary.LittleEndian.PutUint32(e.b[e.start+4:], size)
	e.uint32(size)
}

// stamp is a time in the two words that blocks have for it.
func stamp(t time.Time) (high, low uint32) {
	ns := uint64(t.UnixNano())
	return uint32(ns >> 32), uint32(ns)
}

// section appends a section header.
func (e *blocks) section(hardware, system, application string) {
	e.begin(blockSection, byteOrderMagic, 1, 0xffffffff, 0xffffffff) // version 1.0, of any length
	e.text(optionHardware, hardware)
	e.text(optionOS, system)
	e.text(optionApplication, application)
	e.end()
}

// ngFile reads the blocks of a pcapng file.
type ngFile struct {
	r      io.Reader
	order  binary.ByteOrder // of the section
	ifaces []*source        // of the section
	body   bytes.Buffer     // of the block in hand, reused
}

// source is an interface of a file.
type source struct {
	Interface
	number int // among the interfaces of the Reader; -1: it was not asked for yet
	link   linkType
	snap   uint32 // bytes of each packet at most; 0: all
	units  uint64 // of time stamps in a second; 0: more than a time stamp can count
	offset int64  // seconds to add
}

// newNgFile reads the first section header.
func newNgFile(r io.Reader) (*ngFile, error) {
	n := &ngFile{r: r}
	_, err := n.block()
	return n, err
}

// block reads a block, and returns its kind. Its body, without lengths, is n.body. At the end of the file the error
// is io.EOF.
func (n *ngFile) block() (kind uint32, err error) {
	var head [12]byte
	if _, err := io.ReadFull(n.r, head[:8]); err != nil {
		return 0, err
	}
	n.body.Reset()
	least := uint32(12)
	if binary.BigEndian.Uint32(head[:]) == blockSection {
		if _, err := io.ReadFull(n.r, head[8:12]); err != nil {
			return 0, cutOff(err)
		}
		switch uint32(byteOrderMagic) {
		case binary.LittleEndian.Uint32(head[8:]):
			n.order = binary.LittleEndian
		case binary.BigEndian.Uint32(head[8:]):
			n.order = binary.BigEndian
		default:
			return 0, fmt.Errorf("byte-order magic 0x%x in a section header", head[8:12])
		}
		n.body.Write(head[8:12])
		least = 28
	}
	kind = n.order.Uint32(head[:])
	size := n.order.Uint32(head[4:])
	if size < least || size > maxBlock {
		return 0, fmt.Errorf("a block of kind 0x%x with a length of %d bytes: want %d to %d", kind, size, least, maxBlock)
	}
	want := int64(size+3)&^3 - 8 - int64(n.body.Len()) // some writers do not count the padding
	if _, err := io.CopyN(&n.body, n.r, want); err != nil {
		return 0, cutOff(err)
	}
	end := n.body.Len() - 4
	if again := n.order.Uint32(n.body.Bytes()[end:]); again != size {
		return 0, fmt.Errorf("a block of kind 0x%x has a length of %d bytes at its start and of %d at its end", kind, size, again)
	}
	n.body.Truncate(end)
	if kind == blockSection {
		return kind, n.section()
	}
	return kind, nil
}

// cutOff is the error of a file that ends amid a block.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// errShortBlock is of a block that does not hold what it has to.
var errShortBlock = errors.New("a block is too short for its fields")

// section reads a section header. Version 1.2 was given out by mistake, and is to be read as 1.0.
func (n *ngFile) section() error {
	b := n.body.Bytes()
	major, minor := n.order.Uint16(b[4:]), n.order.Uint16(b[6:])
	if major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("pcapng version %d.%d: want 1.0", major, minor)
	}
	n.ifaces = nil
	return nil
}

// next reads up to a block that tells of packets.
func (n *ngFile) next() (frame, error) {
	for {
		kind, err := n.block()
		if err != nil {
			return frame{}, err
		}
		switch kind {
		case blockInterface:
			if err := n.iface(); err != nil {
				return frame{}, err
			}
		case blockEnhanced, blockPacket:
			return n.packet(kind)
		case blockSimple:
			return n.simple()
		case blockStatistics:
			return n.statistics()
		}
	}
}

// option is an option of a block.
type option struct {
	code  uint16
	value []byte
}

// read splits b into options. Those that name no end end with the block.
func (n *ngFile) options(b []byte) (all []option, err error) {
	for len(b) >= 4 {
		o := option{code: n.order.Uint16(b)}
		size := int(n.order.Uint16(b[2:]))
		b = b[4:]
		if o.code == optionEnd {
			return all, nil
		}
		if size > len(b) {
			return nil, fmt.Errorf("an option of %d bytes in a block that has %d left", size, len(b))
		}
		o.value = b[:size]
		b = b[min(len(b), (size+3)&^3):]
		all = append(all, o)
	}
	return all, nil
}

// iface reads an interface description.
func (n *ngFile) iface() error {
	b := n.body.Bytes()
	if len(b) < 8 {
		return errShortBlock
	}
	s := &source{number: -1, link: linkType(n.order.Uint16(b)), snap: n.order.Uint32(b[4:]), units: 1e6}
	options, err := n.options(b[8:])
	if err != nil {
		return err
	}
	for _, o := range options {
		switch {
		case o.code == optionName:
			s.Name = string(o.value)
		case o.code == optionDescription:
			s.Description = string(o.value)
		case o.code == optionResolution && len(o.value) == 1:
			s.units = resolution(o.value[0])
		case o.code == optionOffset && len(o.value) == 8:
			s.offset = int64(n.order.Uint64(o.value))
		}
	}
	n.ifaces = append(n.ifaces, s)
	return nil
}

// resolution reads if_tsresol: units of time in a second, a power of two if the highest bit is set, else of ten. It is
// 0 if they are so small that no time stamp reaches a second.
func resolution(v byte) uint64 {
	const binary, twos, tens = 0x80, 63, 19 // the largest powers in 64 bits
	if v&binary != 0 {
		if v &^= binary; v > twos {
			return 0
		}
		return 1 << v
	}
	if v > tens {
		return 0
	}
	units := uint64(1)
	for range v {
		units *= 10
	}
	return units
}

// maxSeconds is the end of the year 9999, behind which times have no text in many formats.
const maxSeconds = 253402300799

// time is what a time stamp means. A second's part is computed in 128 bits, since neither 2^63 nor 10^19 units leave
// room to multiply.
func (s *source) time(units uint64) time.Time {
	var seconds, ns uint64
	if s.units > 0 {
		seconds = min(units/s.units, maxSeconds)
		high, low := bits.Mul64(units%s.units, uint64(time.Second))
		ns, _ = bits.Div64(high, low, s.units)
	}
	at := int64(seconds) + s.offset
	if at < 0 || at > maxSeconds {
		at, ns = max(0, min(at, maxSeconds)), 0
	}
	return time.Unix(at, int64(ns)).UTC()
}

// at returns the interface of a number in the section.
func (n *ngFile) at(i uint32) (*source, error) {
	if int64(i) >= int64(len(n.ifaces)) {
		return nil, fmt.Errorf("a block of interface %d in a section that has described %d", i, len(n.ifaces))
	}
	return n.ifaces[i], nil
}

// stamp is the time of a block's two words.
func (n *ngFile) stamp(s *source, b []byte) time.Time {
	return s.time(uint64(n.order.Uint32(b))<<32 | uint64(n.order.Uint32(b[4:])))
}

// packet reads an enhanced packet block, or its obsolete predecessor.
func (n *ngFile) packet(kind uint32) (f frame, err error) {
	b := n.body.Bytes()
	if len(b) < 20 {
		return f, errShortBlock
	}
	iface := n.order.Uint32(b)
	if kind == blockPacket {
		iface = uint32(n.order.Uint16(b))
		if drops := n.order.Uint16(b[2:]); drops != 0xffff { // which says that nobody has counted
			f.lost = uint64(drops)
		}
	}
	if f.from, err = n.at(iface); err != nil {
		return f, err
	}
	f.time = n.stamp(f.from, b[4:])
	size, length := n.order.Uint32(b[12:]), n.order.Uint32(b[16:])
	if b, err = f.fill(b[20:], size, length); err != nil {
		return f, err
	}
	options, err := n.options(b)
	if err != nil {
		return f, err
	}
	for _, o := range options {
		switch {
		case o.code == optionComment:
			f.comments = append(f.comments, string(o.value))
		case o.code == optionFlags:
			if len(o.value) != 4 {
				return f, fmt.Errorf("flags of %d bytes: want 4", len(o.value))
			}
			f.flags = n.order.Uint32(o.value)
		case o.code == optionDropCount && kind == blockEnhanced:
			if len(o.value) != 8 {
				return f, fmt.Errorf("a drop count of %d bytes: want 8", len(o.value))
			}
			f.lost = n.order.Uint64(o.value)
		}
	}
	return f, nil
}

// simple reads a simple packet block, which has no time, of interface 0.
func (n *ngFile) simple() (f frame, err error) {
	b := n.body.Bytes()
	if len(b) < 4 {
		return f, errShortBlock
	}
	if f.from, err = n.at(0); err != nil {
		return f, err
	}
	f.time = time.Unix(0, 0).UTC()
	length := n.order.Uint32(b)
	size := length
	if f.from.snap > 0 {
		size = min(size, f.from.snap)
	}
	_, err = f.fill(b[4:], size, length)
	return f, err
}

// statistics reads an interface statistics block.
func (n *ngFile) statistics() (f frame, err error) {
	b := n.body.Bytes()
	if len(b) < 12 {
		return f, errShortBlock
	}
	if f.from, err = n.at(n.order.Uint32(b)); err != nil {
		return f, err
	}
	f.time, f.statistics = n.stamp(f.from, b[4:]), true
	options, err := n.options(b[12:])
	for _, o := range options {
		switch {
		case o.code == optionComment:
			f.comments = append(f.comments, string(o.value))
		case o.code == optionDroppedHere && len(o.value) == 8:
			f.lost, f.counted = n.order.Uint64(o.value), true
		}
	}
	return f, err
}
