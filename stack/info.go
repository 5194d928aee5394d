package stack

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// TCPInfo is what netstack knows of a connection: TCP_INFO in tcp(7). Times are
// durations; windows are in segments, as in Linux.
type TCPInfo struct {
	State       string        `json:"state"`
	CAState     string        `json:"ca_state"` // Open, Disorder, Recovery (FastRecovery, SACKRecovery), Loss
	RTT         time.Duration `json:"rtt"`      // smoothed (RFC 6298)
	RTTVar      time.Duration `json:"rttvar"`
	RTO         time.Duration `json:"rto"`
	SndCwnd     uint32        `json:"snd_cwnd"`
	SndSsthresh uint32        `json:"snd_ssthresh"`
	SndMSS      int           `json:"snd_mss,omitempty"` // payload of a full segment, bytes; 0: not known
	SndWnd      int           `json:"snd_wnd,omitempty"` // the peer's receive window, bytes
	Unacked     int           `json:"unacked,omitempty"` // segments in flight
	Sacked      int           `json:"sacked,omitempty"`  // of those, segments selectively acknowledged
	ReorderSeen bool          `json:"reord_seen"`
	Congestion  string        `json:"congestion"`
	SegsIn      uint64        `json:"segs_in"`
	SegsOut     uint64        `json:"segs_out"`         // with the ACKs that went with data instead: see TCPConfig.ACKDelay
	Retransmits uint64        `json:"retransmits"`      // segments sent again
	FastRetrans uint64        `json:"fast_retransmits"` // recoveries entered by duplicate ACKs
	Timeouts    uint64        `json:"timeouts"`         // retransmission timeouts
}

// SocketInfo describes a socket, or a connection without one: half-open, or
// closed by the application and not yet gone.
type SocketInfo struct {
	ID        uint64         `json:"id,omitempty"` // of the socket, as lsof's DEVICE and ss's ino, and of its connection: Event.Conn; 0: none
	FD        int            `json:"fd"`           // -1: none
	Network   string         `json:"network"`
	Family    Family         `json:"family"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote,omitzero"`
	State     string         `json:"state"` // by RFC 9293; UDP: UNCONN or ESTABLISHED
	RecvQ     int            `json:"recv_q"`
	SendQ     int            `json:"send_q"`
	Backlog   int            `json:"backlog,omitempty"` // LISTEN: as given to listen
	V6Only    bool           `json:"v6only,omitempty"`
	Device    string         `json:"device,omitempty"` // SO_BINDTODEVICE
	KeepAlive *KeepAlive     `json:"keepalive,omitempty"`
	Timer     *Timer         `json:"timer,omitempty"` // the timer that is running, if any
	TCP       *TCPInfo       `json:"tcp,omitempty"`
}

// Timer is a timer of a connection, as ss -o and netstat -o show it.
type Timer struct {
	Name    string        `json:"name"`    // "on": retransmission; "keepalive"; "timewait"
	Expires time.Duration `json:"expires"` // from now
	Retrans int           `json:"retrans"` // keepalive: probes without an answer
}

// KeepAlive is the keepalive configuration of a connection.
type KeepAlive struct {
	Idle     time.Duration `json:"idle"`
	Interval time.Duration `json:"interval"`
	Count    int           `json:"count"`
}

// Sockets lists the sockets by fd, then half-open and closing connections.
func (s *Stack) Sockets() []SocketInfo {
	var out []SocketInfo
	seen := map[tcpip.Endpoint]bool{}
	for _, k := range s.sys.sockets() {
		seen[k.ep] = true
		out = append(out, k.info())
	}
	for _, c := range s.tcpConns() {
		ep := c.Endpoint()
		if seen[ep] {
			continue
		}
		seen[ep] = true
		if st := c.State(); st.ended() || st == tcpNew {
			continue
		}
		k := &socket{s: s, id: s.events.identity(c), fd: -1, domain: AF_INET6, typ: SOCK_STREAM, ep: ep}
		if local, _ := c.Ends(); local.Addr().Is4() {
			k.domain = AF_INET
		}
		out = append(out, k.info())
	}
	return out
}

