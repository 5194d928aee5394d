package instance

import (
	"errors"
	"fmt"
	"os"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/impair"
)

// Netem is what is done to the packets of an instance's link from the first on. The zero value does nothing.
type Netem struct {
	Settings []impair.Setting
	Replay   impair.Recording // if not nil, is done instead of Settings
	Record   string           // if not "", a file that gets all faults until Close
}

// apply does what n says to l. The recording, if there is one, is for the caller to close.
func (n Netem) apply(l *impair.Link) (*recording, error) {
	for _, s := range n.Settings {
		if err := s.Apply(l); err != nil {
			return nil, fmt.Errorf("netem %s: %w", s, err)
		}
	}
	if n.Replay != nil {
		if err := l.Replay(n.Replay); err != nil {
			return nil, fmt.Errorf("replay: %w", err)
		}
	}
	if n.Record == "" {
		return nil, nil
	}
	f, err := os.Create(n.Record)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return &recording{f, l.Record(f)}, nil
}

// tell has s tell its subscribers what l does to packets. A Link that does nothing has nothing to tell.
func tell(s *stack.Stack, dev string, l *impair.Link) {
	l.Observe(func(f impair.Fault, packet []byte) {
		ev := stack.LinkEvent{
			Dev: dev, Out: f.Packet.Dir == impair.Out, Action: f.Action.String(), Why: f.Reason, Delay: f.Delay, N: f.N, Data: packet,
		}
		if f.Rule != "" {
			ev.Why, ev.Rule = f.Rule, true
		}
		s.PublishLink(ev)
	})
}

// recording is a Recorder and its file.
type recording struct {
	file *os.File
	*impair.Recorder
}

// Close writes what is left. It may be called of nil.
func (r *recording) Close() error {
	if r == nil {
		return nil
	}
	if err := errors.Join(r.Recorder.Close(), r.file.Close()); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}
