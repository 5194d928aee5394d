package stack

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/catflap/catflap/stack/internal/peek"
)

// Where netstack has moved a field, New says what is lost, and the rest works.
func TestNetstackMoved(t *testing.T) {
	if err := CheckNetstack(); err != nil {
		t.Fatal(err)
	}
	restore := peek.Rename("snd.resendTimer", "snd.retransmissionTimer")
	defer restore()
	var log bytes.Buffer
	s, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, err)
	defer s.Close() // before netstack is what it was
	const lost = "tcp.sender.retransmissionTimer: no stall guard, no retransmission timer in `ss -o`, no timer events"
	if err := CheckNetstack(); err == nil || err.Error() != lost {
		t.Errorf("CheckNetstack: %v, want %s", err, lost)
	}
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, lost) || strings.Count(got, "\n") != 1 {
		t.Errorf("logged:\n%s\nwant a warning of %s", got, lost)
	}
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	_, err = c.Write([]byte("meow"))
	must(t, err)
	s.ns.Stats().TCP.Retransmits.Increment() // which would start it
	if s.stalls.Sending(); s.stalls.Started() {
		t.Error("the stall guard runs without the timer that it is to arm")
	}
	if i := c.Info(); i.Timer != nil && i.Timer.Name == "on" || i.TCP.SndMSS == 0 {
		t.Errorf("%+v, want no retransmission timer, and the rest as ever", i)
	}
}
