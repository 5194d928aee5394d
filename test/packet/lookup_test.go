package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/catflap/catflap/stack"
)

// syn is a SYN to the stack, built by gopacket.
func (h *host) syn(src, dst netip.Addr, sport, dport uint16) []byte {
	h.t.Helper()
	tcp := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), Seq: 1000, SYN: true, Window: 65535}
	var ip gopacket.NetworkLayer
	var first gopacket.SerializableLayer
	if dst.Is4() {
		l := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		ip, first = l, l
	} else {
		l := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		ip, first = l, l
	}
	tcp.SetNetworkLayerForChecksum(ip)
	b := gopacket.NewSerializeBuffer()
	h.must("serialize", gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, first, tcp))
	return b.Bytes()
}

// takeSYNACK fails unless the stack has answered a SYN from an address and port with a SYN-ACK.
func (h *host) takeSYNACK(why string, from netip.Addr) {
	h.t.Helper()
	f, ok := h.w.Sent()
	if !ok {
		h.t.Fatalf("%s: the stack sent nothing", why)
	}
	first := layers.LayerTypeIPv4
	if from.Is6() {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(f.Data, first, gopacket.Default)
	tcp, _ := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	src, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	if tcp == nil || !tcp.SYN || !tcp.ACK || tcp.Ack != 1001 || src != from {
		h.t.Fatalf("%s: want a SYN-ACK from %s, got %v", why, from, p)
	}
}

// wantQuiet fails if the stack sends anything for a long time.
func (h *host) wantQuiet(why string) {
	h.t.Helper()
	if h.w.Advance(silence) {
		f, _ := h.w.Sent()
		h.t.Errorf("%s: the stack sent %x", why, f.Data)
	}
}

// TestExactMatchFirst: a segment belongs to its connection, though a listener has the same address and port.
func TestExactMatchFirst(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		l := h.listen(h.local)
		fd := h.handshake(l)
		h.Send("P. 1:11(10) ack 1 win 65535")
		h.Expect("data is the connection's", ". 1:1(0) ack 11")
		h.wantRead("and read there", fd, 1, 10, nil)
		h.Send("S 5000:5000(0) win 65535 <mss 1000>")
		h.Expect("a SYN with the connection's 4-tuple does not reach the listener: it is challenged (RFC 5961)", ". 1:1(0) ack 11")
		if _, _, err := h.y.Accept4(l, stack.SOCK_NONBLOCK); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("accept4: %v, want EAGAIN", err)
		}
		h.NewConnection()
		other := h.handshake(l)
		if other == fd {
			t.Error("another 4-tuple, the same socket")
		}
		h.do("close", h.y.Close(l))
		h.Send("P. 1:11(10) ack 1 win 65535")
		h.Expect("the connection outlives its listener", ". 1:1(0) ack 11")
		h.wantRead("as before", other, 1, 10, nil)
	})
}

// TestAddressBeforeAny: the listener on address:port has precedence over that on *:port, in whatever order they came.
func TestAddressBeforeAny(t *testing.T) {
	for _, anyFirst := range []bool{true, false} {
		bothFamilies(t, func(t *testing.T, h *host) {
			reuse := func(addr netip.Addr) int {
				fd := h.socket()
				h.must("setsockopt", h.y.Setsockopt(fd, stack.SOL_SOCKET, stack.SO_REUSEADDR, 1))
				h.must("setsockopt", h.y.Setsockopt(fd, stack.SOL_SOCKET, stack.SO_REUSEPORT, 1))
				h.must("bind", h.y.Bind(fd, netip.AddrPortFrom(addr, 80)))
				h.must("listen", h.y.Listen(fd, 16))
				return fd
			}
			var any, local int
			if anyFirst {
				any, local = reuse(h.any()), reuse(h.local)
			} else {
				local, any = reuse(h.local), reuse(h.any())
			}
			for i, tt := range []struct {
				to            netip.Addr
				gets, getsNot int
			}{{h.local, local, any}, {h.second, any, local}} {
				port := uint16(5000 + i)
				h.w.Inject(h.syn(h.remote, tt.to, port, 80))
				h.takeSYNACK("a SYN to a listener is answered", tt.to)
				look := h.s.LookupSocket(stack.FourTuple{Network: "tcp", Src: netip.AddrPortFrom(h.remote, port+100), Dst: netip.AddrPortFrom(tt.to, 80)})
				if look.FD != tt.gets {
					t.Errorf("to %s: LookupSocket says fd %d, want %d", tt.to, look.FD, tt.gets)
				}
			}
			h.must("close", h.y.Close(local))
			h.w.Inject(h.syn(h.remote, h.local, 6000, 80))
			h.takeSYNACK("without it, the other listener answers", h.local)
		})
	}
}

