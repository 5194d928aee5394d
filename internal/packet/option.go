package packet

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// TCP option kinds (IANA "TCP Option Kind Numbers").
const (
	OptEOL       = 0
	OptNOP       = 1
	OptMSS       = 2
	OptWScale    = 3
	OptSACKOK    = 4
	OptSACK      = 5
	OptTimestamp = 8
	OptMD5       = 19
	OptFastOpen  = 34
	OptExp1      = 253 // RFC 6994: experiments, told apart by a 16-bit identifier
	OptExp2      = 254
)

// Option is one TCP option. Data is what follows kind and length; nil for EOL and NOP, which have neither.
type Option struct {
	Kind uint8
	Data []byte
}

// Block is a SACK block: the sequence numbers from Left up to and without Right (RFC 2018 section 3).
type Block struct{ Left, Right uint32 }

// ParseOptions splits the option bytes of a TCP header. It stops at EOL, which is included once; on an error
// it returns the options before it.
func ParseOptions(b []byte) ([]Option, error) {
	var opts []Option
	for len(b) > 0 {
		kind := b[0]
		if kind == OptEOL {
			return append(opts, Option{Kind: kind}), nil
		}
		if kind == OptNOP {
			opts = append(opts, Option{Kind: kind})
			b = b[1:]
			continue
		}
		if len(b) < 2 {
			return opts, fmt.Errorf("TCP option %d has no length", kind)
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return opts, fmt.Errorf("TCP option %d: length %d with %d bytes left", kind, n, len(b))
		}
		opts = append(opts, Option{Kind: kind, Data: b[2:n]})
		b = b[n:]
	}
	return opts, nil
}

// Option returns the first option of the given kind.
func (t *TCP) Option(kind uint8) (Option, bool) {
	for _, o := range t.Options {
		if o.Kind == kind {
			return o, true
		}
	}
	return Option{}, false
}

// SACK returns the blocks of a SACK option, or nil when it is of another kind or its length is not a multiple of eight.
func (o Option) SACK() []Block {
	if o.Kind != OptSACK || len(o.Data)%8 != 0 {
		return nil
	}
	blocks := make([]Block, 0, len(o.Data)/8)
	for b := o.Data; len(b) > 0; b = b[8:] {
		blocks = append(blocks, Block{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])})
	}
	return blocks
}

// Timestamp returns the values of a timestamp option (RFC 7323 section 3.2).
func (o Option) Timestamp() (val, ecr uint32, ok bool) {
	if o.Kind != OptTimestamp || len(o.Data) != 8 {
		return 0, 0, false
	}
	return binary.BigEndian.Uint32(o.Data), binary.BigEndian.Uint32(o.Data[4:]), true
}

// String writes the option as tcpdump does.
func (o Option) String() string { return o.text(0) }

// text is String with base taken off each SACK block's edges.
func (o Option) text(base uint32) string {
	switch {
	case o.Kind == OptEOL:
		return "eol"
	case o.Kind == OptNOP:
		return "nop"
	case o.Kind == OptMSS && len(o.Data) == 2:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(o.Data))
	case o.Kind == OptWScale && len(o.Data) == 1:
		return fmt.Sprintf("wscale %d", o.Data[0])
	case o.Kind == OptSACKOK && len(o.Data) == 0:
		return "sackOK"
	case o.Kind == OptSACK && len(o.Data) > 0 && len(o.Data)%8 == 0:
		var s strings.Builder
		blocks := o.SACK()
		fmt.Fprintf(&s, "sack %d ", len(blocks))
		for _, b := range blocks {
			fmt.Fprintf(&s, "{%d:%d}", b.Left-base, b.Right-base)
		}
		return s.String()
	case o.Kind == OptTimestamp && len(o.Data) == 8:
		val, ecr, _ := o.Timestamp()
		return fmt.Sprintf("TS val %d ecr %d", val, ecr)
	case o.Kind == OptMD5 && len(o.Data) == 16:
		return fmt.Sprintf("md5 %x", o.Data)
	case o.Kind == OptFastOpen && len(o.Data) == 0:
		return "tfo  cookiereq"
	case o.Kind == OptFastOpen && len(o.Data) >= 4 && len(o.Data) <= 16 && len(o.Data)%2 == 0:
		return fmt.Sprintf("tfo  cookie %x", o.Data)
	case len(o.Data) == 0:
		return fmt.Sprintf("unknown-%d", o.Kind)
	default:
		return fmt.Sprintf("unknown-%d 0x%x", o.Kind, o.Data)
	}
}
