package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
)

// sent is a TCP segment that is being written, and the connection that writes it.
type sent struct {
	conn  tcpConn // locked by this goroutine; nil: not known
	flags header.TCPFlags
	seq   seqnum.Value
	end   seqnum.Value // one past the last number that it occupies
}
