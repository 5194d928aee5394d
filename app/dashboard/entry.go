package dashboard

import (
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/strace"
)

// entry is one event that is kept, or one view of it: a packet between two sockets of the same stack is kept for
// both. But for the list it is never changed, so that a reader needs no lock for more than finding it.
type entry struct {
	seq  uint64
	at   time.Duration // since the recording's start
	lost uint64        // events lost since the recording's start, when this one came
	conn *connection
	id   uint64 // the stack's identity of the connection; 0: none, or not known

	// Exactly one is set.
	packet *keptPacket
	link   *keptLink
	state  *stack.StateEvent
	call   *stack.CallEvent // without the bytes that are not to be shown
	sample *stack.SampleEvent
	timer  *stack.TimerEvent

	older, newer *entry // of all connections; guarded by Recorder.mu
}

// segment is what is shown of a packet's TCP header.
type segment struct {
	out   bool
	len   int // bytes of the IP packet
	plen  int // of its payload
	flags packet.Flags
	seq   uint32
	ack   uint32
	win   uint16 // as on the wire
	scale int8   // of win; -1: not known
	rel   relative
	opts  []byte // of the TCP header
}

// relative are sequence numbers counted from a connection's first ones.
type relative struct {
	Seq uint32 `json:"seq"`
	Ack uint32 `json:"ack"`
}

// keptPacket is a packet without what nobody will ask for. Its bytes end with its headers unless the payload is
// to be shown.
type keptPacket struct {
	segment
	ev   stack.PacketEvent // with Data cut, and lookups shared with equal ones
	seen int               // bytes that the event had
	dup  bool
}

// keptLink is what the link did to a packet.
type keptLink struct {
	segment
	ev   *stack.LinkEvent
	seen int    // bytes that the event had
	of   uint64 // the seq of the packet event that this happened to, or 0
}

// common is what the JSON of all events begins with.
type common struct {
	Kind string  `json:"k"`
	Seq  uint64  `json:"seq"`
	T    float64 `json:"t"`
}

// segmentJSON is the JSON of a TCP segment.
type segmentJSON struct {
	Out   bool        `json:"out"`
	Len   int         `json:"len"`
	Flags string      `json:"flags"`
	Seqno uint32      `json:"seqno"`
	Ack   uint32      `json:"ack"`
	Win   *uint32     `json:"win,omitempty"` // absent while the scale is not known
	RWin  uint16      `json:"rwin"`
	Plen  int         `json:"plen"`
	Opts  string      `json:"opts,omitempty"`
	SACK  [][2]uint32 `json:"sack,omitempty"`
	Rel   relative    `json:"rel"`
}

type packetJSON struct {
	common
	segmentJSON
	Retransmit stack.Cause `json:"retransmit,omitempty"`
	Dup        bool        `json:"dup,omitempty"`
	Drop       string      `json:"drop,omitempty"`
	State      string      `json:"state,omitempty"`
	Segs       int         `json:"segs,omitempty"`
	Call       string      `json:"call,omitempty"`
}

type linkJSON struct {
	common
	segmentJSON
	Action string  `json:"action"`
	Why    string  `json:"why"`
	Delay  float64 `json:"delay,omitempty"`
	Of     uint64  `json:"of"`
}

type stateJSON struct {
	common
	From string `json:"from"`
	To   string `json:"to"`
}

type callJSON struct {
	common
	Name  string  `json:"name"`
	Text  string  `json:"text"`
	Dur   float64 `json:"dur"`
	Ret   int64   `json:"ret"`
	Error string  `json:"error,omitempty"`
}

type sampleJSON struct {
	common
	SRTT     float64 `json:"srtt"`
	RTTVar   float64 `json:"rttvar"`
	RTO      float64 `json:"rto"`
	Cwnd     int     `json:"cwnd"`
	Ssthresh int     `json:"ssthresh"`
	MSS      int     `json:"mss"`
	InFlight int     `json:"inflight"`
	Unsent   int     `json:"unsent"`
	SndWnd   int     `json:"snd_wnd"`
	RcvWnd   int     `json:"rcv_wnd"`
	Una      uint32  `json:"una"`
	Nxt      uint32  `json:"nxt"`
	Rcv      uint32  `json:"rcv"`
	Recovery string  `json:"recovery,omitempty"`
	Limit    string  `json:"limit,omitempty"`
}

type timerJSON struct {
	common
	Name   string  `json:"name"`
	Action string  `json:"action"`
	After  float64 `json:"after,omitempty"`
}

// callBytes is how many bytes of a buffer the text of a call shows, as strace(1) does.
const callBytes = strace.DefaultSize

// json returns what is sent of the entry.
func (e *entry) json() any {
	c := common{Seq: e.seq, T: seconds(e.at)}
	switch {
	case e.packet != nil:
		c.Kind = "p"
		return e.packet.json(c)
	case e.link != nil:
		c.Kind = "l"
		l := e.link
		return linkJSON{c, l.segment.json(), l.ev.Action, l.ev.Why, seconds(l.ev.Delay), l.of}
	case e.state != nil:
		c.Kind = "s"
		return stateJSON{c, e.state.From, e.state.To}
	case e.call != nil:
		c.Kind = "c"
		k := e.call
		return callJSON{c, k.Name, strace.Format(k, callBytes), seconds(k.Duration), k.Ret, k.Error}
	case e.sample != nil:
		c.Kind = "m"
		s := e.sample
		return sampleJSON{
			c, seconds(s.SRTT), seconds(s.RTTVar), seconds(s.RTO), s.Cwnd, s.Ssthresh, s.MSS, s.InFlight, s.Unsent,
			s.SndWnd, s.RcvWnd, s.SndUna, s.SndNxt, s.RcvNxt, s.Recovery, s.Limit,
		}
	}
	c.Kind = "t"
	return timerJSON{c, e.timer.Name, e.timer.Action, seconds(e.timer.After)}
}

func (s *segment) json() segmentJSON {
	j := segmentJSON{
		Out: s.out, Len: s.len, Flags: s.flags.String(), Seqno: s.seq, Ack: s.ack, RWin: s.win, Plen: s.plen, Rel: s.rel,
	}
	if s.scale >= 0 {
		win := uint32(s.win) << s.scale
		j.Win = &win
	}
	opts, _ := packet.ParseOptions(s.opts) // what cannot be read has been cut
	for i, o := range opts {
		if i > 0 {
			j.Opts += ","
		}
		j.Opts += o.String()
		for _, b := range o.SACK() {
			j.SACK = append(j.SACK, [2]uint32{b.Left, b.Right})
		}
	}
	return j
}

func (p *keptPacket) json(c common) packetJSON {
	j := packetJSON{
		common: c, segmentJSON: p.segment.json(),
		Retransmit: p.ev.Retransmit, Dup: p.dup, Drop: p.ev.Drop, State: p.ev.State,
	}
	if n := p.ev.GSO; n > 0 && p.plen > n {
		j.Segs = (p.plen + n - 1) / n
	}
	if l := p.ev.Socket; l != nil {
		j.Call = winner(l)
		if j.State == "" {
			j.State = l.State
		}
	}
	return j
}

// winner names the socket that a lookup found, in short.
func winner(l *stack.SocketLookup) string {
	if !l.Found {
		return l.Answer
	}
	for _, t := range l.Tries {
		if t.Match && t.FD >= 0 {
			return "fd " + itoa(t.FD) + " " + t.State
		} else if t.Match {
			return t.State
		}
	}
	return l.Answer
}
