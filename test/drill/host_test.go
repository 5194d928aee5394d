package drill_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/catflap/catflap/internal/testenv"
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

// failed is what a test that is to fail panics with.
type failed string

// failing is a test that notes how it failed and ends there.
type failing struct{ testing.TB }

func (failing) Helper()                   {}
func (failing) Fatal(a ...any)            { panic(failed(fmt.Sprint(a...))) }
func (failing) Fatalf(f string, a ...any) { panic(failed(fmt.Sprintf(f, a...))) }

// TestHostFailures holds that failures read as sentences.
func TestHostFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *drill.Host)
		says []string
	}{
		{"wrong", func(h *drill.Host) { h.Expect("a SYN is answered", "S. 0:0(0) ack 2 <...>") }, []string{
			"a SYN is answered: wrong packet: different ack\n",
			"  expected: > S. 0:0(0) ack 2           <...>\n", "                        ^^^^^\n",
			"0.000000 < S 0:0(0) win 65535 <mss 1460>",
		}},
		{"missing", func(h *drill.Host) {
			h.Expect("a SYN is answered", "S. 0:0(0) ack 1 <...>")
			h.Expect("it is answered twice", "S. 0:0(0) ack 1 <...>")
		}, []string{"it is answered twice: the stack sent nothing\n  expected: > S. 0:0(0) ack 1 <...>\n"}},
		{"not nothing", func(h *drill.Host) { h.ExpectNothing("a SYN is ignored", time.Second) }, []string{
			"a SYN is ignored: the stack sent a packet\n  actual:   0.000000 > S. 0:0(0) ack 1",
		}},
		{"mistake", func(h *drill.Host) { h.Send("S 0:0(1)") }, []string{"packet:1:3: 0:0(1) does not add up", "    S 0:0(1)\n      ^"}},
		{"rest", func(h *drill.Host) { h.Send("S 0:0(0) and more") }, []string{`packet:1:10: expected the end of the packet, found "and"`}},
		{"any options", func(h *drill.Host) { h.Send("S 0:0(0) <...>") }, []string{"needs its options written out"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, s := newHost(failing{t})
			listen(t, s)
			h.Send("S 0:0(0) win 65535 <mss 1460>")
			defer func() {
				text, ok := recover().(failed)
				if !ok {
					t.Fatal("it did not fail")
				}
				for _, want := range c.says {
					if !strings.Contains(string(text), want) {
						t.Errorf("the message lacks %q:\n%s", want, text)
					}
				}
			}()
			c.do(h)
		})
	}
}

func TestHostActiveOpen(t *testing.T) {
	h, s := newHost(t)
	done := make(chan error, 1)
	go func() {
		c, err := s.DialContext(t.Context(), "tcp", "10.9.0.1:7")
		if err == nil {
			err = c.Close()
		}
		done <- err
	}()
	// The dial runs beside this test, so its SYN is waited for in real time.
	testenv.Await(t, "the dial's SYN", h.Sent)
	h.Expect("a dial sends a SYN", "S 0:0(0) <...>")
	h.Send("R. 0:0(0) ack 1")
	if err := <-done; err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("dial: %v", err)
	}
}
