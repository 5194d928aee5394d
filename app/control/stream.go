package control

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/catflap/catflap/stack"
)

// kindNames are the kinds in the words of the events request.
var kindNames = []struct {
	name string
	kind stack.EventKinds
	of   func(*Kinds) *bool
}{
	{"calls", stack.CallEvents, func(k *Kinds) *bool { return &k.Calls }},
	{"packets", stack.PacketEvents, func(k *Kinds) *bool { return &k.Packets }},
	{"states", stack.StateEvents, func(k *Kinds) *bool { return &k.States }},
	{"links", stack.LinkEvents, func(k *Kinds) *bool { return &k.Links }},
	{"samples", stack.SampleEvents, func(k *Kinds) *bool { return &k.Samples }},
	{"timers", stack.TimerEvents, func(k *Kinds) *bool { return &k.Timers }},
}

// query is the events request for k.
func (k Kinds) query() url.Values {
	var names []string
	for _, n := range kindNames {
		if *n.of(&k) {
			names = append(names, n.name)
		}
	}
	q := url.Values{"kinds": {strings.Join(names, ",")}}
	if k.Snap != 0 {
		q.Set("snap", strconv.Itoa(k.Snap))
	}
	return q
}

// maxSnap is the most bytes of a packet that a stream gives.
const maxSnap = 65535

// parseStream reads an events request. Without kinds it is for stack.DefaultEvents.
func parseStream(q url.Values) (cfg stack.SubscribeConfig, err error) {
	cfg.Buffer = streamBuffer
	if s := q.Get("snap"); s != "" {
		if cfg.Snap, err = strconv.Atoi(s); err != nil || cfg.Snap < 1 || cfg.Snap > maxSnap {
			return cfg, badRequest("snap %q: want a number of bytes from 1 to %d", s, maxSnap)
		}
		cfg.Buffer = min(streamBuffer, streamBytes/cfg.Snap)
	}
	kinds := q.Get("kinds")
	if kinds == "" {
		return cfg, nil
	}
names:
	for name := range strings.SplitSeq(kinds, ",") {
		for _, n := range kindNames {
			if n.name == name {
				cfg.Kinds |= n.kind
				continue names
			}
		}
		return cfg, badRequest("kinds %q: want calls, packets, states, links, samples, timers", name)
	}
	return cfg, nil
}

// events streams events, a line of JSON each, until the client goes or the stack
// closes. A line with the count of lost events follows each loss.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	cfg, err := parseStream(r.URL.Query())
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
	sub := s.stack.SubscribeWith(r.Context(), cfg)
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
		if enc.Encode(line{Event: &e}) != nil {
			return
		}
		if len(sub.Events()) == 0 && (buf.Flush() != nil || rc.Flush() != nil) {
			return
		}
	}
	_ = enc.Encode(line{Dropped: sub.Dropped()}) // the client may be gone
	_ = buf.Flush()
}
