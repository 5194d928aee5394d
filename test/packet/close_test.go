package packet

import (
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/catflap/catflap/stack"
)

func TestPassiveClose(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.Send("FP. 1:11(10) ack 1 win 65535")
		h.Expect("data and FIN are acknowledged", ". 1:1(0) ack 12")
		h.wantState("CLOSE-WAIT")
		h.wantRead("the data before the FIN can be read", fd, 1, 10, io.EOF)
		h.do("close", h.y.Close(fd))
		h.Expect("close sends a FIN", "F. 1:1(0) ack 12")
		h.wantState("LAST-ACK")
		h.Send(". 12:12(0) ack 2 win 65535")
		h.ExpectNothing("the last ACK ends the connection", silence)
		h.wantState("")
	})
}

// TestActiveClose: who closes first keeps the connection in TIME-WAIT, for 60 s as Linux does.
func TestActiveClose(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.do("close", h.y.Close(fd))
		h.Expect("close sends a FIN", "F. 1:1(0) ack 1")
		h.wantState("FIN-WAIT-1")
		h.Send(". 1:1(0) ack 2 win 65535")
		h.wantState("FIN-WAIT-2")
		h.Send("F. 1:1(0) ack 2 win 65535")
		h.Expect("the peer's FIN is acknowledged", ". 2:2(0) ack 2")
		h.wantState("TIME-WAIT")
		h.Advance(30 * time.Second)
		h.Send("F. 1:1(0) ack 2 win 65535")
		h.Expect("a FIN that comes again is acknowledged again", ". 2:2(0) ack 2")
		h.Send("R. 1:1(0) ack 2 win 65535")
		h.wantState("TIME-WAIT") // RFC 1337
		h.ExpectNothing("TIME-WAIT is silent", 59*time.Second)
		h.wantState("TIME-WAIT") // the FIN has started the time anew
		h.Advance(2 * time.Second)
		h.wantState("")
		h.Send("F. 1:1(0) ack 2 win 65535")
		h.Expect("after TIME-WAIT the connection is unknown", "R 2:2(0)")
	})
}

// TestHalfClose: each direction ends by itself.
func TestHalfClose(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.do("shutdown", h.y.Shutdown(fd, stack.SHUT_WR))
		h.Expect("shutdown sends a FIN", "F. 1:1(0) ack 1")
		h.Send(". 1:1(0) ack 2 win 65535")
		h.Send("P. 1:101(100) ack 2 win 65535")
		h.Expect("what comes after our FIN is acknowledged", ". 2:2(0) ack 101")
		h.wantRead("and read", fd, 1, 100, nil)
		if _, err := h.y.Write(fd, []byte("meow")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write after shutdown: %v, want EPIPE", err)
		}
		h.Send("F. 101:101(0) ack 2 win 65535")
		h.Expect("the peer's FIN is acknowledged", ". 2:2(0) ack 102")
		h.wantRead("and the stream ends", fd, 1, 0, io.EOF)
		h.wantState("TIME-WAIT")
	})
	t.Run("by the peer", func(t *testing.T) {
		bothFamilies(t, func(t *testing.T, h *host) {
			fd := h.connect()
			h.Send("F. 1:1(0) ack 1 win 65535")
			h.Expect("the peer's FIN is acknowledged", ". 1:1(0) ack 2")
			h.wantRead("the stream ends", fd, 1, 0, io.EOF)
			h.write(fd, 1, 500)
			h.Expect("we may go on to send", "P. 1:501(500) ack 2")
			h.Send(". 2:2(0) ack 501 win 65535")
			h.do("close", h.y.Close(fd))
			h.Expect("and end when we like", "F. 501:501(0) ack 2")
			h.Send(". 2:2(0) ack 502 win 65535")
			h.wantState("")
		})
	})
}

// TestSimultaneousClose: two FINs cross (RFC 9293, figure 13).
func TestSimultaneousClose(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.do("close", h.y.Close(fd))
		h.Expect("close sends a FIN", "F. 1:1(0) ack 1")
		h.Send("F. 1:1(0) ack 1 win 65535")
		h.Expect("a FIN that does not acknowledge ours is acknowledged", ". 2:2(0) ack 2")
		h.wantState("CLOSING")
		h.Send(". 2:2(0) ack 2 win 65535")
		h.wantState("TIME-WAIT")
		h.ExpectNothing("nothing more is said", silence)
		h.wantState("")
	})
}

// TestCloseWithUnreadData: the peer learns that its data went nowhere (RFC 2525, section 2.17).
func TestCloseWithUnreadData(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.Send("P. 1:101(100) ack 1 win 65535")
		h.Expect("data is acknowledged", ". 1:1(0) ack 101")
		h.do("close", h.y.Close(fd))
		h.Expect("close with unread data resets", "R. 1:1(0) ack 101")
		h.wantState("")
	})
}

func TestReset(t *testing.T) {
	bothFamilies(t, func(t *testing.T, h *host) {
		fd := h.connect()
		h.Send("R 1000000:1000000(0) win 0")
		h.ExpectNothing("a reset from outside the window is ignored", time.Second)
		h.Send("R 2:2(0) win 0")
		h.Expect("a reset within the window is challenged (RFC 5961)", ". 1:1(0) ack 1")
		h.wantState("ESTABLISHED")
		h.Send("R 1:1(0) win 0")
		h.ExpectNothing("a reset that fits exactly is believed", silence)
		if _, err := h.read(fd); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v, want ECONNRESET", err)
		}
		h.wantState("CLOSED")
	})
}
