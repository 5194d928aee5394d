package stack

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// call is a socket call under way that somebody follows.
type call struct {
	s  *Stack
	ev CallEvent
}

// begin starts the record of a call; nil if nobody follows.
func (y *Sys) begin(name string) *call {
	if !y.s.events.on(CallEvents) {
		return nil
	}
	return &call{s: y.s, ev: CallEvent{Name: name, Start: y.s.clock.Now()}}
}

func (c *call) end(ret int64, err error, args ...CallArg) {
	c.ev.Args, c.ev.Ret = args, ret
	c.ev.Duration = c.s.clock.Now().Sub(c.ev.Start)
	if errno, ok := err.(syscall.Errno); ok {
		c.ev.Ret, c.ev.Errno, c.ev.Error = -1, errno, errnoName(errno)
	}
	c.s.events.publish(Event{Call: &c.ev})
}

func itoa(n int) string { return strconv.Itoa(n) }

func text(s string) CallArg { return CallArg{Text: s} }
func num(n int) CallArg     { return CallArg{Text: itoa(n)} }

// bufAddr is where a buffer is: what strace shows of one that was not filled.
func bufAddr[T any](b []T) CallArg {
	if b == nil {
		return text("NULL")
	}
	return text(fmt.Sprintf("%p", b))
}

// data is a buffer of which n bytes were transferred. Nothing was if n < 0.
func data(b []byte, n int) CallArg {
	if n < 0 {
		return bufAddr(b)
	}
	return CallArg{Buf: true, Len: n, Data: append([]byte(nil), b[:min(n, len(b), maxEventBytes)]...)}
}

func sockaddrArg(ap netip.AddrPort) CallArg {
	a := ap.Addr()
	switch {
	case !a.IsValid():
		return text("{sa_family=AF_UNSPEC}")
	case a.Is4():
		return text(fmt.Sprintf("{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(%q)}", ap.Port(), a))
	}
	return text(fmt.Sprintf("{sa_family=AF_INET6, sin6_port=htons(%d), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, %q, &sin6_addr), sin6_scope_id=0}", ap.Port(), a))
}

func addrLen(ap netip.AddrPort) int {
	if ap.Addr().Is6() {
		return 28
	}
	return 16
}

func sockaddrLen(ap netip.AddrPort) CallArg { return num(addrLen(ap)) }

// acceptLen is a value-result length: room for any address, and what was used.
func acceptLen(ap netip.AddrPort) CallArg { return text(fmt.Sprintf("[112 => %d]", addrLen(ap))) }

func msgArg(m *Msg, n int, received bool) CallArg {
	name := "msg_name=NULL, msg_namelen=0"
	if m.Name.IsValid() {
		size := itoa(addrLen(m.Name))
		if received {
			size = "112 => " + size // room for any address, and what was used
		}
		name = fmt.Sprintf("msg_name=%s, msg_namelen=%s", sockaddrArg(m.Name).Text, size)
	}
	var iov []string
	for _, b := range m.Buffers {
		used := b[:max(0, min(n, len(b)))]
		n -= len(used)
		iov = append(iov, fmt.Sprintf("{iov_base=%s, iov_len=%d}", Quote(used, len(used), 32), len(b)))
	}
	return text(fmt.Sprintf("{%s, msg_iov=[%s], msg_iovlen=%d, msg_controllen=0, msg_flags=%s}", name, strings.Join(iov, ", "), len(m.Buffers), msgFlags(m.Flags)))
}

// String writes the call as strace(1) does, with strings cut at 32 bytes.
func (c *CallEvent) String() string { return c.Format(32) }

