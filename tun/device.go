// Package tun is the wire of a userspace TCP/IP stack: a TUN device of the operating system, or a pair
// of endpoints joined in memory, as a link endpoint of gVisor's netstack.
//
// A Device moves whole IP packets; with the Offload driver also TCP super-packets of up to 64 KiB in
// either direction, one system call each, whose segmentation and checksums are the kernel's work.
package tun

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ErrGone is what Device.Err wraps once the interface was removed under the open device.
var ErrGone = errors.New("the interface was removed")

// An OpError says which step of making a device, or a namespace for it, failed.
type OpError struct {
	Op   string // one of the Op constants
	Name string // the interface, file or namespace concerned
	Err  error
}

// What an OpError was about.
const (
	OpOpen      = "open"      // opening the TUN device file
	OpAttach    = "attach"    // asking it for an interface of that name (TUNSETIFF)
	OpConfigure = "configure" // setting an interface's MTU, addresses, routes or state
	OpJoin      = "join"      // entering a network namespace that is there already
	OpNamespace = "namespace" // making the namespaces in which the device is to be opened
)

func (e *OpError) Error() string { return fmt.Sprintf("tun: %s %s: %v", e.Op, e.Name, e.Err) }
func (e *OpError) Unwrap() error { return e.Err }

// A queue is one of a driver's ways in and out of the device.
type queue interface {
	// receive hands each frame that arrives to the endpoint, until the queue is closed or the device is
	// gone, and says which.
	receive(*Endpoint) error
	// transmit sends one packet, and leaves it to the caller.
	transmit(*stack.PacketBuffer) error
	// close makes receive return. It is called once; transmit may be called during and after it.
	close() error
}

// opened is what a driver has to show for itself after opening a device.
type opened struct {
	name     string // the interface's name, which need not be the one asked for
	driver   Driver
	queues   []queue
	offloads Offloads
}

// Device is an open TUN device. Its methods may be called from several goroutines.
type Device struct {
	opened
	mtu      atomic.Uint32
	stats    counters
	endpoint Endpoint

	tx      []*txQueue     // one a queue
	workers sync.WaitGroup // a reader and a writer for each queue, from the first Attach

	done     chan struct{}
	mu       sync.Mutex
	err      error  // why done is closed
	started  bool   // workers run
	closed   bool   // Close was called; no worker is started from now on
	onClose  func() // to be run by Close, once
	closeErr error
	closing  sync.Once
}

// Open opens the device that cfg describes, and on Linux gives it cfg.MTU. It does not bring the
// interface up: see ConfigureHost. Errors are a *ConfigError for a value out of range and otherwise an
// *OpError, for which errors.Is knows os.ErrPermission, os.ErrNotExist and syscall.EBUSY; Diagnose has
// the remedy in words.
func Open(cfg Config) (*Device, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	o, err := openDriver(cfg)
	if err != nil {
		return nil, err
	}
	d := newDevice(o, cfg.MTU)
	if err := setHostMTU(d.name, cfg.MTU); err != nil {
		d.Close()
		return nil, &OpError{Op: OpConfigure, Name: d.name, Err: fmt.Errorf("set mtu %d: %w", cfg.MTU, err)}
	}
	cfg.Logger.Debug("tun device open", "name", d.name, "driver", d.driver.String(), "mtu", cfg.MTU,
		"queues", len(d.queues), "offloads", d.offloads.String())
	return d, nil
}

// openDriver picks the driver. Auto falls back to Water only for a reason that Water may not share.
func openDriver(cfg Config) (opened, error) {
	if cfg.Driver == Water {
		return openWater(cfg)
	}
	o, err := openOffload(cfg)
	if err == nil || cfg.Driver == Offload || cfg.Path != DefaultPath ||
		errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.EBUSY) {
		return o, err
	}
	cfg.Logger.Warn("tun: falling back to the water driver, without offloads", "reason", err)
	o, werr := openWater(cfg)
	if werr != nil {
		return opened{}, err // the reason why the better driver failed says more
	}
	o.offloads = noOffloads(fmt.Sprintf("the offload driver failed: %v", err))
	return o, nil
}

func newDevice(o opened, mtu int) *Device {
	d := &Device{opened: o, done: make(chan struct{})}
	d.mtu.Store(uint32(mtu))
	d.endpoint.dev = d
	for _, q := range o.queues {
		d.tx = append(d.tx, newTxQueue(func(pkt *stack.PacketBuffer) { d.endpoint.transmit(q, pkt) }))
	}
	return d
}

// Name is the interface's name.
func (d *Device) Name() string { return d.name }

// Driver is the driver in use, never Auto.
func (d *Device) Driver() Driver { return d.driver }

// MTU of the link in bytes.
func (d *Device) MTU() int { return int(d.mtu.Load()) }

// Queues is how many there are.
func (d *Device) Queues() int { return len(d.queues) }

// Offloads says what the kernel granted, and why not where it did not.
func (d *Device) Offloads() Offloads { return d.offloads }

// Stats returns the counters.
func (d *Device) Stats() Stats { return d.stats.snapshot() }

// Endpoint is the device's only link endpoint, for netstack's CreateNIC.
func (d *Device) Endpoint() *Endpoint { return &d.endpoint }

// Done is closed once the device carries no more packets: after Close, or when its interface was
// removed, which is noticed while a stack is attached.
func (d *Device) Done() <-chan struct{} { return d.done }

// Err is nil until Done is closed. Then it is os.ErrClosed after Close, and otherwise wraps ErrGone or the
// error that ended it.
func (d *Device) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Close takes the device from its stack, if there is one, writes what it has sent, closes the queues, and
// waits for the goroutines that serve them: it must not be called from one, which is to say not from within
// a packet's delivery. The interface vanishes with it unless it was made persistent. Further calls return
// what the first one did.
func (d *Device) Close() error {
	d.closing.Do(func() {
		d.finish(os.ErrClosed)
		d.mu.Lock()
		d.closed = true
		d.mu.Unlock()
		for _, q := range d.tx {
			q.close()
		}
		for _, q := range d.queues {
			d.closeErr = errors.Join(d.closeErr, q.close())
		}
		d.workers.Wait()
	})
	d.mu.Lock()
	onClose := d.onClose
	d.onClose = nil
	d.mu.Unlock()
	if onClose != nil {
		onClose() // netstack's removes the NIC, which closes its endpoint, which comes back here
	}
	return d.closeErr
}

// finish closes done, for the first reason there is.
func (d *Device) finish(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		close(d.done)
	}
}

// start starts the workers, once.
func (d *Device) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.started || d.closed {
		return
	}
	d.started = true
	for i, q := range d.queues {
		d.workers.Go(d.tx[i].run)
		d.workers.Go(func() {
			if err := q.receive(&d.endpoint); !errors.Is(err, os.ErrClosed) {
				d.finish(fmt.Errorf("tun: %s: %w", d.name, err))
			}
		})
	}
}
