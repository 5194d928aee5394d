package dashboard

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/stack"
)

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// traffic feeds a recorder with the packets of many connections: a few busy ones, others that come and go.
type traffic struct {
	*story
	n     int
	busy  int // connections that have most of the packets
	route stack.RouteLookup
}

func newTraffic(t testing.TB, r *Recorder, busy int) *traffic {
	tr := &traffic{story: newStory(t), busy: busy}
	tr.r, tr.now = r, r.start
	tr.route.Tries = make([]stack.RouteTry, 2)
	tr.shake()
	return tr
}

// packet is the next one: of a busy connection nine times of ten.
func (tr *traffic) packet(at time.Time) {
	tr.n++
	tr.now = at
	port := uint16(40000 + tr.n%tr.busy)
	g := seg{flags: packet.ACK, seq: 5001, ack: 1001, win: 900, payload: "some bytes of payload, which need not be kept"}
	if tr.n%10 == 0 {
		port = uint16(1024 + tr.n/10%30000)
		g.flags = packet.SYN
		g.seq = uint32(tr.n)
	}
	remote := tr.remote
	tr.remote = netip.AddrPortFrom(client.Addr(), port)
	if g.flags == packet.SYN {
		tr.again()
	}
	conn := tr.conn()
	b := g.bytes(tr.local, tr.remote)
	tr.remote = remote
	route := tr.route // a new one each time, as the stack's are
	tr.add(stack.Event{Conn: conn, Packet: &stack.PacketEvent{Out: true, Dev: "cat0", Len: len(b), Data: b, FD: 7, State: "ESTABLISHED", Route: &route}})
	if tr.n%2 == 0 {
		tr.add(stack.Event{Conn: tr.conn(), Sample: &stack.SampleEvent{FD: 7, Local: tr.local, Remote: tr.remote, Cwnd: tr.n}})
	}
}

// An hour of 5,000 packets a second, as fast as it goes, takes no more memory than its first minute.
func TestMemoryIsBounded(t *testing.T) {
	if raceEnabled {
		t.Skip("one goroutine, which the race detector makes ten times as slow; run without -race, as make test does")
	}
	packets := 18_000_000 / 10 // six minutes; the limits are reached after seconds
	if testing.Short() {
		packets /= 3
	}
	r := NewRecorder(epoch, false)
	tr := newTraffic(t, r, 8)
	before := heap()
	var most, early uint64
	for i := range packets {
		tr.packet(epoch.Add(time.Duration(i) * 200 * time.Microsecond))
		if i%(packets/6) == packets/6-1 {
			most = max(most, heap()-before)
			if early == 0 {
				early = most
			}
		}
	}
	tr.check()
	t.Logf("%d events kept in %.1f MB, %.1f MB early on", r.events, float64(most)/1e6, float64(early)/1e6)
	if r.events != maxEvents || len(r.byID) != maxConnections {
		t.Errorf("%d events are kept; the limits were not reached", r.events)
	}
	if most > 120e6 {
		t.Errorf("%d bytes are in use", most)
	}
	if most > early+early/4 {
		t.Errorf("memory grows: %d bytes, %d early on", most, early)
	}
}

// newQuietSite is a site that records what the test makes up, besides what little its stack does. A client has a time to
// take an answer.
func newQuietSite(t testing.TB, answer time.Duration) *site {
	w := newSite(t, func(c *Config) { c.OnDemand, c.answer, c.goodbye = true, answer, goodbyeTimeout })
	w.s.Ready()
	return w
}

// batch is a message with events of a connection, as far as these tests look at it.
type batch struct {
	Gap    uint64
	Events []struct {
		K  string
		T  float64
		To string
	}
}

// batches calls see with the messages of a stream until it returns true.
func batches(tb testing.TB, ch <-chan message, see func(batch) bool) {
	tb.Helper()
	for m := range ch {
		if m.name != "batch" {
			continue
		}
		var b batch
		if err := json.Unmarshal([]byte(m.data), &b); err != nil {
			tb.Fatal(err)
		}
		if see(b) {
			return
		}
	}
	tb.Error("the stream ended")
}

