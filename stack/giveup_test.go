package stack

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
)

// dialing starts a Dial and returns where its error will be.
func (w *wire) dialing(t *testing.T, address string) <-chan error {
	t.Helper()
	ch := make(chan error, 1)
	go func() {
		c, err := w.s.DialContext(t.Context(), "tcp", address)
		if err == nil {
			c.Close()
		}
		ch <- err
	}()
	return ch
}

// sent waits for the stack to send something.
func (w *wire) sent(t *testing.T) (out [][]byte) {
	t.Helper()
	testenv.Await(t, "a packet from the stack", func() bool {
		out = w.raw()
		return out != nil
	})
	return out
}

// unreachable is an ICMP destination unreachable from the neighbour about b.
func unreachable(t testing.TB, b []byte, code uint8) []byte {
	if b[0]>>4 == 4 {
		return serialize(t, ipLayer(ip("10.9.0.1"), ip("10.9.0.2"), layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(unreachable4, code)}, gopacket.Payload(b))
	}
	ip6 := ipLayer(ip("fd00:9::1"), ip("fd00:9::2"), layers.IPProtocolICMPv6)
	h := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(unreachable6, code)}
	h.SetNetworkLayerForChecksum(ip6.(gopacket.NetworkLayer))
	return serialize(t, ip6, h, gopacket.Payload(append(make([]byte, 4), b...)))
}

// A Dial that cannot succeed says why.
func TestDialErrors(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{
		{Dst: pfx("0.0.0.0/0"), Gateway: ip("10.9.0.1")},
		{Type: Unreachable, Dst: pfx("198.51.100.0/24")}, {Type: Prohibit, Dst: pfx("198.51.101.0/24")}, {Type: Blackhole, Dst: pfx("198.51.102.0/24")},
		{Type: Unreachable, Dst: pfx("2001:db8::/32")},
	}})
	for _, c := range []struct {
		address string
		want    syscall.Errno
	}{
		{"198.51.100.1:80", syscall.EHOSTUNREACH},
		{"198.51.101.1:80", syscall.EACCES},
		{"198.51.102.1:80", syscall.EINVAL},
		{"[2001:db8::1]:80", syscall.EHOSTUNREACH},
		{"[2001:db9::1]:80", syscall.ENETUNREACH},
		{"224.0.0.1:80", syscall.ENETUNREACH},
	} {
		_, err := w.s.Dial("tcp", c.address)
		var op *net.OpError
		if !errors.Is(err, c.want) || !errors.As(err, &op) || op.Op != "dial" || op.Addr.String() != c.address {
			t.Errorf("dial %s: %v, want a net.OpError with %v", c.address, err, c.want)
		}
	}
	for _, c := range []struct {
		why, address string
		code         uint8
		want         syscall.Errno
	}{
		{"host unreachable", "192.0.2.1:80", 1, syscall.EHOSTUNREACH},
		{"net unreachable", "192.0.2.1:80", 0, syscall.ENETUNREACH},
		{"port unreachable", "192.0.2.1:80", 3, syscall.ECONNREFUSED},
		{"IPv6 no route", "[fd00:9::77]:80", 0, syscall.ENETUNREACH},
		{"IPv6 port unreachable", "[fd00:9::77]:80", 4, syscall.ECONNREFUSED},
	} {
		errs := w.dialing(t, c.address)
		w.inject(unreachable(t, w.sent(t)[0], c.code))
		select {
		case err := <-errs:
			if !errors.Is(err, c.want) {
				t.Errorf("ICMP %s: %v, want %v", c.why, err, c.want)
			}
		case <-time.After(patience):
			t.Fatalf("ICMP %s: the dial goes on", c.why)
		}
		w.raw()
	}
	// A RST in answer to the SYN.
	errs := w.dialing(t, "192.0.2.1:80")
	syn, err := packet.Parse(w.sent(t)[0])
	must(t, err)
	f := FourTuple{Network: "tcp", Src: netip.AddrPortFrom(syn.Dst, syn.TCP.DstPort), Dst: netip.AddrPortFrom(syn.Src, syn.TCP.SrcPort)}
	w.inject(segment(t, f, packet.RST|packet.ACK, 0, syn.TCP.Seq+1, ""))
	if err := <-errs; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("RST: %v, want ECONNREFUSED", err)
	}
}

