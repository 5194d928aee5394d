// Package strace writes the socket calls of a stack's applications as strace(1) does.
package strace

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/stack/event"
)

// DefaultSize is how many bytes of a string strace(1) shows.
const DefaultSize = 32

// resultColumn is where " = " and the result begin, if there is room.
const resultColumn = 39

// Format writes a call with its result on one line, with strings cut at size bytes.
func Format(c *event.Call, size int) string {
	var b strings.Builder
	b.WriteString(c.Name)
	b.WriteByte('(')
	for i, a := range args(c, size) {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a)
	}
	b.WriteByte(')')
	for b.Len() < resultColumn {
		b.WriteByte(' ')
	}
	b.WriteString(" = " + result(c))
	if c.Error != "" {
		fmt.Fprintf(&b, " %s (%s)", c.Error, errnoText[c.Error])
	}
	return b.String()
}

// null is an argument that points nowhere.
const null = "NULL"

// args writes the arguments of a call, in their order.
func args(c *event.Call, size int) []string {
	fd := itoa(c.FD)
	switch c.Name {
	case "socket":
		return []string{domainName(c.Domain), typeName(c.Type), protocolName(c.Protocol)}
	case "bind", "connect":
		return []string{fd, sockaddr(c.Addr), itoa(addrLen(c.Addr))}
	case "listen":
		return []string{fd, itoa(c.Arg)}
	case "accept4":
		addr, length := filledIn(c.Addr)
		return []string{fd, addr, length, sockFlags(c.Flags)}
	case "getsockname", "getpeername":
		addr, length := null, null
		if c.Error == "" {
			addr, length = sockaddr(c.Addr), valueResult(c.Addr)
		}
		return []string{fd, addr, length}
	case "read", "write":
		return []string{fd, buffer(c.Buffer, size), room(c.Buffer)}
	case "sendto":
		addr, length := null, "0"
		if c.Addr.IsValid() {
			addr, length = sockaddr(c.Addr), itoa(addrLen(c.Addr))
		}
		return []string{fd, buffer(c.Buffer, size), room(c.Buffer), msgFlags(c.Flags), addr, length}
	case "recvfrom":
		addr, length := filledIn(c.Addr)
		return []string{fd, buffer(c.Buffer, size), room(c.Buffer), msgFlags(c.Flags), addr, length}
	case "sendmsg":
		return []string{fd, message(c.Message, false, size), msgFlags(c.Flags)}
	case "recvmsg":
		return []string{fd, message(c.Message, true, size), msgFlags(c.Flags)}
	case "shutdown":
		return []string{fd, shutName(c.Op)}
	case "setsockopt":
		value, length := optionValue(c.Option)
		return append([]string{fd}, append(optionName(c.Option), value, itoa(length))...)
	case "getsockopt":
		value, length := optionValue(c.Option)
		return append([]string{fd}, append(optionName(c.Option), value, "["+itoa(length)+"]")...)
	case "fcntl":
		a := []string{fd, fcntlName(c.Op)}
		if c.Op == stack.F_SETFL {
			a = append(a, openFlags(c.Arg))
		}
		return a
	case "ioctl":
		return []string{fd, ioctlName(c.Op), "[" + itoa(c.Arg) + "]"}
	case "poll":
		return []string{pollFDs(c.Poll, "events", func(p event.PollFD) int { return p.Events }), itoa(len(c.Poll)), itoa(millis(c.Timeout))}
	case "epoll_create1":
		return []string{flagNames(c.Flags, "0", stack.SOCK_CLOEXEC, "EPOLL_CLOEXEC")}
	case "epoll_ctl":
		ev := null
		if len(c.Epoll) > 0 {
			ev = epollEvent(c.Epoll[0])
		}
		return []string{fd, epollOp(c.Op), itoa(c.Arg), ev}
	case "epoll_wait":
		found := ""
		if c.Buffer != nil {
			found = buffer(c.Buffer, size)
		} else {
			found = epollEvents(c.Epoll)
		}
		return []string{fd, found, itoa(c.Arg), itoa(millis(c.Timeout))}
	}
	return []string{fd} // close
}

// result writes what a call returned. Some results are more than a number.
func result(c *event.Call) string {
	switch {
	case c.Error != "":
	case c.Name == "fcntl" && c.Op == stack.F_GETFL:
		return fmt.Sprintf("%#x (flags %s)", c.Ret, openFlags(int(c.Ret)))
	case c.Name == "poll" && c.Ret == 0:
		return "0 (Timeout)"
	case c.Name == "poll":
		var found []event.PollFD
		for _, p := range c.Poll {
			if p.Revents != 0 {
				found = append(found, p)
			}
		}
		return fmt.Sprintf("%d (%s)", c.Ret, pollFDs(found, "revents", func(p event.PollFD) int { return p.Revents }))
	}
	return strconv.FormatInt(c.Ret, 10)
}

func itoa(n int) string { return strconv.Itoa(n) }

