package tcpdump

import (
	"net/netip"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// Selects reports whether an expression selects an event. A change of state, a sample and a timer go with the packets
// of their connection; a socket call goes with all.
func (e Expression) Selects(ev *stack.Event) bool {
	if e == nil {
		return true
	}
	connection := func(local, remote netip.AddrPort) bool {
		k := &packet.Packet{Version: 4, Src: remote.Addr(), Dst: local.Addr(), Proto: packet.ProtoTCP, TCP: &packet.TCP{SrcPort: remote.Port(), DstPort: local.Port()}}
		if remote.Addr().Is6() {
			k.Version = 6
		}
		if e(k, false) {
			return true
		}
		k.Src, k.Dst, k.TCP.SrcPort, k.TCP.DstPort = k.Dst, k.Src, k.TCP.DstPort, k.TCP.SrcPort
		return e(k, true)
	}
	data := func(b []byte, length int, out bool) bool {
		k, err := packet.ParseStart(b, length)
		return err == nil && e(&k, out)
	}
	switch {
	case ev.Packet != nil:
		return data(ev.Packet.Data, ev.Packet.Len, ev.Packet.Out)
	case ev.Link != nil:
		return data(ev.Link.Data, ev.Link.Len, ev.Link.Out)
	case ev.State != nil:
		return connection(ev.State.Local, ev.State.Remote)
	case ev.Sample != nil:
		return connection(ev.Sample.Local, ev.Sample.Remote)
	case ev.Timer != nil:
		return connection(ev.Timer.Local, ev.Timer.Remote)
	}
	return true
}
