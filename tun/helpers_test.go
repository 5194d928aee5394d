package tun_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/catflap/catflap/tun/internal/tuntest"
)

var stackAddrs = []string{"10.9.0.2/24", "fd00:9::2/64"}

// A transfer starts with the client's request: a direction ('d' to the client, 'u' from it, in capitals for
// zeros that nobody looks at, 'p' for a ping-pong of single bytes), and the number of bytes. After an upload
// the server answers with its SHA-256.
const requestLen = 9

// serve answers transfers on port 80 of s until the test ends.
func serve(t testing.TB, s *stack.Stack) {
	t.Helper()
	var conns sync.WaitGroup
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{NIC: tuntest.NIC, Port: 80}, header.IPv6ProtocolNumber) // IPv4 too
	if err != nil {
		t.Fatal(err)
	}
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				answer(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.Close() // aborts what is still connected
		conns.Wait()
	})
}

func answer(c net.Conn) {
	var request [requestLen]byte
	if _, err := io.ReadFull(c, request[:]); err != nil {
		return
	}
	n := int64(binary.BigEndian.Uint64(request[1:]))
	switch request[0] {
	case 'd':
		io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(&pattern{}, n), make([]byte, 256<<10))
	case 'D':
		for zeros := make([]byte, 256<<10); n > 0; n -= int64(len(zeros)) {
			if _, err := c.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
				return
			}
		}
	case 'U':
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c, n), make([]byte, 256<<10))
		c.Write(make([]byte, sha256.Size))
	case 'u':
		h := sha256.New()
		io.CopyBuffer(h, io.LimitReader(c, n), make([]byte, 256<<10))
		c.Write(h.Sum(nil))
	case 'p':
		var b [1]byte
		for range n {
			if _, err := io.ReadFull(c, b[:]); err != nil {
				return
			}
			c.Write(b[:])
		}
	}
}

// pattern reads as bytes that do not repeat for a while.
type pattern struct{ off uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		x := (p.off + uint64(i)) * 0x9e3779b97f4a7c15
		b[i] = byte(x >> 56)
	}
	p.off += uint64(len(b))
	return len(b), nil
}

func patternSum(n int64) string {
	h := sha256.New()
	io.CopyN(h, &pattern{}, n)
	return fmt.Sprintf("%x", h.Sum(nil))
}
