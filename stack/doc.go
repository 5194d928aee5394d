// Package stack is a userspace "kernel" for TCP/IP: gVisor netstack, configured
// and made visible.
//
// A packet's way in is the order in which the files of this package are best
// read:
//
//	link.go      a packet arrives from a link; the routing policy database decides
//	routes.go    the database of package route: what is local, what is not
//	router.go    what is for another host, if the stack forwards
//	transport.go netstack's demultiplexer has chosen a socket; steering may choose another
//	socket.go    the socket, a small integer fd, and the BSD calls on it (Sys)
//	conn.go      net.Conn, listener.go net.Listener, packetconn.go net.PacketConn
//
// The code that decides for packets is the code that explains: [Stack.LookupRoute]
// and [Stack.LookupSocket] run the same functions and return what they tried.
//
// Addresses are [netip] values, errors are [net] and [syscall] errors, time is
// [time.Duration]. gVisor types appear where a link endpoint or a clock is handed
// over, and nowhere else.
package stack
