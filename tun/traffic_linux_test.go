package tun_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A transfer starts with the client's request: a direction ('d' to the client, 'u' from it, 'p' for a
// ping-pong of single bytes), and the number of bytes. After an upload the server answers with its SHA-256.
const requestLen = 9

// serve answers transfers on port 80 of s until the test ends.
func serve(t testing.TB, s *stack.Stack) {
	t.Helper()
	var conns sync.WaitGroup
	l, err := gonet.ListenTCP(s, tcpip.FullAddress{NIC: nicID, Port: 80}, header.IPv6ProtocolNumber) // IPv4 too
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
		io.CopyN(c, &pattern{}, n)
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

// testCommand, as this program's first argument, makes it a client of serve instead of a test.
const testCommand = "test-command"

// runTestCommand prints to standard output what runSelf returns.
//
//	down|up|ping ADDR:PORT N    prints the SHA-256 of the bytes (for ping nothing), a space, and the seconds taken
func runTestCommand(args []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(args) != 3 {
		return fail(fmt.Errorf("test command: %q", args))
	}
	n, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return fail(err)
	}
	addr, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return fail(err)
	}
	c, err := net.DialTimeout("tcp", addr.String(), 5*time.Second)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(50 * time.Second))
	var sum []byte
	begin := time.Now()
	if _, err := c.Write(binary.BigEndian.AppendUint64([]byte(args[0][:1]), uint64(n))); err != nil {
		return fail(err)
	}
	switch args[0] {
	case "down":
		h := sha256.New()
		if got, err := io.CopyBuffer(h, struct{ io.Reader }{c}, make([]byte, 256<<10)); err != nil || got != n {
			return fail(fmt.Errorf("read %d bytes of %d: %v", got, n, err))
		}
		sum = h.Sum(nil)
	case "up":
		if _, err := io.CopyBuffer(struct{ io.Writer }{c}, io.LimitReader(&pattern{}, n), make([]byte, 256<<10)); err != nil {
			return fail(err)
		}
		sum = make([]byte, sha256.Size)
		if _, err := io.ReadFull(c, sum); err != nil {
			return fail(err)
		}
	case "ping":
		b := []byte{0}
		for range n {
			if _, err := c.Write(b); err != nil {
				return fail(err)
			}
			if _, err := io.ReadFull(c, b); err != nil {
				return fail(err)
			}
		}
	}
	fmt.Printf("%x %f\n", sum, time.Since(begin).Seconds())
	return 0
}
