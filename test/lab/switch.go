package lab

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	netstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Switch joins several nodes in one subnet. Packets here have no Ethernet header, so it goes by IP address, as if it had learned
// where each is; it changes nothing in a packet. It drops packets to addresses that it does not know, and so broadcast and
// multicast too, and, as switches do, in silence those that are too big for the link they are to leave by.
type Switch struct {
	lab  *Lab
	name string
	net  *subnet // nil while it has no links; guarded by lab.mu

	table atomic.Pointer[map[netip.Addr]*port]

	mu    sync.Mutex
	ports []*port // guarded by mu
}

// Switch adds a switch, with a link to each of the nodes given. It is a subnet, numbered as links are; the nodes have its
// addresses 1, 2, 3 and so on, in the order in which they are linked.
func (l *Lab) Switch(name string, nodes ...Node) *Switch {
	l.t.Helper()
	l.checkName(name)
	s := &Switch{lab: l, name: name}
	s.table.Store(&map[netip.Addr]*port{})
	l.add(s)
	for _, n := range nodes {
		l.Link(n, s)
	}
	return s
}

// Name implements Node.
func (s *Switch) Name() string { return s.name }

func (s *Switch) node() node     { return s }
func (s *Switch) hasAddrs() bool { return false }
func (s *Switch) forwards() bool { return true }

func (s *Switch) attach(p *port, _ *attachment) error {
	s.mu.Lock()
	s.ports = append(s.ports, p)
	s.mu.Unlock()
	p.Attach(switchPort{s, p})
	return nil
}

func (s *Switch) setRoutes(_ []route, out []forward) error {
	table := make(map[netip.Addr]*port, len(out))
	for _, f := range out {
		table[f.dst] = f.out
	}
	s.table.Store(&table)
	return nil
}

func (s *Switch) close() {
	s.mu.Lock()
	ports := s.ports
	s.ports = nil
	s.mu.Unlock()
	for _, p := range ports {
		p.Attach(nil)
		p.Close()
	}
}

// switchPort is where packets come into a switch.
type switchPort struct {
	s  *Switch
	in *port
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (p switchPort) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *netstack.PacketBuffer) {
	v := pkt.ToView()
	data := v.AsSlice()
	defer v.Release()
	dst, ok := destination(data)
	out := (*p.s.table.Load())[dst]
	rec := p.s.lab.record
	switch {
	case !ok:
		rec.lost(p.in, false, data, "the switch cannot read it")
		return
	case out == nil || out == p.in:
		rec.lost(p.in, false, data, "the switch knows no way there")
		return
	case len(data) > int(out.MTU()):
		rec.lost(p.in, false, data, "too big for the link "+out.link.name)
		return
	}
	next := netstack.NewPacketBuffer(netstack.PacketBufferOptions{Payload: pkt.ToBuffer()})
	next.NetworkProtocolNumber = proto
	var list netstack.PacketBufferList
	list.PushBack(next)
	out.WritePackets(list)
	list.DecRef()
}

// DeliverLinkPacket implements stack.NetworkDispatcher. There are none here.
func (switchPort) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *netstack.PacketBuffer) {}

// destination reads where an IP packet is to go.
func destination(b []byte) (netip.Addr, bool) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(b[16:20])), true
	case len(b) >= 40 && b[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(b[24:40])), true
	}
	return netip.Addr{}, false
}
