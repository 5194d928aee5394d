package stack

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/sleep"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// limitProcessors leaves n of the goroutines with which netstack's TCP, p,
// processes segments; it starts one for each of GOMAXPROCS. It reports false, and
// changes nothing, if netstack keeps them otherwise than it did. It must be called
// before p sees its first packet.
//
// More of them do not help as one would think. Each SYN locks the listener, each
// SYN-ACK the new connection, while it is written to the link; a processor that
// finds its endpoint locked asks again and again until it is free, and so takes a
// CPU from the one that it waits for.
func limitProcessors(p stack.TransportProtocol, n int) bool {
	v := reflect.ValueOf(p)
	if v.Kind() != reflect.Pointer {
		return false
	}
	typ, offset, ok := fieldBelow(v.Type().Elem(), "dispatcher", "processors")
	if !ok || typ.Kind() != reflect.Slice {
		return false
	}
	closer := offsetIn[sleep.Waker](typ.Elem(), "closeWaker")
	if !closer.ok {
		return false
	}
	procs := reflect.NewAt(typ, unsafe.Add(v.UnsafePointer(), offset)).Elem()
	for i := n; i < procs.Len(); i++ {
		// As dispatcher.close does; dispatcher.wait waits for these too.
		(*sleep.Waker)(closer.in(procs.Index(i).Addr().UnsafePointer())).Assert()
	}
	procs.SetLen(min(n, procs.Len()))
	return true
}
