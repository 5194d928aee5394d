package tcpdump

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/stack"
)

// MaxSnap is how long a packet can be.
const MaxSnap = 65535

// AnyDevice stands for all devices.
const AnyDevice = "any"

// OnDevice reports whether a packet crossed a device, which any does AnyDevice. What is no packet is of all.
func OnDevice(ev *stack.Event, dev string) bool {
	switch {
	case dev == AnyDevice || dev == "":
		return true
	case ev.Packet != nil:
		return ev.Packet.Dev == dev
	case ev.Link != nil:
		return ev.Link.Dev == dev
	}
	return true
}

// Cut keeps the first snap bytes of a packet; 0 keeps all.
func (t *Text) Cut(ev *stack.Event, snap int) {
	if snap > 0 && ev.Packet != nil && len(ev.Packet.Data) > snap && t.Bytes() {
		p := *ev.Packet
		p.Data = p.Data[:snap]
		ev.Packet = &p
	}
}

// quick is what -q says of a packet.
func quick(k *packet.Packet) string {
	version, rest := "IP", ""
	if k.Version == 6 {
		version = "IP6"
	}
	src, dst := k.Src.String(), k.Dst.String()
	port := func(a netip.Addr, p uint16) string { return fmt.Sprintf("%s.%d", a, p) }
	switch {
	case k.TCP != nil:
		src, dst = port(k.Src, k.TCP.SrcPort), port(k.Dst, k.TCP.DstPort)
		rest = fmt.Sprintf("tcp %d", len(k.Payload))
	case k.UDP != nil:
		src, dst = port(k.Src, k.UDP.SrcPort), port(k.Dst, k.UDP.DstPort)
		rest = fmt.Sprintf("UDP, length %d", len(k.Payload))
	default:
		_, rest, _ = strings.Cut(k.String(), ": ")
	}
	return fmt.Sprintf("%s %s > %s: %s", version, src, dst, rest)
}

// bytes are the lines that follow a packet's.
func (t *Text) bytes(b []byte) string {
	switch {
	case t.HexASCII:
		return hexLines(b, true)
	case t.Hex:
		return hexLines(b, false)
	case t.ASCII:
		return "\n" + asciiText(b)
	}
	return ""
}

// hexLines are sixteen bytes each, in pairs, after their place.
func hexLines(b []byte, text bool) string {
	var s strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		fmt.Fprintf(&s, "\n\t0x%04x: ", at)
		for i, c := range row {
			if i%2 == 0 {
				s.WriteByte(' ')
			}
			fmt.Fprintf(&s, "%02x", c)
		}
		if !text {
			continue
		}
		s.WriteString(strings.Repeat(" ", 2+(16-len(row))*2+(16-len(row))/2))
		for _, c := range row {
			if c < 0x21 || c > 0x7e {
				c = '.'
			}
			s.WriteByte(c)
		}
	}
	return s.String()
}

// asciiText is a packet as text; its ends of lines are ends of lines.
func asciiText(b []byte) string {
	var s strings.Builder
	for i, c := range b {
		switch {
		case c == '\r' && i+1 < len(b) && b[i+1] == '\n':
		case c == '\n' || c == '\t' || c >= 0x20 && c <= 0x7e:
			s.WriteByte(c)
		default:
			s.WriteByte('.')
		}
	}
	return s.String()
}
