package stack

import (
	"container/list"
	"fmt"
	"reflect"
	"sync"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// netstack has no accessor for two numbers that ss and netstat show of every
// socket: the bytes in a send buffer and the connections in an accept queue. They
// are read here, under the locks that guard them. The places are found by name and
// type when the program starts; a netstack that has moved them makes the numbers
// unknown, and TestInside fail.
var (
	sndQueueMu, okSndMu = lockerIn("sndQueueInfo", "sndQueueMu")
	sndBufUsed, okSnd   = placeOf[int]("sndQueueInfo", "TCPSndBufState", "SndBufUsed")
	acceptMu, okAccMu   = lockerIn("acceptMu")
	acceptQueue, okAcc  = placeOf[list.List]("acceptQueue", "endpoints")
)

// fieldIn finds a field of tcp.Endpoint by its path.
func fieldIn(path ...string) (typ reflect.Type, offset uintptr, ok bool) {
	return fieldBelow(reflect.TypeFor[tcp.Endpoint](), path...)
}

// fieldBelow finds a field of the struct typ by its path.
func fieldBelow(typ reflect.Type, path ...string) (_ reflect.Type, offset uintptr, ok bool) {
	for _, name := range path {
		if typ == nil || typ.Kind() != reflect.Struct {
			return nil, 0, false
		}
		f, ok := typ.FieldByName(name)
		if !ok || len(f.Index) != 1 {
			return nil, 0, false
		}
		typ, offset = f.Type, offset+f.Offset
	}
	return typ, offset, true
}

func lockerIn(path ...string) (func(*tcp.Endpoint) sync.Locker, bool) {
	typ, offset, ok := fieldIn(path...)
	if !ok || !reflect.PointerTo(typ).Implements(reflect.TypeFor[sync.Locker]()) {
		return nil, false
	}
	return func(e *tcp.Endpoint) sync.Locker {
		return reflect.NewAt(typ, unsafe.Add(unsafe.Pointer(e), offset)).Interface().(sync.Locker)
	}, true
}

func placeOf[T any](path ...string) (func(*tcp.Endpoint) *T, bool) {
	typ, offset, ok := fieldIn(path...)
	if !ok || typ != reflect.TypeFor[T]() {
		return nil, false
	}
	return func(e *tcp.Endpoint) *T { return (*T)(unsafe.Add(unsafe.Pointer(e), offset)) }, true
}

// unsent returns the bytes that the application has written and the peer has not
// acknowledged: SIOCOUTQ in tcp(7).
func unsent(e *tcp.Endpoint) (n int, ok bool) {
	if !okSndMu || !okSnd {
		return 0, false
	}
	mu := sndQueueMu(e)
	mu.Lock()
	defer mu.Unlock()
	// An acknowledged FIN is taken out of a buffer that it was never in.
	return max(0, *sndBufUsed(e)), true
}

// accepting returns how many connections wait in the accept queue.
func accepting(e *tcp.Endpoint) (n int, ok bool) {
	if !okAccMu || !okAcc {
		return 0, false
	}
	mu := acceptMu(e)
	mu.Lock()
	defer mu.Unlock()
	return acceptQueue(e).Len(), true
}

// errInside says what of netstack has moved.
func errInside() error {
	for what, ok := range map[string]bool{"sndQueueMu": okSndMu, "SndBufUsed": okSnd, "acceptMu": okAccMu, "acceptQueue.endpoints": okAcc} {
		if !ok {
			return fmt.Errorf("tcp.Endpoint has no %s of the known type any more", what)
		}
	}
	return nil
}
