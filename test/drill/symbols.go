package drill

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"syscall"
)

// symbols are the names that scripts use in calls, with Linux's values on x86-64 and arm64; the stack takes the same on
// every OS.
var symbols = map[string]int64{
	"NULL": 0,

	"AF_UNSPEC": 0, "AF_INET": 2, "AF_INET6": 10, "PF_INET": 2, "PF_INET6": 10,
	"SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_NONBLOCK": 0x800, "SOCK_CLOEXEC": 0x80000,
	"IPPROTO_IP": 0, "IPPROTO_ICMP": 1, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17, "IPPROTO_IPV6": 41, "IPPROTO_ICMPV6": 58,
	"INADDR_ANY": 0, "SOMAXCONN": 4096,

	"SOL_IP": 0, "SOL_SOCKET": 1, "SOL_TCP": 6, "SOL_UDP": 17, "SOL_IPV6": 41,

	"SO_DEBUG": 1, "SO_REUSEADDR": 2, "SO_TYPE": 3, "SO_ERROR": 4, "SO_DONTROUTE": 5, "SO_BROADCAST": 6, "SO_SNDBUF": 7,
	"SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_OOBINLINE": 10, "SO_PRIORITY": 12, "SO_LINGER": 13, "SO_REUSEPORT": 15,
	"SO_RCVLOWAT": 18, "SO_SNDLOWAT": 19, "SO_BINDTODEVICE": 25, "SO_TIMESTAMP": 29, "SO_ACCEPTCONN": 30,
	"SO_SNDBUFFORCE": 32, "SO_RCVBUFFORCE": 33, "SO_MARK": 36, "SO_TIMESTAMPING": 37, "SO_PROTOCOL": 38, "SO_DOMAIN": 39,
	"SO_BUSY_POLL": 46, "SO_MAX_PACING_RATE": 47, "SO_ZEROCOPY": 60,

	"IP_TOS": 1, "IP_TTL": 2, "IP_MTU_DISCOVER": 10, "IP_RECVERR": 11, "IP_RECVTTL": 12, "IP_RECVTOS": 13, "IP_MTU": 14,
	"IP_FREEBIND": 15, "IP_TRANSPARENT": 19, "IP_BIND_ADDRESS_NO_PORT": 24,
	"IPTOS_DSCP_CS1": 0x20, "IPTOS_DSCP_AF11": 0x28, "IPTOS_LOWDELAY": 0x10, "IPTOS_THROUGHPUT": 8, "IPTOS_RELIABILITY": 4,
	"IP_PMTUDISC_DONT": 0, "IP_PMTUDISC_WANT": 1, "IP_PMTUDISC_DO": 2, "IP_PMTUDISC_PROBE": 3,
	"IPV6_UNICAST_HOPS": 16, "IPV6_MTU_DISCOVER": 23, "IPV6_MTU": 24, "IPV6_RECVERR": 25, "IPV6_V6ONLY": 26, "IPV6_TCLASS": 67,

	"TCP_NODELAY": 1, "TCP_MAXSEG": 2, "TCP_CORK": 3, "TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6,
	"TCP_SYNCNT": 7, "TCP_LINGER2": 8, "TCP_DEFER_ACCEPT": 9, "TCP_WINDOW_CLAMP": 10, "TCP_INFO": 11, "TCP_QUICKACK": 12,
	"TCP_CONGESTION": 13, "TCP_MD5SIG": 14, "TCP_THIN_LINEAR_TIMEOUTS": 16, "TCP_THIN_DUPACK": 17, "TCP_USER_TIMEOUT": 18,
	"TCP_REPAIR": 19, "TCP_FASTOPEN": 23, "TCP_TIMESTAMP": 24, "TCP_NOTSENT_LOWAT": 25, "TCP_CC_INFO": 26,
	"TCP_SAVE_SYN": 27, "TCP_SAVED_SYN": 28, "TCP_FASTOPEN_CONNECT": 30, "TCP_FASTOPEN_KEY": 33,
	"TCP_FASTOPEN_NO_COOKIE": 34, "TCP_ZEROCOPY_RECEIVE": 35, "TCP_INQ": 36, "TCP_CM_INQ": 36,

	"MSG_OOB": 0x1, "MSG_PEEK": 0x2, "MSG_DONTROUTE": 0x4, "MSG_CTRUNC": 0x8, "MSG_TRUNC": 0x20, "MSG_DONTWAIT": 0x40,
	"MSG_EOR": 0x80, "MSG_WAITALL": 0x100, "MSG_ERRQUEUE": 0x2000, "MSG_NOSIGNAL": 0x4000, "MSG_MORE": 0x8000,
	"MSG_ZEROCOPY": 0x4000000, "MSG_FASTOPEN": 0x20000000,

	"SOF_TIMESTAMPING_TX_HARDWARE": 1, "SOF_TIMESTAMPING_TX_SOFTWARE": 2, "SOF_TIMESTAMPING_RX_HARDWARE": 4,
	"SOF_TIMESTAMPING_RX_SOFTWARE": 8, "SOF_TIMESTAMPING_SOFTWARE": 16, "SOF_TIMESTAMPING_SYS_HARDWARE": 32,
	"SOF_TIMESTAMPING_RAW_HARDWARE": 64, "SOF_TIMESTAMPING_OPT_ID": 128, "SOF_TIMESTAMPING_TX_SCHED": 256,
	"SOF_TIMESTAMPING_TX_ACK": 512, "SOF_TIMESTAMPING_OPT_CMSG": 1024, "SOF_TIMESTAMPING_OPT_TSONLY": 2048,

	"SCM_TIMESTAMPING": 37, "SCM_TSTAMP_SND": 0, "SCM_TSTAMP_SCHED": 1, "SCM_TSTAMP_ACK": 2,
	"SO_EE_ORIGIN_NONE": 0, "SO_EE_ORIGIN_LOCAL": 1, "SO_EE_ORIGIN_ICMP": 2, "SO_EE_ORIGIN_ICMP6": 3, "SO_EE_ORIGIN_TIMESTAMPING": 4,
	"SO_EE_ORIGIN_ZEROCOPY": 5, "SO_EE_CODE_ZEROCOPY_COPIED": 1,
	"SPLICE_F_MOVE": 1, "SPLICE_F_NONBLOCK": 2, "SPLICE_F_MORE": 4,

	// FreeBSD's numbers of options that Linux does not have, and that stand for nothing else there: the option does not exist.
	"TCP_REMOTE_UDP_ENCAPS_PORT": 71, "TCP_KEEPINIT": 128,

	"SHUT_RD": 0, "SHUT_WR": 1, "SHUT_RDWR": 2,
	"F_GETFL": 3, "F_SETFL": 4, "O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_NONBLOCK": 0x800,
	"SIOCINQ": 0x541b, "FIONREAD": 0x541b, "SIOCOUTQ": 0x5411, "SIOCOUTQNSD": 0x894b,

	"POLLIN": 0x1, "POLLPRI": 0x2, "POLLOUT": 0x4, "POLLERR": 0x8, "POLLHUP": 0x10, "POLLNVAL": 0x20,
	"POLLRDNORM": 0x40, "POLLWRNORM": 0x100, "POLLRDHUP": 0x2000,
	"EPOLLIN": 0x1, "EPOLLPRI": 0x2, "EPOLLOUT": 0x4, "EPOLLERR": 0x8, "EPOLLHUP": 0x10, "EPOLLRDNORM": 0x40,
	"EPOLLWRNORM": 0x100, "EPOLLRDHUP": 0x2000, "EPOLLEXCLUSIVE": 1 << 28, "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31,
	"EPOLL_CTL_ADD": 1, "EPOLL_CTL_DEL": 2, "EPOLL_CTL_MOD": 3, "EPOLL_CLOEXEC": 0x80000,
}

