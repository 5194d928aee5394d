package stack

import (
	"math"
	"slices"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Socket option levels and names, with Linux's values on every OS.
const (
	SOL_IP     = 0
	SOL_SOCKET = 1
	SOL_TCP    = 6
	SOL_UDP    = 17
	SOL_IPV6   = 41

	SO_REUSEADDR    = 2
	SO_TYPE         = 3
	SO_ERROR        = 4
	SO_BROADCAST    = 6
	SO_SNDBUF       = 7
	SO_RCVBUF       = 8
	SO_KEEPALIVE    = 9
	SO_LINGER       = 13
	SO_REUSEPORT    = 15
	SO_BINDTODEVICE = 25
	SO_ACCEPTCONN   = 30
	SO_PROTOCOL     = 38
	SO_DOMAIN       = 39

	IP_TOS          = 1
	IP_TTL          = 2
	IP_PKTINFO      = 8 // the control message too
	IP_MTU_DISCOVER = 10
	IP_FREEBIND     = 15
	IP_TRANSPARENT  = 19

	IPV6_UNICAST_HOPS = 16
	IPV6_MTU_DISCOVER = 23
	IPV6_V6ONLY       = 26
	IPV6_RECVPKTINFO  = 49
	IPV6_PKTINFO      = 50 // a control message
	IPV6_TCLASS       = 67
	IPV6_FREEBIND     = 78
	IPV6_TRANSPARENT  = 75

	TCP_NODELAY      = 1
	TCP_MAXSEG       = 2
	TCP_CORK         = 3
	TCP_KEEPIDLE     = 4
	TCP_KEEPINTVL    = 5
	TCP_KEEPCNT      = 6
	TCP_SYNCNT       = 7
	TCP_LINGER2      = 8
	TCP_DEFER_ACCEPT = 9
	TCP_WINDOW_CLAMP = 10
	TCP_INFO         = 11
	TCP_QUICKACK     = 12
	TCP_CONGESTION   = 13
	TCP_USER_TIMEOUT = 18
)

// Linger is the value of SO_LINGER.
type Linger struct {
	OnOff  int // not 0: close waits, or resets if Linger is 0
	Linger int // seconds
}

// bufferOverhead is by how much Linux multiplies SO_SNDBUF and SO_RCVBUF to allow
// for its bookkeeping (socket(7)).
const bufferOverhead = 2

// mtuDiscover has netstack's strategies at Linux's values: IP_PMTUDISC_DONT is 0,
// then WANT, DO and PROBE.
var mtuDiscover = []tcpip.PMTUDStrategy{
	tcpip.PMTUDiscoveryDont, tcpip.PMTUDiscoveryWant, tcpip.PMTUDiscoveryDo, tcpip.PMTUDiscoveryProbe,
}

// Limits of the keepalive options in Linux (tcp.h): MAX_TCP_KEEPIDLE and so on.
const (
	maxKeepIdle = 32767
	maxKeepCnt  = 127
)

// Setsockopt sets an option: setsockopt(2). value is an int for most options, a
// string for TCP_CONGESTION and SO_BINDTODEVICE, a Linger for SO_LINGER.
func (y *Sys) Setsockopt(fd, level, name int, value any) error {
	c := y.begin("setsockopt", fd)
	k, err := y.socket(fd)
	if err == nil {
		err = k.setsockopt(level, name, value)
	}
	if c != nil {
		c.ev.Option = optionEvent(level, name, value)
		c.end(k, 0, err)
	}
	return err
}

// setOption is Setsockopt for the net API.
func (y *Sys) setOption(k *socket, level, name int, value any) error {
	c := y.begin("setsockopt", k.fd)
	err := k.setsockopt(level, name, value)
	if c != nil {
		c.ev.Option = optionEvent(level, name, value)
		c.end(k, 0, err)
	}
	return err
}

// Getsockopt reads an option: getsockopt(2). The value has the type that
// Setsockopt takes; TCP_INFO gives a TCPInfo.
func (y *Sys) Getsockopt(fd, level, name int) (any, error) {
	c := y.begin("getsockopt", fd)
	k, err := y.socket(fd)
	var v any
	if err == nil {
		v, err = k.getsockopt(level, name)
	}
	if c != nil {
		c.ev.Option = optionEvent(level, name, v)
		c.end(k, 0, err)
	}
	return v, err
}

func (k *socket) setsockopt(level, name int, value any) error {
	err := k.setOption(level, name, value)
	k.s.events.touched(k)
	if err == nil && k.stream() && (k.tcpState().unconnected() || k.tcpState() == tcpListen) {
		k.mu.Lock()
		k.options = slices.DeleteFunc(slices.Clone(k.options), func(o option) bool { return o.level == level && o.name == name })
		k.options = append(k.options, option{level, name, value})
		k.mu.Unlock()
	}
	return err
}

func (k *socket) setOption(level, name int, value any) error {
	switch v := value.(type) {
	case string:
		return k.setString(level, name, v)
	case Linger:
		if level != SOL_SOCKET || name != SO_LINGER {
			return syscall.EINVAL
		}
		o := k.ep.SocketOptions()
		l := o.GetLinger()
		if l.Enabled = v.OnOff != 0; l.Enabled {
			l.Timeout = time.Duration(v.Linger) * time.Second
		}
		o.SetLinger(l)
		return nil
	case int:
		return k.setInt(level, name, v)
	case bool:
		n := 0
		if v {
			n = 1
		}
		return k.setInt(level, name, n)
	}
	return syscall.EINVAL
}

func (k *socket) setString(level, name int, v string) error {
	switch {
	case level == SOL_TCP && !k.stream():
		return syscall.ENOPROTOOPT
	case level == SOL_TCP && name == TCP_CONGESTION && v == "":
		return syscall.EINVAL
	case level == SOL_TCP && name == TCP_CONGESTION:
		o := tcpip.CongestionControlOption(v)
		return errnoOf(k.ep.SetSockOpt(&o))
	case level == SOL_SOCKET && name == SO_BINDTODEVICE:
		if v == "" {
			return errnoOf(k.ep.SocketOptions().SetBindToDevice(0))
		}
		l := k.s.link(v)
		if l == nil {
			return syscall.ENODEV
		}
		return errnoOf(k.ep.SocketOptions().SetBindToDevice(int32(l.id)))
	}
	return syscall.EINVAL
}

func (k *socket) setInt(level, name, v int) error {
	o := k.ep.SocketOptions()
	switch level {
	case SOL_SOCKET:
		switch name {
		case SO_REUSEADDR:
			o.SetReuseAddress(v != 0)
		case SO_REUSEPORT:
			o.SetReusePort(v != 0)
		case SO_BROADCAST:
			o.SetBroadcast(v != 0)
		case SO_KEEPALIVE:
			o.SetKeepAlive(v != 0)
		case SO_SNDBUF:
			lo, hi := o.SendBufferLimits()
			o.SetSendBufferSize(clampBuffer(v, lo, hi), true)
		case SO_RCVBUF:
			lo, hi := o.ReceiveBufferLimits()
			o.SetReceiveBufferSize(clampBuffer(v, lo, hi), true)
		default: // the read-only ones too
			return syscall.ENOPROTOOPT
		}
		return nil
	case SOL_IP:
		switch name {
		case IP_TTL:
			if v == -1 {
				v = tcpip.UseDefaultIPv4TTL
			} else if v < 1 || v > 255 {
				return syscall.EINVAL
			}
			return errnoOf(k.ep.SetSockOptInt(tcpip.IPv4TTLOption, v))
		case IP_TOS:
			return errnoOf(k.ep.SetSockOptInt(tcpip.IPv4TOSOption, v&0xff))
		case IP_MTU_DISCOVER:
			if v < 0 || v >= len(mtuDiscover) {
				return syscall.EINVAL
			}
			if err := k.ep.SetSockOptInt(tcpip.MTUDiscoverOption, int(mtuDiscover[v])); err != nil {
				return errnoOf(err)
			}
			k.discover.Store(int32(v))
			return nil
		case IP_PKTINFO:
			k.pktInfo.Store(v != 0)
			k.askPacketInfo()
			return nil
		case IP_FREEBIND:
			k.freebind.Store(v != 0)
			return nil
		case IP_TRANSPARENT:
			k.transparent.Store(v != 0)
			return nil
		}
		return syscall.ENOPROTOOPT
	case SOL_IPV6:
		if k.domain != AF_INET6 {
			return syscall.ENOPROTOOPT
		}
		switch name {
		case IPV6_V6ONLY:
			k.mu.Lock()
			bound := k.bound.IsValid()
			k.mu.Unlock()
			if bound {
				return syscall.EINVAL
			}
			o.SetV6Only(v != 0)
			return nil
		case IPV6_UNICAST_HOPS:
			if v < -1 || v > 255 {
				return syscall.EINVAL
			}
			return errnoOf(k.ep.SetSockOptInt(tcpip.IPv6HopLimitOption, v))
		case IPV6_MTU_DISCOVER:
			if v < 0 || v >= len(mtuDiscover) {
				return syscall.EINVAL
			}
			k.discover6.Store(int32(v))
			return nil
		case IPV6_RECVPKTINFO:
			k.pktInfo6.Store(v != 0)
			k.askPacketInfo()
			return nil
		case IPV6_TCLASS:
			if v < -1 || v > 255 {
				return syscall.EINVAL
			}
			return errnoOf(k.ep.SetSockOptInt(tcpip.IPv6TrafficClassOption, max(v, 0)))
		case IPV6_FREEBIND:
			k.freebind.Store(v != 0)
			return nil
		case IPV6_TRANSPARENT:
			k.transparent.Store(v != 0)
			return nil
		}
		return syscall.ENOPROTOOPT
	case SOL_TCP:
		if !k.stream() {
			return syscall.ENOPROTOOPT
		}
		return k.setTCP(name, v)
	}
	return syscall.ENOPROTOOPT
}

func clampBuffer(v int, lo, hi int64) int64 {
	if v < 0 || v > math.MaxInt32/bufferOverhead {
		v = math.MaxInt32 / bufferOverhead
	}
	return min(max(int64(v)*bufferOverhead, lo), hi)
}

func (k *socket) setTCP(name, v int) error {
	o := k.ep.SocketOptions()
	seconds := func(max int) (time.Duration, error) {
		if v < 1 || v > max {
			return 0, syscall.EINVAL
		}
		return time.Duration(v) * time.Second, nil
	}
	switch name {
	case TCP_NODELAY:
		o.SetDelayOption(v == 0)
	case TCP_CORK:
		o.SetCorkOption(v != 0)
	case TCP_QUICKACK:
		o.SetQuickAck(v != 0)
	case TCP_MAXSEG:
		if v != 0 && (v < 88 || v > 32767) { // TCP_MIN_MSS, MAX_TCP_WINDOW
			return syscall.EINVAL
		}
		return errnoOf(k.ep.SetSockOptInt(tcpip.MaxSegOption, v))
	case TCP_KEEPIDLE:
		d, err := seconds(maxKeepIdle)
		if err != nil {
			return err
		}
		opt := tcpip.KeepaliveIdleOption(d)
		return errnoOf(k.ep.SetSockOpt(&opt))
	case TCP_KEEPINTVL:
		d, err := seconds(maxKeepIdle)
		if err != nil {
			return err
		}
		opt := tcpip.KeepaliveIntervalOption(d)
		return errnoOf(k.ep.SetSockOpt(&opt))
	case TCP_KEEPCNT:
		if v < 1 || v > maxKeepCnt {
			return syscall.EINVAL
		}
		return errnoOf(k.ep.SetSockOptInt(tcpip.KeepaliveCountOption, v))
	case TCP_SYNCNT:
		if v < 1 || v > maxKeepCnt {
			return syscall.EINVAL
		}
		return errnoOf(k.ep.SetSockOptInt(tcpip.TCPSynCountOption, v))
	case TCP_LINGER2:
		opt := tcpip.TCPLingerTimeoutOption(time.Duration(v) * time.Second)
		return errnoOf(k.ep.SetSockOpt(&opt))
	case TCP_DEFER_ACCEPT:
		opt := tcpip.TCPDeferAcceptOption(time.Duration(max(v, 0)) * time.Second)
		return errnoOf(k.ep.SetSockOpt(&opt))
	case TCP_USER_TIMEOUT:
		if v < 0 {
			return syscall.EINVAL
		}
		opt := tcpip.TCPUserTimeoutOption(time.Duration(v) * time.Millisecond)
		return errnoOf(k.ep.SetSockOpt(&opt))
	case TCP_WINDOW_CLAMP:
		return errnoOf(k.ep.SetSockOptInt(tcpip.TCPWindowClampOption, v))
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

func (k *socket) getsockopt(level, name int) (any, error) {
	o := k.ep.SocketOptions()
	flag := func(b bool) (any, error) {
		if b {
			return 1, nil
		}
		return 0, nil
	}
	intOpt := func(opt tcpip.SockOptInt) (any, error) {
		v, err := k.ep.GetSockOptInt(opt)
		return v, errnoOf(err)
	}
	switch level {
	case SOL_SOCKET:
		switch name {
		case SO_REUSEADDR:
			return flag(o.GetReuseAddress())
		case SO_REUSEPORT:
			return flag(o.GetReusePort())
		case SO_BROADCAST:
			return flag(o.GetBroadcast())
		case SO_KEEPALIVE:
			return flag(o.GetKeepAlive())
		case SO_SNDBUF:
			return int(o.GetSendBufferSize()), nil
		case SO_RCVBUF:
			return int(o.GetReceiveBufferSize()), nil
		case SO_TYPE:
			return k.typ, nil
		case SO_DOMAIN:
			return k.domain, nil
		case SO_PROTOCOL:
			if k.stream() {
				return IPPROTO_TCP, nil
			}
			return IPPROTO_UDP, nil
		case SO_ACCEPTCONN:
			return flag(k.stream() && k.tcpState() == tcpListen)
		case SO_ERROR:
			if err, ok := k.soError().(syscall.Errno); ok {
				return int(err), nil
			}
			return 0, nil
		case SO_LINGER:
			l := o.GetLinger()
			on := 0
			if l.Enabled {
				on = 1
			}
			return Linger{OnOff: on, Linger: int(l.Timeout / time.Second)}, nil
		case SO_BINDTODEVICE:
			for _, l := range *k.s.links.Load() {
				if int32(l.id) == o.GetBindToDevice() {
					return l.name, nil
				}
			}
			return "", nil
		}
	case SOL_IP:
		switch name {
		case IP_TTL:
			v, err := k.ep.GetSockOptInt(tcpip.IPv4TTLOption)
			if err == nil && v == tcpip.UseDefaultIPv4TTL {
				v = defaultTTL
			}
			return v, errnoOf(err)
		case IP_TOS:
			return intOpt(tcpip.IPv4TOSOption)
		case IP_MTU_DISCOVER:
			return int(k.discover.Load()), nil
		case IP_PKTINFO:
			return flag(k.pktInfo.Load())
		case IP_FREEBIND:
			return flag(k.freebind.Load())
		case IP_TRANSPARENT:
			return flag(k.transparent.Load())
		}
	case SOL_IPV6:
		if k.domain != AF_INET6 {
			return nil, syscall.EOPNOTSUPP
		}
		switch name {
		case IPV6_V6ONLY:
			return flag(o.GetV6Only())
		case IPV6_UNICAST_HOPS:
			v, err := k.ep.GetSockOptInt(tcpip.IPv6HopLimitOption)
			if err == nil && v == tcpip.UseDefaultIPv6HopLimit {
				v = defaultTTL
			}
			return v, errnoOf(err)
		case IPV6_MTU_DISCOVER:
			return int(k.discover6.Load()), nil
		case IPV6_RECVPKTINFO:
			return flag(k.pktInfo6.Load())
		case IPV6_TCLASS:
			return intOpt(tcpip.IPv6TrafficClassOption)
		case IPV6_FREEBIND:
			return flag(k.freebind.Load())
		case IPV6_TRANSPARENT:
			return flag(k.transparent.Load())
		}
	case SOL_TCP:
		if !k.stream() {
			return nil, syscall.EOPNOTSUPP
		}
		return k.getTCP(name)
	default:
		return nil, syscall.EOPNOTSUPP
	}
	return nil, syscall.ENOPROTOOPT
}

// defaultTTL is the TTL and hop limit of packets unless a socket sets another
// (RFC 1700, and Linux's ip_default_ttl).
const defaultTTL = 64

func (k *socket) getTCP(name int) (any, error) {
	o := k.ep.SocketOptions()
	flag := func(b bool) (any, error) {
		if b {
			return 1, nil
		}
		return 0, nil
	}
	switch name {
	case TCP_NODELAY:
		return flag(!o.GetDelayOption())
	case TCP_CORK:
		return flag(o.GetCorkOption())
	case TCP_QUICKACK:
		return flag(o.GetQuickAck())
	case TCP_MAXSEG:
		v, err := k.ep.GetSockOptInt(tcpip.MaxSegOption)
		return v, errnoOf(err)
	case TCP_KEEPIDLE:
		var d tcpip.KeepaliveIdleOption
		err := k.ep.GetSockOpt(&d)
		return int(time.Duration(d) / time.Second), errnoOf(err)
	case TCP_KEEPINTVL:
		var d tcpip.KeepaliveIntervalOption
		err := k.ep.GetSockOpt(&d)
		return int(time.Duration(d) / time.Second), errnoOf(err)
	case TCP_KEEPCNT:
		v, err := k.ep.GetSockOptInt(tcpip.KeepaliveCountOption)
		return v, errnoOf(err)
	case TCP_SYNCNT:
		v, err := k.ep.GetSockOptInt(tcpip.TCPSynCountOption)
		return v, errnoOf(err)
	case TCP_LINGER2:
		var d tcpip.TCPLingerTimeoutOption
		err := k.ep.GetSockOpt(&d)
		if d < 0 {
			return -1, errnoOf(err)
		}
		return int(time.Duration(d) / time.Second), errnoOf(err)
	case TCP_DEFER_ACCEPT:
		var d tcpip.TCPDeferAcceptOption
		err := k.ep.GetSockOpt(&d)
		return int(time.Duration(d) / time.Second), errnoOf(err)
	case TCP_USER_TIMEOUT:
		var d tcpip.TCPUserTimeoutOption
		err := k.ep.GetSockOpt(&d)
		return int(time.Duration(d) / time.Millisecond), errnoOf(err)
	case TCP_WINDOW_CLAMP:
		v, err := k.ep.GetSockOptInt(tcpip.TCPWindowClampOption)
		return v, errnoOf(err)
	case TCP_CONGESTION:
		var v tcpip.CongestionControlOption
		err := k.ep.GetSockOpt(&v)
		return string(v), errnoOf(err)
	case TCP_INFO:
		return *k.tcpInfo(), nil
	}
	return nil, syscall.ENOPROTOOPT
}

// soError returns and clears the pending error: SO_ERROR in socket(7).
func (k *socket) soError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.connecting {
		if err := k.connectResultLocked(); err != syscall.EALREADY {
			return err
		}
		return nil
	}
	return k.takeError()
}