// TestBadChecksum: a packet with a bad checksum does not exist.
func TestBadChecksum(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		h.listen(h.any())
		ipLen := 20
		if h.local.Is6() {
			ipLen = 40
		}
		spoil := map[string]int{"TCP checksum": ipLen + 16, "TCP window, so that the checksum does not fit": ipLen + 14}
		if h.local.Is4() {
			spoil["IP checksum"] = 10
			spoil["IP TTL, so that the checksum does not fit"] = 8
		}
		for what, at := range spoil {
			b := h.syn(h.remote, h.local, 5000, 80)
			b[at] ^= 0x10
			h.w.Inject(b)
			h.wantQuiet("bad " + what)
		}
		h.w.Inject(h.syn(h.remote, h.local, 5000, 80))
		h.takeSYNACK("the same packet in order is answered", h.local)
	})
}

// TestNotLocal: what the local table does not name is not delivered, but counted.
func TestNotLocal(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		h.listen(h.any())
		foreign := []netip.Addr{netip.MustParseAddr("10.9.0.77"), netip.MustParseAddr("192.0.2.1")}
		if h.local.Is6() {
			foreign = []netip.Addr{netip.MustParseAddr("fd00:9::77"), netip.MustParseAddr("2001:db8::1")}
		}
		before := h.s.Drops()
		for _, dst := range foreign {
			for _, port := range []uint16{80, 81} {
				h.w.Inject(h.syn(h.remote, dst, 5000, port))
				h.wantQuiet("to " + dst.String() + ", which is not ours")
			}
		}
		after := h.s.Drops()
		if n := after.InNotLocal - before.InNotLocal; n != 2 {
			t.Errorf("InNotLocal has grown by %d, want 2 for the neighbour's address", n)
		}
		if n := after.InNoRoutes - before.InNoRoutes; n != 2 {
			t.Errorf("InNoRoutes has grown by %d, want 2 for the address that no route leads to", n)
		}
		prefix := netip.PrefixFrom(foreign[1], foreign[1].BitLen())
		h.must("add route", h.s.AddRoute(stack.Route{Dst: prefix, Type: stack.Local, Dev: "cat0", Table: stack.TableLocal}))
		h.w.Inject(h.syn(h.remote, foreign[1], 5000, 80))
		h.takeSYNACK("once the local table names it, the same packet is answered (AnyIP)", foreign[1])
	})
}

// TestBrokenPackets: nothing that arrives makes the stack answer nonsense or stumble.
func TestBrokenPackets(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		h.listen(h.any())
		good := h.syn(h.remote, h.local, 5000, 80)
		ipLen := len(good) - 20
		for n := range len(good) {
			h.w.Inject(good[:n])
		}
		long := append([]byte(nil), good...)
		long[ipLen+12] = 0xf0 // a TCP header of 60 bytes
		h.w.Inject(long)
		short := append([]byte(nil), good...)
		short[ipLen+12] = 0x40 // of 16 bytes
		h.w.Inject(short)
		length := append([]byte(nil), good...)
		at := 2
		if h.local.Is6() {
			at = 4
		}
		binary.BigEndian.PutUint16(length[at:], 0xffff)
		h.w.Inject(length)
		h.wantQuiet("a packet that is cut short, or lies about its lengths")
		h.w.Inject(good)
		h.takeSYNACK("the whole packet is answered", h.local)
		h.Advance(time.Second)
	})
}
