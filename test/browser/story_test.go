package browser

import (
	"container/heap"
	"fmt"
	"math"
	"strings"
)

// This file makes up events: a small model of a server's side of TCP over a link with a rate and a delay, which
// loses the segments that it is told to. It is a fixture. It resembles what the stack does, with slow start, fast
// retransmit and a timeout; nothing here is measured, and no test takes it for the stack's behaviour.

// ev is an event as the dashboard's stream has it.
type ev struct {
	K     string      `json:"k"`
	Seq   uint64      `json:"seq"`
	T     float64     `json:"t"`
	Out   *bool       `json:"out,omitempty"`
	Len   int         `json:"len,omitempty"`
	Flags string      `json:"flags,omitempty"`
	Seqno uint32      `json:"seqno,omitempty"`
	Ack   uint32      `json:"ack,omitempty"`
	Win   int         `json:"win,omitempty"`
	RWin  int         `json:"rwin,omitempty"`
	Plen  *int        `json:"plen,omitempty"`
	Opts  string      `json:"opts,omitempty"`
	SACK  [][2]uint32 `json:"sack,omitempty"`
	Rel   *rel        `json:"rel,omitempty"`

	Retransmit string `json:"retransmit,omitempty"`
	Dup        bool   `json:"dup,omitempty"`
	State      string `json:"state,omitempty"`
	Call       string `json:"call,omitempty"`

	Action string  `json:"action,omitempty"`
	Why    string  `json:"why,omitempty"`
	Of     *uint64 `json:"of,omitempty"`

	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`

	Name  string  `json:"name,omitempty"`
	Text  string  `json:"text,omitempty"`
	Dur   float64 `json:"dur,omitempty"`
	Ret   int64   `json:"ret,omitempty"`
	Error string  `json:"error,omitempty"`
	After float64 `json:"after,omitempty"`

	*sample
}

type rel struct {
	Seq uint32 `json:"seq"`
	Ack uint32 `json:"ack"`
}

type sample struct {
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

// plot says what happens in a story.
type plot struct {
	client string
	start  float64 // s
	bytes  int     // of the response's body
	rtt    float64 // s
	rate   float64 // bytes/s of the link to the client
	lose   map[int]bool
	opened float64 // s, since the recording's start
}

const (
	mss       = 1448
	clientISN = 3_141_592_653
	serverISN = 2_718_281_828
	request   = 76 // bytes
	minRTO    = 0.2
	firstSsth = 1 << 30
)

// story is what a plot becomes.
type story struct {
	plot
	events []ev
	closed float64
	rx, tx int
	seq    *uint64

	now  float64
	todo queue

	state              string
	una, nxt, end      int // of the response, from 0
	cwnd, ssthresh     float64
	dups               int
	recover            int
	recovery           string
	srtt, rttvar       float64
	sentAt             map[int]float64
	nth                int // data segments sent
	linkFree           float64
	rtoAt              int // a count that makes older timers void
	got                []span
	ackAt              int
	retrans, lost, pkt int
}

type span struct{ l, r int }

type todo struct {
	t  float64
	n  int
	do func()
}
type queue []todo

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].t < q[j].t || q[i].t == q[j].t && q[i].n < q[j].n
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(todo)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

var order int

func (s *story) after(d float64, do func()) {
	order++
	heap.Push(&s.todo, todo{s.now + d, order, do})
}

// tell runs a plot to its end.
func tell(p plot, seq *uint64) *story {
	s := &story{plot: p, seq: seq, now: p.start, state: "LISTEN", cwnd: 10, ssthresh: firstSsth, sentAt: map[int]float64{}}
	s.end = p.bytes + 140 // with its headers
	s.after(0, s.syn)
	for s.todo.Len() > 0 {
		next := heap.Pop(&s.todo).(todo)
		s.now = next.t
		next.do()
	}
	return s
}

func (s *story) add(e ev) uint64 {
	*s.seq++
	e.Seq, e.T = *s.seq, math.Round(s.now*1e9)/1e9
	s.events = append(s.events, e)
	return e.Seq
}

func (s *story) goTo(state string) {
	s.add(ev{K: "s", From: s.state, To: state})
	s.state = state
}

func (s *story) call(name, text string, ret int64) {
	s.add(ev{K: "c", Name: name, Text: text, Ret: ret, Dur: 12e-6})
}

func (s *story) sample() {
	m := sample{SRTT: s.srtt, RTTVar: s.rttvar, RTO: s.rto(), Cwnd: int(s.cwnd), Ssthresh: int(s.ssthresh), MSS: mss,
		InFlight: s.nxt - s.una, Unsent: s.end - s.nxt, SndWnd: s.window(), RcvWnd: 1 << 20, Recovery: s.recovery}
	if m.Limit = "application"; s.nxt < s.end {
		m.Limit = "congestion window"
	}
	s.add(ev{K: "m", sample: &m})
}

func (s *story) rto() float64 { return max(minRTO, s.srtt+4*s.rttvar) }

func (s *story) window() int { return 262_144 }

func ptr[T any](v T) *T { return &v }

func (s *story) packet(out bool, flags string, seq, ack, plen int, more ev) uint64 {
	isnSeq, isnAck := uint32(serverISN), uint32(clientISN)
	if !out {
		isnSeq, isnAck = isnAck, isnSeq
	}
	e := more
	e.K, e.Out, e.Flags, e.Plen, e.Len = "p", ptr(out), flags, ptr(plen), plen+52
	e.Seqno, e.Rel = isnSeq+uint32(seq), &rel{Seq: uint32(seq)}
	if strings.Contains(flags, ".") {
		e.Ack, e.Rel.Ack = isnAck+uint32(ack), uint32(ack)
	}
	if e.Win == 0 {
		e.Win = s.window()
	}
	e.RWin = min(e.Win>>7, 65535)
	if s.state != "LISTEN" {
		e.State = s.state
	}
	s.pkt++
	return s.add(e)
}

func (s *story) syn() {
	s.opened = s.now
	s.packet(false, "S", 0, 0, 0, ev{Win: 64240, Opts: "mss 1460,sackOK,TS val 1001 ecr 0,nop,wscale 7", Call: "the listener on 10.9.0.2:80, fd 3"})
	s.goTo("SYN-RECEIVED")
	s.now += 38e-6
	s.packet(true, "S.", 0, 1, 0, ev{Win: 65535, Opts: "mss 1460,sackOK,TS val 1 ecr 1001,nop,wscale 7"})
	s.after(s.rtt, func() {
		s.srtt, s.rttvar = s.rtt, s.rtt/2
		s.packet(false, ".", 1, 1, 0, ev{})
		s.goTo("ESTABLISHED")
		s.sample()
		s.now += 21e-6
		host, port, _ := strings.Cut(s.client, ":")
		s.call("accept4", fmt.Sprintf(`accept4(3, {sa_family=AF_INET, sin_port=htons(%s), sin_addr=inet_addr("%s")}, [112 => 16], SOCK_CLOEXEC|SOCK_NONBLOCK) = 4`, port, host), 4)
		s.after(120e-6, func() {
			s.packet(false, "P.", 1, 1, request, ev{Call: "established, fd 4"})
			s.rx = request
			s.now += 9e-6
			s.packet(true, ".", 1, 1+request, 0, ev{})
			s.now += 14e-6
			s.call("read", fmt.Sprintf(`read(4, "GET /bytes/%d HTTP/1.1\r\nHost: 10."..., 4096) = %d`, s.bytes, request), request)
			s.now += 61e-6
			s.call("write", fmt.Sprintf(`write(4, "HTTP/1.1 200 OK\r\nContent-Length:"..., %d) = %d`, s.end, s.end), int64(s.end))
			s.send()
		})
	})
}

// send sends what the window allows.
func (s *story) send() {
	for s.nxt < s.end && s.nxt-s.una < int(s.cwnd)*mss && s.nxt-s.una+mss < s.window() {
		n := min(mss, s.end-s.nxt)
		s.segment(s.nxt, n, "")
		s.nxt += n
		s.now += 3e-6
	}
}

func (s *story) segment(at, n int, cause string) {
	flags := "."
	if at+n == s.end {
		flags = "P."
	}
	s.nth++
	nth := s.nth
	id := s.packet(true, flags, 1+at, 1+request, n, ev{Retransmit: cause})
	if cause == "" {
		s.sentAt[at+n] = s.now
	} else {
		s.retrans++
		delete(s.sentAt, at+n)
	}
	s.sample()
	s.tx += n
	s.armRTO()
	s.linkFree = max(s.linkFree, s.now) + float64(n+52)/s.rate
	arrives := s.linkFree + s.rtt/2 - s.now
	if s.lose[nth] {
		s.lost++
		s.add(ev{K: "l", Out: ptr(true), Action: "drop", Why: "loss 2%", Of: ptr(id), Flags: flags, Seqno: serverISN + uint32(1+at), Plen: ptr(n), Len: n + 52, Rel: &rel{uint32(1 + at), 1 + request}})
		return
	}
	s.after(arrives, func() { s.arrive(at, n) })
}

func (s *story) armRTO() {
	s.rtoAt++
	mine := s.rtoAt
	s.after(s.rto(), func() {
		if mine != s.rtoAt || s.una == s.nxt {
			return
		}
		s.add(ev{K: "t", Name: "retransmission", Action: "fired"})
		s.ssthresh, s.cwnd, s.recovery, s.recover = max(s.cwnd/2, 2), 1, "RTO", s.nxt
		s.segment(s.una, min(mss, s.end-s.una), "RTO")
	})
}

// arrive is the client getting data: it acknowledges every second segment, and each that is out of order.
func (s *story) arrive(l, n int) {
	before := s.acked()
	s.insert(span{l, l + n})
	s.ackAt++
	if s.acked() == before || len(s.got) > 1 || s.ackAt%2 == 0 || s.acked() == s.end {
		ack, blocks := s.acked(), s.blocks(span{l, l + n})
		s.after(s.rtt/2, func() { s.acknowledged(ack, blocks) })
	}
}

func (s *story) insert(x span) {
	var out []span
	for _, g := range s.got {
		if g.r < x.l || x.r < g.l {
			out = append(out, g)
			continue
		}
		x = span{min(x.l, g.l), max(x.r, g.r)}
	}
	i := 0
	for i < len(out) && out[i].l < x.l {
		i++
	}
	s.got = append(out[:i:i], append([]span{x}, out[i:]...)...)
}

func (s *story) acked() int {
	if len(s.got) > 0 && s.got[0].l == 0 {
		return s.got[0].r
	}
	return 0
}

// blocks are the SACK blocks, the one that has just come first.
func (s *story) blocks(x span) (b [][2]uint32) {
	for _, g := range s.got {
		if g.l == 0 {
			continue
		}
		blk := [2]uint32{serverISN + uint32(1+g.l), serverISN + uint32(1+g.r)}
		if g.l <= x.l && x.r <= g.r {
			b = append([][2]uint32{blk}, b...)
		} else {
			b = append(b, blk)
		}
	}
	return b[:min(len(b), 3)]
}

func (s *story) acknowledged(ack int, sacks [][2]uint32) {
	dup := ack == s.una && s.nxt > s.una
	s.packet(false, ".", 1+request, 1+ack, 0, ev{Dup: dup, SACK: sacks})
	if t, ok := s.sentAt[ack]; ok && ack > s.una {
		r := s.now - t
		s.rttvar += (math.Abs(s.srtt-r) - s.rttvar) / 4
		s.srtt += (r - s.srtt) / 8
	}
	switch {
	case dup:
		s.dups++
		if s.dups == 3 && s.recovery == "" {
			s.recovery, s.recover = "SACK", s.nxt
			s.ssthresh = max(float64(s.nxt-s.una)/mss*0.7, 2)
			s.cwnd = s.ssthresh
			s.segment(s.una, min(mss, s.end-s.una), "fast")
		} else if s.dups > 3 && s.dups%2 == 0 {
			s.cwnd++ // what has left the path makes room
			s.send()
		}
	case ack > s.una:
		n := float64(ack-s.una) / mss
		s.una, s.dups = ack, 0
		if s.recovery != "" && ack >= s.recover {
			s.recovery, s.cwnd = "", max(s.ssthresh, 2)
		} else if s.recovery != "" {
			s.segment(s.una, min(mss, s.end-s.una), map[string]string{"RTO": "RTO"}[s.recovery]+map[string]string{"SACK": "RACK"}[s.recovery])
		}
		if s.recovery == "" {
			if s.cwnd < s.ssthresh {
				s.cwnd += n
			} else {
				s.cwnd += n / s.cwnd
			}
		}
		s.armRTO()
		s.send()
	}
	s.sample()
	if s.una == s.end && s.state == "ESTABLISHED" {
		s.after(180e-6, s.finish)
	}
}

// finish: the client closes first, as curl does.
func (s *story) finish() {
	fin := 1 + s.end
	s.packet(false, "F.", 1+request, fin, 0, ev{})
	s.goTo("CLOSE-WAIT")
	s.now += 15e-6
	s.packet(true, ".", fin, 2+request, 0, ev{})
	s.now += 17e-6
	s.call("read", `read(4, "", 4096) = 0`, 0)
	s.now += 12e-6
	s.call("close", "close(4) = 0", 0)
	s.goTo("LAST-ACK")
	s.packet(true, "F.", fin, 2+request, 0, ev{})
	s.after(s.rtt, func() {
		s.packet(false, ".", 2+request, fin+1, 0, ev{})
		s.goTo("CLOSED")
		s.closed = s.now
	})
}
