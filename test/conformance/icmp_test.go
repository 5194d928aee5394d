package conformance

import (
	"net/netip"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

var icmpCases = []goCase{
	{header{1812, "4.3.2.3", "SHOULD", "An ICMP error has at most 576 bytes.", ""}, "error-length", "icmp_test.go", errorLength("10.1.0.2:7", "10.1.0.1:9", 576)},
	{header{4443, "2.4", "MUST", "An ICMPv6 error quotes as much as fits in 1280 bytes.", ""}, "error-length-v6", "icmp_test.go", errorLength("[fd01::2]:7", "[fd01::1]:9", 1280)},
	{header{1122, "3.2.2", "MUST NOT", "What was sent to a broadcast address is not answered by an ICMP error.", ""}, "no-error-for-broadcast", "icmp_test.go", noErrorFor("10.1.0.2:7", "10.1.0.1:9", "10.1.0.255:9", "255.255.255.255:9")},
	{header{1122, "3.2.2", "MUST NOT", "What was sent to a multicast address is not answered by an ICMP error.", ""}, "no-error-for-multicast", "icmp_test.go", noErrorFor("10.1.0.2:7", "10.1.0.1:9", "224.0.0.1:9")},
	{header{4443, "2.4", "MUST NOT", "What was sent to a multicast address is not answered by an ICMPv6 error.", ""}, "no-error-for-multicast-v6", "icmp_test.go", noErrorFor("[fd01::2]:7", "[fd01::1]:9", "[ff02::1]:9")},
	{header{1122, "3.2.2", "MUST NOT", "What came from an address that names no single host is not answered by an ICMP error.", ""}, "no-error-to-many", "icmp_test.go", noErrorTo("10.1.0.1:9", "0.0.0.0:7", "127.0.0.1:7", "224.0.0.1:7", "10.1.0.255:7", "255.255.255.255:7")},
	{header{4443, "2.4", "MUST NOT", "What came from an address that names no single node is not answered by an ICMPv6 error.", ""}, "no-error-to-many-v6", "icmp_test.go", noErrorTo("[fd01::1]:9", "[::]:7", "[ff02::1]:7")},
	{header{1812, "4.3.2.8", "SHOULD", "The rate of ICMP errors is limited, and recovers.", ""}, "error-rate", "icmp_test.go", errorRate("10.1.0.2:7", "10.1.0.1:9")},
	{header{4443, "2.4", "MUST", "The rate of ICMPv6 errors is limited, and recovers.", ""}, "error-rate-v6", "icmp_test.go", errorRate("[fd01::2]:7", "[fd01::1]:9")},
}

const icmpHost = "10.1.0.1/24 fd01::1/64"

func mustAddr(addrPort string) netip.Addr { return netip.MustParseAddrPort(addrPort).Addr() }

func errorLength(src, dst string, limit int) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, icmpHost)
		for _, n := range []int{0, 100, 500, 548, 600, 1200, 1400, 1452} {
			p := datagram(src, dst, n, 64)
			want := min(limit, len(p)+len(p)-n) // as long headers again: IP and 8 bytes, of UDP or ICMP
			got := h.ask(p)
			if len(got) != 1 || got[0].ICMP == nil || got[0].Length != want {
				t.Errorf("a datagram of %d bytes was answered by %v, want an ICMP error of %d bytes", n, got, want)
			}
		}
	}
}

func noErrorFor(src, unicast string, dsts ...string) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, icmpHost)
		for _, dst := range dsts {
			if got := h.ask(datagram(src, dst, 10, 64)); len(got) > 0 {
				t.Errorf("a datagram to %s was answered by %v", dst, got)
			}
		}
		if got := h.ask(datagram(src, unicast, 10, 64)); len(got) != 1 {
			t.Errorf("a datagram to %s was answered by %v, want an ICMP error", unicast, got)
		}
	}
}

func noErrorTo(dst string, srcs ...string) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, icmpHost)
		for _, src := range srcs {
			if got := h.ask(datagram(src, dst, 10, 64)); len(got) > 0 {
				t.Errorf("a datagram from %s was answered by %v", src, got)
			}
		}
	}
}

func errorRate(src, dst string) func(testing.TB) {
	return func(t testing.TB) {
		h := newHost(t, stack.Config{}, icmpHost)
		const n = 200
		burst := func() (answers int) {
			for range n {
				answers += len(h.ask(datagram(src, dst, 10, 64)))
			}
			return answers
		}
		if got := burst(); got == 0 || got > n/2 {
			t.Errorf("%d of %d datagrams at one instant were answered by an ICMP error", got, n)
		}
		h.wires[0].Advance(time.Minute)
		h.sent()
		if got := burst(); got == 0 {
			t.Error("a minute later none is answered any more")
		}
	}
}
