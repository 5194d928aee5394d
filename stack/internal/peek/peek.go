// Package peek looks into netstack, which has no accessor for much of what catflap
// shows and mends. Everything unsafe or reflective about netstack is here. What is
// looked for stands in one table, by name and type; Check says what a netstack has
// not, and what is lost without it.
//
// All of this goes when TCP is our own.
package peek

import (
	"container/list"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"gvisor.dev/gvisor/pkg/sleep"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A field is one that netstack keeps to itself.
type field struct {
	ok     bool // it is there, and of the type that is expected
	offset uintptr
	typ    reflect.Type
}

// in returns the field's address in the struct at base.
func (f *field) in(base unsafe.Pointer) unsafe.Pointer { return unsafe.Add(base, f.offset) }

// of returns the field's address in e.
func (f *field) of(e *tcp.Endpoint) unsafe.Pointer { return f.in(unsafe.Pointer(e)) }

// The fields of netstack's that are read or written.
var (
	sndQueueMu, sndBufUsed, acceptMu, acceptQueue       field // of the endpoint
	endpointHash, segmentProbe, waiterQueue             field
	recentTSTime                                        field
	keepalive                                           timer
	keepaliveUnacked, timeWait                          field
	sender, senderState, congestionState, rackState     field // of its sender
	zeroWindowProbing                                   field
	resend, probe, reorder                              timer
	resendClockTarget, resendClockTimer, resendCallback field
	receiver, receiverState                             field // of its receiver
	handshake, handshakeTimer, handshakeClockTimer      field // of its handshake
	processors, processorCloser                         field // of the protocol
	nanoseconds                                         field // of a MonotonicTime
	canGuard, canArm                                    bool  // all is there that Segment guards need; that ArmResendTimer needs
)

// entry is a row of the table.
type entry struct {
	field *field
	root  reflect.Type
	path  string // below root; a pointer on the way is followed, and a slice to its elements
	want  func(reflect.Type) bool
	lost  []string // without it
}

// What is lost without a field.
const (
	lostSendQueue   = "no send queue in `ss` and `netstat`, no SIOCOUTQ, no unsent bytes in samples"
	lostAcceptQueue = "no length of the accept queue in `ss` and `netstat`"
	lostCause       = "no cause of a retransmission"
	lostSender      = "no MSS, window and segments in flight in TCP_INFO"
	lostSample      = "no samples"
	lostSampleRcv   = "no receive window in samples"
	lostLive        = "no states, samples and timers at the segment that changes them"
	lostRTO         = "no retransmission timer in `ss -o`"
	lostKeepalive   = "no keepalive timer in `ss -o`"
	lostTimeWait    = "no time-wait timer in `ss -o`"
	lostTimers      = "no timer events"
	lostSegments    = "no guard against forged acknowledgments and old time stamps"
	lostTooBig      = "no guard against forged \"too big\" messages"
	lostStall       = "no stall guard"
	lostProcessors  = "as many TCP processors as GOMAXPROCS"
	lostClock       = "a clock that takes longer to read"
)

var table = []entry{
	{&sndQueueMu, endpoint, "sndQueueInfo.sndQueueMu", locker, lost(lostSendQueue)},
	{&sndBufUsed, endpoint, "sndQueueInfo.TCPSndBufState.SndBufUsed", a[int], lost(lostSendQueue)},
	{&acceptMu, endpoint, "acceptMu", locker, lost(lostAcceptQueue)},
	{&acceptQueue, endpoint, "acceptQueue.endpoints", a[list.List], lost(lostAcceptQueue)},

	{&endpointHash, endpoint, "txHash", a[uint32], lost(lostCause, lostSample, lostTimers)},
	{&segmentProbe, endpoint, "probe", a[tcp.TCPProbeFunc], lost(lostLive)},
	{&waiterQueue, endpoint, "waiterQueue", a[*waiter.Queue], lost(lostLive)},
	{&recentTSTime, endpoint, "recentTSTime", a[tcpip.MonotonicTime], lost(lostSegments, lostTooBig, lostStall)},
	{&keepalive.state, endpoint, "keepalive.timer.state", kind(reflect.Int), lost(lostKeepalive, lostTimers)},
	{&keepalive.target, endpoint, "keepalive.timer.target", a[tcpip.MonotonicTime], lost(lostKeepalive, lostTimers)},
	{&keepaliveUnacked, endpoint, "keepalive.unacked", a[int], lost(lostKeepalive)},
	{&timeWait, endpoint, "timeWaitTimer", a[tcpip.Timer], lost(lostTimeWait, lostTimers)},

	{&sender, endpoint, "snd", kind(reflect.Pointer), lost(lostSender, lostCause, lostSample, lostTimers, lostSegments, lostTooBig, lostStall)},
	{&senderState, endpoint, "snd.TCPSenderState", a[tcp.TCPSenderState], lost(lostSender, lostCause, lostSample, lostTimers, lostSegments, lostTooBig, lostStall)},
	{&congestionState, endpoint, "snd.state", a[tcpip.CongestionControlState], lost(lostCause, lostSample)},
	{&rackState, endpoint, "snd.rc.TCPRACKState", a[tcp.TCPRACKState], lost(lostCause)},
	{&zeroWindowProbing, endpoint, "snd.zeroWindowProbing", a[bool], lost(lostTimers)},
	{&resend.state, endpoint, "snd.resendTimer.state", kind(reflect.Int), lost(lostStall, lostRTO, lostTimers)},
	{&resend.target, endpoint, "snd.resendTimer.target", a[tcpip.MonotonicTime], lost(lostStall, lostRTO, lostTimers)},
	{&resendClockTarget, endpoint, "snd.resendTimer.clockTarget", a[tcpip.MonotonicTime], lost(lostStall)},
	{&resendClockTimer, endpoint, "snd.resendTimer.timer", a[tcpip.Timer], lost(lostStall)},
	{&resendCallback, endpoint, "snd.resendTimer.callback", a[func()], lost(lostStall)},
	{&probe.state, endpoint, "snd.probeTimer.state", kind(reflect.Int), lost(lostStall, lostTimers)},
	{&probe.target, endpoint, "snd.probeTimer.target", a[tcpip.MonotonicTime], lost(lostTimers)},
	{&reorder.state, endpoint, "snd.reorderTimer.state", kind(reflect.Int), lost(lostTimers)},
	{&reorder.target, endpoint, "snd.reorderTimer.target", a[tcpip.MonotonicTime], lost(lostTimers)},

	{&receiver, endpoint, "rcv", kind(reflect.Pointer), lost(lostSampleRcv, lostSegments, lostTooBig, lostStall)},
	{&receiverState, endpoint, "rcv.TCPReceiverState", a[tcp.TCPReceiverState], lost(lostSampleRcv, lostSegments, lostTooBig, lostStall)},

	{&handshake, endpoint, "h", kind(reflect.Pointer), lost(lostTimers)},
	{&handshakeTimer, endpoint, "h.retransmitTimer", kind(reflect.Pointer), lost(lostTimers)},
	{&handshakeClockTimer, endpoint, "h.retransmitTimer.t", a[tcpip.Timer], lost(lostTimers)},

	{&processors, endpoint, "protocol.dispatcher.processors", kind(reflect.Slice), lost(lostProcessors)},
	{&processorCloser, endpoint, "protocol.dispatcher.processors.closeWaker", a[sleep.Waker], lost(lostProcessors)},

	{&nanoseconds, reflect.TypeFor[tcpip.MonotonicTime](), "nanoseconds", a[int64], lost(lostClock)},
}

var endpoint = reflect.TypeFor[tcp.Endpoint]()

func lost(what ...string) []string { return what }

// a reports whether typ is T.
func a[T any](typ reflect.Type) bool { return typ == reflect.TypeFor[T]() }

func kind(k reflect.Kind) func(reflect.Type) bool {
	return func(typ reflect.Type) bool { return typ.Kind() == k }
}

func locker(typ reflect.Type) bool {
	return reflect.PointerTo(typ).Implements(reflect.TypeFor[sync.Locker]())
}

func init() { findAll() }

// findAll looks all fields of the table up.
func findAll() {
	for _, e := range table {
		*e.field, _ = e.find()
	}
	canGuard = sender.ok && senderState.ok && receiver.ok && receiverState.ok && recentTSTime.ok
	canArm = canGuard && resend.ok() && probe.state.ok && resendClockTarget.ok && resendClockTimer.ok && resendCallback.ok
}

// find looks a field up. If it is not there, missing names it, or the one on the way to
// it that is not there.
func (e entry) find() (f field, missing string) {
	f.typ = e.root
	at := f.typ.String()
	for _, name := range strings.Split(e.path, ".") {
		if k := f.typ.Kind(); k == reflect.Pointer || k == reflect.Slice {
			f.typ, f.offset = f.typ.Elem(), 0
			at = f.typ.String()
		}
		at += "." + name
		if f.typ.Kind() != reflect.Struct {
			return field{}, at
		}
		s, ok := f.typ.FieldByName(name)
		if !ok || len(s.Index) != 1 {
			return field{}, at
		}
		f.typ, f.offset = s.Type, f.offset+s.Offset
	}
	if !e.want(f.typ) {
		return field{}, fmt.Sprintf("%s as another type than %s", at, f.typ)
	}
	f.ok = true
	return f, ""
}

// Check returns nil if all is found in netstack that is looked for. Otherwise the
// error joins one of each thing that is missing, which says what is lost without it.
func Check() error {
	var names []string
	without := map[string][]string{}
	miss := func(name string, lost []string) {
		if without[name] == nil {
			names = append(names, name)
		}
		for _, l := range lost {
			if !slices.Contains(without[name], l) {
				without[name] = append(without[name], l)
			}
		}
	}
	for _, e := range table {
		if _, missing := e.find(); missing != "" {
			miss(missing, e.lost)
		}
	}
	for _, name := range missingWriters() {
		miss(name, lost(lostCause))
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, fmt.Errorf("%s: %s", name, strings.Join(without[name], ", ")))
	}
	return errors.Join(errs...)
}

// Rename has a field, and what is below it, looked up by another name until restore is
// called, as if netstack had renamed it. It is for tests, while no stack runs.
func Rename(path, to string) (restore func()) {
	old := table
	table = slices.Clone(table)
	renamed := false
	for i := range table {
		if rest, ok := strings.CutPrefix(table[i].path, path); ok && (rest == "" || rest[0] == '.') {
			table[i].path, renamed = to+rest, true
		}
	}
	if !renamed {
		panic("peek: nothing is looked up by the path " + path)
	}
	findAll()
	return func() { table = old; findAll() }
}
