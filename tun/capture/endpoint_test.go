package capture

import (
	"bytes"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/internal/packet"
	"github.com/catflap/catflap/internal/testenv"
	"github.com/catflap/catflap/tun"
	"github.com/catflap/catflap/tun/internal/tuntest"
)

// TestWrap captures a transfer of a megabyte over an in-memory link, cut into segments and as it crossed.
func TestWrap(t *testing.T) {
	t.Parallel()
	for _, segments := range []bool{false, true} {
		var buf bytes.Buffer
		w := NewWriter(&buf, Config{Segments: segments})
		a, b := tun.Pipe(1500)
		e, err := Wrap(a, w, Interface{Name: "cat0"})
		if err != nil {
			t.Fatal(err)
		}
		if e.SupportedGSO() != stack.HostGSOSupported || e.GSOMaxSize() != a.GSOMaxSize() {
			t.Error("the Endpoint hides the GSO of the one below")
		}
		client, server := tuntest.NewStack(t, b, "10.9.0.1/24"), tuntest.NewStack(t, e, "10.9.0.2/24")
		l, err := gonet.ListenTCP(server, tcpip.FullAddress{Port: 80}, header.IPv4ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			c.Write(bytes.Repeat([]byte("purr"), 1<<18))
			c.Close()
		}()
		c, err := gonet.DialTCP(client, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 9, 0, 2}), Port: 80}, header.IPv4ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		received := new(bytes.Buffer)
		if _, err := received.ReadFrom(c); err != nil || received.Len() != 1<<20 {
			t.Errorf("%d bytes, %v", received.Len(), err)
		}
		<-done
		c.Close()
		l.Close()
		client.Close()
		server.Close()
		again := server.Stats().TCP.Retransmits.Value()
		a.Close()
		client.Wait()
		server.Wait()
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}

		file := bytes.Clone(buf.Bytes())
		packets, r := readAll(t, &buf)
		if d := r.Interfaces()[0].Description; !strings.Contains(d, "MTU 1500") || !strings.Contains(d, "tx-tso up to 65535 bytes") {
			t.Errorf("the interface is described as %q", d)
		}
		carried, largest := 0, 0
		for _, p := range packets {
			d, err := packet.Parse(p.Data)
			if err != nil {
				t.Fatal(err)
			}
			if out := d.Src.String() == "10.9.0.2"; out != (p.Direction == Out) {
				t.Errorf("%s went %s", d, p.Direction)
			}
			if p.Direction == Out {
				carried += len(d.Payload)
			}
			if segments && d.Verify() != nil {
				t.Errorf("%s: %v", d, d.Verify())
			}
			largest = max(largest, len(p.Data))
			if p.Super != (len(p.Data) > 1500) || p.Super && !p.NoChecksum || p.NoChecksum && d.Verify() == nil {
				t.Errorf("%s of %d bytes: super-packet %v, without checksum %v", d, len(p.Data), p.Super, p.NoChecksum)
			}
		}
		if carried < 1<<20 {
			t.Errorf("the capture has %d bytes of payload", carried)
		}
		if segments != (largest <= 1500) {
			t.Errorf("segments %v: the largest packet has %d bytes", segments, largest)
		}
		if segments {
			testenv.Require(t, "tshark")
			sentAgain := 0
			for _, f := range tshark(t, file, "frame", "frame.number", "_ws.col.Info", "tcp.checksum.status", "ip.checksum.status", "_ws.malformed", "tcp.analysis.lost_segment", "tcp.analysis.retransmission") {
				if f[2] != "1" || f[3] != "1" || f[4] != "" || f[5] != "" {
					t.Errorf("tshark objects to packet %q", f)
				}
				if f[6] != "" {
					sentAgain++
				}
			}
			// On a slow machine TCP may send again what was not lost.
			if (sentAgain > 0) != (again > 0) {
				t.Errorf("tshark sees %d retransmissions, netstack counts %d", sentAgain, again)
			}
		}
	}
}

// TestWrapKeepsLink: a capture that fails does not hold up the link.
func TestWrapKeepsLink(t *testing.T) {
	w := NewWriter(new(bytes.Buffer), Config{})
	a, b := tun.Pipe(1500)
	defer a.Close()
	e, err := Wrap(a, w, Interface{Name: "cat0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var list stack.PacketBufferList
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{})
	list.PushBack(pkt)
	defer list.DecRef()
	if n, err := e.WritePackets(list); n != 1 || err != nil {
		t.Errorf("sent %d packets, %v", n, err)
	}
	if s := b.Stats(); w.Stats().Skipped != 1 {
		t.Errorf("counted %+v, %+v", w.Stats(), s)
	}
}
