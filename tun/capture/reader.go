package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Reader reads the IP packets of a pcapng or pcap file. What is not IP, such as ARP, is counted and passed over.
// Its memory is bounded by the size of one packet and by what the file says of its interfaces.
type Reader struct {
	ng    *pcapgo.NgReader // one of the two is nil
	plain *pcapgo.Reader

	section int // of the file, from 0
	ifaces  []Interface
	numbers map[[2]int]int // of interfaces, by section and their number there
	ready   []Packet       // comments that came before a packet
	ahead   *Packet        // the packet after these
	err     error
	notIP   int
	lost    uint64         // as packets tell
	dropped map[int]uint64 // as interface statistics tell, by interface
}

// Magic numbers at the start of files.
const (
	magicPcapng = 0x0a0d0d0a
	magicGzip   = 0x1f8b
)

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
	c := &Reader{numbers: map[[2]int]int{}, dropped: map[int]uint64{}}
	switch {
	case binary.BigEndian.Uint16(magic) == magicGzip:
		return nil, errors.New("capture: the file is compressed: gunzip it first")
	case binary.BigEndian.Uint32(magic) == magicPcapng:
		c.ng, err = pcapgo.NewNgReader(br, pcapgo.NgReaderOptions{
			WantMixedLinkType:  true,
			SkipUnknownVersion: true,
			SectionEndCallback: func([]pcapgo.NgInterface, pcapgo.NgSectionInfo) { c.section++ },
			StatisticsCallback: c.statistics,
		})
	default:
		c.plain, err = pcapgo.NewReader(br)
	}
	if err != nil {
		return nil, fmt.Errorf("capture: this is no pcapng or pcap file: %w", err)
	}
	return c, nil
}

// statistics keeps the comment of an interface statistics block.
func (r *Reader) statistics(i int, s pcapgo.NgInterfaceStatistics) {
	if s.PacketsDropped != pcapgo.NgNoValue64 {
		r.dropped[r.number(i)] = s.PacketsDropped
	}
	if s.Comment != "" {
		r.ready = append(r.ready, Packet{Time: s.LastUpdate, Interface: r.number(i), Comments: []string{s.Comment}})
	}
}

// number is the number of an interface among those of the whole file.
func (r *Reader) number(i int) int {
	key := [2]int{r.section, i}
	n, ok := r.numbers[key]
	if !ok {
		n = len(r.ifaces)
		r.numbers[key] = n
		var known Interface
		if r.ng != nil {
			if ng, err := r.ng.Interface(i); err == nil {
				known = Interface{Name: ng.Name, Description: ng.Description}
			}
		}
		r.ifaces = append(r.ifaces, known)
	}
	return n
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
	for {
		if len(r.ready) > 0 {
			p := r.ready[0]
			r.ready = r.ready[1:]
			return p, nil
		}
		if r.ahead != nil {
			p := *r.ahead
			r.ahead = nil
			return p, nil
		}
		if r.err != nil {
			return Packet{}, r.err
		}
		r.read()
	}
}

// read reads up to the next packet, and keeps it and the comments on the way.
func (r *Reader) read() {
	var (
		data []byte
		ci   gopacket.CaptureInfo
		opts pcapgo.NgPacketOptions
		link layers.LinkType
		err  error
	)
	if r.ng != nil {
		data, ci, opts, err = r.ng.ReadPacketDataWithOptions()
		if err == nil {
			link, _ = ci.AncillaryData[0].(layers.LinkType)
		}
	} else {
		data, ci, err = r.plain.ReadPacketData()
		link = r.plain.LinkType()
	}
	if err != nil {
		r.err = err
		if err != io.EOF {
			r.err = fmt.Errorf("capture: %w", err)
		}
		return
	}
	ip, d, ok := ipPacket(link, data)
	if !ok {
		r.notIP++
		return
	}
	p := Packet{
		Time: ci.Timestamp, Interface: r.number(ci.InterfaceIndex), Direction: d,
		Length: max(ci.Length-(len(data)-len(ip)), len(ip)), Data: ip, Comments: opts.Comments,
	}
	if opts.Flags != nil {
		switch opts.Flags.Direction {
		case pcapgo.NgEpbFlagDirectionInbound:
			p.Direction = In
		case pcapgo.NgEpbFlagDirectionOutbound:
			p.Direction = Out
		}
	}
	if opts.DropCount != nil {
		p.Lost = *opts.DropCount
		r.lost += p.Lost
	}
	if p.Time.Before(time.Unix(0, 0)) {
		p.Time = time.Unix(0, 0).UTC() // simple packet blocks have none
	}
	r.ahead = &p
}

// linkRawBSD is DLT_RAW, which some write in place of LINKTYPE_RAW (www.tcpdump.org/linktypes.html).
const linkRawBSD = 12

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
func ipPacket(link layers.LinkType, b []byte) (ip []byte, d Direction, ok bool) {
	proto := uint16(0)
	switch link {
	case layers.LinkTypeRaw, linkRawBSD, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		if len(b) < 4 {
			return nil, 0, false
		}
		b = b[4:]
	case layers.LinkTypeEthernet:
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
	case layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2:
		size, protoAt, typeAt := 16, 14, 1
		if link == layers.LinkTypeLinuxSLL2 {
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
