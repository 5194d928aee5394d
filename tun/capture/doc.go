// Package capture writes and reads captures of IP packets: pcapng files with nanosecond stamps, directions and
// comments, whole or cut to what the packets are on a wire.
//
// A [Writer] writes to anything, or to a row of files that it rotates ([Create]). [Wrap] records what passes a
// netstack link endpoint. A [Reader] reads pcapng and pcap files, those of others too, and yields their IP packets.
package capture

import "time"

// Direction says which way a packet went, as seen from the stack.
type Direction uint8

// Directions.
const (
	Unknown Direction = iota
	In                // to the stack
	Out               // from the stack
)

func (d Direction) String() string {
	switch d {
	case In:
		return "in"
	case Out:
		return "out"
	}
	return "unknown"
}

// Interface describes where packets were captured. All interfaces carry raw IP packets (LINKTYPE_RAW).
type Interface struct {
	Name        string // such as cat0
	Description string // such as what the device leaves to whom
}

// Packet is one captured packet.
type Packet struct {
	Time      time.Time // a Writer's: if zero, now
	Interface int       // as Writer.AddInterface or Reader.Interface numbers them
	Direction Direction
	Length    int    // bytes of the packet; a Writer's: if zero, len(Data)
	Data      []byte // its first bytes, from the IP header on
	MSS       int    // of a TCP super-packet: payload bytes of each segment that it becomes on a wire; not in files

	// What was left to a device when the packet was captured. A Writer sets them itself of packets that show it.
	NoChecksum bool // its TCP or UDP checksum is not there yet: it has the pseudo-header's sum
	Super      bool // it stands for several TCP segments

	Comments []string // of which each is cut to MaxComment bytes when written
	Lost     uint64   // packets that are missing before this one
}

// MaxComment is how many bytes a comment may have: pcapng counts them in 16 bits, and pads them to a multiple of four.
const MaxComment = 1<<16 - 4
