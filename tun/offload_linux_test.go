package tun

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// inNetNS moves the test to a network namespace of its own, on a thread that ends with it.
func inNetNS(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		const remedy = "run the tests as root"
		if os.Getenv("CATFLAP_REQUIRE") == "all" {
			t.Fatalf("unshare: %v, and CATFLAP_REQUIRE=all; remedy: %s", err, remedy)
		}
		t.Skipf("unshare: %v; remedy: %s", err, remedy)
	}
}

func open(t testing.TB, cfg Config) *Device {
	t.Helper()
	dev, err := Open(cfg)
	if err != nil {
		t.Fatalf("%v; remedy: %s", err, Diagnose(err))
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

func up(t testing.TB, name string) {
	t.Helper()
	if err := ConfigureHost(name, HostConfig{Up: true}); err != nil {
		t.Fatal(err)
	}
}

// TestProbe: the kernel's answer to a probe depends on the header, and the probe leaves no trace.
func TestProbe(t *testing.T) {
	inNetNS(t)
	dev := open(t, Config{Driver: Offload})
	fd := dev.queues[0].(*offloadQueue).fd
	for _, gsoType := range []uint8{vnetGSONone, vnetGSOTCPv4, vnetGSOTCPv6} {
		if got := probe(fd, dev.Name(), probeFrame(gsoType)); !got.Granted {
			t.Errorf("probe of GSO type %d: %s", gsoType, got.Reason)
		}
	}
	bad := probeFrame(vnetGSOTCPv4)
	bad[1] = 0x7f // no such type
	if got := probe(fd, dev.Name(), bad); got.Granted || !strings.Contains(got.Reason, "invalid argument") {
		t.Errorf("probe of GSO type 0x7f: %+v, want it refused as an invalid argument", got)
	}
	link, err := netlink.LinkByName(dev.Name())
	if err != nil {
		t.Fatal(err)
	}
	if n := link.Attrs().Statistics.RxPackets; n != 0 {
		t.Errorf("the host has received %d packets from the probes, want none", n)
	}
}

// TestBusy: a second instance on the same device is refused, also where the kernel would let it share a
// multi-queue device.
func TestBusy(t *testing.T) {
	inNetNS(t)
	for _, queues := range []int{1, 3} {
		dev := open(t, Config{Driver: Offload, Queues: queues})
		_, err := Open(Config{Queues: queues})
		if !errors.Is(err, syscall.EBUSY) || Diagnose(err) == "" {
			t.Errorf("second Open with %d queues: %v (remedy %q), want EBUSY and a remedy", queues, err, Diagnose(err))
		}
		dev.Close()
		open(t, Config{Driver: Offload, Queues: queues}).Close() // free again
	}
}

func TestOpenErrors(t *testing.T) {
	inNetNS(t)
	_, err := Open(Config{Path: t.TempDir() + "/tun"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(Diagnose(err), "modprobe tun") {
		t.Errorf("no device file: %v (remedy %q)", err, Diagnose(err))
	}
	_, err = Open(Config{Path: "/dev/null"})
	var op *OpError
	if !errors.As(err, &op) || op.Op != OpAttach {
		t.Errorf("a file that is no TUN device: %v, want an OpError of attach", err)
	}
	_, err = Open(Config{Name: "lo"})
	if err == nil || Diagnose(err) == "" {
		t.Errorf("name of another interface: %v (remedy %q), want an error and a remedy", err, Diagnose(err))
	}
}

// TestMTU: the interface and the endpoint get the configured MTU.
func TestMTU(t *testing.T) {
	inNetNS(t)
	for _, driver := range []Driver{Offload, Water} {
		for _, mtu := range []int{MinMTU, 1280, 9000, MaxMTU} {
			dev := open(t, Config{Driver: driver, MTU: mtu})
			link, err := netlink.LinkByName(dev.Name())
			if err != nil {
				t.Fatal(err)
			}
			if link.Attrs().MTU != mtu || dev.Endpoint().MTU() != uint32(mtu) || dev.MTU() != mtu {
				t.Errorf("%v: interface has MTU %d, endpoint %d, want %d", driver, link.Attrs().MTU, dev.Endpoint().MTU(), mtu)
			}
			dev.Close()
		}
	}
}

// sink is a stack that counts what is delivered to it.
type sink struct {
	packets chan int // sizes
}

func (s *sink) DeliverNetworkPacket(_ protocol, pkt *stack.PacketBuffer) {
	select {
	case s.packets <- pkt.Size():
	default:
	}
}
func (*sink) DeliverLinkPacket(protocol, *stack.PacketBuffer) {}

// TestLifecycle: Close is idempotent, wakes idle readers, and is what Done and Err report.
func TestLifecycle(t *testing.T) {
	inNetNS(t)
	for _, driver := range []Driver{Offload, Water} {
		dev := open(t, Config{Driver: driver, Queues: 2})
		ep := dev.Endpoint()
		if ep.IsAttached() || dev.Err() != nil {
			t.Errorf("%v: new device: attached %v, err %v", driver, ep.IsAttached(), dev.Err())
		}
		ep.Attach(&sink{})
		if !ep.IsAttached() {
			t.Errorf("%v: not attached after Attach", driver)
		}
		closed := 0
		ep.SetOnCloseAction(func() { closed++; ep.Close() })
		ep.Attach(nil)
		ep.Wait()
		if ep.IsAttached() {
			t.Errorf("%v: attached after Attach(nil)", driver)
		}
		ep.Attach(&sink{})
		time.Sleep(10 * time.Millisecond) // the readers sleep in the poller
		begin := time.Now()
		for range 3 {
			if err := dev.Close(); err != nil {
				t.Errorf("%v: Close: %v", driver, err)
			}
		}
		if d := time.Since(begin); d > time.Minute {
			t.Errorf("%v: Close took %v", driver, d)
		}
		if closed != 1 {
			t.Errorf("%v: the close action ran %d times, want once", driver, closed)
		}
		select {
		case <-dev.Done():
		default:
			t.Errorf("%v: Done is open after Close", driver)
		}
		if !errors.Is(dev.Err(), os.ErrClosed) {
			t.Errorf("%v: Err is %v, want os.ErrClosed", driver, dev.Err())
		}
		ep.Attach(&sink{}) // must not start anything: goleak
		if _, err := netlink.LinkByName(dev.Name()); err == nil {
			t.Errorf("%v: the interface is still there", driver)
		}
	}
}

// TestGone: the removal of the interface is noticed at once, by idle readers too.
func TestGone(t *testing.T) {
	inNetNS(t)
	for _, driver := range []Driver{Offload, Water} {
		for _, isUp := range []bool{false, true} {
			dev := open(t, Config{Driver: driver, Queues: 2})
			if isUp {
				up(t, dev.Name())
			}
			dev.Endpoint().Attach(&sink{})
			time.Sleep(10 * time.Millisecond)
			link, err := netlink.LinkByName(dev.Name())
			if err != nil {
				t.Fatal(err)
			}
			if err := netlink.LinkDel(link); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			select {
			case <-dev.Done():
				t.Logf("%v, up %v: noticed after %v: %v", driver, isUp, time.Since(begin), dev.Err())
			case <-time.After(time.Minute):
				t.Fatalf("%v, up %v: not noticed", driver, isUp)
			}
			if !errors.Is(dev.Err(), ErrGone) {
				t.Errorf("%v, up %v: Err is %v, want ErrGone", driver, isUp, dev.Err())
			}
			if err := dev.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if !errors.Is(dev.Err(), ErrGone) {
				t.Errorf("after Close Err is %v, want the first reason", dev.Err())
			}
		}
	}
}

// outbound is an outbound packet of b.
func outbound(b []byte) *stack.PacketBuffer {
	return stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
}

// transmit returns when pkt has been written to the device.
func transmit(e *Endpoint, pkt *stack.PacketBuffer) tcpip.Error {
	defer pkt.DecRef()
	var list stack.PacketBufferList
	list.PushBack(pkt)
	_, err := e.WritePackets(list)
	for _, q := range e.dev.tx {
		q.flush()
	}
	return err
}

// TestWriteErrors: what becomes of a packet that cannot leave is counted.
func TestWriteErrors(t *testing.T) {
	inNetNS(t)
	ip := ip4(layers.IPProtocolUDP)
	b := build(t, ip, udpOver(ip), randomPayload(1000))
	for _, driver := range []Driver{Offload, Water} {
		dev := open(t, Config{Driver: driver})
		ep := dev.Endpoint()
		if err := transmit(ep, outbound(b)); err != nil {
			t.Errorf("%v: interface down: %v, want the packet lost without an error", driver, err)
		}
		up(t, dev.Name())
		transmit(ep, outbound(b))
		transmit(ep, outbound(append(b, make([]byte, 1000)...)))
		dev.Close()
		transmit(ep, outbound(b))
		s := dev.Stats()
		want := Stats{TxPackets: 1, TxBytes: uint64(len(b)), TxDroppedDown: 1, TxDroppedTooBig: 1, TxDroppedError: 1}
		if s != want {
			t.Errorf("%v: %+v, want %+v", driver, s, want)
		}
	}
}

// TestManyPieces: a packet in more pieces than writev takes leaves as one frame all the same.
func TestManyPieces(t *testing.T) {
	inNetNS(t)
	dev := open(t, Config{Driver: Offload, MTU: 9000})
	up(t, dev.Name())
	ip := ip4(layers.IPProtocolUDP)
	b := build(t, ip, udpOver(ip), randomPayload(maxIovecs*2))
	var payload buffer.Buffer
	for i := range b {
		v := buffer.NewView(1)
		v.Write(b[i : i+1])
		var one = buffer.MakeWithView(v)
		payload.Merge(&one)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload})
	transmit(dev.Endpoint(), pkt)
	if s := dev.Stats(); s.TxPackets != 1 || s.TxBytes != uint64(len(b)) {
		t.Errorf("%+v, want one packet of %d bytes sent", s, len(b))
	}
	link, _ := netlink.LinkByName(dev.Name())
	if s := link.Attrs().Statistics; s.RxPackets != 1 || s.RxBytes != uint64(len(b)) || s.RxErrors != 0 {
		t.Errorf("the host has received %d packets, %d bytes, %d errors; want 1, %d, 0", s.RxPackets, s.RxBytes, s.RxErrors, len(b))
	}
}

// TestHandoff: a device goes on after its queues have been handed over.
func TestHandoff(t *testing.T) {
	inNetNS(t)
	for _, driver := range []Driver{Offload, Water} {
		dev := open(t, Config{Driver: driver, Queues: 2, MTU: 1400})
		h, fds, err := dev.Handoff()
		if err != nil || len(fds) != 2 {
			t.Fatalf("%v: %d descriptors, %v", driver, len(fds), err)
		}
		dev.Close()
		got, err := Adopt(h, fds, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Name() != "cat0" || got.MTU() != 1400 || got.Driver() != driver || got.Queues() != 2 || got.Offloads() != dev.Offloads() {
			t.Errorf("%v: adopted %s, MTU %d, %v, %d queues", driver, got.Name(), got.MTU(), got.Driver(), got.Queues())
		}
		up(t, got.Name())
		s := &sink{packets: make(chan int, 1)}
		got.Endpoint().Attach(s)
		select { // a multicast report or router solicitation of the host's
		case <-s.packets:
		case <-time.After(time.Minute):
			t.Errorf("%v: nothing received", driver)
		}
		got.Close()
	}
	if _, err := Adopt(Handoff{Name: "cat0", Driver: Offload}, []int{-1}, nil); err == nil {
		t.Error("adopted a descriptor that is not open")
	}
}

// TestIdle: a reader without traffic uses no processor time.
func TestIdle(t *testing.T) {
	inNetNS(t)
	dev := open(t, Config{Driver: Offload})
	dev.Endpoint().Attach(&sink{}) // the interface is down, so that the host sends nothing
	before := cpuTime(t)
	const interval = 300 * time.Millisecond
	time.Sleep(interval)
	if used := cpuTime(t) - before; used > interval/10 {
		t.Errorf("used %v of processor time in %v", used, interval)
	}
}

func cpuTime(t *testing.T) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
