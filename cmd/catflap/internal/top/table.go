// Package top is a table of a stack's TCP connections that is drawn again and again, in the manner of top(1).
package top

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/catflap/catflap/stack"
)

// table is what is known of the connections, from one look to the next.
type table struct {
	at    time.Time // of the last look
	conns map[connKey]*conn
}

type connKey struct{ local, remote netip.AddrPort }

// conn is one connection.
type conn struct {
	Row
	seen          bool // in the last look
	sampled       bool
	sndUna        uint32
	rcvNxt        uint32
	sent, arrived uint64 // bytes since the last look
}

// Row is a connection of the table.
type Row struct {
	FD          int             `json:"fd"`
	State       string          `json:"state"`
	Local       netip.AddrPort  `json:"local"`
	Remote      netip.AddrPort  `json:"remote"`
	Out         float64         `json:"out"`  // bits a second that the peer has acknowledged
	In          float64         `json:"in"`   // bits a second that have arrived in order
	Cwnd        uint32          `json:"cwnd"` // segments
	SRTT        time.Duration   `json:"srtt"`
	RTTs        []time.Duration `json:"rtts"` // SRTT at the last looks
	Retransmits uint64          `json:"retransmits"`
	Limit       string          `json:"limit,omitempty"`
}

// history is how many looks back the course of a round-trip time goes.
const history = 16

// update takes a look: the connections that there are.
func (t *table) update(sockets []stack.SocketInfo, now time.Time) {
	if t.conns == nil {
		t.conns = map[connKey]*conn{}
	}
	since := now.Sub(t.at).Seconds()
	t.at = now
	for _, c := range t.conns {
		c.seen = false
	}
	for _, s := range sockets {
		if s.Network != "tcp" || s.State == "LISTEN" || !s.Remote.IsValid() {
			continue
		}
		c := t.of(connKey{s.Local, s.Remote})
		c.seen = true
		c.FD, c.State = s.FD, s.State
		c.Out, c.In = 8*float64(c.sent)/since, 8*float64(c.arrived)/since
		c.sent, c.arrived = 0, 0
		if s.TCP == nil {
			continue
		}
		c.Cwnd, c.SRTT, c.Retransmits = s.TCP.SndCwnd, s.TCP.RTT, s.TCP.Retransmits
		c.RTTs = append(c.RTTs, c.SRTT)
		c.RTTs = c.RTTs[max(0, len(c.RTTs)-history):]
	}
	for k, c := range t.conns {
		if !c.seen {
			delete(t.conns, k)
		}
	}
}

func (t *table) of(k connKey) *conn {
	c := t.conns[k]
	if c == nil {
		c = &conn{Row: Row{Local: k.local, Remote: k.remote}}
		t.conns[k] = c
	}
	return c
}

// sample takes what a connection tells after a segment. Sequence numbers only go up, so that samples that were lost
// are in the next one.
func (t *table) sample(s *stack.SampleEvent) {
	c := t.conns[connKey{s.Local, s.Remote}]
	if c == nil {
		return // too young for a look yet, or gone
	}
	if c.sampled {
		c.sent += uint64(s.SndUna - c.sndUna)
		c.arrived += uint64(s.RcvNxt - c.rcvNxt)
	}
	c.sampled, c.sndUna, c.rcvNxt, c.Limit = true, s.SndUna, s.RcvNxt, s.Limit
}

// rows returns the connections, sorted. The result is not nil: as JSON it is a list.
func (t *table) rows(by string) []Row {
	rows := make([]Row, 0, len(t.conns))
	for _, c := range t.conns {
		r := c.Row
		r.RTTs = append([]time.Duration(nil), c.RTTs...)
		rows = append(rows, r)
	}
	sortRows(rows, by)
	return rows
}

// Sorts are what rows can be sorted by.
var Sorts = []string{"rate", "cwnd", "srtt", "retrans", "remote"}

