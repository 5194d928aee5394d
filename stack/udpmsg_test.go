package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/catflap/catflap/internal/packet"
)

// TestUDPAnswersFromAskedAddress: a server of a whole prefix answers from the address that was asked.
func TestUDPAnswersFromAskedAddress(t *testing.T) {
	w := newWire(t, Config{Routes: []Route{
		{Type: Local, Dst: pfx("192.0.2.0/24"), Dev: "cat0"},
		{Type: Local, Dst: pfx("2001:db8::/32"), Dev: "cat0"},
		{Type: Unicast, Dst: pfx("0.0.0.0/0"), Dev: "cat0"},
	}})
	for _, network := range []string{"udp", "udp4", "udp6"} {
		t.Run(network, func(t *testing.T) {
			l, err := w.s.ListenPacket(network, ":53")
			if err != nil {
				t.Fatal(err)
			}
			c := l.(*UDPConn)
			defer c.Close()
			for _, ends := range [][2]string{
				{"10.9.0.1:4000", "192.0.2.77:53"}, {"8.8.8.8:4001", "192.0.2.78:53"}, {"10.9.0.1:4000", "10.9.0.2:53"},
				{"[fd00:9::1]:4000", "[2001:db8::77]:53"}, {"[fd00:9::1]:4000", "[fd00:9::2]:53"},
				{"10.9.0.1:4000", "10.9.0.255:53"},
			} {
				f := FourTuple{Network: "udp", Src: netip.MustParseAddrPort(ends[0]), Dst: netip.MustParseAddrPort(ends[1])}
				if f.Src.Addr().Is4() && network == "udp6" || f.Src.Addr().Is6() && network == "udp4" ||
					f.Dst.Addr() == ip("10.9.0.255") && network != "udp4" { // IPV6_PKTINFO has no other address to answer from
					continue
				}
				w.inject(datagram(t, f, "who?"))
				b, oob := make([]byte, 16), make([]byte, ControlSpace)
				n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, oob)
				if err != nil || string(b[:n]) != "who?" || flags != 0 || from != f.Src {
					t.Fatalf("%v: %q from %v, flags %d, %v", f, b[:n], from, flags, err)
				}
				if n, m, err := c.WriteMsgUDPAddrPort([]byte("me!"), oob[:oobn], from); n != 3 || m != oobn || err != nil {
					t.Fatalf("%v: %d, %d, %v", f, n, m, err)
				}
				want := f.Dst
				if f.Dst.Addr() == ip("10.9.0.255") {
					want = netip.MustParseAddrPort("10.9.0.2:53") // an address of many is nobody's
				}
				got := w.read(t)
				if len(got) != 1 || got[0].UDP == nil || got[0].Src != want.Addr() || got[0].UDP.SrcPort != 53 ||
					got[0].Dst != f.Src.Addr() || got[0].UDP.DstPort != f.Src.Port() || string(got[0].Payload) != "me!" || got[0].Verify() != nil {
					t.Errorf("%v was answered by %v", f, got)
				}
			}
		})
	}
}

