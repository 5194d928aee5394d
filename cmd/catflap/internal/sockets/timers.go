package sockets

import (
	"fmt"
	"time"

	"github.com/catflap/catflap/stack"
)

// ssTimer writes a timer as ss -o does: timer:(keepalive,14sec,0).
func ssTimer(t *stack.Timer) string {
	return fmt.Sprintf("timer:(%s,%s,%d)", t.Name, ssDuration(t.Expires), t.Retrans)
}

// ssDuration writes a time as ss does, with less detail the longer it is: 200ms,
// 5.123ms for five seconds and a bit, 14sec, 1min30sec, 119min.
func ssDuration(d time.Duration) string {
	d = max(d, 0)
	minutes, seconds, millis := d/time.Minute, d%time.Minute/time.Second, d%time.Second/time.Millisecond
	if minutes > 9 {
		seconds = 0
	}
	if minutes > 0 || seconds > 9 {
		millis = 0
	}
	s := ""
	if minutes > 0 {
		s = fmt.Sprintf("%dmin", minutes)
	}
	switch {
	case seconds > 0 && millis > 0:
		s += fmt.Sprintf("%d.", seconds)
	case seconds > 0:
		s += fmt.Sprintf("%dsec", seconds)
	}
	if millis > 0 {
		s += fmt.Sprintf("%03dms", millis)
	}
	return s
}

// netstatTimer writes the timer of a socket as netstat -o does: seconds,
// retransmissions, probes without an answer.
func netstatTimer(k stack.SocketInfo) string {
	t := k.Timer
	switch {
	case t == nil && k.State == "TIME-WAIT":
		return "" // one runs, and the stack does not say which
	case t == nil:
		return "off (0.00/0/0)"
	}
	retransmits, probes := t.Retrans, 0
	if t.Name == "keepalive" {
		retransmits, probes = 0, t.Retrans
	}
	return fmt.Sprintf("%s (%.2f/%d/%d)", t.Name, max(t.Expires, 0).Seconds(), retransmits, probes)
}