// sortRows sorts rows, the largest first.
func sortRows(rows []Row, by string) {
	slices.SortFunc(rows, func(a, b Row) int {
		c := 0
		switch by {
		case "rate":
			c = cmp.Compare(b.Out+b.In, a.Out+a.In)
		case "cwnd":
			c = cmp.Compare(b.Cwnd, a.Cwnd)
		case "srtt":
			c = cmp.Compare(b.SRTT, a.SRTT)
		case "retrans":
			c = cmp.Compare(b.Retransmits, a.Retransmits)
		}
		return cmp.Or(c, a.Remote.Compare(b.Remote), a.Local.Compare(b.Local))
	})
}

// column is a column. One of a lower rank leaves a narrow screen later.
type column struct {
	name  string
	rank  int
	right bool // aligned
	text  func(*Row) string
}

var columns = []column{
	{"REMOTE", 0, false, func(r *Row) string { return r.Remote.String() }},
	{"LOCAL", 9, false, func(r *Row) string { return r.Local.String() }},
	{"FD", 8, true, func(r *Row) string { return fdText(r.FD) }},
	{"STATE", 6, false, func(r *Row) string { return r.State }},
	{"OUT", 1, true, func(r *Row) string { return bitRate(r.Out) }},
	{"IN", 2, true, func(r *Row) string { return bitRate(r.In) }},
	{"CWND", 4, true, func(r *Row) string { return fmt.Sprint(r.Cwnd) }},
	{"RETR", 3, true, func(r *Row) string { return fmt.Sprint(r.Retransmits) }},
	{"SRTT", 5, true, func(r *Row) string { return shortTime(r.SRTT) }},
	{"COURSE", 10, false, func(r *Row) string { return sparkline(r.RTTs) }},
	{"LIMIT", 7, false, func(r *Row) string { return r.Limit }},
}

func fdText(fd int) string {
	if fd < 0 {
		return "-"
	}
	return fmt.Sprint(fd)
}

// Lines lays rows out, below a line of names, in columns as wide as what is in them. Columns for which there is no room
// in width characters are left out.
func Lines(rows []Row, width int) (lines []string) {
	cells := make([][]string, len(columns))
	widths := make([]int, len(columns))
	for i, c := range columns {
		cells[i] = append(cells[i], c.name)
		for j := range rows {
			cells[i] = append(cells[i], c.text(&rows[j]))
		}
		for _, cell := range cells[i] {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	shown := make([]bool, len(columns))
	room := width
	for rank := range 1 + len(columns) {
		for i, c := range columns {
			if c.rank != rank {
				continue
			}
			if need := widths[i] + 2; rank == 0 || need <= room {
				shown[i] = true
				room -= need
			} else {
				room = 0 // what matters less does not take its place
			}
		}
	}
	for j := range len(rows) + 1 {
		var b strings.Builder
		for i, c := range columns {
			if !shown[i] {
				continue
			}
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cells[i][j]))
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			if c.right {
				b.WriteString(pad + cells[i][j])
			} else {
				b.WriteString(cells[i][j] + pad)
			}
		}
		lines = append(lines, b.String())
	}
	return lines
}

// sparkline draws values as bars, the largest of them at full height; "" for none.
func sparkline(values []time.Duration) string {
	const bars = "▁▂▃▄▅▆▇█"
	steps := []rune(bars)
	var top time.Duration
	for _, v := range values {
		top = max(top, v)
	}
	if top == 0 {
		return ""
	}
	var b strings.Builder
	for _, v := range values {
		b.WriteRune(steps[int(v*time.Duration(len(steps)-1)/top)])
	}
	return b.String()
}

// bitRate writes bits a second in a few characters.
func bitRate(bits float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if bits >= u.size {
			return fmt.Sprintf("%.1f%s", bits/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f", bits)
}

// shortTime writes a time in a few characters; "-" for none.
func shortTime(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
