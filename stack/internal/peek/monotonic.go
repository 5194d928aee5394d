package peek

import (
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Monotonic is tcpip.MonotonicTime{}.Add(d), which adds two numbers by way of three
// dates: 40 ns, ten times or so for each segment. A MonotonicTime is one number.
func Monotonic(d time.Duration) (t tcpip.MonotonicTime) {
	if !nanoseconds.ok {
		return t.Add(d)
	}
	*(*int64)(nanoseconds.in(unsafe.Pointer(&t))) = int64(d)
	return t
}
