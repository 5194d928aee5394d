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
	"time"

	"golang.org/x/sys/unix"
)

// testCommand, as this program's first argument, makes it a client of serve instead of a test.
const testCommand = "test-command"

// runTestCommand ends this program, if it is such a client, after printing what runSelf returns:
//
//	down|up|ping ADDR:PORT N    prints the SHA-256 of the bytes (for ping nothing), a space, and the seconds taken
//	Down|Up ADDR:PORT N         the same without looking at the bytes
//	raw ADDR:PORT 1             sends one TCP segment with a wrong checksum
func runTestCommand() {
	if len(os.Args) > 2 && os.Args[1] == testCommand {
		os.Exit(transfer(os.Args[2:]))
	}
}

func transfer(args []string) int {
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
	if args[0] == "raw" {
		if err := sendRaw(addr); err != nil {
			return fail(err)
		}
		return 0
	}
	c, err := net.DialTimeout("tcp", addr.String(), time.Minute)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Minute))
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
	case "Down":
		if got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10)); err != nil || got != n {
			return fail(fmt.Errorf("read %d bytes of %d: %v", got, n, err))
		}
	case "Up":
		zeros := make([]byte, 256<<10)
		for left := n; left > 0; left -= int64(len(zeros)) {
			if _, err := c.Write(zeros[:min(left, int64(len(zeros)))]); err != nil {
				return fail(err)
			}
		}
		if _, err := io.ReadFull(c, zeros[:sha256.Size]); err != nil {
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

// sendRaw sends a SYN whose checksum is wrong.
func sendRaw(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	syn := make([]byte, 20)
	binary.BigEndian.PutUint16(syn, 12345)
	binary.BigEndian.PutUint16(syn[2:], to.Port())
	syn[12], syn[13] = 5<<4, 2
	syn[16], syn[17] = 0xde, 0xad
	return unix.Sendto(fd, syn, 0, &unix.SockaddrInet4{Addr: to.Addr().As4()})
}