func sockaddr(ap netip.AddrPort) string {
	a := ap.Addr()
	switch {
	case !a.IsValid():
		return "{sa_family=AF_UNSPEC}"
	case a.Is4():
		return fmt.Sprintf("{sa_family=AF_INET, sin_port=htons(%d), sin_addr=inet_addr(%q)}", ap.Port(), a)
	}
	return fmt.Sprintf("{sa_family=AF_INET6, sin6_port=htons(%d), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, %q, &sin6_addr), sin6_scope_id=0}", ap.Port(), a)
}

// Sizes of struct sockaddr_in and sockaddr_in6, and how much room there is for an
// address that a call fills in: any of Go's.
const (
	sizeofSockaddrIn  = 16
	sizeofSockaddrIn6 = 28
	sockaddrRoom      = 112
)

func addrLen(ap netip.AddrPort) int {
	if ap.Addr().Is6() {
		return sizeofSockaddrIn6
	}
	return sizeofSockaddrIn
}

// valueResult is the length of an address as a value-result argument: the room
// that there was, and what was used.
func valueResult(ap netip.AddrPort) string {
	return fmt.Sprintf("[%d => %d]", sockaddrRoom, addrLen(ap))
}

// filledIn is an address that a call filled in, with its length, if it did.
func filledIn(ap netip.AddrPort) (addr, length string) {
	if !ap.IsValid() {
		return null, null
	}
	return sockaddr(ap), valueResult(ap)
}

// buffer writes what was transferred, or where the buffer is if nothing was.
func buffer(b *event.Buffer, size int) string {
	switch {
	case b == nil:
		return null
	case b.Len >= 0:
		return Quote(b.Data, b.Len, size)
	case b.Addr == 0:
		return null
	}
	return fmt.Sprintf("%#x", b.Addr)
}

func room(b *event.Buffer) string {
	if b == nil {
		return "0"
	}
	return itoa(b.Size)
}

func message(m *event.Message, received bool, size int) string {
	if m == nil {
		return null
	}
	name := "msg_name=NULL, msg_namelen=0"
	if m.Name.IsValid() {
		length := itoa(addrLen(m.Name))
		if received {
			length = fmt.Sprintf("%d => %s", sockaddrRoom, length)
		}
		name = fmt.Sprintf("msg_name=%s, msg_namelen=%s", sockaddr(m.Name), length)
	}
	var iov []string
	for _, b := range m.Buffers {
		iov = append(iov, fmt.Sprintf("{iov_base=%s, iov_len=%d}", Quote(b.Data, b.Len, size), b.Size))
	}
	return fmt.Sprintf("{%s, msg_iov=[%s], msg_iovlen=%d, %s, msg_flags=%s}", name, strings.Join(iov, ", "), len(iov), control(m.Control), msgFlags(m.Flags))
}

// control writes control messages, and how much room they take.
func control(all []event.PacketInfo) string {
	if len(all) == 0 {
		return "msg_controllen=0"
	}
	var list []string
	size := 0
	for _, p := range all {
		link := itoa(p.Link)
		if p.Dev != "" {
			link = fmt.Sprintf("if_nametoindex(%q)", p.Dev)
		}
		if p.Local.Is4() {
			size += 32
			list = append(list, fmt.Sprintf("{cmsg_len=28, cmsg_level=SOL_IP, cmsg_type=IP_PKTINFO, cmsg_data={ipi_ifindex=%s, ipi_spec_dst=inet_addr(%q), ipi_addr=inet_addr(%q)}}", link, p.Local, p.Dst))
		} else {
			size += 40
			list = append(list, fmt.Sprintf("{cmsg_len=36, cmsg_level=SOL_IPV6, cmsg_type=IPV6_PKTINFO, cmsg_data={inet_pton(AF_INET6, %q, &ipi6_addr), ipi6_ifindex=%s}}", p.Dst, link))
		}
	}
	return fmt.Sprintf("msg_control=[%s], msg_controllen=%d", strings.Join(list, ", "), size)
}

// Quote writes the first size bytes of a string of total bytes as strace does:
// quoted, escaped, and followed by "..." if it was cut. data has its first bytes.
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

func pollFDs(fds []event.PollFD, name string, events func(event.PollFD) int) string {
	var b strings.Builder
	for i, p := range fds {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "{fd=%d", p.FD)
		if p.FD >= 0 {
			fmt.Fprintf(&b, ", %s=%s", name, flagNames(events(p), "0", stack.POLLIN, "POLLIN", stack.POLLPRI, "POLLPRI", stack.POLLOUT, "POLLOUT",
				stack.POLLERR, "POLLERR", stack.POLLHUP, "POLLHUP", stack.POLLNVAL, "POLLNVAL", stack.POLLRDHUP, "POLLRDHUP"))
		}
		b.WriteByte('}')
	}
	return "[" + b.String() + "]"
}

// millis is a timeout as poll(2) takes it.
func millis(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

func epollEvent(ev event.EpollEvent) string {
	return fmt.Sprintf("{events=%s, data={u32=%d, u64=%d}}", epollNames(ev.Events), uint32(ev.Data), ev.Data)
}

func epollEvents(evs []event.EpollEvent) string {
	var list []string
	for _, ev := range evs {
		list = append(list, epollEvent(ev))
	}
	return "[" + strings.Join(list, ", ") + "]"
}