// TestUDPMessages: the calls fail as those of the net package.
func TestUDPMessages(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.ListenPacket("udp4", "10.9.0.2:53")
	if err != nil {
		t.Fatal(err)
	}
	c := l.(*UDPConn)
	if _, _, err := c.WriteMsgUDP([]byte("x"), nil, nil); !errors.Is(err, syscall.EDESTADDRREQ) {
		t.Errorf("no address: %v", err)
	}
	peer := &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 9}
	foreign := packetInfo{level: SOL_IP, local: ip("203.0.113.9"), dst: ip("0.0.0.0")}.control(nil)
	if _, _, err := c.WriteMsgUDP([]byte("x"), foreign, peer); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("from a foreign address: %v", err)
	}
	if _, _, err := c.WriteMsgUDP([]byte("x"), foreign[:20], peer); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("half a control message: %v", err)
	}
	if n, _, err := c.WriteMsgUDP([]byte("x"), nil, peer); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	d, err := w.s.DialContext(t.Context(), "udp", "10.9.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.(*UDPConn).WriteMsgUDP([]byte("x"), nil, peer); !errors.Is(err, net.ErrWriteToConnected) {
		t.Errorf("an address on a connected socket: %v", err)
	}
	if n, _, err := d.(*UDPConn).WriteMsgUDP([]byte("x"), nil, nil); n != 1 || err != nil {
		t.Errorf("connected: %d, %v", n, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, _, _, err := c.ReadMsgUDP(make([]byte, 1), make([]byte, ControlSpace)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// TestUDPMayNotBeCut: what IP_PMTUDISC_DO and PROBE do not let be cut fails, and what leaves has DF.
func TestUDPMayNotBeCut(t *testing.T) {
	w := newWire(t, Config{})
	y := w.s.Sys()
	for _, c := range []struct {
		domain, level, option int
		to                    string
		most                  int // bytes in a packet of 1500
	}{
		{AF_INET, SOL_IP, IP_MTU_DISCOVER, "10.9.0.1:9", 1472},
		{AF_INET6, SOL_IPV6, IPV6_MTU_DISCOVER, "[fd00:9::1]:9", 1452},
		{AF_INET6, SOL_IP, IP_MTU_DISCOVER, "[::ffff:10.9.0.1]:9", 1472},
	} {
		for discover, forbids := range []bool{false, false, true, true} {
			for _, connected := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d connected %v", c.to, discover, connected), func(t *testing.T) {
					fd, err := y.Socket(c.domain, SOCK_DGRAM, 0)
					if err != nil {
						t.Fatal(err)
					}
					defer y.Close(fd)
					if err := y.Setsockopt(fd, c.level, c.option, discover); err != nil {
						t.Fatal(err)
					}
					to := netip.MustParseAddrPort(c.to)
					if connected {
						if err := y.Connect(fd, to); err != nil {
							t.Fatal(err)
						}
						to = netip.AddrPort{}
					}
					for _, size := range []int{0, 1000, c.most, c.most + 1, 3000} {
						n, err := y.Sendto(fd, []byte(strings.Repeat("m", size)), 0, to)
						got := w.read(t)
						if cut := size > c.most; cut && forbids {
							if err != syscall.EMSGSIZE || len(got) != 0 {
								t.Errorf("%d bytes: %v, %d packets", size, err, len(got))
							}
						} else if n != size || err != nil || (len(got) > 1) != cut {
							t.Errorf("%d bytes: %d, %v, %d packets", size, n, err, len(got))
						} else if p := got[0]; p.Version == 4 && !cut && p.Frag.DF != (discover != IP_PMTUDISC_DONT) {
							t.Errorf("%d bytes left with DF %v", size, p.Frag.DF)
						}
					}
				})
			}
		}
	}
}

// TestConnBuffers: the sizes of buffers are set as by the net package's connections, and a descriptor is refused.
func TestConnBuffers(t *testing.T) {
	s := newStack(t, Config{})
	l, err := s.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.DialContext(t.Context(), "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []any{l, c, u} {
		if raw, err := conn.(syscall.Conn).SyscallConn(); raw != nil || !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Stack.Sys") {
			t.Errorf("%T: %v, %v", conn, raw, err)
		}
	}
	for _, conn := range []interface {
		FD() int
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
		Close() error
	}{c.(*TCPConn), u.(*UDPConn)} {
		if err := errors.Join(conn.SetReadBuffer(50000), conn.SetWriteBuffer(60000)); err != nil {
			t.Fatal(err)
		}
		in, _ := s.Sys().Getsockopt(conn.FD(), SOL_SOCKET, SO_RCVBUF)
		out, _ := s.Sys().Getsockopt(conn.FD(), SOL_SOCKET, SO_SNDBUF)
		if in != 100000 || out != 120000 { // socket(7): twice
			t.Errorf("%T: %v and %v bytes", conn, in, out)
		}
		conn.Close()
		if err := conn.SetReadBuffer(1); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%T closed: %v", conn, err)
		}
	}
}

// TestWriteNothing: a write of nothing says what has become of the connection, as that of a *net.TCPConn does.
func TestWriteNothing(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	f := FourTuple{Network: "tcp", Src: netip.MustParseAddrPort("10.9.0.1:4000"), Dst: netip.MustParseAddrPort("10.9.0.2:80")}
	ack := w.handshake(t, f, 100)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Errorf("open: %d, %v", n, err)
	}
	w.inject(segment(t, f, packet.RST, 101, ack, ""))
	w.s.Quiesce()
	if _, err := c.Write(nil); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the first write after a reset: %v", err)
	}
	if _, err := c.Write(nil); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the second: %v", err)
	}
}
