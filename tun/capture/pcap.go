package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Magic numbers of pcap (draft-ietf-opsawg-pcap section 4), in the byte order of the file.
const (
	magicMicro = 0xa1b2c3d4
	magicNano  = 0xa1b23c4d
)

// pcapFile reads the records of a pcap file.
type pcapFile struct {
	r     io.Reader
	order binary.ByteOrder
	minor uint16
	from  source
}

// linkMask leaves the link type of a word that may also tell of a frame check sequence.
const linkMask = 0x03ffffff

// newPcapFile reads the file's header.
func newPcapFile(r io.Reader) (*pcapFile, error) {
	var b [24]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, cutOff(err)
	}
	p := &pcapFile{r: r, from: source{number: -1}}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(b[:]) {
		case magicMicro:
			p.order, p.from.units = order, 1e6
		case magicNano:
			p.order, p.from.units = order, 1e9
		}
	}
	if p.order == nil {
		return nil, fmt.Errorf("it begins with 0x%x", b[:4])
	}
	major := p.order.Uint16(b[4:])
	if p.minor = p.order.Uint16(b[6:]); major != 2 {
		return nil, fmt.Errorf("pcap version %d.%d: want 2.4", major, p.minor)
	}
	p.from.link = linkType(p.order.Uint32(b[20:]) & linkMask)
	return p, nil
}

// next reads a record. Before version 2.3 a packet's length came before its bytes' count, and some writers of 2.3
// still had it so.
func (p *pcapFile) next() (f frame, err error) {
	var b [16]byte
	if _, err := io.ReadFull(p.r, b[:]); err != nil {
		return f, err
	}
	f.from = &p.from
	f.time = time.Unix(int64(p.order.Uint32(b[:])), int64(p.order.Uint32(b[4:]))*(int64(time.Second)/int64(p.from.units))).UTC()
	size, length := p.order.Uint32(b[8:]), p.order.Uint32(b[12:])
	if p.minor < 3 || p.minor == 3 && size > length {
		size, length = length, size
	}
	if size > maxPacket {
		return f, fmt.Errorf("a packet of %d bytes: want no more than %d", size, maxPacket)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(p.r, data); err != nil {
		return f, cutOff(err)
	}
	f.data, f.length = data, int(max(length, size))
	return f, nil
}
