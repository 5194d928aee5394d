package dashboard

import (
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// Detail is all that is known of one packet.
type Detail struct {
	Seq      uint64     `json:"seq"`
	T        float64    `json:"t"`
	Out      bool       `json:"out"`
	Len      int        `json:"len"`      // bytes of the IP packet
	Captured int        `json:"captured"` // of those, bytes in Hex
	Decision []Decision `json:"decision"`
	Fields   []Field    `json:"fields"`
	Hex      string     `json:"hex"`  // ".." of a byte that is not to be shown
	Text     string     `json:"text"` // as tcpdump -S writes it
}

// Decision is one step of what the stack, or the link, made of a packet.
type Decision struct {
	Step string `json:"step"` // "link", "rule", "table", "route", "socket", "retransmit", "drop"
	Text string `json:"text"`
	Won  bool   `json:"won,omitempty"` // of what was tried, what matched
}

// entry returns the entry of that number, nil if it is not kept.
func (r *Recorder) entry(seq uint64) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	look := func(c *connection) *entry {
		return c.kept.Find(seq)
	}
	if e := look(r.stray); e != nil {
		return e
	}
	for _, c := range r.byID {
		if e := look(c); e != nil {
			return e
		}
	}
	return nil
}

func (s *Server) packet(r *http.Request) (any, error) {
	text := r.PathValue("seq")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, refusef(http.StatusBadRequest, "want the seq of a packet", "packet %q", text)
	}
	e := s.rec.entry(seq)
	if e == nil || e.packet == nil && e.link == nil {
		return nil, refusef(http.StatusNotFound, "newer packets have taken its place", "packet %d is not, or no longer, kept", seq)
	}
	d := Detail{Seq: e.seq, T: seconds(e.at), Decision: []Decision{}, Fields: []Field{}}
	var data []byte
	if p := e.packet; p != nil {
		d.Out, d.Len, d.Captured, data = p.out, p.len, p.seen, p.ev.Data
		d.Decision = append(d.Decision, decisions(&p.ev)...)
	} else {
		l := e.link.ev
		d.Out, d.Len, d.Captured, data = l.Out, l.Len, e.link.seen, l.Data
		text := l.Action
		if l.Delay != 0 {
			text += " " + l.Delay.String()
		}
		d.Decision = append(d.Decision, Decision{Step: "link", Text: text + ": " + l.Why})
		if loses(l.Action) {
			d.Decision = append(d.Decision, Decision{Step: "drop", Text: "by the link"})
		}
	}
	d.Hex = hex.EncodeToString(data) + strings.Repeat("..", d.Captured-len(data))
	whole := make([]byte, max(d.Len, len(data)))
	copy(whole, data)
	if p, err := packet.Parse(whole); err == nil {
		d.Text = p.String()
		d.Fields = fields(data, &p, d.Captured)
	} else {
		d.Text = err.Error()
	}
	return d, nil
}

// decisions are the steps that led a packet to where it went.
func decisions(p *stack.PacketEvent) (list []Decision) {
	add := func(step, text string, won bool) { list = append(list, Decision{step, text, won}) }
	if l := p.Route; l != nil {
		for _, t := range l.Tries {
			add("rule", strings.Replace(t.Rule.String(), "\t", " ", 1)+": "+t.Why, t.Match)
			if t.Route != nil {
				add("table", "table "+t.Rule.Table.String()+": "+t.Route.String(), t.Match)
			}
		}
		// The last line of the explanation is its conclusion.
		lines := strings.Split(strings.TrimSpace(l.Text()), "\n")
		add("route", strings.TrimPrefix(strings.TrimSpace(lines[len(lines)-1]), "=> "), l.Route != nil)
	}
	if l := p.Socket; l != nil {
		for _, t := range l.Tries {
			text := strings.TrimSpace(t.Step+" "+t.Candidate) + ": "
			switch {
			case t.Match && t.FD >= 0:
				text += strings.TrimSpace("fd " + itoa(t.FD) + " " + t.State)
			case t.Match:
				text += strings.TrimSpace("no fd yet " + t.State)
			default:
				text += t.Why
			}
			add("socket", text, t.Match)
		}
		if !l.Found {
			add("socket", l.Answer, false)
		}
	} else if p.Out && (p.FD >= 0 || p.State != "") {
		from := "sent by no fd"
		if p.FD >= 0 {
			from = "sent by fd " + itoa(p.FD)
		}
		add("socket", strings.TrimSpace(from+" "+p.State), true)
	}
	if p.Retransmit != "" {
		add("retransmit", string(p.Retransmit), true)
	}
	if p.Drop != "" {
		add("drop", p.Drop, true)
	}
	return list
}
