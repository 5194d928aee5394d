package stack

import (
	"fmt"
	"strconv"
	"syscall"

	"github.com/catflap/catflap/stack/event"
)

// call is a socket call under way that somebody follows.
type call struct {
	s  *Stack
	ev CallEvent
}

// begin starts the record of a call on an fd, -1 if it takes none; nil if nobody
// follows.
func (y *Sys) begin(name string, fd int) *call {
	if !y.s.events.on(CallEvents) {
		return nil
	}
	return &call{s: y.s, ev: CallEvent{Name: name, FD: fd, Start: y.s.clock.Now()}}
}

// end publishes the call, which was made on the socket k, nil if on none.
func (c *call) end(k *socket, ret int64, err error) {
	c.ev.Ret = ret
	c.ev.Duration = c.s.clock.Now().Sub(c.ev.Start)
	if errno, ok := err.(syscall.Errno); ok {
		c.ev.Ret, c.ev.Errno, c.ev.Error = -1, errno, errnoName(errno)
	}
	var conn uint64
	if k != nil {
		caused := err != nil && err != syscall.EAGAIN || ret == 0 && c.ev.Buffer != nil && c.ev.Buffer.Size > 0 // an error, or the end of the stream
		conn = c.s.events.called(k, caused)
	}
	c.s.events.Publish(Event{Conn: conn, Call: &c.ev})
}

// transferred is a buffer of which n bytes were transferred. Nothing was if n < 0.
func transferred(b []byte, n int) *event.Buffer {
	if n < 0 {
		return &event.Buffer{Addr: addressOf(b), Size: len(b), Len: -1}
	}
	return &event.Buffer{Size: len(b), Len: n, Data: append([]byte(nil), b[:min(n, len(b), event.MaxBytes)]...)}
}

// addressOf is where a buffer is, 0 if it is nil: what strace shows of one that was not
// filled.
func addressOf[T any](b []T) uint64 {
	n, _ := strconv.ParseUint(fmt.Sprintf("%p", b), 0, 64) // "0x0" of nil
	return n
}

// event is m with n bytes in its buffers.
func (m *Msg) event(s *Stack, n int) *event.Message {
	ev := &event.Message{Name: m.Name, Flags: m.Flags, Control: s.controlEvent(m.Control), Buffers: make([]event.Buffer, 0, len(m.Buffers))}
	for _, b := range m.Buffers {
		used := max(0, min(n, len(b)))
		n -= used
		ev.Buffers = append(ev.Buffers, *transferred(b, used))
	}
	return ev
}

// optionEvent is an option with the value that setsockopt takes or getsockopt gives.
func optionEvent(level, name int, value any) *event.Option {
	o := &event.Option{Level: level, Name: name}
	switch v := value.(type) {
	case int:
		o.Int = &v
	case bool:
		n := 0
		if v {
			n = 1
		}
		o.Int = &n
	case string:
		o.Text = &v
	case Linger:
		o.Linger = new(event.Linger(v))
	case TCPInfo:
		o.Info = &event.TCPInfo{State: v.State, SndCwnd: v.SndCwnd, RTT: v.RTT}
	}
	return o
}
