package tun_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/internal/tuntest"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestTransfer moves bytes both ways between the kernel's TCP and netstack's, through a real device.
func TestTransfer(t *testing.T) {
	for _, tc := range []struct {
		driver tun.Driver
		queues int
		size   int64
	}{
		{tun.Offload, 1, 32 << 20},
		{tun.Offload, 2, 16 << 20},
		{tun.Water, 1, 2 << 20},
		{tun.Water, 2, 2 << 20},
	} {
		t.Run(fmt.Sprintf("%v-%d", tc.driver, tc.queues), func(t *testing.T) {
			ns := startNS(t, tun.Config{Driver: tc.driver, Queues: tc.queues})
			dev := ns.Device()
			if dev.Driver() != tc.driver || dev.Queues() != tc.queues {
				t.Fatalf("got driver %v with %d queues, want %v with %d", dev.Driver(), dev.Queues(), tc.driver, tc.queues)
			}
			t.Log(dev.Offloads())
			serve(t, tuntest.NewStack(t, dev.Endpoint(), stackAddrs...))
			want := patternSum(tc.size)
			for _, addr := range []string{"10.9.0.2:80", "[fd00:9::2]:80"} {
				for _, direction := range []string{"down", "up"} {
					before := dev.Stats()
					got := strings.Fields(runSelf(t, ns, direction, addr, fmt.Sprint(tc.size)))[0]
					if got != want {
						t.Errorf("%s %s: SHA-256 %s, want %s", direction, addr, got, want)
					}
					after := dev.Stats()
					// With super-packets of up to 64 KiB the data takes far fewer packets than segments.
					packets, gso := after.TxPackets-before.TxPackets, after.TxGSOPackets-before.TxGSOPackets
					if direction == "up" {
						packets, gso = after.RxPackets-before.RxPackets, after.RxGSOPackets-before.RxGSOPackets
					}
					segments := uint64(tc.size / 1448)
					t.Logf("%s %s: %d packets (%d GSO) for %d segments", direction, addr, packets, gso, segments)
					if tc.driver == tun.Offload && (packets > segments/4 || gso == 0) {
						t.Errorf("%s %s: %d packets (%d GSO) for %d segments: offload does not work", direction, addr, packets, gso, segments)
					}
					if tc.driver == tun.Water && (gso != 0 || packets < segments) {
						t.Errorf("%s %s: %d packets (%d GSO) for %d segments: there should be no offload", direction, addr, packets, gso, segments)
					}
				}
			}
			if s := dev.Stats(); s.RxDroppedBadChecksum+s.RxDroppedBadVnetHdr+s.RxDroppedTruncated+s.RxDroppedNotIP+s.TxDroppedError+s.TxDroppedTooBig != 0 {
				t.Errorf("dropped what was good: %+v", s)
			}
		})
	}
}

