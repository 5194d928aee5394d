package dashboard

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// cursor is how far a reader of a connection's entries has come. It holds no entries: a reader that falls behind
// finds that some were forgotten, and is told how many.
type cursor struct {
	conn *connection
	next uint64 // number of the next entry
	lost uint64 // entry.lost of the one before
}

// cursor returns one at a connection's first entry.
func (r *Recorder) cursor(c *connection) cursor { return cursor{conn: c, lost: c.lostBefore} }

// find returns the connection of that id, nil if there is none.
func (r *Recorder) find(id int) *connection {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[id]
}

// read appends at most room entries to batch, which is empty, and says how many events are missing before them. It
// stops before others that are missing.
func (r *Recorder) read(cur *cursor, batch []*entry, room int) (_ []*entry, gap uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := &cur.conn.kept
	for cur.next < kept.Next() && len(batch) < room {
		n := kept.Seek(cur.next)
		if n > cur.next && len(batch) > 0 {
			break
		}
		gap += n - cur.next
		if cur.next = n; n == kept.Next() {
			break
		}
		e := kept.At(n)
		if n := e.lost - cur.lost; n > 0 {
			if len(batch) > 0 {
				break
			}
			gap += n
			cur.lost = e.lost
		}
		batch = append(batch, e)
		cur.next++
	}
	return batch, gap
}

// batchJSON is a message with events of a connection.
type batchJSON struct {
	Conn   int    `json:"conn"`
	Events []any  `json:"events"`
	Reset  bool   `json:"reset,omitempty"`
	Gap    uint64 `json:"gap,omitempty"`
}

// sse writes server-sent events.
type sse struct {
	w    *bufio.Writer
	rc   *http.ResponseController
	said time.Time // when something was written

	timeout time.Duration // for the client to take what is written
}

// send writes one event. An error means that the client is gone, or has not read for the timeout.
func (o *sse) send(name string, data any) error {
	b, ok := data.(json.RawMessage)
	if !ok {
		var err error
		if b, err = json.Marshal(data); err != nil {
			return err
		}
	}
	o.w.WriteString("event: " + name + "\ndata: ")
	o.w.Write(b)
	o.w.WriteString("\n\n")
	return o.flush(o.timeout)
}

func (o *sse) flush(timeout time.Duration) error {
	o.said = time.Now()
	if err := o.rc.SetWriteDeadline(o.said.Add(timeout)); err != nil {
		return err
	}
	if err := o.w.Flush(); err != nil {
		return err
	}
	return o.rc.Flush()
}

// stream answers with what happens, until the client goes or the server closes. Nothing is queued for a client:
// what it has not taken waits in the recorder, or is forgotten there.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		refuse(w, refusef(http.StatusServiceUnavailable, "close another page of the dashboard", "%d pages are open, which is the most", maxStreams))
		return
	}
	defer s.watch.enter()()
	v := view{s: s, calls: s.rec.cursor(s.rec.calls)}
	if text := r.URL.Query().Get("conn"); text != "" {
		c, err := s.connection(text)
		if err != nil {
			refuse(w, err)
			return
		}
		cur := s.rec.cursor(c)
		v.conn = &cur
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	v.out = &sse{w: bufio.NewWriterSize(w, 32<<10), rc: http.NewResponseController(w), timeout: s.cfg.answer}
	if v.out.flush(s.cfg.answer) != nil {
		return
	}
	tick := time.NewTicker(batchInterval)
	defer tick.Stop()
	for v.step(r.Context()) == nil {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			if s.http.Context().Err() != nil {
				v.out.w.WriteString("event: bye\ndata: {\"reason\":\"catflap has ended\"}\n\n")
				_ = v.out.flush(s.cfg.goodbye)
			}
			return
		}
	}
}

// connection returns the connection of an id.
func (s *Server) connection(text string) (*connection, error) {
	id, err := strconv.Atoi(text)
	if err != nil || id < 1 {
		return nil, refusef(http.StatusBadRequest, "want the id of one of /api/connections", "connection %q", text)
	}
	c := s.rec.find(id)
	if c == nil {
		return nil, refusef(http.StatusNotFound, "want the id of one of /api/connections", "connection %d is not, or no longer, kept", id)
	}
	return c, nil
}

// view is what one stream has told.
type view struct {
	s     *Server
	out   *sse
	calls cursor
	conn  *cursor // nil: none is looked at
	reset bool    // the first batch has gone out

	overview time.Time // of the last one
	rows     uint64    // Recorder.changes of the last list
	told     bool      // there was one
	batch    []*entry
}

// step tells what is new.
func (v *view) step(ctx context.Context) error {
	if now := time.Now(); now.Sub(v.overview) >= overviewInterval && (v.overview.IsZero() || v.s.cfg.Stack != nil) {
		v.overview = now
		if err := v.out.send("overview", v.s.overview()); err != nil {
			return err
		}
		if n := v.s.rec.version(); !v.told || n != v.rows {
			v.told, v.rows = true, n
			if err := v.out.send("connections", v.s.rec.rows(true)); err != nil {
				return err
			}
		}
	}
	if err := v.tell(ctx, &v.calls, func(batch []any, _ uint64) error { return v.out.send("calls", batch) }); err != nil {
		return err
	}
	if v.conn != nil {
		err := v.tell(ctx, v.conn, func(batch []any, gap uint64) error {
			m := batchJSON{Conn: v.conn.conn.id, Events: batch, Gap: gap, Reset: !v.reset}
			v.reset = true
			return v.out.send("batch", m)
		})
		if err != nil {
			return err
		}
	}
	if time.Since(v.out.said) > heartbeat {
		v.out.w.WriteString(": still here\n\n")
		return v.out.flush(v.s.cfg.answer)
	}
	return nil
}

// tell sends entries after a cursor: all of a recording, and of a live stack at most maxBatch at a time, since no page
// can show more. Of a transfer that is faster still, the recorder forgets, and tells a gap.
func (v *view) tell(ctx context.Context, cur *cursor, send func([]any, uint64) error) error {
	for room := maxBatch; room > 0 && ctx.Err() == nil; {
		var gap uint64
		v.batch, gap = v.s.rec.read(cur, v.batch[:0], room)
		if len(v.batch) == 0 && gap == 0 {
			break
		}
		if v.s.cfg.Stack != nil {
			room -= len(v.batch)
		}
		events := make([]any, len(v.batch))
		for i, e := range v.batch {
			events[i] = e.json()
		}
		clear(v.batch)
		if err := send(events, gap); err != nil {
			return err
		}
	}
	return nil
}