// infoSymbols are the constants that code blocks hold TCP_INFO's fields against.
var infoSymbols = map[string]any{
	"TCP_CA_Open": int64(0), "TCP_CA_Disorder": int64(1), "TCP_CA_CWR": int64(2), "TCP_CA_Recovery": int64(3), "TCP_CA_Loss": int64(4),
	"TCPI_OPT_TIMESTAMPS": int64(1), "TCPI_OPT_SACK": int64(2), "TCPI_OPT_WSCALE": int64(4), "TCPI_OPT_ECN": int64(8),
	"TCPI_OPT_ECN_SEEN": int64(16), "TCPI_OPT_SYN_DATA": int64(32),
	"TCP_ESTABLISHED": int64(1), "TCP_SYN_SENT": int64(2), "TCP_SYN_RECV": int64(3), "TCP_FIN_WAIT1": int64(4),
	"TCP_FIN_WAIT2": int64(5), "TCP_TIME_WAIT": int64(6), "TCP_CLOSE": int64(7), "TCP_CLOSE_WAIT": int64(8),
	"TCP_LAST_ACK": int64(9), "TCP_LISTEN": int64(10), "TCP_CLOSING": int64(11),
	// FreeBSD's names of the states.
	"TCPI_ESTABLISHED": int64(1), "TCPI_SYN_SENT": int64(2), "TCPI_SYN_RECEIVED": int64(3), "TCPI_FIN_WAIT_1": int64(4),
	"TCPI_FIN_WAIT_2": int64(5), "TCPI_TIME_WAIT": int64(6), "TCPI_CLOSED": int64(7), "TCPI_CLOSE_WAIT": int64(8),
	"TCPI_LAST_ACK": int64(9), "TCPI_LISTEN": int64(10), "TCPI_CLOSING": int64(11),
	"TCP_INFINITE_SSTHRESH": int64(infiniteSsthresh),
}

// infiniteSsthresh is what Linux reports while slow start has no threshold yet.
const infiniteSsthresh = 0x7fffffff