// Format writes the call as strace(1) does, with strings cut at size bytes.
func (c *CallEvent) Format(size int) string {
	var b strings.Builder
	b.WriteString(c.Name)
	b.WriteByte('(')
	for i, a := range c.Args {
		if i > 0 {
			b.WriteString(", ")
		}
		if a.Buf {
			b.WriteString(Quote(a.Data, a.Len, size))
		} else {
			b.WriteString(a.Text)
		}
	}
	b.WriteByte(')')
	// strace aligns results at column 40.
	for b.Len() < 39 {
		b.WriteByte(' ')
	}
	if c.Result != "" {
		b.WriteString(" = " + c.Result)
	} else {
		fmt.Fprintf(&b, " = %d", c.Ret)
	}
	if c.Error != "" {
		fmt.Fprintf(&b, " %s (%s)", c.Error, errnoText[c.Error])
	}
	return b.String()
}

// Quote writes the first size bytes of a string of total bytes as strace does:
// quoted, escaped, and followed by "..." if it was cut.
func Quote(data []byte, total, size int) string {
	cut := total > size || total > len(data)
	data = data[:min(len(data), size)]
	var b strings.Builder
	b.WriteByte('"')
	for i, c := range data {
		switch c {
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		case '\v':
			b.WriteString(`\v`)
		case '\f':
			b.WriteString(`\f`)
		case '"':
			b.WriteString(`\"`)
		case '\\':
			b.WriteString(`\\`)
		default:
			switch {
			case c >= ' ' && c < 0x7f:
				b.WriteByte(c)
			case i+1 < len(data) && data[i+1] >= '0' && data[i+1] <= '7':
				fmt.Fprintf(&b, `\%03o`, c)
			default:
				fmt.Fprintf(&b, `\%o`, c)
			}
		}
	}
	b.WriteByte('"')
	if cut {
		b.WriteString("...")
	}
	return b.String()
}

func flagNames(v int, zero string, names ...any) string {
	var out []string
	for i := 0; i < len(names); i += 2 {
		if bit := names[i].(int); v&bit != 0 {
			out = append(out, names[i+1].(string))
			v &^= bit
		}
	}
	if v != 0 {
		out = append(out, fmt.Sprintf("%#x", v))
	}
	if len(out) == 0 {
		return zero
	}
	return strings.Join(out, "|")
}

func domainName(d int) string {
	switch d {
	case AF_UNSPEC:
		return "AF_UNSPEC"
	case AF_INET:
		return "AF_INET"
	case AF_INET6:
		return "AF_INET6"
	}
	return itoa(d)
}

func typeName(t int) string {
	kind := t &^ (SOCK_NONBLOCK | SOCK_CLOEXEC)
	name := itoa(kind)
	switch kind {
	case SOCK_STREAM:
		name = "SOCK_STREAM"
	case SOCK_DGRAM:
		name = "SOCK_DGRAM"
	}
	if f := t & (SOCK_NONBLOCK | SOCK_CLOEXEC); f != 0 {
		name += "|" + sockFlags(f)
	}
	return name
}

func sockFlags(f int) string {
	return flagNames(f, "0", SOCK_CLOEXEC, "SOCK_CLOEXEC", SOCK_NONBLOCK, "SOCK_NONBLOCK")
}

func protocolName(domain, p int) string {
	switch p {
	case IPPROTO_IP:
		return "IPPROTO_IP"
	case IPPROTO_TCP:
		return "IPPROTO_TCP"
	case IPPROTO_UDP:
		return "IPPROTO_UDP"
	}
	return itoa(p)
}

func msgFlags(f int) string {
	return flagNames(f, "0", MSG_PEEK, "MSG_PEEK", MSG_TRUNC, "MSG_TRUNC", MSG_DONTWAIT, "MSG_DONTWAIT",
		MSG_WAITALL, "MSG_WAITALL", MSG_NOSIGNAL, "MSG_NOSIGNAL", MSG_MORE, "MSG_MORE")
}

func openFlags(f int) string {
	mode := "O_RDONLY"
	if f&O_RDWR != 0 {
		mode = "O_RDWR"
	}
	if f &^= O_RDWR; f == 0 {
		return mode
	}
	return mode + "|" + flagNames(f, "", O_NONBLOCK, "O_NONBLOCK")
}

func shutName(how int) string {
	switch how {
	case SHUT_RD:
		return "SHUT_RD"
	case SHUT_WR:
		return "SHUT_WR"
	case SHUT_RDWR:
		return "SHUT_RDWR"
	}
	return itoa(how)
}

