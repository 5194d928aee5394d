package drill

import (
	"time"

	"github.com/catflap/catflap/internal/packet"
)

// Script is one parsed packetdrill script.
type Script struct {
	Name    string // file name, as in error messages
	Options []Option
	// Init are the shell lines before the first event, Cleanup those after the last one that carry no time.
	Init    []*Shell
	Events  []*Event
	Cleanup []*Shell

	source  []string          // lines
	defines map[string]string // given with -D; values without quotes
}

// Pos is a place in a script, counted from 1. Col counts bytes.
type Pos struct{ Line, Col int }

// Option is a header line, --Name=Value.
type Option struct {
	Pos         Pos
	Name, Value string
}

// Event is one line of a script: a time and what happens then. Exactly one of Packet, Call, Code and Shell is set.
type Event struct {
	Pos    Pos
	Time   Time
	Packet *Packet
	Call   *Call
	Code   *Code
	Shell  *Shell
}

// Time says when an event takes place.
type Time struct {
	// Relative times count from the event before, absolute ones from the start of the script.
	Relative bool
	// Any is the form "*": whenever it happens.
	Any bool
	// From and To are equal unless the script gives a range, FROM~TO.
	From, To time.Duration
	// End is when a call returns that blocks, "TIME...END"; it counts from where From counts. Blocking says whether it is given.
	Blocking bool
	End      time.Duration
}

// Direction of a packet, seen from the stack under test.
type Direction int

// In is "<", a packet that the script sends to the stack; Out is ">", one that it expects from the stack.
const (
	In Direction = iota
	Out
)

func (d Direction) String() string {
	if d == In {
		return "<"
	}
	return ">"
}

// Packet is a packet as a script writes it. Sequence and acknowledgment numbers are the script's own: in a segment with
// SYN as written, otherwise relative to the initial sequence number. A nil pointer is a field that the script leaves
// out: chosen by the runner in an inbound packet, not looked at in an outbound one.
type Packet struct {
	Pos Pos
	Dir Direction
	IP  IPInfo

	// Ports of source and destination; both zero when the script leaves them out.
	SrcPort, DstPort uint16

	// Exactly one is set.
	TCP  *TCPSpec
	UDP  *UDPSpec
	ICMP *ICMPSpec
}

// IPInfo are fields of the IP header, in brackets before the flags: [ect0], [tos 0x10], [ttl 1], [flowlabel 0x1].
// The forms badipsum, badsum, nosum, frag, proto, hopopt and routing are additions of this package.
type IPInfo struct {
	TOS       *uint8 // whole byte
	ECN       *uint8 // low two bits of the byte
	AnyECT    bool   // [ect01]: ECN is 1 or 2
	TTL       *uint8
	FlowLabel *uint32
	BadIPSum  bool // spoil the IPv4 header checksum
	BadSum    bool // spoil the transport checksum
	NoSum     bool // leave the transport checksum zero
	// Frag sends only these bytes of what follows the IP header, as a fragment: "frag FROM:TO", TO alone cut short.
	// Packets of one script with it belong to one datagram unless "id N" says otherwise.
	Frag *FragSpec
	ID   uint16
	// Proto overrides the protocol number.
	Proto *uint8
	// HopOpt are the bytes of an option in an IPv6 hop-by-hop header: type, length and data.
	HopOpt []byte
	// Routing are the bytes of an IPv6 routing header from its type on: type, segments left and data.
	Routing []byte
	// Encap are the ports of a UDP header around the segment ("/udp(9811 > 1)" after it): TCP in UDP, as FreeBSD has it.
	Encap *EncapSpec
}

// EncapSpec are the ports of a UDP header that a TCP segment travels in.
type EncapSpec struct{ SrcPort, DstPort uint16 }

// FragSpec is the piece of a datagram that a fragment carries, in bytes.
type FragSpec struct{ From, To int }

