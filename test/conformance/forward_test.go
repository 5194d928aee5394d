package conformance

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

var forwardCases = []goCase{
	{header{1812, "5.3.1", "MUST", "A router that forwards a packet takes one from its TTL.", ""}, "forward-ttl", "forward_test.go", forwardTTL("10.1.0.2:7", "10.2.0.2:7")},
	{header{8200, "3", "MUST", "A router that forwards a packet takes one from its hop limit.", ""}, "forward-hop-limit", "forward_test.go", forwardTTL("[fd01::2]:7", "[fd02::2]:7")},
	{header{1812, "5.3.1", "MUST", "A packet whose TTL would come to zero is not forwarded, and answered by \"time exceeded\".", "a packet with a TTL of 1 is forwarded with one of 0"}, "forward-ttl-exceeded", "forward_test.go", forwardExceeded("10.1.0.2:7", "10.2.0.2:7", 11)},
	{header{4443, "3.3", "MUST", "A packet whose hop limit would come to zero is not forwarded, and answered by \"time exceeded\".", ""}, "forward-hop-limit-exceeded", "forward_test.go", forwardExceeded("[fd01::2]:7", "[fd02::2]:7", 3)},
	{header{1191, "4", "MUST", "A router that cannot forward a packet in one piece says so, with the MTU of the next link.", ""}, "forward-too-big", "forward_test.go", forwardTooBig("10.1.0.2:7", "10.2.0.2:7", 3, 4)},
	{header{4443, "3.2", "MUST", "A router that cannot forward a packet says so, with the MTU of the next link.", ""}, "forward-too-big-v6", "forward_test.go", forwardTooBig("[fd01::2]:7", "[fd02::2]:7", 2, 0)},
	{header{1122, "3.3.1.1", "MUST NOT", "A host that is no router does not forward what is for others.", ""}, "host-does-not-forward", "forward_test.go", hostDoesNotForward},
}

func router(t testing.TB, forwarding bool) *host {
	return newHost(t, stack.Config{Forwarding: forwarding}, "10.1.0.1/24 fd01::1/64", "10.2.0.1/24 fd02::1/64")
}

func forwardTTL(src, dst string) func(testing.TB) {
	return func(t testing.TB) {
		h := router(t, true)
		for _, ttl := range []uint8{255, 64, 2} {
			h.send(datagram(src, dst, 100, ttl))
			got := h.sentOn(1)
			if len(got) != 1 || got[0].TTL != ttl-1 || len(got[0].Payload) != 100 {
				t.Errorf("a packet with TTL %d was forwarded as %v", ttl, got)
			}
			if back := h.sent(); len(back) > 0 {
				t.Errorf("a packet with TTL %d was answered by %v", ttl, back)
			}
		}
	}
}

func forwardExceeded(src, dst string, timeExceeded uint8) func(testing.TB) {
	return func(t testing.TB) {
		h := router(t, true)
		p := datagram(src, dst, 100, 1)
		back := h.ask(p)
		if len(back) != 1 || back[0].ICMP == nil || back[0].ICMP.Type != timeExceeded || back[0].ICMP.Code != 0 {
			t.Fatalf("answered by %v", back)
		}
		quoted, err := packet.Parse(back[0].ICMP.Body)
		if err != nil || quoted.UDP == nil || quoted.Dst != mustAddr(dst) {
			t.Errorf("it quotes %v, %v", quoted, err)
		}
		if got := h.sentOn(1); len(got) > 0 {
			t.Errorf("it was forwarded all the same: %v", got)
		}
	}
}

func hostDoesNotForward(t testing.TB) {
	h := router(t, false)
	for _, p := range [][]byte{datagram("10.1.0.2:7", "10.2.0.2:7", 100, 64), datagram("[fd01::2]:7", "[fd02::2]:7", 100, 64)} {
		h.send(p)
		if got := h.sentOn(1); len(got) > 0 {
			t.Errorf("forwarded %v", got)
		}
	}
	if got := h.ask(datagram("10.1.0.2:7", "10.2.0.1:7", 100, 64)); len(got) != 1 {
		t.Errorf("what is for its own address on another link was answered by %v", got)
	}
}

func forwardTooBig(src, dst string, typ, code uint8) func(testing.TB) {
	return func(t testing.TB) {
		const mtu = 1300
		h := newHost(t, stack.Config{Forwarding: true}, "10.1.0.1/24 fd01::1/64", fmt.Sprintf("mtu:%d 10.2.0.1/24 fd02::1/64", mtu))
		p := datagram(src, dst, 1400, 64)
		if p[0]>>4 == 4 { // must not be fragmented
			p[6] |= 0x40
			p[10], p[11] = 0, 0
			binary.BigEndian.PutUint16(p[10:], packet.Checksum(p[:20], 0))
		}
		back := h.ask(p)
		if len(back) != 1 || back[0].ICMP == nil || back[0].ICMP.Type != typ || back[0].ICMP.Code != code || back[0].ICMP.Rest != mtu {
			t.Errorf("answered by %v", back)
			if len(back) > 0 && back[0].ICMP != nil {
				t.Errorf("type %d code %d mtu %d", back[0].ICMP.Type, back[0].ICMP.Code, back[0].ICMP.Rest)
			}
		}
		if got := h.sentOn(1); len(got) > 0 {
			t.Errorf("it was forwarded all the same: %v", got)
		}
	}
}
