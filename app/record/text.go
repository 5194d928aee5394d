package record

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/catflap/catflap/stack"
)

// decision tells in lines what the stack made of a packet.
func decision(p *stack.PacketEvent) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if p.Route != nil {
		add("route: %s", p.Route.Short())
	}
	if p.Socket != nil {
		add("socket: %s", p.Socket.Short())
	}
	if p.Out && (p.FD >= 0 || p.State != "") {
		sender := strings.TrimSpace(fdName(p.FD) + " " + p.State)
		add("sender: %s", sender)
	}
	if p.Retransmit != "" {
		add("retransmission: %s", p.Retransmit)
	}
	if p.GSO > 0 {
		add("super-packet: segments of %d bytes", p.GSO)
	}
	if p.Drop != "" {
		add("dropped: %s", p.Drop)
	}
	return lines
}

func fdName(fd int) string {
	if fd < 0 {
		return "no fd"
	}
	return fmt.Sprintf("fd %d", fd)
}

// conn names a connection.
func conn(fd int, remote netip.AddrPort) string { return fmt.Sprintf("%s %s", fdName(fd), remote) }

// sample tells how a connection stands.
func sample(s *stack.SampleEvent) string {
	text := fmt.Sprintf("%s: cwnd %d ssthresh %d srtt %v rttvar %v rto %v in flight %d unsent %d snd_wnd %d rcv_wnd %d",
		conn(s.FD, s.Remote), s.Cwnd, s.Ssthresh, s.SRTT, s.RTTVar, s.RTO, s.InFlight, s.Unsent, s.SndWnd, s.RcvWnd)
	if s.Recovery != "" {
		text += ", recovery " + s.Recovery
	}
	if s.Limit != "" {
		text += ", limited by " + s.Limit
	}
	return text
}

// doing tells what a link did, and why.
func doing(l *stack.LinkEvent) string {
	text := l.Action
	switch {
	case l.Delay != 0:
		text += " " + l.Delay.String()
	case l.N != 0:
		text += fmt.Sprintf(" %d", l.N)
	}
	if l.Rule {
		return text + " by rule " + l.Why
	}
	return text + " by " + l.Why
}