// Ends are the addresses of a connection, or of a listener, which has no Remote.
type Ends struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote,omitzero"`
}

// Destroy ends a TCP connection at once, with an RST, or a listener, as SOCK_DESTROY of sock_diag(7) does: the calls of
// who has the socket fail. The error wraps syscall.ENOENT if there is no such socket.
func (s *Stack) Destroy(e Ends) error {
	same := func(a, b netip.AddrPort) bool {
		return a.Port() == b.Port() && (a.Addr().Unmap() == b.Addr().Unmap() || !a.Addr().IsValid() && b.Addr().IsUnspecified() || !b.Addr().IsValid() && a.Addr().IsUnspecified())
	}
	for _, c := range s.tcpConns() {
		if st := c.State(); st.ended() || st == tcpNew {
			continue
		}
		if local, remote := c.Ends(); same(local, e.Local) && (remote == e.Remote || same(remote, e.Remote)) {
			c.Abort()
			return nil
		}
	}
	return fmt.Errorf("destroy %s %s: %w", e.Local, e.Remote, syscall.ENOENT)
}

// SocketByFD describes the socket at fd; ok is false if there is none.
func (s *Stack) SocketByFD(fd int) (info SocketInfo, ok bool) {
	k, err := s.sys.socket(fd)
	if err != nil {
		return SocketInfo{}, false
	}
	return k.info(), true
}

func (k *socket) info() SocketInfo {
	i := SocketInfo{ID: k.id, FD: k.fd, Network: k.network(), Family: k.family(), Local: k.localAddr()}
	if k.forwards {
		i.Local = netip.AddrPortFrom(k.family().Any(), 0)
	}
	c := tcpOf(k.ep)
	if r, err := k.remoteAddr(); err == nil && r.Port() != 0 {
		i.Remote = r
	} else if c != nil {
		// A half-open connection has a peer, though getpeername(2) does not say so.
		c.Lock()
		_, remote := c.Ends()
		c.Unlock()
		if remote.Port() != 0 {
			i.Remote = k.sockaddr(tcpip.FullAddress{Addr: toTCPIP(remote.Addr()), Port: remote.Port()})
		}
	}
	o := k.ep.SocketOptions()
	i.V6Only = k.domain == AF_INET6 && o.GetV6Only()
	if dev := o.GetBindToDevice(); dev != 0 {
		i.Device = k.s.ns.FindNICNameFromID(tcpip.NICID(dev))
	}
	i.RecvQ, _ = k.queued(SIOCINQ)
	i.SendQ, _ = k.queued(SIOCOUTQ)
	if c == nil {
		i.State = "UNCONN"
		if i.Remote.IsValid() {
			i.State = "ESTABLISHED"
		}
		return i
	}
	st := c.State()
	if i.State = st.String(); st == tcpListen {
		i.Backlog = int(k.backlog.Load())
		i.RecvQ, _ = c.AcceptQueue()
		i.SendQ = i.Backlog
		return i
	}
	if o.GetKeepAlive() {
		ka := &KeepAlive{}
		var idle tcpip.KeepaliveIdleOption
		var intvl tcpip.KeepaliveIntervalOption
		if k.ep.GetSockOpt(&idle) == nil && k.ep.GetSockOpt(&intvl) == nil {
			ka.Idle, ka.Interval = time.Duration(idle), time.Duration(intvl)
			ka.Count, _ = k.ep.GetSockOptInt(tcpip.KeepaliveCountOption)
			i.KeepAlive = ka
		}
	}
	i.TCP = c.Info()
	i.Timer = c.Timer(k.s.clock.NowMonotonic())
	return i
}

func (k *socket) tcpInfo() *TCPInfo {
	if c := tcpOf(k.ep); c != nil {
		return c.Info()
	}
	return &TCPInfo{}
}
