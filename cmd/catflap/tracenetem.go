package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/tun/impair"
)

// maxFaultLog is how many faults may wait to be printed; more are counted only.
const maxFaultLog = 1 << 14

// faultLog keeps what a link does to packets until the trace comes to that time.
type faultLog struct {
	stop func()

	mu   sync.Mutex
	list []seenFault
	lost int
}

type seenFault struct {
	at     time.Time
	fault  impair.Fault
	packet []byte
}

func watchFaults(l *impair.Link) *faultLog {
	log := &faultLog{}
	log.stop = l.Observe(func(f impair.Fault, p []byte) {
		if f.Action == impair.ActionDelay && f.Rule == "" {
			return // each packet of a slow link; the times show it
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		if len(log.list) == maxFaultLog {
			log.lost++
			return
		}
		log.list = append(log.list, seenFault{time.Now(), f, slices.Clone(p)})
	})
	return log
}

// before takes the faults that happened before a time.
func (l *faultLog) before(at time.Time) (list []seenFault, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := slices.IndexFunc(l.list, func(f seenFault) bool { return !f.at.Before(at) })
	if n < 0 {
		n = len(l.list)
	}
	list, lost = slices.Clone(l.list[:n]), l.lost
	l.list, l.lost = slices.Delete(l.list, 0, n), 0
	return list, lost
}

// printFaults prints what was done to packets before a time: the packet, what was done, and who asked for it.
func (t *tracer) printFaults(before time.Time) {
	list, lost := t.faults.before(before)
	for _, s := range list {
		arrow := "-> in "
		if s.fault.Packet.Dir == impair.Out {
			arrow = "<- out"
		}
		text := fmt.Sprintf("%d bytes", len(s.packet))
		if p, err := packet.Parse(s.packet); err == nil {
			text = t.tracker.Format(p)
		}
		why := "netem " + s.fault.Reason
		if s.fault.Rule != "" {
			why = "rule " + s.fault.Rule
		}
		value := ""
		switch {
		case s.fault.Delay != 0:
			value = " " + s.fault.Delay.String()
		case s.fault.N != 0:
			value = fmt.Sprintf(" %d", s.fault.N)
		}
		fmt.Fprintf(t.w, "%s %s %s%s\n", t.stamp(s.at), arrow, text, t.paint.off)
		fmt.Fprintf(t.w, "%s%snetem   %s%s: %s%s\n", detail, t.paint.bad, s.fault.Action, value, why, t.paint.off)
	}
	if lost > 0 {
		fmt.Fprintf(t.w, "%snetem   %d faults more\n", detail, lost)
	}
}
