package control

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/catflap/catflap/stack"
)

// String names the kinds as the events request does.
func (k Kinds) String() string {
	var names []string
	for _, n := range []struct {
		on   bool
		name string
	}{{k.Calls, "calls"}, {k.Packets, "packets"}, {k.States, "states"}} {
		if n.on {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

func parseKinds(s string) (k Kinds, err error) {
	if s == "" {
		return Kinds{Calls: true, Packets: true, States: true}, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		switch name {
		case "calls":
			k.Calls = true
		case "packets":
			k.Packets = true
		case "states":
			k.States = true
		default:
			return k, badRequest("kinds %q: want calls, packets, states", name)
		}
	}
	return k, nil
}

func (k Kinds) want(e *stack.Event) bool {
	return e.Call != nil && k.Calls || e.Packet != nil && k.Packets || e.State != nil && k.States
}

// events streams events, a line of JSON each, until the client goes or the stack
// closes. A line with the count of lost events follows each loss.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	kinds, err := parseKinds(r.URL.Query().Get("kinds"))
	if err != nil {
		refuse(w, err)
		return
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		refuse(w, &httpError{http.StatusServiceUnavailable, "events: as many streams as an instance gives are open; end one of the commands that follow it"})
		return
	}
	sub := s.stack.Subscribe(r.Context(), streamBuffer)
	defer sub.Close()

	w.Header().Set("Content-Type", "application/x-ndjson")
	rc := http.NewResponseController(w)
	if rc.Flush() != nil { // the header says that the subscription stands
		return
	}
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	var told uint64
	for e := range sub.Events() {
		if n := sub.Dropped(); n != told {
			told = n
			if enc.Encode(line{Dropped: n}) != nil {
				return
			}
		}
		if kinds.want(&e) && enc.Encode(line{Event: &e}) != nil {
			return
		}
		if len(sub.Events()) == 0 && (buf.Flush() != nil || rc.Flush() != nil) {
			return
		}
	}
	_ = enc.Encode(line{Dropped: sub.Dropped()}) // the client may be gone
	_ = buf.Flush()
}