// stateNumbers are Linux's numbers of the TCP states (include/net/tcp_states.h), by their names in RFC 9293.
var stateNumbers = map[string]int64{
	"ESTABLISHED": 1, "SYN-SENT": 2, "SYN-RECEIVED": 3, "FIN-WAIT-1": 4, "FIN-WAIT-2": 5, "TIME-WAIT": 6, "CLOSED": 7,
	"CLOSE-WAIT": 8, "LAST-ACK": 9, "LISTEN": 10, "CLOSING": 11,
}

// errnos are the errors that calls may give, by name, with Linux's text for them.
var errnos = map[string]struct {
	errno syscall.Errno
	text  string
}{
	"EACCES":          {syscall.EACCES, "Permission denied"},
	"EADDRINUSE":      {syscall.EADDRINUSE, "Address already in use"},
	"EADDRNOTAVAIL":   {syscall.EADDRNOTAVAIL, "Cannot assign requested address"},
	"EAFNOSUPPORT":    {syscall.EAFNOSUPPORT, "Address family not supported by protocol"},
	"EAGAIN":          {syscall.EAGAIN, "Resource temporarily unavailable"},
	"EALREADY":        {syscall.EALREADY, "Operation already in progress"},
	"EBADF":           {syscall.EBADF, "Bad file descriptor"},
	"ECONNABORTED":    {syscall.ECONNABORTED, "Software caused connection abort"},
	"ECONNREFUSED":    {syscall.ECONNREFUSED, "Connection refused"},
	"ECONNRESET":      {syscall.ECONNRESET, "Connection reset by peer"},
	"EDESTADDRREQ":    {syscall.EDESTADDRREQ, "Destination address required"},
	"EEXIST":          {syscall.EEXIST, "File exists"},
	"EFAULT":          {syscall.EFAULT, "Bad address"},
	"EHOSTUNREACH":    {syscall.EHOSTUNREACH, "No route to host"},
	"EINPROGRESS":     {syscall.EINPROGRESS, "Operation now in progress"},
	"EINTR":           {syscall.EINTR, "Interrupted system call"},
	"EINVAL":          {syscall.EINVAL, "Invalid argument"},
	"EIO":             {syscall.EIO, "Input/output error"},
	"EISCONN":         {syscall.EISCONN, "Transport endpoint is already connected"},
	"EMFILE":          {syscall.EMFILE, "Too many open files"},
	"EMSGSIZE":        {syscall.EMSGSIZE, "Message too long"},
	"ENETDOWN":        {syscall.ENETDOWN, "Network is down"},
	"ENETUNREACH":     {syscall.ENETUNREACH, "Network is unreachable"},
	"ENOMSG":          {syscall.ENOMSG, "No message of desired type"},
	"ENOBUFS":         {syscall.ENOBUFS, "No buffer space available"},
	"ENODEV":          {syscall.ENODEV, "No such device"},
	"ENOENT":          {syscall.ENOENT, "No such file or directory"},
	"ENOMEM":          {syscall.ENOMEM, "Cannot allocate memory"},
	"ENOPROTOOPT":     {syscall.ENOPROTOOPT, "Protocol not available"},
	"ENOTCONN":        {syscall.ENOTCONN, "Transport endpoint is not connected"},
	"ENOTSOCK":        {syscall.ENOTSOCK, "Socket operation on non-socket"},
	"ENOTTY":          {syscall.ENOTTY, "Inappropriate ioctl for device"},
	"EOPNOTSUPP":      {syscall.EOPNOTSUPP, "Operation not supported"},
	"EPERM":           {syscall.EPERM, "Operation not permitted"},
	"EPIPE":           {syscall.EPIPE, "Broken pipe"},
	"EPROTO":          {syscall.EPROTO, "Protocol error"},
	"EPROTONOSUPPORT": {syscall.EPROTONOSUPPORT, "Protocol not supported"},
	"EPROTOTYPE":      {syscall.EPROTOTYPE, "Protocol wrong type for socket"},
	"ETIMEDOUT":       {syscall.ETIMEDOUT, "Connection timed out"},
	"EWOULDBLOCK":     {syscall.EAGAIN, "Resource temporarily unavailable"},
}

// errnoText writes an error as scripts do: "EAGAIN (Resource temporarily unavailable)".
func errnoText(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err.Error()
	}
	names := make([]string, 0, 1)
	for name, e := range errnos {
		if e.errno == errno {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("errno %d (%v)", int(errno), errno)
	}
	sort.Strings(names) // EAGAIN before EWOULDBLOCK
	return fmt.Sprintf("%s (%s)", names[0], errnos[names[0]].text)
}

// bitNames writes a set of bits by their names with the given prefix: "POLLIN|POLLOUT".
func bitNames(v int64, prefix string) string {
	if v == 0 {
		return "0"
	}
	var names []string
	for bit := int64(1); bit != 0 && bit <= v; bit <<= 1 {
		if v&bit == 0 {
			continue
		}
		name := fmt.Sprintf("0x%x", bit)
		for s, n := range symbols {
			if n == bit && strings.HasPrefix(s, prefix) && !strings.HasPrefix(s, prefix+"_") {
				name = s
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, "|")
}
