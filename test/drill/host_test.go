package drill_test

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/catflap/catflap/stack"
	"github.com/catflap/catflap/test/drill"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newHost starts a stack with one link, and a host at the other end of it.
func newHost(t testing.TB) (*drill.Host, *stack.Stack) {
	t.Helper()
	w := drill.NewWire(1500)
	s, err := stack.New(stack.Config{
		Links: []stack.Link{{Name: "cat0", Endpoint: w.Endpoint(), Addrs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/24")}}},
		Clock: w.Clock(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w.Attach(s.Quiesce)
	return drill.NewHost(t, w, drill.HostConfig{Local: netip.MustParseAddrPort("10.9.0.2:80"), Remote: netip.MustParseAddr("10.9.0.1")}), s
}

func listen(t testing.TB, s *stack.Stack) {
	t.Helper()
	l, err := s.Listen("tcp", "10.9.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

func TestHostHandshake(t *testing.T) {
	h, s := newHost(t)
	listen(t, s)
	h.Send("S 0:0(0) win 65535 <mss 1460>")
	h.Expect("a SYN to a listener is answered", "S. 0:0(0) ack 1 <mss 1460>")
	h.Send(". 1:1(0) ack 1 win 65535")
	h.ExpectNothing("an acknowledgment is not answered", 2*time.Second)
	h.Send("P. 1:11(10) ack 1 win 65535")
	h.Expect("data is acknowledged", ". 1:1(0) ack 11")
}

func TestHostRetransmission(t *testing.T) {
	h, s := newHost(t)
	listen(t, s)
	h.Send("S 0:0(0) win 65535 <mss 1460>")
	h.Expect("a SYN to a listener is answered", "S. 0:0(0) ack 1 <...>")
	h.ExpectNothing("the first timeout is a second (RFC 6298)", 999*time.Millisecond)
	h.Advance(time.Millisecond)
	h.Expect("an unanswered SYN-ACK is sent again", "S. 0:0(0) ack 1 <...>")
}

func TestHostClosedPort(t *testing.T) {
	h, _ := newHost(t)
	h.Send("33000 > 81 S 100:100(0) win 65535")
	h.Expect("nobody listens there", "81 > 33000 R. 0:0(0) ack 1")
	h.Send("icmp echo_request id 7 seq 1 (56)")
	h.Expect("a ping is answered", "icmp echo_reply id 7 seq 1 (56)")
}
