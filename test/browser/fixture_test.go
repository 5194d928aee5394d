package browser

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// csp is the policy under which catflap serves the page. The tests against catflap itself see the real one.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

const fixtureToken = "feedfeedfeedfeedfeedfeedfeedfeed"

// fixture serves the page's files with made-up events. What it answers follows the server's interface; a test may
// change its fields before the first request, and those under mu at any time.
type fixture struct {
	*httptest.Server
	start   time.Time
	stories []*story
	seq     uint64
	flood   bool // there is a connection, number 100, that sends floodBatches of floodBatch packets
	empty   bool
	gap     int // events that are lost after a story's

	mu      sync.Mutex
	netemIn string
	netem   string
	rules   []string
	changes []string
	flooded uint64 // events of the flood, once all are sent
	refuse  bool   // streams
	streams map[chan struct{}]bool
}

// age is how long the fixture's recording has lasted when it starts.
const age = 8.0

func newFixture(t testing.TB, plots ...plot) *fixture {
	f := &fixture{start: time.Now().Add(-time.Duration(age * float64(time.Second))), netem: "delay 10ms loss 2%", netemIn: "delay 10ms", streams: map[chan struct{}]bool{}}
	for _, p := range plots {
		f.stories = append(f.stories, tell(p, &f.seq))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(filepath.Join("..", "..", "app", "dashboard", "assets"))))
	mux.HandleFunc("GET /api/info", f.info)
	mux.HandleFunc("GET /api/stream", f.stream)
	mux.HandleFunc("GET /api/packet/{seq}", f.packet)
	mux.HandleFunc("GET /api/connections", func(w http.ResponseWriter, r *http.Request) { reply(w, http.StatusOK, f.connections()) })
	mux.HandleFunc("POST /api/token", f.changing(func(map[string]any) (any, error) { return nil, nil }))
	mux.HandleFunc("POST /api/netem", f.changing(func(m map[string]any) (any, error) {
		spec := m["spec"].(string)
		if strings.Contains(spec, "bogus") {
			return nil, fmt.Errorf("unknown word")
		}
		if m["dir"] != "in" {
			f.netem = spec
		}
		if m["dir"] != "out" {
			f.netemIn = spec
		}
		return f.netemState(), nil
	}))
	mux.HandleFunc("POST /api/rules", f.changing(func(m map[string]any) (any, error) {
		f.rules = append(f.rules, m["text"].(string))
		return map[string]int{"id": len(f.rules)}, nil
	}))
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", csp)
		w.Header().Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.hangUp(true)
		f.Close()
	})
	return f
}

func (f *fixture) now() float64 { return time.Since(f.start).Seconds() }

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// changing is a handler of a change: it wants the token, and notes what was asked.
func (f *fixture) changing(do func(map[string]any) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Catflap-Token") != fixtureToken {
			reply(w, http.StatusUnauthorized, map[string]string{"error": "this token is not the one of this run", "remedy": "catflap prints it when it starts"})
			return
		}
		var m map[string]any
		json.NewDecoder(r.Body).Decode(&m)
		f.mu.Lock()
		defer f.mu.Unlock()
		asked := r.URL.Path
		for _, k := range []string{"dir", "spec", "text"} {
			if v, ok := m[k].(string); ok {
				asked += " " + v
			}
		}
		f.changes = append(f.changes, asked)
		v, err := do(m)
		switch {
		case err != nil:
			reply(w, http.StatusBadRequest, map[string]string{"error": err.Error(), "place": "bogus", "expected": "delay, loss, rate"})
		case v == nil:
			w.WriteHeader(http.StatusNoContent)
		default:
			reply(w, http.StatusOK, v)
		}
	}
}

func (f *fixture) info(w http.ResponseWriter, r *http.Request) {
	reply(w, 200, map[string]any{"version": "fixture", "mode": "live", "name": "cat0", "start": f.start.Format(time.RFC3339Nano), "now": f.now(),
		"stack":    map[string]any{"addrs": []string{"10.9.0.2", "fd00:9::2"}, "dev": "cat0", "driver": "offload", "mtu": 1500},
		"controls": true, "payload": false, "transfer": false, "limits": map[string]int{"packets": 200_000, "connections": 1000, "clients": 16}})
}

func (f *fixture) netemState() map[string]any {
	rules := []map[string]any{}
	for i, r := range f.rules {
		rules = append(rules, map[string]any{"id": i + 1, "text": r, "hits": 0})
	}
	return map[string]any{"in": f.netemIn, "out": f.netem, "rules": rules, "stats": map[string]any{"in": map[string]int{}, "out": map[string]int{"lost": 12, "delayed": 4211}}}
}

type conn map[string]any

