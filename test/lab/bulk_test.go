package lab

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/app/cats"
	"github.com/catflap/catflap/stack"
)

// bulk is one transfer from a server to a client, by socket calls that do not block, made between the steps of a clock: no
// goroutine of a program takes part, so that it is the same each time. What arrives is held against what was sent.
type bulk struct {
	t        testing.TB
	clock    *Clock
	from, to *stack.Sys
	out, in  int // fds
	buf      []byte
}

// errno returns the error of a call, nil for EAGAIN.
func errno(err error) error {
	if err == syscall.EAGAIN || err == syscall.EINPROGRESS {
		return nil
	}
	return err
}

// newBulk opens a connection to the server's first address.
func newBulk(t testing.TB, clock *Clock, server, client *Host) *bulk {
	t.Helper()
	return newBulkTo(t, clock, server, client, server.Addr())
}

// newBulkTo opens a connection to an address of the server.
func newBulkTo(t testing.TB, clock *Clock, server, client *Host, addr netip.Addr) *bulk {
	t.Helper()
	family := stack.AF_INET
	if addr.Is6() {
		family = stack.AF_INET6
	}
	b := &bulk{t: t, clock: clock, from: server.Stack().Sys(), to: client.Stack().Sys(), buf: make([]byte, 64<<10)}
	check := func(err error) {
		t.Helper()
		if errno(err) != nil {
			t.Fatal(err)
		}
	}
	fd, err := b.from.Socket(family, stack.SOCK_STREAM|stack.SOCK_NONBLOCK, 0)
	check(err)
	at := netip.AddrPortFrom(addr, 5001)
	check(b.from.Bind(fd, at))
	check(b.from.Listen(fd, 1))
	b.in, err = b.to.Socket(family, stack.SOCK_STREAM|stack.SOCK_NONBLOCK, 0)
	check(err)
	check(b.to.Connect(b.in, at))
	for b.out = -1; b.out < 0; {
		b.out, _, err = b.from.Accept4(fd, stack.SOCK_NONBLOCK)
		check(err)
		if b.out < 0 && !clock.Step() {
			t.Fatal("no connection, and nothing to wait for")
		}
	}
	return b
}

// run moves up to size bytes, until the clock shows end. It returns how many arrived, and when the last did.
func (b *bulk) run(size int, end time.Duration) (got int, at time.Duration) {
	b.t.Helper()
	data := cats.NewPattern(int64(size))
	for sent := 0; got < size; {
		for sent < size {
			m, _ := data.ReadAt(b.buf, int64(sent)) // fewer than the buffer holds at the end
			n, err := b.from.Write(b.out, b.buf[:m])
			if errno(err) != nil {
				b.t.Fatalf("write after %d bytes: %v", sent, err)
			}
			if err != nil {
				break
			}
			sent += n
		}
		for {
			n, err := b.to.Read(b.in, b.buf)
			if errno(err) != nil || err == nil && n == 0 {
				b.t.Fatalf("read after %d bytes: %d, %v", got, n, err)
			}
			if err != nil {
				break
			}
			if i := cats.CheckPattern(b.buf[:n], int64(got)); i >= 0 {
				b.t.Fatalf("byte %d arrived as another than was sent", got+i)
			}
			got += n
			at = b.clock.Elapsed()
		}
		if b.clock.Elapsed() >= end || got < size && !b.clock.Step() {
			break
		}
	}
	return got, at
}
