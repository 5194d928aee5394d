package event

import (
	"net/netip"
	"syscall"
	"time"
)

// Call is one socket call that an application made, told when it returned.
//
// Of the arguments those are set that the call has. Their numbers are Linux's on
// every OS. Package strace writes a call as strace(1) does.
type Call struct {
	Name     string        `json:"name"` // as in section 2 of the manual, such as "accept4"
	FD       int           `json:"fd"`   // the file that it was made on; -1 for socket, poll and epoll_create1, which take none
	Ret      int64         `json:"ret"`  // -1 if it failed
	Errno    syscall.Errno `json:"-"`
	Error    string        `json:"error,omitempty"` // Errno's name, such as EADDRINUSE
	Start    time.Time     `json:"start"`           // by the stack's clock
	Duration time.Duration `json:"duration"`        // from call to return

	// Addr is the address given to bind, connect and sendto, or filled in by accept4,
	// recvfrom, getsockname and getpeername; zero: there is none.
	Addr netip.AddrPort `json:"addr,omitzero"`

	Domain   int `json:"domain,omitempty"`   // socket: AF_INET or AF_INET6
	Type     int `json:"type,omitempty"`     // socket: SOCK_STREAM or SOCK_DGRAM, with SOCK_NONBLOCK and SOCK_CLOEXEC
	Protocol int `json:"protocol,omitempty"` // socket

	Flags int `json:"flags,omitempty"` // accept4, sendto, recvfrom, sendmsg, recvmsg, epoll_create1
	Op    int `json:"op,omitempty"`    // shutdown: how; fcntl: the command; ioctl: the request; epoll_ctl: the operation
	Arg   int `json:"arg,omitempty"`   // listen: the backlog; fcntl: the flags to set; ioctl: the bytes found; epoll_ctl: the fd; epoll_wait: room for so many events

	Buffer  *Buffer  `json:"buffer,omitempty"`  // read, write, sendto, recvfrom; of an epoll_wait that failed, its place
	Message *Message `json:"message,omitempty"` // sendmsg, recvmsg
	Option  *Option  `json:"option,omitempty"`  // setsockopt, getsockopt

	Poll    []PollFD      `json:"poll,omitempty"`    // poll: what was asked for, and what was found
	Epoll   []EpollEvent  `json:"epoll,omitempty"`   // epoll_ctl: the event given; epoll_wait: those found
	Timeout time.Duration `json:"timeout,omitempty"` // poll, epoll_wait: negative means without end
}

// Buffer is memory that a call took bytes from, or put bytes into.
type Buffer struct {
	Addr uint64 `json:"addr,omitempty"` // where it is, if nothing was transferred; 0: NULL. It differs from run to run
	Size int    `json:"size"`           // bytes that it has room for
	Len  int    `json:"len"`            // bytes transferred; -1: the call failed
	Data []byte `json:"data,omitempty"` // the first MaxBytes of them
}

// Message is a struct msghdr.
type Message struct {
	Name    netip.AddrPort `json:"name,omitzero"` // the peer's address; zero: none
	Buffers []Buffer       `json:"buffers"`
	Control []PacketInfo   `json:"control,omitempty"`
	Flags   int            `json:"flags,omitempty"` // of the message received
}

// PacketInfo is a control message: IP_PKTINFO of IPv4 addresses, IPV6_PKTINFO of others.
type PacketInfo struct {
	Link  int        `json:"link"`           // its number; 0: any
	Dev   string     `json:"dev,omitempty"`  // its name, if there is such a link
	Local netip.Addr `json:"local,omitzero"` // the address to answer from, or to send from
	Dst   netip.Addr `json:"dst,omitzero"`   // where the datagram went
}

// Option is a socket option and its value. At most one of the pointers is set:
// none if the value has no type that the stack knows, or could not be read.
type Option struct {
	Level  int      `json:"level"`
	Name   int      `json:"name"`
	Int    *int     `json:"int,omitempty"`
	Text   *string  `json:"text,omitempty"`
	Linger *Linger  `json:"linger,omitempty"`
	Info   *TCPInfo `json:"tcp_info,omitempty"`
}

// Linger is the value of SO_LINGER.
type Linger struct {
	OnOff  int // as of stack.Linger
	Linger int
}

// TCPInfo is the part of TCP_INFO that an event carries.
type TCPInfo struct {
	State   string        `json:"state"`
	SndCwnd uint32        `json:"snd_cwnd"` // segments
	RTT     time.Duration `json:"rtt"`
}

// PollFD is one entry of poll(2): what to wait for, and what was found.
type PollFD struct {
	FD      int
	Events  int
	Revents int
}

// EpollEvent is what epoll_ctl registers and epoll_wait reports.
type EpollEvent struct {
	Events uint32
	Data   uint64
}
