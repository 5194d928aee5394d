package stack

import (
	"strings"
	"testing"
)

// The two numbers that netstack keeps to itself are found and right.
func TestInside(t *testing.T) {
	w := newWire(t, Config{})
	l, err := w.s.ListenTCP("tcp", "10.9.0.2:80", 5)
	must(t, err)
	defer l.Close()
	f := tuple("tcp", "10.9.0.1:5000", "10.9.0.2:80")
	for i := range 3 {
		w.handshake(t, tuple("tcp", "10.9.0.1:"+portString(uint16(5000+i)), "10.9.0.2:80"), 100)
		if info, _ := w.s.SocketByFD(l.FD()); info.RecvQ != i+1 || info.SendQ != 5 || info.State != "LISTEN" {
			t.Errorf("listener with %d connections waiting: %+v", i+1, info)
		}
	}
	c, err := l.AcceptTCP()
	must(t, err)
	defer c.Close()
	if info, _ := w.s.SocketByFD(l.FD()); info.RecvQ != 2 {
		t.Errorf("listener after accept: %+v, want 2 waiting", info)
	}
	_, err = c.Write([]byte(strings.Repeat("x", 1000)))
	must(t, err)
	if got := c.Info().SendQ; got != 1000 {
		t.Errorf("send queue holds %d bytes, want 1000", got)
	}
	out := w.read(t)
	w.inject(segment(t, f, 0x10, 101, out[0].TCP.Seq+600, ""))
	w.s.Quiesce()
	if got := c.Info().SendQ; got != 400 {
		t.Errorf("after an acknowledgement of 600 bytes of 1000 the send queue holds %d, want 400", got)
	}
	w.inject(segment(t, f, 0x10, 101, out[0].TCP.Seq+1000, ""))
	w.s.Quiesce()
	if got := c.Info().SendQ; got != 0 {
		t.Errorf("after all is acknowledged the send queue holds %d bytes", got)
	}
	if n, ok := tcpOf(c.fd.k.ep).Unsent(); !ok || n != c.Info().SendQ {
		t.Errorf("unsent: %d, %v", n, ok)
	}
}
