package strace

import (
	"fmt"
	"strings"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

func flagNames(v int, zero string, names ...any) string {
	var out []string
	left := uint32(v)
	for i := 0; i < len(names); i += 2 {
		bit, high := names[i].(uint32) // bit 31, which no int of 32 bits has
		if !high {
			bit = uint32(names[i].(int))
		}
		if left&bit != 0 {
			out = append(out, names[i+1].(string))
			left &^= bit
		}
	}
	if left != 0 {
		out = append(out, fmt.Sprintf("%#x", left))
	}
	if len(out) == 0 {
		return zero
	}
	return strings.Join(out, "|")
}

func domainName(d int) string {
	switch d {
	case stack.AF_UNSPEC:
		return "AF_UNSPEC"
	case stack.AF_INET:
		return "AF_INET"
	case stack.AF_INET6:
		return "AF_INET6"
	}
	return itoa(d)
}

func typeName(t int) string {
	kind := t &^ (stack.SOCK_NONBLOCK | stack.SOCK_CLOEXEC)
	name := itoa(kind)
	switch kind {
	case stack.SOCK_STREAM:
		name = "SOCK_STREAM"
	case stack.SOCK_DGRAM:
		name = "SOCK_DGRAM"
	}
	if f := t & (stack.SOCK_NONBLOCK | stack.SOCK_CLOEXEC); f != 0 {
		name += "|" + sockFlags(f)
	}
	return name
}

func sockFlags(f int) string {
	return flagNames(f, "0", stack.SOCK_CLOEXEC, "SOCK_CLOEXEC", stack.SOCK_NONBLOCK, "SOCK_NONBLOCK")
}

func protocolName(p int) string {
	switch p {
	case stack.IPPROTO_IP:
		return "IPPROTO_IP"
	case stack.IPPROTO_TCP:
		return "IPPROTO_TCP"
	case stack.IPPROTO_UDP:
		return "IPPROTO_UDP"
	}
	return itoa(p)
}

func msgFlags(f int) string {
	return flagNames(f, "0", stack.MSG_PEEK, "MSG_PEEK", stack.MSG_CTRUNC, "MSG_CTRUNC", stack.MSG_TRUNC, "MSG_TRUNC", stack.MSG_DONTWAIT, "MSG_DONTWAIT",
		stack.MSG_WAITALL, "MSG_WAITALL", stack.MSG_NOSIGNAL, "MSG_NOSIGNAL", stack.MSG_MORE, "MSG_MORE")
}

func openFlags(f int) string {
	mode := "O_RDONLY"
	if f&stack.O_RDWR != 0 {
		mode = "O_RDWR"
	}
	if f &^= stack.O_RDWR; f == 0 {
		return mode
	}
	return mode + "|" + flagNames(f, "", stack.O_NONBLOCK, "O_NONBLOCK")
}

func shutName(how int) string {
	switch how {
	case stack.SHUT_RD:
		return "SHUT_RD"
	case stack.SHUT_WR:
		return "SHUT_WR"
	case stack.SHUT_RDWR:
		return "SHUT_RDWR"
	}
	return itoa(how)
}

func fcntlName(cmd int) string {
	switch cmd {
	case stack.F_GETFL:
		return "F_GETFL"
	case stack.F_SETFL:
		return "F_SETFL"
	}
	return itoa(cmd)
}

func ioctlName(r int) string {
	switch r {
	case stack.SIOCINQ:
		return "FIONREAD"
	case stack.SIOCOUTQ:
		return "TIOCOUTQ"
	}
	return fmt.Sprintf("%#x", r)
}

func epollOp(op int) string {
	switch op {
	case stack.EPOLL_CTL_ADD:
		return "EPOLL_CTL_ADD"
	case stack.EPOLL_CTL_DEL:
		return "EPOLL_CTL_DEL"
	case stack.EPOLL_CTL_MOD:
		return "EPOLL_CTL_MOD"
	}
	return itoa(op)
}

func epollNames(ev uint32) string {
	return flagNames(int(ev), "0", stack.POLLIN, "EPOLLIN", stack.POLLPRI, "EPOLLPRI", stack.POLLOUT, "EPOLLOUT", stack.POLLERR, "EPOLLERR",
		stack.POLLHUP, "EPOLLHUP", stack.POLLRDHUP, "EPOLLRDHUP", stack.EPOLLONESHOT, "EPOLLONESHOT", uint32(stack.EPOLLET), "EPOLLET")
}

func levelName(level int) string {
	switch level {
	case stack.SOL_SOCKET:
		return "SOL_SOCKET"
	case stack.SOL_IP:
		return "SOL_IP"
	case stack.SOL_IPV6:
		return "SOL_IPV6"
	case stack.SOL_TCP:
		return "SOL_TCP"
	}
	return itoa(level)
}

var optionNames = map[[2]int]string{
	{stack.SOL_SOCKET, stack.SO_REUSEADDR}: "SO_REUSEADDR", {stack.SOL_SOCKET, stack.SO_TYPE}: "SO_TYPE", {stack.SOL_SOCKET, stack.SO_ERROR}: "SO_ERROR",
	{stack.SOL_SOCKET, stack.SO_BROADCAST}: "SO_BROADCAST", {stack.SOL_SOCKET, stack.SO_SNDBUF}: "SO_SNDBUF", {stack.SOL_SOCKET, stack.SO_RCVBUF}: "SO_RCVBUF",
	{stack.SOL_SOCKET, stack.SO_KEEPALIVE}: "SO_KEEPALIVE", {stack.SOL_SOCKET, stack.SO_LINGER}: "SO_LINGER", {stack.SOL_SOCKET, stack.SO_REUSEPORT}: "SO_REUSEPORT",
	{stack.SOL_SOCKET, stack.SO_BINDTODEVICE}: "SO_BINDTODEVICE", {stack.SOL_SOCKET, stack.SO_ACCEPTCONN}: "SO_ACCEPTCONN",
	{stack.SOL_SOCKET, stack.SO_PROTOCOL}: "SO_PROTOCOL", {stack.SOL_SOCKET, stack.SO_DOMAIN}: "SO_DOMAIN",
	{stack.SOL_IP, stack.IP_TOS}: "IP_TOS", {stack.SOL_IP, stack.IP_TTL}: "IP_TTL", {stack.SOL_IP, stack.IP_MTU_DISCOVER}: "IP_MTU_DISCOVER",
	{stack.SOL_IP, stack.IP_PKTINFO}: "IP_PKTINFO", {stack.SOL_IP, stack.IP_FREEBIND}: "IP_FREEBIND", {stack.SOL_IP, stack.IP_TRANSPARENT}: "IP_TRANSPARENT",
	{stack.SOL_IPV6, stack.IPV6_UNICAST_HOPS}: "IPV6_UNICAST_HOPS", {stack.SOL_IPV6, stack.IPV6_V6ONLY}: "IPV6_V6ONLY", {stack.SOL_IPV6, stack.IPV6_TCLASS}: "IPV6_TCLASS",
	{stack.SOL_IPV6, stack.IPV6_MTU_DISCOVER}: "IPV6_MTU_DISCOVER", {stack.SOL_IPV6, stack.IPV6_RECVPKTINFO}: "IPV6_RECVPKTINFO",
	{stack.SOL_IPV6, stack.IPV6_FREEBIND}: "IPV6_FREEBIND", {stack.SOL_IPV6, stack.IPV6_TRANSPARENT}: "IPV6_TRANSPARENT",
	{stack.SOL_TCP, stack.TCP_NODELAY}: "TCP_NODELAY", {stack.SOL_TCP, stack.TCP_MAXSEG}: "TCP_MAXSEG", {stack.SOL_TCP, stack.TCP_CORK}: "TCP_CORK",
	{stack.SOL_TCP, stack.TCP_KEEPIDLE}: "TCP_KEEPIDLE", {stack.SOL_TCP, stack.TCP_KEEPINTVL}: "TCP_KEEPINTVL", {stack.SOL_TCP, stack.TCP_KEEPCNT}: "TCP_KEEPCNT",
	{stack.SOL_TCP, stack.TCP_SYNCNT}: "TCP_SYNCNT", {stack.SOL_TCP, stack.TCP_LINGER2}: "TCP_LINGER2", {stack.SOL_TCP, stack.TCP_DEFER_ACCEPT}: "TCP_DEFER_ACCEPT",
	{stack.SOL_TCP, stack.TCP_WINDOW_CLAMP}: "TCP_WINDOW_CLAMP", {stack.SOL_TCP, stack.TCP_INFO}: "TCP_INFO", {stack.SOL_TCP, stack.TCP_QUICKACK}: "TCP_QUICKACK",
	{stack.SOL_TCP, stack.TCP_CONGESTION}: "TCP_CONGESTION", {stack.SOL_TCP, stack.TCP_USER_TIMEOUT}: "TCP_USER_TIMEOUT",
}

// optionName writes an option's level and name.
func optionName(o *event.Option) []string {
	if o == nil {
		return []string{"0", "0"}
	}
	name, ok := optionNames[[2]int{o.Level, o.Name}]
	if !ok {
		name = itoa(o.Name)
	}
	return []string{levelName(o.Level), name}
}

// optionValue writes an option's value, with its size in bytes.
func optionValue(o *event.Option) (string, int) {
	switch {
	case o == nil:
	case o.Int != nil:
		return fmt.Sprintf("[%d]", *o.Int), 4
	case o.Text != nil:
		return Quote([]byte(*o.Text), len(*o.Text), len(*o.Text)), len(*o.Text)
	case o.Linger != nil:
		return fmt.Sprintf("{l_onoff=%d, l_linger=%d}", o.Linger.OnOff, o.Linger.Linger), 8
	case o.Info != nil:
		return fmt.Sprintf("{tcpi_state=%s, tcpi_snd_cwnd=%d, tcpi_rtt=%d, ...}", o.Info.State, o.Info.SndCwnd, o.Info.RTT/time.Microsecond), 0
	}
	return null, 0
}
