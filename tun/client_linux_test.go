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
)

// testCommand, as this program's first argument, makes it a client of serve instead of a test.
const testCommand = "test-command"

// runTestCommand ends this program, if it is such a client, after printing what runSelf returns:
//
//	down|up|ping ADDR:PORT N    prints the SHA-256 of the bytes (for ping nothing), a space, and the seconds taken
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
