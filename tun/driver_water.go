package tun

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// openWater opens the device through package water: one IP packet a frame, on every system water knows.
func openWater(cfg Config) (opened, error) {
	o := opened{driver: Water, offloads: noOffloads("the water driver has no virtio-net header")}
	for range cfg.Queues {
		ifce, err := openWaterQueue(cfg)
		if err != nil {
			for _, q := range o.queues {
				q.close()
			}
			return opened{}, err
		}
		o.name = ifce.Name()
		o.queues = append(o.queues, newWaterQueue(ifce.ReadWriteCloser))
	}
	return o, nil
}

// waterQueue is one of water's interfaces.
type waterQueue struct {
	rw io.ReadWriteCloser

	mu     sync.Mutex
	closed bool // guarded by mu
}

func newWaterQueue(rw io.ReadWriteCloser) *waterQueue { return &waterQueue{rw: rw} }

func (q *waterQueue) close() error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	return q.rw.Close()
}

func (q *waterQueue) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// receive passes every IP packet on. Nothing is verified here: netstack does, as no offload is claimed.
func (q *waterQueue) receive(e *Endpoint) error {
	frame := make([]byte, maxFrame)
	for {
		n, err := q.rw.Read(frame)
		switch {
		case q.isClosed():
			return os.ErrClosed
		case err != nil:
			return fmt.Errorf("%w (%w)", ErrGone, err)
		}
		proto := protocol(0)
		switch header.IPVersion(frame[:n]) {
		case header.IPv4Version:
			proto = header.IPv4ProtocolNumber
		case header.IPv6Version:
			proto = header.IPv6ProtocolNumber
		default:
			e.dev.stats.drop(dropNotIP)
			continue
		}
		e.deliver(proto, buffer.MakeWithData(frame[:n]), stack.GSO{}, false)
	}
}

func (q *waterQueue) transmit(pkt *stack.PacketBuffer) error {
	v := pkt.ToView()
	defer v.Release()
	_, err := q.rw.Write(v.AsSlice())
	if err != nil && (q.isClosed() || errors.Is(err, os.ErrClosed)) {
		return os.ErrClosed
	}
	return err
}

// waterError gives an error of water the form of Open's errors.
func waterError(cfg Config, err error) error {
	op, name := OpAttach, cfg.Name
	if runtime.GOOS == "linux" && !isSyscallError(err) {
		op, name = OpOpen, cfg.Path // water's ioctls come as *os.SyscallError, its open does not
	}
	return &OpError{Op: op, Name: name, Err: err}
}

func isSyscallError(err error) bool {
	var e *os.SyscallError
	return errors.As(err, &e)
}
