package stack

// PacketLookup is what becomes of a packet: its route, and if that leads to this stack, its socket.
type PacketLookup struct {
	Route  *RouteLookup  `json:"route"`
	Socket *SocketLookup `json:"socket,omitempty"` // nil if the packet is not delivered here
}

// LookupPacket says what would become of a packet of flow t that arrives on the device iif. If iif is "", it is the
// device of the unicast route to the packet's source; where no such route leads to it, the packet is taken to be this
// stack's own. No packet is sent: LookupRoute and LookupSocket answer.
func (s *Stack) LookupPacket(t FourTuple, iif string) *PacketLookup {
	if iif == "" {
		if back := s.LookupRoute(RouteQuery{Dst: t.Src.Addr()}).Route; back != nil && back.Type == Unicast {
			iif = back.Dev
		}
	}
	l := &PacketLookup{Route: s.LookupRoute(RouteQuery{Dst: t.Dst.Addr(), Src: t.Src.Addr(), IIF: iif})}
	if l.Route.Local() {
		l.Socket = s.LookupSocket(t)
	}
	return l
}

// Text is the lookup in lines, as RouteLookup.Text and SocketLookup.Text have them.
func (l *PacketLookup) Text() string {
	if l.Socket == nil {
		return l.Route.Text()
	}
	return l.Route.Text() + l.Socket.Text()
}