// A page that reads misses nothing: of the packets that come in one interval at 5,000 a second, again and again as soon
// as it has seen those before, nor of more at once than a message holds.
func TestPaceOfAPage(t *testing.T) {
	w := newQuietSite(t, time.Hour)
	tr := newTraffic(t, w.s.rec, 1)
	ch, stop := w.open(t.Context(), "?conn=1")
	defer stop()
	const (
		each   = int(5000 * batchInterval / time.Second)
		rounds = 30
		flood  = 3 * maxBatch
	)
	want, seen, round := 3, 0, 0 // the handshake's
	batches(t, ch, func(b batch) (ended bool) {
		if b.Gap != 0 {
			t.Errorf("a gap of %d", b.Gap)
		}
		if len(b.Events) > maxBatch {
			t.Errorf("%d events in a message, want at most %d", len(b.Events), maxBatch)
		}
		for _, e := range b.Events {
			if e.K == "p" {
				seen++
			}
			ended = ended || e.To == "CLOSED"
		}
		if seen < want || round > rounds {
			return ended
		}
		n := each
		if round++; round > rounds {
			n = flood
		}
		for range n {
			tr.packet(time.Now())
			if tr.n%10 != 0 { // the page's connection
				want++
			}
		}
		if round > rounds {
			tr.state(7, "ESTABLISHED", "CLOSED") // the mark of the end
		}
		return ended
	})
	if seen != want {
		t.Errorf("%d packets seen, want %d", seen, want)
	}
}

// BenchmarkPage says how far a page is behind at 5,000 packets a second.
func BenchmarkPage(b *testing.B) {
	w := newQuietSite(b, time.Hour)
	r := w.s.rec
	tr := newTraffic(b, r, 1)
	ch, stop := w.open(b.Context(), "?conn=1")
	defer stop()
	const rate, seconds = 5000, 3
	for b.Loop() {
		var feed sync.WaitGroup
		feed.Go(func() {
			begin := time.Now()
			for n := 0; n < rate*seconds; {
				for due := int(time.Since(begin).Seconds() * rate); n < due; n++ {
					tr.packet(time.Now())
				}
				time.Sleep(2 * time.Millisecond)
			}
			tr.state(7, "ESTABLISHED", "CLOSED")
		})
		var behind time.Duration
		batches(b, ch, func(m batch) (ended bool) {
			for _, e := range m.Events {
				if e.K == "p" && e.T > 0 {
					behind = max(behind, time.Since(r.start)-time.Duration(e.T*1e9))
				}
				ended = ended || e.To == "CLOSED"
			}
			return ended
		})
		feed.Wait()
		b.ReportMetric(behind.Seconds()*1e3, "ms-behind")
	}
}

// A client that does not read is waited for by nobody, takes no memory, and finds a gap when it reads again.
func TestClientThatDoesNotRead(t *testing.T) {
	w := newQuietSite(t, time.Hour)
	tr := newTraffic(t, w.s.rec, 1)
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /api/stream?conn=1 HTTP/1.1\r\nHost: %s\r\n\r\n", w.addr)
	testenv.Await(t, "the stream has begun", func() bool { return len(w.s.streams) == 1 })
	before := heap()
	for i := range 4 * maxConnEvents {
		tr.packet(time.Now())
		if i%1000 == 0 {
			time.Sleep(5 * time.Millisecond) // the stream tries to send meanwhile
		}
	}
	if grown := heap() - before; grown > 120e6 {
		t.Errorf("%d bytes more are in use", grown)
	}
	// It reads again: first what was under way, then that something is missing.
	c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var b batch
		if data, ok := strings.CutPrefix(lines.Text(), `data: {"conn":1`); ok && json.Unmarshal([]byte(`{"conn":1`+data), &b) == nil && b.Gap > 0 {
			t.Logf("a gap of %d events", b.Gap)
			return
		}
	}
	t.Errorf("no gap was told: %v", lines.Err())
}

// A client that never reads again is let go.
func TestClientThatNeverReads(t *testing.T) {
	w := newQuietSite(t, 200*time.Millisecond)
	tr := newTraffic(t, w.s.rec, 1)
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /api/stream?conn=1 HTTP/1.1\r\nHost: %s\r\n\r\n", w.addr)
	testenv.Await(t, "the stream has begun", func() bool { return len(w.s.streams) == 1 })
	testenv.Await(t, "the stream's end", func() bool {
		for range 500 {
			tr.packet(time.Now())
		}
		return len(w.s.streams) == 0
	})
}