func fcntlName(cmd int) string {
	switch cmd {
	case F_GETFL:
		return "F_GETFL"
	case F_SETFL:
		return "F_SETFL"
	}
	return itoa(cmd)
}

func ioctlName(r int) string {
	switch r {
	case SIOCINQ:
		return "FIONREAD"
	case SIOCOUTQ:
		return "TIOCOUTQ"
	}
	return fmt.Sprintf("%#x", r)
}

// errnos are the errors that calls can give, with their names and Linux's texts.
var errnos = []struct {
	errno      syscall.Errno
	name, text string
}{
	{syscall.EACCES, "EACCES", "Permission denied"},
	{syscall.EADDRINUSE, "EADDRINUSE", "Address already in use"},
	{syscall.EADDRNOTAVAIL, "EADDRNOTAVAIL", "Cannot assign requested address"},
	{syscall.EAFNOSUPPORT, "EAFNOSUPPORT", "Address family not supported by protocol"},
	{syscall.EAGAIN, "EAGAIN", "Resource temporarily unavailable"},
	{syscall.EALREADY, "EALREADY", "Operation already in progress"},
	{syscall.EBADF, "EBADF", "Bad file descriptor"},
	{syscall.ECONNABORTED, "ECONNABORTED", "Software caused connection abort"},
	{syscall.ECONNREFUSED, "ECONNREFUSED", "Connection refused"},
	{syscall.ECONNRESET, "ECONNRESET", "Connection reset by peer"},
	{syscall.EDESTADDRREQ, "EDESTADDRREQ", "Destination address required"},
	{syscall.EDOM, "EDOM", "Numerical argument out of domain"},
	{syscall.EEXIST, "EEXIST", "File exists"},
	{syscall.EFAULT, "EFAULT", "Bad address"},
	{syscall.EHOSTUNREACH, "EHOSTUNREACH", "No route to host"},
	{syscall.EINPROGRESS, "EINPROGRESS", "Operation now in progress"},
	{syscall.EINVAL, "EINVAL", "Invalid argument"},
	{syscall.EISCONN, "EISCONN", "Transport endpoint is already connected"},
	{syscall.EMFILE, "EMFILE", "Too many open files"},
	{syscall.EMSGSIZE, "EMSGSIZE", "Message too long"},
	{syscall.ENETDOWN, "ENETDOWN", "Network is down"},
	{syscall.ENETUNREACH, "ENETUNREACH", "Network is unreachable"},
	{syscall.ENOBUFS, "ENOBUFS", "No buffer space available"},
	{syscall.ENODEV, "ENODEV", "No such device"},
	{syscall.ENOENT, "ENOENT", "No such file or directory"},
	{syscall.ENOPROTOOPT, "ENOPROTOOPT", "Protocol not available"},
	{syscall.ENOTCONN, "ENOTCONN", "Transport endpoint is not connected"},
	{syscall.ENOTSOCK, "ENOTSOCK", "Socket operation on non-socket"},
	{syscall.ENOTTY, "ENOTTY", "Inappropriate ioctl for device"},
	{syscall.EOPNOTSUPP, "EOPNOTSUPP", "Operation not supported"},
	{syscall.EPERM, "EPERM", "Operation not permitted"},
	{syscall.EPIPE, "EPIPE", "Broken pipe"},
	{syscall.EPROTONOSUPPORT, "EPROTONOSUPPORT", "Protocol not supported"},
	{syscall.ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT", "Socket type not supported"},
	{syscall.ETIMEDOUT, "ETIMEDOUT", "Connection timed out"},
}

var errnoText = func() map[string]string {
	m := map[string]string{}
	for _, e := range errnos {
		m[e.name] = e.text
	}
	return m
}()

func errnoName(e syscall.Errno) string {
	for _, x := range errnos {
		if x.errno == e {
			return x.name
		}
	}
	return fmt.Sprintf("errno %d on %s", int(e), runtime.GOOS)
}
