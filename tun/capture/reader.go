package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Reader reads the IP packets of a pcapng or pcap file. What is not IP, such as ARP, is counted and passed over.
// Its memory is bounded by the size of one block and by what the file says of its interfaces.
type Reader struct {
	file interface{ next() (frame, error) }

	ifaces  []Interface
	ready   []Packet // the next, in order
	err     error
	notIP   int
	lost    uint64         // as packets tell
	dropped map[int]uint64 // as interface statistics tell, by interface
}

// frame is what a block or record tells of: a packet, or statistics.
type frame struct {
	from     *source
	time     time.Time
	data     []byte
	length   int
	flags    uint32
	comments []string
	lost     uint64

	statistics, counted bool // it is no packet; lost counts all that the interface has lost
}

// fill takes the packet from b, which has the rest of a block, and returns what comes after it.
func (f *frame) fill(b []byte, size, length uint32) (rest []byte, err error) {
	if size > maxPacket {
		return nil, fmt.Errorf("a packet of %d bytes: want no more than %d", size, maxPacket)
	}
	if int(size) > len(b) {
		return nil, fmt.Errorf("a packet of %d bytes in a block that has %d left", size, len(b))
	}
	f.data, f.length = bytes.Clone(b[:size]), int(min(max(length, size), math.MaxInt32))
	return b[min(len(b), int(size+3)&^3):], nil
}

// Magic numbers at the start of compressed files.
const magicGzip = 0x1f8b

// NewReader reads the start of a file. The error says what the file is not.
func NewReader(r io.Reader) (*Reader, error) {
	br := bufio.NewReader(r)
	magic, err := br.Peek(4)
	if err != nil {
		if err == io.EOF {
			return nil, fmt.Errorf("capture: %d bytes are no capture file", len(magic))
		}
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &Reader{dropped: map[int]uint64{}}
	switch {
	case binary.BigEndian.Uint16(magic) == magicGzip:
		return nil, errors.New("capture: the file is compressed: gunzip it first")
	case binary.BigEndian.Uint32(magic) == blockSection:
		c.file, err = newNgFile(br)
	default:
		c.file, err = newPcapFile(br)
	}
	if err != nil {
		return nil, fmt.Errorf("capture: this is no pcapng or pcap file: %w", err)
	}
	return c, nil
}

// number is the number of an interface among those of the whole file.
func (r *Reader) number(s *source) int {
	if s.number < 0 {
		s.number = len(r.ifaces)
		r.ifaces = append(r.ifaces, s.Interface)
	}
	return s.number
}

// Interfaces returns those that packets were found of, so far.
func (r *Reader) Interfaces() []Interface { return r.ifaces }

// NotIP counts the packets that were passed over.
func (r *Reader) NotIP() int { return r.notIP }

// Lost counts the packets that whoever wrote the file has missed, as far as the file was read.
func (r *Reader) Lost() uint64 {
	var all uint64
	for _, n := range r.dropped {
		all += n
	}
	return max(all, r.lost)
}

// Next returns the next packet; it belongs to the caller. A Packet with no Data is a comment that belongs to no
// packet. At the end the error is io.EOF; of a file that was cut off it is io.ErrUnexpectedEOF.
func (r *Reader) Next() (Packet, error) {
	for len(r.ready) == 0 {
		if r.err != nil {
			return Packet{}, r.err
		}
		r.read()
	}
	p := r.ready[0]
	r.ready = r.ready[1:]
	return p, nil
}

// read reads what comes next in the file.
func (r *Reader) read() {
	f, err := r.file.next()
	switch {
	case err == io.EOF:
		r.err = err
	case err != nil:
		r.err = fmt.Errorf("capture: %w", err)
	case f.statistics:
		if f.counted {
			r.dropped[r.number(f.from)] = f.lost
		}
		for _, c := range f.comments {
			r.ready = append(r.ready, Packet{Time: f.time, Interface: r.number(f.from), Comments: []string{c}})
		}
	default:
		r.packet(f)
	}
}

func (r *Reader) packet(f frame) {
	r.lost += f.lost
	ip, d, ok := ipPacket(f.from.link, f.data)
	if !ok {
		r.notIP++
		return
	}
	switch f.flags & flagDirection {
	case flagInbound:
		d = In
	case flagOutbound:
		d = Out
	}
	r.ready = append(r.ready, Packet{
		Time: f.time, Interface: r.number(f.from), Direction: d, Length: max(f.length-(len(f.data)-len(ip)), len(ip)), Data: ip,
		NoChecksum: f.flags&flagNoChecksum != 0, Super: f.flags&flagSegmentable != 0, Comments: f.comments, Lost: f.lost,
	})
}

// linkType is what frames begin with (www.tcpdump.org/linktypes.html).
type linkType uint32

// The link types that carry IP and that are read here. Some write a system's own number for a raw link.
const (
	linkNull      linkType = 0
	linkEthernet  linkType = 1
	linkRawBSD    linkType = 12
	linkRawOther  linkType = 14
	linkRaw       linkType = 101
	linkLoop      linkType = 108
	linkLinuxSLL  linkType = 113
	linkIPv4      linkType = 228
	linkIPv6      linkType = 229
	linkLinuxSLL2 linkType = 276
)

// EtherTypes (IEEE 802, RFC 9542).
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100
	etherQinQ = 0x88a8
)

// packetOutgoing is Linux's PACKET_OUTGOING, in its cooked captures.
const packetOutgoing = 4

// ipPacket finds the IP packet in a frame, and the direction where the frame has it.
func ipPacket(link linkType, b []byte) (ip []byte, d Direction, ok bool) {
	proto := uint16(0)
	switch link {
	case linkRaw, linkRawBSD, linkRawOther, linkIPv4, linkIPv6:
	case linkNull, linkLoop:
		if len(b) < 4 {
			return nil, 0, false
		}
		b = b[4:]
	case linkEthernet:
		at := 12
		for len(b) >= at+2 {
			if proto = binary.BigEndian.Uint16(b[at:]); proto != etherVLAN && proto != etherQinQ {
				break
			}
			at += 4
		}
		if len(b) < at+2 || proto != etherIPv4 && proto != etherIPv6 {
			return nil, 0, false
		}
		b = b[at+2:]
	case linkLinuxSLL, linkLinuxSLL2:
		size, protoAt, typeAt := 16, 14, 1
		if link == linkLinuxSLL2 {
			size, protoAt, typeAt = 20, 0, 10
		}
		if len(b) < size {
			return nil, 0, false
		}
		if proto = binary.BigEndian.Uint16(b[protoAt:]); proto != etherIPv4 && proto != etherIPv6 {
			return nil, 0, false
		}
		d = In
		if b[typeAt] == packetOutgoing {
			d = Out
		}
		b = b[size:]
	default:
		return nil, 0, false
	}
	if len(b) == 0 || b[0]>>4 != 4 && b[0]>>4 != 6 {
		return nil, 0, false
	}
	return b, d, true
}
