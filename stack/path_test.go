package stack

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"pgregory.net/rapid"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack/route"
)

// world is a stack under random changes, with packets coming in on cat0.
type world struct {
	wire
	y     *Sys
	socks []*worldSocket
	conns map[FourTuple]*worldConn // by the tuple of packets that come in
	n     int                      // packets so far
}

// worldSocket is a socket that waits for flows.
type worldSocket struct {
	fd  int
	tcp bool
}

// worldConn is what the peer knows of a TCP connection.
type worldConn struct {
	seq, ack uint32 // the next to send
	fd       int    // -1: half-open
}

var (
	worldAddrs = map[Family][]string{
		IPv4: {"10.9.0.2", "10.9.0.3", "192.0.2.7", "192.0.2.130", "10.9.0.255", "127.0.0.1", "203.0.113.5"},
		IPv6: {"fd00:9::2", "2001:db8::7", "2001:db8:1::7", "::1", "fd00:9::77"},
	}
	worldPeers = map[Family][]string{
		IPv4: {"10.9.0.1", "198.51.100.9", "10.9.0.2"},
		IPv6: {"fd00:9::1", "2001:dead::9"},
	}
	worldPrefixes = []string{"192.0.2.0/24", "192.0.2.128/25", "10.9.0.3/32", "203.0.113.0/24", "2001:db8::/32", "2001:db8:1::/48"}
	worldPorts    = []uint16{80, 81, 5000}
)

func pick1[T any](t *rapid.T, label string, from []T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

// TestPathModel drives random tables, sockets, steering rules and packets through
// the stack, and asks LookupRoute and LookupSocket before each packet where it
// will go. What happens to the packet must be what they said.
func TestPathModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ep := channel.New(256, 1500, "")
		s, err := New(Config{Links: []Link{{Name: "cat0", Endpoint: ep, Addrs: []netip.Prefix{pfx("10.9.0.2/24"), pfx("10.9.0.3/24"), pfx("fd00:9::2/64")}}},
			Routes: []Route{{Dst: pfx("0.0.0.0/0"), Dev: "cat0"}, {Dst: pfx("::/0"), Dev: "cat0"}}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if rapid.Bool().Draw(t, "followed") {
			sub := s.Subscribe(t.Context(), 1)
			defer sub.Close()
		}
		w := &world{wire: wire{s, ep}, y: s.Sys(), conns: map[FourTuple]*worldConn{}}
		for range 6 {
			w.listen(t)
			w.bind(t)
			w.steering(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"listen": w.listen, "bind": w.bind, "close": w.close, "route": w.route, "steering": w.steering,
			"syn": w.syn, "syn again": w.syn, "segment": w.segment, "datagram": w.datagram, "datagram again": w.datagram,
		})
	})
}

// open makes a socket bound to a random address.
func (w *world) open(t *rapid.T, typ int) (fd int, ok bool) {
	f := pick1(t, "family", []Family{IPv4, IPv6})
	domain, any := AF_INET, "0.0.0.0"
	if f == IPv6 {
		domain, any = AF_INET6, "::"
	}
	fd, err := w.y.Socket(domain, typ|SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.y.Setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, rapid.Bool().Draw(t, "reuseport"))
	if f == IPv6 {
		w.y.Setsockopt(fd, SOL_IPV6, IPV6_V6ONLY, rapid.Bool().Draw(t, "v6only"))
	}
	addr := pick1(t, "address", append([]string{any, any}, worldAddrs[f]...))
	if err := w.y.Bind(fd, netip.AddrPortFrom(ip(addr), pick1(t, "port", worldPorts))); err != nil {
		if err != syscall.EADDRINUSE && err != syscall.EADDRNOTAVAIL {
			t.Fatalf("bind: %v", err)
		}
		w.y.Close(fd)
		return 0, false
	}
	return fd, true
}

func (w *world) listen(t *rapid.T) {
	if fd, ok := w.open(t, SOCK_STREAM); ok {
		if err := w.y.Listen(fd, 100); err != nil {
			w.y.Close(fd)
			return
		}
		w.socks = append(w.socks, &worldSocket{fd, true})
	}
}

