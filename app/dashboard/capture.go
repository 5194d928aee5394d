package dashboard

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

// all returns what is kept of a connection, or of all and of what belongs to none if c is nil.
func (r *Recorder) all(c *connection) (list []*entry, lost uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c == nil {
		for e := r.oldest; e != nil; e = e.newer {
			list = append(list, e)
		}
		return list, 0
	}
	return slices.Collect(c.kept.All()), c.lostBefore
}

// event is the event that an entry was made of.
func (e *entry) event(start time.Time) stack.Event {
	ev := stack.Event{Seq: e.seq, Time: start.Add(e.at), Conn: e.id, State: e.state, Call: e.call, Sample: e.sample, Timer: e.timer}
	switch {
	case e.packet != nil:
		ev.Packet = &e.packet.ev
	case e.link != nil:
		ev.Conn, ev.Link = 0, e.link.ev
	}
	return ev
}

// capture answers with what is kept as a file for Wireshark, and for catflap view.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	name := "catflap"
	var c *connection
	if text := r.URL.Query().Get("conn"); text != "" {
		var err error
		if c, err = s.connection(text); err != nil {
			refuse(w, err)
			return
		}
		name += "-" + strings.Map(func(r rune) rune {
			if strings.ContainsRune("0123456789abcdef.", r) {
				return r
			}
			return '-'
		}, c.key.remote.String())
	}
	list, lost := s.rec.all(c)
	h := w.Header()
	h.Set("Content-Type", "application/x-pcapng")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name+".pcapng"))
	h.Set("Cache-Control", "no-store")
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(downloadTimeout))
	if err := s.write(w, list, lost); err != nil {
		// The header says that all is well: ending in the middle is how the client learns that it is not.
		s.log.Debug("dashboard: capture", "err", err)
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) write(w http.ResponseWriter, list []*entry, lost uint64) error {
	cw := capture.NewWriter(w, capture.Config{Application: "catflap " + s.cfg.Version})
	rw, err := record.NewWriter(cw, record.Config{Comments: true, Interfaces: s.interfaces()})
	if err != nil {
		return errors.Join(err, cw.Close())
	}
	for _, e := range list {
		if e.lost > lost {
			rw.Lost(e.lost - lost)
			lost = e.lost
		}
		if err := rw.WriteEvent(e.event(s.rec.start)); err != nil {
			return errors.Join(err, rw.Close())
		}
	}
	return rw.Close()
}

// interfaces are those that the file is about, if they are known beforehand.
func (s *Server) interfaces() []capture.Interface {
	if s.cfg.Stack == nil || s.cfg.Name == "" {
		return nil
	}
	return []capture.Interface{{Name: s.cfg.Name}}
}