// Without an answer a connection is given up after the retransmissions of RFC 6298,
// by the stack's clock.
func TestGiveUp(t *testing.T) {
	clock := faketime.NewManualClock()
	w := newWire(t, Config{Clock: clock, TCP: TCPConfig{Retries: 3}})
	var at []time.Duration
	start := clock.NowMonotonic()
	// wait lets time pass until the connection is given up, and returns what its caller is told.
	sub := w.s.SubscribeWith(t.Context(), SubscribeConfig{Buffer: 100, Kinds: StateEvents})
	defer sub.Close()
	wait := func(errs <-chan error) error {
		t.Helper()
		for range 5000 {
			clock.Advance(100 * time.Millisecond)
			if out := w.raw(); out != nil {
				at = append(at, clock.NowMonotonic().Sub(start))
			}
			for len(sub.Events()) > 0 {
				if ev := <-sub.Events(); ev.State != nil && ev.State.To == "CLOSED" {
					select {
					case err := <-errs:
						return err
					case <-time.After(patience):
						t.Fatal("given up, and its caller is not told")
					}
				}
			}
		}
		t.Fatal("not given up in 500 s")
		return nil
	}
	errs := w.dialing(t, "10.9.0.1:80")
	w.sent(t)
	err := wait(errs)
	if !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("dial: %v, want ETIMEDOUT", err)
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("dial: %v is no timeout", err)
	}
	near := func(got, want time.Duration) bool { return got >= want && got < want+200*time.Millisecond }
	want := []time.Duration{1, 3, 7, 15, 31, 63}
	for i := range want {
		if len(at) != len(want) || !near(at[i], want[i]*time.Second) {
			t.Fatalf("SYN again after %v, want %d seconds", at, want)
		}
	}
	if took := clock.NowMonotonic().Sub(start); !near(took, 127*time.Second) {
		t.Errorf("given up after %s, want 127 s", took)
	}

	// An established connection whose peer has gone.
	l, err := w.s.Listen("tcp", "10.9.0.2:80")
	must(t, err)
	defer l.Close()
	w.handshake(t, tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80"), 100)
	c, err := l.Accept()
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("meow"))
	must(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	if err := wait(read); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read: %v, want ETIMEDOUT", err)
	}

	// TCP_USER_TIMEOUT gives up sooner.
	w.handshake(t, tuple("tcp", "10.9.0.1:5001", "10.9.0.2:80"), 100)
	c, err = l.Accept()
	must(t, err)
	defer c.Close()
	must(t, w.s.Sys().Setsockopt(c.(*TCPConn).FD(), SOL_TCP, TCP_USER_TIMEOUT, 500))
	_, err = c.Write([]byte("meow"))
	must(t, err)
	before := clock.NowMonotonic()
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	if err := wait(read); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read with TCP_USER_TIMEOUT: %v, want ETIMEDOUT", err)
	}
	if took := clock.NowMonotonic().Sub(before); took > 2*time.Second {
		t.Errorf("TCP_USER_TIMEOUT of 500 ms took %s", took)
	}
}

// A datagram longer than the MTU leaves in fragments.
func TestLongDatagram(t *testing.T) {
	w := newWire(t, Config{})
	for _, dst := range []string{"10.9.0.1:53", "[fd00:9::1]:53"} {
		c, err := w.s.Dial("udp", dst)
		must(t, err)
		if n, err := c.Write(make([]byte, 3000)); n != 3000 || err != nil {
			t.Errorf("%s: wrote %d, %v", dst, n, err)
		}
		got := 0
		for _, b := range w.raw() {
			head := 20
			if b[0]>>4 == 6 {
				head = 48 // with a fragment header
			}
			if len(b) > 1500 {
				t.Errorf("%s: a packet of %d bytes", dst, len(b))
			}
			got += len(b) - head
		}
		if got != 3008 {
			t.Errorf("%s: fragments carry %d bytes, want 3008", dst, got)
		}
		c.Close()
	}
}

// The backlog is Linux's: one more than was asked for may wait, and a SYN that
// finds the accept queue full is dropped.
func TestBacklog(t *testing.T) {
	w := newWire(t, Config{})
	const backlog = 3
	l, err := w.s.ListenTCP("tcp", "10.9.0.2:80", backlog)
	must(t, err)
	defer l.Close()
	accepted := 0
	for i := range 10 {
		f := tuple("tcp", "10.9.0.1:"+portString(uint16(5000+i)), "10.9.0.2:80")
		got := w.ask(t, segment(t, f, packet.SYN, 1, 0, ""))
		if got == nil {
			break
		}
		w.inject(segment(t, f, packet.ACK, 2, got.TCP.Seq+1, ""))
		w.raw()
		accepted++
	}
	if accepted != backlog+1 {
		t.Errorf("%d connections fit a backlog of %d, want %d as on Linux", accepted, backlog, backlog+1)
	}
	if info, _ := w.s.SocketByFD(l.FD()); info.RecvQ != accepted || info.Backlog != backlog || info.SendQ != backlog {
		t.Errorf("%+v, want %d waiting, backlog %d", info, accepted, backlog)
	}
	c, err := l.Accept()
	must(t, err)
	c.Close()
	w.raw()
	if got := w.ask(t, segment(t, tuple("tcp", "10.9.0.1:6000", "10.9.0.2:80"), packet.SYN, 1, 0, "")); got == nil {
		t.Error("a SYN is dropped although there is room again")
	}
}

