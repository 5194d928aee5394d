//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/catflap/catflap/stack"
)

// load is a request to an agent: produce a load for Warmup + Duration, and measure
// the second part of it.
type load struct {
	Kind             string
	N                int
	Target           netip.Addr
	Port             int          // of loadOpen
	Sources          []netip.Addr // of loadOpen, used in turn; may be empty
	Request          bool         // of loadOpen: make one HTTP request on each
	Warmup, Duration time.Duration
	Awake            bool   // keep idle processors from halting
	Pids             []int  // the server's processes
	Dev              string // the client's interface
}

// Phases of a load.
const (
	warming = iota
	measuring
	stopping
)

const (
	// startTime is how long it may take until every client has had its first answer:
	// three retransmissions of a SYN.
	startTime = 10 * time.Second

	// stallTime is how long after its end a load may still wait for an answer.
	stallTime = 3 * time.Second
)

// driver is one client of a load.
type driver struct {
	load  *load
	net   network
	phase *atomic.Int32

	ready  chan<- struct{} // takes one value when this client has had its first answer
	isUp   bool            // that was sent
	end    time.Time       // no call may block longer
	bytes  atomic.Int64
	conn   atomic.Pointer[net.Conn] // of a stream
	all    uint64                   // exchanges in all
	done   uint64                   // of them, in the measured time
	times  histogram                // their latencies
	failed uint64                   // exchanges that failed in any phase, where the load goes on
	why    error                    // the first failure
}

// up says that this client works.
func (d *driver) up() {
	if !d.isUp {
		d.isUp = true
		d.ready <- struct{}{}
	}
}

// exchange counts an exchange that began at start and has just ended.
func (d *driver) exchange(start, now time.Time) {
	d.up()
	d.all++
	if d.phase.Load() == measuring {
		d.done++
		d.times.record(now.Sub(start))
	}
}

// fail counts an exchange that failed.
func (d *driver) fail(err error) {
	if d.failed++; d.why == nil {
		d.why = err
	}
}

func (d *driver) running() bool { return d.phase.Load() != stopping }

func (d *driver) dial(network string, port int) (net.Conn, error) {
	// No deadline of its own: it would cost a goroutine for each connection.
	c, err := d.net.DialContext(context.Background(), network, netip.AddrPortFrom(d.load.Target, uint16(port)).String())
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(d.end)
}

func (l *load) run(n network, held *holder) (sample, error) {
	if l.Kind == loadOpen {
		return l.open(n, held)
	}
	work, ok := map[string]func(*driver) error{
		loadDown: (*driver).download, loadUp: (*driver).upload, loadHTTP: (*driver).http,
		loadConnect: (*driver).connect, loadEcho: (*driver).echo, loadUDP: (*driver).udp,
	}[l.Kind]
	if !ok {
		return nil, fmt.Errorf("unknown load %q", l.Kind)
	}
	if l.Awake {
		release, err := stayAwake()
		if err != nil {
			return nil, err
		}
		defer release()
	}
	before, err := (meter{dev: l.Dev}).read()
	if err != nil {
		return nil, err
	}
	var phase atomic.Int32
	var group sync.WaitGroup
	drivers := make([]*driver, l.N)
	errs := make(chan error, l.N)
	ready := make(chan struct{}, l.N)
	for i := range drivers {
		d := &driver{load: l, net: n, phase: &phase, ready: ready, end: time.Now().Add(startTime + l.Warmup + l.Duration + stallTime)}
		drivers[i] = d
		group.Go(func() {
			err := work(d)
			switch {
			case err == nil:
			case d.running():
				errs <- err
			case d.conn.Load() == nil: // streams are cut at the end, exchanges are not
				d.fail(err)
			}
		})
	}
	begin, end, err := l.watch(drivers, &phase, ready, errs)
	phase.Store(stopping)
	for _, d := range drivers {
		if c := d.conn.Load(); c != nil {
			reset(*c)
		}
	}
	group.Wait()
	if err == nil {
		select {
		case err = <-errs:
		default:
		}
	}
	if err != nil {
		return nil, err
	}
	after, err := (meter{dev: l.Dev}).read()
	if err != nil {
		return nil, err
	}
	s, err := l.report(drivers, begin, end)
	if err != nil {
		return nil, err
	}
	if l.Dev != "" {
		s["packets"] = float64(after.packets - before.packets)
		s["drops"] = float64(after.drops - before.drops)
	}
	return s, nil
}

