package peek

import (
	"fmt"
	"reflect"

	"gvisor.dev/gvisor/pkg/sleep"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// LimitProcessors leaves n of the goroutines with which netstack's TCP, p,
// processes segments; it starts one for each of GOMAXPROCS. It changes nothing, and
// returns an error, if netstack keeps them otherwise than it did. It must be called
// before p sees its first packet.
//
// More of them do not help as one would think. Each SYN locks the listener, each
// SYN-ACK the new connection, while it is written to the link; a processor that
// finds its endpoint locked asks again and again until it is free, and so takes a
// CPU from the one that it waits for.
func LimitProcessors(p stack.TransportProtocol, n int) error {
	v := reflect.ValueOf(p)
	known, _ := endpoint.FieldByName("protocol")
	if !processors.ok || !processorCloser.ok || v.Type() != known.Type {
		return fmt.Errorf("%T keeps its processors otherwise than it did", p)
	}
	procs := reflect.NewAt(processors.typ, processors.in(v.UnsafePointer())).Elem()
	for i := n; i < procs.Len(); i++ {
		// As dispatcher.close does; dispatcher.wait waits for these too.
		(*sleep.Waker)(processorCloser.in(procs.Index(i).Addr().UnsafePointer())).Assert()
	}
	procs.SetLen(min(n, procs.Len()))
	return nil
}