// TestLinkDeleted: the removal of the interface by a command, under load, is reported.
func TestLinkDeleted(t *testing.T) {
	ns := startNS(t, tun.Config{})
	dev := ns.Device()
	serve(t, tuntest.NewStack(t, dev.Endpoint(), stackAddrs...))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	transfer := make(chan error)
	go func() {
		_, err := output(ns, exe, testCommand, "down", "10.9.0.2:80", "1000000000000")
		transfer <- err
	}()
	for dev.Stats().TxGSOPackets < 100 {
		select {
		case err := <-transfer:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	begin := time.Now()
	run(t, ns, "ip", "link", "del", "cat0")
	select {
	case <-dev.Done():
		t.Logf("%v after %v", dev.Err(), time.Since(begin))
	case <-time.After(time.Minute):
		t.Fatal("not noticed")
	}
	if !errors.Is(dev.Err(), tun.ErrGone) {
		t.Errorf("Err is %v, want ErrGone", dev.Err())
	}
	ns.Close()
	if err := <-transfer; err == nil {
		t.Error("the transfer succeeded")
	}
}

// TestCloseUnderLoad: Close neither hangs nor panics while packets go both ways.
func TestCloseUnderLoad(t *testing.T) {
	for _, driver := range []tun.Driver{tun.Offload, tun.Water} {
		ns := startNS(t, tun.Config{Driver: driver, Queues: 2})
		dev := ns.Device()
		serve(t, tuntest.NewStack(t, dev.Endpoint(), stackAddrs...))
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		var transfers sync.WaitGroup
		for _, direction := range []string{"down", "up", "down", "up"} {
			transfers.Go(func() { output(ns, exe, testCommand, direction, "10.9.0.2:80", "1000000000000") })
		}
		testenv.Await(t, "load both ways", func() bool { s := dev.Stats(); return s.TxPackets >= 200 && s.RxPackets >= 200 })
		closed := make(chan error)
		go func() { closed <- dev.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Errorf("%v: Close: %v", driver, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%v: Close hangs", driver)
		}
		ns.Close()
		transfers.Wait()
	}
}

// TestReject: frames that lie are dropped and counted on the whole way in, and the stack goes on.
func TestReject(t *testing.T) {
	ns := startNS(t, tun.Config{})
	dev := ns.Device()
	serve(t, tuntest.NewStack(t, dev.Endpoint(), stackAddrs...))
	// A raw socket leaves the checksum to its user: this one's is wrong.
	runSelf(t, ns, "raw", "10.9.0.2:80", "1")
	testenv.Await(t, "a packet to be dropped for its checksum", func() bool { return dev.Stats().RxDroppedBadChecksum == 1 })
	want := patternSum(1000)
	if got := strings.Fields(runSelf(t, ns, "down", "10.9.0.2:80", "1000"))[0]; got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
}

// BenchmarkTransfer is bulk traffic and ping-pong between the kernel's TCP and netstack's.
func BenchmarkTransfer(b *testing.B) {
	for _, driver := range []tun.Driver{tun.Offload, tun.Water} {
		for _, direction := range []string{"Down", "Up", "ping"} {
			b.Run(fmt.Sprintf("%v/%s", driver, direction), func(b *testing.B) {
				ns := startNS(b, tun.Config{Driver: driver})
				serve(b, tuntest.NewStack(b, ns.Device().Endpoint(), stackAddrs...))
				n := int64(4 << 30)
				switch {
				case direction == "ping":
					n = 20000
				case driver == tun.Water:
					n = 64 << 20
				}
				for b.Loop() {
					var seconds float64
					fmt.Sscan(strings.TrimLeft(runSelf(b, ns, direction, "10.9.0.2:80", fmt.Sprint(n)), "0123456789abcdef"), &seconds)
					if direction == "ping" {
						b.ReportMetric(seconds/float64(n)*1e6, "µs/round-trip")
					} else {
						b.ReportMetric(float64(n)*8/seconds/1e9, "Gbit/s")
					}
				}
			})
		}
	}
}

// TestWithoutTSO: a device on which one TSO was refused carries TCP all the same, in segments.
func TestWithoutTSO(t *testing.T) {
	ns := startNS(t, tun.Config{})
	h, fds, err := ns.Device().Handoff()
	if err != nil {
		t.Fatal(err)
	}
	h.Offloads.TxTSO6 = tun.Grant{Reason: "refused"}
	dev, err := tun.Adopt(h, fds, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if got := dev.Endpoint().SupportedGSO(); got != stack.GSONotSupported {
		t.Errorf("SupportedGSO is %v, want GSONotSupported", got)
	}
	serve(t, tuntest.NewStack(t, dev.Endpoint(), stackAddrs...))
	const n = 2 << 20
	for _, direction := range []string{"down", "up"} {
		if got, want := strings.Fields(runSelf(t, ns, direction, "10.9.0.2:80", fmt.Sprint(n)))[0], patternSum(n); got != want {
			t.Errorf("%s: SHA-256 %s, want %s", direction, got, want)
		}
	}
	if s := dev.Stats(); s.TxGSOPackets != 0 || s.TxPackets < n/1448 || s.RxGSOPackets == 0 {
		t.Errorf("%+v, want segments out and super-packets in", s)
	}
}

// TestWrapped: netstack's wrapper for link layers passes on what the endpoint can do.
func TestWrapped(t *testing.T) {
	ns := startNS(t, tun.Config{})
	var w wrapper
	w.Init(ns.Device().Endpoint(), &w)
	if got := w.SupportedGSO(); got != stack.HostGSOSupported {
		t.Errorf("SupportedGSO is %v, want HostGSOSupported", got)
	}
	if w.GSOMaxSize() != 65535 || w.Capabilities() != stack.CapabilityRXChecksumOffload || w.MTU() != 1500 ||
		w.MaxHeaderLength() != 0 || w.LinkAddress() != "" || w.ARPHardwareType() != header.ARPHardwareNone {
		t.Errorf("GSOMaxSize %d, capabilities %b, MTU %d, header %d, address %q", w.GSOMaxSize(), w.Capabilities(), w.MTU(), w.MaxHeaderLength(), w.LinkAddress())
	}
}

type wrapper struct{ nested.Endpoint }
