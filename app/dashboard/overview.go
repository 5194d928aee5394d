package dashboard

import (
	"cmp"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun"
)

// Overview is the stack at one moment.
type Overview struct {
	T         float64      `json:"t"`
	Path      []Step       `json:"path"`
	Sockets   []socketRow  `json:"sockets"`
	Listeners []socketRow  `json:"listeners"`
	More      int          `json:"more"` // sockets that are not listed
	Rules     []string     `json:"rules"`
	Rules6    []string     `json:"rules6"`
	Routes    []routeLine  `json:"routes"`
	Netem     *netemReport `json:"netem"`
	Lost      uint64       `json:"lost"`
	Events    uint64       `json:"events"`
}

// socketRow is a socket. Null is what is not known.
type socketRow struct {
	ID      int      `json:"id"`
	FD      int      `json:"fd"`
	Proto   string   `json:"proto"`
	State   string   `json:"state"`
	Local   string   `json:"local"`
	Remote  string   `json:"remote"`
	RecvQ   int      `json:"recvq"`
	SendQ   int      `json:"sendq"`
	Age     *float64 `json:"age"`
	RX      *uint64  `json:"rx"`
	TX      *uint64  `json:"tx"`
	Retrans uint64   `json:"retrans"`
	Limit   string   `json:"limit"`
	Backlog int      `json:"backlog"`
	Queue   int      `json:"queue"`
}

type routeLine struct {
	Table string `json:"table"`
	Text  string `json:"text"`
}

// overviewCache is the overview that all streams are sent.
type overviewCache struct {
	mu   sync.Mutex
	at   time.Time
	cost time.Duration
	json json.RawMessage
}

// costShare is how many times longer than it took to make an overview it is good for: with very many sockets that is
// more than overviewInterval.
const costShare = 10

// overview returns one that is fresh enough.
func (s *Server) overview() json.RawMessage {
	o := &s.seen
	o.mu.Lock()
	defer o.mu.Unlock()
	start := time.Now()
	if start.Sub(o.at) < max(overviewInterval-batchInterval, costShare*o.cost) {
		return o.json
	}
	b, err := json.Marshal(s.look())
	if err != nil {
		panic(err) // plain data
	}
	o.at, o.json = time.Now(), b
	o.cost = o.at.Sub(start)
	return b
}

// look makes an overview.
func (s *Server) look() Overview {
	now := s.now()
	o := Overview{
		T: seconds(now), Sockets: []socketRow{}, Listeners: []socketRow{}, Rules: []string{}, Rules6: []string{}, Routes: []routeLine{},
	}
	r := s.rec
	st := s.cfg.Stack
	var sockets []stack.SocketInfo
	if st != nil {
		sockets = st.Sockets()
	}
	r.mu.Lock()
	if s.watch.following() {
		r.sweep(sockets, now)
	}
	o.Path, o.Lost, o.Events = r.path.clone(), r.lost, r.seq
	for _, k := range sockets {
		if len(o.Sockets)+len(o.Listeners) >= maxSockets {
			o.More++
			continue
		}
		if k.State == "LISTEN" {
			row := rowOf(&k)
			row.Backlog, row.Queue = k.Backlog, k.RecvQ
			o.Listeners = append(o.Listeners, row)
			continue
		}
		o.Sockets = append(o.Sockets, r.socketRow(&k, now))
	}
	r.mu.Unlock()
	switch {
	case s.cfg.Driver != "":
		o.Path[stepTun].Name = "TUN " + s.cfg.Name
	case st != nil:
		o.Path[stepTun].Name = "Link " + s.cfg.Name
	}
	if s.cfg.Wire != nil {
		o.Path[stepTun].wire(s.cfg.Wire(), s.watch.wire())
	}
	if st == nil {
		return o
	}
	for _, rule := range first(st.Rules(stack.IPv4), maxRoutes) {
		o.Rules = append(o.Rules, rule.String())
	}
	for _, rule := range first(st.Rules(stack.IPv6), maxRoutes) {
		o.Rules6 = append(o.Rules6, rule.String())
	}
	for _, f := range []stack.Family{stack.IPv4, stack.IPv6} {
		for _, rt := range first(st.Routes(f, 0), maxRoutes) {
			o.Routes = append(o.Routes, routeLine{rt.Table.String(), rt.String()})
		}
	}
	if s.cfg.Netem != nil {
		o.Netem = reportNetem(s.cfg.Netem)
	}
	return o
}

func first[T any](list []T, n int) []T { return list[:min(len(list), n)] }

func rowOf(k *stack.SocketInfo) socketRow {
	row := socketRow{FD: k.FD, Proto: k.Network, State: k.State, Local: k.Local.String(), RecvQ: k.RecvQ, SendQ: k.SendQ}
	if k.Remote.IsValid() {
		row.Remote = k.Remote.String()
	}
	return row
}

// socketRow is a socket with what is known of its connection. The caller holds mu.
func (r *Recorder) socketRow(k *stack.SocketInfo, now time.Duration) socketRow {
	row := rowOf(k)
	if k.TCP != nil {
		row.Retrans = k.TCP.Retransmits
	}
	c := r.byKey[tuple{plain(k.Local), plain(k.Remote)}]
	if k.Network != "tcp" || c == nil || c.over || c.hidden {
		return row
	}
	row.ID = c.id
	if c.partial {
		return row
	}
	age, rx, tx := seconds(now-c.opened), c.rx(), c.tx()
	row.Age, row.RX, row.TX = &age, &rx, &tx
	if c.sample != nil {
		row.Limit = c.sample.Limit
	}
	return row
}

// wire takes a device's counters in the place of what events tell: since they were at base.
func (s *Step) wire(now, base tun.Stats) {
	s.In, s.InBytes = now.RxPackets-base.RxPackets, now.RxBytes-base.RxBytes
	s.Out, s.OutBytes = now.TxPackets-base.TxPackets, now.TxBytes-base.TxBytes
	clear(s.Drops)
	for _, d := range []struct {
		reason    string
		now, base uint64
	}{
		{"truncated", now.RxDroppedTruncated, base.RxDroppedTruncated},
		{"not IP", now.RxDroppedNotIP, base.RxDroppedNotIP},
		{"bad virtio header", now.RxDroppedBadVnetHdr, base.RxDroppedBadVnetHdr},
		{"bad checksum", now.RxDroppedBadChecksum, base.RxDroppedBadChecksum},
		{"no stack", now.RxDroppedUnattached, base.RxDroppedUnattached},
		{"too big", now.TxDroppedTooBig, base.TxDroppedTooBig},
		{"no buffer", now.TxDroppedNoBuffer, base.TxDroppedNoBuffer},
		{"device down", now.TxDroppedDown, base.TxDroppedDown},
		{"device error", now.TxDroppedError, base.TxDroppedError},
	} {
		if n := d.now - d.base; n > 0 {
			s.Drops[d.reason] = n
		}
	}
}

// rows lists the connections, oldest first; closed ones only if asked for.
func (r *Recorder) rows(closed bool) []row {
	r.mu.Lock()
	defer r.mu.Unlock()
	rows := []row{}
	for el := r.open.Front(); el != nil; el = el.Next() {
		if c := el.Value.(*connection); !c.hidden {
			rows = append(rows, c.row())
		}
	}
	if closed {
		for el := r.done.Front(); el != nil; el = el.Next() {
			rows = append(rows, el.Value.(*connection).row())
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// version changes whenever a row may have.
func (r *Recorder) version() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changes
}

// until is the time of the newest event.
func (r *Recorder) until() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}
