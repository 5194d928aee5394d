package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// errnoOf maps a netstack error to the errno that Linux gives in the same place
// (gVisor's own sentry uses the same table). It is the only such map.
func errnoOf(err tcpip.Error) error {
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrWouldBlock:
		return syscall.EAGAIN
	case *tcpip.ErrConnectStarted:
		return syscall.EINPROGRESS
	case *tcpip.ErrAlreadyConnecting:
		return syscall.EALREADY
	case *tcpip.ErrAlreadyConnected:
		return syscall.EISCONN
	case *tcpip.ErrAlreadyBound, *tcpip.ErrInvalidEndpointState, *tcpip.ErrInvalidOptionValue, *tcpip.ErrInvalidPortRange:
		return syscall.EINVAL
	case *tcpip.ErrAddressFamilyNotSupported:
		return syscall.EAFNOSUPPORT
	case *tcpip.ErrBadAddress, *tcpip.ErrBadBuffer:
		return syscall.EFAULT
	case *tcpip.ErrBadLocalAddress:
		return syscall.EADDRNOTAVAIL
	case *tcpip.ErrBroadcastDisabled, *tcpip.ErrNotPermitted:
		return syscall.EACCES
	case *tcpip.ErrClosedForSend:
		return syscall.EPIPE
	case *tcpip.ErrClosedForReceive:
		return errEOF
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrDestinationRequired:
		return syscall.EDESTADDRREQ
	case *tcpip.ErrDuplicateAddress:
		return syscall.EEXIST
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	case *tcpip.ErrNoPortAvailable:
		return syscall.EAGAIN
	case *tcpip.ErrNoSuchFile:
		return syscall.ENOENT
	case *tcpip.ErrNotConnected:
		return syscall.ENOTCONN
	case *tcpip.ErrNotSupported:
		return syscall.EOPNOTSUPP
	case *tcpip.ErrPortInUse:
		return syscall.EADDRINUSE
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrUnknownDevice, *tcpip.ErrUnknownNICID, *tcpip.ErrInvalidNICID:
		return syscall.ENODEV
	case *tcpip.ErrUnknownProtocol:
		return syscall.EPROTONOSUPPORT
	case *tcpip.ErrUnknownProtocolOption, *tcpip.ErrQueueSizeNotSupported:
		return syscall.ENOPROTOOPT
	}
	return syscall.EINVAL
}

// errEOF says that the peer has closed its sending side and all was read. At the
// BSD layer it is a read of 0 bytes; at the net layer it is io.EOF.
var errEOF = errors.New("end of stream")

// opError wraps err as the net package does. Errno values are wrapped in
// os.SyscallError with the name of the call, as in the standard library.
func opError(op, network, call string, source, addr net.Addr, err error) error {
	var errno syscall.Errno
	switch {
	case call != "" && errors.As(err, &errno):
		err = os.NewSyscallError(call, errno)
	case errors.Is(err, context.DeadlineExceeded):
		err = dialTimeout{}
	case errors.Is(err, context.Canceled):
		err = dialCanceled{}
	}
	return &net.OpError{Op: op, Net: network, Source: source, Addr: addr, Err: err}
}

// dialTimeout is the error of a Dial whose context ended by its deadline: a
// timeout to net.Error, and context.DeadlineExceeded to errors.Is.
type dialTimeout struct{}

func (dialTimeout) Error() string   { return "i/o timeout" }
func (dialTimeout) Timeout() bool   { return true }
func (dialTimeout) Temporary() bool { return true }
func (dialTimeout) Is(target error) bool {
	return target == context.DeadlineExceeded
}

// dialCanceled is the error of a Dial whose context was canceled.
type dialCanceled struct{}

func (dialCanceled) Error() string        { return "operation was canceled" }
func (dialCanceled) Is(target error) bool { return target == context.Canceled }

// errnos are the errors that calls can give, and their names.
var errnos = map[syscall.Errno]string{
	syscall.EACCES:          "EACCES",
	syscall.EADDRINUSE:      "EADDRINUSE",
	syscall.EADDRNOTAVAIL:   "EADDRNOTAVAIL",
	syscall.EAFNOSUPPORT:    "EAFNOSUPPORT",
	syscall.EAGAIN:          "EAGAIN",
	syscall.EALREADY:        "EALREADY",
	syscall.EBADF:           "EBADF",
	syscall.ECONNABORTED:    "ECONNABORTED",
	syscall.ECONNREFUSED:    "ECONNREFUSED",
	syscall.ECONNRESET:      "ECONNRESET",
	syscall.EDESTADDRREQ:    "EDESTADDRREQ",
	syscall.EDOM:            "EDOM",
	syscall.EEXIST:          "EEXIST",
	syscall.EFAULT:          "EFAULT",
	syscall.EHOSTUNREACH:    "EHOSTUNREACH",
	syscall.EINPROGRESS:     "EINPROGRESS",
	syscall.EINVAL:          "EINVAL",
	syscall.EISCONN:         "EISCONN",
	syscall.EMFILE:          "EMFILE",
	syscall.EMSGSIZE:        "EMSGSIZE",
	syscall.ENETDOWN:        "ENETDOWN",
	syscall.ENETUNREACH:     "ENETUNREACH",
	syscall.ENOBUFS:         "ENOBUFS",
	syscall.ENODEV:          "ENODEV",
	syscall.ENOENT:          "ENOENT",
	syscall.ENOPROTOOPT:     "ENOPROTOOPT",
	syscall.ENOTCONN:        "ENOTCONN",
	syscall.ENOTSOCK:        "ENOTSOCK",
	syscall.ENOTTY:          "ENOTTY",
	syscall.EOPNOTSUPP:      "EOPNOTSUPP",
	syscall.EPERM:           "EPERM",
	syscall.EPIPE:           "EPIPE",
	syscall.EPROTONOSUPPORT: "EPROTONOSUPPORT",
	syscall.ESOCKTNOSUPPORT: "ESOCKTNOSUPPORT",
	syscall.ETIMEDOUT:       "ETIMEDOUT",
}

func errnoName(e syscall.Errno) string {
	if name, ok := errnos[e]; ok {
		return name
	}
	return fmt.Sprintf("errno %d on %s", int(e), runtime.GOOS)
}