// Sockets lists every state, half-open connections and those that have no fd.
func TestSocketsStates(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.Listen("tcp4", ":80")
	must(t, err)
	defer l.Close()
	flow := func(port uint16) FourTuple {
		return tuple("tcp", "10.9.0.1:"+portString(port), "10.9.0.2:80")
	}
	open := func(port uint16) (net.Conn, uint32) {
		ack := w.handshake(t, flow(port), 100)
		c, err := l.Accept()
		must(t, err)
		return c, ack
	}
	w.ask(t, segment(t, flow(5000), packet.SYN, 1, 0, "")) // half-open
	c1, _ := open(5001)                                    // established
	defer c1.Close()
	c2, ack := open(5002) // close-wait
	defer c2.Close()
	w.inject(segment(t, flow(5002), packet.ACK|packet.FIN, 101, ack, ""))
	w.read(t)
	c3, ack := open(5003) // last-ack
	w.inject(segment(t, flow(5003), packet.ACK|packet.FIN, 101, ack, ""))
	w.read(t)
	c3.Close()
	w.read(t)
	c4, _ := open(5004) // fin-wait-1
	c4.Close()
	w.read(t)
	c5, ack := open(5005) // fin-wait-2
	c5.Close()
	w.read(t)
	w.inject(segment(t, flow(5005), packet.ACK, 101, ack+1, ""))
	w.read(t)
	c6, ack := open(5006) // closing
	c6.Close()
	w.read(t)
	w.inject(segment(t, flow(5006), packet.ACK|packet.FIN, 101, ack, ""))
	w.read(t)
	c7, ack := open(5007) // time-wait
	c7.Close()
	w.read(t)
	w.inject(segment(t, flow(5007), packet.ACK|packet.FIN, 101, ack+1, ""))
	w.read(t)
	w.handshake(t, flow(5008), 100) // not accepted
	dial := w.dialing(t, "10.9.0.1:443")
	w.sent(t) // syn-sent
	u, err := w.s.ListenPacket("udp", "10.9.0.2:53")
	must(t, err)
	defer u.Close()
	v, err := w.s.Dial("udp", "10.9.0.1:53")
	must(t, err)
	defer v.Close()
	w.read(t)

	want := map[string]string{
		"*:*": "LISTEN", "10.9.0.1:5000": "SYN-RECEIVED", "10.9.0.1:5001": "ESTABLISHED", "10.9.0.1:5002": "CLOSE-WAIT",
		"10.9.0.1:5003": "LAST-ACK", "10.9.0.1:5004": "FIN-WAIT-1", "10.9.0.1:5005": "FIN-WAIT-2", "10.9.0.1:5006": "CLOSING",
		"10.9.0.1:5007": "TIME-WAIT", "10.9.0.1:5008": "ESTABLISHED", "10.9.0.1:443": "SYN-SENT", "10.9.0.1:53": "ESTABLISHED", "udp *:*": "UNCONN",
	}
	withFD := map[string]bool{"*:*": true, "10.9.0.1:5001": true, "10.9.0.1:5002": true, "10.9.0.1:443": true, "10.9.0.1:53": true, "udp *:*": true}
	got := map[string]string{}
	for _, i := range w.s.Sockets() {
		peer := "*:*"
		if i.Remote.IsValid() {
			peer = i.Remote.String()
		} else if i.Network == "udp" {
			peer = "udp *:*"
		}
		if got[peer] != "" {
			t.Errorf("%s is listed twice", peer)
		}
		got[peer] = i.State
		if (i.FD >= 0) != withFD[peer] {
			t.Errorf("%s has fd %d", peer, i.FD)
		}
		if i.Network == "tcp" && i.Local.Port() != 80 && peer != "10.9.0.1:443" {
			t.Errorf("%s: local address %s", peer, i.Local)
		}
	}
	for peer, state := range want {
		if got[peer] != state {
			t.Errorf("%s: %q, want %s", peer, got[peer], state)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d sockets, want %d: %v", len(got), len(want), got)
	}
	w.s.Close()
	<-dial
}

// BenchmarkSockets lists 10,000 connections.
func BenchmarkSockets(b *testing.B) {
	w := newWire(b, Config{})
	l, err := w.s.Listen("tcp4", ":80")
	must(b, err)
	defer l.Close()
	const conns = 10_000
	for i := range conns {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 0x0a090003+uint32(i>>14)))), uint16(1024+i&0x3fff))
		w.handshake(b, FourTuple{Network: "tcp", Src: src, Dst: netip.MustParseAddrPort("10.9.0.2:80")}, 1)
		if _, err := l.Accept(); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		if n := len(w.s.Sockets()); n != conns+1 {
			b.Fatalf("%d sockets, want %d", n, conns+1)
		}
	}
}
