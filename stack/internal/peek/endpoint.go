package peek

import (
	"container/list"
	"reflect"
	"sync"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Unsent returns the bytes that the application has written and the peer has not
// acknowledged: SIOCOUTQ in tcp(7); ok is false if that is not known.
func Unsent(e *tcp.Endpoint) (n int, ok bool) {
	if !sndQueueMu.ok || !sndBufUsed.ok {
		return 0, false
	}
	mu := sndQueueMu.locker(e)
	mu.Lock()
	defer mu.Unlock()
	// An acknowledged FIN is taken out of a buffer that it was never in.
	return max(0, *(*int)(sndBufUsed.of(e))), true
}

// AcceptQueue returns how many connections wait in a listener's accept queue; ok is
// false if that is not known.
func AcceptQueue(e *tcp.Endpoint) (n int, ok bool) {
	if !acceptMu.ok || !acceptQueue.ok {
		return 0, false
	}
	mu := acceptMu.locker(e)
	mu.Lock()
	defer mu.Unlock()
	return (*list.List)(acceptQueue.of(e)).Len(), true
}

func (f *field) locker(e *tcp.Endpoint) sync.Locker {
	return reflect.NewAt(f.typ, f.of(e)).Interface().(sync.Locker)
}

// TxHash returns the random number that e keeps for life and marks its packets with;
// 0 if it is not known.
func TxHash(e *tcp.Endpoint) uint32 {
	if !endpointHash.ok {
		return 0
	}
	return *(*uint32)(endpointHash.of(e))
}

// Probe returns where e keeps what it calls after each segment that it has processed,
// nil if that is not known. The caller holds e's lock.
func Probe(e *tcp.Endpoint) *tcp.TCPProbeFunc {
	if !segmentProbe.ok {
		return nil
	}
	return (*tcp.TCPProbeFunc)(segmentProbe.of(e))
}

// WaiterQueue returns where those wait who are notified when something happens to e, nil
// if that is not known.
func WaiterQueue(e *tcp.Endpoint) *waiter.Queue {
	if !waiterQueue.ok {
		return nil
	}
	return *(**waiter.Queue)(waiterQueue.of(e))
}

// Sender returns the variables of e's sender, nil if e has never been able to send or
// they are not known. The caller holds e's lock.
func Sender(e *tcp.Endpoint) *tcp.TCPSenderState {
	snd := senderOf(e)
	if snd == nil || !senderState.ok {
		return nil
	}
	return (*tcp.TCPSenderState)(senderState.in(snd))
}

// senderOf returns e.snd. The caller holds e's lock.
func senderOf(e *tcp.Endpoint) unsafe.Pointer {
	if !sender.ok {
		return nil
	}
	return *(*unsafe.Pointer)(sender.of(e))
}

// Congestion returns the congestion control's state of e, which has a sender; ok is
// false if it is not known. The caller holds e's lock.
func Congestion(e *tcp.Endpoint) (st tcpip.CongestionControlState, ok bool) {
	snd := senderOf(e)
	if snd == nil || !congestionState.ok {
		return 0, false
	}
	return *(*tcpip.CongestionControlState)(congestionState.in(snd)), true
}

// RACK returns the variables of RACK (RFC 8985), nil if e has never been able to send
// or they are not known. The caller holds e's lock.
func RACK(e *tcp.Endpoint) *tcp.TCPRACKState {
	snd := senderOf(e)
	if snd == nil || !rackState.ok {
		return nil
	}
	return (*tcp.TCPRACKState)(rackState.in(snd))
}

// Receiver returns the variables of e's receiver, nil if it has none or they are not
// known. The caller holds e's lock.
func Receiver(e *tcp.Endpoint) *tcp.TCPReceiverState {
	if !receiver.ok || !receiverState.ok {
		return nil
	}
	rcv := *(*unsafe.Pointer)(receiver.of(e))
	if rcv == nil {
		return nil
	}
	return (*tcp.TCPReceiverState)(receiverState.in(rcv))
}

// CanLook reports whether LookSender, LookReceiver and RecentTSTime have what they need.
func CanLook() bool { return canGuard }

// LookSender returns the variables of e's sender, which netstack may be changing. The
// caller has seen CanLook, and e in a state in which it has a sender, and reads single
// words.
//
//go:norace
func LookSender(e *tcp.Endpoint) *tcp.TCPSenderState {
	return (*tcp.TCPSenderState)(senderState.in(*(*unsafe.Pointer)(sender.of(e))))
}

// LookReceiver is LookSender for the receiver.
//
//go:norace
func LookReceiver(e *tcp.Endpoint) *tcp.TCPReceiverState {
	return (*tcp.TCPReceiverState)(receiverState.in(*(*unsafe.Pointer)(receiver.of(e))))
}

// RecentTSTime returns where e keeps the time at which it took TS.Recent (RFC 7323 5.5).
// The caller has seen CanLook.
func RecentTSTime(e *tcp.Endpoint) *tcpip.MonotonicTime {
	return (*tcpip.MonotonicTime)(recentTSTime.of(e))
}