// bind makes a UDP socket, perhaps with a peer.
func (w *world) bind(t *rapid.T) {
	fd, ok := w.open(t, SOCK_DGRAM)
	if !ok {
		return
	}
	if local, _ := w.y.Getsockname(fd); rapid.Bool().Draw(t, "connected") && !local.Addr().IsUnspecified() {
		peer := pick1(t, "peer", worldPeers[route.FamilyOf(local.Addr())])
		w.y.Connect(fd, netip.AddrPortFrom(ip(peer), pick1(t, "peer port", worldPorts)))
	}
	w.socks = append(w.socks, &worldSocket{fd, false})
}

func (w *world) close(t *rapid.T) {
	if len(w.socks) == 0 {
		t.Skip("nothing to close")
	}
	i := rapid.IntRange(0, len(w.socks)-1).Draw(t, "which")
	w.y.Close(w.socks[i].fd)
	w.socks = slices.Delete(w.socks, i, i+1)
	w.read(t) // a listener resets what waits in its queue
}

func (w *world) route(t *rapid.T) {
	rt := Route{Dst: pfx(pick1(t, "prefix", worldPrefixes)), Dev: "cat0", Table: pick1(t, "table", []TableID{TableLocal, TableMain})}
	rt.Type = pick1(t, "type", []RouteType{Local, Local, Unicast, Unreachable, Prohibit, Blackhole, Throw})
	if w.s.AddRoute(rt) != nil {
		for _, have := range w.s.Routes(route.FamilyOf(rt.Dst.Addr()), rt.Table) {
			if have.Dst == rt.Dst && have.Protocol != ProtoKernel {
				if err := w.s.DelRoute(have.Match()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func (w *world) steering(t *rapid.T) {
	lo := pick1(t, "from port", []uint16{1, 80, 81})
	r := SteerRule{Network: pick1(t, "network", []string{"tcp", "udp"}), Prefix: pfx(pick1(t, "prefix", append(worldPrefixes, "10.9.0.0/24", "10.9.0.2/32", "fd00:9::/64"))),
		PortLo: lo, PortHi: pick1(t, "to port", []uint16{lo, 65535})}
	to := route.FamilyOf(r.Prefix.Addr()).Any()
	if rapid.Bool().Draw(t, "to an address") {
		to = ip(pick1(t, "target", worldAddrs[route.FamilyOf(r.Prefix.Addr())]))
	}
	r.To = netip.AddrPortFrom(to, pick1(t, "target port", worldPorts))
	if w.s.AddSteering(r) != nil {
		if err := w.s.DelSteering(r); err != nil {
			t.Fatal(err)
		}
	}
}

// flow draws the addresses of a packet.
func (w *world) flow(t *rapid.T, network string) FourTuple {
	f := pick1(t, "family", []Family{IPv4, IPv6})
	return FourTuple{
		Network: network,
		Src:     netip.AddrPortFrom(ip(pick1(t, "src", worldPeers[f])), pick1(t, "src port", append(worldPorts, 5001, 5002))),
		Dst:     netip.AddrPortFrom(ip(pick1(t, "dst", worldAddrs[f])), pick1(t, "dst port", worldPorts)),
	}
}

// predict asks where a packet of flow f will go.
func (w *world) predict(f FourTuple) (*RouteLookup, *SocketLookup) {
	return w.s.LookupRoute(RouteQuery{Src: f.Src.Addr(), Dst: f.Dst.Addr(), IIF: "cat0"}), w.s.LookupSocket(f)
}

// notDelivered checks the answer to a packet that a route stopped.
func notDelivered(t *rapid.T, r *RouteLookup, answers []packet.Packet) {
	tell := r.Route != nil && (r.Route.Type == Unreachable || r.Route.Type == Prohibit)
	if len(answers) > 1 || (len(answers) == 1) != tell || tell && answers[0].ICMP == nil {
		t.Fatalf("%s: answered by %v", r.Short(), answers)
	}
}

func (w *world) syn(t *rapid.T) {
	f := w.flow(t, "tcp")
	r, l := w.predict(f)
	seq := rapid.Uint32().Draw(t, "seq")
	if c := w.conns[f]; c != nil && c.fd < 0 {
		seq = c.seq - 1 // a half-open connection: the SYN once more
	}
	w.inject(segment(t, f, packet.SYN, seq, 0, ""))
	answers := w.read(t)
	what := fmt.Sprintf("SYN %v: %s; %s", f, r.Short(), l.Short())
	if !r.Local() {
		notDelivered(t, r, answers)
		return
	}
	if len(answers) == 0 && r.Route.Type == Broadcast && !l.Found {
		return
	}
	if l.Found && l.Tries[0].Match {
		// The connection takes it: a challenge ACK (RFC 5961 4.2), SYN-ACK again, or
		// nothing where such answers are rate-limited. It is no reset, and nobody
		// accepts it.
		for _, p := range answers {
			if p.TCP == nil || p.TCP.Flags&packet.RST != 0 {
				t.Fatalf("%s: answered by %v", what, p)
			}
		}
		return
	}
	if len(answers) != 1 || answers[0].TCP == nil {
		t.Fatalf("%s: answered by %v", what, answers)
	}
	got := answers[0].TCP
	switch {
	case !l.Found:
		if got.Flags&packet.RST == 0 {
			t.Fatalf("%s: answered by %v", what, answers[0])
		}
		return
	case got.Flags != packet.SYN|packet.ACK || got.Ack != seq+1:
		t.Fatalf("%s: answered by %v, want SYN-ACK", what, answers[0])
	}
	c := &worldConn{seq: seq + 1, ack: got.Seq + 1, fd: -1}
	w.conns[f] = c
	if rapid.Bool().Draw(t, "leave half-open") {
		return
	}
	w.inject(segment(t, f, packet.ACK, c.seq, c.ack, ""))
	if out := w.read(t); len(out) != 0 {
		t.Fatalf("%s: the handshake's last ACK was answered by %v", what, out)
	}
	// It is the predicted listener, and no other, that has it.
	for _, k := range w.socks {
		if !k.tcp {
			continue
		}
		fd, peer, err := w.y.Accept4(k.fd, SOCK_NONBLOCK)
		if (err == nil) != (k.fd == l.FD) {
			t.Fatalf("%s: accept on fd %d: %v", what, k.fd, err)
		}
		if err == nil {
			local, _ := w.y.Getsockname(fd)
			if addrPortUnmap(peer) != f.Src || addrPortUnmap(local) != f.Dst {
				t.Fatalf("%s: accepted %v <- %v", what, local, peer)
			}
			c.fd = fd
		}
	}
}

func addrPortUnmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// segment sends data on a connection: established ones take it; if half-open, it
// completes the handshake.
func (w *world) segment(t *rapid.T) {
	f := w.flow(t, "tcp")
	r, l := w.predict(f)
	c := w.conns[f]
	if c == nil || c.fd < 0 {
		t.Skip("no connection")
	}
	w.inject(segment(t, f, packet.ACK|packet.PSH, c.seq, c.ack, "x"))
	answers := w.read(t)
	if !r.Local() {
		notDelivered(t, r, answers)
		return
	}
	if l.FD != c.fd || !l.Tries[0].Match || l.State != "ESTABLISHED" {
		t.Fatalf("data of fd %d: %s", c.fd, l.Short())
	}
	if n, err := w.y.Read(c.fd, make([]byte, 2)); n != 1 || err != nil {
		t.Fatalf("data of fd %d: read %d, %v", c.fd, n, err)
	}
	c.seq++
}

func (w *world) datagram(t *rapid.T) {
	f := w.flow(t, "udp")
	r, l := w.predict(f)
	w.n++
	data := fmt.Sprint(w.n)
	w.inject(datagram(t, f, data))
	answers := w.read(t)
	what := fmt.Sprintf("datagram %v: %s; %s", f, r.Short(), l.Short())
	var got []int
	for _, k := range w.socks {
		if k.tcp {
			continue
		}
		b := make([]byte, 16)
		switch n, _, err := w.y.Recvfrom(k.fd, b, MSG_DONTWAIT); {
		case err == nil && string(b[:n]) == data:
			got = append(got, k.fd)
		case err != syscall.EAGAIN:
			t.Fatalf("%s: fd %d received %q, %v", what, k.fd, b[:max(n, 0)], err)
		}
	}
	switch {
	case !r.Local():
		notDelivered(t, r, answers)
		if got != nil {
			t.Fatalf("%s: received by %v", what, got)
		}
	case r.Route.Type == Broadcast: // for all
		if l.Found != (len(got) > 0) || l.Found && !slices.Contains(got, l.FD) || len(answers) > 0 {
			t.Fatalf("%s: received by %v, answered by %v", what, got, answers)
		}
	case !l.Found:
		if got != nil || len(answers) != 1 || answers[0].ICMP == nil {
			t.Fatalf("%s: received by %v, answered by %v, want port unreachable", what, got, answers)
		}
	case !slices.Equal(got, []int{l.FD}) || len(answers) != 0:
		t.Fatalf("%s: received by %v, answered by %v", what, got, answers)
	}
}