// TCPSpec is a TCP segment as a script writes it: "P. 1:101(100) ack 1 win 257 <nop,nop,TS val 1 ecr 2>".
type TCPSpec struct {
	// Flags as on the wire; a digit, the ACE counter of AccECN (RFC 9768 section 3.1.1), is AE, CWR and ECE together.
	Flags      packet.Flags
	Seq        uint32
	Len        int // bytes of payload
	Ack        *uint32
	Win        *uint16
	Urg        *uint16
	Options    []TCPOption
	AnyOptions bool // <...>
	AnySeq     bool // "*" or "...(0)" in place of START:END(LENGTH), in a packet that the stack sends
	// AbsSeq is "!" after START:END(LENGTH): the sequence number is the one on the wire.
	AbsSeq bool
}

// TCPOption is one option between angle brackets.
type TCPOption struct {
	Pos    Pos
	Kind   uint8
	Value  uint32         // mss and wscale
	Blocks []packet.Block // sack, in script numbers
	Val    uint32         // TS val
	Ecr    uint32         // TS ecr
	Data   []byte         // all other kinds
	// AnyCookie is "FO *": a cookie that the script does not know. The stack's own, whichever it is, in a segment that the
	// stack sends; the one that the stack has sent last, in a segment to it.
	AnyCookie bool
}

// UDPSpec is "udp (LENGTH)".
type UDPSpec struct{ Len int }

// ICMPSpec is "icmp TYPE [CODE] [mtu N] [id N] [QUOTED]".
type ICMPSpec struct {
	Type, Code uint8 // as on the wire, for the script's IP version
	// TypeName and CodeName are what the script says; CodeName may be a name that --define or -D gives.
	TypeName, CodeName string
	MTU                *uint32
	ID, Seq            uint16
	Quote              *Quote
	Len                int // echo: bytes of payload
}

// Quote is the packet that an ICMP error quotes: [SEQ:END(LEN)], [udp (LEN)] or [raw (LEN)].
type Quote struct {
	UDP   bool
	Raw   bool
	Encap *EncapSpec // the segment is in UDP
	Seq   uint32
	Len   int
}

// Call is a socket call with the result that the script expects.
type Call struct {
	Pos    Pos
	Name   string
	Args   []Expr
	Result Expr
	Errno  string // "" when the script names none
	Note   string // text in parentheses after the result, without them
}

// Shell is a backquoted shell line.
type Shell struct {
	Pos  Pos
	Text string
}

// Code is a %{ … }% block.
type Code struct {
	Pos        Pos
	Statements []stmt
}

// Expr is an argument or a result of a socket call.
type Expr interface{ Position() Pos }

// The forms that an Expr takes.
type (
	// Ellipsis is "...": whatever fits.
	Ellipsis struct{ Pos Pos }
	// Int is a number; Hex says how it was written.
	Int struct {
		Pos   Pos
		Value int64
		Hex   bool
	}
	// Ident is a symbol, as SOCK_STREAM.
	Ident struct {
		Pos  Pos
		Name string
	}
	// String is a quoted string; More says that "..." follows it.
	String struct {
		Pos   Pos
		Value string
		More  bool
	}
	// Or is X|Y.
	Or struct {
		Pos  Pos
		X, Y Expr
	}
	// List is [X, Y].
	List struct {
		Pos   Pos
		Items []Expr
	}
	// Struct is {a=X, b(n)=Y, Z}.
	Struct struct {
		Pos    Pos
		Fields []Field
	}
	// Apply is name(args), as htons(80).
	Apply struct {
		Pos  Pos
		Name string
		Args []Expr
	}
)

// Field is a member of a Struct. Name is "" for a bare value; Arg is what stands in parentheses after the name.
type Field struct {
	Name  string
	Arg   Expr
	Value Expr
}

// Position is where the expression starts.
func (e Ellipsis) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e Int) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e Ident) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e String) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e Or) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e List) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e Struct) Position() Pos { return e.Pos }

// Position is where the expression starts.
func (e Apply) Position() Pos { return e.Pos }

// Field returns the value of the named member.
func (e Struct) Field(name string) (Expr, bool) {
	for _, f := range e.Fields {
		if f.Name == name {
			return f.Value, true
		}
	}
	return nil, false
}
