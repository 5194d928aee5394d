package dashboard

import (
	"fmt"

	"github.com/catflap/catflap/app/record"
)

// load records what was recorded before, within limits of its own: a recording does not grow.
func (r *Recorder) load(rec record.Recording) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.max.events, r.max.connEvents, r.max.connections = record.MaxEvents, record.MaxEvents, maxViewConnections
	r.stray.limit, r.calls.limit = record.MaxEvents, record.MaxEvents
	for i := range rec.Events {
		r.add(&rec.Events[i])
		rec.Events[i].Packet, rec.Events[i].Link = nil, nil // bytes that are not kept need no room
	}
	r.lost = max(r.lost, rec.Lost)
}

// notes says in words what a reader of a recording should know.
func notes(rec record.Recording) (list []string) {
	if rec.Foreign {
		list = append(list, "No packet of this file carries decisions: there are packets only, no states, calls or windows.")
	}
	if rec.Cut != "" {
		list = append(list, "Not all of the file was read: "+rec.Cut+".")
	}
	if rec.Lost > 0 {
		list = append(list, fmt.Sprintf("%d events were lost when the file was written.", rec.Lost))
	}
	if rec.Damaged > 0 {
		list = append(list, fmt.Sprintf("The decisions of %d packets could not be read.", rec.Damaged))
	}
	if rec.NotIP > 0 {
		list = append(list, fmt.Sprintf("%d frames that are not IP were passed over.", rec.NotIP))
	}
	return list
}
