package peek

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Writer is a set of netstack's functions.
type Writer uint16

// The functions that send a segment again, or call what does.
const (
	ByHandshakeTimer Writer = 1 << iota
	ByRetransmissionTimer
	ByProbeTimer
	ByReorderTimer
	ByKeepaliveTimer
	ByZeroWindowProbe
	ByMTU
	ByResend // of the first segment that is not acknowledged
	ByRACK
	BySACK
)

var writers = map[string]Writer{
	"(*handshake).retransmitHandlerLocked": ByHandshakeTimer,
	"(*sender).retransmitTimerExpired":     ByRetransmissionTimer,
	"(*sender).probeTimerExpired":          ByProbeTimer,
	"(*rackControl).reorderTimerExpired":   ByReorderTimer,
	"(*Endpoint).keepaliveTimerExpired":    ByKeepaliveTimer,
	"(*sender).sendZeroWindowProbe":        ByZeroWindowProbe,
	"(*sender).updateMaxPayloadSize":       ByMTU,
	"(*sender).resendSegment":              ByResend,
	"(*rackControl).DoRecovery":            ByRACK,
	"(*sackRecovery).handleSACKRecovery":   BySACK,
}

var tcpPackage = reflect.TypeFor[tcp.Endpoint]().PkgPath() + "."

// Writing returns which of netstack's functions are at work on the segment that this
// goroutine is writing. Why a segment is sent again is kept in no variable of
// netstack's: it is which function sends it. The goroutine's stack has that; it is
// read only for segments that are not new.
func Writing() (w Writer) {
	var pcs [64]uintptr // from the link to a timer there are some 25
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for inside := false; ; {
		f, more := frames.Next()
		name, ok := strings.CutPrefix(f.Function, tcpPackage)
		if ok {
			inside = true
			w |= writers[name]
		}
		if !more || inside && !ok {
			return w
		}
	}
}

// missingWriters returns the functions that this program has not, by name.
func missingWriters() (names []string) {
	for name := range writers {
		if !functions()[name] {
			names = append(names, strings.TrimPrefix(tcpPackage, "gvisor.dev/gvisor/pkg/tcpip/transport/")+name)
		}
	}
	slices.Sort(names)
	return names
}

// functions returns the names of the functions of netstack's TCP that this program has.
// The linker puts a package's functions together, so that they are all found by going
// from one of them up and down as long as there are any.
var functions = sync.OnceValue(findFunctions)

func findFunctions() map[string]bool {
	const (
		step = 64       // bytes; those that are looked for are larger
		gap  = 64 << 10 // what other packages may have in between, such as instances of generic functions
	)
	names := map[string]bool{}
	from := reflect.ValueOf(tcp.NewProtocol).Pointer() // which all of them follow from
	for _, step := range []uintptr{step, ^uintptr(step - 1)} {
		entry := uintptr(0)
		for pc, seen := from, from; pc-seen < gap || seen-pc < gap; pc += step {
			f := runtime.FuncForPC(pc)
			if f == nil {
				break
			}
			if f.Entry() == entry {
				seen = pc
				continue
			}
			// What is at pc may be of a function that was inlined.
			if name, ok := strings.CutPrefix(runtime.FuncForPC(f.Entry()).Name(), tcpPackage); ok {
				names[name], seen, entry = true, pc, f.Entry()
			}
		}
	}
	return names
}
