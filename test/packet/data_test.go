package packet

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

// permutations returns all orders of 0..n-1.
func permutations(n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for _, p := range permutations(n - 1) {
		for i := range n {
			out = append(out, append(append(append([]int(nil), p[:i]...), n-1), p[i:]...))
		}
	}
	return out
}

// TestOrder: four segments arrive in every order and are read in the right one.
func TestOrder(t *testing.T) {
	const size = 100
	orders := permutations(4)
	if len(orders) != 24 {
		t.Fatalf("%d orders of four", len(orders))
	}
	for _, fam := range families {
		for _, order := range orders {
			t.Run(fmt.Sprint(fam.name, order), func(t *testing.T) {
				h := newHost(t, fam, stack.Config{})
				fd := h.connect()
				arrived, next := [5]bool{}, 0 // next: the first that is missing
				for _, n := range order {
					h.Send(fmt.Sprintf(". %d:%d(%d) ack 1 win 65535", 1+n*size, 1+(n+1)*size, size))
					before := next
					for arrived[n] = true; arrived[next]; next++ {
					}
					if next == before {
						h.Expect("a segment behind a gap is answered at once with what is missing", fmt.Sprintf(". 1:1(0) ack %d", 1+next*size))
					}
					for h.Sent() { // at once, later or not at all, with or without a window update
						h.Expect("an acknowledgment", fmt.Sprintf(". 1:1(0) ack %d", 1+next*size))
					}
					h.wantRead("what is whole can be read", fd, 1+before*size, (next-before)*size, nil)
				}
				h.Advance(time.Second)
				for h.Sent() {
					h.Expect("all is acknowledged", ". 1:1(0) ack 401")
				}
				h.Send("F. 401:401(0) ack 1 win 65535")
				h.Expect("after all four the stream can end", ". 1:1(0) ack 402")
			})
		}
	}
}

// TestDuplicates: what was received is acknowledged again, and delivered once.
func TestDuplicates(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.Send("P. 1:101(100) ack 1 win 65535")
		h.Expect("data is acknowledged", ". 1:1(0) ack 101")
		h.Send("P. 1:101(100) ack 1 win 65535")
		h.Expect("the same again is acknowledged again", ". 1:1(0) ack 101")
		h.Send("P. 51:151(100) ack 1 win 65535")
		h.Expect("of a segment half known the rest is taken", ". 1:1(0) ack 151")
		h.Send(". 201:301(100) ack 1 win 65535")
		h.Expect("behind a gap", ". 1:1(0) ack 151")
		h.Send(". 251:351(100) ack 1 win 65535")
		h.Expect("behind a gap, overlapping", ". 1:1(0) ack 151")
		h.Send(". 141:261(120) ack 1 win 65535")
		h.Expect("what fills the gap overlaps at both ends", ". 1:1(0) ack 351")
		h.wantRead("each byte is delivered once", fd, 1, 350, nil)
	})
}

// TestRTO: unacknowledged data is sent again after a time that doubles (RFC 6298, section 5.5), until the connection
// is given up.
func TestRTO(t *testing.T) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) {
			const retries = 6
			h := newHost(t, fam, stack.Config{TCP: stack.TCPConfig{NoRACK: true, Retries: retries}})
			fd := h.connect()
			h.write(fd, 1, 10)
			h.Expect("data is sent", "P. 1:11(10) ack 1")
			h.expectAfter("without a measured round trip the first timeout is a second", time.Second, "P. 1:11(10) ack 1")
			h.expectAfter("the second is twice that", 2*time.Second, "P. 1:11(10) ack 1")
			h.Send(". 1:1(0) ack 11 win 65535")
			h.ExpectNothing("acknowledged data is not sent again", silence)

			for place := 11; place < 111; place += 10 {
				h.write(fd, place, 10)
				h.Expect("data is sent", fmt.Sprintf("P. %d:%d(10) ack 1", place, place+10))
				h.Advance(20 * time.Millisecond)
				h.Send(fmt.Sprintf(". 1:1(0) ack %d win 65535", place+10))
			}
			h.write(fd, 111, 10)
			h.Expect("data is sent", "P. 111:121(10) ack 1")
			wait := 200 * time.Millisecond
			for range retries {
				h.expectAfter("after round trips of 20 ms the timeout is Linux's least, 200 ms, and doubles", wait, "P. 111:121(10) ack 1")
				wait *= 2
			}
			h.ExpectNothing("after six retransmissions the connection is given up", silence)
			if _, err := h.read(fd); !errors.Is(err, syscall.ETIMEDOUT) {
				t.Errorf("read: %v, want ETIMEDOUT", err)
			}
			h.wantState("CLOSED")
			h.Send(". 1:1(0) ack 121 win 65535")
			h.Expect("an ACK that comes too late finds nothing", "R 121:121(0)")
		})
	}
}

