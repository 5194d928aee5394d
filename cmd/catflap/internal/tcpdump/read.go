package tcpdump

import (
	"errors"
	"io"

	"github.com/catflap/catflap/app/record"
	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/tun/capture"
)

// Read calls see with each packet of a pcapng or pcap file, as the event that it was on the stack. It ends at the end of
// the file, or with the first error of see.
func Read(file io.Reader, see func(ev *stack.Event) error) error {
	r, err := capture.NewReader(file)
	if err != nil {
		return err
	}
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ev := stack.Event{Time: p.Time.Local()}
		name, out := r.Interfaces()[p.Interface].Name, p.Direction == capture.Out
		switch {
		case len(p.Data) == 0:
			continue
		case record.Lost(p):
			ev.Link = &stack.LinkEvent{Dev: name, Action: "drop", Len: p.Length, Data: p.Data}
		default:
			ev.Packet = &stack.PacketEvent{Dev: name, Out: out, Len: p.Length, Data: p.Data, FD: -1}
		}
		if err := see(&ev); err != nil {
			return err
		}
	}
}
