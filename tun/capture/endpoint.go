package capture

import (
	"fmt"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

var (
	_ stack.LinkEndpoint      = (*Endpoint)(nil)
	_ stack.GSOEndpoint       = (*Endpoint)(nil)
	_ stack.NetworkDispatcher = (*Endpoint)(nil)
)

// Endpoint is a link endpoint whose packets are captured. It passes everything to the endpoint below, GSO too.
type Endpoint struct {
	nested.Endpoint
	w     *Writer
	iface int
}

// Wrap returns an endpoint that writes what passes child, which carries bare IP packets, to w. The interface's
// description, if it is empty, says what child leaves to whom. Closing the Endpoint closes child and not w, of which
// there may be other users. An error of w ends the capture, not the link: w.Close returns it.
func Wrap(child stack.LinkEndpoint, w *Writer, i Interface) (*Endpoint, error) {
	if i.Description == "" {
		i.Description = describe(child)
	}
	n, err := w.AddInterface(i)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{w: w, iface: n}
	e.Endpoint.Init(child, e)
	return e, nil
}

// describe says what an endpoint's packets look like when they pass.
func describe(child stack.LinkEndpoint) string {
	s := fmt.Sprintf("MTU %d", child.MTU())
	if g, ok := child.(stack.GSOEndpoint); ok && g.SupportedGSO() == stack.HostGSOSupported {
		s += fmt.Sprintf(", tx-tso up to %d bytes", g.GSOMaxSize())
	} else {
		s += ", no tx-tso"
	}
	if child.Capabilities()&stack.CapabilityRXChecksumOffload != 0 {
		s += ", rx-checksum"
	}
	return s
}

// WritePackets implements stack.LinkWriter.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		e.capture(pkt, Out)
	}
	return e.Endpoint.WritePackets(pkts)
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (e *Endpoint) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	e.capture(pkt, In)
	e.Endpoint.DeliverNetworkPacket(proto, pkt)
}

func (e *Endpoint) capture(pkt *stack.PacketBuffer, d Direction) {
	view := pkt.ToView()
	defer view.Release()
	p := Packet{Interface: e.iface, Direction: d, Data: view.AsSlice()}
	packets := []Packet{p}
	if e.w.cfg.Segments {
		packets = p.wire(pkt.GSOOptions)
	} else {
		packets[0].mark(pkt.GSOOptions)
	}
	_ = e.w.writeAll(packets) // the Writer keeps the error
}