// TestZeroWindow: a closed window is probed with backoff for as long as the peer answers, and data flows when it opens.
func TestZeroWindow(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.Send(". 1:1(0) ack 1 win 0")
		h.write(fd, 1, 100)
		var last time.Duration
		begin := h.w.Clock().Elapsed()
		for probe := range 8 {
			if !h.w.Advance(2 * time.Minute) {
				t.Fatalf("no probe %d of a closed window within 2 minutes", probe)
			}
			h.Expect("a probe carries at most a byte of the window's other side", ". *")
			gap := h.w.Clock().Elapsed() - begin
			begin = h.w.Clock().Elapsed()
			if gap < last {
				t.Errorf("probe %d comes after %v, sooner than the one before (%v)", probe, gap, last)
			}
			last = gap
			h.Send(". 1:1(0) ack 1 win 0")
		}
		h.wantState("ESTABLISHED")
		h.Send(". 1:1(0) ack 1 win 65535")
		h.Expect("when the window opens data flows", "P. 1:101(100) ack 1")
	})
}

// TestOwnZeroWindow: data that nobody reads closes our window, and reading opens it.
func TestOwnZeroWindow(t *testing.T) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) {
			h := newHost(t, fam, stack.Config{TCP: stack.TCPConfig{ReceiveBuffer: 8192, ReceiveBufferMax: 8192}})
			fd := h.connect()
			taken := 0
			for n := 0; n < 20; n++ {
				h.Send(fmt.Sprintf(". %d:%d(1000) ack 1 win 65535", 1+n*1000, 1+(n+1)*1000))
				h.Advance(time.Second)
				for h.Sent() {
					h.Expect("each is answered", ". 1:1(0)")
				}
				k, _ := h.s.SocketByFD(fd)
				taken = k.RecvQ
			}
			if taken < 1000 || taken > 8192 {
				t.Fatalf("of 20000 bytes %d wait to be read; the buffer is 8192", taken)
			}
			h.Send(fmt.Sprintf(". %d:%d(1) ack 1 win 65535", 1+taken, 2+taken))
			h.Expect("a probe of the closed window is answered, and the byte left out", fmt.Sprintf(". 1:1(0) ack %d win 0", 1+taken))
			h.wantRead("what was acknowledged can be read", fd, 1, taken, nil)
			h.Expect("reading opens the window, and says so", fmt.Sprintf(". 1:1(0) ack %d", 1+taken))
			h.Send(fmt.Sprintf("P. %d:%d(1000) ack 1 win 65535", 1+taken, 1001+taken))
			h.Advance(time.Second)
			h.Expect("and data flows", fmt.Sprintf(". 1:1(0) ack %d", 1001+taken))
			h.wantRead("in order", fd, 1+taken, 1000, nil)
		})
	}
}

// TestKeepalive: probes after 15 s of silence, every 15 s; a peer that answers lives, one that does not is dead after nine.
func TestKeepalive(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		for name, value := range map[int]int{stack.TCP_KEEPIDLE: 15, stack.TCP_KEEPINTVL: 15, stack.TCP_KEEPCNT: 9} {
			h.must("setsockopt", h.y.Setsockopt(fd, stack.SOL_TCP, name, value))
		}
		h.do("setsockopt", h.y.Setsockopt(fd, stack.SOL_SOCKET, stack.SO_KEEPALIVE, 1))
		for range 20 {
			h.expectAfter("a silent peer is probed, with a byte that it has acknowledged", 15*time.Second, ". 0:0(0) ack 1")
			h.Send(". 1:1(0) ack 1 win 65535")
		}
		h.wantState("ESTABLISHED")
		for range 9 {
			h.expectAfter("a peer that does not answer is probed nine times", 15*time.Second, ". 0:0(0) ack 1")
		}
		h.ExpectNothing("then it is dead", silence)
		if _, err := h.read(fd); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("read: %v, want ETIMEDOUT", err)
		}
		h.wantState("CLOSED")
		h.Send(". 1:1(0) ack 1 win 65535")
		h.Expect("a peer that was not dead learns that we gave it up", "R 1:1(0)")
	})
}
