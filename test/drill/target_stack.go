package drill

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/catflap/catflap/internal/random"
	"github.com/catflap/catflap/stack"
)

// stackTarget is the userspace stack on a wire in memory, in virtual time.
type stackTarget struct {
	*Wire
	s       *stack.Stack
	sys     *stack.Sys
	between func(Direction, []byte) [][]byte // nil: nothing
	changed []Frame                          // what it made of the packets that the stack has sent

	trail *stack.Subscription // nil unless decisions are asked for
}

// maxTrail bounds the events kept between two packets of a script; beyond it they are lost, which costs only words.
const maxTrail = 256

// deviceName is what public scripts call the interface.
const deviceName = "tun0"

// newStackTarget starts a stack as the settings say.
func newStackTarget(set settings) (*stackTarget, error) {
	w := NewWire(set.mtu)
	cfg := stack.Config{
		Links: []stack.Link{{Name: deviceName, Endpoint: w.Endpoint(), Addrs: []netip.Prefix{set.local}}},
		TCP:   set.tcp,
		Clock: w.Clock(),
		Rand:  random.NewBytes([32]byte{}), // initial sequence numbers, ports and hashes are the same in each run
	}
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if set.remote.Is6() {
		anywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	cfg.Routes = []stack.Route{{Dst: anywhere, Dev: deviceName}}
	s, err := stack.New(cfg)
	if err != nil {
		return nil, err
	}
	w.Attach(s.Quiesce)
	w.Settle()
	t := &stackTarget{Wire: w, s: s, sys: s.Sys()}
	if set.explain {
		t.trail = s.Subscribe(context.Background(), maxTrail)
	}
	return t, nil
}

func (t *stackTarget) begin() {}

func (t *stackTarget) stop() {
	if t.trail != nil {
		t.trail.Close()
	}
	t.s.Close()
}

// decisions says what the stack decided about the packet injected last.
func (t *stackTarget) decisions() string {
	if t.trail == nil {
		return ""
	}
	var said []string
	for {
		select {
		case e := <-t.trail.Events():
			p := e.Packet
			if p == nil || p.Out || p.Dev != deviceName {
				continue
			}
			if p.Route != nil {
				said = append(said, "route: "+p.Route.Short())
			}
			if p.Socket != nil {
				said = append(said, "socket: "+p.Socket.Short())
			}
			if p.Drop != "" {
				said = append(said, "dropped: "+p.Drop)
			}
		default:
			return strings.Join(said, "; ")
		}
	}
}

func (t *stackTarget) elapsed() time.Duration { return t.clock.Elapsed() }

func (t *stackTarget) inject(data []byte) error {
	if t.between == nil {
		t.Inject(data)
		return nil
	}
	for _, b := range t.between(In, bytes.Clone(data)) {
		t.Inject(b)
	}
	return nil
}

func (t *stackTarget) sent() (Frame, bool) {
	if t.between == nil {
		return t.Sent()
	}
	for len(t.changed) == 0 {
		f, ok := t.Sent()
		if !ok {
			return Frame{}, false
		}
		for _, b := range t.between(Out, f.Data) {
			t.changed = append(t.changed, Frame{At: f.At, Data: b})
		}
	}
	f := t.changed[0]
	t.changed = t.changed[1:]
	return f, true
}

func (t *stackTarget) advance(until time.Duration, stop func() bool) bool {
	return t.advanceTo(until, stop)
}

// settled runs a socket call and then waits until what it set in motion has come to rest.
func settled[T any](t *stackTarget, v T, err error) (T, error) {
	t.Settle()
	return v, err
}

func (t *stackTarget) socket(domain, typ, protocol int) (int, error) {
	return t.sys.Socket(domain, typ|stack.SOCK_NONBLOCK, protocol)
}

func (t *stackTarget) bind(fd int, addr netip.AddrPort) error { return t.sys.Bind(fd, addr) }

func (t *stackTarget) listen(fd, backlog int) error { return t.sys.Listen(fd, backlog) }

// setNonblock changes nothing: no call of this target blocks.
func (t *stackTarget) setNonblock(int, bool) error { return nil }

func (t *stackTarget) accept(fd, _ int) (int, netip.AddrPort, error) {
	return t.sys.Accept4(fd, stack.SOCK_NONBLOCK)
}

func (t *stackTarget) connect(fd int, addr netip.AddrPort) error {
	_, err := settled(t, 0, t.sys.Connect(fd, addr))
	return err
}

func (t *stackTarget) send(fd int, m outgoing) (int, error) {
	n, err := t.sys.Sendto(fd, m.joined(), m.flags|stack.MSG_DONTWAIT, m.to)
	return settled(t, n, err)
}

func (t *stackTarget) recv(fd int, b []byte, flags int) (int, netip.AddrPort, error) {
	n, from, err := t.sys.Recvfrom(fd, b, flags|stack.MSG_DONTWAIT)
	t.Settle()
	return n, from, err
}

func (t *stackTarget) shutdown(fd, how int) error {
	_, err := settled(t, 0, t.sys.Shutdown(fd, how))
	return err
}

func (t *stackTarget) close(fd int) error {
	_, err := settled(t, 0, t.sys.Close(fd))
	return err
}

func (t *stackTarget) getsockname(fd int) (netip.AddrPort, error) { return t.sys.Getsockname(fd) }

func (t *stackTarget) setsockopt(fd, level, name int, value any) error {
	if l, ok := value.(linger); ok {
		value = stack.Linger{OnOff: l.onOff, Linger: l.seconds}
	}
	_, err := settled(t, 0, t.sys.Setsockopt(fd, level, name, value))
	return err
}

func (t *stackTarget) getsockopt(fd, level, name int, _ any) (any, error) {
	v, err := t.sys.Getsockopt(fd, level, name)
	if l, ok := v.(stack.Linger); ok {
		return linger{l.OnOff, l.Linger}, err
	}
	return v, err
}

func (t *stackTarget) ioctl(fd, request int) (int, error) { return t.sys.Ioctl(fd, request) }

func (t *stackTarget) poll(fd, events int) (int, error) {
	p := []stack.PollFD{{FD: fd, Events: events}}
	_, err := t.sys.Poll(p, 0)
	return p[0].Revents, err
}

func (t *stackTarget) epollCreate() (int, error) { return t.sys.EpollCreate1(0) }

func (t *stackTarget) epollCtl(epfd, op, fd int, events uint32, data uint64) error {
	return t.sys.EpollCtl(epfd, op, fd, stack.EpollEvent{Events: events, Data: data})
}

func (t *stackTarget) epollWait(epfd, limit int) ([]epollEvent, error) {
	evs := make([]stack.EpollEvent, limit)
	n, err := t.sys.EpollWait(epfd, evs, 0)
	if err != nil {
		return nil, err
	}
	out := make([]epollEvent, n)
	for i, e := range evs[:n] {
		out[i] = epollEvent{e.Events, e.Data}
	}
	return out, nil
}

// caStates are Linux's numbers of the congestion states (enum tcp_ca_state), by this stack's names.
var caStates = map[string]int64{"Open": 0, "Disorder": 1, "FastRecovery": 3, "SACKRecovery": 3, "Loss": 4}

// stackInfo are the fields of TCP_INFO that the stack knows, beside its states, by Linux's names and units.
var stackInfo = map[string]func(stack.TCPInfo) int64{
	"tcpi_rtt":      func(i stack.TCPInfo) int64 { return i.RTT.Microseconds() },
	"tcpi_rttvar":   func(i stack.TCPInfo) int64 { return i.RTTVar.Microseconds() },
	"tcpi_rto":      func(i stack.TCPInfo) int64 { return i.RTO.Microseconds() },
	"tcpi_snd_cwnd": func(i stack.TCPInfo) int64 { return int64(i.SndCwnd) },
	"tcpi_snd_ssthresh": func(i stack.TCPInfo) int64 {
		if i.SndSsthresh == 0 {
			return infiniteSsthresh
		}
		return int64(i.SndSsthresh)
	},
	"tcpi_snd_mss":       func(i stack.TCPInfo) int64 { return int64(i.SndMSS) },
	"tcpi_segs_in":       func(i stack.TCPInfo) int64 { return int64(i.SegsIn) },
	"tcpi_segs_out":      func(i stack.TCPInfo) int64 { return int64(i.SegsOut) },
	"tcpi_total_retrans": func(i stack.TCPInfo) int64 { return int64(i.Retransmits) },
}

func (t *stackTarget) tcpInfo(fd int) (map[string]int64, error) {
	v, err := t.sys.Getsockopt(fd, stack.SOL_TCP, stack.TCP_INFO)
	if err != nil {
		return nil, err
	}
	i, ok := v.(stack.TCPInfo)
	if !ok {
		return nil, syscall.EOPNOTSUPP
	}
	info := map[string]int64{}
	for name, of := range stackInfo {
		info[name] = of(i)
	}
	if n, ok := stateNumbers[i.State]; ok {
		info["tcpi_state"] = n
	}
	if n, ok := caStates[i.CAState]; ok {
		info["tcpi_ca_state"] = n
	}
	return info, nil
}

// counters are those of Linux's counters that the stack keeps.
func (t *stackTarget) counters() (map[string]uint64, error) {
	d := t.s.Drops()
	return map[string]uint64{
		"TcpExtOutOfWindowIcmps": d.FalseTooBig,
		"TcpExtPAWSEstab":        d.PAWS,
		"TcpExtTCPTooOldAck":     d.AckTooOld,
		"TcpExtTCPAckUnsentData": d.AckUnsent,
		"IpExtInNoRoutes":        d.InNoRoutes,
		"IpOutNoRoutes":          d.OutNoRoutes,
	}, nil
}

func (t *stackTarget) connections() ([]connection, error) {
	var out []connection
	for _, i := range t.s.Sockets() {
		if strings.HasPrefix(i.Network, "tcp") {
			out = append(out, connection{i.Local, i.Remote, i.State})
		}
	}
	return out, nil
}

func (t *stackTarget) describe(fd int) string {
	i, ok := t.s.SocketByFD(fd)
	if !ok {
		return "closed"
	}
	s := fmt.Sprintf("%s %s, local %s", i.Network, i.State, i.Local)
	if i.Remote.IsValid() {
		s += fmt.Sprintf(", remote %s, recv-q %d, send-q %d", i.Remote, i.RecvQ, i.SendQ)
	}
	if tcp := i.TCP; tcp != nil && i.Remote.IsValid() {
		s += fmt.Sprintf(", %s cwnd %d ssthresh %d rtt %v rto %v, retransmits %d", tcp.CAState, tcp.SndCwnd, tcp.SndSsthresh, tcp.RTT, tcp.RTO, tcp.Retransmits)
	}
	return s
}