// stayAwake keeps idle processors from halting until release is called, so that to
// wake one costs no exit to the hypervisor and no time of the hardware: a latency of
// 0 us is asked for (Documentation/power/pm_qos_interface.rst).
func stayAwake() (release func() error, err error) {
	f, err := os.OpenFile("/dev/cpu_dma_latency", os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: this kernel has no power management quality of service", err)
	}
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, 4)); err != nil {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

// mark is a meter's reading and the bytes that had reached the other end by then.
type mark struct {
	reading
	bytes int64
}

// watch waits until every client works, then through the phases of a load, and returns the state of things at the
// beginning and end of the measured time.
func (l *load) watch(drivers []*driver, phase *atomic.Int32, ready <-chan struct{}, errs <-chan error) (begin, end mark, err error) {
	m := meter{pids: l.Pids, dev: l.Dev}
	wait := func(t time.Duration) error {
		select {
		case err := <-errs:
			return err
		case <-time.After(t):
			return nil
		}
	}
	read := func() (k mark, err error) {
		k.reading, err = m.read()
		for _, d := range drivers {
			k.bytes += d.bytes.Load()
			if c := d.conn.Load(); c != nil && l.Kind == loadUp && err == nil {
				var queued int
				queued, err = unsent(*c)
				k.bytes -= int64(queued)
			}
		}
		return k, err
	}
	late := time.After(startTime)
	for i := range drivers {
		select {
		case <-ready:
		case err = <-errs:
			return
		case <-late:
			err = fmt.Errorf("%d of %d clients have had no answer for %v", len(drivers)-i, len(drivers), startTime)
			return
		}
	}
	if err = wait(l.Warmup); err != nil {
		return
	}
	if begin, err = read(); err != nil {
		return
	}
	phase.Store(measuring)
	if err = wait(l.Duration); err != nil {
		return
	}
	end, err = read()
	return
}

// report turns the drivers' counts into metrics.
func (l *load) report(drivers []*driver, begin, end mark) (sample, error) {
	seconds := end.at.Sub(begin.at).Seconds()
	server := (end.server - begin.server).Seconds()
	machine := (end.machine - begin.machine).Seconds()
	client := (end.own - begin.own).Seconds()
	if slices.Contains(l.Pids, os.Getpid()) { // both in one process
		client = 0
	}
	s := sample{
		"seconds": seconds,
		"others":  100 * max(0, machine-server-client) / seconds / float64(runtime.NumCPU()),
	}
	if l.Kind == loadDown || l.Kind == loadUp {
		gb := float64(end.bytes-begin.bytes) / 1e9
		if gb <= 0 {
			return nil, errors.New("no data went through")
		}
		s["rate"] = gb * 8 / seconds
		s["cpu/GB"] = server / gb
		s["cpu-all/GB"] = machine / gb
		return s, nil
	}
	var times histogram
	var done, all, failed uint64
	var why error
	for _, d := range drivers {
		times.merge(&d.times)
		done += d.done
		all += d.all
		failed += d.failed
		why = cmp.Or(why, d.why)
	}
	if done == 0 {
		return nil, fmt.Errorf("no exchange in %.1f s, %d failed: %w", seconds, failed, cmp.Or(why, os.ErrDeadlineExceeded))
	}
	if failed > 0 {
		fmt.Fprintf(os.Stderr, "bench: %s: %d failed, the first one: %v\n", l.Kind, failed, why)
	}
	s["rate"] = float64(done) / seconds
	s["ops"] = float64(all)
	s["failures"] = float64(failed)
	s["cpu/op"] = server * 1e6 / float64(done)
	s["cpu-all/op"] = machine * 1e6 / float64(done)
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99, "p99.9": 0.999} {
		s[name] = microseconds(times.quantile(q))
	}
	return s, nil
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// unsent returns how many bytes written to c the other end has not acknowledged.
func unsent(c net.Conn) (n int, err error) {
	if c, ok := c.(*stack.TCPConn); ok {
		return c.Info().SendQ, nil
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return n, errors.Join(cerr, err)
}

func (d *driver) stream(port int, move func(net.Conn, []byte) (int, error)) error {
	c, err := d.dial("tcp", port)
	if err != nil {
		return err
	}
	defer reset(c)
	d.conn.Store(&c)
	buf := make([]byte, bulkBuffer)
	for d.running() {
		n, err := move(c, buf)
		d.bytes.Add(int64(n))
		if err != nil {
			return err
		}
		d.up()
	}
	return nil
}

func (d *driver) download() error { return d.stream(portBytes, net.Conn.Read) }
func (d *driver) upload() error   { return d.stream(portDiscard, net.Conn.Write) }

func (d *driver) echo() error {
	c, err := d.dial("tcp", portEcho)
	if err != nil {
		return err
	}
	defer reset(c)
	b := []byte{'x'}
	start := time.Now()
	for d.running() {
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := c.Read(b); err != nil {
			return err
		}
		now := time.Now()
		d.exchange(start, now)
		start = now
	}
	return nil
}

// datagram is the payload of a UDP echo in bytes, and datagramLoss how long to wait
// for an answer before it counts as lost.
const (
	datagram     = 64
	datagramLoss = 100 * time.Millisecond
)

func (d *driver) udp() error {
	c, err := d.dial("udp", portEcho)
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, datagram)
	for d.running() {
		start := time.Now()
		c.SetDeadline(start.Add(datagramLoss))
		_, err := c.Write(b)
		if err == nil {
			_, err = c.Read(b)
		}
		switch {
		case err == nil:
			d.exchange(start, time.Now())
		case errors.Is(err, syscall.ECONNREFUSED):
			return err
		default:
			d.fail(err)
		}
	}
	return nil
}

// Requests, as short as HTTP/1.1 allows.
const (
	keepAlive = "GET / HTTP/1.1\r\nHost: cat\r\n\r\n"
	closeNow  = "GET / HTTP/1.1\r\nHost: cat\r\nConnection: close\r\n\r\n"
)

// The parts of an answer that are checked.
const (
	answerStart = "HTTP/1.1 200 OK\r\n"
	answerEnd   = "\r\n\r\nHello kitty!"
)

// readAnswer reads one whole answer of the cat server into buf: all answers of a
// connection have the same length, which is that of the first.
func readAnswer(c net.Conn, buf []byte, length *int) error {
	n := 0
	for {
		m, err := c.Read(buf[n:])
		n += m
		a := buf[:n]
		if *length == 0 && len(a) > len(answerEnd) && string(a[n-len(answerEnd):]) == answerEnd {
			*length = n
		}
		switch {
		case *length > 0 && n >= *length:
			if n > *length || string(a[:len(answerStart)]) != answerStart || string(a[n-len(answerEnd):]) != answerEnd {
				return fmt.Errorf("the answer %q is not the cat server's", a)
			}
			return nil
		case err != nil:
			return err
		case n == len(buf):
			return fmt.Errorf("the answer is longer than %d bytes: %q", n, a)
		}
	}
}

// answerBuffer holds an answer of the cat server to GET / (about 140 bytes).
const answerBuffer = 1 << 10

func (d *driver) http() error {
	c, err := d.dial("tcp", portHTTP)
	if err != nil {
		return err
	}
	defer reset(c)
	ask, buf, length := []byte(keepAlive), make([]byte, answerBuffer), 0
	start := time.Now()
	for d.running() {
		if _, err := c.Write(ask); err != nil {
			return err
		}
		if err := readAnswer(c, buf, &length); err != nil {
			return err
		}
		now := time.Now()
		d.exchange(start, now)
		start = now
	}
	return nil
}

func (d *driver) connect() error {
	ask, buf := []byte(closeNow), make([]byte, answerBuffer)
	for d.running() {
		start := time.Now()
		if err := d.connectOnce(ask, buf); err != nil {
			d.fail(err)
			continue
		}
		d.exchange(start, time.Now())
	}
	return nil
}

func (d *driver) connectOnce(ask, buf []byte) error {
	c, err := d.dial("tcp", portHTTP)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(ask); err != nil {
		return err
	}
	length := 0
	if err := readAnswer(c, buf, &length); err != nil {
		return err
	}
	if n, err := c.Read(buf); n != 0 || err != io.EOF {
		return fmt.Errorf("after the answer came %d bytes, %v: want the end", n, err)
	}
	return nil
}

// open opens connections one after another and leaves them open. Its times are of
// the first thousand, the last thousand, and all.
func (l *load) open(n network, held *holder) (sample, error) {
	times := make([]time.Duration, l.N)
	address := netip.AddrPortFrom(l.Target, uint16(l.Port)).String()
	buf, length := make([]byte, answerBuffer), 0
	deadline := time.Now().Add(l.Duration)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	began := time.Now()
	for i := range times {
		from := n
		if k, ok := n.(*kernel); ok && len(l.Sources) > 0 {
			from = k.from(l.Sources[i%len(l.Sources)])
		}
		start := time.Now()
		c, err := from.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		times[i] = time.Since(start)
		held.add(c)
		if l.Request {
			c.SetDeadline(deadline)
			if _, err := c.Write([]byte(keepAlive)); err != nil {
				return nil, fmt.Errorf("connection %d: %w", i, err)
			}
			if err := readAnswer(c, buf, &length); err != nil {
				return nil, fmt.Errorf("connection %d: %w", i, err)
			}
			c.SetDeadline(time.Time{})
		}
	}
	const some = 1000
	return sample{
		"seconds": time.Since(began).Seconds(),
		"open":    meanMicroseconds(times),
		"first":   meanMicroseconds(times[:min(some, l.N)]),
		"last":    meanMicroseconds(times[max(0, l.N-some):]),
	}, nil
}

func meanMicroseconds(times []time.Duration) float64 {
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return microseconds(sum) / float64(len(times))
}

// from returns the kernel's network with a source address. IP_BIND_ADDRESS_NO_PORT
// leaves the choice of a port to connect(2), which knows the destination.
func (k *kernel) from(a netip.Addr) *kernel {
	d := k.Dialer
	d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 0))
	d.Control = func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		})
		return errors.Join(cerr, err)
	}
	return &kernel{d}
}
