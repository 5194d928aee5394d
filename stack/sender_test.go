package stack

import (
	"testing"
	"time"
)

// TestSenderFields fails when netstack moves a field that sender.go reads.
func TestSenderFields(t *testing.T) {
	for what, ok := range map[string]bool{
		"snd": senderOf.ok, "snd.TCPSenderState": senderState.ok,
		"snd.resendTimer": resendTimer.state.ok && resendTimer.target.ok,
		"keepalive.timer": keepTimer.state.ok && keepTimer.target.ok, "keepalive.unacked": keepUnacked.ok,
	} {
		if !ok {
			t.Errorf("tcp.Endpoint has no %s of the known type any more", what)
		}
	}
}

func TestSenderVars(t *testing.T) {
	s := newStack(t, Config{})
	c, srv := connPair(t, s, "tcp", "127.0.0.1:0")
	defer c.Close()
	defer srv.Close()
	if _, err := c.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := srv.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	i := c.Info()
	// lo: 65536 less the headers, and 12 bytes of time stamps.
	if want := 65536 - 20 - 20 - 12; i.TCP.SndMSS > want || i.TCP.SndMSS < want-40 {
		t.Errorf("MSS %d, want about %d", i.TCP.SndMSS, want)
	}
	if i.TCP.SndWnd == 0 {
		t.Error("no send window")
	}
	if i.Timer == nil || i.Timer.Name != "keepalive" || i.Timer.Expires > defaultKeepAliveIdle || i.Timer.Expires < defaultKeepAliveIdle-5*time.Second {
		t.Errorf("timer %+v, want keepalive in %s", i.Timer, defaultKeepAliveIdle)
	}
}