func (f *fixture) connections() (list []conn) {
	for i, s := range f.stories {
		if s.opened > f.now() {
			continue
		}
		c := conn{"id": i + 1, "local": "10.9.0.2:80", "remote": s.client, "role": "server", "state": s.state, "opened": s.opened, "closed": any(nil),
			"rx": s.rx, "tx": s.tx, "packets": s.pkt, "retrans": s.retrans, "lost": s.lost, "fd": -1}
		if s.state == "CLOSED" {
			c["closed"] = s.closed
		} else {
			c["fd"] = 4
		}
		list = append(list, c)
	}
	if f.flood {
		list = append(list, conn{"id": 100, "local": "10.9.0.2:80", "remote": "10.9.0.1:50000", "role": "server", "state": "ESTABLISHED", "opened": age, "closed": any(nil),
			"rx": request, "tx": 1_000_000_000, "packets": 700_000, "retrans": 0, "lost": 0, "fd": 9})
	}
	return list
}

func (f *fixture) overview() map[string]any {
	now := f.now()
	n := int(now * 1212)
	socks := []conn{}
	if !f.empty {
		states := []string{"ESTABLISHED", "ESTABLISHED", "ESTABLISHED", "CLOSE-WAIT", "TIME-WAIT", "FIN-WAIT-2", "ESTABLISHED"}
		for i := range 420 {
			c := conn{"id": 0, "fd": 5 + i, "proto": "tcp", "state": states[i%len(states)], "local": "10.9.0.2:80", "remote": fmt.Sprintf("10.9.0.%d:%d", 1+i%3, 40000+i*7),
				"recvq": 0, "sendq": i * 1448 % 90000, "age": 0.4 + float64(i)*0.37, "rx": 76 + i*13, "tx": 1448 * i * i, "retrans": i % 11 / 8, "limit": []string{"application", "congestion window", "receive window"}[i%3]}
			if i < len(f.stories) {
				c["id"] = i + 1
				c["remote"] = f.stories[i].client
			}
			socks = append(socks, c)
		}
	}
	step := func(id, name string, more map[string]any) map[string]any {
		m := map[string]any{"id": id, "name": name, "in": n, "out": n * 2}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	if f.empty {
		n = 0
	}
	listeners := []conn{
		{"fd": 3, "proto": "tcp", "state": "LISTEN", "local": "10.9.0.2:80", "remote": "*", "backlog": 4096, "queue": 2, "age": 812.0},
		{"fd": 4, "proto": "tcp", "state": "LISTEN", "local": "[fd00:9::2]:80", "remote": "*", "backlog": 4096, "queue": 0, "age": 812.0}}
	return map[string]any{"t": now, "path": []any{
		step("tun", "TUN cat0", map[string]any{"in_bytes": n * 66, "out_bytes": n * 2 * 1490}),
		step("impair", "Impairment", map[string]any{"drops": map[string]int{"loss": n / 97}, "did": map[string]int{"delayed": n * 3}}),
		step("rules", "Rules", nil),
		step("tables", "Tables", map[string]any{"drops": map[string]int{"IP_INNOROUTES": 3}}),
		step("lookup", "Socket lookup", map[string]any{"did": map[string]int{"established": n - 420, "listener": 420}, "drops": map[string]int{"NO_SOCKET": 4}}),
		map[string]any{"id": "fd", "name": "fd", "did": map[string]int{"accept": 420, "read": n / 3, "write": n / 2, "close": 398}},
		map[string]any{"id": "app", "name": "App", "did": map[string]int{"requests": 420}},
	}, "sockets": socks, "listeners": listeners,
		"rules": []string{"0:\tfrom all lookup local", "32766:\tfrom all lookup main", "32767:\tfrom all lookup default"},
		"routes": []map[string]string{{"table": "local", "text": "local 10.9.0.2 dev cat0 proto kernel scope host src 10.9.0.2 "}, {"table": "local", "text": "broadcast 10.9.0.255 dev cat0 proto kernel scope link src 10.9.0.2 "},
			{"table": "main", "text": "10.9.0.0/24 dev cat0 proto kernel scope link src 10.9.0.2 "}},
		"netem": f.netemState(), "lost": 0, "events": f.seq}
}

var setup = []ev{
	{K: "c", Seq: 1, T: 0.01, Name: "socket", Text: "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, IPPROTO_IP) = 3", Ret: 3},
	{K: "c", Seq: 2, T: 0.01, Name: "bind", Text: `bind(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("10.9.0.2")}, 16) = 0`},
	{K: "c", Seq: 3, T: 0.01, Name: "listen", Text: "listen(3, 4096) = 0"},
}

// hangUp ends all streams; with refuse, new ones are refused.
func (f *fixture) hangUp(refuse bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
	for c := range f.streams {
		close(c)
		delete(f.streams, c)
	}
}

func (f *fixture) stream(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.Atoi(r.URL.Query().Get("conn"))
	if id > len(f.stories) && id != 100 {
		reply(w, http.StatusNotFound, map[string]string{"error": "no such connection is kept"})
		return
	}
	f.mu.Lock()
	if f.refuse {
		f.mu.Unlock()
		reply(w, http.StatusServiceUnavailable, map[string]string{"error": "too many streams"})
		return
	}
	end := make(chan struct{})
	f.streams[end] = true
	f.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(name string, v any) {
		b, _ := json.Marshal(v)
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, b)
	}
	overview := func() {
		f.mu.Lock()
		o := f.overview()
		f.mu.Unlock()
		send("overview", o)
	}
	overview()
	if c := f.connections(); !f.empty {
		send("connections", c)
	}
	send("calls", setup)
	var sent int
	first := true
	load := endless{t: f.now(), at: 1 + 20*mss}
	tick := time.NewTicker(batchInterval)
	defer tick.Stop()
	for i := 0; ; i++ {
		if id > 0 && id <= len(f.stories) {
			s, now := f.stories[id-1], f.now()
			for first || sent < len(s.events) && s.events[sent].T <= now {
				n := sent
				for n < len(s.events) && n-sent < 2000 && s.events[n].T <= now {
					n++
				}
				send("batch", map[string]any{"conn": id, "events": append([]ev{}, s.events[sent:n]...), "reset": first})
				sent, first = n, false
			}
			if f.gap > 0 && i == 2 {
				send("batch", map[string]any{"conn": id, "events": []ev{}, "gap": f.gap})
			}
		}
		if id == 100 && i < floodBatches {
			fmt.Fprintf(w, "event: batch\ndata: {\"conn\":100,\"reset\":%t,\"events\":%s}\n\n", first, load.next(floodBatch))
			first = false
		} else if id == 100 {
			f.mu.Lock()
			f.flooded = load.seq
			f.mu.Unlock()
		}
		if i%10 == 9 {
			overview()
			send("connections", f.connections())
		}
		w.(http.Flusher).Flush()
		select {
		case <-tick.C:
		case <-end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// batchInterval is the time between messages of one stream, as catflap's.
const batchInterval = 50 * time.Millisecond

// endless makes the events of a connection that sends for ever: two segments, an acknowledgement, a sample.
type endless struct {
	t   float64
	seq uint64
	at  uint32
	n   int
}

// next returns the JSON of the events of so many packets, in batchInterval. It is written by hand: an encoder under the
// race detector is slower than the page that is to be tested.
func (l *endless) next(packets int) []byte {
	b := []byte{'['}
	begin := func(kind string) {
		if len(b) > 1 {
			b = append(b, ',')
		}
		l.seq++
		b = append(b, `{"k":"`+kind+`","seq":`...)
		b = strconv.AppendUint(b, l.seq, 10)
		b = append(b, `,"t":`...)
		b = strconv.AppendFloat(b, l.t, 'f', 6, 64)
	}
	segment := func(out bool, seq, ack uint32, plen int) {
		begin("p")
		b = append(b, `,"out":`...)
		b = strconv.AppendBool(b, out)
		for _, f := range []struct {
			name string
			v    uint64
		}{{`,"seqno":`, uint64(seq)}, {`,"ack":`, uint64(ack)}, {`,"plen":`, uint64(plen)}, {`,"len":`, uint64(plen) + 52}, {`,"rel":{"seq":`, uint64(seq)}, {`,"ack":`, uint64(ack)}} {
			b = append(b, f.name...)
			b = strconv.AppendUint(b, f.v, 10)
		}
		b = append(b, `},"flags":".","win":262144,"rwin":2048`...)
	}
	for range packets {
		l.t += batchInterval.Seconds() / float64(packets)
		l.n++
		if l.n%3 == 0 {
			segment(false, 1, l.at-20*mss, 0)
			b = append(b, '}')
			begin("m")
			b = append(b, `,"srtt":0.02,"rttvar":0.001,"rto":0.2,"ssthresh":50,"mss":1448,"inflight":28960,"unsent":0,"snd_wnd":262144,"rcv_wnd":65535,"limit":"congestion window","cwnd":`...)
			b = strconv.AppendInt(b, int64(60+l.n/3%40), 10)
			b = append(b, '}')
			continue
		}
		segment(true, l.at, 1, mss)
		if l.n%1000 == 1 {
			b = append(b, `,"retransmit":"RACK"`...)
		}
		b = append(b, '}')
		l.at += mss
	}
	return append(b, ']')
}

func (f *fixture) packet(w http.ResponseWriter, r *http.Request) {
	seq, _ := strconv.ParseUint(r.PathValue("seq"), 10, 64)
	for _, s := range f.stories {
		for _, e := range s.events {
			if e.Seq == seq && e.K == "p" {
				reply(w, 200, dissect(s, e))
				return
			}
		}
	}
	reply(w, http.StatusNotFound, map[string]string{"error": "no such packet is kept"})
}

// dissect makes up a packet's bytes and what they mean.
func dissect(s *story, e ev) map[string]any {
	var client [4]byte
	fmt.Sscanf(s.client, "%d.%d.%d.%d", &client[0], &client[1], &client[2], &client[3])
	_, p, _ := strings.Cut(s.client, ":")
	port, _ := strconv.Atoi(p)
	src, dst, sp, dp := client, [4]byte{10, 9, 0, 2}, port, 80
	if *e.Out {
		src, dst, sp, dp = dst, src, dp, sp
	}
	b := []byte{0x45, 0, byte(e.Len >> 8), byte(e.Len), 0x1c, 0x46, 0x40, 0, 64, 6, 0xb1, 0xe6}
	b = append(append(b, src[:]...), dst[:]...)
	u32 := func(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }
	b = append(b, byte(sp>>8), byte(sp), byte(dp>>8), byte(dp))
	b = append(append(b, u32(e.Seqno)...), u32(e.Ack)...)
	var fl byte
	for i, c := range "FSRP." {
		if strings.ContainsRune(e.Flags, c) {
			fl |= 1 << i
		}
	}
	b = append(b, 0x80, fl, byte(e.RWin>>8), byte(e.RWin), 0x12, 0x9a, 0, 0, 1, 1, 8, 10, 0, 0, 3, 0xe9, 0, 0, 0, 1)
	hex := fmt.Sprintf("%x", b) + strings.Repeat("..", min(*e.Plen, 96))
	type m = map[string]any
	field := func(layer, name string, value any, start, end int) m {
		return m{"layer": layer, "name": name, "value": fmt.Sprint(value), "start": start, "end": end}
	}
	ip := func(a [4]byte) string { return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]) }
	fields := []m{field("IPv4", "Version", 4, 0, 1), field("IPv4", "Total length", e.Len, 2, 4), field("IPv4", "Identification", "0x1c46", 4, 6), field("IPv4", "Flags", "DF", 6, 8),
		field("IPv4", "Time to live", 64, 8, 9), field("IPv4", "Protocol", "TCP (6)", 9, 10), field("IPv4", "Source", ip(src), 12, 16), field("IPv4", "Destination", ip(dst), 16, 20),
		field("TCP", "Source port", sp, 20, 22), field("TCP", "Destination port", dp, 22, 24), field("TCP", "Sequence number", e.Seqno, 24, 28), field("TCP", "Acknowledgement", e.Ack, 28, 32),
		field("TCP", "Flags", e.Flags, 33, 34), field("TCP", "Window", e.RWin, 34, 36), field("TCP", "Checksum", "0x129a", 36, 38),
		field("options", "Timestamps", "TSval 1001, TSecr 1", 42, 52)}
	if *e.Plen > 0 {
		fields = append(fields, field("payload", "Payload", fmt.Sprintf("%d bytes", *e.Plen), 52, 52+min(*e.Plen, 96)))
	}
	decision := []m{{"step": "rule", "text": "0: from all lookup local"}, {"step": "table", "text": "local"}, {"step": "route", "text": "local 10.9.0.2 dev cat0 proto kernel scope host src 10.9.0.2"}}
	if strings.Contains(e.Flags, "S") {
		decision = append(decision, m{"step": "socket", "text": "exact 10.9.0.2:80 from " + s.client + ": none"}, m{"step": "socket", "text": "listener on 10.9.0.2:80, fd 3: this one"})
	} else {
		decision = append(decision, m{"step": "socket", "text": "exact 10.9.0.2:80 from " + s.client + ": fd 4, ESTABLISHED"})
	}
	if *e.Out {
		decision = []m{{"step": "route", "text": "10.9.0.0/24 dev cat0 proto kernel scope link src 10.9.0.2"}}
	}
	if e.Retransmit != "" {
		decision = append(decision, m{"step": "retransmit", "text": e.Retransmit})
	}
	return m{"seq": e.Seq, "t": e.T, "out": *e.Out, "len": e.Len, "captured": 52, "decision": decision, "fields": fields, "hex": hex,
		"text": fmt.Sprintf("IP %s.%d > %s.%d: Flags [%s], seq %d, ack %d, win %d, length %d", ip(src), sp, ip(dst), dp, e.Flags, e.Seqno, e.Ack, e.RWin, *e.Plen)}
}
