package packet

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

func TestHandshakeOptions(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		h.listen(h.any())
		h.Send("S 0:0(0) win 65535 <mss 1460,sackOK,TS val 100 ecr 0,nop,wscale 7>")
		h.Expect("every option is taken up", "S. 0:0(0) ack 1 <mss "+h.mss+",sackOK,TS val 1000 ecr 100,nop,wscale 8>")
		h.Send(". 1:1(0) ack 1 win 512 <nop,nop,TS val 101 ecr 1000>")
		h.wantState("ESTABLISHED")

		h.NewConnection()
		h.Send("S 0:0(0) win 65535")
		h.Expect("what was not offered is not used", "S. 0:0(0) ack 1 <mss "+h.mss+">")
		h.Send(". 1:1(0) ack 1 win 512")

		h.NewConnection()
		h.Send("S 0:0(0) win 65535 <mss 500,sackOK>")
		h.Expect("a timestamp and a window scale are not used unless offered", "S. 0:0(0) ack 1 <mss "+h.mss+",nop,nop,sackOK>")
	})
}

func TestActiveOpen(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.socket()
		if err := h.y.Connect(fd, netip.AddrPortFrom(h.remote, 8080)); !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatalf("connect: %v, want EINPROGRESS", err)
		}
		h.Expect("connect sends a SYN", "S 0:0(0) <mss "+h.mss+",sackOK,TS val 1000 ecr 0,nop,wscale 8>")
		h.Send("S. 0:0(0) ack 1 win 65535 <mss 1460>")
		h.Expect("a SYN-ACK is acknowledged", ". 1:1(0) ack 1")
		h.wantState("ESTABLISHED")
		if v, err := h.y.Getsockopt(fd, stack.SOL_SOCKET, stack.SO_ERROR); v != 0 || err != nil {
			t.Errorf("SO_ERROR is %v, %v, want 0", v, err)
		}
	})
}

func TestConnectRefused(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.socket()
		h.y.Connect(fd, netip.AddrPortFrom(h.remote, 8080))
		h.Expect("connect sends a SYN", "S 0:0(0) <...>")
		h.Send("R. 0:0(0) ack 1 win 0")
		h.ExpectNothing("a reset is not answered", silence)
		if v, err := h.y.Getsockopt(fd, stack.SOL_SOCKET, stack.SO_ERROR); v != int(syscall.ECONNREFUSED) || err != nil {
			t.Errorf("SO_ERROR is %v, %v, want ECONNREFUSED", v, err)
		}
	})
}

// TestSYNRetransmission: an unanswered SYN is sent again after 1, 2, 4, … s (RFC 6298, section 5.5), six times as
// Linux does by default.
func TestSYNRetransmission(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.socket()
		h.y.Connect(fd, netip.AddrPortFrom(h.remote, 8080))
		h.Expect("connect sends a SYN", "S 0:0(0) <...>")
		wait := time.Second
		for range 6 {
			h.expectAfter("an unanswered SYN is sent again", wait, "S 0:0(0) <...>")
			wait *= 2
		}
		h.ExpectNothing("after six retransmissions it is given up", silence)
		if v, err := h.y.Getsockopt(fd, stack.SOL_SOCKET, stack.SO_ERROR); v != int(syscall.ETIMEDOUT) || err != nil {
			t.Errorf("SO_ERROR is %v, %v, want ETIMEDOUT", v, err)
		}
		h.wantState("CLOSED")
	})
}

// TestSYNACKRetransmission: the same for a half-open connection, which is then forgotten.
func TestSYNACKRetransmission(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		l := h.listen(h.any())
		h.Send("S 0:0(0) win 65535 <mss 1460>")
		h.Expect("a SYN is answered", "S. 0:0(0) ack 1 <...>")
		h.wantState("SYN-RECEIVED")
		wait := time.Second
		for range 6 {
			h.expectAfter("an unanswered SYN-ACK is sent again", wait, "S. 0:0(0) ack 1 <...>")
			wait *= 2
		}
		h.ExpectNothing("after six retransmissions it is given up", silence)
		h.wantState("")
		if _, _, err := h.y.Accept4(l, stack.SOCK_NONBLOCK); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("accept4: %v, want EAGAIN: nobody has connected", err)
		}
		h.Send(". 1:1(0) ack 1 win 65535")
		h.Expect("an ACK that comes too late finds nothing", "R 1:1(0)")
	})
}

// TestSimultaneousOpen: two SYNs cross (RFC 9293, figure 7).
func TestSimultaneousOpen(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.socket()
		h.y.Connect(fd, netip.AddrPortFrom(h.remote, 8080))
		h.Expect("connect sends a SYN", "S 0:0(0) <...>")
		h.Send("S 0:0(0) win 65535 <mss 1460>")
		h.Expect("a SYN instead of a SYN-ACK is acknowledged together with our own", "S. 0:0(0) ack 1 <...>")
		h.wantState("SYN-RECEIVED")
		h.Send(". 1:1(0) ack 1 win 65535")
		h.wantState("ESTABLISHED")
		h.write(fd, 1, 10)
		h.Expect("the connection carries data", "P. 1:11(10) ack 1")
	})
}

func TestClosedPort(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		h.Send("5000 > 81 S 100:100(0) win 65535")
		h.Expect("a SYN to a closed port is refused, and acknowledged so that it is believed", "81 > 5000 R. 0:0(0) ack 1")
		h.Send("5001 > 81 F. 100:110(10) ack 1 win 65535")
		h.Expect("a segment of an unknown connection is answered as if from where it says we are", "81 > 5001 R *")
		h.Send("5002 > 81 R 100:100(0) win 65535")
		h.Send("5002 > 81 R. 100:100(0) ack 1 win 65535")
		h.ExpectNothing("a reset is never answered", silence)
	})
}

func TestBindInUse(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		l := h.listen(h.any())
		bind := func(a netip.Addr) error {
			fd := h.socket()
			defer h.y.Close(fd)
			return h.y.Bind(fd, netip.AddrPortFrom(a, 80))
		}
		for _, a := range []netip.Addr{h.any(), h.local} {
			if err := bind(a); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("bind to %s, which is taken: %v, want EADDRINUSE", a, err)
			}
		}
		h.must("close", h.y.Close(l))
		for _, a := range []netip.Addr{h.any(), h.local} {
			if err := bind(a); err != nil {
				t.Errorf("bind to %s after close: %v", a, err)
			}
		}
		if err := bind(netip.MustParseAddr(map[bool]string{true: "192.0.2.1", false: "2001:db8::1"}[h.local.Is4()])); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("bind to a foreign address: %v, want EADDRNOTAVAIL", err)
		}
	})
}
